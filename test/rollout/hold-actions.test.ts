import { imagine, type NdView, nd, type Policy } from 'umwelt';
import { holdActions } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

/** Acts by what it sees, counts how often it was asked, and notes when. */
function asked(steps: number[] = []): Policy<Int32Array> {
  return (obs, { state, step }) => {
    steps.push(step);
    const times = state ?? new Int32Array(obs.shape[0]);
    return {
      action: nd(
        Float32Array.from(obs.data, (x, i) => x + 100 * times[i]),
        obs.shape,
      ),
      state: times.map((count) => count + 1),
      logProb: new Float32Array(obs.shape[0]).fill(-2),
    };
  };
}

describe('actionRepeat', () => {
  const start = nd([[1], [2]]);

  test('asks the policy every n-th step, holds its action, and records every step', async () => {
    const steps: number[] = [];
    const dream = await imagine(lineWorld(), asked(steps), {
      start,
      horizon: 5,
      actionRepeat: 2,
      seed: 0,
    }).collect();
    expect(steps).toEqual([0, 2, 4]);
    expect([...dream.action.data]).toEqual([1, 1, 103, 103, 409, 2, 2, 106, 106, 418]);
    expect([...dream.length]).toEqual([5, 5]);
    expect([...(dream.logProb as NdView).data.subarray(0, 5)]).toEqual([-2, 0, -2, 0, -2]);
  });

  test('is what holdActions does', async () => {
    const options = { start, horizon: 5, seed: 0 };
    const wrapped = await imagine(lineWorld(), holdActions(asked(), 3), options).collect();
    const option = { ...options, actionRepeat: 3 };
    expect(await imagine(lineWorld(), asked(), option).collect()).toEqual(wrapped);
    const once = { ...options, actionRepeat: 1 };
    expect(await imagine(lineWorld(), asked(), once).collect()).toEqual(
      await imagine(lineWorld(), asked(), options).collect(),
    );
  });

  test('holds each row’s own action when rows before it end', async () => {
    const options = { start: nd([[5], [1], [2]]), horizon: 3, actionRepeat: 3, seed: 0 };
    const world = lineWorld({ end: 9 });
    const dream = await imagine(world, asked(), options).collect();
    expect(world.batches).toEqual([3, 2, 2]);
    expect([...dream.action.data]).toEqual([5, 0, 0, 1, 1, 1, 2, 2, 2]);
  });

  test('goes on from a carry as if it had not stopped, wherever it stopped', async () => {
    const world = lineWorld();
    const whole = await imagine(world, asked(), {
      start,
      horizon: 6,
      actionRepeat: 4,
      seed: 0,
    }).collect();
    for (let stop = 1; stop < 6; stop++) {
      const first = imagine(world, asked(), { start, horizon: stop, actionRepeat: 4, seed: 0 });
      await first.collect();
      const rest = await imagine(world, asked(), {
        start: first.carry,
        horizon: 6 - stop,
        actionRepeat: 4,
      }).collect();
      expect([...rest.action.data.slice(0, 6 - stop)]).toEqual([
        ...whole.action.data.slice(stop, 6),
      ]);
    }
  });

  test('keeps the action of a policy that answers in the same memory every time', async () => {
    const memory = new Float32Array(2);
    const thrifty: Policy = (obs) => {
      memory.set(obs.data);
      return nd(memory, obs.shape);
    };
    const spoiling = lineWorld();
    const world = {
      ...spoiling,
      step: async (...args: Parameters<typeof spoiling.step>) => {
        const result = await spoiling.step(...args);
        memory.fill(Number.NaN);
        return result;
      },
    };
    const options = { start, horizon: 2, actionRepeat: 2, seed: 0 };
    const dream = await imagine(world, holdActions(thrifty, 2), options).collect();
    expect([...dream.action.data]).toEqual([1, 1, 2, 2]);
  });

  test('asks at once where a carry brings no action to hold', async () => {
    const world = lineWorld();
    const first = imagine(world, asked(), { start, horizon: 1, seed: 0 });
    await first.collect();
    const steps: number[] = [];
    const dream = await imagine(world, asked(steps), {
      start: first.carry,
      horizon: 3,
      actionRepeat: 3,
    }).collect();
    expect(steps).toEqual([1, 3]);
    // And gives the policy the memory that it had.
    expect(dream.action.data[0]).toBe(2 + 100);
  });

  test('refuses what is no policy, no count, and no action', async () => {
    expect(() => holdActions(3 as never, 2)).toThrow('holdActions: policy must be a function');
    expect(() => holdActions(constantly(1), 1.5)).toThrow('n must be a positive integer, got 1.5');
    const nothing = imagine(lineWorld(), () => undefined as never, {
      start,
      horizon: 1,
      actionRepeat: 2,
      seed: 0,
    });
    await expect(nothing.collect()).rejects.toThrow('the action must be a view [B, A]');
  });
});
