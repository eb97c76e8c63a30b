/** Many dreams of one start under one plan of actions: what the model holds possible. */

import { imagine, nd, type Seed, type WorldModel } from 'umwelt';
import { actionSequence, repeatRows, type Trajectory } from 'umwelt/rollout';
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

  // The same actions for every path, as one sequence with many particles.
  const taken = dream.action.data.subarray(
    row * horizon * actionSize,
    (row + 1) * horizon * actionSize,
  );
  const plan = nd(taken.slice(), [1, horizon, actionSize]);
  const playBack = actionSequence(plan, { particles: paths });
  const first = row * points * obsSize;
  const one = nd(dream.obs.data.slice(first, first + obsSize), [1, obsSize]);
  const start = repeatRows(one, paths);
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
