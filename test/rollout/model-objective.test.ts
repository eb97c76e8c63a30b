import * as ort from 'onnxruntime-node';
import { gatherRows, type NdView, nd, type WorldModel } from 'umwelt';
import { ClosedFormDynamics, EnsembleDynamics, maxPairwiseDifference } from 'umwelt/dynamics';
import {
  actionSequence,
  imagine,
  type ModelObjectiveOptions,
  modelObjective,
  type ObjectiveContext,
  repeatRows,
} from 'umwelt/rollout';
import { key } from 'umwelt/sampling';
import { describe, expect, it } from 'vitest';
import { lineWorld } from '../support/line-world.js';
import { hopperStarts, ids, toyEnsemble } from '../support/models.js';

function context<Start>(start: Start, rows: number, more: object = {}): ObjectiveContext<Start> {
  const trajectory = ids(rows);
  return { start, key: key(3), step: 0, trajectory, iteration: 0, ...more };
}

/** The value of sequences in a model, from `start` on. */
async function value<State>(
  model: WorldModel<State>,
  start: NdView | State,
  sequences: number[][][],
  options: ModelObjectiveOptions = {},
  more: object = {},
): Promise<number[][]> {
  const [rows, count, horizon] = [sequences.length, sequences[0].length, sequences[0][0].length];
  const actions = nd(Float32Array.from(sequences.flat(2)), [rows, count, horizon, 1]);
  const { data } = await modelObjective(model, options)(actions, context(start, rows, more));
  return Array.from({ length: rows }, (_, b) => [...data.subarray(b * count, (b + 1) * count)]);
}

