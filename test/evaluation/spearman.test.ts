import { describe, expect, it } from 'vitest';
import { spearman } from '../../src/evaluation/spearman.js';
import { nd, ShapeError } from '../../src/nd.js';

describe('spearman', () => {
  it('agrees with SciPy where values are tied and where they are not', () => {
    // scipy.stats.spearmanr(a, b).statistic
    const cases: [number[], number[], number][] = [
      [[1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.8207826816681233],
      [[1, 2, 2, 3], [1, 3, 2, 2], 0.5],
      [[0.1, -3, 2.5, 7, 7, 7, 0], [9, 1, 1, 4, 2, 8, 3], 0.3178819766028755],
      [[1, 2], [2, 1], -1],
    ];
    for (const [a, b, expected] of cases) expect(spearman(a, b)).toBeCloseTo(expected, 14);
  });

  it('agrees with SciPy on a longer series', () => {
    // i = np.arange(200); a = (i*73%101).astype(float); b = (i*i%37).astype(float) + 0.25*a
    // scipy.stats.spearmanr(a, b).statistic
    const a = Array.from({ length: 200 }, (_, i) => (i * 73) % 101);
    const b = a.map((value, i) => ((i * i) % 37) + 0.25 * value);
    expect(spearman(a, b)).toBeCloseTo(0.45761111266304083, 14);
  });

  it('is exactly 1 or -1 for the same and the opposite order, whatever the distances', () => {
    const a = Float32Array.from([3, -1, 1e30, 0.5, 4]);
    expect(spearman(a, a)).toBe(1);
    expect(spearman(a, Array.from(a, Math.atan))).toBe(1);
    expect(
      spearman(
        a,
        Array.from(a, (value) => -value),
      ),
    ).toBe(-1);
  });

  it('takes -0 and 0 as equal', () => {
    expect(spearman([-0, 0, 1], [1, 2, 3])).toBe(spearman([0, 0, 1], [1, 2, 3]));
    expect(spearman([0, -0, 1], [1, 2, 3])).toBe(spearman([0, 0, 1], [1, 2, 3]));
  });

  it('takes views in row-major order and leaves masked pairs out', () => {
    const a = {
      data: new Float32Array([1, 9, 2, 9, 3, 9]),
      shape: [2, 3],
      stride: [1, 2],
      offset: 0,
    };
    // Row-major: 1 2 3 / 9 9 9.
    const b = nd(new Float64Array([1, 4, 9, Number.NaN, 5, 5]), [2, 3]);
    const mask = nd(new Uint8Array([1, 1, 1, 0, 0, 0]), [2, 3]);
    expect(spearman(a, b, { mask })).toBe(1);
    expect(spearman(a, b, { mask: mask.data })).toBe(1);
  });

  it('is NaN for fewer than two pairs and for a constant series', () => {
    expect(spearman([], [])).toBeNaN();
    expect(spearman([1], [2])).toBeNaN();
    expect(spearman([1, 2, 3], [4, 5, 6], { mask: new Uint8Array([0, 1, 0]) })).toBeNaN();
    expect(spearman([0.1, 0.1, 0.1], [4, 5, 6])).toBeNaN();
    expect(spearman([4, 5, 6], [0.1, 0.1, 0.1])).toBeNaN();
  });

  it('refuses a pair that is not finite and says where it is', () => {
    expect(() => spearman([1, Number.NaN], [1, 2])).toThrow(RangeError);
    expect(() => spearman([1, 2], [1, Number.POSITIVE_INFINITY])).toThrow(
      'spearman: every pair must be finite, got (2, Infinity) at 1',
    );
  });

  it('refuses lengths that differ', () => {
    expect(() => spearman([1, 2], [1, 2, 3])).toThrow(ShapeError);
    expect(() => spearman([1, 2], [1, 2], { mask: new Uint8Array(3) })).toThrow(ShapeError);
  });

  it('refuses views whose axes are in another order', () => {
    const a = nd(new Float32Array(6), [2, 3]);
    expect(() => spearman(a, nd(new Float32Array(6), [3, 2]))).toThrow(
      'spearman: a and b must have one shape, got [2, 3] and [3, 2]',
    );
    const mask = nd(new Uint8Array(6), [3, 2]);
    expect(() => spearman(a, a.data, { mask })).toThrow(ShapeError);
  });

  it('refuses options that nobody reads', () => {
    // @ts-expect-error a misspelt option
    expect(() => spearman([1, 2], [1, 2], { masks: new Uint8Array(2) })).toThrow(
      "spearman: options must be among mask, got 'masks'",
    );
    // @ts-expect-error no options
    expect(() => spearman([1, 2], [1, 2], null)).toThrow('options must be an object, got null');
  });

  it('refuses what is not a series of numbers', () => {
    // @ts-expect-error 64-bit integers are not numbers
    expect(() => spearman(new BigInt64Array(2), [1, 2])).toThrow(TypeError);
    // @ts-expect-error text
    expect(() => spearman([1, 2], 'ab')).toThrow(TypeError);
    // @ts-expect-error a missing series
    expect(() => spearman([1, 2], undefined)).toThrow(TypeError);
    // @ts-expect-error booleans, which would all count
    expect(() => spearman([1, 2], [1, 2], { mask: [true, false] })).toThrow(TypeError);
  });
});
