/**
 * Minari's HDF5 layout (Farama-Foundation/Minari, `main_data.hdf5` and `metadata.json`): one group an
 * episode, `episode_0` and so on, with `T + 1` rows of observations and infos and `T` rows of actions,
 * rewards, terminations and truncations. Dictionary spaces are groups of named arrays.
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
  asField,
  type DatasetOptions,
  type Fields,
  fieldRows,
  limitOf,
  narrowFields,
  type TransitionChunk,
  toFlags,
  toFloat32,
} from './dataset.js';
import { kindOf, packedBits, quoted } from './elements.js';
import { Hdf5Reader, type Hdf5Source, Hdf5Writer } from './hdf5-file.js';
import { turns } from './turns.js';

/** One episode of `T` steps, as stored. */
export interface MinariEpisode {
  /** The episode's number in the dataset. */
  readonly id: number;
  /** The seed the environment was reset with, where there was one. */
  readonly seed?: number;
  /** `[T + 1, ...]`, or named arrays of it: the last is the state after the last step. */
  readonly observations: Fields;
  /** `[T, ...]`, or named arrays of it. */
  readonly actions: Fields;
  /** In the stored type, `[T]`. */
  readonly rewards: TypedArray;
  /** 1 where the environment ended the episode, `[T]`. */
  readonly terminations: Uint8Array;
  /** 1 where the episode was cut, `[T]`. */
  readonly truncations: Uint8Array;
  /** Named arrays `[T + 1, ...]`; present when asked for and stored. */
  readonly infos?: Fields;
}

/** What {@link readMinari} takes. */
export interface ReadMinariOptions extends DatasetOptions {
  /** Also read infos, which must then be numbers throughout. */
  readonly infos?: boolean;
}

const EPISODE = /^episode_(0|[1-9]\d{0,14})$/;
const MAX_DEPTH = 16;
/** Links may lead to one group in many ways: a small file could else name millions of arrays. */
const MAX_ENTRIES = 1_000;

/** What one episode may still take. */
interface Budget {
  bytes: number;
  entries: number;
}

/**
 * Reads the episodes of a Minari dataset one after another, each array in its stored type, bit for bit.
 *
 * Booleans come as uint8. Only the episode at hand is in memory: from a path in Node, or from
 * `{ size, read }`, a file may be larger than memory. Text and JPEG-encoded images are refused by name
 * (write the dataset with `jpeg_encoding=False`). HDF5 is a large C library: read files of strangers in
 * a worker, which can be stopped.
 *
 * @param source - `main_data.hdf5`: its bytes, its path in Node, or parts of it on demand
 * @returns the episodes in the order of their numbers
 * @throws {@link FormatError} when the file is not of this layout: corrupted, arrays missing or of
 *   lengths that disagree, types without a typed array, an episode over `maxBytes`
 * @throws Error when the package h5wasm is not installed
 * @throws TypeError when the source is none of its kinds
 *
 * @example
 * ```ts
 * for await (const episode of readMinari('main_data.hdf5')) console.log(episode.rewards.length);
 * ```
 */
export async function* readMinari(
  source: Hdf5Source,
  options: ReadMinariOptions = {},
): AsyncGenerator<MinariEpisode, void, undefined> {
  yield* episodes('readMinari', source, options);
}

/**
 * Reads the transitions of a Minari dataset, one chunk an episode, in the types and names of
 * `Trajectory.transitions()`: ready for a replay buffer.
 *
 * @typeParam Obs - what the file's observations are, float32 views by default; for a dictionary space
 *   `{ observation: NdView, ... }`. It is the caller's word: a file may hold others
 * @typeParam Action - what its actions are, likewise: `Int32Array` for discrete ones
 * @param source - as for {@link readMinari}
 * @throws as {@link readMinari}, and {@link FormatError} when a 64-bit integer does not fit 32 bits
 *
 * @example
 * ```ts
 * const onProgress = ({ done, total }) => bar.update(done / total);
 * for await (const chunk of readMinariTransitions(bytes, { onProgress })) buffer.addBatch(chunk);
 * ```
 */
export async function* readMinariTransitions<
  Obs extends Fields = NdView,
  Action extends Fields = NdView,
>(
  source: Hdf5Source,
  options: DatasetOptions = {},
): AsyncGenerator<TransitionChunk<Obs, Action>, void, undefined> {
  const what = 'readMinariTransitions';
  for await (const episode of episodes(what, source, options)) {
    const length = episode.rewards.length;
    const observations = narrowFields(what, episode.observations);
    yield {
      obs: fieldRows(observations, 0, length) as Obs,
      action: narrowFields(what, episode.actions) as Action,
      reward: toFloat32(episode.rewards),
      nextObs: fieldRows(observations, 1, length + 1) as Obs,
      terminated: episode.terminations,
      truncated: episode.truncations,
    };
  }
}