describe('modelObjective', () => {
  // The line world: x' = x + a, reward 10 x'.
  it('sums discounted rewards and what the last state is worth', async () => {
    const options = { gamma: 0.5, value: (obs: NdView) => obs.data.map((x) => 100 * x) };
    const values = await value(
      lineWorld(),
      nd([[1], [2]]),
      [
        [
          [1, 1, 1],
          [0, 0, 0],
        ],
        [
          [0, 1, 0],
          [1, 0, 0],
        ],
      ],
      options,
    );
    // 10 (2 + 3/2 + 4/4) + 100 * 4 / 8, and so on.
    expect(values).toEqual([
      [10 * 4.5 + 50, 10 * 1.75 + 12.5],
      [10 * (2 + 1.5 + 0.75) + 37.5, 10 * 5.25 + 37.5],
    ]);
  });

  it('counts the reward of the step that ends an episode, and nothing after it', async () => {
    const world = lineWorld({ end: 3 });
    const options = { value: () => new Float32Array(2).fill(1e6) };
    const values = await value(
      world,
      nd([[1]]),
      [
        [
          [1, 1, 1],
          [1, -1, 0],
        ],
      ],
      options,
    );
    expect(values).toEqual([[10 * (2 + 3), 10 * (2 + 1 + 1) + 1e6]]);
    // An injected end does the same.
    const terminate = ({ nextObs }: { nextObs: NdView }) =>
      Uint8Array.from(nextObs.data, (x) => (x >= 3 ? 1 : 0));
    const ended = await value(
      lineWorld(),
      nd([[1]]),
      [
        [
          [1, 1, 1],
          [1, -1, 0],
        ],
      ],
      { ...options, terminate },
    );
    expect(ended).toEqual(values);
  });

  it('asks the model no more once every future has ended', async () => {
    const world = lineWorld({ end: 2 });
    await value(world, nd([[1]]), [[[1, 1, 1, 1]]]);
    expect(world.batches).toEqual([1]);
    expect(world.alive.size).toBe(0);
  });

  it('gives NaN where a reward or a state is not finite, unless it comes after the end', async () => {
    const broken = (x: number) => x >= 3;
    const values = await value(lineWorld({ broken }), nd([[1]]), [
      [
        [1, 1],
        [1, 0],
      ],
    ]);
    expect(values).toEqual([[Number.NaN, 40]]);
    const after = await value(lineWorld({ broken, end: 2 }), nd([[1]]), [
      [
        [1, 1],
        [1, 0],
      ],
    ]);
    expect(after).toEqual([[20, 20]]);
    // A rule that ends what is not finite must not make it look good.
    const model = new ClosedFormDynamics({
      obsSize: 1,
      actionSize: 1,
      next: ({ obs, action, nextObs }) =>
        nextObs.data.set(obs.data.map((x, b) => (action.data[b] > 0 ? Number.NaN : x))),
      reward: ({ nextObs }) => new Float32Array(nextObs.shape[0]).fill(7),
      terminate: ({ nextObs }) =>
        Uint8Array.from(nextObs.data, (x) => (Number.isFinite(x) ? 0 : 1)),
    });
    expect(
      await value(model, nd([[1]]), [
        [
          [1, 0],
          [0, 0],
        ],
      ]),
    ).toEqual([[Number.NaN, 14]]);
  });

  it('adds uncertainty of either sign, with a discount of its own, until the end', async () => {
    // The two members of the line world differ by x'.
    const score = maxPairwiseDifference({ dims: 'all' });
    const sequences = [[[1, 1, 1]]];
    const at = (weight: number, gamma?: number) =>
      value(lineWorld({ end: 3 }), nd([[1]]), sequences, {
        uncertainty: { score, weight, ...(gamma !== undefined && { gamma }) },
      });
    expect(await at(-2)).toEqual([[50 - 2 * (2 + 3)]]);
    expect(await at(2)).toEqual([[50 + 2 * (2 + 3)]]);
    expect(await at(-2, 0.5)).toEqual([[50 - 2 * (2 + 1.5)]]);
    expect(await at(0)).toEqual([[50]]);
  });

  it('averages over particles, which meet noise of their own', async () => {
    const world = lineWorld({ sigma: 1 });
    const [[mean, other]] = await value(world, nd([[0]]), [[[0], [0]]], { particles: 4000 });
    // The mean of 4,000 normals of deviation 10 is within 4 deviations of 0.
    expect(Math.abs(mean)).toBeLessThan((4 * 10) / Math.sqrt(4000));
    expect(mean).not.toBe(other);
  });

  it('adds standard deviations over the particles, of either sign', async () => {
    // Particle p of the start at 0 lands on p: 0, 10, 20 of reward, with a deviation of sqrt(200 / 3).
    const spreading: WorldModel<NdView> = {
      obsSize: 1,
      actionSize: 1,
      initial: (obs) =>
        nd(
          Float32Array.from(obs.data, (_, row) => row % 3),
          obs.shape,
        ),
      step: (state) => ({ state, obs: state, reward: state.data.map((x) => 10 * x) }),
      gather: gatherRows,
    };
    const at = async (spread: number) =>
      (await value(spreading, nd([[0]]), [[[0]]], { particles: 3, spread }))[0][0];
    expect(await at(0)).toBe(10);
    expect(await at(-2)).toBeCloseTo(10 - 2 * Math.sqrt(200 / 3), 5);
    expect(await at(0.5)).toBeCloseTo(10 + 0.5 * Math.sqrt(200 / 3), 5);
  });

  it('lets all sequences of a start meet the same noise where that is asked for', async () => {
    const options = { particles: 3, noise: 'common' as const };
    const [[a, b], [c]] = await value(
      lineWorld({ sigma: 1 }),
      nd([[0], [0]]),
      [
        [[0], [1]],
        [[0], [1]],
      ],
      options,
    );
    expect(b - a).toBeCloseTo(10, 4);
    expect(c).not.toBe(a);
  });

  it('gives a start the same values alone as among others', async () => {
    const options = { particles: 2 };
    const world = lineWorld({ sigma: 0.5 });
    const both = await value(
      world,
      nd([[1], [2]]),
      [
        [
          [0, 1],
          [1, 0],
        ],
        [
          [1, 1],
          [0, 0],
        ],
      ],
      options,
    );
    const one = await value(
      world,
      nd([[2]]),
      [
        [
          [1, 1],
          [0, 0],
        ],
      ],
      options,
      { trajectory: ids(1, 1) },
    );
    expect(one).toEqual([both[1]]);
  });

  it('holds each action for several steps of the model', async () => {
    const values = await value(lineWorld(), nd([[0]]), [[[1, 0]]], { actionRepeat: 3, gamma: 0.5 });
    const rewards = [1, 2, 3, 3, 3, 3].reduce((sum, x, t) => sum + 10 * x * 0.5 ** t, 0);
    expect(values[0][0]).toBeCloseTo(rewards, 4);
  });

  it("starts from a state of the model, which stays the caller's", async () => {
    const world = lineWorld();
    const obs = nd([[4]]);
    const state = { ...(await world.initial(obs, undefined as never)), obs };
    const [[a]] = await value(world, state, [[[1]]]);
    expect(a).toBe(50);
    expect([...world.alive]).toEqual([state.id]);
  });

  it('frees its states when it is stopped or the model fails', async () => {
    const world = lineWorld();
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(value(world, nd([[0]]), [[[1, 1]]], {}, { signal })).rejects.toThrow('enough');
    const failing = { ...world, step: () => Promise.reject(new Error('no step')) };
    await expect(value(failing, nd([[0]]), [[[1, 1]]])).rejects.toThrow('no step');
    const score = () => Promise.reject(new Error('no score'));
    const uncertainty = { score, weight: 1 };
    await expect(value(world, nd([[0]]), [[[1]]], { uncertainty })).rejects.toThrow('no score');
    expect(world.alive.size).toBe(0);
  });

  it('feeds one-hot rows for int32 indices', async () => {
    const fed: number[] = [];
    const model: WorldModel<NdView> = {
      obsSize: 1,
      actionSize: 3,
      initial: (obs) => obs,
      step(state, action) {
        fed.push(...action.data);
        return { state, obs: state, reward: new Float32Array(state.shape[0]) };
      },
      gather: gatherRows,
    };
    const objective = modelObjective(model);
    await objective(nd(Int32Array.of(2, 0), [1, 1, 2, 1]), context(nd([[0]]), 1));
    expect(fed).toEqual([0, 0, 1, 1, 0, 0]);
    const stray = objective(nd(Int32Array.of(3), [1, 1, 1, 1]), context(nd([[0]]), 1));
    await expect(stray).rejects.toThrow(/must lie in 0..2, got 3/);
    const wide = objective(nd(new Float32Array(2), [1, 1, 1, 2]), context(nd([[0]]), 1));
    await expect(wide).rejects.toThrow(/actions must be actionSize 3 wide, got 2/);
  });

  it('agrees with a rollout of the same sequences and noise, for a trained ensemble', async () => {
    const model = await EnsembleDynamics.load(ort, toyEnsemble('separate'));
    const [obsSize, width] = [model.obsSize, model.actionSize];
    const start = nd(
      Float32Array.from({ length: 2 * obsSize }, (_, i) => Math.sin(i)),
      [2, obsSize],
    );
    const shape = [2, 5, 4, width];
    const actions = nd(
      Float32Array.from({ length: 40 * width }, (_, i) => Math.cos(3 * i)),
      shape,
    );
    const values = await modelObjective(model, { gamma: 0.9 })(actions, context(start, 2));
    const dream = await imagine(model, actionSequence(nd(actions.data, [10, 4, width])), {
      start: repeatRows(start, 5),
      horizon: 4,
      seed: key(3),
    }).collect();
    for (let i = 0; i < 10; i++) {
      let sum = 0;
      for (let t = 0; t < 4; t++) sum += 0.9 ** t * dream.reward.data[4 * i + t];
      expect(values.data[i]).toBeCloseTo(sum, 5);
    }
    await model.dispose();
  });

  it('values two sets of sequences at once as one after the other', async () => {
    const slow = lineWorld({ asynchronous: true });
    const [first, second] = [modelObjective(slow), modelObjective(slow)];
    const actions = nd(Float32Array.of(1, 2, 3, 4), [1, 2, 2, 1]);
    const others = nd(Float32Array.of(-1, -2, -3, -4), [1, 2, 2, 1]);
    const about = context(nd([[0]]), 1);
    const together = await Promise.all([
      first(actions, about),
      second(others, about),
      first(others, about),
    ]);
    expect(together.map(({ data }) => [...data])).toEqual([
      [40, 100],
      [-40, -100],
      [-40, -100],
    ]);
  });

  it('does not mind a model that answers in the same memory each time', async () => {
    const memory = new Float32Array(2);
    const model: WorldModel<NdView> = {
      obsSize: 1,
      actionSize: 1,
      initial: (obs) => obs,
      step(state, action) {
        const next = state.data.map((x, i) => x + action.data[i]);
        memory.set(next);
        const obs = nd(memory.subarray(0, next.length), [next.length, 1]);
        return { state: nd(next, [next.length, 1]), obs, reward: next };
      },
      gather: gatherRows,
    };
    const seen: number[] = [];
    const terminate = ({ obs }: { obs: NdView }) => {
      seen.push(...obs.data);
      return new Uint8Array(obs.shape[0]);
    };
    await value(
      model,
      nd([[1]]),
      [
        [
          [1, 1, 1],
          [2, 2, 2],
        ],
      ],
      { terminate },
    );
    expect(seen).toEqual([1, 1, 2, 3, 3, 5]);
  });

  it('asks for no value after it was stopped', async () => {
    const abort = new AbortController();
    const world = lineWorld();
    const stopping = {
      ...world,
      step(...given: Parameters<typeof world.step>) {
        abort.abort(new Error('enough'));
        return world.step(...given);
      },
    };
    let asked = 0;
    const options = { value: () => new Float32Array(++asked) };
    const answer = value(stopping, nd([[0]]), [[[1]]], options, { signal: abort.signal });
    await expect(answer).rejects.toThrow('enough');
    expect([asked, world.alive.size]).toEqual([0, 0]);
  });

  it('keeps far apart ids apart', async () => {
    const options = { particles: 2 };
    const far = { trajectory: Uint32Array.of(1, 1 + 2 ** 30, 2 + 2 ** 31) };
    const rows = [
      [[0], [0]],
      [[0], [0]],
      [[0], [0]],
    ];
    const all = await value(lineWorld({ sigma: 1 }), nd([[0], [0], [0]]), rows, options, far);
    expect(new Set(all.flat()).size).toBe(6);
  });

  it('refuses options that make no sense', () => {
    const make = (options: object) => () => modelObjective(lineWorld(), options);
    expect(make({ gamma: 1.5 })).toThrow(/gamma must lie in 0..1, got 1.5/);
    expect(make({ particles: 0 })).toThrow(/particles must be a positive integer, got 0/);
    expect(make({ spread: -1 })).toThrow(/particles must be more than 1 where spread is given/);
    expect(make({ spread: Number.NaN })).toThrow(/spread must be a finite number, got NaN/);
    expect(make({ noise: 'none' })).toThrow(/independent or common, got none/);
    expect(make({ uncertainty: { weight: 1 } })).toThrow(/score must be a function, got undefined/);
    expect(make({ discount: 1 })).toThrow(/got 'discount'/);
  });

  it('refuses a start that shows nothing', async () => {
    const answer = value(lineWorld(), { x: 1 } as never, [[[1]]]);
    await expect(answer).rejects.toThrow(/start must be a view \[B, S\] or a state/);
    await expect(value(lineWorld(), hopperStarts(), [[[1]]])).rejects.toThrow(/start must have/);
    const one = value(lineWorld(), nd([[1], [2]]), [[[1]]], {}, { trajectory: ids(1) });
    await expect(one).rejects.toThrow(/start must have shape \[1, 1\]/);
  });
});
