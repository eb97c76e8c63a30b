import { gatherRows, type NdView, nd, type WorldModel } from 'umwelt';
import { imagine, type Policy, PolicyGuidedPlanner } from 'umwelt/rollout';
import { describe, expect, it } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';
import { ids } from '../support/models.js';

/**
 * A tree of two branches, told apart by the first action: rewards and uncertainties by step, as the reference
 * vectors have them. The observation is `[branch, steps taken]`, the score what the prediction holds.
 */
function branches(reward: number[][], doubt: number[][]): WorldModel<NdView> {
  return {
    obsSize: 2,
    actionSize: 1,
    initial: (obs) => obs,
    step(state, action) {
      const rows = state.shape[0];
      const next = new Float32Array(2 * rows);
      const earned = new Float32Array(rows);
      const spread = new Float32Array(rows);
      for (let i = 0; i < rows; i++) {
        const depth = state.data[2 * i + 1];
        const branch = depth === 0 ? action.data[i] : state.data[2 * i];
        earned[i] = reward[branch][depth];
        spread[i] = doubt[branch][depth];
        next.set([branch, depth + 1], 2 * i);
      }
      const obs = nd(next, [rows, 2]);
      const prediction = { mean: nd(spread, [1, rows, 1]), rewardIndex: null };
      return { state: obs, obs, reward: earned, prediction };
    },
    gather: gatherRows,
  };
}

const score = ({ mean }: { mean: NdView }) => mean.data.slice();
const start = nd([[0, 0]]);
/** Candidate k takes branch k. */
const eachBranch: Policy = (_obs, { trajectory }) =>
  nd(
    Float32Array.from(trajectory, (id) => id % 2),
    [trajectory.length, 1],
  );
const R = [
  [1, 1, 1],
  [1.5, 1.5, 1.5],
];
const U = [
  [0.1, 0.1, 0.1],
  [0.5, 0.6, 0.7],
];

