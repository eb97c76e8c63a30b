import { gatherRows, nd, ShapeError, zeros } from 'umwelt';
import { Categorical } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/distributions.json' with { type: 'json' };
import { noiseFor } from './noise-for.js';

const ids = (length: number) => Uint32Array.from({ length }, (_, i) => i);
const { NaN: nan, NEGATIVE_INFINITY: never, POSITIVE_INFINITY: infinity } = Number;

describe.each(golden.categorical.cases)('a categorical: $name', (expected) => {
  const { unimix } = expected;
  const p = new Categorical(nd(expected.logits), { unimix });
  const q = new Categorical(nd(expected.other), { unimix });
  // Results are float32.
  const float32 = { rtol: 1e-6, atol: 1e-7 };

  test('has the probabilities, entropy and divergence that PyTorch computed', () => {
    expect(p.probs().data).toBeAllclose(expected.probs.flat(3), { rtol: 1e-6, atol: 1e-30 });
    expect(p.entropy()).toBeAllclose(expected.entropy, float32);
    expect(p.kl(q)).toBeAllclose(expected.kl, float32);
    expect([...p.kl(p)]).toEqual(expected.kl.map(() => 0));
  });

  test('has the log-probabilities that PyTorch computed, of indices and of one-hot rows', () => {
    const index = Int32Array.from(expected.index);
    expect(p.logProb(index)).toBeAllclose(expected.logProb, float32);
    const oneHot = zeros(p.shape);
    index.forEach((k, choice) => {
      oneHot.data[choice * p.classes + k] = 1;
    });
    expect(p.logProb(oneHot)).toBeBitEqual(p.logProb(index));
  });
});

