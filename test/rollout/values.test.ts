import { imagine, type NdView, nd, type Trajectory } from 'umwelt';
import { NonFiniteError, type ValueContext, type ValueFunction } from 'umwelt/rollout';
import { Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

/** Worth twice where it is. */
const double: ValueFunction = (obs) => obs.data.map((x) => 2 * x);

const valuesOf = ({ value }: Trajectory, row: number) => {
  const { data, shape } = value as NdView;
  return [...data.slice(row * shape[1], (row + 1) * shape[1])];
};

describe('a value function', () => {
  test('is asked once at the start and then once a step, of what was arrived at', async () => {
    const seen: { obs: number[]; context: ValueContext }[] = [];
    const start = nd([[5], [0]]);
    await imagine(lineWorld({ end: 7 }), constantly(1), {
      start,
      horizon: 3,
      seed: 4,
      trajectory: Uint32Array.of(8, 9),
      value: (obs, context) => {
        seen.push({ obs: [...obs.data], context });
        return double(obs, context);
      },
    }).collect();
    expect(seen.map(({ obs }) => obs)).toEqual([[5, 0], [6, 1], [7, 2], [3]]);
    expect(seen.map(({ context: { step } }) => step)).toEqual([0, 1, 2, 3]);
    expect(seen.map(({ context: { trajectory } }) => [...trajectory])).toEqual([
      [8, 9],
      [8, 9],
      [8, 9],
      [9],
    ]);
    for (const { context } of seen) {
      expect(context.noise).toMatchObject({ stream: Stream.policy, step: context.step });
      expect(context.noise.trajectory).toEqual(context.trajectory);
    }
  });

  test('is recorded with every observation, and stands for what follows the last', async () => {
    const dream = await imagine(lineWorld({ end: 7 }), constantly(1), {
      start: nd([[5], [0]]),
      horizon: 3,
      seed: 0,
      value: double,
    }).collect();
    expect(valuesOf(dream, 0)).toEqual([10, 12, 14, 0]);
    expect(valuesOf(dream, 1)).toEqual([0, 2, 4, 6]);
    // The first row terminated, the second was cut.
    expect(dream.bootstrap).toEqual(Float32Array.of(0, 6));
    const { value, nextValue } = dream.transitions();
    expect(value).toEqual(Float32Array.of(10, 12, 0, 2, 4));
    expect(nextValue).toEqual(Float32Array.of(12, 14, 2, 4, 6));
  });

  test('is streamed as the value before and after each step', async () => {
    const rollout = imagine(lineWorld({ end: 7 }), constantly(1), {
      start: nd([[5], [0]]),
      horizon: 3,
      seed: 0,
      value: async (obs, context) => double(obs, context),
    });
    const pairs = [];
    for await (const { value, nextValue } of rollout) pairs.push([value, nextValue]);
    expect(pairs).toEqual([
      [Float32Array.of(10, 0), Float32Array.of(12, 2)],
      [Float32Array.of(12, 2), Float32Array.of(14, 4)],
      [Float32Array.of(4), Float32Array.of(6)],
    ]);
  });

  test('of a row that was cut by a halt is its bootstrap, and of one that a halt ended is not', async () => {
    const detector = {
      score: Object.assign(() => new Float32Array(1), { needs: [] }),
      unknown: () => Uint8Array.of(1),
    };
    const bootstrap = async (as: 'truncated' | 'terminated') => {
      const options = { start: nd([[3]]), horizon: 3, seed: 0, value: double };
      const halt = { detector, as };
      return (await imagine(lineWorld(), constantly(1), { ...options, halt }).collect()).bootstrap;
    };
    expect(await bootstrap('truncated')).toEqual(Float32Array.of(8));
    expect(await bootstrap('terminated')).toEqual(Float32Array.of(0));
  });

  test('of a row whose result was dropped is that of its last observation', async () => {
    const world = lineWorld({ broken: (x) => x === 3 });
    const dream = await imagine(world, constantly(1), {
      start: nd([[1], [2], [Number.NaN]]),
      horizon: 4,
      seed: 0,
      value: double,
    }).collect();
    expect([...dream.length]).toEqual([1, 0, 0]);
    expect(valuesOf(dream, 0)).toEqual([2, 4, 0, 0, 0]);
    // A row of no steps has its start's value; one that never began has none.
    expect(dream.bootstrap).toEqual(Float32Array.of(4, 4, 0));
  });

  test('gives the start’s values for a horizon of 0', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      start: nd([[3], [4]]),
      horizon: 0,
      seed: 0,
      value: double,
    }).collect();
    expect(dream.value).toEqual(nd([[6], [8]]));
    expect(dream.bootstrap).toEqual(Float32Array.of(6, 8));
  });

  test('may answer in the same memory every time', async () => {
    const memory = new Float32Array(1);
    const thrifty: ValueFunction = (obs) => {
      memory[0] = 2 * obs.data[0];
      return memory;
    };
    const options = { start: nd([[3]]), horizon: 3, seed: 0 };
    const rollout = imagine(lineWorld(), constantly(1), { ...options, value: thrifty });
    expect(valuesOf(await rollout.collect(), 0)).toEqual([6, 8, 10, 12]);
  });

  test('changes nothing else', async () => {
    const options = { start: nd([[5], [0]]), horizon: 3, seed: 0 };
    const world = () => lineWorld({ sigma: 1, end: 7 });
    const { value, bootstrap, ...rest } = await imagine(world(), constantly(1), {
      ...options,
      value: double,
    }).collect();
    expect(rest).toEqual({ ...(await imagine(world(), constantly(1), options).collect()) });
  });

  test('gives the same numbers when a carry is started again', async () => {
    const noisy: ValueFunction = (_, { noise }) => noise.normal(1).data;
    const options = { start: nd([[5], [0]]), seed: 3, value: noisy };
    const whole = await imagine(lineWorld(), constantly(1), { ...options, horizon: 4 }).collect();
    const world = lineWorld();
    const first = imagine(world, constantly(1), { ...options, horizon: 2 });
    const before = await first.collect();
    const after = await imagine(world, constantly(1), {
      start: first.carry,
      horizon: 2,
      value: noisy,
    }).collect();
    for (let row = 0; row < 2; row++) {
      const parts = [...valuesOf(before, row), ...valuesOf(after, row).slice(1)];
      expect(valuesOf(whole, row)).toEqual(parts);
      expect(valuesOf(after, row)[0]).toBe(valuesOf(before, row)[2]);
    }
    expect(after.bootstrap).toEqual(whole.bootstrap);
  });
});

