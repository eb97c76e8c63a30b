import fc from 'fast-check';
import {
  inverseValueTransform,
  inverseValueTransformArray,
  valueTransform,
  valueTransformArray,
} from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';

const runs = { numRuns: 1000, seed: 4 };

describe('the value transform of MuZero', () => {
  test('gives the value of the formula', () => {
    // import math; math.sqrt(301) - 1 + 0.001 * 300 == 16.649351572897473
    expect(valueTransform(300)).toBeCloseTo(16.649352, 6);
    expect(valueTransform(300)).toBeCloseTo(16.649351572897473, 14);
    expect(valueTransform(-300)).toBe(-valueTransform(300));
    // math.sqrt(301) - 1 + 0.01 * 300 == 19.349351572897472
    expect(valueTransform(300, 0.01)).toBeCloseTo(19.349351572897472, 14);
  });

  test('inverts at any size and slope, 0 included', () => {
    const x = fc.double({ min: -1e12, max: 1e12, noNaN: true });
    const epsilon = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(x, epsilon, (value, slope) => {
        const back = inverseValueTransform(valueTransform(value, slope), slope);
        expect([back]).toBeAllclose([value], { rtol: 4e-15, atol: 1e-322 });
      }),
      runs,
    );
  });

  test('keeps infinities and NaN', () => {
    for (const f of [valueTransform, inverseValueTransform]) {
      expect(f(Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY);
      expect(f(Number.NEGATIVE_INFINITY)).toBe(Number.NEGATIVE_INFINITY);
      expect(f(Number.NaN)).toBeNaN();
      expect(f(0)).toBe(0);
    }
  });

  test('takes arrays number by number', () => {
    const x = Float32Array.of(-300, 0, 1e-20, 5000);
    const y = valueTransformArray(x);
    expect(y).toBeBitEqual(x.map((value) => valueTransform(value)));
    expect(inverseValueTransformArray(y)).toBeAllclose(x, { rtol: 1e-6, atol: 0 });
    expect(valueTransformArray(x, 0.1)).toBeBitEqual(x.map((value) => valueTransform(value, 0.1)));
    expect(inverseValueTransformArray(y, 0.1)).toBeBitEqual(
      y.map((value) => inverseValueTransform(value, 0.1)),
    );
  });
});
