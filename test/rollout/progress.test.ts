import { imagine, nd } from 'umwelt';
import type { RolloutProgress } from 'umwelt/rollout';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

const options = { start: nd([[0], [1]]), horizon: 3, seed: 0 };

/** Reads a rollout to its end and returns what it caught. */
async function caught(rollout: { collect(): Promise<unknown> }): Promise<unknown> {
  return await rollout.collect().then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('progress', () => {
  test.each([
    ['done', 'running running running done'],
    ['aborted', 'running aborted'],
    ['stopped', 'running running stopped'],
    ['failed', 'running running failed'],
  ])('ends exactly once: %s', async (how, expected) => {
    const seen: RolloutProgress[] = [];
    const controller = new AbortController();
    const world = lineWorld();
    const model = {
      ...world,
      step: (...args: Parameters<typeof world.step>) => {
        if (how === 'failed' && args[2].step === 2) throw new Error('model failed');
        return world.step(...args);
      },
    };
    const rollout = imagine(model, constantly(1), {
      ...options,
      signal: controller.signal,
      onProgress: (progress) => {
        seen.push(progress);
        if (how === 'aborted' && progress.status === 'running') controller.abort('enough');
      },
    });
    try {
      for await (const { step } of rollout) if (how === 'stopped' && step === 1) break;
    } catch (error) {
      const last = seen.at(-1);
      if (last?.status === 'aborted') expect(last.reason).toBe(error);
      if (last?.status === 'failed') expect(last.error).toBe(error);
    }
    expect(seen.map(({ status }) => status).join(' ')).toBe(expected);
    const last = seen.at(-1);
    expect(last).toMatchObject({ step: rollout.carry.step, rows: 2, horizon: 3, nonFinite: 0 });
    expect(last?.transitions).toBe(2 * rollout.carry.step);
  });

  test('tells of a failure before anything began, which leaves no carry', async () => {
    const seen: RolloutProgress[] = [];
    const model = {
      ...lineWorld(),
      initial: () => {
        throw new Error('no start');
      },
    };
    const onProgress = (progress: RolloutProgress) => seen.push(progress);
    const rollout = imagine(model, constantly(1), { ...options, onProgress });
    expect(await caught(rollout)).toMatchObject({ message: 'no start' });
    expect(seen).toMatchObject([{ status: 'failed', step: 0, rows: 0 }]);
    expect(() => rollout.carry).toThrow('when the rollout has ended');
  });

  test('is failed, not aborted, where something else threw while the signal was up', async () => {
    const controller = new AbortController();
    const seen: RolloutProgress[] = [];
    const rollout = imagine(
      lineWorld(),
      () => {
        controller.abort('enough');
        throw new Error('policy failed');
      },
      { ...options, signal: controller.signal, onProgress: (progress) => seen.push(progress) },
    );
    expect(await caught(rollout)).toMatchObject({ message: 'policy failed' });
    expect(seen.map(({ status }) => status)).toEqual(['failed']);
  });

  test('is told of an empty rollout', async () => {
    const seen: RolloutProgress[] = [];
    await imagine(lineWorld(), constantly(1), {
      ...options,
      horizon: 0,
      onProgress: (progress) => seen.push(progress),
    }).collect();
    expect(seen).toEqual([
      { status: 'done', step: 0, horizon: 0, rows: 2, transitions: 0, nonFinite: 0 },
    ]);
  });
});

describe('an onProgress that throws', () => {
  test('loses neither the step it was told of nor the carry after it', async () => {
    const world = lineWorld({ sigma: 1 });
    const whole = await imagine(lineWorld({ sigma: 1 }), constantly(1), options).collect();
    const rollout = imagine(world, constantly(1), {
      ...options,
      onProgress: ({ step }) => {
        if (step === 2) throw new Error('bar broke');
      },
    });
    const seen: number[] = [];
    const read = async () => {
      for await (const { nextObs } of rollout) seen.push(nextObs.data[0]);
    };
    await expect(read()).rejects.toThrow('bar broke');
    expect(rollout.carry.step).toBe(2);
    const rest = await imagine(world, constantly(1), {
      start: rollout.carry,
      horizon: 1,
    }).collect();
    expect([...seen, rest.obs.data[1]]).toEqual([...whole.obs.data.slice(1, 4)]);
    rollout.carry.release();
  });

  test('at the end is heard, unless the rollout has failed before', async () => {
    const throwing = (status: string) => (progress: RolloutProgress) => {
      if (progress.status === status) throw new Error('bar broke');
    };
    const done = imagine(lineWorld(), constantly(1), { ...options, onProgress: throwing('done') });
    expect(await caught(done)).toMatchObject({ message: 'bar broke' });
    expect(done.carry.step).toBe(3);
    const failing = imagine(
      lineWorld(),
      () => {
        throw new Error('policy failed');
      },
      { ...options, onProgress: throwing('failed') },
    );
    expect(await caught(failing)).toMatchObject({ message: 'policy failed' });
    expect(failing.carry.step).toBe(0);
  });
});

test('types: the status tells which fields there are', () => {
  const tell = (progress: RolloutProgress) => {
    if (progress.status === 'failed') expectTypeOf(progress.error).toBeUnknown();
    if (progress.status === 'aborted') expectTypeOf(progress.reason).toBeUnknown();
    // @ts-expect-error a rollout that goes on has no error
    if (progress.status === 'running') void progress.error;
    return progress.step;
  };
  expectTypeOf(tell).returns.toBeNumber();
});
