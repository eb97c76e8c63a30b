import { expect, test } from 'vitest';
import { LogVarianceForm } from '../../src/dynamics/log-variance.js';

test('soft-clamps as two softplus passes do', () => {
  // v = hi - numpy.logaddexp(0, hi - v); lo + numpy.logaddexp(0, v - lo)  with lo = -10, hi = 0.5
  const golden = [
    [-100, -10],
    [-10, -9.3068665874],
    [-5, -4.997335743],
    [0, -0.4740040505],
    [0.5, -0.1930921092],
    [5, 0.4889800971],
    [100, 0.5000275361],
  ];
  const form = new LogVarianceForm({ form: 'raw', min: [-10], max: [0.5] }, 1);
  for (const [raw, clamped] of golden) {
    expect(Math.log(form.variance(raw, 0))).toBeCloseTo(clamped, 9);
    expect(form.logVariances(Float32Array.of(raw))[0]).toBeCloseTo(clamped, 5);
  }
});

test('keeps extreme and broken values in order', () => {
  const form = new LogVarianceForm({ form: 'raw', min: [-10, -2], max: [0.5, 3] }, 2);
  expect(form.variance(Number.NEGATIVE_INFINITY, 0)).toBe(Math.exp(-10));
  expect(form.variance(-1e30, 0)).toBe(Math.exp(-10));
  expect(form.variance(1e30, 1)).toBeCloseTo(Math.exp(-2) + Math.exp(3), 12);
  expect(form.variance(Number.NaN, 0)).toBeNaN();
});

test('gives each output its own bounds', () => {
  const form = new LogVarianceForm({ form: 'raw', min: [-10, -2], max: [0.5, 3] }, 2);
  const clamped = form.logVariances(Float32Array.of(-100, -100, 100, 100));
  expect(clamped).toBeAllclose(
    [-10, -2, Math.log(Math.exp(-10) + Math.exp(0.5)), Math.log(Math.exp(-2) + Math.exp(3))],
    { rtol: 1e-6 },
  );
});

test('takes log standard deviations, clamped on their own scale', () => {
  const form = new LogVarianceForm({ form: 'raw', scale: 'log-std', min: [-5], max: [0.25] }, 1);
  // s = hi - numpy.logaddexp(0, hi - v); s = lo + numpy.logaddexp(0, s - lo); exp(2 s)
  for (const raw of [-20, -3, 0, 4]) {
    const upper = 0.25 - Math.log1p(Math.exp(0.25 - raw));
    const logStd = -5 + Math.log1p(Math.exp(upper + 5));
    expect(form.variance(raw, 0)).toBeCloseTo(Math.exp(2 * logStd), 12);
    expect(form.logVariances(Float32Array.of(raw))[0]).toBeCloseTo(2 * logStd, 5);
  }
});

test('brings variances into output units', () => {
  const form = new LogVarianceForm({ form: 'clamped' }, 2, [3, 0.5]);
  expect(form.variances(Float32Array.of(0, 0, 1, 1))).toBeAllclose(
    [9, 0.25, 9 * Math.E, 0.25 * Math.E],
    { rtol: 3e-7 },
  );
});

test('gives the same variances one by one and in bulk, whatever they are', () => {
  const raw = Float32Array.from({ length: 400 }, (_, i) => (i - 200) / 3);
  raw.set([Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  for (const form of [
    new LogVarianceForm({ form: 'clamped' }, 1),
    new LogVarianceForm({ form: 'raw', min: [-10], max: [0.5] }, 1, [2]),
    new LogVarianceForm({ form: 'raw', scale: 'log-std', min: [-10], max: [2] }, 1),
  ]) {
    const each = Float32Array.from(raw, (value) => form.variance(value, 0));
    // In bulk they are computed in float32; squares double its error.
    expect(form.variances(raw)).toBeAllclose(each, { rtol: 6e-7, atol: 0 });
  }
});

test('takes clamped log-variances as they are', () => {
  const form = new LogVarianceForm({ form: 'clamped' }, 1);
  for (const logVar of [-30, -1, 0, 2]) {
    expect(form.variance(logVar, 0)).toBeCloseTo(Math.exp(logVar), 12);
  }
});
