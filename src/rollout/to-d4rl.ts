import { type NdView, nd, sizeOf, type TypedArray } from '../nd.js';
import { expectTrajectory, type Trajectory } from './trajectory.js';
import { expectArrays, expectView, trajectoryOf } from './trajectory-parts.js';

/**
 * Flat rows, one a step, episode after episode: what `writeD4rl` writes as `observations`, `actions`,
 * `rewards`, `next_observations`, `terminals` and `timeouts`, and what `readD4rl` reads.
 */
export interface D4rlTrajectory {
  /** Float32 `[N, S]`. */
  readonly obs: NdView;
  /** Float32 `[N, A]`. */
  readonly action: NdView;
  /** `[N]`. */
  readonly reward: Float32Array;
  /** Float32 `[N, S]`. */
  readonly nextObs: NdView;
  /** D4RL's `terminals`: 1 where the episode is over, `[N]`. */
  readonly terminated: Uint8Array;
  /** D4RL's `timeouts`: 1 where it was cut, `[N]`. */
  readonly truncated: Uint8Array;
}

/**
 * A trajectory as D4RL's flat rows, departure alignment: the transitions without what D4RL has no name
 * for. Rows without a step leave no trace.
 *
 * @returns packed copies, for `writeD4rl` of `umwelt/formats`
 * @throws TypeError when `trajectory` is none
 *
 * @example
 * ```ts
 * await writeFile('dream.hdf5', await writeD4rl(toD4rl(trajectory)));
 * ```
 */
export function toD4rl(trajectory: Trajectory): D4rlTrajectory {
  expectTrajectory('toD4rl', trajectory);
  const { obs, action, reward, nextObs, terminated, truncated } = trajectory.transitions();
  return { obs, action, reward, nextObs, terminated, truncated };
}

/**
 * A trajectory of D4RL's flat rows, such as a chunk of `readD4rl`: a row for each episode, with room for
 * the longest.
 *
 * An episode ends where it is terminated or truncated. It is cut, and its last step marked truncated,
 * where the next row's `obs` is not the `nextObs` before it, and at the last row. The reward is that of
 * the rows; penalties and uncertainty are not told apart in them.
 *
 * @param rows - views of any strides
 * @throws TypeError or `ShapeError` when an array is not of its type and shape
 */
export function fromD4rl(rows: D4rlTrajectory): Trajectory {
  const what = 'fromD4rl';
  expectArrays(`${what}: rows`, rows);
  const obs = expectView(`${what}: obs`, rows.obs, Float32Array, [null, null]);
  const [count, obsSize] = rows.obs.shape;
  const action = expectView(`${what}: action`, rows.action, Float32Array, [count, null]);
  const actionSize = rows.action.shape[1];
  const next = expectView(`${what}: nextObs`, rows.nextObs, Float32Array, [count, obsSize]);
  const reward = expectColumn(`${what}: reward`, rows.reward, Float32Array, count);
  const terminated = expectColumn(`${what}: terminated`, rows.terminated, Uint8Array, count);
  const truncated = expectColumn(`${what}: truncated`, rows.truncated, Uint8Array, count);

  const ends: number[] = [];
  for (let i = 0; i < count; i++) {
    const over = terminated[i] !== 0 || truncated[i] !== 0;
    if (over || i === count - 1 || !sameRow(next, i, obs, i + 1, obsSize)) ends.push(i + 1);
  }
  const length = Int32Array.from(ends, (end, row) => end - (row === 0 ? 0 : ends[row - 1]));
  const horizon = length.reduce((most, steps) => Math.max(most, steps), 0);
  const shape = [ends.length, horizon];
  const parts = {
    rows: ends.length,
    horizon,
    obsSize,
    actionSize,
    obs: new Float32Array(ends.length * (horizon + 1) * obsSize),
    action: new Float32Array(sizeOf(shape) * actionSize),
    reward: new Float32Array(sizeOf(shape)),
    terminated: new Uint8Array(sizeOf(shape)),
    truncated: new Uint8Array(sizeOf(shape)),
    length,
  };
  for (let row = 0, begin = 0; row < ends.length; begin = ends[row++]) {
    const end = ends[row];
    const to = row * horizon;
    const seen = row * (horizon + 1) * obsSize;
    parts.obs.set(obs.subarray(begin * obsSize, end * obsSize), seen);
    const after = next.subarray((end - 1) * obsSize, end * obsSize);
    parts.obs.set(after, seen + (end - begin) * obsSize);
    parts.action.set(action.subarray(begin * actionSize, end * actionSize), to * actionSize);
    parts.reward.set(reward.subarray(begin, end), to);
    parts.terminated.set(terminated.subarray(begin, end), to);
    parts.truncated.set(truncated.subarray(begin, end), to);
  }
  return trajectoryOf(what, parts);
}

function sameRow(
  a: Float32Array,
  rowOfA: number,
  b: Float32Array,
  rowOfB: number,
  width: number,
): boolean {
  for (let d = 0; d < width; d++) {
    const x = a[rowOfA * width + d];
    const y = b[rowOfB * width + d];
    if (x !== y && !(Number.isNaN(x) && Number.isNaN(y))) return false;
  }
  return true;
}

/** Checks one number a row: a typed array, or a view of it as a file gives it. */
function expectColumn<T extends TypedArray>(
  what: string,
  value: unknown,
  store: new () => T,
  rows: number,
): T {
  return expectView(what, ArrayBuffer.isView(value) ? nd(value as T) : value, store, [rows]);
}
