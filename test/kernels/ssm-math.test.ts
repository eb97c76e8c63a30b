import { describe, expect, test } from 'vitest';
import { exps, memoryOf, type Probe, silus, softpluses, variants } from '../ssm/arrays.js';

/** A number of channels that fills chunks of 16 and leaves one over. */
const COUNT = 2 ** 14 + 1;

/** What float64 makes of the same float32 numbers. */
const exact = {
  exp: Math.exp,
  softplus: (x: number) => (x > 0 ? x : 0) + Math.log1p(Math.exp(-Math.abs(x))),
  silu: (x: number) => x / (1 + Math.exp(-x)),
};

/** Numbers evenly spread between two others, both included. */
function spread(low: number, high: number): Float32Array {
  return Float32Array.from({ length: COUNT }, (_, i) => low + ((high - low) * i) / (COUNT - 1));
}

/** Checks that every number's relative error is below a bound of its own. */
function expectWithin(
  probe: Probe,
  variant: (typeof variants)[number],
  x: Float32Array,
  truth: (x: number) => number,
  bound: (x: number) => number,
): void {
  const y = probe(x, memoryOf(variant));
  const wrong: string[] = [];
  for (let i = 0; i < x.length; i++) {
    const expected = truth(x[i]);
    const fits = Math.abs(y[i] - expected) <= bound(x[i]) * Math.abs(expected);
    if (!fits) wrong.push(`f(${x[i]}) = ${y[i]}, expected ${expected}`);
  }
  expect(wrong.slice(0, 5)).toEqual([]);
}

/** Of one rounding, relative. */
const HALF_ULP = 2 ** -24;

/** Of an exponent in base 2: it is rounded, and so is log2 e. */
const PER_EXPONENT = 7.5e-8;

describe.each(variants)('the %s kernels', (variant) => {
  // Float64 inside and one rounding at the end; else an error that grows with the exponent.
  const within = (relative: number) =>
    variant === 'scalar' ? () => HALF_ULP : (x: number) => relative + PER_EXPONENT * Math.abs(x);

  describe.each(Object.entries(exps))('compute e^x in %s', (_, exp) => {
    test.each([
      [-1e-3, 1e-3],
      [-1, 1],
      [-20, 0],
      [-87, -20],
      [0, 88],
    ])('in %d..%d to 2e-7 and 7.5e-8 |x|', (low, high) => {
      expectWithin(exp, variant, spread(low, high), exact.exp, within(2e-7));
    });

    test('never above 1 for a rate below 0, and 1 for 0', () => {
      const memory = memoryOf(variant);
      const near = Float32Array.from({ length: 1000 }, (_, i) => -(i + 1) * 2 ** -26);
      for (const x of [near, spread(-1e-2, -1e-9), spread(-90, -1e-3)]) {
        expect(Math.max(...exp(x, memory))).toBeLessThanOrEqual(1);
      }
      expect([...exp(Float32Array.of(0, -0), memory)]).toEqual([1, 1]);
    });
  });

  describe.each(Object.entries(softpluses))('compute softplus(x) in %s', (_, softplus) => {
    test.each([
      [-1e-2, 0],
      [-2, 0],
      [-10, 0],
      [-17, -15],
      [-87, -10],
    ])('in %d..%d to 3.5e-7 and 7.5e-8 |x|', (low, high) => {
      expectWithin(softplus, variant, spread(low, high), exact.softplus, within(3.5e-7));
    });

    test.each([
      [0, 2, 3.5e-7],
      [2, 21, 2.5e-7],
      [20.001, 1e4, 1e-8],
    ])('in %d..%d to %d', (low, high, relative) => {
      expectWithin(softplus, variant, spread(low, high), exact.softplus, () => relative);
    });
  });

  describe.each(Object.entries(silus))('compute silu(x) in %s', (_, silu) => {
    test.each([
      [-1e-2, 0],
      [-2, 0],
      [-20, 0],
      [-87, -10],
    ])('in %d..%d to 2e-7 and 7.5e-8 |x|', (low, high) => {
      expectWithin(silu, variant, spread(low, high), exact.silu, within(2e-7));
    });

    test.each([
      [0, 2, 2e-7],
      [2, 20, 1.5e-7],
      [20.001, 1e4, 1e-8],
    ])('in %d..%d to %d', (low, high, relative) => {
      expectWithin(silu, variant, spread(low, high), exact.silu, () => relative);
    });
  });
});
