import { gatherRows, type NdView, nd, ShapeError, type WorldModel } from 'umwelt';
import {
  imagineRecorded,
  openLoopReport,
  sampleRecorded,
  sampleReport,
  uncertaintyErrorCorrelation,
} from 'umwelt/evaluation';
import { imagine } from 'umwelt/rollout';
import { foldIn } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { constantly, type LineState, type LineWorld, lineWorld } from '../support/line-world.js';

/** Two rows, three steps: the true point moves by twice the action. */
const recorded = {
  obs: nd(new Float32Array([0, 2, 4, 6, 1, 1, 3, 3]), [2, 4, 1]),
  action: nd(new Float32Array([1, 1, 1, 0, 1, 0]), [2, 3, 1]),
  reward: nd(new Float32Array([20, 40, 60, 10, 30, 30]), [2, 3]),
};

describe('imagineRecorded', () => {
  test('imagines from the recorded starts by the recorded actions', async () => {
    const world = lineWorld();
    const { imagined, actual, nonFinite } = await imagineRecorded(world, recorded, { seed: 0 });
    expect([...imagined.obs.data]).toEqual([0, 1, 2, 3, 1, 1, 2, 2]);
    expect([...imagined.reward.data]).toEqual([10, 20, 30, 10, 20, 20]);
    expect([...(imagined.terminated?.data ?? [1]), ...imagined.uncertainty.data]).toEqual(
      new Array(12).fill(0),
    );
    expect([...imagined.mask.data, ...actual.mask.data]).toEqual(new Array(12).fill(1));
    expect(actual.obs).toEqual(recorded.obs);
    expect(nonFinite).toBe(0);
    const { states, reward } = openLoopReport(imagined, actual);
    // Row 0 is behind by 1, 2, 3 and row 1 by 0, 1, 1.
    expect(states.mse).toBeAllclose([0.5, 2.5, 5], { rtol: 1e-15, atol: 0 });
    expect([...(reward?.bias ?? [])]).toEqual([-5, -15, -20]);
    expect(world.alive.size).toBe(0);
  });

  test('has the noise of a rollout with the same seed', async () => {
    const seeds = { seed: 5, trajectory: Uint32Array.of(7, 9) };
    const { imagined } = await imagineRecorded(lineWorld({ sigma: 1 }), recorded, seeds);
    let step = 0;
    const follow = () => {
      const t = step++;
      return nd(Float32Array.of(recorded.action.data[t], recorded.action.data[3 + t]), [2, 1]);
    };
    const start = nd([[0], [1]]);
    const dream = imagine(lineWorld({ sigma: 1 }), follow, { start, horizon: 3, ...seeds });
    expect(imagined.obs.data).toBeBitEqual((await dream.collect()).obs.data);
  });

  test('notes the ends a model foresees and goes on', async () => {
    const world = lineWorld({ end: 2 });
    const ends = nd(new Uint8Array([0, 1, 0, 0, 0, 0]), [2, 3]);
    const given = { ...recorded, terminated: ends };
    const { imagined, actual } = await imagineRecorded(world, given, { seed: 0 });
    expect([...imagined.obs.data]).toEqual([0, 1, 2, 3, 1, 1, 2, 2]);
    expect([...(imagined.terminated?.data ?? [])]).toEqual([0, 1, 1, 0, 1, 1]);
    // What follows the recorded end does not count.
    expect([...actual.mask.data]).toEqual([1, 1, 0, 1, 1, 1]);
    const { states, termination } = openLoopReport(imagined, actual);
    expect([...states.count]).toEqual([2, 2, 1]);
    expect(termination).toMatchObject({ precision: 1 / 3, recall: 1 });
  });

  test('has no ends where the model never says whether a row ends', async () => {
    const mute: WorldModel<NdView> = {
      obsSize: 1,
      actionSize: 1,
      initial: (obs) => obs,
      step: (x) => ({ state: x, obs: x, reward: new Float32Array(x.shape[0]) }),
      gather: gatherRows,
    };
    const given = { ...recorded, terminated: nd(new Uint8Array([0, 0, 1, 0, 0, 1]), [2, 3]) };
    const { imagined, actual } = await imagineRecorded(mute, given, { seed: 0 });
    expect('terminated' in imagined).toBe(false);
    expect(openLoopReport(imagined, actual).termination).toBeUndefined();
  });

  test('reads the rewards of a rollout without its penalty', async () => {
    const options = { start: nd([[0], [1]]), horizon: 3, seed: 0 };
    const score = ({ mean }: { mean: NdView }) => new Float32Array(mean.shape[1]).fill(7);
    const penalty = { score, coefficient: 1 };
    const dream = await imagine(lineWorld(), constantly(1), { ...options, penalty }).collect();
    const { imagined, actual } = await imagineRecorded(lineWorld(), dream, { seed: 0 });
    expect(actual.reward).toEqual(dream.rawReward);
    expect([...(openLoopReport(imagined, actual).reward?.bias ?? [])]).toEqual([0, 0, 0]);
    const raw = { ...recorded, rawReward: nd(new Float32Array(2), [2, 1]) };
    await expect(imagineRecorded(lineWorld(), raw, { seed: 0 })).rejects.toThrow(
      'recorded.rawReward must have shape',
    );
  });

  test('does not mind what is recorded past an end', async () => {
    const mask = nd(new Uint8Array([1, 0, 0, 1, 1, 1]), [2, 3]);
    const obs = nd(recorded.obs.data.slice().fill(Number.NaN, 2, 4), [2, 4, 1]);
    const action = nd(recorded.action.data.slice().fill(Number.NaN, 1, 3), [2, 3, 1]);
    const given = { ...recorded, obs, action, mask };
    const { imagined, actual, nonFinite } = await imagineRecorded(lineWorld(), given, { seed: 0 });
    expect(nonFinite).toBe(0);
    const { states } = openLoopReport(imagined, actual);
    expect([...states.count]).toEqual([2, 1, 1]);
    expect([...states.mse]).toEqual([0.5, 1, 1]);
  });

  test('leaves out what is not finite from there on, and counts it', async () => {
    // Row 0 comes to 2 at the second step.
    const world = lineWorld({ broken: (x) => x === 2 });
    const { imagined, actual, nonFinite } = await imagineRecorded(world, recorded, { seed: 0 });
    expect([...imagined.mask.data]).toEqual([1, 0, 0, 1, 0, 0]);
    expect(nonFinite).toBe(4);
    const { states } = openLoopReport(imagined, actual);
    expect([...states.lost]).toEqual([0, 2, 2]);
    expect([...states.rmse.slice(1)]).toEqual([Number.NaN, Number.NaN]);
  });

  test('scores each step when asked to', async () => {
    const score = ({ mean }: { mean: NdView }) => mean.data.slice(mean.shape[1]);
    const { imagined } = await imagineRecorded(lineWorld(), recorded, { seed: 0, score });
    // The second member says twice the place.
    expect([...imagined.uncertainty.data]).toEqual([2, 4, 6, 2, 4, 4]);
    expect([...imagined.reward.data]).toEqual([10, 20, 30, 10, 20, 20]);
  });

  test('leaves out steps from a score on that is not finite', async () => {
    const score = ({ mean }: { mean: NdView }) =>
      mean.data.slice(mean.shape[1]).map((x) => (x === 4 ? Number.NaN : x));
    const { imagined, actual, nonFinite } = await imagineRecorded(lineWorld(), recorded, {
      seed: 0,
      score,
    });
    expect([...imagined.mask.data]).toEqual([1, 0, 0, 1, 0, 0]);
    expect(nonFinite).toBe(4);
    const { mask, perRow } = openLoopReport(imagined, actual);
    const report = uncertaintyErrorCorrelation(imagined.uncertainty, perRow, { seed: 0, mask });
    expect(report.count).toBe(2);
  });

  test('starts from a state, which stays the caller’s', async () => {
    const world = lineWorld();
    const made = (await world.initial(nd([[5], [6]]), undefined as never)) as LineState;
    const start = { ...made, obs: nd([[5], [6]]) };
    const { imagined } = await imagineRecorded<LineState>(world, recorded, { seed: 0, start });
    expect([...imagined.obs.data]).toEqual([5, 6, 7, 8, 6, 6, 7, 7]);
    expect([...world.alive]).toEqual([made.id]);
  });

  test('burns a context in, and imagines what follows it', async () => {
    // Believes half of what it believed and half of what it sees, and steps by the action.
    const half: WorldModel<NdView> = {
      obsSize: 1,
      actionSize: 1,
      initial: (obs) => obs,
      observe: (belief, { obs }) =>
        nd(
          belief.data.map((x, i) => (x + obs.data[i]) / 2),
          belief.shape,
        ),
      step(belief, action) {
        const next = nd(
          belief.data.map((x, i) => x + action.data[i]),
          belief.shape,
        );
        return { state: next, obs: next, reward: new Float32Array(belief.shape[0]) };
      },
      gather: gatherRows,
    };
    const options = { seed: 0, context: 1 };
    const { imagined, actual } = await imagineRecorded(half, recorded, options);
    // Beliefs (0 + 2) / 2 and (1 + 1) / 2, then the last two actions.
    expect([...imagined.obs.data]).toEqual([2, 2, 3, 1, 2, 2]);
    expect(actual.obs.shape).toEqual([2, 3, 1]);
    const { states } = openLoopReport(imagined, actual);
    // Truth 4, 6 and 3, 3; held 2 and 1.
    expect([...states.mse]).toEqual([(4 + 1) / 2, (9 + 1) / 2]);
    expect(states.persistence).toBeAllclose([2, Math.sqrt(10)], { rtol: 1e-15, atol: 0 });
    await expect(imagineRecorded(lineWorld(), recorded, options)).rejects.toThrow(
      'model must have a function observe',
    );
    const start = nd([[0], [0]]);
    await expect(imagineRecorded(half, recorded, { ...options, start })).rejects.toThrow(
      'start must be left out with a context',
    );
  });

  test('reads strided and float64 recordings', async () => {
    // [T+1, B, 1] in memory.
    const data = new Float64Array([0, 1, 2, 1, 4, 3, 6, 3]);
    const obs = { data, shape: [2, 4, 1], stride: [1, 2, 1], offset: 0 };
    const given = { obs, action: nd(Float64Array.from(recorded.action.data), [2, 3, 1]) };
    const { imagined, actual } = await imagineRecorded(lineWorld(), given, { seed: 0 });
    expect([...imagined.obs.data]).toEqual([0, 1, 2, 3, 1, 1, 2, 2]);
    expect(openLoopReport(imagined, actual).states.mse[2]).toBe(5);
  });

  test('does nothing for no rows and no steps', async () => {
    const none = {
      obs: nd(new Float32Array(0), [0, 3, 1]),
      action: nd(new Float32Array(0), [0, 2, 1]),
    };
    const { imagined } = await imagineRecorded(lineWorld(), none, { seed: 0 });
    expect(imagined.obs.shape).toEqual([0, 3, 1]);
    const world = lineWorld();
    const still = {
      obs: nd(new Float32Array(2), [2, 1, 1]),
      action: nd(new Float32Array(0), [2, 0, 1]),
    };
    const { actual } = await imagineRecorded(world, still, { seed: 0 });
    expect(actual.mask.shape).toEqual([2, 0]);
    expect(world.alive.size).toBe(0);
  });

  test('releases every state when it is stopped', async () => {
    const world = lineWorld();
    const controller = new AbortController();
    const score = ({ mean }: { mean: NdView }) => {
      controller.abort(new Error('enough'));
      return new Float32Array(mean.shape[1]);
    };
    const options = { seed: 0, score, signal: controller.signal };
    await expect(imagineRecorded(world, recorded, options)).rejects.toThrow('enough');
    expect(world.batches).toEqual([2]);
    expect(world.alive.size).toBe(0);
  });

  test('refuses recordings that do not fit', async () => {
    const world = lineWorld();
    const ask = (changes: object, options: object = {}) =>
      expect(imagineRecorded(world, { ...recorded, ...changes }, { seed: 0, ...options })).rejects;
    await ask({ action: nd(new Float32Array(4), [2, 2, 1]) }).toThrow(ShapeError);
    await ask({ obs: nd(new Float32Array(16), [2, 4, 2]) }).toThrow('[B, N+1, S] = [2, 4, 1]');
    await ask({ reward: nd(new Float32Array(2), [2, 1]) }).toThrow(ShapeError);
    await ask({ terminated: nd(new Float32Array(6), [2, 3]) }).toThrow(TypeError);
    await ask({ obs: [[[0]]] }).toThrow(TypeError);
    await ask({}, { context: 4 }).toThrow('context must be an integer in 0..3');
    await ask({}, { start: nd([[0]]) }).toThrow(RangeError);
    await ask({}, { horizon: 2 }).toThrow(TypeError);
    await ask({}, { seed: undefined }).toThrow(
      'imagineRecorded: seed must be an integer, a bigint or a key, got undefined',
    );
    await ask({ action: nd(new Int32Array(6), [2, 3, 1]) }).toThrow(
      'view of Int32Array; convert it, as in nd(Float32Array.from(data), shape)',
    );
    expect(world.alive.size).toBe(0);
    // @ts-expect-error no model
    await expect(imagineRecorded({ obsSize: 1 }, recorded, { seed: 0 })).rejects.toThrow(
      'imagineRecorded: model must have a function initial',
    );
  });
});

