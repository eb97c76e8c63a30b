/** Models of plain functions never leave the microtasks: others must get their turn all the same. */

import { nd } from 'umwelt';
import { imagine, modelObjective, policyProposals, RandomShooting } from 'umwelt/rollout';
import { expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

const actionSpace = { type: 'box', low: [-1], high: [1] } as const;

/** A signal that a timer aborts, which fires only when timers get their turn. */
function soon(): AbortSignal {
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('enough')), 1);
  return abort.signal;
}

test('a timer stops a rollout', async () => {
  const world = lineWorld();
  const options = { start: nd([[0]]), horizon: 1_000_000, seed: 0, signal: soon() };
  const rollout = imagine(world, constantly(0), options);
  const read = async () => {
    for await (const _ of rollout);
  };
  await expect(read()).rejects.toThrow('enough');
  rollout.carry.release();
  expect(world.alive.size).toBe(0);
});

test('a timer stops a plan, between iterations and within one', async () => {
  const start = nd([[0]]);
  const many = new RandomShooting({ horizon: 1, actionSpace, population: 50, iterations: 65_536 });
  const quick = many.plan({
    objective: modelObjective(lineWorld()),
    start,
    seed: 0,
    signal: soon(),
  });
  await expect(quick).rejects.toThrow('enough');
  const long = new RandomShooting({ horizon: 1, actionSpace, population: 2 });
  const objective = modelObjective(lineWorld(), { actionRepeat: 1_000_000 });
  await expect(long.plan({ objective, start, seed: 0, signal: soon() })).rejects.toThrow('enough');
});

test('a timer stops proposals', async () => {
  const world = lineWorld();
  const horizon = 200_000;
  const planner = new RandomShooting({ horizon, actionSpace, population: 1 });
  const plan = planner.plan({
    objective: modelObjective(world),
    proposals: policyProposals(world, constantly(0), { count: 1, horizon, actionSpace }),
    start: nd([[0]]),
    seed: 0,
    signal: soon(),
  });
  await expect(plan).rejects.toThrow('enough');
  expect(world.alive.size).toBe(0);
});

test('a controller is no signal', async () => {
  const signal = new AbortController() as never;
  const start = nd([[0]]);
  expect(() => imagine(lineWorld(), constantly(0), { start, horizon: 1, seed: 0, signal })).toThrow(
    /imagine: signal must be an AbortSignal, got an AbortController/,
  );
  const planner = new RandomShooting({ horizon: 1, actionSpace, population: 1 });
  const plan = planner.plan({ objective: modelObjective(lineWorld()), start, seed: 0, signal });
  await expect(plan).rejects.toThrow(/signal must be an AbortSignal/);
});
