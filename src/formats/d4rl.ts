/**
 * D4RL's HDF5 layout (Farama-Foundation/D4RL): one row a step in flat arrays `observations`, `actions`,
 * `rewards`, `terminals`, and mostly `timeouts` and `next_observations`.
 */

import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  type TypedArray,
} from '../nd.js';
import {
  type DatasetOptions,
  type Fields,
  limitOf,
  narrowFields,
  type TransitionChunk,
  toFlags,
  toFloat32,
} from './dataset.js';
import { packedBits, patterns, quoted } from './elements.js';
import { type DatasetInfo, Hdf5Reader, type Hdf5Source, Hdf5Writer } from './hdf5-file.js';
import { turns } from './turns.js';

/** What {@link readD4rl} takes. */
export interface ReadD4rlOptions extends DatasetOptions {
  /** Rows of the file read at once; by default 10,000. */
  readonly chunkSize?: number;
  /** The environment's step limit, for files with neither `timeouts` nor `next_observations`. */
  readonly maxEpisodeSteps?: number;
}

const CHUNK_SIZE = 10_000;

/**
 * Reads the transitions of a D4RL dataset in chunks, in the types and names of
 * `Trajectory.transitions()`: ready for a replay buffer.
 *
 * With `next_observations` in the file, every row is a transition. Without, the next row's observation
 * is taken, as D4RL's `qlearning_dataset` does: rows that time out, and the last of the file, have none
 * and are left out, and the row before such a row is marked truncated, since its episode goes no further
 * here. **The `nextObs` of a terminated row is then the start of another episode**: no bootstrap reads
 * it, but leave those rows out when fitting dynamics.
 *
 * @typeParam Obs - what the file's observations are, float32 views by default. It is the caller's word:
 *   a file may hold others
 * @typeParam Action - what its actions are, likewise
 * @param source - the file: its bytes, its path in Node, or parts of it on demand
 * @param options - `chunkSize`, `maxEpisodeSteps`, limits and progress in rows of the file
 * @returns chunks of at most `chunkSize` transitions, in the file's order
 * @throws {@link FormatError} when the file is not of this layout: corrupted, arrays missing or of
 *   lengths that disagree, types without a typed array, an array over `maxBytes`
 * @throws Error when the package h5wasm is not installed
 * @throws TypeError when the source is none of its kinds
 * @throws RangeError when an option is out of range
 *
 * @example
 * ```ts
 * for await (const chunk of readD4rl('hopper_medium-v2.hdf5')) buffer.addBatch(chunk);
 * ```
 */
export async function* readD4rl<Obs extends Fields = NdView, Action extends Fields = NdView>(
  source: Hdf5Source,
  options: ReadD4rlOptions = {},
): AsyncGenerator<TransitionChunk<Obs, Action>, void, undefined> {
  const { chunkSize = CHUNK_SIZE, maxEpisodeSteps, onProgress, signal } = options;
  const limit = limitOf('readD4rl', options);
  for (const [name, value] of Object.entries({ chunkSize, maxEpisodeSteps })) {
    if (value !== undefined && !(Number.isInteger(value) && value > 0)) {
      throw new RangeError(`readD4rl: ${name} must be a positive integer, got ${value}`);
    }
  }
  signal?.throwIfAborted();
  const file = await Hdf5Reader.open('readD4rl', source);
  try {
    const layout = readLayout(file, limit, maxEpisodeSteps);
    const { rows, kept, terminated, truncated } = layout;
    const rest = turns();
    for (let start = 0; start < rows; start += chunkSize) {
      signal?.throwIfAborted();
      const end = Math.min(start + chunkSize, rows);
      const chosen = chosenRows(kept, start, end);
      const rowsOf = (info: DatasetInfo, shift: number): NdView<TypedArray> => {
        // A dropped last row has no next row to read.
        const view = file.rows(info, start + shift, Math.min(end + shift, rows), limit);
        return pick(view, chosen);
      };
      const take = (info: DatasetInfo, shift = 0): Fields =>
        narrowFields('readD4rl', rowsOf(info, shift));
      const flags = (all: Uint8Array): Uint8Array =>
        Uint8Array.from(chosen, (row) => all[start + row]);
      const next = layout.next === undefined ? take(layout.observations, 1) : take(layout.next);
      const chunk: TransitionChunk<Obs, Action> = {
        obs: take(layout.observations) as Obs,
        action: take(layout.actions) as Action,
        reward: toFloat32(rowsOf(layout.rewards, 0).data),
        nextObs: next as Obs,
        terminated: flags(terminated),
        truncated: flags(truncated),
      };
      onProgress?.({ status: 'reading', done: end, total: rows });
      if (chosen.length > 0) yield chunk;
      await rest();
    }
    onProgress?.({ status: 'done', done: rows, total: rows });
  } finally {
    file.close();
  }
}

