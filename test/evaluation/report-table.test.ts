import { nd } from 'umwelt';
import { reportTable } from 'umwelt/evaluation';
import { expect, test } from 'vitest';

test('numbers and texts stand beside their names, lists side by side, parts under their names', () => {
  const report = {
    model: 'hopper',
    rows: 12,
    mse: 0.000123456,
    worst: Number.NaN,
    absent: undefined,
    name: ['a', 'long'],
    score: Float64Array.of(1, -1234.5678),
    perRow: nd([[1, 2]]),
    part: {
      share: 1 / 3,
      inner: { step: Int32Array.of(1, 20, 300), error: [1e-9, 2, Infinity] },
    },
  };
  expect(reportTable(report)).toBe(
    `
model  hopper
rows   12
mse    0.0001235
worst  NaN

name  score
a         1
long  -1235

part:
share  0.3333

part.inner:
step     error
   1  1.000e-9
  20         2
 300  Infinity
`.trim(),
  );
});

test('lists of different lengths are tables of their own, and empty ones show their names', () => {
  expect(reportTable({ a: [1], b: [2, 3], c: [4] })).toBe('a  c\n1  4\n\nb\n2\n3');
  expect(reportTable({ horizon: new Int32Array(), rmse: new Float64Array() })).toBe(
    'horizon  rmse',
  );
  expect(reportTable({})).toBe('');
});

test('digits are significant ones and leave integers alone', () => {
  expect(reportTable({ a: 123456, b: 1.23456 }, { digits: 2 })).toBe('a  123456\nb  1.2');
  for (const digits of [0, 1.5, 18, Number.NaN]) {
    expect(() => reportTable({}, { digits })).toThrow(RangeError);
  }
  // @ts-expect-error a misspelt option
  expect(() => reportTable({}, { digit: 2 })).toThrow(TypeError);
});

test('what is no plain data is refused', () => {
  // @ts-expect-error a number is no report
  expect(() => reportTable(3)).toThrow('report must be a plain object, got number');
  expect(() => reportTable([1, 2])).toThrow(TypeError);
  expect(() => reportTable({ a: true })).toThrow('a must be a number, a text, a list or a report');
  expect(() => reportTable({ a: null })).toThrow(TypeError);
});
