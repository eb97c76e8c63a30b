import { describe, isNd, type NdView, packed, ShapeError, type TypedArray } from '../nd.js';
import type { Seed } from './key.js';
import type { ReplayBuffer } from './replay-buffer.js';
import { Draws } from './replay-draws.js';
import type { ReplayColumns, ReplaySchema } from './replay-schema.js';
import { expectSlots, oldestSlot } from './sampler.js';
import { Stream } from './stream.js';

/** How rewards are made anew. */
export interface RelabelRewardsOptions {
  /** Field that is written; `'reward'` by default. */
  field?: string;
  /** Rows a call, at most; 4096 by default. */
  batchSize?: number;
}

/** New rewards of rows: the rows by field, and their slots; the result has the field's type, `[n]`. */
export type RelabelFunction<S extends ReplaySchema> = (
  rows: ReplayColumns<S>,
  index: Int32Array,
) => TypedArray | Promise<TypedArray>;

/**
 * Computes the rewards of all stored rows anew, as when a curriculum changes their weights.
 *
 * Nothing is written before all of them are known: where the function throws or answers with the wrong
 * shape, the buffer is as before.
 *
 * Eschmann, Albani, Loianno, "Learning to fly in seconds" (RA-L 2024) trains this way.
 *
 * @param buffer - the buffer, to which nothing may be added meanwhile
 * @param reward - called with batches of rows, oldest first; it must not keep or change them
 * @param options - field and batch size
 * @throws TypeError when there is no such field of one number a row, or a result has another type
 * @throws `ShapeError` when a result has another length than the batch
 * @throws RangeError when the batch size is no positive integer
 * @throws Error when rows were added meanwhile
 *
 * @example
 * ```ts @import.meta.vitest
 * const { relabelRewards, ReplayBuffer } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({ capacity: 9, schema: { speed: 'float32', reward: 'float32' } });
 * buffer.addBatch({ speed: Float32Array.of(1, 2), reward: Float32Array.of(0, 0) });
 * await relabelRewards(buffer, ({ speed }) => speed.map((v) => 10 * v));
 * expect([...buffer.columns.reward.subarray(0, 2)]).toEqual([10, 20]);
 * ```
 */
export async function relabelRewards<const S extends ReplaySchema>(
  buffer: ReplayBuffer<S>,
  reward: RelabelFunction<S>,
  options: RelabelRewardsOptions = {},
): Promise<void> {
  const { field = 'reward', batchSize = 4096 } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new RangeError(`relabelRewards: batchSize must be a positive integer, got ${batchSize}`);
  }
  const stored: unknown = Object.hasOwn(buffer.columns, field) ? buffer.columns[field] : undefined;
  if (!isNumbers(stored)) {
    throw new TypeError(
      `relabelRewards: the schema must have a field ${field} of one number a row, got ` +
        `${stored === undefined ? 'none' : describe(stored)}`,
    );
  }
  const { size, added, capacity } = buffer;
  const first = oldestSlot(buffer);
  const fresh = stored.slice(0, size);
  for (let from = 0; from < size; from += batchSize) {
    const n = Math.min(batchSize, size - from);
    const index = Int32Array.from({ length: n }, (_, i) => (first + from + i) % capacity);
    const result = await reward(buffer.get(index), index.slice());
    if (result?.constructor !== stored.constructor) {
      throw new TypeError(
        `relabelRewards: the function must give a ${stored.constructor.name}, got ${describe(result)}`,
      );
    }
    if (result.length !== n) {
      throw new ShapeError(
        `relabelRewards: the function must give ${n} rewards, one a row, got ${result.length}`,
      );
    }
    const rewards = result as typeof stored;
    for (let i = 0; i < n; i++) fresh[index[i]] = rewards[i];
  }
  if (buffer.added !== added) {
    throw new Error(
      `relabelRewards: the buffer must stay as it is meanwhile, got ${buffer.added - added} rows added`,
    );
  }
  stored.set(fresh as never);
}

/**
 * Which row of the same episode gives the goal: any from the row itself on, the last one, or any. In an
 * episode that still runs, the last is the newest.
 */
export type HindsightStrategy = 'future' | 'final' | 'episode';

/** How goals are chosen. */
export interface HindsightOptions {
  /** Which rows may give the goal; `'future'` by default. */
  strategy?: HindsightStrategy;
  /** Chance that a row gets a new goal, in [0, 1]; 0.8 by default, four of five. */
  ratio?: number;
  /** Number of the batch, uint32, 0 by default. */
  step?: number;
}

/**
 * Rows whose achieved goals replace the goals of a batch: hindsight experience replay.
 *
 * The achieved goal of a row is the one its transition arrives at, so `'future'` includes the row itself.
 * Andrychowicz et al., "Hindsight experience replay" (NeurIPS 2017); a ratio of 0.8 is their `k = 4`.
 *
 * @param buffer - the buffer
 * @param index - slots of the batch, `[B]`
 * @param seed - the seed or key
 * @param options - strategy and share
 * @returns slot of the row whose achieved goal is taken, `[B]`; -1 where a row keeps its goal
 * @throws RangeError when a slot holds no row, the ratio is out of range or the strategy unknown
 */
