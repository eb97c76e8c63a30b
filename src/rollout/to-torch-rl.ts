import { type NdView, nd, packed } from '../nd.js';
import { toGymnasium } from './to-gymnasium.js';
import { expectTrajectory, type Trajectory } from './trajectory.js';
import {
  expectArrays,
  expectOptionalView,
  expectView,
  expectZerosAfter,
  joinObs,
  lengthsOf,
  trajectoryOf,
} from './trajectory-parts.js';

/** What TorchRL keeps under `next`: what a step led to. */
export interface TorchRlNext {
  /** Float32 `[B, T, S]`. */
  readonly observation: NdView;
  /** Float32 `[B, T, 1]`. */
  readonly reward: NdView;
  /** `terminated` or `truncated`, uint8 `[B, T, 1]`. */
  readonly done: NdView<Uint8Array>;
  /** Uint8 `[B, T, 1]`. */
  readonly terminated: NdView<Uint8Array>;
  /** Uint8 `[B, T, 1]`. */
  readonly truncated: NdView<Uint8Array>;
}

/**
 * A batch of trajectories in TorchRL's episode data format (TED): the root holds what a step starts from,
 * `next` what it leads to, and numbers keep a trailing axis of 1.
 *
 * The flags of the root tell whether the observation a step starts from is an end; within an episode it
 * never is. `mask` has the shape of the batch, as `split_trajectories` gives it.
 */
export interface TorchRlTrajectory {
  /** Float32 `[B, T, S]`. */
  readonly observation: NdView;
  /** Float32 `[B, T, A]`. */
  readonly action: NdView;
  /** Uint8 `[B, T, 1]`, all 0. */
  readonly done: NdView<Uint8Array>;
  /** Uint8 `[B, T, 1]`, all 0. */
  readonly terminated: NdView<Uint8Array>;
  /** Uint8 `[B, T, 1]`, all 0. */
  readonly truncated: NdView<Uint8Array>;
  /** What each step led to. */
  readonly next: TorchRlNext;
  /** 1 for steps that happened, uint8 `[B, T]`; what the others hold means nothing. */
  readonly mask?: NdView<Uint8Array>;
}

/**
 * A trajectory in TorchRL's layout, departure alignment: `next.reward[b, t]` answers `action[b, t]`,
 * taken on `observation[b, t]`.
 *
 * For a file, {@link flattenArrays} names the inner arrays `next.reward` and so on, which
 * `TensorDict.unflatten_keys('.')` reads; flags become booleans by `.bool()`.
 *
 * Source: pytorch/rl, "TorchRL Episode Data Format"; `torchrl/collectors/utils.py` for the mask.
 *
 * @returns copies
 * @throws TypeError when `trajectory` is none
 */
export function toTorchRl(trajectory: Trajectory): Required<TorchRlTrajectory> {
  expectTrajectory('toTorchRl', trajectory);
  const { obs, nextObs, action, mask, ...scalars } = toGymnasium(trajectory);
  const column = [...mask.shape, 1];
  const flags = ({ data }: NdView<Uint8Array>) => nd(data, column);
  const never = () => nd(new Uint8Array(mask.data.length), column);
  return {
    observation: obs,
    action,
    done: never(),
    terminated: never(),
    truncated: never(),
    next: {
      observation: nextObs,
      reward: nd(scalars.reward.data, column),
      done: nd(packed(trajectory.last).slice(), column),
      terminated: flags(scalars.terminated),
      truncated: flags(scalars.truncated),
    },
    mask,
  };
}

/**
 * A trajectory of TorchRL's arrays. The flags of the root and `next.done` follow from the others and are
 * not read. A row whose last step is no end was cut, and that step counts as truncated; one that was both
 * terminated and truncated comes back as terminated.
 *
 * @param ted - views of any strides; without a mask, a row lasts up to its first end, or up to `T`
 * @throws TypeError or `ShapeError` when an array is not of its type and shape
 * @throws RangeError when a row spans two episodes: a step with an end is not its last; or
 *   `next.observation` is not the `observation` of the next step; or, without a mask, anything but
 *   `observation` is not 0 after the end
 */
export function fromTorchRl(
  ted: Pick<TorchRlTrajectory, 'observation' | 'action' | 'mask'> & {
    /** What each step led to. */
    readonly next: Omit<TorchRlNext, 'done'>;
  },
): Trajectory {
  const what = 'fromTorchRl';
  expectArrays(`${what}: ted`, ted);
  expectArrays(`${what}: ted.next`, ted.next);
  const obs = expectView(`${what}: observation`, ted.observation, Float32Array, [null, null, null]);
  const [rows, horizon, obsSize] = ted.observation.shape;
  const action = expectView(`${what}: action`, ted.action, Float32Array, [rows, horizon, null]);
  const column = [rows, horizon, 1];
  const { next } = ted;
  const reward = expectView(`${what}: next.reward`, next.reward, Float32Array, column);
  const terminated = expectView(`${what}: next.terminated`, next.terminated, Uint8Array, column);
  const truncated = expectView(`${what}: next.truncated`, next.truncated, Uint8Array, column);
  const after = expectView(`${what}: next.observation`, next.observation, Float32Array, [
    rows,
    horizon,
    obsSize,
  ]);
  const mask = expectOptionalView(`${what}: mask`, ted.mask, Uint8Array, [rows, horizon]);
  const length = lengthsOf(what, rows, horizon, mask, [terminated, truncated]);
  if (mask === undefined) {
    expectZerosAfter(what, length, horizon, {
      action,
      'next.reward': reward,
      'next.terminated': terminated,
      'next.truncated': truncated,
      // The root's observation stands there even in padding: that after the last step.
      'next.observation': after,
    });
  }
  return trajectoryOf(what, {
    rows,
    horizon,
    obsSize,
    actionSize: ted.action.shape[2],
    obs: joinObs(what, obs, after, horizon, obsSize, length),
    action,
    reward,
    terminated,
    truncated,
    length,
  });
}
