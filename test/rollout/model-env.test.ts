import * as ort from 'onnxruntime-node';
import {
  EnsembleDynamics,
  imagine,
  maxPairwiseDifference,
  type NdView,
  nd,
  ShapeError,
  zeros,
} from 'umwelt';
import {
  ClosedFormDynamics,
  type EnsembleState,
  type ObsState,
  type WorldModel,
} from 'umwelt/dynamics';
import { type AutoresetMode, ModelEnv, type ModelEnvOptions } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { type LineState, lineWorld } from '../support/line-world.js';
import { ids, readJson, toyEnsemble } from '../support/models.js';

interface Recorded {
  reset?: number[] | null;
  step?: number[] | number[][];
  obs: number[][];
  reward: number[];
  terminated: number[];
  truncated: number[];
  final?: number[];
  finalObs: number[][];
  finalTwice: number[];
}

interface Task {
  starts: number[][][];
  record: Recorded[];
}

// python test/fixtures/make_environments.py
const golden = readJson<
  Record<'nextStep' | 'nextStepMasked' | 'sameStep' | 'disabled', { record: Recorded[] }> &
    Record<'cartpole' | 'pendulum', Task>
>('test/fixtures/environments.json');

/** Env `i` starts its episode `k` at `i + k / 4`. */
const quarters: ModelEnvOptions['starts'] = ({ env, episode }) =>
  nd(
    Float32Array.from(env, (id) => id + episode / 4),
    [env.length, 1],
  );

/** A batch of actions of width 1. */
const column = (values: readonly number[]) => nd(Float32Array.from(values), [values.length, 1]);

/** The line world with the extras that the recorded environment gives; it cannot observe. */
function opaqueLine(world = lineWorld({ end: 8 })): WorldModel<LineState> {
  return {
    ...world,
    step: async (...args) => {
      const result = await world.step(...args);
      return { ...result, extras: { twice: result.obs.data.map((x) => 2 * x), name: 'line' } };
    },
  };
}

/** What a model was asked: rows of each step, and observations. */
interface Calls {
  steps: number[];
  observes: number;
  action?: NdView;
}

/** The same world, whose state is what is seen: it can observe. */
function openLine(calls: Calls = { steps: [], observes: 0 }) {
  const model = new ClosedFormDynamics({
    obsSize: 1,
    actionSize: 1,
    next: ({ obs, action, nextObs }) => {
      for (let i = 0; i < nextObs.data.length; i++) {
        nextObs.data[i] = obs.data[i] + action.data[i];
      }
    },
    reward: ({ nextObs }) => nextObs.data.map((x) => 10 * x),
    terminate: ({ nextObs }) => Uint8Array.from(nextObs.data, (x) => (x >= 8 ? 1 : 0)),
  });
  const spied: WorldModel<ObsState> = {
    obsSize: 1,
    actionSize: 1,
    initial: (obs) => model.initial(obs),
    observe(state, observed) {
      calls.observes++;
      return model.observe(state, observed);
    },
    gather: (state, rows) => model.gather(state, rows),
    async step(state, action, context) {
      calls.steps.push(action.shape[0]);
      calls.action = action;
      const result = await model.step(state, action, context);
      return { ...result, extras: { twice: result.obs.data.map((x) => 2 * x), name: 'line' } };
    },
  };
  return spied;
}

