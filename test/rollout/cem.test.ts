import { gatherRows, type NdView, nd } from 'umwelt';
import {
  type ActionSpace,
  type CemOptions,
  CemPlanner,
  type Objective,
  type PlanCarry,
} from 'umwelt/rollout';
import { afterEach, describe, expect, test, vi } from 'vitest';
import golden from '../fixtures/cem.json' with { type: 'json' };
import { furthest, near, sequenceObjective } from './sequence-objective.js';

const unit: ActionSpace = { type: 'box', low: [-1], high: [1] };
const one = nd([[0]]);

/** How the numbers at `i` lie in the sequences of one call. */
function spreadOf(
  { data, shape }: { data: ArrayLike<number>; shape: readonly number[] },
  i: number,
) {
  const width = shape[2] * shape[3];
  const column = Array.from({ length: shape[1] }, (_, n) => data[n * width + i]);
  return { low: Math.min(...column), high: Math.max(...column), distinct: new Set(column).size };
}

describe('CemPlanner in a box', () => {
  const target = [0.2, 1, -0.3, 0.1, 0.1, 0.8, 0.4, -0.2];
  // On a bound, near one, and away from them.
  const atBounds = [-1, 3, 0.75, 2, -0.875, -1.5, 0.25, 1];
  test.each([
    ['truncated', 'truncated', undefined],
    ['clipped', 'clipped', undefined],
    ['atBounds', 'truncated', { mean: nd(Float32Array.from(atBounds), [1, 4, 2]) }],
  ] as const)('tries and fits what the formulas say: %s', async (name, sampling, carry) => {
    const planner = new CemPlanner({
      horizon: 4,
      actionSpace: { type: 'box', low: [-1, -2], high: [1, 3] },
      population: 11,
      iterations: 2,
      eliteRatio: 0.25,
      sampling,
    });
    const objective = sequenceObjective(near(...target));
    const trajectory = Uint32Array.of(9);
    const request = { objective, start: one, seed: 5, step: 2, trajectory };
    const plan = await planner.plan({ ...request, ...(carry && { carry }) });
    const { tried, mean } = golden[name];
    expect(objective.calls.length).toBe(2);
    objective.calls.forEach(({ data }, i) => {
      expect(furthest(data, tried[i])).toBeLessThan(1e-6);
    });
    expect(furthest(plan.actions.data, mean)).toBeLessThan(1e-6);
    expect(plan.carry.mean).toEqual(plan.actions);
  });

  test('returns the mean of the elites or the best that was tried', async () => {
    const objective = sequenceObjective(near(0.3, -0.6));
    const options: CemOptions = { horizon: 2, actionSpace: unit, population: 60 };
    const mean = await new CemPlanner(options).plan({ objective, start: one, seed: 1 });
    const best = await new CemPlanner({ ...options, returns: 'best' }).plan({
      objective,
      start: one,
      seed: 1,
    });
    expect(near(0.3, -0.6)(best.actions.data)).toBeCloseTo(best.value[0], 6);
    expect(best.value).toEqual(mean.value);
    expect(best.actions).not.toEqual(mean.actions);
    expect(furthest(mean.actions.data, [0.3, -0.6])).toBeLessThan(0.05);
    // What is carried is the mean either way.
    expect(best.carry).toEqual(mean.carry);
    expect(mean).toMatchObject({ iterations: 5, evaluated: 300 });
  });

  test('begins where the carry says, with the spread of a first plan', async () => {
    const planner = new CemPlanner({
      horizon: 2,
      actionSpace: unit,
      population: 400,
      iterations: 1,
    });
    const objective = sequenceObjective(() => 0);
    await planner.plan({ objective, start: one, seed: 1 });
    await planner.plan({ objective, start: one, seed: 1, carry: { mean: nd([[[0.5], [0]]]) } });
    // Two standard deviations: of (high - low) / 4, and at 0.5 of half the way to the bound.
    expect(spreadOf(objective.calls[0], 0).high).toBeCloseTo(1, 1);
    expect(spreadOf(objective.calls[1], 0)).toMatchObject({
      low: expect.closeTo(0, 1),
      high: expect.closeTo(1, 1),
    });
    expect(spreadOf(objective.calls[1], 1).low).toBeCloseTo(-1, 1);
  });

  test('shifts what it carries and fills up with the middle of the box', () => {
    const actionSpace: ActionSpace = { type: 'box', low: [-1, 2], high: [1, 4] };
    const planner = new CemPlanner({ horizon: 3, actionSpace });
    const carry = {
      mean: nd([
        [
          [1, 2],
          [3, 4],
          [5, 6],
        ],
        [
          [7, 8],
          [9, 10],
          [11, 12],
        ],
      ]),
    };
    expect(planner.shift(carry, 0)).toEqual(carry);
    expect(planner.shift(carry, 2)).toEqual({
      mean: nd([
        [
          [5, 6],
          [0, 3],
          [0, 3],
        ],
        [
          [11, 12],
          [0, 3],
          [0, 3],
        ],
      ]),
    });
    expect((planner.shift(carry, 3).mean as NdView).data).toEqual(
      Float32Array.of(0, 3, 0, 3, 0, 3, 0, 3, 0, 3, 0, 3),
    );
    expect(() => planner.shift(carry, 4)).toThrow(
      'CemPlanner.shift: steps must be an integer in 0..3',
    );
  });

  test.each([-1, 1])('a mean on a bound does not stay there: %d', async (bound) => {
    // One plan with the defaults takes it nearly to the other.
    const planner = new CemPlanner({ horizon: 1, actionSpace: unit });
    const objective = sequenceObjective(near(-0.9 * bound));
    const carry = { mean: nd([[[bound]]]) };
    for (let seed = 0; seed < 10; seed++) {
      const { actions } = await planner.plan({ objective, start: one, seed, carry });
      expect(Math.abs(actions.data[0] + 0.9 * bound)).toBeLessThan(0.02);
    }
    const first = spreadOf(objective.calls[0], 0);
    // What was drawn beyond the bound is on it.
    expect(Math.max(bound * first.low, bound * first.high)).toBe(1);
    expect(first.distinct).toBeLessThan(0.6 * 350);
  });

  test('a mean on a bound stays there where that is best', async () => {
    const planner = new CemPlanner({ horizon: 3, actionSpace: unit });
    const objective = sequenceObjective(near(-5));
    const carry = { mean: nd([[[-1], [-1], [-1]]]) };
    const { actions } = await planner.plan({ objective, start: one, seed: 1, carry });
    expect(furthest(actions.data, [-1, -1, -1])).toBeLessThan(0.001);
  });

  test('a value that is no number is worse than any that is', async () => {
    // All values are far below 0; where a is negative there is none.
    const objective = sequenceObjective(([a]) => (a < 0 ? Number.NaN : -1000 - a));
    const planner = new CemPlanner({ horizon: 1, actionSpace: unit, population: 40 });
    const { actions, value } = await planner.plan({ objective, start: one, seed: 1 });
    expect(actions.data[0]).toBeGreaterThanOrEqual(0);
    expect(actions.data[0]).toBeLessThan(0.1);
    expect(value[0]).toBeCloseTo(-1000, 0);
  });

  test('where nothing has a value the distribution stays', async () => {
    // The first start has none, the second has all.
    const objective = sequenceObjective((sequence, row) =>
      row === 0 ? Number.NaN : near(0.2)(sequence),
    );
    const carry = {
      mean: nd([
        [[0.5], [-0.25]],
        [[0.5], [-0.25]],
      ]),
    };
    for (const returns of ['mean', 'best'] as const) {
      const planner = new CemPlanner({ horizon: 2, actionSpace: unit, population: 40, returns });
      const plan = await planner.plan({ objective, start: nd([[0], [0]]), seed: 1, carry });
      expect(Array.from(plan.actions.data.subarray(0, 2))).toEqual([0.5, -0.25]);
      expect(furthest(plan.actions.data.subarray(2), [0.2, 0.2])).toBeLessThan(0.1);
      expect(plan.value[0]).toBe(Number.NEGATIVE_INFINITY);
    }
  });

  test.each([1, 2, 3, 7, 13, 101])('takes a population of %d', async (population) => {
    const planner = new CemPlanner({ horizon: 3, actionSpace: unit, population });
    const objective = sequenceObjective(near(0.1));
    const plan = await planner.plan({ objective, start: one, seed: 1 });
    expect(plan.evaluated).toBe(5 * population);
    expect(plan.actions.data.every((a) => Math.abs(a) <= 1)).toBe(true);
  });

  test('a single elite moves the mean and leaves the spread', async () => {
    const objective = sequenceObjective(near(0.9));
    const planner = new CemPlanner({
      horizon: 1,
      actionSpace: unit,
      population: 1,
      alpha: 0,
      iterations: 4,
    });
    await planner.plan({ objective, start: one, seed: 1 });
    const tried = objective.calls.map(({ data }) => data[0]);
    expect(new Set(tried).size).toBe(4);
    const std = (mean: number): number => {
      const room = 1 - Math.abs(mean);
      return Math.max(Math.min(0.5, room / 2), (1 - 2 * room) * 0.5);
    };
    for (let i = 1; i < 4; i++) {
      // Within two standard deviations of the one before, as at the beginning.
      expect(Math.abs(tried[i] - tried[i - 1])).toBeLessThanOrEqual(2 * std(tried[i - 1]) + 1e-6);
    }
  });

  test('the same planner plans the same again: nothing is remembered but by the carry', async () => {
    const planner = new CemPlanner({ horizon: 3, actionSpace: unit, population: 30 });
    const request = { objective: sequenceObjective(near(0.7)), start: one, seed: 3 };
    const first = await planner.plan(request);
    const other = await planner.plan({ ...request, carry: first.carry });
    expect(other.actions).not.toEqual(first.actions);
    expect(await planner.plan(request)).toEqual(first);
  });

  test('a plan leaves the carry it was given as it was', async () => {
    const planner = new CemPlanner({ horizon: 2, actionSpace: unit, population: 30 });
    const carry = { mean: nd([[[0.5], [-0.25]]]) };
    await planner.plan({ objective: sequenceObjective(near(0.7)), start: one, seed: 3, carry });
    expect(carry).toEqual({ mean: nd([[[0.5], [-0.25]]]) });
  });

  test('the standard deviation stays above the least', async () => {
    const planner = new CemPlanner({
      horizon: 1,
      actionSpace: unit,
      population: 200,
      iterations: 8,
      initialStd: 0.25,
      minStd: 0.2,
    });
    const objective = sequenceObjective(near(0));
    await planner.plan({ objective, start: one, seed: 1 });
    expect(spreadOf(objective.calls[0], 0).high).toBeCloseTo(0.5, 1);
    expect(spreadOf(objective.calls[7], 0).high).toBeCloseTo(0.4, 1);
  });

  test('clipped sampling reaches the bounds and leaves none out', async () => {
    const planner = new CemPlanner({
      horizon: 1,
      actionSpace: unit,
      population: 400,
      sampling: 'clipped',
      iterations: 1,
    });
    const objective = sequenceObjective(near(0));
    await planner.plan({ objective, start: one, seed: 1 });
    const { data } = objective.calls[0];
    const atBounds = data.filter((a) => Math.abs(a) === 1).length / 400;
    // scipy.stats.norm.sf(1) * 2 = 0.317 of a standard deviation of 1 lie beyond; three of its errors are 0.07
    expect(Math.abs(atBounds - 0.317)).toBeLessThan(0.07);
  });

  describe('within a budget', () => {
    afterEach(() => {
      vi.useRealTimers();
    });

    test('does as many iterations as end in time', async () => {
      vi.useFakeTimers({ toFake: ['performance'] });
      const planner = new CemPlanner({ horizon: 1, actionSpace: unit, iterations: 8 });
      const fast = sequenceObjective(near(0.3));
      const objective: Objective = (actions, context) => {
        vi.advanceTimersByTime(20);
        return fast(actions, context);
      };
      const within = async (budgetMs: number) => {
        const plan = await planner.plan({ objective, start: one, seed: 1, budgetMs });
        const { iterations, evaluated } = plan;
        expect(evaluated).toBe(350 * iterations);
        return iterations;
      };
      expect(await within(39)).toBe(1);
      expect(await within(40)).toBe(2);
      expect(await within(99)).toBe(4);
      expect(await within(100)).toBe(5);
      expect(await within(1000)).toBe(8);
    });
  });

  test('proposals count as elites, within bounds', async () => {
    const proposals = () => nd([[[[5], [0.5]]]]);
    const planner = new CemPlanner({
      horizon: 2,
      actionSpace: unit,
      population: 20,
      returns: 'best',
    });
    const objective = sequenceObjective(near(9, 0.5));
    const plan = await planner.plan({ objective, start: one, seed: 1, proposals });
    expect(objective.calls.every(({ data, shape }) => shape[1] === 21 && data[0] === 1)).toBe(true);
    expect(Array.from(plan.actions.data)).toEqual([1, 0.5]);
    expect((plan.carry.mean as NdView).data[0]).toBeLessThanOrEqual(1);
  });
});

