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

test('columns stand by their decimal points, exponents and what is no number at the right', () => {
  const column = [0, 0.25, -12, 12345.678, Number.NaN, 1.5e-9];
  expect(reportTable({ column })).toBe(
    `
    column
    0
    0.2500
  -12
12346
       NaN
  1.500e-9
`.slice(1, -1),
  );
});

test('a long column prints all of its lines', () => {
  const text = reportTable({ x: new Float64Array(200_000) });
  expect(text.split('\n')).toHaveLength(200_001);
});

test('everyday numbers have no exponent', () => {
  const report = { a: 12345.678, b: -9876543.21, c: 12345678.9, d: 1e-5 / 3, e: 1e-7 / 3 };
  expect(reportTable(report)).toBe(
    'a  12346\nb  -9876543\nc  1.235e+7\nd  0.000003333\ne  3.333e-8',
  );
  expect(reportTable({ a: 12345.678 }, { digits: 8 })).toBe('a  12345.678');
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
  expect(() => reportTable(nd([[1, 2]]))).toThrow(
    'report must be a plain object, got a [1,2] view of Float32Array; give it a name',
  );
  expect(() => reportTable(new Map([['a', 1]]))).toThrow('must be a plain object, got a Map');
  expect(() => reportTable({ when: new Date(0) })).toThrow('when must be a number, a text');
  for (const [list, got] of [
    [[1, [2, 3]], 'an array at 1'],
    [[{ a: 1 }], 'an Object at 0'],
    [[true], 'boolean at 0'],
    [BigInt64Array.of(1n), 'bigint at 0'],
  ] as const) {
    expect(() => reportTable({ list })).toThrow(
      `list must be a list of numbers or texts, got ${got}`,
    );
  }
});

test('a view of one axis is a list, and one of more is left out', () => {
  expect(reportTable({ a: nd([1, 2]), b: nd([[1, 2]]) })).toBe('a\n1\n2');
});
