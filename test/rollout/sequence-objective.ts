/** Objectives of planners, from functions of one sequence. */

import { type NdView, nd } from 'umwelt';
import type { Actions, Objective } from 'umwelt/rollout';

/**
 * Values each sequence by a function of its numbers `[H A]` and the row of its start; `calls` keeps copies
 * of what was asked for.
 */
export function sequenceObjective(
  value: (sequence: Float32Array | Int32Array, row: number) => number,
): Objective & { readonly calls: Actions[] } {
  const calls: Actions[] = [];
  const objective = (actions: Actions): NdView => {
    const [rows, count, horizon, wide] = actions.shape;
    const width = horizon * wide;
    calls.push(nd(actions.data.slice() as Float32Array, actions.shape));
    const values = Float32Array.from({ length: rows * count }, (_, i) =>
      value(actions.data.subarray(i * width, (i + 1) * width), Math.floor(i / count)),
    );
    return nd(values, [rows, count]);
  };
  return Object.assign(objective, { calls });
}

/** Minus the squared distance from a target. */
export const near =
  (...target: number[]) =>
  (sequence: ArrayLike<number>): number => {
    let sum = 0;
    for (let i = 0; i < sequence.length; i++) sum -= (sequence[i] - target[i % target.length]) ** 2;
    return sum;
  };

/** The largest difference of two lists of equal length. */
export function furthest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  return worst;
}
