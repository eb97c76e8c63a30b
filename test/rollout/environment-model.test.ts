import * as ort from 'onnxruntime-node';
import { imagine, type NdView, NetworkPolicy, nd } from 'umwelt';
import { modelContext } from 'umwelt/dynamics';
import { type Environment, EnvironmentModel, ModelEnv, type Policy } from 'umwelt/rollout';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Hopper } from '../../examples/hopper/simulator.js';
import { recordedStarts } from '../../examples/hopper/starts.js';
import { HOPPER_POLICY, hopperStarts, ids } from '../support/models.js';

let hopper: Hopper;
let policy: NetworkPolicy;
let simulator: Environment<Float64Array>;
let model: EnvironmentModel<Float64Array>;

/** The state of a hopper at x = 0 that an observation stands for, unless its velocities were clipped. */
function snapshotOf(obs: ArrayLike<number>): Float64Array {
  const [qpos, qvel] = stateOf(obs);
  hopper.reset(qpos, qvel);
  return hopper.save();
}

const stateOf = (obs: ArrayLike<number>) => {
  const values = Array.from(obs);
  return [[0, ...values.slice(0, 5)], values.slice(5)];
};

beforeAll(async () => {
  hopper = await Hopper.load();
  policy = await NetworkPolicy.load(ort, HOPPER_POLICY, { deterministic: true });
  simulator = {
    obsSize: 11,
    actionSize: 3,
    observe: () => hopper.obs(),
    step: (action) => hopper.step(action),
    save: () => hopper.save(),
    restore: (state) => hopper.restore(state),
  };
  model = new EnvironmentModel(simulator, { snapshotOf });
});

afterAll(async () => {
  hopper.dispose();
  await policy.dispose();
});

/** What the simulator does by hand under a policy, from where it stands: float32 as the model reports. */
async function byHand(steps: number, row = 0) {
  const obs = [Float32Array.from(hopper.obs())];
  const action: Float32Array[] = [];
  const reward: number[] = [];
  let terminated = false;
  for (let step = 0; step < steps && !terminated; step++) {
    const context = modelContext(0, Uint32Array.of(row), { step });
    const chosen = await policy.act(nd(obs[step], [1, 11]), context);
    action.push(chosen.action.data.slice());
    const result = hopper.step(chosen.action.data);
    obs.push(Float32Array.from(result.obs));
    reward.push(Math.fround(result.reward));
    terminated = result.terminated;
  }
  return { obs, action, reward, terminated };
}

const flat = (rows: readonly ArrayLike<number>[]) =>
  Float32Array.from(rows.flatMap((row) => Array.from(row)));

