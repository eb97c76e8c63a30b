import fc from 'fast-check';
import { nd, zeros } from 'umwelt';
import { DiagonalGaussian, TanhGaussian } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/distributions.json' with { type: 'json' };

const float32 = { rtol: 1e-6, atol: 1e-7 };
const { tanh_gaussian: expected } = golden;

describe('TanhGaussian', () => {
  const p = new TanhGaussian(nd(expected.mean), { logStd: nd(expected.logStd) });

  test('has the samples, mode and log-densities that PyTorch computed', () => {
    const { action, logProb } = p.sampleWithLogProb(nd(expected.noise));
    expect(action.data).toBeAllclose(expected.sample.flat(), float32);
    expect(logProb).toBeAllclose(expected.sampleLogProb, float32);
    expect(p.sample(nd(expected.noise)).data).toBeBitEqual(action.data);
    expect(p.mode().data).toBeAllclose(expected.mode.flat(), float32);
    expect(p.logProb(nd(expected.action))).toBeAllclose(expected.logProb, float32);
  });

  test('has one log-density for a sample and for the same action given, where tanh is not saturated', () => {
    const value = (size: number) => fc.float({ min: -size, max: size, noNaN: true });
    fc.assert(
      fc.property(value(1), value(1), value(2), (mean, logStd, noise) => {
        fc.pre(Math.abs(mean + Math.exp(logStd) * noise) < 3);
        const head = new TanhGaussian(nd([[mean]]), { logStd: nd([[logStd]]) });
        const { action, logProb } = head.sampleWithLogProb(nd([[noise]]));
        // At |u| = 3 a float32 action stands for u to 6e-6, and the density's slope there is below 20.
        expect(head.logProb(action)).toBeAllclose(logProb, { rtol: 0, atol: 1.2e-4 });
      }),
      { numRuns: 1000, seed: 9 },
    );
  });

  test('keeps the log-density exact where tanh saturates', () => {
    const head = new TanhGaussian(nd([[30], [-30]]), { std: nd([[1], [1]]) });
    const { action, logProb } = head.sampleWithLogProb(zeros([2, 1]));
    expect([...action.data]).toEqual([1, -1]);
    // -0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 30) == 57.69476710567558
    expect([...logProb]).toBeAllclose([57.69476710567558, 57.69476710567558], float32);
  });

  test('takes an action of 1 for the float32 below it, and rules out what lies beyond', () => {
    const head = new TanhGaussian(zeros([4, 1]), { std: nd([[2], [2], [2], [2]]) });
    const below = 1 - 2 ** -24;
    const logProb = head.logProb(nd([[1], [below], [-1], [1.0000002]]));
    expect(Number.isFinite(logProb[0])).toBe(true);
    expect(logProb[0]).toBe(logProb[1]);
    expect(logProb[2]).toBe(logProb[0]);
    expect(logProb[3]).toBe(Number.NEGATIVE_INFINITY);
    expect(head.logProb(nd([[Number.NaN], [0], [0], [0]]))[0]).toBeNaN();
  });

  test('means the same by a standard deviation and by its logarithm', () => {
    const noise = nd([[0.5, -1]]);
    const mean = nd([[0.25, -0.5]]);
    const one = new TanhGaussian(mean, { std: nd([[1, 2]]) }).sampleWithLogProb(noise);
    const two = new TanhGaussian(mean, { logStd: nd([[0, Math.LN2]]) }).sampleWithLogProb(noise);
    expect(one.action.data).toBeAllclose(two.action.data, float32);
    expect(one.logProb).toBeAllclose(two.logProb, float32);
  });

  test('has the divergence of the Gaussians before squashing', () => {
    const q = new TanhGaussian(nd(expected.logStd), { logStd: nd(expected.mean) });
    const base = (mean: number[][], logStd: number[][]) =>
      new DiagonalGaussian(nd(mean), { logStd: nd(logStd) });
    expect(p.kl(q)).toBeBitEqual(
      base(expected.mean, expected.logStd).kl(base(expected.logStd, expected.mean)),
    );
  });
});
