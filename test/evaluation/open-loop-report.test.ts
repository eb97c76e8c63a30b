import { imagine, type NdView, nd, ShapeError } from 'umwelt';
import {
  openLoopError,
  openLoopReport,
  reportTable,
  type StateSequences,
  terminationReport,
} from 'umwelt/evaluation';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

const exact = { rtol: 1e-15, atol: 0 };
const NaN64 = Number.NaN;

/** Three rows, two steps, one dimension. The third row takes one step. */
const actual: StateSequences = {
  obs: nd(new Float32Array([0, 2, 4, 0, 2, 4, 10, 12, NaN64]), [3, 3, 1]),
  reward: nd([
    [1, 1],
    [1, 1],
    [1, NaN64],
  ]),
  terminated: nd(new Uint8Array([0, 1, 0, 0, 1, 0]), [3, 2]),
  mask: nd(new Uint8Array([1, 1, 1, 1, 1, 0]), [3, 2]),
};
const imagined: StateSequences = {
  obs: nd(new Float32Array([0, 2, 5, 0, 3, 4, 10, 8, 7]), [3, 3, 1]),
  reward: nd([
    [1, 2],
    [2, 0],
    [1, 5],
  ]),
  terminated: nd(new Uint8Array([0, 1, 1, 0, 0, 1]), [3, 2]),
};