describe.each([
  ['next-step', 'nextStep'],
  ['next-step', 'nextStepMasked'],
  ['same-step', 'sameStep'],
  ['disabled', 'disabled'],
] as const)('autoreset %s answers as Gymnasium does (%s)', (autoreset, name) => {
  test.each([
    ['in groups', opaqueLine as () => WorldModel<unknown>],
    ['by observation', openLine as () => WorldModel<unknown>],
  ])('%s', async (_, make) => {
    const env = new ModelEnv(make(), {
      numEnvs: 3,
      starts: quarters,
      seed: 0,
      maxEpisodeSteps: 4,
      autoreset,
    });
    for (const recorded of golden[name].record) {
      if (recorded.step === undefined) {
        const mask = recorded.reset ? Uint8Array.from(recorded.reset) : undefined;
        const { obs, info } = await env.reset(mask && { mask });
        expect([...obs.data]).toEqual(recorded.obs.flat());
        expect(info.first).toEqual(mask ?? Uint8Array.of(1, 1, 1));
        continue;
      }
      const { obs, reward, terminated, truncated, info } = await env.step(
        column(recorded.step as number[]),
      );
      expect([...obs.data]).toEqual(recorded.obs.flat());
      expect([...reward]).toEqual(recorded.reward);
      expect([...terminated]).toEqual(recorded.terminated);
      // An end at the limit is an end here; Gymnasium's TimeLimit raises both flags.
      const cut = recorded.truncated.map((flag, i) => (recorded.terminated[i] === 1 ? 0 : flag));
      expect([...truncated]).toEqual(cut);
      expect(info.final && [...info.final]).toEqual(recorded.final);
      expect(info.finalObs && [...info.finalObs.data]).toEqual(recorded.finalObs?.flat());
      expect(info.finalInfo && [...(info.finalInfo.extras.twice as Float32Array)]).toEqual(
        recorded.finalTwice,
      );
    }
  });
});

test('the recorded runs have ends and cuts, and all three modes differ', () => {
  const { nextStep, sameStep, disabled } = golden;
  for (const { record } of [nextStep, sameStep, disabled]) {
    expect(record.some(({ terminated }) => terminated?.includes(1))).toBe(true);
    expect(record.some(({ truncated }) => truncated?.includes(1))).toBe(true);
  }
  expect(nextStep.record).not.toEqual(sameStep.record);
});

describe('classic control', () => {
  /** Runs a recorded task; rounding accumulates, for the simulator goes on in float64. */
  async function replay(
    model: WorldModel<ObsState>,
    task: Task,
    options: Partial<ModelEnvOptions<ObsState>>,
    tolerance: { rtol: number; atol: number },
  ) {
    const numEnvs = task.starts.length;
    const env = new ModelEnv(model, {
      numEnvs,
      starts: ({ env: rows, episode }) => nd(Array.from(rows, (id) => task.starts[id][episode])),
      seed: 0,
      ...options,
    });
    await env.reset();
    for (const recorded of task.record) {
      const flat = (recorded.step as number[]).flat();
      const action =
        options.actionSpace?.type === 'discrete' ? Int32Array.from(flat) : column(flat);
      const { obs, reward, terminated, truncated } = await env.step(action);
      expect([...terminated]).toEqual(recorded.terminated);
      expect([...truncated]).toEqual(recorded.truncated);
      expect(obs.data).toBeAllclose(recorded.obs.flat(), tolerance);
      expect(reward).toBeAllclose(recorded.reward, tolerance);
    }
  }

  test('CartPole-v1: ends, discrete actions, episodes one after another', async () => {
    const limit = (12 * 2 * Math.PI) / 360;
    const model = new ClosedFormDynamics({
      obsSize: 4,
      actionSize: 2,
      dt: 0.02,
      integrator: 'euler',
      derivative: (obs, action, out) => {
        for (let row = 0; row < obs.shape[0]; row++) {
          const [, velocity, angle, spin] = obs.data.subarray(4 * row, 4 * row + 4);
          const force = 10 * (action.data[2 * row + 1] - action.data[2 * row]);
          const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
          const push = (force + 0.05 * spin * spin * sin) / 1.1;
          const turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - (0.1 * cos * cos) / 1.1));
          out.data.set([velocity, push - (0.05 * turn * cos) / 1.1, spin, turn], 4 * row);
        }
      },
      reward: ({ nextObs }) => new Float32Array(nextObs.shape[0]).fill(1),
      terminate: ({ nextObs }) =>
        Uint8Array.from({ length: nextObs.shape[0] }, (_, row) =>
          Math.abs(nextObs.data[4 * row]) > 2.4 || Math.abs(nextObs.data[4 * row + 2]) > limit
            ? 1
            : 0,
        ),
    });
    const ends = golden.cartpole.record.flatMap(({ terminated }) => terminated);
    expect(ends.filter((flag) => flag === 1)).toHaveLength(5);
    const actionSpace = { type: 'discrete', n: 2 } as const;
    await replay(model, golden.cartpole, { actionSpace }, { rtol: 2e-6, atol: 1e-6 });
  });

  test('Pendulum-v1: torques beyond their range, cuts after 20 steps', async () => {
    const clip = (x: number, limit: number) => Math.min(Math.max(x, -limit), limit);
    const model = new ClosedFormDynamics({
      obsSize: 3,
      actionSize: 1,
      next: ({ obs, action, nextObs }) => {
        for (let row = 0; row < obs.shape[0]; row++) {
          const [cos, sin, speed] = obs.data.subarray(3 * row, 3 * row + 3);
          const torque = clip(action.data[row], 2);
          const next = clip(speed + 0.05 * (15 * sin + 3 * torque), 8);
          const angle = Math.atan2(sin, cos) + 0.05 * next;
          nextObs.data.set([Math.cos(angle), Math.sin(angle), next], 3 * row);
        }
      },
      reward: ({ obs, action }) =>
        Float32Array.from(action.data, (torque, row) => {
          const angle = Math.atan2(obs.data[3 * row + 1], obs.data[3 * row]);
          const speed = obs.data[3 * row + 2];
          return -(angle ** 2 + 0.1 * speed ** 2 + 0.001 * clip(torque, 2) ** 2);
        }),
    });
    const options = {
      maxEpisodeSteps: 20,
      actionSpace: { type: 'box' as const, low: [-2], high: [2] },
    };
    await replay(model, golden.pendulum, options, { rtol: 2e-6, atol: 2e-6 });
  });
});