async function* episodes(
  what: string,
  source: Hdf5Source,
  options: ReadMinariOptions,
): AsyncGenerator<MinariEpisode, void, undefined> {
  const { onProgress, signal, infos = false } = options;
  const limit = limitOf(what, options);
  signal?.throwIfAborted();
  const file = await Hdf5Reader.open(what, source);
  try {
    const ids = file.names('/').map((name) => {
      const [, id] = EPISODE.exec(name) ?? [];
      if (id === undefined) {
        throw file.broken(
          `the file must hold groups episode_0, episode_1, ..., got ${quoted(name)}`,
        );
      }
      return Number(id);
    });
    ids.sort((a, b) => a - b);
    const rest = turns();
    for (let i = 0; i < ids.length; i++) {
      signal?.throwIfAborted();
      const episode = readEpisode(file, ids[i], infos, limit);
      onProgress?.({ status: 'reading', done: i + 1, total: ids.length });
      yield episode;
      await rest();
    }
    onProgress?.({ status: 'done', done: ids.length, total: ids.length });
  } finally {
    file.close();
  }
}

function readEpisode(file: Hdf5Reader, id: number, infos: boolean, limit: number): MinariEpisode {
  const group = `/episode_${id}`;
  if (!file.isGroup(group)) throw file.broken(`${quoted(group)} must be a group, got a dataset`);
  const names = file.names(group);
  for (const name of ['observations', 'actions', 'rewards', 'terminations', 'truncations']) {
    if (!names.includes(name)) throw file.broken(`${quoted(group)} must have ${name}`);
  }
  const { shape } = file.dataset(`${group}/rewards`);
  const steps = shape[0];
  if (shape.length !== 1) {
    throw file.broken(`${quoted(`${group}/rewards`)} must have shape [T], got [${shape}]`);
  }
  const stated = file.integer(group, 'total_steps');
  if (stated !== undefined && stated !== steps) {
    throw file.broken(`${quoted(group)} must have its total_steps of ${stated}, got ${steps}`);
  }
  const budget: Budget = { bytes: limit, entries: MAX_ENTRIES };
  const scalars = (name: string): TypedArray => {
    const view = readArray(file, `${group}/${name}`, steps, budget);
    if (view.shape.length !== 1) {
      throw file.broken(`${quoted(`${group}/${name}`)} must have shape [T], got [${view.shape}]`);
    }
    return view.data;
  };
  const seed = file.integer(group, 'seed');
  return {
    id,
    ...(seed !== undefined && { seed }),
    observations: readFields(file, `${group}/observations`, steps + 1, budget, 0),
    actions: readFields(file, `${group}/actions`, steps, budget, 0),
    rewards: scalars('rewards'),
    terminations: toFlags(scalars('terminations')),
    truncations: toFlags(scalars('truncations')),
    ...(infos &&
      names.includes('infos') && {
        infos: readFields(file, `${group}/infos`, steps + 1, budget, 0),
      }),
  };
}

function readFields(
  file: Hdf5Reader,
  path: string,
  rows: number,
  budget: Budget,
  depth: number,
): Fields {
  if (!file.isGroup(path)) return asField(readArray(file, path, rows, budget));
  if (depth === MAX_DEPTH) {
    throw file.broken(`${quoted(path)} must nest at most ${MAX_DEPTH} groups`);
  }
  const names = file.names(path);
  budget.entries -= names.length;
  if (budget.entries < 0) {
    throw file.broken(
      `an episode must have at most ${MAX_ENTRIES} arrays, got more at ${quoted(path)}`,
    );
  }
  const entries = names.map((name) => [
    name,
    readFields(file, `${path}/${name}`, rows, budget, depth + 1),
  ]);
  return Object.fromEntries(entries) as Fields;
}

function readArray(
  file: Hdf5Reader,
  path: string,
  rows: number,
  budget: Budget,
): NdView<TypedArray> {
  const info = file.dataset(path);
  if (info.shape.length === 0 || info.shape[0] !== rows) {
    throw file.broken(`${quoted(path)} must have ${rows} rows, got shape [${info.shape}]`);
  }
  const view = file.rows(info, 0, rows, budget.bytes);
  budget.bytes -= view.data.byteLength;
  return view;
}