describe('the hopper in MuJoCo as a world model', () => {
  test('rolled out by imagine is the simulator stepped by hand, to the bit', async () => {
    const starts = recordedStarts().slice(0, 3);
    const snapshots = starts.map(({ qpos, qvel }) => {
      hopper.reset(qpos, qvel);
      return hopper.save();
    });
    const start = model.at(snapshots);
    const dream = await imagine(model, policy, { start, horizon: 60, seed: 0 }).collect();
    for (const [row, { qpos, qvel }] of starts.entries()) {
      hopper.reset(qpos, qvel);
      const { obs, action, reward, terminated } = await byHand(60, row);
      const length = reward.length;
      expect(dream.length[row]).toBe(length);
      const at = row * 61 * 11;
      expect(dream.obs.data.slice(at, at + (length + 1) * 11)).toBeBitEqual(flat(obs));
      expect(dream.action.data.slice(row * 180, row * 180 + length * 3)).toBeBitEqual(flat(action));
      expect(dream.reward.data.slice(row * 60, row * 60 + length)).toBeBitEqual(
        Float32Array.from(reward),
      );
      expect(dream.terminated.data[row * 60 + length - 1]).toBe(terminated ? 1 : 0);
    }
    // It got somewhere: a hop forward takes about that many steps.
    expect(dream.obs.data[60 * 11]).not.toBe(dream.obs.data[0]);
  });

  test('falls when nobody holds it, and the fall is an end', async () => {
    const limp: Policy = (obs) => nd(new Float32Array(obs.shape[0] * 3), [obs.shape[0], 3]);
    const start = hopperStarts();
    const first = nd(start.data.slice(0, 22), [2, 11]);
    const dream = await imagine(model, limp, { start: first, horizon: 200, seed: 0 }).collect();
    for (const row of [0, 1]) {
      const length = dream.length[row];
      expect(length).toBeLessThan(200);
      expect(dream.terminated.data[row * 200 + length - 1]).toBe(1);
      const fallen = dream.obs.data.slice((row * 201 + length) * 11, (row * 201 + length + 1) * 11);
      expect(hopper.isHealthy(fallen)).toBe(false);
    }
  });

  test('gives each row its own fate, whichever rows there are beside it', async () => {
    const start = hopperStarts();
    const rowsFrom = (rows: number[]) =>
      nd(flat(rows.map((row) => start.data.slice(row * 11, row * 11 + 11))), [rows.length, 11]);
    const options = { horizon: 40, seed: 0 };
    const both = await imagine(model, policy, { start: rowsFrom([5, 9]), ...options }).collect();
    for (const [row, source] of [5, 9].entries()) {
      const alone = await imagine(model, policy, {
        start: rowsFrom([source]),
        trajectory: Uint32Array.of(row),
        ...options,
      }).collect();
      const width = 41 * 11;
      expect(alone.obs.data).toBeBitEqual(both.obs.data.slice(row * width, (row + 1) * width));
    }
  });

  test('keeps its states: one stepped twice, with other steps between, gives the same', () => {
    const context = modelContext(0, ids(2));
    const start = hopperStarts();
    const state = model.initial(nd(start.data.slice(0, 22), [2, 11]), context);
    const push = nd(Float32Array.of(1, -0.5, 0.2, -1, 0.5, 0), [2, 3]);
    const first = model.step(state, push);
    let other = model.step(first.state, push);
    for (let step = 0; step < 10; step++) other = model.step(other.state, push);
    const again = model.step(state, push);
    expect(again.obs.data).toBeBitEqual(first.obs.data);
    expect(again.reward).toBeBitEqual(first.reward);
    const swapped = model.gather(first.state, Int32Array.of(1, 0, 1));
    expect(swapped.obs.data.slice(0, 11)).toBeBitEqual(first.obs.data.slice(11));
    const forth = (rows: NdView, row: number) => rows.data.slice(row * 3, row * 3 + 3);
    const three = nd(flat([forth(push, 1), forth(push, 0), forth(push, 1)]), [3, 3]);
    const next = model.step(swapped, three).obs.data;
    const straight = model.step(first.state, push).obs.data;
    expect(next).toBeBitEqual(
      flat([straight.slice(11), straight.slice(0, 11), straight.slice(11)]),
    );
  });

  test('and as an environment again is the simulator, episode after episode', async () => {
    const starts = hopperStarts();
    const env = new ModelEnv(model, {
      numEnvs: 2,
      starts,
      seed: 4,
      maxEpisodeSteps: 25,
      autoreset: 'same-step',
    });
    let { obs } = await env.reset();
    const actions = (step: number) =>
      nd(
        Float32Array.from({ length: 6 }, (_, i) => Math.sin(step * (i + 1))),
        [2, 3],
      );
    /** One simulator for each env, at the start that the env showed. */
    const direct = [await Hopper.load(), await Hopper.load()];
    const begin = (row: number) => {
      const [qpos, qvel] = stateOf(obs.data.slice(row * 11, row * 11 + 11));
      direct[row].reset(qpos, qvel);
    };
    [0, 1].forEach(begin);
    let episodes = 0;
    for (let step = 0; step < 80; step++) {
      const answer = await env.step(actions(step));
      ({ obs } = answer);
      for (const row of [0, 1]) {
        const result = direct[row].step(actions(step).data.slice(row * 3, row * 3 + 3));
        const done = answer.terminated[row] | answer.truncated[row];
        const shown = done === 1 && answer.info.finalObs ? answer.info.finalObs : obs;
        expect(shown.data.slice(row * 11, row * 11 + 11)).toBeBitEqual(
          Float32Array.from(result.obs),
        );
        expect(answer.reward[row]).toBe(Math.fround(result.reward));
        expect(answer.terminated[row]).toBe(result.terminated ? 1 : 0);
        if (done === 1) {
          episodes++;
          begin(row);
        }
      }
    }
    expect(episodes).toBeGreaterThan(4);
    for (const one of direct) one.dispose();
    env.close();
  });
});

