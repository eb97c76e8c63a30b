import { imagine, nd } from 'umwelt';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

describe('the carry of a rollout', () => {
  const start = nd([[0], [4], [1]]);

  test('lets another rollout go on with the same noise, as if it had not stopped', async () => {
    const whole = await imagine(lineWorld({ sigma: 1 }), constantly(1), {
      start,
      horizon: 5,
      seed: 3,
    }).collect();
    const world = lineWorld({ sigma: 1 });
    const first = imagine(world, constantly(1), { start, horizon: 2, seed: 3 });
    const before = await first.collect();
    const after = await imagine(world, constantly(1), { start: first.carry, horizon: 3 }).collect();
    for (let row = 0; row < 3; row++) {
      const parts = [
        ...before.obs.data.slice(row * 3, row * 3 + 3),
        ...after.obs.data.slice(row * 4 + 1, row * 4 + 4),
      ];
      expect(Float32Array.from(parts)).toBeBitEqual(whole.obs.data.slice(row * 6, row * 6 + 6));
    }
  });

  test('holds the rows that can go on, under their own ids', async () => {
    for (const compact of [true, false]) {
      const rollout = imagine(lineWorld({ end: 5 }), constantly(1), {
        start,
        horizon: 2,
        seed: 0,
        trajectory: Uint32Array.of(10, 20, 30),
        compact,
      });
      await rollout.collect();
      expect([...rollout.carry.trajectory]).toEqual([10, 30]);
      expect([...rollout.carry.row]).toEqual([0, 2]);
      expect(rollout.carry.obs).toEqual(nd([[2], [3]]));
      expect(rollout.carry.step).toBe(2);
    }
  });

  test('is empty when every row has ended, and starts an empty rollout', async () => {
    const world = lineWorld({ end: 1 });
    const rollout = imagine(world, constantly(1), { start, horizon: 2, seed: 0 });
    await rollout.collect();
    expect(rollout.carry.trajectory).toHaveLength(0);
    const next = await imagine(world, constantly(1), {
      start: rollout.carry,
      horizon: 2,
    }).collect();
    expect(next.obs.shape).toEqual([0, 3, 1]);
    expect(world.alive.size).toBe(0);
  });

  test('remembers what the policy remembered', async () => {
    const counting = (obs: { shape: readonly number[] }, { state }: { state?: unknown }) => {
      const seen = (state as Int32Array | undefined) ?? new Int32Array(obs.shape[0]);
      return {
        action: nd(Float32Array.from(seen), [obs.shape[0], 1]),
        state: seen.map((count) => count + 1),
      };
    };
    const world = lineWorld();
    const first = imagine(world, counting, { start, horizon: 2, seed: 0 });
    await first.collect();
    const dream = await imagine(world, counting, { start: first.carry, horizon: 2 }).collect();
    expect([...dream.action.data]).toEqual([2, 3, 2, 3, 2, 3]);
  });

  test('may start several rollouts, each with its own future under another seed', async () => {
    const world = lineWorld({ sigma: 1 });
    const first = imagine(world, constantly(0), { start, horizon: 1, seed: 0 });
    await first.collect();
    const again = () => imagine(world, constantly(0), { start: first.carry, horizon: 2 }).collect();
    const other = await imagine(world, constantly(0), {
      start: first.carry,
      horizon: 2,
      seed: 1,
    }).collect();
    expect(await again()).toEqual(await again());
    expect(other.obs.data).not.toEqual((await again()).obs.data);
  });

  test('is not there before the end', () => {
    const rollout = imagine(lineWorld(), constantly(0), { start, horizon: 1, seed: 0 });
    expect(() => rollout.carry).toThrow('when the rollout has ended');
  });
});

describe('an aborted rollout', () => {
  test('throws the signal’s reason and goes on from its carry with the same noise', async () => {
    const start = nd([[0], [4]]);
    const options = { start, horizon: 6, seed: 8 };
    const whole = await imagine(lineWorld({ sigma: 1 }), constantly(1), options).collect();
    const world = lineWorld({ sigma: 1 });
    const controller = new AbortController();
    const rollout = imagine(world, constantly(1), {
      ...options,
      signal: controller.signal,
      onProgress: ({ step }) => {
        if (step === 2) controller.abort(new Error('enough'));
      },
    });
    const seen: number[] = [];
    await expect(async () => {
      for await (const { nextObs } of rollout) seen.push(nextObs.data[0]);
    }).rejects.toThrow('enough');
    expect(seen).toHaveLength(2);
    const rest = await imagine(world, constantly(1), {
      start: rollout.carry,
      horizon: 4,
    }).collect();
    expect([...seen, ...rest.obs.data.slice(1, 5)]).toEqual([...whole.obs.data.slice(1, 7)]);
  });

  test('rejects collect() with an AbortError when no reason is given', async () => {
    const rollout = imagine(lineWorld(), constantly(1), {
      start: nd([[0]]),
      horizon: 3,
      seed: 0,
      signal: AbortSignal.abort(),
    });
    await expect(rollout.collect()).rejects.toMatchObject({ name: 'AbortError' });
    expect(rollout.carry.step).toBe(0);
  });

  test('stops between the policy and the model, losing no state', async () => {
    const controller = new AbortController();
    const world = lineWorld();
    const rollout = imagine(
      world,
      (obs, context) => {
        if (context.step === 1) controller.abort();
        return constantly(1)(obs, context);
      },
      { start: nd([[0]]), horizon: 3, seed: 0, signal: controller.signal },
    );
    await expect(rollout.collect()).rejects.toMatchObject({ name: 'AbortError' });
    expect(world.batches).toHaveLength(1);
    expect(rollout.carry.obs).toEqual(nd([[1]]));
  });

  test('by an error of the model keeps the carry of its last whole step', async () => {
    const world = lineWorld();
    const failing = {
      ...world,
      step: (...args: Parameters<typeof world.step>) => {
        if (args[2].step === 2) throw new Error('model failed');
        return world.step(...args);
      },
    };
    const rollout = imagine(failing, constantly(1), { start: nd([[0]]), horizon: 5, seed: 0 });
    await expect(rollout.collect()).rejects.toThrow('model failed');
    expect(rollout.carry.step).toBe(2);
    const rest = await imagine(world, constantly(1), {
      start: rollout.carry,
      horizon: 1,
    }).collect();
    expect([...rest.obs.data]).toEqual([2, 3]);
  });
});
