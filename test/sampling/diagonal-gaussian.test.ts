import fc from 'fast-check';
import { nd, ShapeError, zeros } from 'umwelt';
import { BoundedNormal, DiagonalGaussian } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/distributions.json' with { type: 'json' };
import { noiseFor } from './noise-for.js';

const float32 = { rtol: 1e-6, atol: 1e-7 };
const { gaussian, bounded_normal: bounded } = golden;

describe('DiagonalGaussian', () => {
  const p = new DiagonalGaussian(nd(gaussian.mean), { logStd: nd(gaussian.logStd) });
  const q = new DiagonalGaussian(nd(gaussian.otherMean), { logStd: nd(gaussian.otherLogStd) });

  test('has the samples, log-densities, entropy and divergence that PyTorch computed', () => {
    expect(p.sample(nd(gaussian.noise)).data).toBeAllclose(gaussian.sample.flat(), float32);
    expect(p.mode().data).toBeBitEqual(nd(gaussian.mean).data);
    expect(p.logProb(nd(gaussian.value))).toBeAllclose(gaussian.logProb, float32);
    expect(p.entropy()).toBeAllclose(gaussian.entropy, float32);
    expect(p.kl(q)).toBeAllclose(gaussian.kl, { rtol: 1e-6, atol: 0 });
  });

  test('means the same by a standard deviation and by its logarithm', () => {
    const std = nd(nd(gaussian.logStd).data.map(Math.exp), [3, 3]);
    const same = new DiagonalGaussian(nd(gaussian.mean), { std });
    // exp(-9) as float32 differs from exp(float32 -9), and the worst z above is 9.
    const close = { rtol: 1e-5, atol: 1e-6 };
    expect(same.logProb(nd(gaussian.value))).toBeAllclose(p.logProb(nd(gaussian.value)), close);
    expect(same.entropy()).toBeAllclose(p.entropy(), close);
    expect(same.sample(nd(gaussian.noise)).data).toBeAllclose(gaussian.sample.flat(), close);
    expect(same.kl(q)).toBeAllclose(p.kl(q), { rtol: 1e-3, atol: 1e-9 });
  });

  test('never has a negative divergence, and one of 0 from itself', () => {
    const value = fc.float({ min: -3, max: 3, noNaN: true });
    fc.assert(
      fc.property(value, value, value, value, (m1, l1, m2, l2) => {
        const [first, second] = [
          new DiagonalGaussian(nd([[m1]]), { logStd: nd([[l1]]) }),
          new DiagonalGaussian(nd([[m2]]), { logStd: nd([[l2]]) }),
        ];
        expect(first.kl(second)[0]).toBeGreaterThanOrEqual(0);
        expect(first.kl(first)[0]).toBe(0);
      }),
      { numRuns: 1000, seed: 8 },
    );
  });

  test('keeps the digits of the divergence between nearly equal scales', () => {
    const [narrow, wide] = [0, 1e-6].map(
      (logStd) => new DiagonalGaussian(nd([[0]]), { logStd: nd([[logStd]]) }),
    );
    // d = mp.mpf(float(np.float32(1e-6))); (mp.expm1(-2 * d) + 2 * d) / 2 == 9.9999932828416e-13
    expect(narrow.kl(wide)).toBeAllclose([9.9999932828416e-13], { rtol: 1e-7, atol: 0 });
  });

  test('agrees with itself: entropy and divergence are means over its samples', () => {
    const rows = 40000;
    const rowsOf = (values: number[]) =>
      nd(
        new Float32Array(rows * 2).map((_, i) => values[i % 2]),
        [rows, 2],
      );
    const first = new DiagonalGaussian(rowsOf([0.5, -1]), { std: rowsOf([0.3, 2]) });
    const second = new DiagonalGaussian(rowsOf([0.25, 1]), { std: rowsOf([0.5, 1.5]) });
    const ids = Uint32Array.from({ length: rows }, (_, i) => i);
    const sample = first.sample(noiseFor(first, ids, 4));
    const own = first.logProb(sample);
    const its = second.logProb(sample);
    let entropy = 0;
    let kl = 0;
    for (let i = 0; i < rows; i++) {
      entropy -= own[i] / rows;
      kl += (own[i] - its[i]) / rows;
    }
    // Standard errors at 40,000 rows: 0.005 for the entropy, 0.012 for the divergence; bounds are five.
    expect(Math.abs(entropy - first.entropy()[0])).toBeLessThan(0.025);
    expect(Math.abs(kl - first.kl(second)[0])).toBeLessThan(0.06);
  });

  test('takes parameters of any rank from 1 up', () => {
    const one = new DiagonalGaussian(nd(Float32Array.of(1, 2)), { std: nd(Float32Array.of(1, 2)) });
    expect([...one.sample(nd([[1], [1]])).data]).toEqual([2, 4]);
    expect(one.entropy().length).toBe(2);
    const deep = new DiagonalGaussian(zeros([2, 3, 4]), { logStd: zeros([2, 3, 4]) });
    expect(deep.noiseWidth).toBe(12);
    expect(deep.sample(zeros([2, 12])).shape).toEqual([2, 3, 4]);
    expect(deep.entropy()[1]).toBeCloseTo(12 * 1.4189385332046727, 5);
    expect(() => new DiagonalGaussian(zeros([]), { std: zeros([]) })).toThrow(ShapeError);
  });

  test('counts a negative standard deviation as NaN, in its row only', () => {
    const broken = new DiagonalGaussian(zeros([2, 1]), { std: nd([[-1], [1]]) });
    expect([...broken.sample(nd([[1], [1]])).data]).toEqual([Number.NaN, 1]);
    expect(Array.from(broken.logProb(zeros([2, 1])), Number.isNaN)).toEqual([true, false]);
    expect(Array.from(broken.entropy(), Number.isNaN)).toEqual([true, false]);
  });

  test('refuses a scale of another shape', () => {
    expect(() => new DiagonalGaussian(zeros([2, 3]), { logStd: zeros([2, 2]) })).toThrow(
      'DiagonalGaussian: logStd must have shape [2,3], got [2,2]',
    );
    expect(() => new DiagonalGaussian(zeros([2, 3]), { std: zeros([6]) })).toThrow(ShapeError);
    expect(() => new DiagonalGaussian(zeros([2, 3]), {} as never)).toThrow(TypeError);
  });
});

