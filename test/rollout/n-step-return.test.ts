import fc from 'fast-check';
import { nd, ShapeError, zeros } from 'umwelt';
import { lambdaReturn, nStepReturn } from 'umwelt/rollout';
import { nStepTargets, ReplayBuffer } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { cases, departure, doubled, flags, imagined, strided } from './return-cases.js';

const float32 = { rtol: 1e-6, atol: 1e-5 };

describe('nStepReturn', () => {
  test('is n discounted rewards and the discounted value after them', () => {
    const options = { terminated: zeros([1, 3]), n: 3, gamma: 0.99 };
    // python -c "print(1 + .99 * 2 + .99**2 * 3, .99**3)" -> 5.9203 0.970299
    const rewards = nStepReturn({ ...options, reward: nd([[1, 2, 3]]), value: zeros([1, 4]) });
    expect(rewards.data[0]).toBe(Math.fround(5.9203));
    const value = nStepReturn({ ...options, reward: zeros([1, 3]), value: nd([[9, 9, 9, 1]]) });
    expect(value.data[0]).toBe(Math.fround(0.970299));
  });

  test('with n 1 is the one-step target, and with n of the whole row the lambda-return of 1', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        expect(nStepReturn({ ...options, n: 1 }).data).toBeAllclose(
          lambdaReturn({ ...options, lambda: 0 }).data,
          float32,
        );
        expect(nStepReturn({ ...options, n: 20 }).data).toBeAllclose(
          lambdaReturn({ ...options, lambda: 1 }).data,
          float32,
        );
      }),
    );
  });

  test('averages exponentially to the lambda-return', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const { lambda } = batch;
        const longest = 8;
        const sum = new Float64Array(options.reward.data.length);
        for (let n = 1; n <= longest; n++) {
          const share = lambda ** (n - 1) * (n === longest ? 1 : 1 - lambda);
          const returns = nStepReturn({ ...options, n }).data;
          for (let i = 0; i < sum.length; i++) sum[i] += share * returns[i];
        }
        expect(lambdaReturn(options).data).toBeAllclose(sum, { rtol: 2e-6, atol: 2e-5 });
      }),
      { numRuns: 200 },
    );
  });

  test('agrees with the targets of stored rows', () => {
    const kinds = fc.constantFrom('', '', '', 'terminated', 'truncated');
    fc.assert(
      fc.property(
        fc.array(fc.record({ reward: fc.integer({ min: -9, max: 9 }), kind: kinds }), {
          minLength: 1,
          maxLength: 9,
        }),
        fc.integer({ min: 1, max: 5 }),
        (rows, n) => {
          const flag = (kind: string) => Uint8Array.from(rows, (r) => (r.kind === kind ? 1 : 0));
          const batch = {
            reward: Float32Array.from(rows, ({ reward }) => reward),
            terminated: flag('terminated'),
            truncated: flag('truncated'),
          };
          const buffer = new ReplayBuffer({
            capacity: 9,
            schema: { reward: 'float32', terminated: 'uint8', truncated: 'uint8' },
          });
          buffer.addBatch(batch);
          const index = Int32Array.from(rows, (_, i) => i);
          const targets = nStepTargets(buffer, index, { n, gamma: 0.5 });
          const value = Float32Array.from([...rows, 0], (_, i) => 3 * i + 1);
          const expected = Array.from(
            index,
            (i) => targets.reward[i] + targets.discount[i] * value[targets.last[i] + 1],
          );
          const row = <T extends Uint8Array | Float32Array>(data: T) => nd(data, [1, rows.length]);
          const returns = nStepReturn({
            reward: row(batch.reward),
            terminated: row(batch.terminated),
            truncated: row(batch.truncated),
            value: nd(value, [1, value.length]),
            n,
            gamma: 0.5,
          });
          expect(returns.data).toBeAllclose(expected, float32);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('takes a trajectory as it is, and gives 0 for padding', () => {
    const returns = nStepReturn({ ...imagined(), n: 2, gamma: 0.5 });
    expect([...returns.data]).toEqual([
      ...[1 + 0.5 * 2, 2, 0],
      ...[3 + 0.5 * 4 + 0.25 * 60, 4 + 0.5 * 5 + 0.25 * 80, 5 + 0.5 * 80],
      ...[0, 0, 0],
    ]);
  });

  test('does not let a value through an end or a cut that it has no share in', () => {
    const nan = Number.NaN;
    const batch = { reward: nd([[1, 2]]), n: 2, gamma: 0.5 };
    const ended = { ...batch, terminated: flags([[1, 0]]), value: nd([[nan, nan, 4]]) };
    expect([...nStepReturn(ended).data]).toEqual([1, 4]);
    expect(nStepReturn({ ...ended, n: 1 }).data[0]).toBe(1);
    const cut = { ...batch, terminated: zeros([1, 2]), last: flags([[1, 0]]) };
    expect([...nStepReturn({ ...cut, value: nd([[nan, 4, nan]]) }).data]).toEqual([3, nan]);
  });

  test('reads views of any stride and type', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = { ...departure(batch), n: 3 };
        const { reward, value, terminated, last } = options;
        const odd = {
          ...{ reward: strided(reward), value: doubled(value) },
          ...{ terminated: strided(terminated), last: strided(last) },
        };
        expect(nStepReturn({ ...options, ...odd })).toEqual(nStepReturn(options));
      }),
    );
  });

  test('of no rows or no steps is empty', () => {
    const batch = (rows: number, steps: number) => ({
      reward: zeros([rows, steps]),
      terminated: zeros([rows, steps]),
      value: zeros([rows, steps + 1]),
      ...{ n: 2, gamma: 1 },
    });
    expect(nStepReturn(batch(0, 3)).shape).toEqual([0, 3]);
    expect(nStepReturn(batch(2, 0)).shape).toEqual([2, 0]);
  });

  test('throws for arrays and numbers of another kind', () => {
    const [reward, terminated, value] = [zeros([2, 3]), zeros([2, 3]), zeros([2, 4])];
    const good = { reward, terminated, value, n: 2, gamma: 1 };
    expect(() => nStepReturn({ ...good, n: 0 })).toThrow('n must be a positive integer, got 0');
    expect(() => nStepReturn({ ...good, n: 1.5 })).toThrow(RangeError);
    expect(() => nStepReturn({ ...good, gamma: Number.NaN })).toThrow(RangeError);
    expect(() => nStepReturn({ ...good, value: reward })).toThrow(ShapeError);
    expect(() => nStepReturn({ ...good, value: undefined })).toThrow('passed to imagine');
    expect(() => nStepReturn({ ...good, terminated: undefined })).toThrow(
      'terminated or discount must be given',
    );
  });
});
