import { nd } from 'umwelt';
import { CemPlanner, IcemPlanner, modelObjective, type PlanCarry } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { doubleIntegrator, fourStates, type Lqr, lqrStarts } from './lqr.js';

const horizon = 5;
const cases = [
  { name: 'a double integrator', system: doubleIntegrator() },
  { name: 'four states and two actions', system: fourStates() },
].flatMap(({ name, system }) => {
  const { actionSpace } = system;
  return [
    { name, system, planner: new CemPlanner({ horizon, actionSpace }) },
    {
      name,
      system,
      // The best actions alternate, so that much of the noise must too.
      planner: new IcemPlanner({ horizon, actionSpace, population: 400, iterations: 8, beta: 0.5 }),
    },
  ].map((one) => ({ ...one, who: one.planner.constructor.name }));
});

/** The cost of each start's actions, as a multiple of the least possible. */
function excess({ cost, optimalCost }: Lqr, starts: number[][], actions: number[][]): number[] {
  return starts.map((x, b) => cost(x, actions[b]) / optimalCost(x));
}

describe.each(cases)('$who with $name', ({ system, planner }) => {
  const starts = lqrStarts(system, 10);
  const objective = modelObjective(system.model, { value: system.value });
  const width = horizon * system.actionSpace.low.length;

  test('plans within 1 % of the optimal cost', async () => {
    const { actions } = await planner.plan({ objective, start: nd(starts), seed: 1 });
    const planned = starts.map((_, b) =>
      Array.from(actions.data.subarray(b * width, (b + 1) * width)),
    );
    const ratios = excess(system, starts, planned);
    expect(Math.min(...ratios)).toBeGreaterThan(1 - 1e-9);
    expect(Math.max(...ratios)).toBeLessThan(1.01);
  });

  test('stays within 1 % when it plans anew at every step', async () => {
    const states = starts.map((x) => x.slice());
    const taken = starts.map((): number[] => []);
    let carry: PlanCarry | undefined;
    for (let step = 0; step < 15; step++) {
      const request = { objective, start: nd(states), seed: 1, step };
      const plan = await planner.plan({ ...request, ...(carry && { carry }) });
      for (let b = 0; b < starts.length; b++) {
        const from = b * width;
        const action = Array.from(plan.actions.data.subarray(from, from + width / horizon));
        taken[b].push(...action);
        states[b] = system.next(states[b], action);
      }
      carry = planner.shift(plan.carry, 1);
    }
    expect(Math.max(...excess(system, starts, taken))).toBeLessThan(1.01);
  });
});
