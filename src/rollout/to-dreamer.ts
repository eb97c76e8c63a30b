import { type NdView, nd, packed } from '../nd.js';
import { expectTrajectory, type Trajectory } from './trajectory.js';
import {
  copyOf,
  expectArrays,
  expectOptionalView,
  expectView,
  expectZerosAfter,
  lengthsOf,
  trajectoryOf,
} from './trajectory-parts.js';

/**
 * A batch of episodes as Dreamer's replay holds them: one entry an observation, with what arrived together
 * with it and the action chosen upon it.
 */
export interface DreamerTrajectory {
  /** Float32 `[B, T + 1, S]`. */
  readonly obs: NdView;
  /**
   * The action chosen after seeing `obs[b, t]`, float32 `[B, T + 1, A]`; 0 at the last observation, after
   * which none is taken.
   */
  readonly action: NdView;
  /** The reward that came with `obs[b, t]`, float32 `[B, T + 1]`; 0 at the first. */
  readonly reward: NdView;
  /** 1 at the first observation of an episode, uint8 `[B, T + 1]`. */
  readonly isFirst: NdView<Uint8Array>;
  /** 1 at the last observation, however the episode ended, uint8 `[B, T + 1]`. */
  readonly isLast: NdView<Uint8Array>;
  /** 1 at the last observation where the episode is over and not only cut, uint8 `[B, T + 1]`. */
  readonly isTerminal: NdView<Uint8Array>;
  /** 1 for observations that were made, uint8 `[B, T + 1]`; what the others hold means nothing. */
  readonly mask?: NdView<Uint8Array>;
}

/**
 * A trajectory in Dreamer's arrival alignment: the reward and the flags at index `t` belong to the
 * transition into `obs[b, t]`, the action at `t` to the one out of it.
 *
 * The model's input at `t` is therefore the action at `t - 1`. A row that was cut has `isLast` without
 * `isTerminal`; rows without a step have mask 0 throughout.
 *
 * Source: danijar/dreamerv3, `embodied/core/driver.py` (an entry joins an observation with the action
 * chosen upon it, zero where `is_last`), `embodied/envs/from_gym.py` (reward 0 and `is_first` at a
 * reset) and `dreamerv3/agent.py` (the previous actions are the stored ones, one step later).
 *
 * @returns copies
 * @throws TypeError when `trajectory` is none
 */
export function toDreamer(trajectory: Trajectory): Required<DreamerTrajectory> {
  expectTrajectory('toDreamer', trajectory);
  const { obs, length } = trajectory;
  const [rows, horizon, actionSize] = trajectory.action.shape;
  const places = horizon + 1;
  const action = new Float32Array(rows * places * actionSize);
  const reward = new Float32Array(rows * places);
  const isFirst = new Uint8Array(rows * places);
  const isLast = new Uint8Array(rows * places);
  const isTerminal = new Uint8Array(rows * places);
  const mask = new Uint8Array(rows * places);
  const actions = packed(trajectory.action);
  const rewards = packed(trajectory.reward);
  const last = packed(trajectory.last);
  const terminated = packed(trajectory.terminated);
  for (let row = 0; row < rows; row++) {
    const steps = length[row];
    if (steps === 0) continue;
    const from = row * horizon;
    const to = row * places;
    action.set(actions.subarray(from * actionSize, (from + steps) * actionSize), to * actionSize);
    reward.set(rewards.subarray(from, from + steps), to + 1);
    isLast.set(last.subarray(from, from + steps), to + 1);
    isTerminal.set(terminated.subarray(from, from + steps), to + 1);
    isFirst[to] = 1;
    mask.fill(1, to, to + steps + 1);
  }
  const shape = [rows, places];
  return {
    obs: nd(copyOf(obs), obs.shape),
    action: nd(action, [rows, places, actionSize]),
    reward: nd(reward, shape),
    isFirst: nd(isFirst, shape),
    isLast: nd(isLast, shape),
    isTerminal: nd(isTerminal, shape),
    mask: nd(mask, shape),
  };
}

/**
 * A trajectory of Dreamer's arrays, such as windows of its replay.
 *
 * The reward and flags of a row's first observation, and the action at its last, belong to no transition
 * here and are not read. A row whose last step is no end counts as truncated, and so does one that is
 * last and not terminal; a step that was both terminated and truncated comes back as terminated.
 *
 * @param replay - views of any strides; without a mask, a row lasts up to its first `isLast`, or up to `T`
 * @throws TypeError or `ShapeError` when an array is not of its type and shape
 * @throws RangeError when a row spans two episodes: `isFirst` is 1 after its first observation, or an end
 *   is not at its last; or, without a mask, anything is not 0 after `isLast`
 */
export function fromDreamer(replay: DreamerTrajectory): Trajectory {
  const what = 'fromDreamer';
  expectArrays(`${what}: replay`, replay);
  const obs = expectView(`${what}: obs`, replay.obs, Float32Array, [null, null, null]);
  const [rows, places, obsSize] = replay.obs.shape;
  const given = expectView(`${what}: action`, replay.action, Float32Array, [rows, places, null]);
  const actionSize = replay.action.shape[2];
  const shape = [rows, places];
  const rewards = expectView(`${what}: reward`, replay.reward, Float32Array, shape);
  const isFirst = expectView(`${what}: isFirst`, replay.isFirst, Uint8Array, shape);
  const isLast = expectView(`${what}: isLast`, replay.isLast, Uint8Array, shape);
  const isTerminal = expectView(`${what}: isTerminal`, replay.isTerminal, Uint8Array, shape);
  const mask = expectOptionalView(`${what}: mask`, replay.mask, Uint8Array, shape);
  const seen = observationsOf(what, rows, places, mask, isLast);
  if (mask === undefined) {
    const rest = { obs, action: given, reward: rewards, isFirst, isLast, isTerminal };
    expectZerosAfter(what, seen, places, rest);
  }
  const length = seen.map((observations) => Math.max(observations - 1, 0));
  const horizon = Math.max(places - 1, 0);
  const action = new Float32Array(rows * horizon * actionSize);
  const reward = new Float32Array(rows * horizon);
  const terminated = new Uint8Array(rows * horizon);
  const truncated = new Uint8Array(rows * horizon);
  for (let row = 0; row < rows; row++) {
    for (let t = 0; t < length[row]; t++) {
      const at = row * horizon + t;
      const arrival = row * places + t + 1;
      if (isFirst[arrival] !== 0) {
        throw new RangeError(
          `${what}: a row must lie within one episode, got another's first observation at ` +
            `[${row}, ${t + 1}]; split rows where episodes end`,
        );
      }
      const source = (arrival - 1) * actionSize;
      for (let d = 0; d < actionSize; d++) action[at * actionSize + d] = given[source + d];
      reward[at] = rewards[arrival];
      terminated[at] = isTerminal[arrival];
      truncated[at] = isLast[arrival];
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
    truncated,
    length,
  });
}

/** Observations of each row. */
function observationsOf(
  what: string,
  rows: number,
  places: number,
  mask: Uint8Array | undefined,
  isLast: Uint8Array,
): Int32Array {
  // The flags of the first observation belong to a transition before the row.
  const flags = mask === undefined ? isLast.slice() : isLast;
  if (mask === undefined) for (let row = 0; row < rows; row++) flags[row * places] = 0;
  return lengthsOf(what, rows, places, mask, [flags]);
}