/** A walk whose steps come from a generator of its own, which is part of its state. */
function walk(): Environment<readonly [number, number]> {
  let [x, bits] = [0, 1];
  const draw = () => {
    bits = (Math.imul(bits, 1664525) + 1013904223) >>> 0;
    return bits / 2 ** 32;
  };
  return {
    obsSize: 1,
    actionSize: 1,
    reset(seed) {
      bits = seed;
      x = draw();
    },
    observe: () => [x],
    step([push]) {
      x += push + draw();
      return { obs: [x], reward: x, terminated: x > 4 };
    },
    save: () => [x, bits],
    restore(state) {
      [x, bits] = state;
    },
  };
}

describe('a simulator with a generator of its own', () => {
  test('starts by seed, and each row keeps its own numbers', async () => {
    const world = new EnvironmentModel(walk());
    const start = world.start(Uint32Array.of(11, 5, 11));
    const push: Policy = (obs) => nd(new Float32Array(obs.shape[0]).fill(0.1), obs.shape);
    const { obs, length } = await imagine(world, push, { start, horizon: 20, seed: 0 }).collect();
    expect(length[0]).toBeLessThan(20);
    expect(obs.data.slice(0, 21)).toBeBitEqual(obs.data.slice(42));
    expect(obs.data.slice(0, 21)).not.toEqual(obs.data.slice(21, 42));
    const plain = walk();
    plain.reset?.(5);
    const seen = [plain.observe()[0]];
    for (let step = 0; step < length[1]; step++) {
      seen.push(plain.step(Float32Array.of(0.1)).obs[0]);
    }
    expect(obs.data.slice(21, 21 + seen.length)).toBeBitEqual(Float32Array.from(seen));
  });

  test('as an environment begins from states that starts gives', async () => {
    const world = new EnvironmentModel(walk());
    const env = new ModelEnv(world, {
      numEnvs: 3,
      seed: 0,
      starts: ({ env: rows, episode }) => world.start(rows.map((id) => 100 * id + episode)),
    });
    const { obs } = await env.reset();
    const plain = walk();
    const begin = (seed: number) => {
      plain.reset?.(seed);
      return Math.fround(plain.observe()[0]);
    };
    expect([...obs.data]).toEqual([begin(0), begin(100), begin(200)]);
    const push = nd(Float32Array.of(5, 0, 0), [3, 1]);
    expect([...(await env.step(push)).terminated]).toEqual([1, 0, 0]);
    const second = await env.step(push);
    begin(100);
    plain.step(Float32Array.of(0));
    const middle = Math.fround(plain.step(Float32Array.of(0)).obs[0]);
    expect([...second.obs.data.slice(0, 2)]).toEqual([begin(1), middle]);
  });

  test('cannot start from observations that do not tell its state', async () => {
    const world = new EnvironmentModel(walk());
    const still: Policy = (obs) => obs;
    const dream = imagine(world, still, { start: nd([[0]]), horizon: 1, seed: 0 });
    await expect(dream.collect()).rejects.toThrow(/understood through snapshotOf/);
  });
});

test('what is no simulator is refused', () => {
  const { save, ...without } = walk();
  expect(save).toBeTypeOf('function');
  expect(() => new EnvironmentModel(without as never)).toThrow(/must have a function save/);
  expect(() => new EnvironmentModel({ ...walk(), obsSize: 0.5 })).toThrow(/must have obsSize/);
  expect(() => new EnvironmentModel(walk(), { snapshot: 1 } as never)).toThrow(/'snapshot'/);
  const narrow = new EnvironmentModel({ ...walk(), observe: () => [1, 2] });
  expect(() => narrow.start(ids(1))).toThrow(/obsSize 1 entries, got 2/);
  const { reset, ...unseeded } = walk();
  expect(reset).toBeTypeOf('function');
  expect(() => new EnvironmentModel(unseeded).start(ids(1))).toThrow(/must have a function reset/);
  const state = new EnvironmentModel(walk()).at([[0, 1]]);
  expect(() => new EnvironmentModel(walk()).step(state, nd([[1, 2]]))).toThrow(/shape \[1, 1\]/);
});