describe('sampleRecorded', () => {
  test('holds the rollouts of the seeds folded from one', async () => {
    const world = lineWorld({ sigma: 1 });
    const { obs, actual, nonFinite } = await sampleRecorded(world, recorded, {
      seed: 4,
      samples: 3,
    });
    expect(obs.shape).toEqual([2, 3, 4, 1]);
    for (let m = 0; m < 3; m++) {
      const one = await imagineRecorded(lineWorld({ sigma: 1 }), recorded, { seed: foldIn(4, m) });
      for (let row = 0; row < 2; row++) {
        const states = obs.data.slice((row * 3 + m) * 4, (row * 3 + m + 1) * 4);
        expect(states).toBeBitEqual(one.imagined.obs.data.slice(row * 4, row * 4 + 4));
      }
    }
    expect(nonFinite).toBe(0);
    expect(world.alive.size).toBe(0);
    const report = sampleReport(obs, actual);
    expect([...report.count]).toEqual([2, 2, 2]);
    expect(report.rmseOfBest[0]).toBeLessThan(report.rmseOfOne[0]);
  });

  test('leaves out steps of which one sample is not finite', async () => {
    // The noise decides which samples come below 0.
    const world = lineWorld({ sigma: 1, broken: (x) => x < 0 });
    const { actual, nonFinite } = await sampleRecorded(world, recorded, { seed: 4, samples: 8 });
    const kept = actual.mask.data.filter((flag) => flag === 1).length;
    expect(nonFinite).toBe(6 - kept);
    expect(nonFinite).toBeGreaterThan(0);
  });

  test('refuses a number of samples that is no count, and a score', async () => {
    const ask = (options: object) =>
      expect(sampleRecorded(lineWorld(), recorded, { seed: 0, samples: 1, ...options })).rejects;
    await ask({ samples: 0 }).toThrow(RangeError);
    await ask({ score: () => new Float32Array(2) }).toThrow(TypeError);
  });
});

