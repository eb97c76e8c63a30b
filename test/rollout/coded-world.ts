/** A world whose rewards tell which observation and action they belong to. */

import { gatherRows, imagine, type NdView, nd, type Trajectory, type WorldModel } from 'umwelt';
import type { Policy } from 'umwelt/rollout';

/** Where an episode is over. */
export const END = 5;

/**
 * `x' = (x0 + 1, 10 x0 + 10)`; the reward is `100 x0 + action0`, the episode over where `x0'` reaches
 * {@link END}. No two transitions have one reward.
 */
export const codedWorld: WorldModel<NdView> = {
  obsSize: 2,
  actionSize: 3,
  initial: (obs) => obs,
  step(obs, action) {
    const [rows] = obs.shape;
    const next = new Float32Array(2 * rows);
    const reward = new Float32Array(rows);
    const terminated = new Uint8Array(rows);
    for (let row = 0; row < rows; row++) {
      const x = obs.data[2 * row];
      next[2 * row] = x + 1;
      next[2 * row + 1] = 10 * x + 10;
      reward[row] = 100 * x + action.data[3 * row];
      terminated[row] = x + 1 >= END ? 1 : 0;
    }
    const view = nd(next, [rows, 2]);
    return { state: view, obs: view, reward, terminated };
  },
  gather: gatherRows,
};

/** Actions `(x0 / 8, -x0, 1)`. */
export const codedPolicy: Policy = (obs) => {
  const [rows] = obs.shape;
  const action = new Float32Array(3 * rows);
  for (let row = 0; row < rows; row++) {
    const x = obs.data[2 * row];
    action.set([x / 8, -x, 1], 3 * row);
  }
  return nd(action, [rows, 3]);
};

/** Rows of 3, 4 (cut by the horizon), 1 and no steps; the last start is not finite. */
export function codedDream(): Promise<Trajectory> {
  return imagine(codedWorld, codedPolicy, {
    start: nd([
      [2, 20],
      [-3, -30],
      [4.5, 45],
      [Number.NaN, 0],
    ]),
    horizon: 4,
    seed: 0,
    value: (obs) => Float32Array.from({ length: obs.shape[0] }, (_, row) => 7 + obs.data[2 * row]),
  }).collect();
}

/** What a conversion and its inverse must leave as it was. */
export function essence(trajectory: Trajectory) {
  const { obs, action, reward, terminated, truncated, last, mask, length } = trajectory;
  return { obs, action, reward, terminated, truncated, last, mask, length };
}

/** The same numbers in column order, with gaps and an offset. */
export function strided<T extends Float32Array | Uint8Array>(view: NdView<T>): NdView<T> {
  const { data, shape } = view;
  const spread = new (data.constructor as new (length: number) => T)(2 * data.length + 1);
  let step = 2;
  const stride = shape.map((length) => {
    const own = step;
    step *= length;
    return own;
  });
  for (let i = 0; i < data.length; i++) {
    let at = 1;
    let rest = i;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += (rest % shape[axis]) * stride[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    spread[at] = data[i];
  }
  return { data: spread, shape, stride, offset: 1 };
}