describe('BoundedNormal', () => {
  const p = new BoundedNormal(nd(bounded.rawMean), nd(bounded.rawStd));

  test('has the log-densities and entropy that PyTorch computed', () => {
    expect(p.mode().data).toBeAllclose(bounded.mode.flat(), float32);
    expect(p.logProb(nd(bounded.value))).toBeAllclose(bounded.logProb, float32);
    expect(p.entropy()).toBeAllclose(bounded.entropy, float32);
  });

  test('has samples that may leave [-1, 1], as the actor it comes from', () => {
    const wide = new BoundedNormal(nd([[3]]), nd([[9]]));
    expect(wide.sample(nd([[2]])).data[0]).toBeCloseTo(Math.tanh(3) + 2, 3);
  });

  test('has standard deviations between the bounds it is given', () => {
    const [low, high] = [nd([[-99]]), nd([[99]])];
    const at = (raw: typeof low, options = {}) =>
      new BoundedNormal(zeros([1, 1]), raw, options).sample(nd([[1]])).data[0];
    expect(at(low)).toBeCloseTo(0.1, 7);
    expect(at(high)).toBeCloseTo(1, 7);
    expect(at(low, { minStd: 0.25, maxStd: 2 })).toBeCloseTo(0.25, 7);
    expect(at(high, { minStd: 0.25, maxStd: 2 })).toBeCloseTo(2, 7);
  });

  test('has a divergence from another of its kind', () => {
    const q = new BoundedNormal(nd(bounded.rawStd), nd(bounded.rawMean));
    expect(p.kl(q).every((x) => x > 0)).toBe(true);
    expect([...p.kl(p)]).toEqual([0, 0]);
  });

  test('refuses bounds in the wrong order', () => {
    for (const options of [
      { minStd: 0 },
      { minStd: 2 },
      { maxStd: 0.05 },
      { maxStd: Number.NaN },
    ]) {
      expect(() => new BoundedNormal(zeros([1, 1]), zeros([1, 1]), options)).toThrow(RangeError);
    }
    expect(() => new BoundedNormal(zeros([1, 1]), zeros([1, 2]))).toThrow(
      'BoundedNormal: rawStd must have shape [1,1], got [1,2]',
    );
  });
});