/** One episode of `T` steps to write; views may have any strides. */
export interface MinariEpisodeInput {
  /** The seed the environment was reset with. */
  readonly seed?: number;
  /** `[T + 1, ...]`, or named arrays of it. */
  readonly observations: Fields;
  /** `[T, ...]`, or named arrays of it. */
  readonly actions: Fields;
  /** `[T]`. */
  readonly rewards: TypedArray;
  /** 0 or 1, `[T]`. */
  readonly terminations: Uint8Array;
  /** 0 or 1, `[T]`. */
  readonly truncations: Uint8Array;
  /** Named arrays `[T + 1, ...]`. */
  readonly infos?: Fields;
}

/** What {@link writeMinari} needs to know, and may. */
export interface WriteMinariOptions {
  /** The dataset's id, such as `hopper/dream-v0`. */
  readonly datasetId: string;
  /**
   * The observation space as Minari serializes it (JSON text); by default a box of the first episode's
   * shape and type without bounds.
   */
  readonly observationSpace?: string;
  /** The action space, likewise. Discrete actions need it: `{"type": "Discrete", "n": 4, "start": 0}`. */
  readonly actionSpace?: string;
  /** Further entries of `metadata.json`, such as `author: ['...']` or `algorithm_name`. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** Deflate the arrays. */
  readonly compress?: boolean;
}

/** The two files of a Minari dataset, by name; they belong in `<datasets>/<id>/data/`. */
export interface MinariFiles {
  /** The episodes. */
  readonly 'main_data.hdf5': Uint8Array;
  /** The spaces and totals. */
  readonly 'metadata.json': Uint8Array;
}

/** The release of Minari whose layout is written. */
const MINARI_VERSION = '0.5.4';

/**
 * Writes episodes as a Minari dataset, which `minari.load_dataset` opens; h5py reads the arrays bit for
 * bit. Flags are written as uint8, for h5wasm has no booleans. Equal episodes give equal arrays but not
 * equal bytes: HDF5 stamps datasets with the time.
 *
 * @param episodes - in order; each is checked and written before the next is asked for
 * @returns both files' bytes
 * @throws TypeError when an array is neither a view nor a typed array
 * @throws RangeError when lengths disagree, a flag is neither 0 nor 1, a name cannot be an HDF5 name, or
 *   there are no episodes and no spaces given
 * @throws `ShapeError` when a view reaches outside its data
 * @throws Error when the package h5wasm is not installed
 *
 * @example
 * ```ts
 * const files = await writeMinari([episode], { datasetId: 'hopper/dream-v0' });
 * for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes);
 * ```
 */
export async function writeMinari(
  episodes: Iterable<MinariEpisodeInput> | AsyncIterable<MinariEpisodeInput>,
  options: WriteMinariOptions,
): Promise<MinariFiles> {
  let { observationSpace, actionSpace } = options;
  const file = await Hdf5Writer.create(options.compress === true);
  try {
    let count = 0;
    let totalSteps = 0;
    for await (const episode of episodes) {
      const { groups, arrays, steps } = checkedEpisode(count, episode);
      const root = `episode_${count}`;
      file.group(root);
      file.attribute(root, 'id', count);
      if (episode.seed !== undefined) file.attribute(root, 'seed', episode.seed);
      file.attribute(root, 'total_steps', steps);
      for (const path of groups) file.group(`${root}/${path}`);
      for (const [path, view] of arrays) file.dataset(`${root}/${path}`, view.data, view.shape);
      observationSpace ??= spaceOf('observations', arrays);
      actionSpace ??= spaceOf('actions', arrays);
      count++;
      totalSteps += steps;
    }
    if (observationSpace === undefined || actionSpace === undefined) {
      throw new RangeError(
        'writeMinari: there must be an episode to tell the spaces by, got none; ' +
          'give observationSpace and actionSpace',
      );
    }
    const data = file.finish();
    const metadata = {
      total_episodes: count,
      total_steps: totalSteps,
      data_format: 'hdf5',
      jpeg_encoding: false,
      observation_space: observationSpace,
      action_space: actionSpace,
      dataset_id: options.datasetId,
      minari_version: MINARI_VERSION,
      dataset_size: Math.round(data.length / 1e5) / 10,
      ...options.metadata,
    };
    return {
      'main_data.hdf5': data,
      'metadata.json': new TextEncoder().encode(`${JSON.stringify(metadata)}\n`),
    };
  } catch (error) {
    file.abandon();
    throw error;
  }
}

