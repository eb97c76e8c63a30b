import fc from 'fast-check';
import { type NdView, nd, ShapeError, zeros } from 'umwelt';
import { TruncatedNormal } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/distributions.json' with { type: 'json' };
import { noiseFor } from './noise-for.js';

const { NEGATIVE_INFINITY: unboundedLow, POSITIVE_INFINITY: unboundedHigh } = Number;

describe.each(golden.truncated_normal.cases)(
  'N($mean, $std) truncated to [$low, $high], where null is no bound',
  (expected) => {
    const bounds = { low: expected.low ?? unboundedLow, high: expected.high ?? unboundedHigh };
    const make = (rows: number, mean: number, std: number) => {
      const column = (x: number) => nd(new Float32Array(rows).fill(x), [rows, 1]);
      return new TruncatedNormal(column(mean), { std: column(std) }, bounds);
    };
    const column = (values: number[]): NdView => nd(Float32Array.from(values), [values.length, 1]);

    test('has the samples, log-densities, entropy and divergence of 40-digit arithmetic', () => {
      const { mean, std, noise, value } = expected;
      const sampler = make(noise.length, mean, std);
      // Rounding to float32 alone.
      expect(sampler.sample(column(noise)).data).toBeAllclose(expected.sample, {
        rtol: 6e-8,
        atol: 1e-9,
      });
      const close = { rtol: 1e-6, atol: 1e-7 };
      const three = make(value.length, mean, std);
      expect(three.logProb(column(value))).toBeAllclose(expected.logProb, close);
      const one = make(1, mean, std);
      expect(one.entropy()).toBeAllclose([expected.entropy], close);
      const other = make(1, expected.otherMean, expected.otherStd);
      expect(one.kl(other)).toBeAllclose([expected.kl], close);
      expect([...one.kl(one)]).toEqual([0]);
    });
  },
);

describe('TruncatedNormal', () => {
  test('stays within its bounds, finite, for every mean, scale and noise', () => {
    const number = fc.float({ min: -1000, max: 1000, noNaN: true });
    const logStd = fc.float({ min: -7, max: 7, noNaN: true });
    const uniform = fc.integer({ min: 0, max: 2 ** 24 - 1 }).map((x) => x / 2 ** 24);
    fc.assert(
      fc.property(number, logStd, uniform, (mean, scale, u) => {
        const head = new TruncatedNormal(nd([[mean]]), { logStd: nd([[scale]]) });
        const [x] = head.sample(nd([[u]])).data;
        expect(x).toBeGreaterThanOrEqual(-1);
        expect(x).toBeLessThanOrEqual(1);
        const open = new TruncatedNormal(
          nd([[mean]]),
          { logStd: nd([[scale]]) },
          { high: Infinity },
        );
        const [y] = open.sample(nd([[u]])).data;
        expect(y).toBeGreaterThanOrEqual(-1);
        expect(Number.isFinite(y)).toBe(true);
      }),
      { numRuns: 1000, seed: 10 },
    );
  });

  test('rises with the noise', () => {
    const rows = 4096;
    const noise = nd(
      Float32Array.from({ length: rows }, (_, i) => i / rows),
      [rows, 1],
    );
    for (const mean of [-40, -1.2, -0.5, 0.3, 2, 40]) {
      const column = (x: number) => nd(new Float32Array(rows).fill(x), [rows, 1]);
      const { data } = new TruncatedNormal(column(mean), { std: column(0.7) }).sample(noise);
      for (let i = 1; i < rows; i++) expect(data[i]).toBeGreaterThanOrEqual(data[i - 1]);
    }
  });

  test('has the distribution its density says', () => {
    const rows = 20000;
    const column = (x: number) => nd(new Float32Array(rows).fill(x), [rows, 1]);
    const head = new TruncatedNormal(column(0.6), { std: column(0.8) });
    const ids = Uint32Array.from({ length: rows }, (_, i) => i);
    const { data } = head.sample(noiseFor(head, ids, 6));
    const bins = 20;
    const counts = new Float64Array(bins);
    for (const x of data) counts[Math.min(Math.floor((x + 1) * 10), bins - 1)]++;
    // Simpson's rule over each bin.
    const nodes = Float32Array.from({ length: 2 * bins + 1 }, (_, i) => -1 + i / 20);
    const at = (values: Float32Array) => nd(values, [values.length, 1]);
    const narrow = new TruncatedNormal(at(nodes.map(() => 0.6)), { std: at(nodes.map(() => 0.8)) });
    const density = narrow.logProb(at(nodes)).map(Math.exp);
    let chiSquared = 0;
    for (let i = 0; i < bins; i++) {
      const p = (density[2 * i] + 4 * density[2 * i + 1] + density[2 * i + 2]) / 60;
      chiSquared += (counts[i] - rows * p) ** 2 / (rows * p);
    }
    // scipy.stats.chi2.ppf(0.999, 19) == 43.82019596449372
    expect(chiSquared).toBeLessThan(43.82);
  });

  test('takes bounds for each number of a row', () => {
    const head = new TruncatedNormal(
      zeros([2, 2]),
      {
        std: nd([
          [9, 9],
          [9, 9],
        ]),
      },
      { low: [-2, 5], high: Float32Array.of(-1, 6) },
    );
    const { data } = head.sample(
      nd([
        [0, 0],
        [0.9999, 0.9999],
      ]),
    );
    expect(data).toBeAllclose([-2, 5, -1, 6], { rtol: 1e-3 });
    expect([...head.mode().data]).toEqual([-1, 5, -1, 5]);
    expect(
      head.logProb(
        nd([
          [-1.5, 5.5],
          [-1.5, 6.5],
        ]),
      )[1],
    ).toBe(unboundedLow);
  });

  test('has a mode at the mean, or at the bound nearer to it', () => {
    const head = new TruncatedNormal(nd([[-7, 0.25, 7]]), { std: nd([[1, 1, 1]]) });
    expect([...head.mode().data]).toEqual([-1, 0.25, 1]);
  });

  test('is a Gaussian where it has no bounds', () => {
    const open = { low: unboundedLow, high: unboundedHigh };
    const head = new TruncatedNormal(nd([[2]]), { std: nd([[3]]) }, open);
    // 0.5 + 0.5 * math.log(2 * math.pi) + math.log(3) == 2.5175508218727822
    expect(head.entropy()[0]).toBeCloseTo(2.5175508218727822, 6);
    // scipy.stats.norm.ppf(2**-25) == -5.419983174916868: what a uniform of 0 counts as.
    expect(head.sample(nd([[0]])).data[0]).toBeCloseTo(2 - 3 * 5.419983174916868, 5);
  });

  test('refuses bounds that hold nothing or do not fit the row', () => {
    const std = { std: nd([[1, 1]]) };
    expect(() => new TruncatedNormal(zeros([1, 2]), std, { low: 1, high: 1 })).toThrow(
      'TruncatedNormal: low < high must hold, got 1 and 1 at 0',
    );
    expect(() => new TruncatedNormal(zeros([1, 2]), std, { low: [0, 2] })).toThrow(RangeError);
    expect(() => new TruncatedNormal(zeros([1, 2]), std, { low: Number.NaN })).toThrow(RangeError);
    expect(() => new TruncatedNormal(zeros([1, 2]), std, { low: [0] })).toThrow(ShapeError);
    const [one, two] = [1, 2].map((high) => new TruncatedNormal(zeros([1, 2]), std, { high }));
    expect(() => one.kl(two)).toThrow(
      'TruncatedNormal: other must have bounds [-1,-1] to [1,1], got [-1,-1] to [2,2]',
    );
  });
});
