import {
  describe,
  expectMatrix,
  type NdView,
  nd,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { expectTrajectory, type Trajectory } from './trajectory.js';
import { expectArrays, trajectoryOf } from './trajectory-parts.js';

/** One episode of `T` steps as Minari stores it; `writeMinari` takes an array of them. */
export interface MinariTrajectory {
  /** Float32 `[T + 1, S]`: the last is the one after the last step. */
  readonly observations: NdView;
  /** Float32 `[T, A]`. */
  readonly actions: NdView;
  /** `[T]`. */
  readonly rewards: Float32Array;
  /** 1 where the environment ended the episode, `[T]`. */
  readonly terminations: Uint8Array;
  /** 1 where the episode was cut, `[T]`. */
  readonly truncations: Uint8Array;
}

/** What {@link fromMinari} reads of an episode, such as one of `readMinari`. */
export interface MinariSteps {
  /** Float32 view `[T + 1, S]`. */
  readonly observations: unknown;
  /** Float32 view `[T, A]`. */
  readonly actions: unknown;
  /** Any type of numbers, `[T]`. */
  readonly rewards: TypedArray;
  /** `[T]`. */
  readonly terminations: Uint8Array;
  /** `[T]`. */
  readonly truncations: Uint8Array;
}

/**
 * A trajectory as Minari's episodes, departure alignment, each of its own length. Rows without a step are
 * no episodes and are left out.
 *
 * Source: Farama-Foundation/Minari, dataset standards.
 *
 * @returns copies, in the order of the rows, for `writeMinari` of `umwelt/formats`
 * @throws TypeError when `trajectory` is none
 *
 * @example
 * ```ts
 * const files = await writeMinari(toMinari(trajectory), { datasetId: 'hopper/dream-v0' });
 * ```
 */
export function toMinari(trajectory: Trajectory): MinariTrajectory[] {
  expectTrajectory('toMinari', trajectory);
  const [rows, horizon, actionSize] = trajectory.action.shape;
  const obsSize = trajectory.obs.shape[2];
  const obs = packed(trajectory.obs);
  const action = packed(trajectory.action);
  const reward = packed(trajectory.reward);
  const terminated = packed(trajectory.terminated);
  const truncated = packed(trajectory.truncated);
  const episodes: MinariTrajectory[] = [];
  for (let row = 0; row < rows; row++) {
    const steps = trajectory.length[row];
    if (steps === 0) continue;
    const first = row * horizon;
    const seen = row * (horizon + 1) * obsSize;
    const end = first + steps;
    episodes.push({
      observations: nd(obs.slice(seen, seen + (steps + 1) * obsSize), [steps + 1, obsSize]),
      actions: nd(action.slice(first * actionSize, end * actionSize), [steps, actionSize]),
      rewards: reward.slice(first, end),
      terminations: terminated.slice(first, end),
      truncations: truncated.slice(first, end),
    });
  }
  return episodes;
}

/**
 * A trajectory of Minari's episodes: a row for each, with room for the longest. An episode whose last step
 * is no end was cut, and that step counts as truncated; one that was both comes back as terminated.
 *
 * @param episodes - views may have any strides; rewards are rounded to float32
 * @throws TypeError or {@link ShapeError} when an array is not of its type and shape, or widths differ
 *   between episodes
 * @throws RangeError when an episode goes on after an end
 */
export function fromMinari(episodes: Iterable<MinariSteps>): Trajectory {
  const what = 'fromMinari';
  if (
    typeof (episodes as Partial<Iterable<MinariSteps>> | null)?.[Symbol.iterator] !== 'function'
  ) {
    throw new TypeError(`${what}: episodes must be an iterable, got ${describe(episodes)}`);
  }
  const checked = [...episodes].map((episode, i) => {
    const name = `${what}: episode ${i}`;
    expectArrays(name, episode);
    const actions = expectMatrix(`${name}: actions`, episode.actions, null, null);
    const [steps] = actions.shape;
    const observations = expectMatrix(
      `${name}: observations`,
      episode.observations,
      steps + 1,
      null,
    );
    for (const field of ['rewards', 'terminations', 'truncations'] as const) {
      const value: unknown = episode[field];
      if (!ArrayBuffer.isView(value) || (field !== 'rewards' && !(value instanceof Uint8Array))) {
        throw new TypeError(`${name}: ${field} must be a typed array [T], got ${describe(value)}`);
      }
      if (episode[field].length !== steps) {
        throw new ShapeError(
          `${name}: ${field} must have ${steps} entries, got ${episode[field].length}`,
        );
      }
    }
    return { ...episode, observations, actions, steps };
  });
  const rows = checked.length;
  const horizon = checked.reduce((most, { steps }) => Math.max(most, steps), 0);
  const obsSize = checked[0]?.observations.shape[1] ?? 0;
  const actionSize = checked[0]?.actions.shape[1] ?? 0;
  const parts = {
    rows,
    horizon,
    obsSize,
    actionSize,
    obs: new Float32Array(rows * (horizon + 1) * obsSize),
    action: new Float32Array(rows * horizon * actionSize),
    reward: new Float32Array(rows * horizon),
    terminated: new Uint8Array(rows * horizon),
    truncated: new Uint8Array(rows * horizon),
    length: Int32Array.from(checked, ({ steps }) => steps),
  };
  for (const [row, episode] of checked.entries()) {
    const { observations, actions, rewards } = episode;
    if (observations.shape[1] !== obsSize || actions.shape[1] !== actionSize) {
      throw new ShapeError(
        `${what}: episodes must have observations and actions of one width, got ` +
          `${observations.shape[1]} and ${actions.shape[1]} in episode ${row} after ${obsSize} and ` +
          `${actionSize}`,
      );
    }
    parts.obs.set(packed(observations), row * (horizon + 1) * obsSize);
    parts.action.set(packed(actions), row * horizon * actionSize);
    for (let t = 0; t < episode.steps; t++) parts.reward[row * horizon + t] = Number(rewards[t]);
    parts.terminated.set(episode.terminations, row * horizon);
    parts.truncated.set(episode.truncations, row * horizon);
  }
  return trajectoryOf(what, parts);
}
