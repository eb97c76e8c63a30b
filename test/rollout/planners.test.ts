/** What holds of every planner of sequences. */

import { type NdView, nd } from 'umwelt';
import {
  type ActionSpace,
  type Actions,
  CemPlanner,
  type FeasibleActions,
  IcemPlanner,
  MppiPlanner,
  type PlanCarry,
  type Planner,
  RandomShooting,
  TdMpc2Planner,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { near, sequenceObjective } from './sequence-objective.js';

const horizon = 3;
const box: ActionSpace = { type: 'box', low: [-1], high: [1] };
const indices: ActionSpace = { type: 'discrete', n: 5 };
const starts = nd([[0], [1]]);

interface Case {
  who: string;
  make: (actionSpace: ActionSpace) => Planner;
}

const ofBoxes: Case[] = [
  {
    who: 'CemPlanner',
    make: (actionSpace) => new CemPlanner({ horizon, actionSpace, population: 20, alpha: 0 }),
  },
  {
    who: 'CemPlanner, clipped',
    make: (actionSpace) =>
      new CemPlanner({ horizon, actionSpace, population: 20, alpha: 0, sampling: 'clipped' }),
  },
  {
    who: 'IcemPlanner',
    make: (actionSpace) =>
      new IcemPlanner({ horizon, actionSpace, population: 20, alpha: 0, keepFraction: 1 }),
  },
  {
    who: 'MppiPlanner',
    make: (actionSpace) => new MppiPlanner({ horizon, actionSpace, population: 20 }),
  },
  {
    who: 'TdMpc2Planner',
    make: (actionSpace) => new TdMpc2Planner({ horizon, actionSpace, population: 20 }),
  },
  {
    who: 'RandomShooting',
    make: (actionSpace) =>
      new RandomShooting({ horizon, actionSpace, population: 20, iterations: 3 }),
  },
];

const ofIndices: Case[] = [
  {
    who: 'CemPlanner',
    make: (actionSpace) => new CemPlanner({ horizon, actionSpace, population: 20, alpha: 0 }),
  },
  {
    who: 'MppiPlanner',
    make: (actionSpace) => new MppiPlanner({ horizon, actionSpace, population: 20 }),
  },
  {
    who: 'RandomShooting',
    make: (actionSpace) =>
      new RandomShooting({ horizon, actionSpace, population: 20, iterations: 3 }),
  },
];

const all = [
  ...ofBoxes.map((one) => ({ ...one, actionSpace: box })),
  ...ofIndices.map((one) => ({ ...one, actionSpace: indices })),
].map((one) => ({ ...one, type: one.actionSpace.type }));

/** Two sequences for each start, of halves, which noise does not hit upon, or of indices. */
function proposed(actionSpace: ActionSpace): Actions {
  const shape = [2, 2, horizon, 1];
  const halves = [0.5, -0.5, 0.5, 0, 0.5, 0, -0.5, -0.5, 0, 1, -1, 0.5];
  return actionSpace.type === 'box'
    ? nd(Float32Array.from(halves), shape)
    : nd(
        Int32Array.from(halves, (half) => 2 + 2 * half),
        shape,
      );
}

describe.each(all)('$who in a $type space', ({ make, actionSpace }) => {
  const planner = make(actionSpace);
  const goal = actionSpace.type === 'box' ? near(0.3, -0.6) : near(4, 1);

  test('tries the proposals in every iteration', async () => {
    const proposals = () => proposed(actionSpace);
    const tried: Actions['data'][] = [];
    const feasible: FeasibleActions = ({ data, shape }) => {
      // The last call is for what is taken.
      if (shape[1] > 1) tried.push(data.slice());
      // So that they have to be written anew.
      data.reverse();
    };
    const objective = sequenceObjective(goal);
    const request = { objective, start: starts, seed: 1, proposals };
    const plan = await planner.plan(request);
    await planner.plan({ ...request, feasible });
    expect(plan.iterations).toBeGreaterThan(2);
    expect(tried.length).toBe(plan.iterations);
    const calls = objective.calls.slice(0, plan.iterations);
    expect(calls.map(({ shape }) => shape[1])).toEqual(tried.map((t) => t.length / (2 * horizon)));
    for (const data of [...tried, ...calls.map((call) => call.data)]) {
      for (let b = 0; b < 2; b++) {
        const from = (b * data.length) / 2;
        const wanted = proposed(actionSpace).data.slice(2 * b * horizon, 2 * (b + 1) * horizon);
        expect(data.slice(from, from + 2 * horizon)).toEqual(wanted);
      }
    }
  });

  test('values nothing that may not be taken', async () => {
    // Thirds; or even indices.
    const step = actionSpace.type === 'box' ? 1 / 3 : 2;
    const allowed = (action: number) => Math.fround(Math.trunc(action / step) * step);
    const feasible: FeasibleActions = ({ data }) => {
      for (let i = 0; i < data.length; i++) data[i] = allowed(data[i]);
    };
    const objective = sequenceObjective(goal);
    const request = { objective, start: starts, seed: 1, feasible };
    const first = await planner.plan({ ...request, proposals: () => proposed(actionSpace) });
    const carry = planner.shift(first.carry, 1);
    const second = await planner.plan({ ...request, step: 1, carry });
    const within = new Set(Array.from({ length: 7 }, (_, i) => Math.fround((i - 3) * step)));
    expect(objective.calls.length).toBe(first.iterations + second.iterations);
    for (const { data } of [...objective.calls, first.actions, second.actions]) {
      expect([...data].filter((action) => !within.has(action))).toEqual([]);
    }
    expect(new Set(objective.calls.flatMap(({ data }) => [...data])).size).toBeGreaterThan(2);
  });

  test('learns from what may be taken', async () => {
    const only = actionSpace.type === 'box' ? 0.5 : 2;
    const feasible: FeasibleActions = ({ data }) => void data.fill(only);
    const objective = sequenceObjective(goal);
    const { carry } = await planner.plan({ objective, start: starts, seed: 1, feasible });
    const { mean, elites, probabilities } = carry as Record<string, NdView | undefined>;
    for (const view of [mean, elites]) {
      for (const action of view?.data ?? []) expect(action).toBeCloseTo(only, 6);
    }
    for (const [i, p] of (probabilities?.data ?? []).entries()) {
      expect(Math.abs(p - (i % 5 === only ? 1 : 0))).toBeLessThan(0.01);
    }
  });

  test('remembers nothing but what is carried', async () => {
    const request = { objective: sequenceObjective(goal), start: starts, seed: 1 };
    const first = await planner.plan(request);
    const other = sequenceObjective(near(actionSpace.type === 'box' ? -0.9 : 0));
    await planner.plan({ objective: other, start: starts, seed: 4, step: 1, carry: first.carry });
    expect(await planner.plan(request)).toEqual(first);
  });
});

describe.each(ofBoxes)('$who', ({ make }) => {
  test('has bounds of its own', async () => {
    const [low, high] = [[-1], [1]];
    const planner = make({ type: 'box', low, high });
    const request = { objective: sequenceObjective(near(0.3)), start: starts, seed: 1 };
    const before = await planner.plan(request);
    low[0] = -50;
    high[0] = -40;
    expect(planner.actionSpace).toEqual(box);
    expect(await planner.plan(request)).toEqual(before);
  });

  test('brings what it is given within the box', async () => {
    const actionSpace: ActionSpace = { type: 'box', low: [10], high: [20] };
    const { carry } = await make(box).plan({
      objective: sequenceObjective(near(0.6)),
      start: starts,
      seed: 1,
    });
    const planner = make(actionSpace);
    const nothing = sequenceObjective(() => Number.NaN);
    const plan = await planner.plan({ objective: nothing, start: starts, seed: 1, carry });
    const { mean, previous } = plan.carry as Record<string, NdView | undefined>;
    for (const { data } of [plan.actions, ...nothing.calls]) {
      expect(Math.min(...data)).toBeGreaterThanOrEqual(10);
    }
    for (const view of [mean, previous]) {
      for (const action of view?.data ?? []) expect(action).toBe(10);
    }
    for (const view of Object.values(carry)) {
      if (view.data instanceof Float32Array) view.data.fill(Number.NaN);
    }
    const anew = await planner.plan({ objective: nothing, start: starts, seed: 1, carry });
    for (const action of anew.carry.mean?.data ?? []) expect(action).toBe(15);
  });
});

test('indices are refused alike where there must be a box', () => {
  for (const [who, make] of [
    ['IcemPlanner', () => new IcemPlanner({ horizon, actionSpace: indices })],
    ['TdMpc2Planner', () => new TdMpc2Planner({ actionSpace: indices })],
  ] as const) {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(
      `${who}: actionSpace must be a box, got one of 5 indices; CemPlanner and MppiPlanner search those`,
    );
  }
});

test('options of the other kind of space are refused alike', () => {
  const options = { horizon, actionSpace: indices };
  for (const [what, make] of [
    ['CemPlanner: minStd', () => new CemPlanner({ ...options, minStd: 0.1 })],
    ['CemPlanner: sampling', () => new CemPlanner({ ...options, sampling: 'clipped' })],
    ['MppiPlanner: sigma', () => new MppiPlanner({ ...options, sigma: 1 })],
  ] as const) {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(`${what} must be left out for a discrete space, got`);
  }
  const epsilon = () => new MppiPlanner({ horizon, actionSpace: box, epsilon: 0.1 });
  expect(epsilon).toThrow(TypeError);
  expect(epsilon).toThrow('MppiPlanner: epsilon must be left out for a box space, got 0.1');
});

test('a mean that another planner carried serves CemPlanner and TdMpc2Planner', async () => {
  const objective = sequenceObjective(near(0.3, -0.6));
  const request = { objective, start: starts, seed: 1 };
  const of = (who: string) => ofBoxes.find((one) => one.who === who)?.make(box) as Planner;
  for (const other of ['MppiPlanner', 'IcemPlanner']) {
    const carry: PlanCarry = (await of(other).plan(request)).carry;
    for (const planner of [of('CemPlanner'), of('TdMpc2Planner')]) {
      const plan = await planner.plan({ ...request, step: 1, carry });
      const { mean } = carry;
      expect(await planner.plan({ ...request, step: 1, carry: { mean } })).toEqual(plan);
      expect(await planner.plan({ ...request, step: 1 })).not.toEqual(plan);
      expect(planner.shift(carry, 1)).toEqual(planner.shift({ mean }, 1));
    }
  }
});