export function hindsightRows<const S extends ReplaySchema>(
  buffer: ReplayBuffer<S>,
  index: Int32Array,
  seed: Seed,
  options: HindsightOptions = {},
): Int32Array {
  const { strategy = 'future', ratio = 0.8, step } = options;
  const what = 'hindsightRows';
  if (strategy !== 'future' && strategy !== 'final' && strategy !== 'episode') {
    throw new RangeError(
      `${what}: strategy must be 'future', 'final' or 'episode', got ${strategy}`,
    );
  }
  if (!(ratio >= 0 && ratio <= 1)) {
    throw new RangeError(`${what}: ratio must lie in [0, 1], got ${ratio}`);
  }
  expectSlots(what, index, buffer.size);
  const draws = new Draws(what, seed, Stream.hindsight, step);
  const n = index.length;
  const coin = new Float64Array(n);
  const place = new Float64Array(n);
  draws.uniforms(coin, 0);
  draws.uniforms(place, 1);
  const rows = new Int32Array(n).fill(-1);
  for (let i = 0; i < n; i++) {
    if (coin[i] >= ratio) continue;
    const { before, from } = buffer.span(index[i]);
    let ahead = from - 1;
    if (strategy === 'future') ahead = Math.floor(place[i] * from);
    else if (strategy === 'episode') ahead = Math.floor(place[i] * (before + from)) - before;
    rows[i] = (index[i] + ahead + buffer.capacity) % buffer.capacity;
  }
  return rows;
}

/** Which fields goals are in. */
export interface RelabelGoalsOptions<S extends ReplaySchema> extends HindsightOptions {
  /** Field of the goal that is replaced; `'goal'` by default. */
  goal?: string;
  /** Field of the goal that a row's transition arrives at; `'achievedGoal'` by default. */
  achieved?: string;
  /**
   * Changes what depends on the goal, usually `batch.reward` and `batch.terminated`, in place, after the
   * goals were replaced. `relabelled[i]` is 1 where row `i` has a new goal.
   */
  reward?: (batch: ReplayColumns<S>, relabelled: Uint8Array) => void;
}

/**
 * Replaces goals of a batch by goals achieved later in its episodes, as {@link hindsightRows} chooses
 * them. The buffer itself is not changed.
 *
 * @param buffer - the buffer
 * @param index - slots of the batch, `[B]`
 * @param batch - `buffer.get(index)`, changed in place
 * @param seed - the seed or key
 * @param options - fields, strategy, share and reward
 * @returns 1 where a row has a new goal, uint8 `[B]`
 * @throws TypeError when a field is missing or the two differ in type
 * @throws `ShapeError` when the two differ in shape or the batch has another number of rows
 * @throws RangeError as {@link hindsightRows} does; the batch is then as before
 */
export function relabelGoals<const S extends ReplaySchema>(
  buffer: ReplayBuffer<S>,
  index: Int32Array,
  batch: ReplayColumns<S>,
  seed: Seed,
  options: RelabelGoalsOptions<S> = {},
): Uint8Array {
  const what = 'relabelGoals';
  const { goal = 'goal', achieved = 'achievedGoal', reward, ...rest } = options;
  const to = expectField(what, 'the batch', batch, goal);
  const from = expectField(what, 'the buffer', buffer.columns, achieved);
  if (to.data.constructor !== from.data.constructor) {
    throw new TypeError(
      `${what}: ${goal} and ${achieved} must have one dtype, got ${to.data.constructor.name} and ` +
        `${from.data.constructor.name}`,
    );
  }
  if (to.shape.join() !== from.shape.join() || to.rows !== index.length) {
    throw new ShapeError(
      `${what}: ${goal} must be ${index.length} rows of shape [${from.shape}], got ${to.rows} of ` +
        `[${to.shape}]`,
    );
  }
  const rows = hindsightRows(buffer, index, seed, rest);
  const relabelled = new Uint8Array(index.length);
  const { width } = from;
  for (let i = 0; i < rows.length; i++) {
    if (rows[i] < 0) continue;
    relabelled[i] = 1;
    for (let j = 0; j < width; j++) to.data[i * width + j] = from.data[rows[i] * width + j];
  }
  reward?.(batch, relabelled);
  return relabelled;
}

interface GoalField {
  data: Float32Array;
  rows: number;
  shape: readonly number[];
  width: number;
}

function expectField(
  what: string,
  owner: string,
  columns: Readonly<Record<string, unknown>>,
  name: string,
): GoalField {
  const column = Object.hasOwn(columns, name) ? columns[name] : undefined;
  if (isNumbers(column)) {
    return { data: column as Float32Array, rows: column.length, shape: [], width: 1 };
  }
  if (!isNd(column) || packed(column) !== column.data) {
    throw new TypeError(
      `${what}: ${owner} must have a field ${name}, got ${describe(column)}; name it in the options`,
    );
  }
  const [rows, ...shape] = column.shape;
  const data = (column as NdView).data;
  return { data, rows, shape, width: rows === 0 ? 0 : data.length / rows };
}

function isNumbers(value: unknown): value is Exclude<TypedArray, BigInt64Array | BigUint64Array> {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}
