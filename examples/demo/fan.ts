/** Many dreams of one start under one plan of actions: what the model holds possible. */

import { imagine, type NdView, nd, type Policy, type Seed, type WorldModel } from 'umwelt';
import type { Trajectory } from 'umwelt/rollout';
import type { Comparison } from './compare.js';

/** A fan of dreams and the path that the simulator took. */
export interface Fan {
  /** The row of the comparison whose start and actions these are. */
  readonly row: number;
  /** Imagined observations, one array `[N + 1, S]` for each dream that stayed finite. */
  readonly imagined: readonly Float32Array[];
  /** The simulator's observations, `N + 1` of them, each `[S]`. */
  readonly actual: readonly Float64Array[];
}

/**
 * Dreams one start again and again; only the noise differs.
 *
 * The actions are those of one row of the dream, so each path may be held against the simulator's.
 * Nothing ends a path early, so that the bands are over all paths at every step.
 */
export async function dreamFan<State>(
  model: WorldModel<State>,
  dream: Trajectory,
  comparison: Comparison,
  { paths, seed }: { paths: number; seed: Seed },
): Promise<Fan> {
  const { row, steps } = typicalRow(comparison);
  const [, points, obsSize] = dream.obs.shape;
  const [, horizon, actionSize] = dream.action.shape;

  // A policy is a function: this one plays back what was recorded.
  const playBack: Policy = (obs, { step }) => {
    const at = (row * horizon + step) * actionSize;
    return repeat(dream.action.data.subarray(at, at + actionSize), obs.shape[0]);
  };
  const first = row * points * obsSize;
  const start = repeat(dream.obs.data.subarray(first, first + obsSize), paths);
  const dreams = await imagine(model, playBack, { start, horizon: steps, seed }).collect();
  const size = (steps + 1) * obsSize;
  const imagined = Array.from({ length: paths }, (_, path) =>
    dreams.obs.data.subarray(path * size, (path + 1) * size),
  ).filter((_, path) => dreams.length[path] === steps);

  const truth = comparison.reality.obs.data;
  const actual = Array.from({ length: steps + 1 }, (_, t) =>
    truth.subarray(first + t * obsSize, first + (t + 1) * obsSize),
  );
  return { row, imagined, actual };
}

/** Among the rows that dream and simulator shared the longest, the one with the median error. */
function typicalRow({ reality, openLoop }: Comparison): { row: number; steps: number } {
  const [rows, horizon] = reality.mask.shape;
  const { states, perRow } = openLoop;
  let steps = horizon;
  while (states.count[steps - 1] === 0) steps--;
  const errorOf = (row: number) => perRow.data[row * horizon + steps - 1];
  const longest = Array.from({ length: rows }, (_, row) => row)
    .filter((row) => reality.mask.data[row * horizon + steps - 1] === 1)
    .sort((a, b) => errorOf(a) - errorOf(b));
  return { row: longest[Math.floor(longest.length / 2)], steps };
}

/** A matrix of equal rows. */
function repeat(values: Float32Array, rows: number): NdView {
  const data = new Float32Array(rows * values.length);
  for (let row = 0; row < rows; row++) data.set(values, row * values.length);
  return nd(data, [rows, values.length]);
}