describe('every state is released once', () => {
  const score = ({ mean }: { mean: NdView }) => new Float32Array(mean.shape[1]);

  /** A world that can observe, and does something before each call; releasing twice or late throws. */
  function watched(before: (call: number) => void): WorldModel<LineState> & LineWorld {
    const world = lineWorld({ asynchronous: true });
    let calls = 0;
    const count = () => before(++calls);
    return {
      ...world,
      async initial(obs, told) {
        count();
        return world.initial(obs, told);
      },
      async observe(state, { obs, action }, told) {
        count();
        const { state: next } = await world.step(state, action, told);
        next.x.set(obs.data);
        return next;
      },
      async step(state, action, told) {
        count();
        return world.step(state, action, told);
      },
      async gather(state, rows) {
        count();
        return world.gather(state, rows);
      },
      release(state) {
        if (!world.alive.has(state.id)) throw new Error(`state ${state.id} was released twice`);
        world.release?.(state);
      },
    };
  }

  for (const context of [0, 2, 3]) {
    for (const [name, ask] of Object.entries({
      imagineRecorded: (world: WorldModel<LineState>, signal: AbortSignal) =>
        imagineRecorded(world, recorded, { seed: 0, context, score, signal }),
      sampleRecorded: (world: WorldModel<LineState>, signal: AbortSignal) =>
        sampleRecorded(world, recorded, { seed: 0, context, samples: 3, signal }),
    })) {
      test(`by ${name} with a context of ${context}, whichever call fails or is the last`, async () => {
        let all = 0;
        const whole = watched((call) => {
          all = call;
        });
        await ask(whole, new AbortController().signal);
        expect(whole.alive.size).toBe(0);
        expect(all).toBeGreaterThan(context);
        let stops = 0;
        for (let last = 1; last <= all; last++) {
          const failing = watched((call) => {
            if (call === last) throw new Error(`call ${last} failed`);
          });
          await expect(ask(failing, new AbortController().signal)).rejects.toThrow(
            `call ${last} failed`,
          );
          expect([...failing.alive]).toEqual([]);

          const controller = new AbortController();
          const stopped = watched((call) => {
            if (call === last) controller.abort(new Error('enough'));
          });
          // A stop in the last call comes too late to be one.
          await ask(stopped, controller.signal).catch(({ message }) => {
            expect(message).toBe('enough');
            stops++;
          });
          expect([...stopped.alive]).toEqual([]);
        }
        expect(stops).toBeGreaterThan(0);
      });
    }
  }
});
