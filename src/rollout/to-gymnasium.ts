import { type NdView, nd } from '../nd.js';
import { expectTrajectory, type Trajectory } from './trajectory.js';
import {
  copyOf,
  expectArrays,
  expectOptionalView,
  expectView,
  expectZerosAfter,
  joinObs,
  lengthsOf,
  stepsOf,
  trajectoryOf,
} from './trajectory-parts.js';

/**
 * A batch of trajectories as Gymnasium's `step` tells them: index `t` holds the observation, the action
 * taken on it, and what that step returned.
 */
export interface GymnasiumTrajectory {
  /** Before the step, float32 `[B, T, S]`. */
  readonly obs: NdView;
  /** Float32 `[B, T, A]`. */
  readonly action: NdView;
  /** Float32 `[B, T]`. */
  readonly reward: NdView;
  /** Uint8 `[B, T]`. */
  readonly terminated: NdView<Uint8Array>;
  /** Uint8 `[B, T]`. */
  readonly truncated: NdView<Uint8Array>;
  /** After the step, and not after a reset, float32 `[B, T, S]`. */
  readonly nextObs: NdView;
  /** 1 for steps that happened, uint8 `[B, T]`; what the others hold means nothing. */
  readonly mask?: NdView<Uint8Array>;
}

/**
 * A trajectory in Gymnasium's departure alignment: `reward[b, t]` and `nextObs[b, t]` answer
 * `action[b, t]`, taken on `obs[b, t]`.
 *
 * @returns copies
 * @throws TypeError when `trajectory` is none
 */
export function toGymnasium(trajectory: Trajectory): Required<GymnasiumTrajectory> {
  expectTrajectory('toGymnasium', trajectory);
  const { obs, action, reward, terminated, truncated, mask } = trajectory;
  const [rows, horizon] = reward.shape;
  const shape = [rows, horizon, obs.shape[2]];
  return {
    obs: nd(copyOf(stepsOf(obs, 0, horizon)), shape),
    action: nd(copyOf(action), action.shape),
    reward: nd(copyOf(reward), reward.shape),
    terminated: nd(copyOf(terminated), terminated.shape),
    truncated: nd(copyOf(truncated), truncated.shape),
    nextObs: nd(copyOf(stepsOf(obs, 1, horizon + 1)), shape),
    mask: nd(copyOf(mask), mask.shape),
  };
}

/**
 * A trajectory of Gymnasium's arrays. A row whose last step is no end was cut, and that step counts as
 * truncated; one that was both terminated and truncated comes back as terminated.
 *
 * @param steps - views of any strides; without a mask, a row lasts up to its first end, or up to `T`
 * @throws TypeError or `ShapeError` when an array is not of its type and shape
 * @throws RangeError when a row spans two episodes: a step with an end is not its last; or `nextObs` is
 *   not the `obs` of the next step, as where an environment was reset; or, without a mask, anything but
 *   `obs` is not 0 after the end
 */
export function fromGymnasium(steps: GymnasiumTrajectory): Trajectory {
  const what = 'fromGymnasium';
  expectArrays(`${what}: steps`, steps);
  const obs = expectView(`${what}: obs`, steps.obs, Float32Array, [null, null, null]);
  const [rows, horizon, obsSize] = steps.obs.shape;
  const action = expectView(`${what}: action`, steps.action, Float32Array, [rows, horizon, null]);
  const reward = expectView(`${what}: reward`, steps.reward, Float32Array, [rows, horizon]);
  const flags = [rows, horizon];
  const terminated = expectView(`${what}: terminated`, steps.terminated, Uint8Array, flags);
  const truncated = expectView(`${what}: truncated`, steps.truncated, Uint8Array, flags);
  const next = expectView(`${what}: nextObs`, steps.nextObs, Float32Array, [
    rows,
    horizon,
    obsSize,
  ]);
  const mask = expectOptionalView(`${what}: mask`, steps.mask, Uint8Array, flags);
  const length = lengthsOf(what, rows, horizon, mask, [terminated, truncated]);
  if (mask === undefined) {
    // An observation stands there even in padding: that after the last step.
    const rest = { action, reward, terminated, truncated, nextObs: next };
    expectZerosAfter(what, length, horizon, rest);
  }
  return trajectoryOf(what, {
    rows,
    horizon,
    obsSize,
    actionSize: steps.action.shape[2],
    obs: joinObs(what, obs, next, horizon, obsSize, length),
    action,
    reward,
    terminated,
    truncated,
    length,
  });
}