describe('openLoopReport', () => {
  test('gives error by horizon beside that of holding the state', () => {
    const { states } = openLoopReport(imagined, actual);
    expect([...states.horizon]).toEqual([1, 2]);
    expect([...states.count]).toEqual([3, 2]);
    expect([...states.lost]).toEqual([0, 0]);
    // Errors 0, 1, -4 and 1, 0; holding is wrong by 2, 2, 2 and 4, 4.
    expect(states.mse).toBeAllclose([17 / 3, 0.5], exact);
    expect(states.rmse).toBeAllclose([Math.sqrt(17 / 3), Math.sqrt(0.5)], exact);
    expect(states.median).toBeAllclose([1, 0.5], exact);
    // numpy.quantile([0, 1, 4], .9), numpy.quantile([0, 1], .9)
    expect(states.p90).toBeAllclose([3.4, 0.9], exact);
    expect(states.persistence).toBeAllclose([2, 4], exact);
    expect(states.skill).toBeAllclose([1 - 17 / 12, 1 - 0.5 / 16], exact);
    expect(states.oneStep).toBeUndefined();
  });

  test('divides by the scale of each dimension: the mean squared length of the standardised error', () => {
    const truth = { obs: nd(new Float64Array([0, 0, 3, 40]), [1, 2, 2]) };
    const guess = { obs: nd(new Float64Array([0, 0, 1, 10]), [1, 2, 2]) };
    const { states } = openLoopReport(guess, truth, { scale: [2, 10] });
    expect(states.mse).toBeAllclose([(1 + 9) / 2], exact);
    expect(states.persistence[0] ** 2).toBeCloseTo((2.25 + 16) / 2, 12);
  });

  test('agrees with openLoopError row by row', () => {
    const { perRow, states } = openLoopReport(imagined, actual);
    const error = openLoopError(imagined.obs, actual.obs, { mask: actual.mask });
    expect(perRow).toEqual(error.perRow);
    expect(states.rmse).toEqual(error.rmse);
  });

  test('counts the steps that both took, and says how many the dream lost', () => {
    const short = { ...imagined, mask: nd(new Uint8Array([1, 0, 1, 1, 1, 1]), [3, 2]) };
    const { states } = openLoopReport(short, actual);
    expect([...states.count]).toEqual([3, 1]);
    expect([...states.lost]).toEqual([0, 1]);
    expect(states.mse[1]).toBe(0);
  });

  test('takes predictions of one step from the truth as another baseline', () => {
    const oneStep = nd(new Float32Array([NaN64, 2, 4, NaN64, 2, 6, NaN64, 12, 0]), [3, 3, 1]);
    const { states } = openLoopReport(imagined, actual, { oneStep });
    expect(states.oneStep).toBeAllclose([0, Math.sqrt(2)], exact);
  });

  test('gives error of rewards, and of their sums, where both have them', () => {
    const { reward } = openLoopReport(imagined, actual);
    // Differences 0, 1, 0 and 1, -1.
    expect(reward?.bias).toBeAllclose([1 / 3, 0], exact);
    expect(reward?.rmse).toBeAllclose([Math.sqrt(1 / 3), 1], exact);
    expect(reward?.returnBias).toBeAllclose([1 / 3, (1 + 0) / 2], exact);
    const { reward: _, ...without } = actual;
    expect(openLoopReport(imagined, without).reward).toBeUndefined();
  });

  test('counts rewards where both took the step, and says how often', () => {
    expect([...(openLoopReport(imagined, actual).reward?.count ?? [])]).toEqual([3, 2]);
  });

  test('judges the rewards of a rollout without its penalty', async () => {
    const score = ({ mean }: { mean: NdView }) => new Float32Array(mean.shape[1]).fill(7);
    const options = { start: nd([[0], [1]]), horizon: 2, seed: 0 };
    const truth = await imagine(lineWorld(), constantly(1), options).collect();
    const penalty = { score, coefficient: 1 };
    const dream = await imagine(lineWorld(), constantly(1), { ...options, penalty }).collect();
    expect(dream.reward.data[0]).toBe(truth.reward.data[0] - 7);
    expect([...(openLoopReport(dream, truth).reward?.bias ?? [])]).toEqual([0, 0]);
    expect([...(openLoopReport(truth, dream).reward?.returnBias ?? [])]).toEqual([0, 0]);
  });

  test('returns the steps that count, for what is asked of each row', () => {
    const short = { ...imagined, mask: nd(new Uint8Array([1, 0, 1, 1, 1, 1]), [3, 2]) };
    const { mask, perRow } = openLoopReport(short, actual);
    expect(mask.shape).toEqual([3, 2]);
    expect([...mask.data]).toEqual([1, 0, 1, 1, 1, 0]);
    expect([...mask.data]).toEqual(Array.from(perRow.data, (e) => (Number.isNaN(e) ? 0 : 1)));
  });

  test('has no skill where the truth never moves', () => {
    const still = { obs: nd(new Float32Array(6), [2, 3, 1]) };
    const moving = { obs: nd(new Float32Array([0, 0, 1, 0, 0, 1]), [2, 3, 1]) };
    expect([...openLoopReport(moving, still).states.skill]).toEqual([NaN64, -Infinity]);
  });

  test('gives precision, recall and F1 of ends where both have them', () => {
    const { termination } = openLoopReport(imagined, actual);
    // Row 0 ends as foreseen at 2, row 1 does not end at 1, row 2 ends unforeseen at 1.
    expect(termination).toMatchObject({ count: 5, precision: 0.5, recall: 0.5, f1: 0.5 });
    expect(termination?.rate).toBe(2 / 5);
  });

  test('prints as a table', () => {
    const { reward: _, ...rewardless } = actual;
    const { terminated: __, ...truth } = rewardless;
    expect(reportTable(openLoopReport(imagined, truth), { digits: 3 })).toBe(
      `
states:
horizon  count  lost    mse   rmse  median    p90  persistence   skill
      1      3     0  5.67   2.38    1      3.40             2  -0.417
      2      2     0  0.500  0.707   0.500  0.900            4   0.969
`.trim(),
    );
  });

  test('is NaN without rows and has no horizon without steps', () => {
    const none = {
      obs: nd(new Float32Array(0), [0, 3, 2]),
      reward: nd(new Float32Array(0), [0, 2]),
    };
    const { states, reward } = openLoopReport(none, none);
    for (const name of ['mse', 'rmse', 'median', 'p90', 'persistence', 'skill'] as const) {
      expect([...states[name]]).toEqual([NaN64, NaN64]);
    }
    expect([...(reward?.bias ?? [])]).toEqual([NaN64, NaN64]);
    const start = { obs: nd(new Float32Array(4), [2, 1, 2]) };
    expect(openLoopReport(start, start).states.rmse).toHaveLength(0);
  });

  test('of one row is that row', () => {
    const truth = { obs: nd(new Float32Array([0, 1]), [1, 2, 1]) };
    const guess = { obs: nd(new Float32Array([0, 4]), [1, 2, 1]) };
    const { states } = openLoopReport(guess, truth);
    expect([states.rmse[0], states.median[0], states.p90[0]]).toEqual([3, 3, 3]);
  });

  test('reads strided views', () => {
    // [T+1, B, 1] in memory.
    const data = new Float32Array([0, 0, 10, 2, 3, 8, 5, 4, 7]);
    const obs = { data, shape: [3, 3, 1], stride: [1, 3, 1], offset: 0 };
    expect(openLoopReport({ obs }, actual).states).toEqual(
      openLoopReport({ obs: imagined.obs }, actual).states,
    );
  });

  test('refuses what counts and is not finite, and what does not fit', () => {
    const { mask: _, ...unmasked } = actual;
    expect(() => openLoopReport(imagined, unmasked)).toThrow('leave it out by the mask');
    const nan = { ...imagined, reward: nd(new Float32Array(6).fill(NaN64), [3, 2]) };
    expect(() => openLoopReport(nan, actual)).toThrow(
      'every reward that counts must be finite, got another at row 0, horizon 1',
    );
    const wide = { obs: nd(new Float32Array(18), [3, 3, 2]) };
    expect(() => openLoopReport(wide, actual)).toThrow(ShapeError);
    expect(() => openLoopReport(imagined, actual, { scale: [0] })).toThrow(RangeError);
    const reward = nd(new Float32Array(3), [3, 1]);
    expect(() => openLoopReport({ ...imagined, reward }, actual)).toThrow(ShapeError);
    // @ts-expect-error bare states
    expect(() => openLoopReport(imagined.obs, actual)).toThrow('must be sequences { obs }');
    // @ts-expect-error a misspelt option
    expect(() => openLoopReport(imagined, actual, { scales: [1] })).toThrow(TypeError);
  });
});

