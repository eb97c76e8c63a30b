/** Objectives that planners are tested with. */

import { nd, zeros } from 'umwelt';
import type { Objective } from 'umwelt/rollout';

/** Minus the squared distance of every action from a goal, summed. */
export const near =
  (goal: readonly number[], factor = 1): Objective =>
  ({ data, shape: [rows, count, horizon, width] }) => {
    const out = zeros([rows, count]);
    for (let i = 0, at = 0; i < rows * count; i++) {
      let sum = 0;
      for (let t = 0; t < horizon; t++) {
        for (let d = 0; d < width; d++) sum += (data[at++] - goal[d]) ** 2;
      }
      out.data[i] = -factor * sum;
    }
    return out;
  };

/** Keeps a copy of what is valued in each iteration. */
export function watched(objective: Objective): { objective: Objective; seen: number[][] } {
  const seen: number[][] = [];
  return {
    seen,
    objective: (actions, context) => {
      seen.push([...actions.data]);
      return objective(actions, context);
    },
  };
}

/** Finds nothing of any value. */
export const nothing: Objective = ({ shape: [rows, count] }) =>
  nd(new Float32Array(rows * count).fill(Number.NaN), [rows, count]);