interface Layout {
  readonly rows: number;
  readonly observations: DatasetInfo;
  readonly actions: DatasetInfo;
  readonly rewards: DatasetInfo;
  readonly next?: DatasetInfo;
  readonly terminated: Uint8Array;
  readonly truncated: Uint8Array;
  /** 1 for rows that have a next observation, `[rows]`. */
  readonly kept: Uint8Array;
}

function readLayout(file: Hdf5Reader, limit: number, maxEpisodeSteps?: number): Layout {
  const names = file.names('/');
  const observations = file.dataset(required(file, names, 'observations'));
  const rows = observations.shape[0];
  if (rows === undefined) throw file.broken('"/observations" must have rows, got a scalar');
  const checked = (name: string, scalar: boolean): DatasetInfo => {
    const info = file.dataset(required(file, names, name));
    const { shape } = info;
    // Old files have one column of rewards and terminals.
    const fits = scalar ? shape.length === 1 || (shape.length === 2 && shape[1] === 1) : true;
    if (shape[0] !== rows || !fits) {
      throw file.broken(
        `${quoted(`/${name}`)} must have ${scalar ? `shape [${rows}]` : `${rows} rows`}, ` +
          `got shape [${shape}]`,
      );
    }
    return info;
  };
  const flags = (name: string): Uint8Array =>
    toFlags(file.rows(checked(name, true), 0, rows, limit).data);

  const actions = checked('actions', false);
  const rewards = checked('rewards', true);
  const terminated = flags('terminals');
  const timeouts = names.includes('timeouts') ? flags('timeouts') : undefined;
  if (names.includes('next_observations')) {
    const next = checked('next_observations', false);
    if (
      next.shape.length !== observations.shape.length ||
      next.shape.some((n, i) => n !== observations.shape[i])
    ) {
      throw file.broken(
        `"/next_observations" must have shape [${observations.shape}], got [${next.shape}]`,
      );
    }
    const truncated = timeouts ?? new Uint8Array(rows);
    const kept = new Uint8Array(rows).fill(1);
    return { rows, observations, actions, rewards, next, terminated, truncated, kept };
  }
  const cuts = timeouts ?? cutsBySteps(file, terminated, maxEpisodeSteps);
  const kept = new Uint8Array(rows);
  const truncated = new Uint8Array(rows);
  for (let i = 0; i < rows; i++) {
    kept[i] = cuts[i] === 1 || i === rows - 1 ? 0 : 1;
    if (kept[i] === 0 && i > 0 && terminated[i - 1] === 0) truncated[i - 1] = 1;
  }
  return { rows, observations, actions, rewards, terminated, truncated, kept };
}

function required(file: Hdf5Reader, names: readonly string[], name: string): string {
  if (!names.includes(name)) {
    throw file.broken(`the file must have ${name}, got ${quoted(names.join(', '))}`);
  }
  return `/${name}`;
}

function cutsBySteps(file: Hdf5Reader, terminated: Uint8Array, limit?: number): Uint8Array {
  if (limit === undefined) {
    throw file.broken(
      'the file must have timeouts or next_observations, got neither; ' +
        "set maxEpisodeSteps to the environment's step limit",
    );
  }
  const cuts = new Uint8Array(terminated.length);
  for (let i = 0, step = 0; i < cuts.length; i++, step++) {
    if (step === limit - 1) cuts[i] = 1;
    if (cuts[i] === 1 || terminated[i] === 1) step = -1;
  }
  return cuts;
}

/** The kept rows of `[start, end)`, counted from `start`. */
function chosenRows(kept: Uint8Array, start: number, end: number): number[] {
  const rows: number[] = [];
  for (let i = start; i < end; i++) if (kept[i] === 1) rows.push(i - start);
  return rows;
}