describe('terminationReport', () => {
  const flags = (...rows: number[][]) =>
    nd(Uint8Array.from(rows.flat()), [rows.length, rows[0].length]);

  test('counts an end at its own step alone', () => {
    const { byHorizon, ...all } = terminationReport(
      flags([0, 1, 0], [1, 0, 0], [0, 0, 0]),
      flags([0, 0, 1], [1, 0, 0], [0, 0, 0]),
    );
    expect(all).toEqual({ count: 9, rate: 2 / 9, precision: 0.5, recall: 0.5, f1: 0.5 });
    expect([...byHorizon.truePositive]).toEqual([1, 0, 0]);
    expect([...byHorizon.falsePositive]).toEqual([0, 1, 0]);
    expect([...byHorizon.falseNegative]).toEqual([0, 0, 1]);
    expect([...byHorizon.precision]).toEqual([1, 0, NaN64]);
    expect([...byHorizon.recall]).toEqual([1, NaN64, 0]);
    expect([...byHorizon.f1]).toEqual([1, 0, 0]);
  });

  test('is NaN where there is nothing to foresee, and leaves masked steps out', () => {
    const mask = flags([1, 0]);
    const { f1, rate, byHorizon } = terminationReport(flags([0, 1]), flags([0, 1]), { mask });
    expect([f1, rate]).toEqual([NaN64, 0]);
    expect([...byHorizon.count]).toEqual([1, 0]);
    const none = nd(new Uint8Array(0), [0, 2]);
    expect(terminationReport(none, none).rate).toBeNaN();
  });

  test('refuses flags of another kind or shape', () => {
    expect(() => terminationReport(flags([0, 1]), flags([0], [1]))).toThrow(ShapeError);
    expect(() => terminationReport(nd(new Uint8Array(2)), nd(new Uint8Array(2)))).toThrow(
      ShapeError,
    );
    // @ts-expect-error probabilities are no flags
    expect(() => terminationReport(nd([[0.1]]), flags([0]))).toThrow(TypeError);
    // @ts-expect-error missing
    expect(() => terminationReport(flags([0]))).toThrow(TypeError);
  });
});
