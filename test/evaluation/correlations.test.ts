import { type NdView, nd, ShapeError } from 'umwelt';
import {
  likelihoodAgainstReturn,
  reportTable,
  spearman,
  uncertaintyErrorCorrelation,
} from 'umwelt/evaluation';
import { bootstrapIndices, RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { ids } from '../support/models.js';

const NaN64 = Number.NaN;

/** Uncertainty and error of 12 rows and 5 steps that go together somewhat, with ties. */
const ROWS = 12;
const STEPS = 5;
const noise = new RowNoise(3, Stream.model, 0, ids(ROWS)).normal(2 * STEPS).data;
const uncertainty = nd(new Float32Array(ROWS * STEPS), [ROWS, STEPS]);
const error = nd(new Float32Array(ROWS * STEPS), [ROWS, STEPS]);
for (let i = 0; i < ROWS * STEPS; i++) {
  uncertainty.data[i] = Math.round(4 * noise[2 * i]) / 4;
  error.data[i] = noise[2 * i] + noise[2 * i + 1];
}

describe('uncertaintyErrorCorrelation', () => {
  test('is Spearman’s over all pairs and at each horizon', () => {
    const report = uncertaintyErrorCorrelation(uncertainty, error, { seed: 1, resamples: 50 });
    expect(report).toMatchObject({ count: 60, starts: 12, spearman: spearman(uncertainty, error) });
    const { byHorizon } = report;
    expect([...(byHorizon?.from ?? [])]).toEqual([1, 2, 3, 4, 5]);
    expect(byHorizon?.to).toEqual(byHorizon?.from);
    expect([...(byHorizon?.count ?? [])]).toEqual([12, 12, 12, 12, 12]);
    for (let step = 0; step < STEPS; step++) {
      const mask = Uint8Array.from(error.data, (_, i) => (i % STEPS === step ? 1 : 0));
      expect(byHorizon?.spearman[step]).toBeCloseTo(spearman(uncertainty, error, { mask }), 14);
    }
  });

  test('has the interval of resampled starts, each with all of its pairs', () => {
    const resamples = 21;
    const options = { seed: 8, resamples, level: 0.9, horizons: [[2, 4]] as const };
    const { low, high, byHorizon } = uncertaintyErrorCorrelation(uncertainty, error, options);
    const drawn = bootstrapIndices(8, resamples, ROWS).data;
    const resampled = (from: number, to: number): number[] =>
      Array.from({ length: resamples }, (_, r) => {
        const places = [...drawn.subarray(r * ROWS, (r + 1) * ROWS)].flatMap((row) =>
          Array.from({ length: to - from + 1 }, (_, k) => row * STEPS + from - 1 + k),
        );
        return spearman(
          places.map((i) => uncertainty.data[i]),
          places.map((i) => error.data[i]),
        );
      }).sort((a, b) => a - b);
    // 5 % and 95 % of 21 are the second and the last but one.
    const all = resampled(1, STEPS);
    expect([low, high]).toBeAllclose([all[1], all[19]], { rtol: 1e-12, atol: 0 });
    const some = resampled(2, 4);
    expect([...(byHorizon?.low ?? []), ...(byHorizon?.high ?? [])]).toBeAllclose(
      [some[1], some[19]],
      { rtol: 1e-12, atol: 0 },
    );
  });

  test('is the same for flat pairs with their starts and steps, whatever the starts are called', () => {
    const places = ids(ROWS * STEPS);
    const flat = uncertaintyErrorCorrelation(uncertainty.data, error.data, {
      seed: 2,
      resamples: 30,
      startIndex: Int32Array.from(places, (i) => 1000 - 7 * Math.floor(i / STEPS)),
      stepIndex: Int32Array.from(places, (i) => i % STEPS),
    });
    expect(flat).toEqual(
      uncertaintyErrorCorrelation(uncertainty, error, { seed: 2, resamples: 30 }),
    );
  });

  test('takes flat pairs as independent and has no horizons for them', () => {
    const report = uncertaintyErrorCorrelation([1, 2, 3], [1, 5, 9], { seed: 0, resamples: 10 });
    expect(report).toMatchObject({ count: 3, starts: 3, spearman: 1, low: 1, high: 1 });
    expect(report.byHorizon).toBeUndefined();
    expect(() =>
      uncertaintyErrorCorrelation([1, 2], [1, 2], { seed: 0, horizons: [[1, 2]] }),
    ).toThrow('horizons need views [B, T] or a stepIndex');
  });

  test('knows starts and steps by whichever argument has rows and steps', () => {
    const asked = { seed: 2, resamples: 30 };
    const both = uncertaintyErrorCorrelation(uncertainty, error, asked);
    expect(uncertaintyErrorCorrelation(uncertainty.data, error, asked)).toEqual(both);
    expect(uncertaintyErrorCorrelation(uncertainty, error.data, asked)).toEqual(both);
    const mask = nd(new Uint8Array(ROWS * STEPS).fill(1), [ROWS, STEPS]);
    const flat = uncertaintyErrorCorrelation(uncertainty.data, error.data, { ...asked, mask });
    expect(flat).toEqual(both);
  });

  test('refuses views whose axes are in another order', () => {
    const turned = nd(error.data, [STEPS, ROWS]);
    expect(() => uncertaintyErrorCorrelation(uncertainty, turned, { seed: 0 })).toThrow(
      'uncertainty and error must have one shape, got [12, 5] and [5, 12]',
    );
    const mask = nd(new Uint8Array(ROWS * STEPS).fill(1), [STEPS, ROWS]);
    expect(() => uncertaintyErrorCorrelation(uncertainty, error, { seed: 0, mask })).toThrow(
      ShapeError,
    );
    const deep = nd(error.data, [ROWS, STEPS, 1]);
    expect(() => uncertaintyErrorCorrelation(uncertainty, deep, { seed: 0 })).toThrow(ShapeError);
  });

  test('looks at the horizons that occur alone, however far apart they are', () => {
    const pairs = [1, 2, 3, 4];
    const stepIndex = [0, 2 ** 31 - 2, 0, 2 ** 31 - 2];
    const { byHorizon } = uncertaintyErrorCorrelation(pairs, pairs, { seed: 0, stepIndex });
    expect([...(byHorizon?.from ?? [])]).toEqual([1, 2 ** 31 - 1]);
    expect([...(byHorizon?.spearman ?? [])]).toEqual([1, 1]);
    for (const step of [-1, 2 ** 31 - 1, 4e9]) {
      const outside = { seed: 0, stepIndex: [0, 0, step, 0] };
      expect(() => uncertaintyErrorCorrelation(pairs, pairs, outside)).toThrow(
        `stepIndex must lie in 0..2147483646, got ${step} at 2`,
      );
    }
  });

  test('takes starts and steps as views of integers', () => {
    const places = ids(ROWS * STEPS);
    const shape = [ROWS, STEPS];
    const integers = (value: (i: number) => number) => nd(Int32Array.from(places, value), shape);
    const asked = { seed: 2, resamples: 30 };
    const given = uncertaintyErrorCorrelation(uncertainty.data, error.data, {
      ...asked,
      startIndex: integers((i) => Math.floor(i / STEPS)),
      stepIndex: integers((i) => i % STEPS),
    });
    expect(given).toEqual(uncertaintyErrorCorrelation(uncertainty, error, asked));
  });

  test('has no interval for a single start, at any horizon', () => {
    const one = (view: NdView) => nd(view.data.slice(0, STEPS), [1, STEPS]);
    const alone = uncertaintyErrorCorrelation(one(uncertainty), one(error), { seed: 0 });
    expect(alone).toMatchObject({ starts: 1, low: NaN64, high: NaN64 });
    expect(alone.spearman).not.toBeNaN();
    // From the third step on only the first start counts.
    const mask = Uint8Array.from(error.data, (_, i) => (i < STEPS || i % STEPS < 2 ? 1 : 0));
    const early = [1, 2] as const;
    const late = [3, STEPS] as const;
    const { low, byHorizon } = uncertaintyErrorCorrelation(uncertainty, error, {
      seed: 0,
      mask,
      horizons: [early, late],
    });
    expect(low).not.toBeNaN();
    expect(byHorizon?.low[0]).not.toBeNaN();
    expect(byHorizon?.spearman[1]).not.toBeNaN();
    expect([byHorizon?.low[1], byHorizon?.high[1]]).toEqual([NaN64, NaN64]);
    const two = uncertaintyErrorCorrelation([1, 2], [1, 2], { seed: 0 });
    expect(two).toMatchObject({ spearman: 1, low: NaN64, high: NaN64 });
  });

  test('says of which level its intervals are', () => {
    const ask = (options: object) =>
      uncertaintyErrorCorrelation(uncertainty, error, { seed: 0, resamples: 5, ...options }).level;
    expect([ask({}), ask({ level: 0.5 })]).toEqual([0.9, 0.5]);
    const { level } = likelihoodAgainstReturn([1, 2, 4], [3, 1, 2], { seed: 0, level: 0.8 });
    expect(level).toBe(0.8);
  });

  test('leaves masked pairs out, whatever they hold', () => {
    const broken = nd(error.data.slice(), error.shape);
    const mask = new Uint8Array(ROWS * STEPS).fill(1);
    for (let row = 0; row < ROWS; row += 2) {
      for (let step = 3; step < STEPS; step++) {
        mask[row * STEPS + step] = 0;
        broken.data[row * STEPS + step] = NaN64;
      }
    }
    const report = uncertaintyErrorCorrelation(uncertainty, broken, {
      seed: 1,
      resamples: 5,
      mask,
    });
    expect([...(report.byHorizon?.count ?? [])]).toEqual([12, 12, 12, 6, 6]);
    expect(report.spearman).toBeCloseTo(spearman(uncertainty, broken, { mask }), 14);
    expect(() => uncertaintyErrorCorrelation(uncertainty, broken, { seed: 1 })).toThrow(
      'leave it out by the mask',
    );
  });

  test('holds the true correlation about as often as it says', () => {
    // Spearman's of Gaussians with Pearson's r is 6 / pi asin(r / 2): here r = 1 / sqrt(2).
    const truth = (6 / Math.PI) * Math.asin(Math.SQRT1_2 / 2);
    let held = 0;
    for (let trial = 0; trial < 1000; trial++) {
      const pairs = new RowNoise(trial, Stream.model, 0, ids(60)).normal(2).data;
      const a = Float64Array.from({ length: 60 }, (_, i) => pairs[2 * i]);
      const b = a.map((x, i) => x + pairs[2 * i + 1]);
      const { low, high } = uncertaintyErrorCorrelation(a, b, { seed: trial, resamples: 200 });
      if (low <= truth && truth <= high) held++;
    }
    // 900 of 1000 with a standard deviation of 9.5; intervals of 85 % or 95 % would be 5 of them off.
    expect(held).toBeGreaterThan(870);
    expect(held).toBeLessThan(925);
  });

  test('is NaN without pairs, for one, and for a constant', () => {
    const none = uncertaintyErrorCorrelation(nd(new Float32Array(0), [0, 3]), [], { seed: 0 });
    expect(none).toMatchObject({ count: 0, starts: 0, spearman: NaN64, low: NaN64, high: NaN64 });
    expect(none.byHorizon?.from).toHaveLength(0);
    const one = uncertaintyErrorCorrelation([1], [2], { seed: 0, resamples: 3 });
    expect(one).toMatchObject({ count: 1, spearman: NaN64, low: NaN64 });
    const constant = uncertaintyErrorCorrelation([1, 1, 1], [1, 2, 3], { seed: 0, resamples: 3 });
    expect(constant.spearman).toBeNaN();
    const without = uncertaintyErrorCorrelation([1, 2], [1, 2], { seed: 0, resamples: 0 });
    expect(without).toMatchObject({ spearman: 1, low: NaN64 });
  });

  test('refuses options outside their range', () => {
    const ask = (options: object) => () =>
      uncertaintyErrorCorrelation(uncertainty, error, { seed: 0, ...options });
    expect(ask({ level: 1 })).toThrow(RangeError);
    expect(ask({ resamples: -1 })).toThrow(RangeError);
    expect(ask({ horizons: [[0, 2]] })).toThrow(RangeError);
    expect(ask({ horizons: [[3, 2]] })).toThrow('got [3, 2]');
    expect(ask({ startIndex: [1] })).toThrow(ShapeError);
    expect(ask({ stepIndex: new Float64Array(60).fill(0.5) })).toThrow('must hold integers');
    expect(ask({ phases: [] })).toThrow(TypeError);
    expect(() => uncertaintyErrorCorrelation([1], [1, 2], { seed: 0 })).toThrow(ShapeError);
    // @ts-expect-error a seed must be given
    expect(() => uncertaintyErrorCorrelation([1, 2], [1, 2], {})).toThrow(
      'uncertaintyErrorCorrelation: seed must be an integer, a bigint or a key, got undefined',
    );
  });

  test('prints as a table', () => {
    const two = nd([
      [1, 2],
      [3, 4],
    ]);
    expect(reportTable(uncertaintyErrorCorrelation(two, two, { seed: 0, resamples: 0 }))).toBe(
      `
count     4
starts    2
level     0.9000
spearman  1
low       NaN
high      NaN

byHorizon:
from  to  count  spearman  low  high
   1   1      2         1  NaN   NaN
   2   2      2         1  NaN   NaN
`.trim(),
    );
  });
});

describe('likelihoodAgainstReturn', () => {
  const nll = [3, 2.5, 2.2, 1.9, 1.7, 1.6];
  const returns = [100, 250, 240, 400, 380, 390];

  test('agrees with SciPy', () => {
    const report = likelihoodAgainstReturn(nll, returns, { seed: 0 });
    expect(report.count).toBe(6);
    // scipy.stats.pearsonr(nll, returns).statistic, scipy.stats.spearmanr(nll, returns).statistic
    expect(report.pearson.correlation).toBeCloseTo(-0.9541302726712634, 14);
    expect(report.spearman.correlation).toBeCloseTo(-0.7714285714285715, 14);
    expect(report.pearson.low).toBeLessThan(report.pearson.correlation);
    expect(report.pearson.high).toBeGreaterThan(report.pearson.correlation);
  });

  test('has the interval of resampled checkpoints', () => {
    const { data } = bootstrapIndices(4, 21, 6);
    const found = Array.from({ length: 21 }, (_, r) => {
      const rows = [...data.subarray(r * 6, r * 6 + 6)];
      return spearman(
        rows.map((i) => nll[i]),
        rows.map((i) => returns[i]),
      );
    }).sort((a, b) => a - b);
    const report = likelihoodAgainstReturn(nll, returns, { seed: 4, resamples: 21 });
    expect(found.every(Number.isFinite)).toBe(true);
    expect([report.spearman.low, report.spearman.high]).toBeAllclose([found[1], found[19]], {
      rtol: 1e-12,
      atol: 0,
    });
  });

  test('is NaN for fewer than two checkpoints and for a constant', () => {
    expect(likelihoodAgainstReturn([], [], { seed: 0 }).pearson.correlation).toBeNaN();
    expect(likelihoodAgainstReturn([1], [1], { seed: 0 }).spearman.low).toBeNaN();
    const constant = likelihoodAgainstReturn([0.1, 0.1, 0.1], [1, 2, 3], { seed: 0 });
    expect(constant.pearson.correlation).toBeNaN();
    expect(constant.pearson.high).toBeNaN();
  });

  test('has no interval for two checkpoints, which always lie on a line', () => {
    const { pearson, spearman: ranks } = likelihoodAgainstReturn([1, 2], [5, 4], { seed: 0 });
    expect(pearson).toEqual({ correlation: -1, low: NaN64, high: NaN64 });
    expect(ranks).toEqual({ correlation: -1, low: NaN64, high: NaN64 });
    expect(likelihoodAgainstReturn([1, 2, 3], [5, 4, 6], { seed: 0 }).pearson.low).not.toBeNaN();
  });

  test('refuses lengths that differ and numbers that are not finite', () => {
    expect(() => likelihoodAgainstReturn([1], [1, 2], { seed: 0 })).toThrow(ShapeError);
    expect(() => likelihoodAgainstReturn([1, NaN64], [1, 2], { seed: 0 })).toThrow(
      'got (NaN, 2) at 1; leave it out',
    );
  });
});