describe('CemPlanner over indices', () => {
  const actionSpace = { type: 'discrete', n: 5 } as const;
  const hits =
    (...target: number[]) =>
    (sequence: ArrayLike<number>): number =>
      target.filter((index, t) => sequence[t] === index).length;

  test('finds the sequence, and returns the mode or the best', async () => {
    const objective = sequenceObjective(hits(4, 0, 2, 1, 3, 3));
    for (const returns of ['mean', 'best'] as const) {
      const planner = new CemPlanner({ horizon: 6, actionSpace, population: 200, returns });
      const plan = await planner.plan({ objective, start: one, seed: 2 });
      expect(plan.actions).toEqual(nd(Int32Array.of(4, 0, 2, 1, 3, 3), [1, 6, 1]));
      expect(plan.value[0]).toBe(6);
    }
  });

  test('carries probabilities, of which none is lost', async () => {
    const planner = new CemPlanner({ horizon: 2, actionSpace, population: 100, iterations: 30 });
    const objective = sequenceObjective(hits(4, 0));
    const { carry } = await planner.plan({ objective, start: one, seed: 2 });
    const { data, shape } = carry.probabilities as NdView;
    expect(shape).toEqual([1, 2, 5]);
    for (const step of [data.subarray(0, 5), data.subarray(5)]) {
      expect(step.reduce((sum, p) => sum + p)).toBeCloseTo(1, 6);
      expect(Math.min(...step)).toBeGreaterThan(0.002 - 1e-6);
    }
    expect(data[4]).toBeGreaterThan(0.9);
  });

  test('fits the frequencies of the elites', async () => {
    const planner = new CemPlanner({
      horizon: 1,
      actionSpace,
      population: 10,
      iterations: 1,
      eliteRatio: 0.4,
    });
    const objective = sequenceObjective(([index]) => index);
    const { carry } = await planner.plan({ objective, start: one, seed: 2 });
    const elites = Array.from(objective.calls[0].data)
      .sort((a, b) => b - a)
      .slice(0, 4);
    for (let index = 0; index < 5; index++) {
      const part = elites.filter((elite) => elite === index).length / 4;
      const p = 0.99 * (0.1 * 0.2 + 0.9 * part) + 0.01 / 5;
      expect(carry.probabilities.data[index]).toBeCloseTo(p, 6);
    }
  });

  test('a carry that is certain can still be left', async () => {
    const planner = new CemPlanner({ horizon: 2, actionSpace, population: 60 });
    const carry = {
      probabilities: nd([
        [
          [1, 0, 0, 0, 0],
          [1, 0, 0, 0, 0],
        ],
      ]),
    };
    const plan = await planner.plan({
      objective: sequenceObjective(hits(3, 2)),
      start: one,
      seed: 2,
      carry,
    });
    expect(Array.from(plan.actions.data)).toEqual([3, 2]);
  });

  test('draws by the probabilities', async () => {
    const planner = new CemPlanner({ horizon: 1, actionSpace, population: 4000, iterations: 1 });
    const objective = sequenceObjective(() => 0);
    // Half-way between these and equal ones.
    const carry = { probabilities: nd([[[0.6, 0, 0.4, 0, 0]]]) };
    await planner.plan({ objective, start: one, seed: 2, carry });
    [0.4, 0.1, 0.3, 0.1, 0.1].forEach((p, index) => {
      const part = objective.calls[0].data.filter((drawn) => drawn === index).length / 4000;
      expect(Math.abs(part - p)).toBeLessThan(0.025);
    });
  });

  test('shifts probabilities and fills up with equal ones', () => {
    const planner = new CemPlanner({ horizon: 2, actionSpace: { type: 'discrete', n: 2 } });
    const carry = {
      probabilities: nd([
        [
          [1, 0],
          [0.25, 0.75],
        ],
      ]),
    };
    expect(planner.shift(carry, 1)).toEqual({
      probabilities: nd([
        [
          [0.25, 0.75],
          [0.5, 0.5],
        ],
      ]),
    });
  });

  test('where nothing has a value the probabilities stay', async () => {
    const planner = new CemPlanner({
      horizon: 1,
      actionSpace: { type: 'discrete', n: 4 },
      population: 10,
    });
    const objective = sequenceObjective(() => Number.NaN);
    const plan = await planner.plan({ objective, start: one, seed: 2 });
    expect(plan.carry.probabilities).toEqual(nd([[[0.25, 0.25, 0.25, 0.25]]]));
    expect(Array.from(plan.actions.data)).toEqual([0]);
  });
});