describe('Categorical', () => {
  test('mixes in the uniform distribution', () => {
    // 0.99 * torch.softmax(torch.tensor([2., 0, 0, 0]), -1) + 0.01 / 4
    const { data } = new Categorical(nd([[2, 0, 0, 0]]), { unimix: 0.01 }).probs();
    const expected = [0.706622, 0.097793, 0.097793, 0.097793];
    expect(data).toBeAllclose(expected, { rtol: 0, atol: 1e-6 });
  });

  test('is uniform at unimix 1, whatever the logits', () => {
    const uniform = new Categorical(nd([[never, 90, 0, -3]]), { unimix: 1 });
    expect([...uniform.probs().data]).toEqual([0.25, 0.25, 0.25, 0.25]);
    expect(uniform.entropy()[0]).toBeCloseTo(Math.log(4), 6);
  });

  test.each([0, 0.01, 0.5])('samples by its probabilities, unimix %d', (unimix) => {
    const rows = 20000;
    const one = nd([
      [
        [1, 0, -1, 2],
        [0, 0, -8, 0],
      ],
    ]);
    const logits = gatherRows(one, new Int32Array(rows));
    const distribution = new Categorical(logits, { unimix });
    const index = distribution.sampleIndex(noiseFor(distribution, ids(rows), 12));
    const counts = new Float64Array(8);
    index.forEach((k, choice) => {
      counts[(choice % 2) * 4 + k]++;
    });
    const probs = distribution.probs().data;
    let chiSquared = 0;
    for (let i = 0; i < 8; i++)
      chiSquared += (counts[i] - rows * probs[i]) ** 2 / (rows * probs[i]);
    // scipy.stats.chi2.ppf(0.999, 6) == 22.457744484825323
    expect(chiSquared).toBeLessThan(22.4577);
  });

  test('takes the largest of log-probability plus noise', () => {
    const distribution = new Categorical(nd([[Math.log(0.5), Math.log(0.3), Math.log(0.2)]]));
    // ln 0.5 - ln 0.3 = 0.51, ln 0.5 - ln 0.2 = 0.92
    expect([...distribution.sampleIndex(nd([[0, 0.5, 0.9]]))]).toEqual([0]);
    expect([...distribution.sampleIndex(nd([[0, 0.52, 0.9]]))]).toEqual([1]);
    expect([...distribution.sampleIndex(nd([[0, 0.5, 0.93]]))]).toEqual([2]);
    expect([...distribution.sample(nd([[0, 0.5, 0.93]])).data]).toEqual([0, 0, 1]);
  });

  test('has no class to give for NaN noise', () => {
    const distribution = new Categorical(zeros([3, 2]), { unimix: 0.01 });
    const noise = nd([
      [0, 1],
      [nan, 1],
      [1, 0],
    ]);
    expect([...distribution.sampleIndex(noise)]).toEqual([1, -1, 0]);
    expect([...new Categorical(zeros([3, 2])).sampleIndex(noise)]).toEqual([1, -1, 0]);
  });

  test('gives samples and modes one-hot and as indices, alike', () => {
    const logits = nd(
      Float32Array.from({ length: 60 }, (_, i) => Math.sin(i)),
      [4, 3, 5],
    );
    const distribution = new Categorical(logits, { unimix: 0.01 });
    expect(distribution.noiseWidth).toBe(15);
    const noise = noiseFor(distribution, ids(4));
    for (const [view, index] of [
      [distribution.sample(noise), distribution.sampleIndex(noise)],
      [distribution.mode(), distribution.modeIndex()],
    ] as const) {
      expect(view.shape).toEqual([4, 3, 5]);
      expect(index.length).toBe(12);
      index.forEach((k, choice) => {
        const row = [0, 0, 0, 0, 0];
        row[k] = 1;
        expect([...view.data.subarray(choice * 5, choice * 5 + 5)]).toEqual(row);
      });
    }
    const shaped = distribution.sample(nd(noise.data, [4, 3, 5]));
    expect(shaped.data).toBeBitEqual(distribution.sample(noise).data);
  });

  test('takes the first of equal modes', () => {
    expect([...new Categorical(nd([[0, 3, 3, 1]])).modeIndex()]).toEqual([1]);
  });

  test('rules classes out whose logit is -Infinity', () => {
    const masked = new Categorical(nd([[0, never, 0]]));
    const free = new Categorical(nd([[0, 0, 0]]));
    expect([...masked.probs().data]).toEqual([0.5, 0, 0.5]);
    expect([...masked.sampleIndex(nd([[0, 1000, 1]]))]).toEqual([2]);
    expect(masked.entropy()[0]).toBeCloseTo(Math.LN2, 6);
    expect([...masked.logProb(Int32Array.of(1))]).toEqual([never]);
    expect(masked.logProb(nd([[0, 0, 1]]))[0]).toBeCloseTo(-Math.LN2, 6);
    expect(masked.kl(free)[0]).toBeCloseTo(Math.log(1.5), 6);
    expect([...free.kl(masked)]).toEqual([infinity]);
    expect([...masked.kl(masked)]).toEqual([0]);
  });

  test.each([[[0, nan, 1]], [[nan, 0, 1]], [[0, infinity, 1]], [[never, never, never]]])(
    'has no class to give for logits %j, and says -1 and NaN',
    (bad) => {
      for (const unimix of [0, 0.01]) {
        const logits = nd([[0, 9, 0], bad, [0, 0, 9]]);
        const distribution = new Categorical(logits, { unimix });
        const noise = zeros([3, 3]);
        expect([...distribution.sampleIndex(noise)]).toEqual([1, -1, 2]);
        expect([...distribution.modeIndex()]).toEqual([1, -1, 2]);
        expect([...distribution.sample(noise).data]).toEqual([0, 1, 0, nan, nan, nan, 0, 0, 1]);
        const index = distribution.sampleIndex(noise);
        const oneHot = nd([
          [0, 1, 0],
          [1, 0, 0],
          [0, 0, 1],
        ]);
        const clean = new Categorical(
          nd([
            [0, 9, 0],
            [0, 0, 0],
            [0, 0, 9],
          ]),
          { unimix },
        );
        for (const values of [
          distribution.logProb(index),
          distribution.logProb(oneHot),
          distribution.entropy(),
          distribution.kl(clean),
          clean.kl(distribution),
          clean.logProb(index),
        ]) {
          expect(Array.from(values, Number.isNaN)).toEqual([false, true, false]);
        }
      }
    },
  );

  test('stays exact for logits far apart', () => {
    const distribution = new Categorical(nd([[3e4, 0, -3e4]]));
    expect([...distribution.logProb(Int32Array.of(2))]).toEqual([-6e4]);
    expect([...distribution.entropy()]).toEqual([0]);
  });

  test('refuses logits, shares and class numbers outside of their ranges', () => {
    expect(() => new Categorical(zeros([3]))).toThrow(ShapeError);
    expect(() => new Categorical(zeros([3, 0]))).toThrow(ShapeError);
    expect(() => new Categorical(zeros([1, 1, 1, 2]))).toThrow(
      'Categorical: logits must have shape [B, K] or [B, S, K] with K > 0, got [1,1,1,2]',
    );
    for (const unimix of [-0.1, 1.1, nan]) {
      expect(() => new Categorical(zeros([1, 2]), { unimix })).toThrow(
        `Categorical: unimix must be in 0..1, got ${unimix}`,
      );
    }
    const distribution = new Categorical(zeros([2, 3, 4]));
    expect(() => distribution.logProb(new Int32Array(2))).toThrow(
      'Categorical: value must hold 6 class numbers, got 2',
    );
    expect(() => distribution.logProb(Int32Array.of(0, 0, 0, 0, 4, 0))).toThrow(
      'Categorical: a class number must be in 0..3, got 4 at 4',
    );
    expect(() => distribution.logProb(new Int32Array(6).fill(-2))).toThrow(RangeError);
  });
});
