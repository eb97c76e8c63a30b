import { imagine, type NdView, nd, type WorldModel } from 'umwelt';
import { ContextDynamics, modelContext, type Observed } from 'umwelt/dynamics';
import { actionSequence, burnIn, type PolicyContext } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { gatherRows } from '../../src/nd.js';
import { constantly, lineWorld } from '../support/line-world.js';
import { ids } from '../support/models.js';

interface Belief {
  readonly h: Float32Array;
  readonly id: number;
}

/** A recurrent model: a hidden number a row, moved by what it sees, what it does, and noise. */
function recurrent() {
  const alive = new Set<number>();
  let made = 0;
  const make = (h: Float32Array): Belief => {
    alive.add(made);
    return { h, id: made++ };
  };
  const model = {
    obsSize: 1,
    actionSize: 1,
    initial: (obs: NdView, { noise }) =>
      make(noise.normal(1).data.map((n, i) => 0.1 * n + obs.data[i])),
    observe: ({ h }: Belief, { obs, action, reward, first }: Observed, { noise }) => {
      const random = noise.normal(1).data;
      return make(
        h.map((old, i) => {
          const kept = first?.[i] ? 0 : old + action.data[i] + (reward?.[i] ?? 0);
          return Math.tanh(0.5 * kept + obs.data[i] + 0.1 * random[i]);
        }),
      );
    },
    step: ({ h }: Belief, action: NdView, { noise }) => {
      const random = noise.normal(1).data;
      const next = h.map((old, i) => Math.tanh(old + action.data[i] + 0.1 * random[i]));
      const obs = nd(
        next.map((x) => 3 * x),
        [next.length, 1],
      );
      return { state: make(next), obs, reward: next.slice() };
    },
    gather: ({ h }: Belief, rows: Int32Array) => make(gatherRows(nd(h), rows).data),
    release: ({ id }: Belief) => {
      if (!alive.delete(id)) throw new Error(`state ${id} was released twice`);
    },
  } satisfies WorldModel<Belief>;
  return { ...model, alive };
}

const B = 4;
const C = 3;
const wave = (shape: number[]) =>
  nd(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(3 * i + 1)),
    shape,
  );
const context = {
  obs: wave([B, C + 1, 1]),
  action: wave([B, C, 1]),
  reward: wave([B, C]),
  first: nd(
    Uint8Array.from({ length: B * (C + 1) }, (_, i) => +(i === 6 || i % 4 === 0)),
    [B, C + 1],
  ),
};
const seed = 12;