/** Rows of a row-major array; the array itself where all are chosen. */
function pick(view: NdView<TypedArray>, rows: readonly number[]): NdView<TypedArray> {
  const { data, shape } = view;
  if (rows.length === shape[0]) return view;
  const width = shape[0] === 0 ? 0 : data.length / shape[0];
  const source = patterns(data);
  const words = source.slice(0, rows.length * width);
  rows.forEach((row, i) => {
    for (let j = 0; j < width; j++) words[i * width + j] = source[row * width + j];
  });
  const kind = data.constructor as new (buffer: ArrayBufferLike) => TypedArray;
  return nd(new kind(words.buffer), [rows.length, ...shape.slice(1)]);
}

/** Transitions to write, such as those of `Trajectory.transitions()`. */
export interface D4rlTransitions {
  /** `[N, ...]`. */
  readonly obs: NdView<TypedArray> | TypedArray;
  /** `[N, ...]`. */
  readonly action: NdView<TypedArray> | TypedArray;
  /** `[N]`. */
  readonly reward: TypedArray;
  /** Like `obs`. */
  readonly nextObs?: NdView<TypedArray> | TypedArray;
  /** 0 or 1, `[N]`. */
  readonly terminated: Uint8Array;
  /** 0 or 1, `[N]`. */
  readonly truncated: Uint8Array;
}

/** How {@link writeD4rl} writes. */
export interface WriteD4rlOptions {
  /** Deflate the arrays, as D4RL's own files are. */
  readonly compress?: boolean;
}

/**
 * Writes transitions as a D4RL dataset: `observations`, `actions`, `rewards`, `terminals`, `timeouts` and,
 * where given, `next_observations`, each array in its own type, which h5py reads bit for bit.
 *
 * Flags are written as uint8, for h5wasm has no booleans. Equal transitions give equal arrays but not
 * equal bytes: HDF5 stamps datasets with the time. Other fields than these are not written.
 *
 * @param transitions - `Trajectory.transitions()`, or arrays of the same names
 * @returns the file's bytes
 * @throws TypeError when an array is of another kind
 * @throws RangeError when lengths disagree or a flag is neither 0 nor 1
 * @throws `ShapeError` when a view reaches outside its data
 * @throws Error when the package h5wasm is not installed
 *
 * @example
 * ```ts
 * await writeFile('dream.hdf5', await writeD4rl(trajectory.transitions()));
 * ```
 */
export async function writeD4rl(
  transitions: D4rlTransitions,
  options: WriteD4rlOptions = {},
): Promise<Uint8Array> {
  const arrays = checkedArrays(transitions);
  const file = await Hdf5Writer.create(options.compress === true);
  try {
    for (const [name, view] of arrays) file.dataset(name, packedBits(view), view.shape);
    return file.finish();
  } catch (error) {
    file.abandon();
    throw error;
  }
}

function checkedArrays(transitions: D4rlTransitions): Map<string, NdView<TypedArray>> {
  const { obs, action, reward, nextObs, terminated, truncated } = transitions;
  const arrays = new Map<string, NdView<TypedArray>>();
  const rows = isTypedArray(reward) ? reward.length : 0;
  const add = (name: string, field: string, value: unknown, scalar: boolean): void => {
    const view = isTypedArray(value) ? nd(value) : value;
    if (!isNd(view) || (scalar && view === value)) {
      throw new TypeError(
        `writeD4rl: ${field} must be a typed array [N]${scalar ? '' : ' or a view'}, got ${describe(value)}`,
      );
    }
    expectExtent(`writeD4rl: ${field}`, view);
    if (view.shape[0] !== rows) {
      throw new RangeError(`writeD4rl: ${field} must have ${rows} rows, got shape [${view.shape}]`);
    }
    arrays.set(name, view);
  };
  add('rewards', 'reward', reward, true);
  add('observations', 'obs', obs, false);
  add('actions', 'action', action, false);
  if (nextObs !== undefined) add('next_observations', 'nextObs', nextObs, false);
  for (const [name, field, flags] of [
    ['terminals', 'terminated', terminated],
    ['timeouts', 'truncated', truncated],
  ] as const) {
    if (!(flags instanceof Uint8Array)) {
      throw new TypeError(`writeD4rl: ${field} must be a Uint8Array, got ${describe(flags)}`);
    }
    const at = flags.findIndex((flag) => flag > 1);
    if (at >= 0) {
      throw new RangeError(`writeD4rl: ${field} must be 0 or 1, got ${flags[at]} at ${at}`);
    }
    add(name, field, flags, true);
  }
  return arrays;
}