describe('PolicyGuidedPlanner', () => {
  it('weighs rewards against uncertainty as the reference vectors do', async () => {
    const model = branches(R, U);
    const plan = (weight: number) =>
      new PolicyGuidedPlanner(model, eachBranch, {
        candidates: 2,
        horizon: 3,
        uncertainty: { score, weight },
      }).plan({ start, seed: 0 });

    const careful = await plan(-2);
    expect([...careful.reward.data]).toEqual([2.9109, 4.36635].map(Math.fround));
    expect(careful.uncertainty.data[0]).toBeCloseTo(0.29109, 6);
    expect(careful.uncertainty.data[1]).toBeCloseTo(1.74063, 6);
    expect(careful.value.data[0]).toBeCloseTo(2.32872, 6);
    expect(careful.value.data[1]).toBeCloseTo(0.88509, 6);
    expect([careful.chosen[0], careful.action.data[0], careful.iterations]).toEqual([0, 0, 3]);

    const curious = await plan(1);
    expect(curious.value.data[0]).toBeCloseTo(3.20199, 6);
    expect(curious.value.data[1]).toBeCloseTo(6.10698, 6);
    expect([curious.chosen[0], curious.action.data[0]]).toEqual([1, 1]);
  });

  it('discounts uncertainty by a factor of its own', async () => {
    const guided = new PolicyGuidedPlanner(branches(R, U), eachBranch, {
      candidates: 2,
      horizon: 3,
      gamma: 1,
      uncertainty: { score, weight: 1, gamma: 0.5 },
    });
    const { reward, uncertainty } = await guided.plan({ start, seed: 0 });
    expect([...reward.data]).toEqual([3, 4.5]);
    expect(uncertainty.data[1]).toBeCloseTo(0.5 + 0.3 + 0.175, 6);
  });

  it('counts nothing after the end of an episode, and no value there', async () => {
    const world = lineWorld({ end: 2 });
    const guided = new PolicyGuidedPlanner(world, eachBranch, {
      candidates: 2,
      horizon: 4,
      gamma: 1,
      value: (obs) => new Float32Array(obs.shape[0]).fill(1000),
    });
    // Rewards are 10 x'. Candidate 1 moves to 1 and 2, where it ends; candidate 0 stays at 0.
    const { reward, chosen } = await guided.plan({ start: nd([[0]]), seed: 0 });
    expect([...reward.data]).toEqual([1000, 30]);
    expect(chosen[0]).toBe(0);
    expect(world.alive.size).toBe(0);
  });

  it('never chooses a candidate with something that is not finite', async () => {
    const world = lineWorld({ broken: (x) => x >= 2 });
    const guided = new PolicyGuidedPlanner(world, eachBranch, { candidates: 2, horizon: 3 });
    const { value, chosen } = await guided.plan({ start: nd([[0]]), seed: 0 });
    expect(value.data[1]).toBe(Number.NEGATIVE_INFINITY);
    expect(chosen[0]).toBe(0);
    expect(world.alive.size).toBe(0);

    // Where none is finite the policy's first action is left.
    const nowhere = new PolicyGuidedPlanner(lineWorld({ broken: () => true }), constantly(3), {
      candidates: 2,
    });
    const lost = await nowhere.plan({ start: nd([[0]]), seed: 0 });
    expect([...lost.value.data]).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(lost.action.data[0]).toBe(3);
  });

  it('plans each start as if it were alone', async () => {
    const noisy: Policy = (_obs, { noise }) => noise.normal(1);
    const guided = new PolicyGuidedPlanner(lineWorld({ sigma: 0.3 }), noisy, { candidates: 7 });
    const starts = nd([[0], [1], [2]]);
    const all = await guided.plan({ start: starts, seed: 3, trajectory: ids(3, 10) });
    const one = await guided.plan({
      start: gatherRows(starts, Int32Array.of(2)),
      seed: 3,
      trajectory: ids(1, 12),
    });
    expect(one.action.data).toEqual(all.action.data.slice(2));
    expect(one.value.data).toEqual(all.value.data.slice(14));
  });

  it("starts from a state of the model, which stays the caller's", async () => {
    const world = lineWorld();
    const state = { ...(await world.initial(nd([[5]]), undefined as never)), obs: nd([[5]]) };
    const guided = new PolicyGuidedPlanner(world, eachBranch, { candidates: 2, horizon: 2 });
    const { action } = await guided.plan({ start: state, seed: 0 });
    expect(action.data[0]).toBe(1);
    expect([...world.alive]).toEqual([state.id]);
  });

  it('is a policy for rollouts, with the memory of the policy it follows', async () => {
    const counting: Policy<NdView> = (obs, { state }) => {
      const seen = state ?? nd(new Float32Array(obs.shape[0]), [obs.shape[0], 1]);
      return {
        action: seen,
        state: nd(
          seen.data.map((n) => n + 1),
          seen.shape,
        ),
      };
    };
    const world = lineWorld();
    const guided = new PolicyGuidedPlanner(world, counting, { candidates: 3, horizon: 4 });
    const options = { start: nd([[0], [7]]), horizon: 3, seed: 0 };
    const rollout = imagine(world, guided, options);
    const dream = await rollout.collect();
    expect([...dream.action.data]).toEqual([0, 1, 2, 0, 1, 2]);
    rollout.carry.release();
    expect(world.alive.size).toBe(0);
  });

  it('looks ahead one step when there is no time, and says so', async () => {
    const guided = new PolicyGuidedPlanner(lineWorld(), eachBranch, { horizon: 50 });
    const { iterations } = await guided.plan({ start: nd([[0]]), seed: 0, budgetMs: 0 });
    expect(iterations).toBe(1);
  });

  it('stops between network calls and frees what it made', async () => {
    const world = lineWorld();
    const abort = new AbortController();
    let calls = 0;
    const policy: Policy = (obs) => {
      if (++calls === 3) abort.abort(new Error('enough'));
      return constantly(1)(obs, undefined as never);
    };
    const guided = new PolicyGuidedPlanner(world, policy, { horizon: 9 });
    const plan = guided.plan({ start: nd([[0]]), seed: 0, signal: abort.signal });
    await expect(plan).rejects.toThrow('enough');
    expect(world.batches.length).toBe(2);
    expect(world.alive.size).toBe(0);
  });

  it('copies what a policy remembers, which it may write over', async () => {
    const count = new Float32Array(2);
    const counting: Policy<NdView> = (obs) => {
      for (let i = 0; i < 2; i++) count[i]++;
      return { action: nd(new Float32Array(obs.shape[0]), obs.shape), state: nd(count, [2, 1]) };
    };
    const guided = new PolicyGuidedPlanner(lineWorld(), counting, { candidates: 2, horizon: 4 });
    const { policyState } = await guided.plan({ start: nd([[0]]), seed: 0 });
    expect([...(policyState as NdView).data]).toEqual([1]);
  });

  it('meets other noise at another step, and not that of the rollout it serves', async () => {
    const met: number[] = [];
    const world = lineWorld({ sigma: 1 });
    const listening = {
      ...world,
      step(...given: Parameters<typeof world.step>) {
        met.push(...given[2].noise.normal(1).data);
        return world.step(...given);
      },
    };
    const guided = new PolicyGuidedPlanner(listening, constantly(0), { candidates: 3, horizon: 3 });
    for (const step of [5, 6]) await guided.plan({ start: nd([[0]]), seed: 0, step });
    expect(new Set(met).size).toBe(met.length);
    await imagine(listening, guided, { start: nd([[0]]), horizon: 3, seed: 1 }).collect();
    expect(new Set(met).size).toBe(met.length);
  });

  it('frees its states whatever goes wrong', async () => {
    const world = lineWorld();
    const guided = new PolicyGuidedPlanner(world, eachBranch, { candidates: 2 });
    const plan = (request: object) => guided.plan({ start: nd([[0]]), seed: 0, ...request });
    await expect(
      plan({ policyState: nd([[1], [2], [3]]), start: nd([[Number.NaN]]) }),
    ).rejects.toThrow(/start must be finite, got NaN/);
    await expect(plan({ trajectory: [0] })).rejects.toThrow(/trajectory must be a Uint32Array/);
    await expect(plan({ start: nd([[0, 1]]) })).rejects.toThrow(/start must have shape/);
    await expect(plan({ policyState: nd(new Float32Array(0), [0, 1]) })).rejects.toThrow(
      RangeError,
    );
    await expect(plan({ start: 3 })).rejects.toThrow(/start must be a view/);
    const broken = new PolicyGuidedPlanner(world, () => 3 as never, { candidates: 2 });
    await expect(broken.plan({ start: nd([[0]]), seed: 0 })).rejects.toThrow(/the action must be/);
    expect(world.alive.size).toBe(0);
  });

  it('asks for no value after it was stopped', async () => {
    const abort = new AbortController();
    const world = lineWorld();
    const last = {
      ...world,
      step(...given: Parameters<typeof world.step>) {
        if (given[2].step === 1) abort.abort(new Error('enough'));
        return world.step(...given);
      },
    };
    let asked = 0;
    const value = (obs: NdView) => new Float32Array(obs.shape[0] + 0 * ++asked);
    const guided = new PolicyGuidedPlanner(last, eachBranch, { candidates: 2, horizon: 2, value });
    const plan = guided.plan({ start: nd([[0]]), seed: 0, signal: abort.signal });
    await expect(plan).rejects.toThrow('enough');
    expect([asked, world.alive.size]).toEqual([0, 0]);
  });

  it('plans for no rows without asking the model', async () => {
    const world = lineWorld();
    const guided = new PolicyGuidedPlanner(world, eachBranch);
    const none = nd(new Float32Array(0), [0, 1]);
    const { action, value } = await guided.plan({ start: none, seed: 0 });
    expect([action.shape, value.shape]).toEqual([
      [0, 1],
      [0, 5],
    ]);
    expect(world.batches).toEqual([]);
  });

  it('refuses options that make no sense', () => {
    const make = (options: object) => () =>
      new PolicyGuidedPlanner(lineWorld(), eachBranch, options);
    expect(make({ candidates: 0 })).toThrow(/candidates must be a positive integer, got 0/);
    expect(make({ horizon: 1.5 })).toThrow(/horizon must be a positive integer, got 1.5/);
    expect(make({ gamma: 1.1 })).toThrow(/gamma must lie in 0..1, got 1.1/);
    expect(make({ lambda: 1 })).toThrow(/got 'lambda'/);
    expect(make({ uncertainty: { score: 3, weight: 1 } })).toThrow(
      /score must be a function, got number/,
    );
    expect(make({ value: 3 })).toThrow(/value must be a function, got number/);
    expect(make({ terminate: 3 })).toThrow(/terminate must be a function, got number/);
    expect(make({ uncertainty: { score, weight: Number.NaN } })).toThrow(/weight must be a finite/);
  });
});
