import { nd, zeros } from 'umwelt';
import { criticValue } from 'umwelt/rollout';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';

const context = (ids: readonly number[], step = 0) => {
  const trajectory = Uint32Array.from(ids);
  return { step, trajectory, noise: new RowNoise(3, Stream.policy, step, trajectory) };
};

/** Linear critics: critic `n` gives `x + n a`. */
const critics =
  (count: number) =>
  ({ obs, action }: { obs: { data: Float32Array }; action: { data: Float32Array } }) =>
    nd(
      Float32Array.from({ length: obs.data.length * count }, (_, i) => {
        const row = Math.floor(i / count);
        return obs.data[row] + (i % count) * action.data[row];
      }),
      [obs.data.length, count],
    );

const obs = nd([[1], [-2], [3]]);
/** Always 10. */
const ten = () => nd(new Float32Array(3).fill(10), [3, 1]);

describe('the value of a state', () => {
  test.each([
    ['min', {}, [1, -2, 3]],
    ['mean', {}, [16, 13, 18]],
    ['max', {}, [31, 28, 33]],
    // deviations of 0, 10, 20, 30 from their mean: sqrt(500 / 4)
    ['mean-std', { beta: 2, ddof: 0 }, [16, 13, 18].map((m) => m - 2 * Math.sqrt(125))],
  ] as const)(
    'is the %s of the critics at the action of the policy',
    async (reduce, more, expected) => {
      const value = criticValue({ critics: critics(4), policy: ten, reduce, ...more });
      expect(await value(obs, context([0, 1, 2]))).toEqual(Float32Array.from(expected));
    },
  );

  test('takes critics beside each other and a policy that is an object', async () => {
    const policy = { ten, act: () => policy.ten() };
    const value = criticValue({ critics: [critics(2), critics(3)], policy, reduce: 'max' });
    expect(await value(obs, context([0, 1, 2]))).toEqual(Float32Array.of(21, 18, 23));
  });

  test('hands the policy the step, the ids and noise in its stream', async () => {
    const now = context([4, 5, 6], 9);
    const value = criticValue({
      critics: critics(2),
      policy: (_obs, { step, trajectory, noise }) => {
        expect({ step, trajectory }).toEqual({ step: 9, trajectory: now.trajectory });
        return { action: noise.normal(1) };
      },
      reduce: 'max',
    });
    const drawn = new RowNoise(3, Stream.policy, 9, now.trajectory).normal(1).data;
    const expected = obs.data.map((x, b) => Math.max(x, Math.fround(x + drawn[b])));
    expect(await value(obs, now)).toEqual(expected);
  });
});

describe('the mean of two random critics', () => {
  const value = criticValue({
    critics: critics(5),
    policy: ten,
    reduce: 'random-2-mean',
    pair: 'call',
  });

  test('is that of one pair for all rows of a call', async () => {
    const values = await value(obs, context([0, 1, 2]));
    const pair = values[0] - obs.data[0];
    expect(values).toEqual(obs.data.map((x) => x + pair));
    // two different ones of 0, 10, .., 40
    expect([5, 10, 15, 20, 25, 30, 35]).toContain(pair);
  });

  test('is another one from step to step', async () => {
    const seen = new Set<number>();
    for (let step = 0; step < 30; step++) seen.add((await value(obs, context([0, 1, 2], step)))[0]);
    expect(seen.size).toBeGreaterThan(3);
  });
});

test('for no rows asks nobody', async () => {
  const never = () => {
    throw new Error('asked');
  };
  const value = criticValue({ critics: never, policy: never });
  expect(await value(zeros([0, 1]), context([]))).toEqual(new Float32Array(0));
});

test.each([
  [{ reduce: 'median' as never }, /reduce/],
  [{ reduce: 'min', beta: 1 } as const, /beta must be left out/],
  [{ policy: 7 as never }, /policy/],
  [{ critic: critics(2) } as object, /critic/],
])('refuses %o', (options, message) => {
  expect(() => criticValue({ critics: critics(2), policy: ten, ...options })).toThrow(message);
});