describe('noise', () => {
  const moves = (step: number) => column([0.5, -1, 0.25].map((move) => move * Math.cos(step)));
  const noisy = { numEnvs: 3, starts: quarters, seed: 7 } as const;

  test('the first episode is what imagine gives for the same seed, ids and actions', async () => {
    const world = lineWorld({ sigma: 1 });
    const own = Uint32Array.of(4, 90, 17);
    const env = new ModelEnv(world, { ...noisy, ids: own, penalty: SCORE });
    const { obs: start } = await env.reset();
    const dream = await imagine(world, (_, { step }) => moves(step), {
      start,
      horizon: 5,
      seed: 7,
      trajectory: own,
      penalty: SCORE,
    }).collect();
    for (let step = 0; step < 5; step++) {
      const { obs, reward, info } = await env.step(moves(step));
      const at = (view: NdView, width: number) =>
        Float32Array.from([0, 1, 2], (row) => view.data[row * width + step]);
      expect(obs.data).toBeBitEqual(
        Float32Array.from([0, 1, 2], (row) => dream.obs.data[row * 6 + step + 1]),
      );
      expect(reward).toBeBitEqual(at(dream.reward, 5));
      expect(info.uncertainty).toBeBitEqual(at(dream.uncertainty, 5));
      expect(info.penalty).toBeBitEqual(at(dream.penalty, 5));
      expect(info.rawReward).toBeBitEqual(at(dream.rawReward, 5));
      expect(info.member).toEqual(Int32Array.of(0, 1, 0));
    }
  });

  test.each(['next-step', 'same-step', 'disabled'] as const)(
    'each env alone has the fate it has beside others (%s)',
    async (autoreset) => {
      const starts = nd(
        Float32Array.from({ length: 50 }, (_, i) => i / 10),
        [50, 1],
      );
      const run = async (own: Uint32Array) => {
        const options = { numEnvs: own.length, starts, seed: 3, ids: own, autoreset };
        const env = new ModelEnv(lineWorld({ sigma: 1, end: 6 }), {
          ...options,
          maxEpisodeSteps: 9,
        });
        const seen = [[...(await env.reset()).obs.data]];
        const episodes: number[][] = [];
        for (let step = 0; step < 60; step++) {
          const answer = await env.step(column(Array.from(own, (id) => (id % 3) / 8)));
          seen.push([...answer.reward], [...answer.terminated], [...answer.truncated]);
          episodes.push([...answer.info.episode]);
          const mask = answer.terminated.map((end, i) => end | answer.truncated[i]);
          const again = autoreset === 'disabled' && mask.includes(1);
          seen.push([...(again ? await env.reset({ mask }) : answer).obs.data]);
        }
        return { seen, last: episodes.at(-1) ?? [] };
      };
      const together = await run(Uint32Array.of(0, 1, 2, 3));
      expect(Math.min(...together.last)).toBeGreaterThan(3);
      expect(new Set(together.last).size).toBeGreaterThan(1);
      for (const id of [0, 1, 2, 3]) {
        const alone = await run(Uint32Array.of(id));
        expect(alone.seen.flat()).toEqual(together.seen.map((row) => row[id]));
      }
    },
  );

  test('a seed starts everything over; without one it goes on', async () => {
    const starts = nd(
      Float32Array.from({ length: 40 }, (_, i) => i),
      [40, 1],
    );
    const env = new ModelEnv(lineWorld({ sigma: 1 }), { ...noisy, starts });
    const run = async (seed?: number) => {
      const { obs } = await env.reset(seed === undefined ? {} : { seed });
      const next = await env.step(moves(0));
      return [...obs.data, ...next.obs.data];
    };
    const first = await run();
    const second = await run();
    expect(second).not.toEqual(first);
    expect(await run(7)).toEqual(first);
    expect(await run()).toEqual(second);
    expect(await run(8)).not.toEqual(first);
  });

  test('starts are drawn evenly, and anew for each env and episode', async () => {
    const starts = nd(
      Float32Array.from({ length: 4 }, (_, i) => i),
      [4, 1],
    );
    const env = new ModelEnv(lineWorld(), { numEnvs: 4000, starts, seed: 1 });
    const count = (obs: NdView) => [0, 1, 2, 3].map((x) => obs.data.filter((y) => y === x).length);
    const { obs: first } = await env.reset();
    const { obs: second } = await env.reset();
    // Binomial with mean 1000 and deviation 27.4.
    for (const n of [...count(first), ...count(second)])
      expect(Math.abs(n - 1000)).toBeLessThan(130);
    const same = first.data.filter((x, i) => x === second.data[i]).length;
    expect(Math.abs(same - 1000)).toBeLessThan(130);
  });
});

