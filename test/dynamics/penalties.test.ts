import { maxAleatoric, maxPairwiseDifference, nd } from 'umwelt';
import { describe, expect, test } from 'vitest';

// Three members, two rows, three outputs with the reward last. The expected values were computed in
// float64, for example for maxAleatoric
//   numpy.sqrt(numpy.exp(lv).sum(-1)).max(0)
// and for maxPairwiseDifference
//   max(numpy.linalg.norm(mu[i] - mu[j], axis=-1) for i in range(3) for j in range(3))
const mean = nd([
  [
    [0.1, 0.2, 1],
    [1, -1, 0],
  ],
  [
    [0.2, 0.1, 1.2],
    [1, -1, 0],
  ],
  [
    [0, 0.3, 0.8],
    [1.3, -0.6, 0.5],
  ],
]);
const logVar = nd([
  [
    [-2, -2, -1],
    [0, 0, 0],
  ],
  [
    [-1, -3, -1],
    [0, 0, 0],
  ],
  [
    [-2, -2, -2],
    [-1, -1, -1],
  ],
]);
// Inputs are float32, so the scores carry their rounding.
const rounding = { rtol: 1e-6, atol: 1e-7 };

describe('maxAleatoric', () => {
  test('is the largest norm of a member’s standard deviations', () => {
    expect(maxAleatoric()({ mean, logVar })).toBeAllclose([0.8863103016, 1.7320508076], rounding);
    expect(maxAleatoric({ dims: 'obs' })({ mean, logVar })).toBeAllclose(
      [0.6462712353, Math.SQRT2],
      rounding,
    );
  });

  test('looks at the elites alone when asked', () => {
    const score = maxAleatoric({ members: 'elite' })({ mean, logVar, elites: [2] });
    expect(score).toBeAllclose(
      [Math.sqrt(3 * Math.exp(-2)), Math.sqrt(3 * Math.exp(-1))],
      rounding,
    );
  });

  test('needs log-variances', () => {
    expect(() => maxAleatoric()({ mean })).toThrow(TypeError);
  });
});

describe('maxPairwiseDifference', () => {
  test('is the largest distance between two members’ means', () => {
    expect(maxPairwiseDifference()({ mean })).toBeAllclose([0.4898979486, Math.SQRT1_2], rounding);
    expect(maxPairwiseDifference({ dims: 'obs' })({ mean })).toBeAllclose(
      [0.2828427125, 0.5],
      rounding,
    );
  });

  test('leaves out the reward wherever it is', () => {
    const first = maxPairwiseDifference({ dims: 'obs' })({ mean, rewardIndex: 0 });
    expect(first).toBeAllclose([Math.hypot(0.2, 0.4), Math.hypot(0.4, 0.5)], rounding);
    const none = maxPairwiseDifference({ dims: 'obs' })({ mean, rewardIndex: null });
    expect(none).toBeBitEqual(maxPairwiseDifference()({ mean }));
  });

  test('is 0 for one member and for equal members', () => {
    const one = nd(mean.data.slice(0, 6), [1, 2, 3]);
    expect([...maxPairwiseDifference()({ mean: one })]).toEqual([0, 0]);
    const elites = maxPairwiseDifference({ members: 'elite' })({ mean, elites: [0, 1] });
    expect(elites[1]).toBe(0);
  });

  test('shows a non-finite member', () => {
    const broken = nd(mean.data.slice(), [3, 2, 3]);
    broken.data[0] = Number.NaN;
    const score = maxPairwiseDifference()({ mean: broken });
    expect(score[0]).toBeNaN();
    expect(score[1]).toBeCloseTo(Math.SQRT1_2, 6);
  });
});
