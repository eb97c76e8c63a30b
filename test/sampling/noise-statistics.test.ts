import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { choice, gumbelTopK } from '../../src/sampling/permutation.js';
import { normalCdf } from '../../src/sampling/special-functions.js';
import { chiSquared, correlation, ksCritical, ksStatistic } from '../support/statistics.js';

const N = 10_000;
const ids = Uint32Array.from({ length: N }, (_, i) => i);

const between = (low: number, high: number) => (x: number) =>
  (normalCdf(x) - normalCdf(low)) / (normalCdf(high) - normalCdf(low));

const kinds = {
  uniform: { draw: (noise: RowNoise) => noise.uniform(1), cdf: (x: number) => x },
  normal: { draw: (noise: RowNoise) => noise.normal(1), cdf: normalCdf },
  Gumbel: {
    draw: (noise: RowNoise) => noise.gumbel(1),
    cdf: (x: number) => Math.exp(-Math.exp(-x)),
  },
  'normal in -2..2': { draw: (noise: RowNoise) => noise.truncatedNormal(1), cdf: between(-2, 2) },
  'normal in 0.5..0.75': {
    draw: (noise: RowNoise) => noise.truncatedNormal(1, { low: 0.5, high: 0.75 }),
    cdf: between(0.5, 0.75),
  },
  'normal above -1': {
    draw: (noise: RowNoise) => noise.truncatedNormal(1, { low: -1, high: Infinity }),
    cdf: between(-1, Infinity),
  },
  'normal beyond -4': {
    draw: (noise: RowNoise) => noise.truncatedNormal(1, { low: -Infinity, high: -4 }),
    cdf: between(-Infinity, -4),
  },
};

describe('10,000 numbers pass Kolmogorov and Smirnov at p > 0.01', () => {
  describe.each(Object.entries(kinds))('%s', (_, { draw, cdf }) => {
    test('one of each trajectory', () => {
      const { data } = draw(new RowNoise(20240, Stream.model, 0, ids));
      expect(ksStatistic(data, cdf)).toBeLessThan(ksCritical(N));
    });

    test('one of each step', () => {
      const own = Uint32Array.of(3);
      const data = Float32Array.from(
        ids,
        (step) => draw(new RowNoise(20241, Stream.policy, step, own)).data[0],
      );
      expect(ksStatistic(data, cdf)).toBeLessThan(ksCritical(N));
    });
  });

  test('and where the distribution is a little wrong they do not', () => {
    const { data } = new RowNoise(20240, Stream.model, 0, ids).normal(1);
    // A shift of 0.05 moves 0.02 of the numbers over the mean; scipy.stats.kstwo.ppf(0.99, 10000) ==
    // 0.016259280113043572.
    expect(ksStatistic(data, (x) => normalCdf(x - 0.05))).toBeGreaterThan(ksCritical(N));
  });
});

describe('10,000 numbers pass chi-squared at p > 0.01', () => {
  test('uniform ones in 100 bins', () => {
    const { data } = new RowNoise(20242, Stream.model, 0, ids).uniform(1);
    const counts = new Float64Array(100);
    for (const x of data) counts[Math.floor(x * 100)]++;
    // scipy.stats.chi2.ppf(0.99, 99) == 134.64161685578972
    expect(chiSquared(counts, Array(100).fill(N / 100))).toBeLessThan(134.642);
  });

  test('the largest of logits plus Gumbel noise, a draw from their softmax', () => {
    const logits = [0, 1, -1, 2, 0.5, -2];
    const { data } = new RowNoise(20243, Stream.model, 0, ids).gumbel(logits.length);
    const counts = new Float64Array(logits.length);
    for (let row = 0; row < N; row++) {
      const scores = logits.map((logit, k) => logit + data[row * logits.length + k]);
      counts[scores.indexOf(Math.max(...scores))]++;
    }
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const expected = logits.map((logit) => (N * Math.exp(logit)) / total);
    // scipy.stats.chi2.ppf(0.99, 5) == 15.08627246938899
    expect(chiSquared(counts, expected)).toBeLessThan(15.086);
  });

  test.each([
    ['choice', (step: number, n: number, k: number) => choice(20244, n, k, { step })],
    [
      'gumbelTopK of equal logits',
      (step: number, n: number, k: number) => gumbelTopK(20245, Array(n).fill(0), k, { step }),
    ],
  ])('the members of a %s', (_, choose) => {
    const [n, k] = [20, 6];
    const members = new Float64Array(n);
    const firsts = new Float64Array(n);
    for (let step = 0; step < N; step++) {
      const chosen = choose(step, n, k);
      firsts[chosen[0]]++;
      for (const member of chosen) members[member]++;
    }
    // The members of one choice differ from each other, which lessens the spread of their counts by
    // (n - k) / (n - 1). scipy.stats.chi2.ppf(0.99, 19) == 36.19086912927004
    const spread = (n - k) / (n - 1);
    expect(chiSquared(members, Array(n).fill((N * k) / n)) / spread).toBeLessThan(36.19);
    expect(chiSquared(firsts, Array(n).fill(N / n))).toBeLessThan(36.19);
  });
});

describe('numbers of different names are uncorrelated', () => {
  const other = Uint32Array.from(ids, (id) => id + N);
  const width = 8;
  const column = (data: Float32Array, c: number) => Array.from(ids, (i) => data[i * width + c]);

  // Four standard errors, 1 / sqrt(n) each: a true pair exceeds them once in 16,000.
  const BOUND = 4 / Math.sqrt(N);

  test.each([
    ['seeds', new RowNoise(8, 1, 5, ids), 0],
    ['streams', new RowNoise(7, 2, 5, ids), 0],
    ['steps', new RowNoise(7, 1, 6, ids), 0],
    ['trajectories', new RowNoise(7, 1, 5, other), 0],
    [
      'neighbouring trajectories',
      new RowNoise(
        7,
        1,
        5,
        ids.map((id) => id + 1),
      ),
      0,
    ],
    ['draws', new RowNoise(7, 1, 5, ids), 1],
  ])('%s', (_, noise, draw) => {
    const own = new RowNoise(7, 1, 5, ids);
    for (const kind of ['uniform', 'normal', 'gumbel', 'truncatedNormal'] as const) {
      const a = own[kind](1).data;
      const b = noise[kind](1, { draw }).data;
      expect(Math.abs(correlation(a, b))).toBeLessThan(BOUND);
      // The squares of normal numbers tell of a common radius that their signs hide.
      const squares = [a, b].map((data) => data.map((x) => x * x));
      expect(Math.abs(correlation(squares[0], squares[1]))).toBeLessThan(BOUND);
    }
  });

  test('columns', () => {
    for (const kind of ['uniform', 'normal', 'gumbel', 'truncatedNormal'] as const) {
      const { data } = new RowNoise(7, 1, 5, ids)[kind](width);
      for (let a = 0; a < width; a++) {
        for (let b = 0; b < a; b++) {
          expect(Math.abs(correlation(column(data, a), column(data, b)))).toBeLessThan(BOUND);
        }
      }
    }
  });
});