const SCORE = { score: maxPairwiseDifference(), coefficient: 0.5 };

describe('envs that begin at different times', () => {
  const forces = (step: number, width: number) =>
    nd(
      Float32Array.from({ length: 5 * width }, (_, i) => Math.sin(i + step) + 0.3 * (1 + (i % 5))),
      [5, width],
    );

  async function run(
    model: WorldModel<unknown>,
    autoreset: AutoresetMode,
    merge?: 'observe' | 'groups',
    more: Partial<ModelEnvOptions> = {},
  ) {
    const env = new ModelEnv(model, {
      numEnvs: 5,
      starts: quarters,
      ...more,
      seed: 5,
      maxEpisodeSteps: 7,
      autoreset,
      ...(merge && { merge }),
    });
    await env.reset();
    const seen: number[] = [];
    for (let step = 0; step < 40; step++) {
      const { obs, reward, terminated, truncated, info } = await env.step(
        forces(step, model.actionSize),
      );
      seen.push(...obs.data, ...reward, ...terminated, ...truncated, ...info.first, ...info.member);
      const mask = terminated.map((end, i) => end | truncated[i]);
      if (autoreset === 'disabled' && mask.includes(1)) {
        seen.push(...(await env.reset({ mask })).obs.data);
      }
    }
    return seen;
  }

  test.each(['next-step', 'same-step', 'disabled'] as const)(
    'take one call of the model a step where it can observe, with the same numbers (%s)',
    async (autoreset) => {
      const calls = { steps: [], observes: 0 } as Calls;
      const joined = await run(openLine(calls) as WorldModel<unknown>, autoreset);
      expect(calls.observes).toBeGreaterThan(3);
      expect(calls.steps.length).toBeLessThanOrEqual(40);
      expect(new Set(calls.steps)).toEqual(new Set([5]));
      const apart = { steps: [], observes: 0 } as Calls;
      expect(await run(openLine(apart) as WorldModel<unknown>, autoreset, 'groups')).toEqual(
        joined,
      );
      expect(apart.steps.length).toBeGreaterThan(50);
      expect(apart.observes).toBe(0);
    },
  );

  test.each(['next-step', 'same-step'] as const)(
    'keep the members that an ensemble draws for them (%s)',
    async (autoreset) => {
      await using model = await EnsembleDynamics.load(ort, toyEnsemble('shared'), {
        propagation: 'fixed-model',
      });
      let [observes, drawn] = [0, 0];
      const spied: WorldModel<EnsembleState> = {
        obsSize: model.obsSize,
        actionSize: model.actionSize,
        initial: (obs, context) => model.initial(obs, context),
        step: (state, action, context) => model.step(state, action, context),
        gather: (state, rows) => model.gather(state, rows),
        observe(state, observed, context) {
          observes++;
          const next = model.observe(state, observed, context);
          drawn += next.member?.filter((member, row) => member !== state.member?.[row]).length ?? 0;
          return next;
        },
      };
      const more: Partial<ModelEnvOptions> = {
        starts: ({ noise }) => noise.normal(model.obsSize),
        terminate: ({ nextObs }) =>
          Uint8Array.from({ length: nextObs.shape[0] }, (_, row) =>
            nextObs.data[row * model.obsSize] > 0.7 ? 1 : 0,
          ),
      };
      const joined = await run(spied as WorldModel<unknown>, autoreset, undefined, more);
      expect(observes).toBeGreaterThan(5);
      expect(drawn).toBeGreaterThan(5);
      const before = observes;
      const apart = await run(spied as WorldModel<unknown>, autoreset, 'groups', more);
      expect(observes).toBe(before);
      expect(Float64Array.from(joined)).toBeBitEqual(Float64Array.from(apart));
    },
  );

  test('are ignored with their actions in the step that resets them', async () => {
    const calls: Calls = { steps: [], observes: 0 };
    const env = new ModelEnv(openLine(calls), { numEnvs: 2, starts: quarters, seed: 0 });
    await env.reset();
    await env.step(column([9, 1]));
    const { info, obs } = await env.step(column([Number.NaN, 1]));
    expect([...obs.data]).toEqual([0.25, 3]);
    expect([...info.nonFinite]).toEqual([0, 0]);
    expect([...(calls.action as NdView).data]).toEqual([0, 1]);
  });

  test('are kept apart where the state is more than what is seen', async () => {
    const calls = { steps: [], observes: 0 } as Calls;
    const open = openLine(calls);
    const deep = {
      ...open,
      initial: (obs: NdView) => ({ obs, memory: obs }),
    } as WorldModel<unknown>;
    await run(deep, 'same-step');
    expect(calls.observes).toBe(0);
  });
});

