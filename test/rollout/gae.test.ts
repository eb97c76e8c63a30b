import fc from 'fast-check';
import { nd, ShapeError, zeros } from 'umwelt';
import { gae, lambdaReturn } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { cases, departure, doubled, flags, imagined, strided } from './return-cases.js';

const float32 = { rtol: 1e-6, atol: 1e-5 };

describe('gae', () => {
  test('is TorchRL’s, over ends, truncations and resets', () => {
    // from torchrl.objectives.value.functional import generalized_advantage_estimate  # 0.14.1
    // generalized_advantage_estimate(.97, .9, value, nextValue, reward, terminated | truncated,
    //   terminated)  # float64 [2, 6, 1] each
    const { advantage, target } = gae({
      reward: nd([
        [1, -2, 3, 0.5, 0, 2],
        [0, 1, 1, -1, 4, 0.25],
      ]),
      value: nd([
        [0.5, 1, -1, 2, 0, 3],
        [1, 2, 0.5, 0.75, -2, 1.5],
      ]),
      nextValue: nd([
        [1, -1, 2, 8, 3, 4],
        [2, 0.5, 0.75, 9, 1.5, -1],
      ]),
      terminated: flags([
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1],
      ]),
      truncated: flags([
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
      ]),
      gamma: 0.97,
      lambda: 0.9,
    });
    // Its gamma is a float32 of 0.97, hence 3e-8 beside the decimal one.
    expect(advantage.data).toBeAllclose(
      [
        -1.9958100985908516, -3.9700000286102295, 4.630500018596649, -1.5, 5.424240259895328,
        2.880000114440918, 6.069982604398131, 5.87626849469464, 7.3210404259777135,
        6.980000257492065, 6.363750010728836, -1.25,
      ],
      { rtol: 2e-7 },
    );
    expect(target.data).toBeAllclose(
      [
        -1.4958100985908516, -2.9700000286102295, 3.630500018596649, 0.5, 5.424240259895328,
        5.880000114440918, 7.069982604398131, 7.87626849469464, 7.8210404259777135,
        7.730000257492065, 4.363750010728836, 0.25,
      ],
      { rtol: 2e-7 },
    );
  });

  test('is CleanRL’s where every end counts as terminated', () => {
    // def cleanrl(r, v, last_v, done, gamma, lam):  # done[t] after step t
    //   adv = np.zeros(len(r)); run = 0.
    //   for t in reversed(range(len(r))):
    //     nn = 1. - done[t]; nextv = last_v if t == len(r) - 1 else v[t + 1]
    //     adv[t] = run = r[t] + gamma * nextv * nn - v[t] + gamma * lam * nn * run
    // cleanrl([1, -2, 3, .5], [.5, 1, -1, 2], 4., [0, 1, 0, 0], .99, .95)
    const { advantage } = gae({
      reward: nd([[1, -2, 3, 0.5]]),
      value: nd([[0.5, 1, -1, 2, 4]]),
      terminated: flags([[0, 1, 0, 0]]),
      gamma: 0.99,
      lambda: 0.95,
    });
    expect(advantage.data).toBeAllclose([-1.3315, -3.0, 8.29363, 2.46], { rtol: 2e-7 });
  });

  test('plus the value is the lambda-return', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const { advantage, target } = gae(options);
        const returns = lambdaReturn(options).data;
        expect(target.data).toBeAllclose(returns, float32);
        const sum = batch.reward.flatMap((row, b) =>
          row.map((_, t) => advantage.data[b * row.length + t] + batch.value[b][t]),
        );
        const valid = (numbers: ArrayLike<number>) =>
          Array.from(numbers).filter((_, i) => options.mask.data[i] === 1);
        expect(valid(sum)).toBeAllclose(valid(returns), float32);
      }),
      { numRuns: 200 },
    );
  });

  test('takes the values after steps apart', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const value = nd(batch.value.map((row) => row.slice(0, -1)));
        const nextValue = nd(batch.value.map((row) => row.slice(1)));
        expect(gae({ ...options, value, nextValue })).toEqual(gae(options));
      }),
    );
  });

  test('takes a trajectory as it is, and gives 0 for padding', () => {
    const { advantage, target } = gae({ ...imagined(), gamma: 0.5, lambda: 0 });
    expect([...target.data]).toEqual([1 + 10, 2, 0, 3 + 25, 4 + 30, 5 + 40, 0, 0, 0]);
    expect([...advantage.data]).toEqual([1, 2 - 20, 0, 28 - 40, 34 - 50, 45 - 60, 0, 0, 0]);
  });

  test('does not let a value through an end or a cut that it has no share in', () => {
    const nan = Number.NaN;
    const batch = { reward: nd([[1, 2]]), gamma: 0.5, lambda: 0.5 };
    const ended = { ...batch, terminated: flags([[1, 0]]), value: nd([[4, nan, 4]]) };
    expect(gae(ended).advantage.data[0]).toBe(1 - 4);
    const cut = { ...batch, terminated: zeros([1, 2]), last: flags([[1, 0]]) };
    expect(gae({ ...cut, value: nd([[4, 8, nan]]) }).advantage.data[0]).toBe(1 + 4 - 4);
  });

  test('reads views of any stride and type', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const { reward, value, terminated, last, mask } = options;
        const odd = {
          ...{ reward: doubled(reward), value: strided(value), terminated: strided(terminated) },
          ...{ last: strided(last), mask: strided(mask) },
        };
        expect(gae({ ...options, ...odd })).toEqual(gae(options));
      }),
    );
  });

  test('of no rows or no steps is empty', () => {
    const batch = (rows: number, steps: number) => ({
      reward: zeros([rows, steps]),
      terminated: zeros([rows, steps]),
      value: zeros([rows, steps + 1]),
      ...{ gamma: 1, lambda: 1 },
    });
    expect(gae(batch(0, 3)).advantage.shape).toEqual([0, 3]);
    expect(gae(batch(2, 0)).target.shape).toEqual([2, 0]);
  });

  test('throws for arrays and numbers of another kind', () => {
    const [reward, terminated, value] = [zeros([2, 3]), zeros([2, 3]), zeros([2, 4])];
    const good = { reward, terminated, value, gamma: 1, lambda: 1 };
    expect(() => gae({ ...good, lambda: 2 })).toThrow('lambda must be a number in [0, 1], got 2');
    expect(() => gae({ ...good, value: reward })).toThrow('or give nextValue');
    expect(() => gae({ ...good, nextValue: reward })).toThrow(ShapeError);
    expect(() => gae({ ...good, value: undefined })).toThrow('passed to imagine');
    expect(() => gae({ ...good, terminated: undefined })).toThrow(TypeError);
  });
});
