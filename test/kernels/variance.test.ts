import { expect, test } from 'vitest';
import * as scalar from '../../src/kernels/variance-scalar.js';
import { startVariances } from '../../src/kernels/variance-simd.js';

const simd = startVariances();
if (simd === undefined) throw new Error('this machine has no WebAssembly SIMD to test');

function formOf(width: number, squared: boolean): scalar.VarianceForm {
  const of = (value: (d: number) => number) =>
    Float64Array.from({ length: width }, (_, d) => value(d));
  return {
    floor: of((d) => Math.exp(-10 + (d % 3))),
    inverseCeiling: of((d) => Math.exp(-0.5 - (d % 5))),
    factor: of((d) => 0.5 + (d % 7)),
    squared,
  };
}

/** Numbers from -60 to 60, in no order. */
function scattered(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => 60 * Math.sin(1.7 * i));
}

// One output, odd widths, a width of vectors, several pieces, and one too wide for the kernel.
for (const [rows, width] of [
  [5, 1],
  [7, 3],
  [4, 12],
  [5000, 18],
  [70_000, 1],
  [3, 1030],
]) {
  test(`gives the scalar's variances and draws for ${rows} rows of ${width}`, () => {
    for (const squared of [false, true]) {
      const form = formOf(width, squared);
      const raw = scattered(rows * width);
      const [got, wanted] = [new Float32Array(raw.length), new Float32Array(raw.length)];
      simd.variances(form, raw, got);
      scalar.variances(form, raw, wanted);
      expect(got).toBeAllclose(wanted, { rtol: 7e-7, atol: 0 });
      const noise = raw.map((_, i) => Math.cos(i));
      const mean = raw.map((x) => x / 7);
      const drawn = mean.slice();
      simd.draw(form, raw, noise, drawn);
      scalar.draw(form, raw, noise, mean);
      expect(drawn).toBeAllclose(mean, { rtol: 5e-7, atol: 2e-6 });
    }
  });
}

test('keeps what is not a number, and bounds at the ends', () => {
  const form = formOf(1, false);
  const raw = Float32Array.of(
    Number.NaN,
    Number.NEGATIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    -1e30,
    1e30,
  );
  for (const kernel of [simd, scalar]) {
    const out = new Float32Array(5);
    kernel.variances(form, raw, out);
    const [lo, hi] = [0.5 * Math.exp(-10), 0.5 * (Math.exp(-10) + Math.exp(0.5))];
    expect(out).toBeAllclose([Number.NaN, lo, hi, lo, hi], { rtol: 2e-7, atol: 0 });
  }
});

test('gives each form its own, one after the other', () => {
  const [a, b] = [formOf(2, false), formOf(3, true)];
  const raw = scattered(6);
  const run = (form: scalar.VarianceForm) => {
    const out = new Float32Array(6);
    simd.variances(form, raw, out);
    return out;
  };
  const first = run(a);
  const second = run(b);
  expect(run(a)).toEqual(first);
  expect(run(b)).toEqual(second);
});

test('leaves its arguments as they are, but for the result', () => {
  const raw = scattered(9);
  const before = raw.slice();
  simd.draw(formOf(3, false), raw, before, new Float32Array(9));
  expect(raw).toEqual(before);
});