describe('states', () => {
  test.each(['next-step', 'same-step', 'disabled'] as const)(
    'are released, all of them by close (%s)',
    async (autoreset) => {
      const world = lineWorld({ end: 6, broken: (x) => x === 5, asynchronous: true });
      const env = new ModelEnv(world, {
        numEnvs: 4,
        starts: quarters,
        seed: 0,
        maxEpisodeSteps: 5,
        autoreset,
      });
      await env.reset();
      for (let step = 0; step < 30; step++) {
        const answer = await env.step(column([1, 1.5, 0.5, 3]));
        const mask = answer.terminated.map((end, i) => end | answer.truncated[i]);
        if (autoreset === 'disabled' && mask.includes(1)) await env.reset({ mask });
        expect(world.alive.size).toBeLessThanOrEqual(4);
      }
      await env.reset({ mask: Uint8Array.of(0, 1, 0, 1) });
      await env.reset();
      expect(world.alive.size).toBe(1);
      env.close();
      env.close();
      expect(world.alive.size).toBe(0);
      await expect(env.step(column([1, 1, 1, 1]))).rejects.toThrow(/must be open/);
    },
  );

  test('given by starts are the environment’s', async () => {
    const world = lineWorld({ end: 4 });
    const env = new ModelEnv(world, {
      numEnvs: 2,
      seed: 0,
      autoreset: 'same-step',
      starts: async ({ env: rows }) => {
        const state = await world.initial(zeros([rows.length, 1]), undefined as never);
        return Object.assign(state, { obs: zeros([rows.length, 1]) });
      },
    });
    await env.reset();
    for (let step = 0; step < 6; step++) await env.step(column([2, 1]));
    env.close();
    expect(world.alive.size).toBe(0);
  });

  test('a call that fails changes nothing', async () => {
    let fail = false;
    const world = lineWorld({ sigma: 1 });
    const shaky: WorldModel<LineState> = {
      ...world,
      async step(...args) {
        const result = await world.step(...args);
        if (fail) return { ...result, reward: new Float32Array(7) };
        return result;
      },
    };
    const env = new ModelEnv(shaky, { numEnvs: 2, starts: quarters, seed: 0 });
    const sound = new ModelEnv(world, { numEnvs: 2, starts: quarters, seed: 0 });
    await env.reset();
    await sound.reset();
    fail = true;
    await expect(env.step(column([1, 1]))).rejects.toThrow(/reward must have 2 entries, got 7/);
    fail = false;
    expect(await env.step(column([1, 2]))).toEqual(await sound.step(column([1, 2])));
    expect(world.alive.size).toBe(2);
  });

  test('close waits for the call under way, which fails', async () => {
    const world = lineWorld({ asynchronous: true });
    const env = new ModelEnv(world, { numEnvs: 2, starts: quarters, seed: 0 });
    await env.reset();
    const going = env.step(column([1, 1]));
    env.close();
    // The state it steps from and the one it leads to.
    expect(world.alive.size).toBe(2);
    await expect(going).rejects.toThrow(/must be open/);
    expect(world.alive.size).toBe(0);
  });
});