describe('a value that is not finite', () => {
  const undefinedAt =
    (at: number): ValueFunction =>
    (obs) =>
      obs.data.map((x) => (x === at ? Number.NaN : x));
  const options = { start: nd([[0], [10]]), horizon: 3, seed: 0 };

  test.each([true, false])(
    'ends its row before the step, counted (compact %s)',
    async (compact) => {
      const dream = await imagine(lineWorld(), constantly(1), {
        ...options,
        compact,
        value: undefinedAt(2),
      }).collect();
      expect(dream.nonFinite).toBe(1);
      expect([...dream.length]).toEqual([1, 3]);
      expect([...dream.truncated.data]).toEqual([1, 0, 0, 0, 0, 1]);
      expect(dream.bootstrap).toEqual(Float32Array.of(1, 13));
    },
  );

  test.each([true, false])(
    'at the start keeps its row from beginning (compact %s)',
    async (compact) => {
      const world = lineWorld();
      const rollout = imagine(world, constantly(1), { ...options, compact, value: undefinedAt(0) });
      const dream = await rollout.collect();
      expect(dream.nonFinite).toBe(1);
      expect([...dream.length]).toEqual([0, 3]);
      expect(valuesOf(dream, 0)).toEqual([0, 0, 0, 0]);
      expect(dream.bootstrap).toEqual(Float32Array.of(0, 13));
      expect([...rollout.carry.row]).toEqual([1]);
      rollout.carry.release();
      expect(world.alive.size).toBe(0);
    },
  );

  test('throws when told to, and frees every state', async () => {
    for (const [at, step] of [
      [0, -1],
      [2, 1],
    ]) {
      const world = lineWorld();
      const value = undefinedAt(at);
      const rollout = imagine(world, constantly(1), { ...options, value, nonFinite: 'throw' });
      const error = await rollout.collect().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(NonFiniteError);
      expect(error).toMatchObject({ row: 0, step });
      rollout.carry.release();
      expect(world.alive.size).toBe(0);
    }
  });

  test('is kept when told to', async () => {
    for (const [at, expected] of [
      [0, [Number.NaN, 1, 2, 3]],
      [2, [0, 1, Number.NaN, 3]],
    ] as const) {
      const value = undefinedAt(at);
      const rollout = imagine(lineWorld(), constantly(1), { ...options, value, nonFinite: 'keep' });
      const dream = await rollout.collect();
      expect(valuesOf(dream, 0)).toEqual(expected);
      expect(dream.nonFinite).toBe(1);
    }
  });
});

test('a value function of another answer is refused', async () => {
  const value = (() => new Float32Array(3)) as never;
  const rollout = imagine(lineWorld(), constantly(1), {
    start: nd([[0]]),
    horizon: 1,
    seed: 0,
    value,
  });
  await expect(rollout.collect()).rejects.toThrow('must have 1 entries, got 3');
});