describe('CemPlanner for many starts', () => {
  const spaces: ActionSpace[] = [
    { type: 'box', low: [-1, -2], high: [1, 3] },
    { type: 'discrete', n: 4 },
  ];
  test.each(spaces)('plans for each as if it were alone: $type', async (actionSpace) => {
    const planner = new CemPlanner({ horizon: 3, actionSpace, population: 23 });
    const goals = [0.3, -0.4, 1.1];
    const ids = Uint32Array.of(4, 90, 7);
    const objective = sequenceObjective((sequence, row) => near(goals[row])(sequence));
    const request = { start: nd([[0], [0], [0]]), seed: 1, trajectory: ids };
    const first = await planner.plan({ ...request, objective });
    const carry = planner.shift(first.carry, 1);
    const second = await planner.plan({ ...request, objective, step: 1, carry });
    for (let b = 0; b < 3; b++) {
      const own = sequenceObjective(near(goals[b]));
      const gathered = Object.fromEntries(
        Object.entries(carry).map(([name, view]) => [name, gatherRows(view, Int32Array.of(b))]),
      );
      const alone = await planner.plan({
        objective: own,
        start: one,
        seed: 1,
        trajectory: ids.subarray(b, b + 1),
        step: 1,
        carry: gathered,
      });
      const width = alone.actions.data.length;
      expect(alone.actions.data).toEqual(second.actions.data.slice(b * width, (b + 1) * width));
      expect(alone.value[0]).toBe(second.value[b]);
    }
  });

  test('a carry for other starts, of another horizon or planner is refused', async () => {
    const planner = new CemPlanner({ horizon: 3, actionSpace: unit });
    const objective = sequenceObjective(() => 0);
    const plan = (carry: PlanCarry) => planner.plan({ objective, start: one, seed: 0, carry });
    await expect(plan({ mean: nd(new Float32Array(6), [2, 3, 1]) })).rejects.toThrow(
      'CemPlanner.plan: carry must have mean [1, 3, 1], got [2, 3, 1]',
    );
    await expect(plan({ mean: nd(new Float32Array(4), [1, 4, 1]) })).rejects.toThrow(
      'got [1, 4, 1]',
    );
    await expect(plan({})).rejects.toThrow(
      'got undefined; give what a plan of this planner carried',
    );
  });

  test('no starts need no plan', async () => {
    const planner = new CemPlanner({ horizon: 3, actionSpace: unit });
    const plan = await planner.plan({
      objective: sequenceObjective(() => 0),
      start: nd(new Float32Array(0), [0, 1]),
      seed: 0,
    });
    expect(plan.actions.shape).toEqual([0, 3, 1]);
  });
});

test('CemPlanner refuses options that make no sense', () => {
  const good: CemOptions = { horizon: 2, actionSpace: unit };
  for (const wrong of [
    { horizon: 0 },
    { population: 0 },
    { iterations: 1.5 },
    { eliteRatio: 0 },
    { eliteRatio: 1.1 },
    { alpha: 1 },
    { alpha: -0.1 },
    { sampling: 'uniform' },
    { initialStd: 0 },
    { minStd: -1 },
    { returns: 'median' },
    { actionSpace: { type: 'box', low: [1], high: [1] } },
  ]) {
    expect(() => new CemPlanner({ ...good, ...wrong } as CemOptions)).toThrow(RangeError);
  }
  expect(() => new CemPlanner({ ...good, elites: 3 } as never)).toThrow("got 'elites'");
});