/** A step that heeds no action. */
const lineStep = (state: LineState) => ({
  state,
  obs: nd(state.x.slice(), [state.x.length, 1]),
  reward: state.x.slice(),
});

describe('results that are not finite', () => {
  test.each([
    ['in groups', () => lineWorld({ broken: (x) => x === 2 }) as WorldModel<unknown>],
    [
      'by observation',
      () => {
        const open = openLine();
        return {
          ...open,
          step: async (state: ObsState, action: NdView, context: never) => {
            const result = await open.step(state, action, context);
            const obs = nd(
              result.obs.data.map((x) => (x === 2 ? Number.NaN : x)),
              result.obs.shape,
            );
            return { ...result, obs, state: { obs } };
          },
        } as WorldModel<unknown>;
      },
    ],
  ])('cut the episode before them (%s)', async (_, make) => {
    const env = new ModelEnv(make(), { numEnvs: 2, starts: quarters, seed: 0 });
    await env.reset();
    await env.step(column([1, 3]));
    const broken = await env.step(column([1, 1]));
    expect([...broken.obs.data]).toEqual([1, 5]);
    expect([...broken.reward]).toEqual([0, 50]);
    expect([...broken.truncated]).toEqual([1, 0]);
    expect([...broken.terminated]).toEqual([0, 0]);
    expect([...broken.info.nonFinite]).toEqual([1, 0]);
    expect(env.nonFinite).toBe(1);
    const after = await env.step(column([9, 1]));
    expect([...after.obs.data]).toEqual([0.25, 6]);
    expect([...after.info.nonFinite]).toEqual([0, 0]);
    expect([...after.info.first]).toEqual([1, 0]);
  });

  test('so does an action that is not, whatever the model makes of it', async () => {
    const heedless = { ...lineWorld(), step: (state: LineState) => lineStep(state) };
    const env = new ModelEnv(heedless as WorldModel<LineState>, {
      numEnvs: 2,
      starts: quarters,
      seed: 0,
    });
    await env.reset();
    const { info, truncated } = await env.step(column([Number.NaN, 1]));
    expect([...info.nonFinite, ...truncated]).toEqual([1, 0, 1, 0]);
  });
});

