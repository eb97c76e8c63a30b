import { type NdView, nd, packed } from '../nd.js';
import { expectTrajectory, type Trajectory } from './trajectory.js';
import {
  copyOf,
  expectArrays,
  expectOptionalView,
  expectView,
  expectZerosAfter,
  lengthsOf,
  swapped,
  trajectoryOf,
} from './trajectory-parts.js';

/**
 * A batch of episodes as TD-MPC2's buffer holds them, time first: one entry an observation, with the
 * action that led to it and what came of that.
 */
export interface TdMpc2Trajectory {
  /** Float32 `[T + 1, B, S]`. */
  readonly obs: NdView;
  /** The action that led to `obs[t, b]`, float32 `[T + 1, B, A]`; NaN at the first, which none led to. */
  readonly action: NdView;
  /** Float32 `[T + 1, B]`; NaN at the first. */
  readonly reward: NdView;
  /** 1 where the episode is over, float32 `[T + 1, B]`; NaN at the first. */
  readonly terminated: NdView;
  /** 1 for observations that were made, uint8 `[T + 1, B]`; what the others hold means nothing. */
  readonly mask?: NdView<Uint8Array>;
}

/**
 * A trajectory in TD-MPC2's arrival storage: action, reward and end at index `t` belong to the transition
 * into `obs[t, b]`, and dropping the first index of them, as the training step does, gives departure
 * alignment.
 *
 * The entries of the first index are NaN as in the original, which marks what no transition led to: a
 * reader that forgets to drop them is told. All else is finite. There is no truncated flag in this layout:
 * a row that was cut ends without `terminated`. Rows without a step have mask 0 throughout. The mask is
 * an addition: the original's buffer holds whole episodes one after another and draws windows within them.
 *
 * Source: nicklashansen/tdmpc2, `tdmpc2/trainer/online_trainer.py` (`to_td`) and
 * `tdmpc2/common/buffer.py` (`_prepare_batch`).
 *
 * @returns copies
 * @throws TypeError when `trajectory` is none
 */
export function toTdMpc2(trajectory: Trajectory): Required<TdMpc2Trajectory> {
  expectTrajectory('toTdMpc2', trajectory);
  const { obs, length } = trajectory;
  const [rows, horizon, actionSize] = trajectory.action.shape;
  const places = horizon + 1;
  const action = new Float32Array(places * rows * actionSize);
  const reward = new Float32Array(places * rows);
  const terminated = new Float32Array(places * rows);
  const mask = new Uint8Array(places * rows);
  const actions = packed(trajectory.action);
  const rewards = packed(trajectory.reward);
  const ends = packed(trajectory.terminated);
  action.fill(Number.NaN, 0, rows * actionSize);
  reward.fill(Number.NaN, 0, rows);
  terminated.fill(Number.NaN, 0, rows);
  for (let row = 0; row < rows; row++) {
    const steps = length[row];
    if (steps > 0) mask[row] = 1;
    for (let t = 0; t < steps; t++) {
      const from = row * horizon + t;
      const to = (t + 1) * rows + row;
      for (let d = 0; d < actionSize; d++) {
        action[to * actionSize + d] = actions[from * actionSize + d];
      }
      reward[to] = rewards[from];
      terminated[to] = ends[from];
      mask[to] = 1;
    }
  }
  return {
    obs: nd(copyOf(swapped(obs)), [places, rows, obs.shape[2]]),
    action: nd(action, [places, rows, actionSize]),
    reward: nd(reward, [places, rows]),
    terminated: nd(terminated, [places, rows]),
    mask: nd(mask, [places, rows]),
  };
}

/**
 * A trajectory of TD-MPC2's arrays, such as a batch of its buffer before the first index is dropped.
 *
 * What the first index holds besides the observation is not read. A row that ends without `terminated` was
 * cut and counts as truncated.
 *
 * @param batch - views of any strides; without a mask, a row lasts up to its first `terminated`, or up to
 *   `T`
 * @throws TypeError or `ShapeError` when an array is not of its type and shape
 * @throws RangeError when a row goes on after `terminated`: by its mask or, without one, where anything
 *   is not 0 after it
 */
export function fromTdMpc2(batch: TdMpc2Trajectory): Trajectory {
  const what = 'fromTdMpc2';
  expectArrays(`${what}: batch`, batch);
  expectView(`${what}: obs`, batch.obs, Float32Array, [null, null, null]);
  const [places, rows, obsSize] = batch.obs.shape;
  const given = expectView(`${what}: action`, batch.action, Float32Array, [places, rows, null]);
  const actionSize = batch.action.shape[2];
  const shape = [places, rows];
  const rewards = expectView(`${what}: reward`, batch.reward, Float32Array, shape);
  const ends = expectView(`${what}: terminated`, batch.terminated, Float32Array, shape);
  expectOptionalView(`${what}: mask`, batch.mask, Uint8Array, shape);
  const horizon = Math.max(places - 1, 0);
  const flags = new Uint8Array(rows * places);
  for (let row = 0; row < rows; row++) {
    for (let t = 1; t < places; t++) flags[row * places + t] = ends[t * rows + row] > 0 ? 1 : 0;
  }
  const mask = batch.mask && packed(swapped(batch.mask));
  const seen = lengthsOf(what, rows, places, mask, [flags]);
  const obs = packed(swapped(batch.obs));
  if (mask === undefined) {
    expectZerosAfter(what, seen, places, {
      obs,
      action: packed(swapped(batch.action)),
      reward: packed(swapped(batch.reward)),
      terminated: flags,
    });
  }
  const length = seen.map((entries) => Math.max(entries - 1, 0));
  const action = new Float32Array(rows * horizon * actionSize);
  const reward = new Float32Array(rows * horizon);
  const terminated = new Uint8Array(rows * horizon);
  for (let row = 0; row < rows; row++) {
    for (let t = 0; t < length[row]; t++) {
      const at = row * horizon + t;
      const from = (t + 1) * rows + row;
      for (let d = 0; d < actionSize; d++) {
        action[at * actionSize + d] = given[from * actionSize + d];
      }
      reward[at] = rewards[from];
      terminated[at] = flags[row * places + t + 1];
    }
  }
  return trajectoryOf(what, {
    rows,
    horizon,
    obsSize,
    actionSize,
    obs,
    action,
    reward,
    terminated,
    length,
  });
}
