import { nd } from 'umwelt';
import { modelContext } from 'umwelt/dynamics';
import {
  CemPlanner,
  IcemPlanner,
  modelObjective,
  type PlanCarry,
  type Planner,
} from 'umwelt/rollout';
import { beforeAll, describe, expect, test } from 'vitest';
import { cartPole, cartPoleActions } from './cart-pole.js';

const seeds = 20;
const steps = 80;
const horizon = 30;

interface Episodes {
  /** The sum of rewards of each episode. */
  returns: number[];
  /** Steps up to the end that the pole was within 0.45 of upright, in radians. */
  upright: number[];
  /** Sequences valued for one plan, at most. */
  samples: number;
}

/** An episode for each trajectory id, from the pole hanging at rest, planned anew at every step. */
async function swingUp(planner: Planner): Promise<Episodes> {
  const model = cartPole();
  const objective = modelObjective(model);
  const trajectory = Uint32Array.from({ length: seeds }, (_, b) => b);
  const returns = new Array<number>(seeds).fill(0);
  const upright = new Array<number>(seeds).fill(0);
  let obs = nd(returns.map(() => [0, 0, Math.PI, 0]));
  let carry: PlanCarry | undefined;
  let samples = 0;
  for (let step = 0; step < steps; step++) {
    const request = { objective, start: obs, seed: 1, step, trajectory };
    const plan = await planner.plan({ ...request, ...(carry && { carry }) });
    samples = Math.max(samples, plan.evaluated);
    const action = Float32Array.from(trajectory, (b) => plan.actions.data[b * horizon]);
    const context = modelContext(1, trajectory, { step });
    const result = await model.step({ obs }, nd(action, [seeds, 1]), context);
    obs = result.obs;
    for (let b = 0; b < seeds; b++) {
      returns[b] += result.reward[b];
      upright[b] = Math.cos(obs.data[4 * b + 2]) > 0.9 ? upright[b] + 1 : 0;
    }
    carry = planner.shift(plan.carry, 1);
  }
  return { returns, upright, samples };
}

function median(values: readonly number[]): number {
  const sorted = values.slice().sort((a, b) => a - b);
  return (sorted[seeds / 2 - 1] + sorted[seeds / 2]) / 2;
}

describe('a pole on a cart', () => {
  const actionSpace = cartPoleActions;
  let cem: Episodes;
  let icem: Episodes;
  beforeAll(async () => {
    const options = { horizon, actionSpace, iterations: 4, returns: 'best' } as const;
    cem = await swingUp(new CemPlanner({ ...options, population: 80 }));
    icem = await swingUp(new IcemPlanner({ ...options, population: 40 }));
  }, 60_000);

  test('is swung up by CEM, and stays up', () => {
    expect(cem.samples).toBe(320);
    expect(Math.min(...cem.upright)).toBeGreaterThanOrEqual(25);
  });

  test('is swung up by iCEM, and stays up', () => {
    expect(Math.min(...icem.upright)).toBeGreaterThanOrEqual(25);
  });

  test('is swung up no worse by iCEM than by CEM with less than half its samples', () => {
    expect(icem.samples).toBeLessThanOrEqual(cem.samples / 2);
    expect(median(icem.returns)).toBeGreaterThanOrEqual(median(cem.returns));
  });
});