describe('penalty, halt and further ends', () => {
  test('a penalty is subtracted and reported apart', async () => {
    const env = new ModelEnv(lineWorld(), {
      numEnvs: 2,
      starts: quarters,
      seed: 0,
      penalty: SCORE,
    });
    await env.reset();
    const { reward, info } = await env.step(column([1, 2]));
    expect([...info.uncertainty]).toEqual([1, 3]);
    expect([...info.penalty]).toEqual([0.5, 1.5]);
    expect([...info.rawReward]).toEqual([10, 30]);
    expect([...reward]).toEqual([9.5, 28.5]);
  });

  test.each(['terminated', 'truncated'] as const)('a halt makes a step %s', async (as) => {
    const detector = {
      score: maxPairwiseDifference(),
      unknown: (doubt: Float32Array) => Uint8Array.from(doubt, (value) => (value > 2 ? 1 : 0)),
    };
    const halt = { detector, as, penalty: 4 };
    const env = new ModelEnv(lineWorld(), { numEnvs: 2, starts: quarters, seed: 0, halt });
    await env.reset();
    const answer = await env.step(column([1, 2]));
    expect([...answer[as]]).toEqual([0, 1]);
    expect([...answer[as === 'truncated' ? 'terminated' : 'truncated']]).toEqual([0, 0]);
    expect([...answer.reward]).toEqual([10, 26]);
    expect([...answer.info.penalty]).toEqual([0, 4]);
  });

  test('terminate ends episodes besides the model', async () => {
    const env = new ModelEnv(lineWorld({ end: 5 }), {
      numEnvs: 3,
      starts: quarters,
      seed: 0,
      terminate: ({ obs, action, nextObs }) =>
        Uint8Array.from(nextObs.data, (x, i) =>
          x < 0 && x === obs.data[i] + action.data[i] ? 1 : 0,
        ),
    });
    await env.reset();
    expect([...(await env.step(column([-1, 1, 4]))).terminated]).toEqual([1, 0, 1]);
  });

  test('scores of a policy’s actions need their log-densities', async () => {
    const score = Object.assign(
      (_: unknown, { logProb }: { logProb?: Float32Array }) =>
        logProb?.map((value) => -value) ?? new Float32Array(0),
      { needs: ['logProb'] as const },
    );
    const penalty = { score, coefficient: 1 };
    const env = new ModelEnv(lineWorld(), { numEnvs: 2, starts: quarters, seed: 0, penalty });
    await env.reset();
    await expect(env.step(column([1, 2]))).rejects.toThrow(/call step\(action, \{ logProb \}\)/);
    const { reward } = await env.step(column([1, 2]), { logProb: Float32Array.of(-1, -2) });
    expect([...reward]).toEqual([9, 28]);
  });
});

describe('what is answered', () => {
  test('is never written again, nor does writing to it change what follows', async () => {
    const run = async (spoil: boolean) => {
      const env = new ModelEnv(openLine(), { numEnvs: 2, starts: quarters, seed: 0 });
      const answers = [];
      const first = await env.reset();
      if (spoil) first.obs.data.fill(99);
      for (let step = 0; step < 12; step++) {
        const answer = await env.step(column([1, 2]));
        answers.push(structuredClone(answer));
        if (spoil) {
          answer.obs.data.fill(99);
          answer.terminated.fill(1);
          answer.info.episode.fill(9);
        }
      }
      return answers;
    };
    expect(await run(true)).toEqual(await run(false));
  });

  test('extras have an entry for each env, whichever group gave it', async () => {
    const env = new ModelEnv(opaqueLine(), { numEnvs: 3, starts: quarters, seed: 0 });
    await env.reset();
    await env.step(column([9, 1, 1]));
    const { info } = await env.step(column([1, 1, 1]));
    expect(info.extras).toEqual({ twice: Float32Array.of(0, 6, 8) });
    const next = await env.step(column([1, 1, 1]));
    expect(next.info.extras).toEqual({ twice: Float32Array.of(2.5, 8, 10) });
  });

  test('a start of the caller’s own replaces that of starts', async () => {
    const env = new ModelEnv(lineWorld(), { numEnvs: 3, starts: quarters, seed: 0 });
    await env.reset();
    const { obs } = await env.reset({ mask: Uint8Array.of(1, 0, 1), start: column([5, 7]) });
    expect([...obs.data]).toEqual([5, 1, 7]);
    expect([...(await env.step(column([1, 1, 1]))).obs.data]).toEqual([6, 2, 8]);
  });
});

