import { imagine, maxPairwiseDifference, type NdView, nd, type Policy, zeros } from 'umwelt';
import { modelContext } from 'umwelt/dynamics';
import type { PolicyContext, RolloutStep } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';
import { ids } from '../support/models.js';

const start = nd([[5], [0], [6], [3]]);

describe('states', () => {
  test.each([true, false])(
    'that a rollout makes are released, but for its carry (compact %s)',
    async (compact) => {
      const world = lineWorld({ end: 8, broken: (x) => x === 4 });
      const rollout = imagine(world, constantly(1), { start, horizon: 3, seed: 0, compact });
      await rollout.collect();
      expect(world.alive.size).toBe(1);
      rollout.carry.release();
      rollout.carry.release();
      expect(world.alive.size).toBe(0);
    },
  );

  test('are released when the reader leaves early, and when a step fails', async () => {
    const world = lineWorld();
    const left = imagine(world, constantly(1), { start, horizon: 9, seed: 0 });
    for await (const { step } of left) if (step === 1) break;
    left.carry.release();
    expect(world.alive.size).toBe(0);

    const failing = imagine(world, constantly(1), {
      start,
      horizon: 9,
      seed: 0,
      penalty: {
        coefficient: 1,
        score: () => {
          throw new Error('score failed');
        },
      },
    });
    await expect(failing.collect()).rejects.toThrow('score failed');
    failing.carry.release();
    expect(world.alive.size).toBe(0);
  });

  test('that the caller passes stay the caller’s', async () => {
    const world = lineWorld({ end: 8 });
    const own = await world.initial(start, modelContext(0, ids(4)));
    const state = { ...own, obs: start };
    const rollout = imagine(world, constantly(1), { start: state, horizon: 3, seed: 0 });
    await rollout.collect();
    rollout.carry.release();
    expect([...world.alive]).toEqual([own.id]);

    // A rollout of no steps hands the caller's own state on, and does not release it either.
    const still = imagine(world, constantly(1), { start: state, horizon: 0, seed: 0 });
    await still.collect();
    still.carry.release();
    expect([...world.alive]).toEqual([own.id]);
  });

  test('start the same rollout as the observations they were made of', async () => {
    const world = lineWorld({ sigma: 1 });
    const state = { ...(await world.initial(start, modelContext(0, ids(4)))), obs: start };
    const options = { horizon: 3, seed: 2 };
    const fromState = await imagine(world, constantly(1), { ...options, start: state }).collect();
    const fromObs = await imagine(world, constantly(1), { ...options, start }).collect();
    expect(fromState).toEqual(fromObs);
  });

  test('of rows that are not finite are left out of a given state', async () => {
    const world = lineWorld();
    const odd = nd([[Number.NaN], [2]]);
    const own = await world.initial(odd, modelContext(0, ids(2)));
    const rollout = imagine(world, constantly(1), {
      start: { ...own, obs: odd },
      horizon: 1,
      seed: 0,
    });
    const dream = await rollout.collect();
    expect([...dream.length]).toEqual([0, 1]);
    rollout.carry.release();
    expect([...world.alive]).toEqual([own.id]);
  });
});

describe('yielded arrays', () => {
  test('are never written again, by the rollout or through the start', async () => {
    const given = nd(start.data.slice(), [4, 1]);
    const rollout = imagine(lineWorld({ sigma: 1, end: 9 }), constantly(1), {
      start: given,
      horizon: 5,
      seed: 0,
      penalty: { score: maxPairwiseDifference(), coefficient: 1 },
    });
    const steps: RolloutStep[] = [];
    const copies: RolloutStep[] = [];
    for await (const step of rollout) {
      given.data.fill(Number.NaN);
      steps.push(step);
      copies.push(structuredClone(step));
    }
    expect(steps).toEqual(copies);
  });
});

