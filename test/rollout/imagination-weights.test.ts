import fc from 'fast-check';
import { nd, ShapeError, zeros } from 'umwelt';
import { imaginationWeights } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { cases, departure, doubled, flags, imagined, strided } from './return-cases.js';

describe('imaginationWeights', () => {
  const discount = nd([[1, 0.997, 0.5, 0.9]]);

  test('is Dreamer’s', () => {
    // np.cumprod([1, .997, .5, .9])
    const weights = imaginationWeights({ discount, gamma: 1 });
    expect(weights.data).toBeAllclose([1, 0.997, 0.4985, 0.44865], { rtol: 1e-7 });
    // g = 1 - 1/333; np.cumprod(g * np.array([1, .997, .5, .9])) / g
    expect(imaginationWeights({ discount, gamma: 1 - 1 / 333 }).data).toBeAllclose(
      [1.0, 0.994006006006, 0.495510501492, 0.444620224312],
      { rtol: 1e-7 },
    );
  });

  test('begins with the start’s own continue, which contains the discount factor or not', () => {
    const con = nd([[0.75, 0.5]]);
    expect([...imaginationWeights({ discount: con, gamma: 1 }).data]).toEqual([0.75, 0.375]);
    expect([...imaginationWeights({ discount: con, gamma: 0.5 }).data]).toEqual([0.75, 0.1875]);
  });

  test('in departure alignment leaves out the step’s own factor, as dreamerv3-torch does', () => {
    // np.cumprod(np.concatenate([[1], .5 * np.array([1, .997, .5])]))
    const weights = imaginationWeights({ discount, gamma: 0.5, align: 'departure' });
    expect(weights.data).toBeAllclose([1, 0.5, 0.24925, 0.0623125], { rtol: 1e-7 });
  });

  test('of both alignments agree where the start has not ended', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure({ ...batch, mask: batch.mask.map((row) => row.map(() => 1)) });
        const arrival = imaginationWeights({
          terminated: nd(batch.terminated.map((row) => [0, ...row])),
          gamma: batch.gamma,
        });
        const weights = imaginationWeights(options);
        const steps = batch.reward[0].length;
        const first = batch.reward.flatMap((_, b) => [
          ...arrival.data.subarray(b * (steps + 1), b * (steps + 1) + steps),
        ]);
        expect(weights.data).toBeBitEqual(Float32Array.from(first));
      }),
    );
  });

  test('does not divide by a discount factor of 0', () => {
    expect([...imaginationWeights({ discount: nd([[1, 1]]), gamma: 0 }).data]).toEqual([1, 0]);
  });

  test('is 0 for padding, and takes a trajectory as it is', () => {
    const weights = imaginationWeights({ ...imagined(), gamma: 0.5, align: 'departure' });
    expect(weights.shape).toEqual([3, 3]);
    expect([...weights.data]).toEqual([...[1, 0.5, 0], ...[1, 0.5, 0.25], ...[0, 0, 0]]);
  });

  test('reads terminated of any type and stride, and a discount before it', () => {
    const terminated = flags([[0, 1, 0]]);
    const expected = Float32Array.of(1, 0, 0);
    const float = nd([[0, 1, 0]]);
    for (const view of [terminated, strided(terminated), float, strided(float), doubled(float)]) {
      expect(imaginationWeights({ terminated: view, gamma: 1 }).data).toBeBitEqual(expected);
    }
    const both = imaginationWeights({ terminated, discount: nd([[1, 1, 1]]), gamma: 1 });
    expect([...both.data]).toEqual([1, 1, 1]);
  });

  test('of no rows or no steps is empty', () => {
    expect(imaginationWeights({ discount: zeros([0, 3]), gamma: 1 }).shape).toEqual([0, 3]);
    expect(imaginationWeights({ discount: zeros([2, 0]), gamma: 1 }).shape).toEqual([2, 0]);
  });

  test('throws for arrays and factors of another kind', () => {
    expect(() => imaginationWeights({ gamma: 1 })).toThrow('terminated or discount must be given');
    expect(() => imaginationWeights({ discount, gamma: 2 })).toThrow('gamma must be a number in');
    expect(() => imaginationWeights({ discount: [1] as never, gamma: 1 })).toThrow(
      'imaginationWeights: discount must be a [B, T] view',
    );
    expect(() => imaginationWeights({ discount, mask: zeros([1, 3]), gamma: 1 })).toThrow(
      ShapeError,
    );
    expect(() => imaginationWeights({ discount, gamma: 1, align: 'both' as never })).toThrow(
      "align must be 'arrival' or 'departure'",
    );
  });
});