describe('refuses', () => {
  const world = lineWorld({ end: 8 });
  const good = { numEnvs: 2, starts: quarters, seed: 0 };
  const wide = { ...world, actionSize: 3 };

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['a name it does not know', { maxSteps: 3 }, /options must be among .*got 'maxSteps'/],
    ['no envs', { numEnvs: 0 }, /numEnvs must be a positive integer, got 0/],
    ['an unknown mode', { autoreset: 'always' }, /autoreset must be among next-step, .*got always/],
    ['starts of another width', { starts: zeros([4, 2]) }, /starts must have shape \[B, 1\]/],
    ['no starts', { starts: zeros([0, 1]) }, /starts must have at least one row/],
    ['starts that are not finite', { starts: column([1, Number.NaN]) }, /finite, .* row 1/],
    ['ids of another length', { ids: ids(3) }, /ids must have one entry for each of the 2 envs/],
    ['a limit of no steps', { maxEpisodeSteps: 0 }, /maxEpisodeSteps must be a positive integer/],
    ['to observe with a model that cannot', { merge: 'observe' }, /must be 'groups' for a model/],
    ['an action space of another width', { actionSpace: { type: 'discrete', n: 3 } }, /one-hot/],
    [
      'a coefficient that is none',
      { penalty: { score: SCORE.score, coefficient: Number.NaN } },
      /finite/,
    ],
    [
      'a penalty without a score',
      { penalty: { coefficient: 1 } },
      /^ModelEnv: penalty\.score must be a function, got undefined, such as maxAleatoric\(\)$/,
    ],
    ['a penalty that is none', { penalty: null }, /^ModelEnv: penalty: .* got null/],
    [
      'a halt that is none',
      { halt: { detector: {} } },
      /^ModelEnv: halt\.detector must have functions score and unknown/,
    ],
    [
      'a halt that costs no number',
      { halt: { detector: { ...SCORE, unknown: () => new Uint8Array(2) }, penalty: Number.NaN } },
      /^ModelEnv: halt\.penalty must be a finite number, got NaN/,
    ],
  ])('%s', (_, options, message) => {
    expect(() => new ModelEnv(world, { ...good, ...options } as never)).toThrow(message);
  });

  test('to step before a reset, or an env that has ended and is not reset', async () => {
    const env = new ModelEnv(world, { ...good, autoreset: 'disabled' });
    await expect(env.step(column([1, 1]))).rejects.toThrow(/reset must have been called/);
    await expect(env.reset({ mask: Uint8Array.of(1, 0) })).rejects.toThrow(
      /all envs must be reset/,
    );
    await env.reset();
    await env.step(column([1, 9]));
    await expect(env.step(column([1, 1]))).rejects.toThrow(/must be reset .* got env 1/);
  });

  test('resets of nothing, and a seed for some envs alone', async () => {
    const env = new ModelEnv(world, good);
    await env.reset();
    const mask = Uint8Array.of(1, 0);
    await expect(env.reset({ mask: new Uint8Array(2) })).rejects.toThrow(/at least one env/);
    await expect(env.reset({ mask: new Uint8Array(3) })).rejects.toThrow(/2 entries, got 3/);
    await expect(env.reset({ mask, seed: 1 })).rejects.toThrow(/seed must be left out/);
    await expect(env.reset({ mask, start: column([1, 2]) })).rejects.toThrow(/shape \[1, 1\]/);
    await expect(env.reset({ start: column([Number.NaN, 2]) })).rejects.toThrow(/finite/);
  });

  test('actions of another kind', async () => {
    const box = new ModelEnv(world, good);
    await box.reset();
    await expect(box.step(Int32Array.of(0, 1))).rejects.toThrow(/action must be a view \[2, 1\]/);
    await expect(box.step(column([1]))).rejects.toThrow(/shape \[2, 1\], got \[1,1\]/);
    const actionSpace = { type: 'discrete', n: 3 } as const;
    const discrete = new ModelEnv(wide, { ...good, actionSpace });
    await discrete.reset();
    await expect(discrete.step(column([0, 1]))).rejects.toThrow(/must be an Int32Array/);
    await expect(discrete.step(Int32Array.of(0, 3))).rejects.toThrow(/0\.\.2, got 3 for env 1/);
    await expect(discrete.step(Int32Array.of(0))).rejects.toThrow(/shape \[2\] or \[2, 1\]/);
    const beyond = { data: Int32Array.of(2, 2), shape: [2], stride: [5], offset: 0 };
    await expect(discrete.step(beyond)).rejects.toThrow(ShapeError);
    await expect(discrete.step(beyond)).rejects.toThrow(
      /ModelEnv.step: action must be a view within its 2 elements/,
    );
    await discrete.step(nd(Int32Array.of(0, 2), [2, 1]));
  });

  test('a second call before the first is answered', async () => {
    const env = new ModelEnv(world, good);
    await env.reset();
    const first = env.step(column([1, 1]));
    await expect(env.step(column([1, 1]))).rejects.toThrow(/must have been answered; await it/);
    await first;
  });
});
