import fc from 'fast-check';
import { nd, ShapeError, zeros } from 'umwelt';
import { discountedReturn } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { cases, departure, doubled, flags, imagined, strided } from './return-cases.js';

describe('discountedReturn', () => {
  test('sums what comes from each step on', () => {
    // python -c "print(1 + .99 * 2 + .99**2 * 3, 2 + .99 * 3)" -> 5.9203 4.97
    const { toGo, total } = discountedReturn({ reward: nd([[1, 2, 3]]), gamma: 0.99 });
    expect(toGo.data).toBeBitEqual(Float32Array.of(5.9203, 4.97, 3));
    expect(total).toBeBitEqual(Float32Array.of(5.9203));
  });

  test('is the sum along each episode, and the total is the first', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const { reward, terminated, last, mask, gamma } = batch;
        const expected = reward.flatMap((row, b) =>
          row.map((_, start) => {
            let sum = 0;
            let factor = mask[b][start];
            for (let t = start; t < row.length && factor !== 0; t++) {
              sum += factor * row[t];
              factor *= gamma * (1 - terminated[b][t]) * (1 - last[b][t]);
              if (mask[b][t + 1] === 0) break;
            }
            return sum;
          }),
        );
        const { toGo, total } = discountedReturn(departure(batch));
        expect(toGo.data).toBeAllclose(expected, { rtol: 1e-6, atol: 1e-5 });
        const first = reward.map((row, b) => toGo.data[b * row.length]);
        expect(total).toBeBitEqual(Float32Array.from(first));
      }),
      { numRuns: 200 },
    );
  });

  test('takes a trajectory as it is, with its bootstrap', () => {
    const { toGo, total } = discountedReturn({ ...imagined(), gamma: 0.5 });
    expect([...toGo.data]).toEqual([
      ...[2, 2, 0],
      ...[3 + 0.5 * 26.5, 4 + 0.5 * 45, 5 + 0.5 * 80],
      ...[0, 0, 0],
    ]);
    expect([...total]).toEqual([2, 16.25, 0]);
    const collected = discountedReturn({ ...imagined(), gamma: 0.5, bootstrap: undefined });
    expect([...collected.total]).toEqual([2, 3 + 0.5 * (4 + 0.5 * 5), 0]);
  });

  test('bootstraps after the last step before padding, not after one that terminated', () => {
    const options = {
      reward: nd([
        [1, 2, 0],
        [1, 2, 0],
      ]),
      terminated: flags([
        [0, 0, 0],
        [0, 1, 0],
      ]),
      mask: flags([
        [1, 1, 0],
        [1, 1, 0],
      ]),
      bootstrap: Float32Array.of(8, Number.NaN),
      gamma: 0.5,
    };
    expect([...discountedReturn(options).total]).toEqual([1 + 0.5 * (2 + 0.5 * 8), 2]);
  });

  test('does not let a reward through an end or a cut', () => {
    const batch = { reward: nd([[1, Number.NaN]]), gamma: 0.5 };
    for (const name of ['terminated', 'last', 'truncated']) {
      expect(discountedReturn({ ...batch, [name]: flags([[1, 0]]) }).total[0]).toBe(1);
    }
  });

  test('throws where one bootstrap would have to stand for several episodes', () => {
    const options = {
      reward: nd([[1, 2, 3]]),
      truncated: flags([[0, 1, 0]]),
      bootstrap: Float32Array.of(8),
      gamma: 0.5,
    };
    expect(() => discountedReturn(options)).toThrow(
      'a row with a bootstrap must be one episode, got row 0 cut at step 1; lambdaReturn',
    );
    // A terminated step needs no value.
    const ended = { ...options, terminated: flags([[0, 1, 0]]) };
    expect([...discountedReturn(ended).toGo.data]).toEqual([2, 2, 7]);
  });

  test('reads views of any stride and type', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const { reward, terminated, last } = options;
        const expected = discountedReturn(options);
        const odd = {
          ...{ reward: strided(reward), terminated: doubled(terminated) },
          last: strided(last),
        };
        expect(discountedReturn({ ...options, ...odd })).toEqual(expected);
      }),
    );
  });

  test('of no rows or no steps is empty or 0', () => {
    const none = discountedReturn({ reward: zeros([0, 3]), gamma: 1 });
    expect([none.toGo.shape, none.total.length]).toEqual([[0, 3], 0]);
    const still = discountedReturn({ reward: zeros([2, 0]), gamma: 1 });
    expect([still.toGo.shape, [...still.total]]).toEqual([
      [2, 0],
      [0, 0],
    ]);
  });

  test('throws for arrays and factors of another kind', () => {
    const reward = zeros([2, 3]);
    expect(() => discountedReturn({ reward, gamma: -1 })).toThrow(RangeError);
    expect(() => discountedReturn({ reward, gamma: 1, last: zeros([3, 2]) })).toThrow(ShapeError);
    expect(() => discountedReturn({ reward, gamma: 1, bootstrap: new Float32Array(3) })).toThrow(
      'discountedReturn: bootstrap must have 2 entries, got 3',
    );
    expect(() => discountedReturn({ reward, gamma: 1, bootstrap: 0 as never })).toThrow(
      'bootstrap must be a Float32Array [B], got number',
    );
  });
});
