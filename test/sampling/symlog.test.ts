import fc from 'fast-check';
import { symexp, symexpArray, symlog, symlogArray } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';

const runs = { numRuns: 1000, seed: 3 };

describe('symlog and symexp', () => {
  test('give the values of the formula', () => {
    // import math; -math.log1p(3.5) == -1.504077396776274; math.expm1(2) == 6.38905609893065
    expect(symlog(-3.5)).toBeCloseTo(-1.504077, 6);
    expect(symexp(2)).toBeCloseTo(6.389056, 6);
    expect(symlog(-3.5)).toBeCloseTo(-1.504077396776274, 15);
    expect(symexp(2)).toBeCloseTo(6.38905609893065, 14);
  });

  test('are each other’s inverse for every number of common size', () => {
    const x = fc.double({ min: -1e15, max: 1e15, noNaN: true });
    fc.assert(
      fc.property(x, (value) => {
        // A relative step of symlog is one of |symlog| times as large after symexp.
        const rtol = 4e-16 * (2 + Math.abs(symlog(value)));
        expect([symexp(symlog(value))]).toBeAllclose([value], { rtol, atol: 0 });
      }),
      runs,
    );
  });

  test('are odd, and keep the smallest numbers, zeros of either sign and infinities', () => {
    for (const f of [symlog, symexp]) {
      for (const x of [0, 5e-324, 1e-300, 1e-9, 1, 30]) expect(f(-x)).toBe(-f(x));
      expect(f(0)).toBe(0);
      expect(f(-0)).toBe(-0);
      expect(f(1e-300)).toBe(1e-300);
      expect(f(Number.NEGATIVE_INFINITY)).toBe(Number.NEGATIVE_INFINITY);
      expect(f(Number.NaN)).toBeNaN();
    }
  });

  test('take arrays number by number, into new memory, given memory or in place', () => {
    const x = Float32Array.of(-3.5, 0, 2, 1e6);
    const expected = x.map(symlog);
    const kept = x.slice();
    expect(symlogArray(x)).toBeBitEqual(expected);
    expect(x).toBeBitEqual(kept);
    const out = new Float32Array(4);
    expect(symlogArray(x, out)).toBe(out);
    expect(out).toBeBitEqual(expected);
    expect(symlogArray(x, x)).toBe(x);
    expect(x).toBeBitEqual(expected);
    expect(symexpArray(x)).toBeBitEqual(expected.map(symexp));
    expect(symexpArray(x)).toBeAllclose(kept, { rtol: 2e-6, atol: 0 });
    expect(symexpArray(x, x)).toBe(x);
  });

  test('refuse memory of another length', () => {
    const message = 'out must hold 2 numbers, got 3';
    for (const f of [symlogArray, symexpArray]) {
      expect(() => f(new Float32Array(2), new Float32Array(3))).toThrow(message);
      expect(() => f(new Float32Array(2), new Float32Array(3))).toThrow(RangeError);
    }
  });
});
