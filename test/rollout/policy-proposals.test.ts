import { type NdView, nd, type WorldModel, zeros } from 'umwelt';
import {
  type AnyPolicy,
  MppiPlanner,
  modelObjective,
  type PolicyProposalsOptions,
  type Proposals,
  policyProposals,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { constantly, type LineState, lineWorld } from '../support/line-world.js';

const box = { type: 'box' as const, low: [-1], high: [1] };

/** What is proposed for starts, as a plan asks for it. */
async function proposed<State>(
  proposals: Proposals<NdView | State>,
  start: NdView | State,
  {
    trajectory = Uint32Array.of(0, 1),
    step = 0,
    signal,
  }: {
    trajectory?: Uint32Array;
    step?: number;
    signal?: AbortSignal;
  } = {},
) {
  let answer: Awaited<ReturnType<Proposals>> | undefined;
  await new MppiPlanner({ horizon: 3, actionSpace: box, population: 1, iterations: 1 }).plan({
    objective: ({ shape: [rows, count] }) => zeros([rows, count]),
    proposals: async (context) => {
      answer = await proposals(context);
      return answer;
    },
    start,
    seed: 4,
    rows: trajectory.length,
    trajectory,
    step,
    ...(signal && { signal }),
  });
  return answer as NonNullable<typeof answer>;
}

const options: PolicyProposalsOptions = { count: 2, horizon: 3, actionSpace: box };
const toward: AnyPolicy = (obs) =>
  nd(
    obs.data.map((x) => -0.5 * x),
    obs.shape,
  );
const start = nd([[1], [-0.5]]);

describe('a policy', () => {
  test('is followed in the model from each start', async () => {
    const model = lineWorld();
    const actions = await proposed(policyProposals(model, toward, options), start);
    expect(actions.shape).toEqual([2, 2, 3, 1]);
    expect([...actions.data]).toEqual([
      ...[-0.5, -0.25, -0.125, -0.5, -0.25, -0.125],
      ...[0.25, 0.125, 0.0625, 0.25, 0.125, 0.0625],
    ]);
    expect(model.batches).toEqual([4, 4]);
    expect(model.alive.size).toBe(0);
  });

  test('is kept within the bounds, and so is what the model is fed', async () => {
    const model = lineWorld();
    const far: AnyPolicy = (obs) =>
      nd(
        obs.data.map((x) => 10 * x),
        obs.shape,
      );
    const actions = await proposed(
      policyProposals(model, far, { ...options, count: 1 }),
      nd([[0.05], [-0.01]]),
    );
    // 0.5, then 10 * 0.55 -> 1; -0.1, then 10 * -0.11 -> -1
    const expected = [0.5, 1, 1, -0.1, -1, -1];
    for (const [i, a] of expected.entries()) expect(actions.data[i]).toBeCloseTo(a, 6);
  });

  test('may answer out of memory of its own, and remember things', async () => {
    const memory = new Float32Array(2);
    const counting: AnyPolicy = (_obs, { state }) => {
      const times = (state as NdView | undefined)?.data[0] ?? 0;
      memory.fill(times / 10);
      return { action: nd(memory, [2, 1]), state: nd(new Float32Array(2).fill(times + 1), [2, 1]) };
    };
    const proposals = policyProposals(lineWorld(), counting, { ...options, count: 1 });
    const { data } = await proposed(proposals, start);
    expect([...data]).toEqual([0, 0.1, 0.2, 0, 0.1, 0.2].map(Math.fround));
  });

  test('keeps its answers as they are', async () => {
    const answer = nd([[5], [-5]]);
    const proposals = policyProposals(lineWorld(), () => answer, { ...options, count: 1 });
    expect([...(await proposed(proposals, start)).data]).toEqual([1, 1, 1, -1, -1, -1]);
    expect([...answer.data]).toEqual([5, -5]);
  });

  test('holds its actions where the objective does', async () => {
    const line = lineWorld();
    const [steps, moves]: [number[], number[]] = [[], []];
    const model: WorldModel<LineState> = {
      ...line,
      step: (state, action, context) => {
        moves.push(context.step, context.noise.step);
        return line.step(state, action, context);
      },
    };
    const policy: AnyPolicy = (obs, { step }) => {
      steps.push(step);
      return nd(
        obs.data.map((x) => -0.25 * x),
        obs.shape,
      );
    };
    const proposals = policyProposals(model, policy, { ...options, count: 1, actionRepeat: 2 });
    const { data } = await proposed(proposals, start, { step: 7 });
    expect([...data]).toEqual([-0.25, -0.125, -0.0625, 0.125, 0.0625, 0.03125]);
    expect(steps).toEqual([7, 9, 11]);
    expect(moves).toEqual([7, 7, 8, 8, 9, 9, 10, 10]);
  });
});

describe('noise', () => {
  const noisy: AnyPolicy = (_obs, { noise }) =>
    nd(
      noise.normal(1).data.map((z) => z / 10),
      [noise.trajectory.length, 1],
    );

  test('is different for each sequence of each start, and for policy and model', async () => {
    const ids: number[][] = [];
    const model = lineWorld();
    const normal: number[] = [];
    const listening: WorldModel<LineState> = {
      ...model,
      step: (state, action, context) => {
        normal.push(...context.noise.normal(1).data);
        return model.step(state, action, context);
      },
    };
    const policy: AnyPolicy = (obs, context) => {
      ids.push([...context.trajectory]);
      normal.push(...context.noise.normal(1).data);
      return noisy instanceof Function ? noisy(obs, context) : zeros([0, 0]);
    };
    const trajectory = Uint32Array.of(3, 7);
    await proposed(policyProposals(listening, policy, options), start, { trajectory });
    expect(ids).toEqual([
      [6, 7, 14, 15],
      [6, 7, 14, 15],
      [6, 7, 14, 15],
    ]);
    expect(new Set(normal).size).toBe(4 * 3 + 4 * 2);
  });

  test('of a start does not depend on the starts around it', async () => {
    const model = lineWorld({ sigma: 0.2 });
    const both: AnyPolicy = (obs, { noise }) => {
      const z = noise.normal(1).data;
      return nd(
        obs.data.map((x, b) => 0.1 * x + 0.1 * z[b]),
        obs.shape,
      );
    };
    const proposals = policyProposals(model, both, options);
    const together = await proposed(proposals, start, { trajectory: Uint32Array.of(3, 7) });
    const alone = await proposed(proposals, nd([[-0.5]]), { trajectory: Uint32Array.of(7) });
    expect(alone.data).toEqual(together.data.slice(6));
  });
});

describe('a start', () => {
  test('may be a state of the model, which stays with the caller', async () => {
    const world = lineWorld({ asynchronous: true });
    // The state shows what is seen of it.
    type Seen = LineState & { obs: NdView };
    const seen = (state: LineState): Seen => ({ ...state, obs: nd(state.x, [state.x.length, 1]) });
    const model: WorldModel<Seen> = {
      ...world,
      initial: async (obs, context) => seen(await world.initial(obs, context)),
      step: async (state, action, context) => {
        const result = await world.step(state, action, context);
        return { ...result, state: seen(result.state) };
      },
      gather: async (state, rows) => seen(await world.gather(state, rows)),
    };
    const state = seen(await world.initial(start, undefined as never));
    const actions = await proposed(policyProposals(model, toward, options), state);
    const expected = await proposed(policyProposals(lineWorld(), toward, options), start);
    expect(actions.data).toEqual(expected.data);
    expect([...world.alive]).toEqual([state.id]);
  });

  test('that is neither is refused', async () => {
    const proposals = policyProposals(lineWorld(), toward, options);
    await expect(proposed(proposals, {} as NdView)).rejects.toThrow(/start must be a view/);
  });
});

test('of no starts are none', async () => {
  const actions = await proposed(policyProposals(lineWorld(), toward, options), zeros([0, 1]), {
    trajectory: new Uint32Array(0),
  });
  // A plan of no starts asks nobody.
  expect(actions).toBeUndefined();
});

test('of a discrete policy are indices, of which the model is fed one-hot rows', async () => {
  const fed: number[][] = [];
  const line = lineWorld();
  const model: WorldModel<LineState> = {
    ...line,
    actionSize: 3,
    step: (state, action, context) => {
      fed.push([...action.data]);
      const move = Float32Array.from(
        state.x,
        (_, b) => action.data[3 * b + 2] - action.data[3 * b],
      );
      return line.step(state, nd(move, [state.x.length, 1]), context);
    },
  };
  // Scores: left where x > 0, right where x < 0, else stay.
  const policy: AnyPolicy = (obs) => nd([...obs.data].map((x) => [x, 0, -x]));
  const actionSpace = { type: 'discrete' as const, n: 3 };
  let answer: Awaited<ReturnType<Proposals>> | undefined;
  const proposals = policyProposals(model, policy, { count: 1, horizon: 4, actionSpace });
  await new MppiPlanner({ horizon: 4, actionSpace, population: 1, iterations: 1 }).plan({
    objective: modelObjective(model),
    proposals: async (context) => {
      answer = await proposals(context);
      return answer;
    },
    start: nd([[2], [-1]]),
    seed: 0,
  });
  // Of equal scores the first counts: at 0 it goes left, and comes back.
  expect(answer?.data).toEqual(Int32Array.of(0, 0, 0, 2, 2, 0, 2, 0));
  expect(fed[0]).toEqual([1, 0, 0, 0, 0, 1]);
  expect(line.alive.size).toBe(0);
});

test('stop between network calls with the reason of the signal, and release the states', async () => {
  const stop = new AbortController();
  const model = lineWorld();
  let calls = 0;
  const policy: AnyPolicy = (obs, context) => {
    if (++calls === 2) stop.abort(new Error('enough'));
    return constantly(0)(obs, context);
  };
  const proposals = policyProposals(model, policy, options);
  await expect(proposed(proposals, start, { signal: stop.signal })).rejects.toThrow('enough');
  expect(calls).toBe(2);
  expect(model.batches.length).toBe(1);
  expect(model.alive.size).toBe(0);
});

test('release the states when the policy or the model fails', async () => {
  const model = lineWorld();
  const failing: AnyPolicy = () => {
    throw new Error('no idea');
  };
  await expect(proposed(policyProposals(model, failing, options), start)).rejects.toThrow(
    'no idea',
  );
  const wide: AnyPolicy = (obs) => zeros([obs.shape[0], 2]);
  await expect(proposed(policyProposals(model, wide, options), start)).rejects.toThrow(RangeError);
  const broken = {
    ...model,
    step: () => {
      throw new Error('lost');
    },
  };
  await expect(proposed(policyProposals(broken, toward, options), start)).rejects.toThrow('lost');
  expect(model.alive.size).toBe(0);
});

test.each([
  [{ count: 0 }, /count/],
  [{ horizon: 0 }, /horizon/],
  [{ actionRepeat: 0 }, /actionRepeat/],
  [{ actionSpace: { type: 'box', low: [0, 0], high: [1, 1] } }, /actionSize 1, got 2/],
  [{ actionSpace: { type: 'discrete', n: 2 } }, /actionSize 1, got 2/],
  [{ counts: 3 }, /counts/],
] as const)('refuse %o', (more, message) => {
  expect(() => policyProposals(lineWorld(), toward, { ...options, ...(more as object) })).toThrow(
    message,
  );
});