describe('burnIn', () => {
  test('and imagine equal one unbroken run of observing and then imagining', async () => {
    const model = recurrent();
    const start = await burnIn(model, context, { seed });
    expect(start.step).toBe(C);
    const dream = await imagine(model, constantly(0.2), { start, horizon: 3 }).collect();

    const at = (step: number) => modelContext(seed, ids(B), { step });
    const column = <T extends Float32Array | Uint8Array>({ data, shape }: NdView<T>, t: number) =>
      data.filter((_, i) => i % shape[1] === t) as T;
    const view = (data: Float32Array) => nd(data, [B, 1]);
    let state = model.initial(view(column(context.obs, 0)), at(0));
    for (let t = 1; t <= C; t++) {
      const observed = {
        obs: view(column(context.obs, t)),
        action: view(column(context.action, t - 1)),
        reward: column(context.reward, t - 1),
        first: column(context.first, t),
      };
      state = model.observe(state, observed, at(t));
    }
    expect(dream.obs.data.filter((_, i) => i % 4 === 0)).toEqual(column(context.obs, C));
    for (let t = 0; t < 3; t++) {
      const result = model.step(state, view(new Float32Array(B).fill(0.2)), at(C + t));
      state = result.state;
      expect(column(dream.reward, t)).toBeBitEqual(result.reward);
    }
  });

  test('makes the state that a context model has after its history', async () => {
    const model = new ContextDynamics({
      obsSize: 1,
      actionSize: 1,
      history: 2,
      predictsDelta: true,
      encoder: (history) =>
        nd(
          Float32Array.from({ length: history.shape[0] }, (_, row) =>
            history.data.subarray(6 * row, 6 * row + 6).reduce((a, b) => a + b, 0),
          ),
          [history.shape[0], 1],
        ),
      dynamics: ({ context: inferred }) => nd(inferred.data.slice(), inferred.shape),
      reward: ({ nextObs }) => nextObs.data.slice(),
    });
    const { first: _, ...oneEpisode } = context;
    const { state } = await burnIn(model, oneEpisode, { seed });
    expect(state).toEqual(await model.warm(oneEpisode));
  });

  test('releases every state but the carry’s', async () => {
    const model = recurrent();
    const start = await burnIn(model, context, { seed });
    expect([...model.alive]).toEqual([start.state?.id]);
    start.release();
    expect(model.alive.size).toBe(0);
  });

  test('releases what it made when the model fails or the signal stops it', async () => {
    const model = recurrent();
    const failing = {
      ...model,
      observe: (...args: Parameters<typeof model.observe>) => {
        if (args[2].step === 2) throw new Error('model failed');
        return model.observe(...args);
      },
    };
    await expect(burnIn(failing, context, { seed })).rejects.toThrow('model failed');
    expect(model.alive.size).toBe(0);

    for (let stop = 0; stop <= C; stop++) {
      const controller = new AbortController();
      const seen: number[] = [];
      const stopping = {
        ...model,
        initial: (...args: Parameters<typeof model.initial>) => {
          if (stop === 0) controller.abort(new Error('enough'));
          return model.initial(...args);
        },
        observe: (...args: Parameters<typeof model.observe>) => {
          seen.push(args[2].step);
          if (args[2].step === stop) controller.abort(new Error('enough'));
          return model.observe(...args);
        },
      };
      const { signal } = controller;
      await expect(burnIn(stopping, context, { seed, signal })).rejects.toThrow('enough');
      expect(seen).toEqual(Array.from(ids(stop, 1)));
      expect(model.alive.size).toBe(0);
    }
  });

  test('gives a row the same state whatever the rows around it', async () => {
    const whole = await burnIn(recurrent(), context, { seed });
    for (const rows of [Int32Array.of(0, 1), Int32Array.of(3, 2), Int32Array.of(2)]) {
      const part = await burnIn(
        recurrent(),
        {
          obs: gatherRows(context.obs, rows),
          action: gatherRows(context.action, rows),
          reward: gatherRows(context.reward, rows),
          first: gatherRows(context.first, rows),
        },
        { seed, trajectory: Uint32Array.from(rows) },
      );
      expect(part.state?.h).toBeBitEqual(gatherRows(nd(whole.state?.h as Float32Array), rows).data);
      expect(part.obs).toEqual(gatherRows(whole.obs, rows));
      expect([...part.trajectory]).toEqual([...rows]);
    }
  });

  test('reads strided records', async () => {
    // Time-major memory: [C + 1, B, 1] seen as [B, C + 1, 1].
    const timeMajor = <T extends Float32Array>({
      data,
      shape: [rows, steps, width],
    }: NdView<T>) => ({
      data: Float32Array.from(data, (_, i) => data[(i % rows) * steps + Math.floor(i / rows)]),
      shape: [rows, steps, width],
      stride: [1, rows, 1],
      offset: 0,
    });
    const strided = {
      ...context,
      obs: timeMajor(context.obs),
      action: timeMajor(context.action),
    };
    const expected = await burnIn(recurrent(), context, { seed });
    const got = await burnIn(recurrent(), strided, { seed });
    expect(got.state).toEqual(expected.state);
    expect(got.obs).toEqual(expected.obs);
  });

  test('of no transition is the start of any model', async () => {
    const world = lineWorld();
    const start = await burnIn(
      world,
      { obs: nd([[[1]], [[2]]]), action: nd(new Float32Array(0), [2, 0, 1]) },
      { seed },
    );
    const dream = await imagine(world, constantly(1), { start, horizon: 1 }).collect();
    expect([...dream.obs.data]).toEqual([1, 2, 2, 3]);
  });

  test('of no rows asks nobody', async () => {
    const never = () => {
      throw new Error('asked');
    };
    const model = { obsSize: 1, actionSize: 1, initial: never, step: never, gather: never };
    const nothing = (shape: number[]) => nd(new Float32Array(0), shape);
    const observing = { ...model, observe: never };
    const start = await burnIn(
      observing,
      { obs: nothing([0, 3, 1]), action: nothing([0, 2, 1]) },
      { seed, policy: never },
    );
    expect(start.step).toBe(2);
    expect(start.obs.shape).toEqual([0, 1]);
  });
});

