import { gatherRows, type NdView, nd } from 'umwelt';
import { CemPlanner, type IcemOptions, IcemPlanner, type PlanCarry } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/cem.json' with { type: 'json' };
import { correlation } from '../support/statistics.js';
import { furthest, near, sequenceObjective } from './sequence-objective.js';

const unit = { type: 'box' as const, low: [-1], high: [1] };
const one = nd([[0]]);

/** The sequences of one call, each as a list. */
function sequencesOf({
  data,
  shape,
}: {
  data: ArrayLike<number>;
  shape: readonly number[];
}): number[][] {
  const width = shape[2] * shape[3];
  return Array.from({ length: shape[0] * shape[1] }, (_, n) =>
    Array.from({ length: width }, (_, i) => data[n * width + i]),
  );
}

/** The best `k` of sequences, best first. */
const bestOf = (sequences: number[][], value: (s: number[]) => number, k: number): number[][] =>
  sequences
    .slice()
    .sort((a, b) => value(b) - value(a))
    .slice(0, k);

describe('IcemPlanner', () => {
  test('tries and fits what the formulas say, and goes on from what it kept', async () => {
    const planner = new IcemPlanner({
      horizon: 4,
      actionSpace: { type: 'box', low: [-1, -2], high: [1, 3] },
      population: 11,
      iterations: 3,
      eliteRatio: 0.25,
      keepFraction: 0.5,
      decay: 1.5,
    });
    const objective = sequenceObjective(near(0.2, 1, -0.3, 0.1, 0.1, 0.8, 0.4, -0.2));
    const request = { objective, start: one, seed: 5, trajectory: Uint32Array.of(9) };
    const first = await planner.plan({ ...request, step: 2 });
    const carry = planner.shift(first.carry, 1);
    const second = await planner.plan({ ...request, step: 3, carry });
    const tried = golden.icem.flatMap((plan) => plan.tried);
    expect(objective.calls.length).toBe(6);
    objective.calls.forEach(({ data }, i) => {
      expect(furthest(data, tried[i])).toBeLessThan(1e-6);
    });
    expect(furthest((first.carry.mean as NdView).data, golden.icem[0].mean)).toBeLessThan(1e-6);
    expect(furthest((second.carry.mean as NdView).data, golden.icem[1].mean)).toBeLessThan(1e-6);
  });

  test('tries fewer sequences each time, but twice the elites, and the elites it keeps', async () => {
    const planner = new IcemPlanner({ horizon: 2, actionSpace: unit, iterations: 10 });
    const objective = sequenceObjective(near(0.1));
    const first = await planner.plan({ objective, start: one, seed: 1 });
    // python: [math.ceil(max(200 * 1.3**-i, 40)) for i in range(10)]; six kept in between, one mean at last
    const drawn = [200, 154, 119, 92, 71, 54, 42, 40, 40, 40];
    const kept = [0, 6, 6, 6, 6, 6, 6, 6, 6, 1];
    const counts = () => objective.calls.map(({ shape }) => shape[1]);
    expect(counts()).toEqual(drawn.map((n, i) => n + kept[i]));
    expect(first.evaluated).toBe(counts().reduce((sum, n) => sum + n));
    objective.calls.length = 0;
    await planner.plan({ objective, start: one, seed: 1, carry: first.carry });
    expect(counts()).toEqual(drawn.map((n, i) => n + (i === 0 ? 6 : kept[i])));
  });

  test.each([
    [1, 0.1, [2, 3, 3]],
    [100, 1, [200, 230, 201]],
    [40, 0.5, [40, 46, 41]],
  ])(
    'draws twice the elites at least: %d with a ratio of %f',
    async (population, eliteRatio, n) => {
      const planner = new IcemPlanner({
        horizon: 1,
        actionSpace: unit,
        population,
        eliteRatio,
        iterations: 3,
      });
      const objective = sequenceObjective(near(0.1));
      await planner.plan({ objective, start: one, seed: 1 });
      expect(objective.calls.map(({ shape }) => shape[1])).toEqual(n);
    },
  );

  test('tries the best elites again, and at last the mean', async () => {
    const planner = new IcemPlanner({
      horizon: 3,
      actionSpace: unit,
      population: 30,
      iterations: 3,
      keepFraction: 1,
    });
    const value = near(0.1, -0.7, 0.4);
    const objective = sequenceObjective(value);
    const plan = await planner.plan({ objective, start: one, seed: 1 });
    const [first, second, third] = objective.calls.map(sequencesOf);
    expect(second.slice(-3)).toEqual(bestOf(first, value, 3));
    // Two elites fits back: the mean is neither among the drawn nor the kept.
    const mean = third[third.length - 1];
    expect(furthest(mean, [0.1, -0.7, 0.4])).toBeLessThan(0.4);
    expect(second).not.toContainEqual(mean);
    expect(sequencesOf(plan.carry.elites as never).length).toBe(3);
  });

  test('takes kept elites over, shifted, their last actions drawn anew', async () => {
    const planner = new IcemPlanner({
      horizon: 4,
      actionSpace: unit,
      population: 30,
      iterations: 2,
      keepFraction: 1,
    });
    const value = near(0.1, -0.7, 0.4, 0.3);
    const objective = sequenceObjective(value);
    const { carry } = await planner.plan({ objective, start: one, seed: 1 });
    const elites = bestOf(sequencesOf(objective.calls[1]), value, 3);
    objective.calls.length = 0;
    // Two steps, at once or one after the other.
    const carries = [planner.shift(carry, 2), planner.shift(planner.shift(carry, 1), 1)];
    for (const carry of carries)
      await planner.plan({ objective, start: one, seed: 1, step: 2, carry });
    const again = sequencesOf(objective.calls[0]).slice(-3);
    expect(again.map((s) => s.slice(0, 2))).toEqual(elites.map((s) => s.slice(2)));
    const fresh = again.flatMap((s) => s.slice(2));
    expect(new Set(fresh).size).toBe(6);
    expect(objective.calls[2]).toEqual(objective.calls[0]);
  });

  test('draws actions that are alike for a while', async () => {
    const planner = new IcemPlanner({
      horizon: 10,
      actionSpace: unit,
      population: 2000,
      iterations: 1,
      initialStd: 0.1,
    });
    const objective = sequenceObjective(() => 0);
    await planner.plan({ objective, start: one, seed: 1 });
    const sequences = sequencesOf(objective.calls[0]);
    const now = sequences.flatMap((s) => s.slice(0, 9));
    const next = sequences.flatMap((s) => s.slice(1));
    expect(Math.abs(correlation(now, next) - 0.619)).toBeLessThan(0.02);
  });

  test('returns the best that was tried or the mean of the elites', async () => {
    const value = near(0.3, -0.6);
    const objective = sequenceObjective(value);
    const options: IcemOptions = { horizon: 2, actionSpace: unit, population: 60 };
    const best = await new IcemPlanner(options).plan({ objective, start: one, seed: 1 });
    const mean = await new IcemPlanner({ ...options, returns: 'mean' }).plan({
      objective,
      start: one,
      seed: 1,
    });
    expect(value(best.actions.data)).toBeCloseTo(best.value[0], 6);
    expect(mean.actions).toEqual(mean.carry.mean);
    expect(mean.actions).not.toEqual(best.actions);
    expect(best.carry).toEqual(mean.carry);
  });

  test('elites do not survive in the planner: a plan without carry is the first again', async () => {
    const planner = new IcemPlanner({ horizon: 3, actionSpace: unit, population: 30 });
    const request = { objective: sequenceObjective(near(0.7)), start: one, seed: 3 };
    const first = await planner.plan(request);
    const other = await planner.plan({ ...request, carry: first.carry });
    expect(other.evaluated).toBeGreaterThan(first.evaluated);
    expect(await planner.plan(request)).toEqual(first);
  });

  test('a plan leaves the carry it was given as it was', async () => {
    const planner = new IcemPlanner({ horizon: 3, actionSpace: unit, population: 30 });
    const request = { objective: sequenceObjective(near(0.7)), start: one, seed: 3 };
    const { carry } = await planner.plan(request);
    const before = structuredClone(carry);
    await planner.plan({ ...request, carry });
    planner.shift(carry, 2);
    expect(carry).toEqual(before);
  });

  test('a value that is no number is worse than any that is', async () => {
    const objective = sequenceObjective(([a]) => (a < 0 ? Number.NaN : -1000 - a));
    const planner = new IcemPlanner({ horizon: 1, actionSpace: unit, population: 40 });
    const { actions, value } = await planner.plan({ objective, start: one, seed: 1 });
    expect(actions.data[0]).toBeGreaterThanOrEqual(0);
    expect(actions.data[0]).toBeLessThan(0.1);
    expect(value[0]).toBeCloseTo(-1000, 0);
  });

  test('where nothing has a value the distribution stays and no elite is kept', async () => {
    const objective = sequenceObjective((sequence, row) =>
      row === 0 ? Number.NaN : near(0.2)(sequence),
    );
    const planner = new IcemPlanner({ horizon: 2, actionSpace: unit, population: 40 });
    const plan = await planner.plan({ objective, start: nd([[0], [0]]), seed: 1 });
    expect(Array.from(plan.actions.data.subarray(0, 2))).toEqual([0, 0]);
    expect(furthest(plan.actions.data.subarray(2), [0.2, 0.2])).toBeLessThan(0.1);
    expect(Array.from(plan.carry.count.data as Int32Array)).toEqual([0, 2]);
    const carry = planner.shift(plan.carry, 1);
    const next = await planner.plan({ objective, start: nd([[0], [0]]), seed: 1, step: 1, carry });
    expect(Array.from(next.actions.data.subarray(0, 2))).toEqual([0, 0]);
  });

  test.each([1, 2, 3, 7, 13, 101])('takes a population of %d', async (population) => {
    const planner = new IcemPlanner({ horizon: 3, actionSpace: unit, population });
    const objective = sequenceObjective(near(0.1));
    const first = await planner.plan({ objective, start: one, seed: 1 });
    const carry = planner.shift(first.carry, 3);
    const plan = await planner.plan({ objective, start: one, seed: 1, carry });
    expect(plan.actions.data.every((a) => Math.abs(a) <= 1)).toBe(true);
  });

  test('plans for each of many starts as if it were alone', async () => {
    const actionSpace = { type: 'box' as const, low: [-1, -2], high: [1, 3] };
    const planner = new IcemPlanner({ horizon: 3, actionSpace, population: 23 });
    const goals = [0.3, -0.4, 1.1];
    const ids = Uint32Array.of(4, 90, 7);
    const objective = sequenceObjective((sequence, row) => near(goals[row])(sequence));
    const request = { start: nd([[0], [0], [0]]), seed: 1, trajectory: ids };
    const first = await planner.plan({ ...request, objective });
    const carry = planner.shift(first.carry, 1);
    const second = await planner.plan({ ...request, objective, step: 1, carry });
    for (let b = 0; b < 3; b++) {
      const gathered = Object.fromEntries(
        Object.entries(carry).map(([name, view]) => [name, gatherRows(view, Int32Array.of(b))]),
      );
      const alone = await planner.plan({
        objective: sequenceObjective(near(goals[b])),
        start: one,
        seed: 1,
        trajectory: ids.subarray(b, b + 1),
        step: 1,
        carry: gathered,
      });
      expect(alone.actions.data).toEqual(second.actions.data.slice(6 * b, 6 * b + 6));
      expect(alone.value[0]).toBe(second.value[b]);
    }
  });

  test('a carry for other starts, of another horizon or planner is refused', async () => {
    const options: IcemOptions = { horizon: 3, actionSpace: unit, population: 10 };
    const planner = new IcemPlanner(options);
    const objective = sequenceObjective(() => 0);
    const plan = (carry: PlanCarry) => planner.plan({ objective, start: one, seed: 0, carry });
    const two = await planner.plan({ objective, start: nd([[0], [0]]), seed: 0 });
    await expect(plan(two.carry)).rejects.toThrow('carry must have mean [1, 3, 1], got [2, 3, 1]');
    const longer = new IcemPlanner({ ...options, horizon: 4 });
    const four = await longer.plan({ objective, start: one, seed: 0 });
    await expect(plan(four.carry)).rejects.toThrow('got [1, 4, 1]');
    expect(() => planner.shift(four.carry, 1)).toThrow('got [1, 4, 1]');
    const cem = await new CemPlanner(options as never).plan({ objective, start: one, seed: 0 });
    await expect(plan(cem.carry)).rejects.toThrow('IcemPlanner.plan: carry must have elites');
  });

  test('refuses options that make no sense', () => {
    const good: IcemOptions = { horizon: 2, actionSpace: unit };
    for (const wrong of [
      { horizon: 0 },
      { population: 0 },
      { iterations: 0 },
      { decay: 0.9 },
      { beta: -1 },
      { keepFraction: 1.1 },
      { eliteRatio: 0 },
      { alpha: 1 },
      { initialStd: 0 },
      { returns: 'median' },
    ]) {
      expect(() => new IcemPlanner({ ...good, ...wrong } as IcemOptions)).toThrow(RangeError);
    }
    expect(() => new IcemPlanner({ ...good, gamma: 1.3 } as never)).toThrow("got 'gamma'");
    expect(() => new IcemPlanner({ ...good, beta: -1 })).toThrow('IcemPlanner: beta must be');
  });
});