describe('a model and a policy that answer in the same memory every time', () => {
  test('are read before they write again', async () => {
    const options = { start, horizon: 4, seed: 0 };
    const world = lineWorld({ sigma: 1, end: 9 });
    const memory = new Map<string, Float32Array>();
    const reuse = (name: string, values: Float32Array) => {
      const kept = memory.get(name) ?? new Float32Array(8);
      memory.set(name, kept);
      kept.set(values);
      return kept.subarray(0, values.length);
    };
    const thrifty = {
      ...world,
      step: async (...args: Parameters<typeof world.step>) => {
        const result = await world.step(...args);
        const obs = nd(reuse('obs', result.obs.data), result.obs.shape);
        return { ...result, obs, reward: reuse('reward', result.reward) };
      },
    };
    const action = () => reuse('action', new Float32Array(4).fill(0.5));
    const stepsOf = async (rollout: AsyncIterable<RolloutStep>) => {
      const steps: RolloutStep[] = [];
      for await (const step of rollout) steps.push(step);
      return steps;
    };
    const steps = await stepsOf(
      imagine(thrifty, (obs) => nd(action().subarray(0, obs.shape[0]), obs.shape), options),
    );
    const plain = lineWorld({ sigma: 1, end: 9 });
    expect(steps).toEqual(await stepsOf(imagine(plain, constantly(0.5), options)));
  });
});

describe('two rollouts that take turns on one model', () => {
  test('dream what they dream alone', async () => {
    const world = lineWorld({ sigma: 1, end: 9, asynchronous: true });
    const options = [
      { start, horizon: 6, seed: 1 },
      { start: nd([[2], [4]]), horizon: 6, seed: 2 },
    ];
    const alone = [];
    for (const option of options) {
      alone.push(await imagine(world, constantly(0.5), option).collect());
    }
    const together = await Promise.all(
      options.map((option) => imagine(world, constantly(0.5), option).collect()),
    );
    expect(together).toEqual(alone);
  });
});

describe('a recurrent policy', () => {
  /** Its memory is what it saw first, in every shape a memory may have; its action tells if it is lost. */
  const remembering = (
    obs: { shape: readonly number[]; data: Float32Array },
    { state, step, trajectory }: PolicyContext,
  ) => {
    const [rows] = obs.shape;
    const first =
      step === 0
        ? {
            id: trajectory.slice(),
            nested: {
              seen: nd(
                Float32Array.from(obs.data, (x) => x + 0.25),
                [rows, 1],
              ),
            },
            pair: nd(
              Float32Array.from({ length: 2 * rows }, (_, i) => trajectory[i >> 1]),
              [rows, 2],
            ),
          }
        : (state as never as typeof remembered);
    const remembered = first as {
      id: Uint32Array;
      nested: { seen: { data: Float32Array } };
      pair: { data: Float32Array };
    };
    const intact = Array.from(
      trajectory,
      (id, i) => remembered.id[i] === id && remembered.pair.data[2 * i] === id,
    );
    const action = Float32Array.from(intact, (good, i) =>
      good ? remembered.nested.seen.data[i] : -99,
    );
    return { action: nd(action, [rows, 1]), state: first };
  };

  test('keeps each row’s memory when finished rows are taken out', async () => {
    const options = { start: nd([[1], [3], [0.5], [2]]), horizon: 5, seed: 0 };
    const compacted = lineWorld({ end: 7 });
    const dream = await imagine(compacted, remembering, options).collect();
    const latched = await imagine(lineWorld({ end: 7 }), remembering, {
      ...options,
      compact: false,
    }).collect();
    expect(compacted.batches.at(-1)).toBeLessThan(4);
    expect(dream).toEqual(latched);
    for (let row = 0; row < 4; row++) {
      for (let t = 0; t < dream.length[row]; t++) {
        expect(dream.action.data[row * 5 + t]).toBe(options.start.data[row] + 0.25);
      }
    }
  });

  test('is given nothing to remember at the start', async () => {
    const seen: unknown[] = [];
    await imagine(
      lineWorld(),
      (obs, context) => {
        seen.push(context.state);
        return constantly(1)(obs, context);
      },
      { start, horizon: 2, seed: 0 },
    ).collect();
    expect(seen).toEqual([undefined, undefined]);
  });
});

test('types: a policy may say what it remembers', async () => {
  const late: Policy<NdView> = (obs, { state }) => ({
    action: state ?? zeros(obs.shape),
    state: obs,
  });
  const dream = await imagine(lineWorld(), late, {
    start: nd([[1], [3]]),
    horizon: 3,
    seed: 0,
  }).collect();
  expect([...dream.action.data]).toEqual([0, 1, 1, 0, 3, 3]);
});