interface CheckedEpisode {
  readonly steps: number;
  /** Paths of groups within the episode, outer ones first. */
  readonly groups: string[];
  /** Row-major arrays by path. */
  readonly arrays: Map<string, NdView<TypedArray>>;
}

function checkedEpisode(index: number, episode: MinariEpisodeInput): CheckedEpisode {
  const what = `writeMinari: episode ${index}:`;
  const { rewards, seed } = episode;
  const groups: string[] = [];
  const arrays = new Map<string, NdView<TypedArray>>();
  if (!isTypedArray(rewards)) {
    throw new TypeError(`${what} rewards must be a typed array, got ${describe(rewards)}`);
  }
  if (seed !== undefined && !Number.isSafeInteger(seed)) {
    throw new RangeError(`${what} seed must be an integer below 2^53, got ${seed}`);
  }
  const steps = rewards.length;
  const add = (path: string, fields: Fields, rows: number): void => {
    if (isTypedArray(fields) || isNd(fields)) {
      const view: NdView<TypedArray> = isTypedArray(fields) ? nd(fields) : fields;
      expectExtent(`${what} ${path}`, view);
      if (view.shape[0] !== rows) {
        throw new RangeError(`${what} ${path} must have ${rows} rows, got shape [${view.shape}]`);
      }
      arrays.set(path, nd(packedBits(view), view.shape));
      return;
    }
    if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) {
      throw new TypeError(`${what} ${path} must be a view or named views, got ${describe(fields)}`);
    }
    groups.push(path);
    for (const [name, value] of Object.entries(fields)) {
      if (!/^[^/\0]+$/.test(name) || name === '.' || name === '..') {
        throw new RangeError(
          `${what} a name in ${path} must be an HDF5 name, without slashes, got ${quoted(name)}`,
        );
      }
      add(`${path}/${name}`, value, rows);
    }
  };
  add('observations', episode.observations, steps + 1);
  add('actions', episode.actions, steps);
  add('rewards', rewards, steps);
  for (const name of ['terminations', 'truncations'] as const) {
    const flags = episode[name];
    if (!(flags instanceof Uint8Array)) {
      throw new TypeError(`${what} ${name} must be a Uint8Array, got ${describe(flags)}`);
    }
    const at = flags.findIndex((flag) => flag > 1);
    if (at >= 0) throw new RangeError(`${what} ${name} must be 0 or 1, got ${flags[at]} at ${at}`);
    add(name, flags, steps);
  }
  if (episode.infos !== undefined) add('infos', episode.infos, steps + 1);
  return { steps, groups, arrays };
}

/** Names and limits of NumPy's types in gymnasium's boxes. */
const BOXES: Readonly<Record<string, readonly [dtype: string, low: string, high: string]>> = {
  Float32Array: ['float32', '-Infinity', 'Infinity'],
  Float64Array: ['float64', '-Infinity', 'Infinity'],
  Int8Array: ['int8', '-128', '127'],
  Int16Array: ['int16', '-32768', '32767'],
  Int32Array: ['int32', '-2147483648', '2147483647'],
  BigInt64Array: ['int64', '-9223372036854775808', '9223372036854775807'],
  Uint8Array: ['uint8', '0', '255'],
  Uint8ClampedArray: ['uint8', '0', '255'],
  Uint16Array: ['uint16', '0', '65535'],
  Uint32Array: ['uint32', '0', '4294967295'],
  BigUint64Array: ['uint64', '0', '18446744073709551615'],
};

/** The space of arrays under a path, as Minari's JSON, in which Python's `Infinity` is a number. */
function spaceOf(path: string, arrays: ReadonlyMap<string, NdView<TypedArray>>): string {
  const view = arrays.get(path);
  if (view !== undefined) {
    const shape = view.shape.slice(1);
    const [dtype, low, high] = BOXES[kindOf(view.data)];
    const fill = (value: string): string =>
      shape.reduceRight((inner, length) => `[${new Array(length).fill(inner).join(', ')}]`, value);
    return (
      `{"type": "Box", "dtype": "${dtype}", "shape": [${shape.join(', ')}], ` +
      `"low": ${fill(low)}, "high": ${fill(high)}}`
    );
  }
  const names = new Set<string>();
  for (const key of arrays.keys()) {
    if (key.startsWith(`${path}/`)) names.add(key.slice(path.length + 1).split('/')[0]);
  }
  const subspaces = [...names].map(
    (name) => `${JSON.stringify(name)}: ${spaceOf(`${path}/${name}`, arrays)}`,
  );
  return `{"type": "Dict", "subspaces": {${subspaces.join(', ')}}}`;
}