describe('a policy that is burnt in', () => {
  /** Sums what it saw, and acts by the sum. */
  const summing = (seen: number[][] = []) => {
    return (obs: NdView, { state, step }: PolicyContext<Float32Array>) => {
      seen.push([step, ...obs.data]);
      const sum = obs.data.map((x, i) => x + (state?.[i] ?? 0));
      return { action: nd(sum, obs.shape), state: sum };
    };
  };

  test('sees each observation once, the last of them when it imagines', async () => {
    const model = recurrent();
    const seen: number[][] = [];
    const policy = summing(seen);
    const { first: _, ...oneEpisode } = context;
    const start = await burnIn(model, oneEpisode, { seed, policy });
    const dream = await imagine(model, policy, { start, horizon: 1 }).collect();
    expect(seen.map(([step]) => step)).toEqual([0, 1, 2, 3]);
    const { data } = context.obs;
    for (let row = 0; row < B; row++) {
      expect(seen.map((values) => values[row + 1])).toEqual([...data.slice(4 * row, 4 * row + 4)]);
      const sum = data.slice(4 * row, 4 * row + 4).reduce((a, b) => Math.fround(a + b));
      expect(dream.action.data[row]).toBe(sum);
    }
  });

  test('does not change the model’s state', async () => {
    const { first: _, ...oneEpisode } = context;
    const alone = await burnIn(recurrent(), oneEpisode, { seed });
    const beside = await burnIn(recurrent(), oneEpisode, { seed, policy: summing() });
    expect(beside.state?.h).toBeBitEqual(alone.state?.h as Float32Array);
    expect(alone.policyState).toBeUndefined();
  });

  test('that remembers must see one episode; one that does not may see several', async () => {
    const several = burnIn(recurrent(), context, { seed, policy: summing() });
    await expect(several).rejects.toThrow('must see one episode, got first at step 2');
    await expect(
      burnIn(recurrent(), context, { seed, policy: constantly(1) }),
    ).resolves.toMatchObject({ step: C });
  });

  test('may be any kind of policy, or none at all for action sequences', async () => {
    const model = recurrent();
    const start = await burnIn(model, context, { seed });
    const sequences = actionSequence(wave([B, 2, 1]));
    const dream = await imagine(model, sequences, { start, horizon: 2 }).collect();
    expect(dream.action).toEqual(wave([B, 2, 1]));
    await expect(burnIn(model, context, { seed, policy: 3 as never })).rejects.toThrow(
      'burnIn: policy must be a function or have one as act',
    );
  });
});

describe('what burnIn cannot do is refused', () => {
  test('a model that cannot observe', async () => {
    await expect(burnIn(lineWorld(), context, { seed })).rejects.toThrow(
      'burnIn: model must have a function observe, got none; a model that keeps nothing of the past',
    );
  });

  test.each([
    [{ obs: wave([B, 4]) }, 'obs must have shape [B, C + 1, 1], got [4,4]'],
    [{ obs: wave([B, 0, 1]) }, 'obs must have an observation'],
    [{ action: wave([B, 4, 1]) }, 'action must have shape [4, 3, 1], got [4,4,1]'],
    [{ reward: wave([B, 4]) }, 'reward must have shape [4, 3], got [4,4]'],
    [{ first: wave([B, 4]) }, 'first must be a view [4, 4] of Uint8Array, got'],
    [{ frist: wave([B, 4]) }, "got 'frist'"],
  ])('arrays that do not fit: %#', async (change, message) => {
    const odd = { ...context, ...change } as never;
    await expect(burnIn(recurrent(), odd, { seed })).rejects.toThrow(message);
  });

  test('ids that do not fit, and misspelt options', async () => {
    const run = (options: object) => burnIn(recurrent(), context, { seed, ...options } as never);
    await expect(run({ trajectory: ids(3) })).rejects.toThrow('one id for each of the 4 rows');
    await expect(run({ trajectory: [0] })).rejects.toThrow('trajectory must be a Uint32Array');
    await expect(run({ polcy: constantly(1) })).rejects.toThrow("got 'polcy'");
    await expect(run({ seed: undefined })).rejects.toThrow('seed must be');
  });
});
