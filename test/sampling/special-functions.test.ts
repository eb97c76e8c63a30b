import { describe, expect, test } from 'vitest';
import {
  logNormalCdf,
  lowerNormalQuantile,
  normalCdf,
  scaledErfc,
  sigmoid,
  softplus,
} from '../../src/sampling/special-functions.js';
import golden from '../fixtures/distributions.json' with { type: 'json' };

// mpmath to 40 digits, see `madeBy` in the file.
const { special } = golden;

describe('the normal distribution function and its kin', () => {
  test('scaledErfc is right to 1e-15 from 0 to 1e12', () => {
    const { x, y } = special.scaledErfc;
    expect(x.map(scaledErfc)).toBeAllclose(y, { rtol: 1e-15, atol: 0 });
    expect(scaledErfc(Number.POSITIVE_INFINITY)).toBe(0);
  });

  test('logNormalCdf is right to 4e-15 in both tails, far beyond where the tail underflows', () => {
    const { x, y } = special.logNormalCdf;
    expect(x.map(logNormalCdf)).toBeAllclose(y, { rtol: 4e-15, atol: 0 });
    expect(logNormalCdf(Number.NEGATIVE_INFINITY)).toBe(Number.NEGATIVE_INFINITY);
    expect(logNormalCdf(Number.POSITIVE_INFINITY)).toBeCloseTo(0, 300);
  });

  test('normalCdf keeps the digits of its lower tail and reaches 0, 1/2 and 1', () => {
    const { x, y } = special.logNormalCdf;
    const common = x.filter((value) => Math.abs(value) < 20);
    const expected = y.filter((_, i) => Math.abs(x[i]) < 20).map(Math.exp);
    expect(common.map(normalCdf)).toBeAllclose(expected, { rtol: 1e-14, atol: 0 });
    expect(normalCdf(Number.NEGATIVE_INFINITY)).toBe(0);
    expect(normalCdf(0)).toBeCloseTo(0.5, 15);
    expect(normalCdf(Number.POSITIVE_INFINITY)).toBe(1);
  });

  test('lowerNormalQuantile inverts logNormalCdf to 1e-15, of its size beyond 1', () => {
    const { x, y } = special.lowerNormalQuantile;
    expect(x.map(lowerNormalQuantile)).toBeAllclose(y, { rtol: 1e-15, atol: 1e-15 });
    expect(lowerNormalQuantile(Number.NEGATIVE_INFINITY)).toBe(Number.NEGATIVE_INFINITY);
    expect(lowerNormalQuantile(-Math.LN2)).toBeCloseTo(0, 15);
  });

  test('NaN stays NaN', () => {
    for (const f of [scaledErfc, normalCdf, logNormalCdf, lowerNormalQuantile, sigmoid, softplus]) {
      expect(f(Number.NaN)).toBeNaN();
    }
  });
});

test('softplus and sigmoid hold in both tails', () => {
  expect([-800, -40, 0, 40, 800].map(softplus)).toBeAllclose(
    [0, Math.exp(-40), Math.LN2, 40, 800],
    { rtol: 1e-15, atol: 0 },
  );
  expect([-800, -40, 0, 40, 800].map(sigmoid)).toBeAllclose([0, Math.exp(-40), 0.5, 1, 1], {
    rtol: 1e-15,
    atol: 0,
  });
});
