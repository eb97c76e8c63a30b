import { describe, type NdView, nd, ShapeError, type TypedArray } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { gatherInto } from './replay-copy.js';
import { EpisodeLog } from './replay-episodes.js';
import {
  expectColumn,
  expectValue,
  type FieldStore,
  fieldOfColumn,
  newArray,
  openStores,
  type ReplayArrays,
  type ReplayColumns,
  type ReplayDtype,
  type ReplayField,
  type ReplayRow,
  type ReplaySchema,
  type ReplayWindows,
  sameShape,
} from './replay-schema.js';
import {
  type EpisodePlace,
  type EpisodeRows,
  type EpisodeSpans,
  expectSlots,
  rowInSlot,
} from './sampler.js';

/** How a {@link ReplayBuffer} is laid out. */
export interface ReplayBufferOptions<S extends ReplaySchema> {
  /** Number of rows it holds, 1 to 2^30. */
  capacity: number;
  /**
   * The fields of a row. Two names mean something: rows with a `terminated` or `truncated` of 1
   * (uint8, one number each) end their episode.
   */
  schema: S;
}

/** Whether the rows of a batch follow each other in time. */
export interface AddBatchOptions {
  /**
   * True, the default: the rows are consecutive and carry on the running episode. False: each row is an
   * episode of its own and the running one is over, as for one step of many environments at once.
   */
  consecutive?: boolean;
}

/** Where gathered rows go. */
export interface GetOptions<Out> {
  /** What an earlier call returned, written again: nothing is allocated. Its rows may be more. */
  out?: Out;
  /** First row of `out` that is written; 0 by default. */
  at?: number;
}

/**
 * What a window may span: one episode; several, in the order they were added; or `'head'`, also the
 * place where the newest row meets the oldest.
 */
export type WindowCross = 'none' | 'episodes' | 'head';

/** How windows are read. */
export interface WindowOptions<Out> {
  /** What a window may span; `'none'`, one episode, by default. */
  cross?: WindowCross;
  /** What an earlier call returned, written again. */
  out?: Out;
}

/**
 * A buffer's whole state: the stored rows of each field under its name, and `replayState` and
 * `replayEpisodes`. Plain typed arrays and views, for `structuredClone`, a worker or `writeNpz`.
 */
export type ReplaySnapshot = Readonly<Record<string, TypedArray | NdView<TypedArray>>>;

/** Rows of `Trajectory.transitions()`: any of its fields, and the two that tell its episodes apart. */
export type TrajectoryRows<S extends ReplaySchema> = ReplayColumns<S> & {
  /** Row of the start, `[n]`. */
  readonly startIndex: Int32Array;
  /** Step within the rollout, `[n]`. */
  readonly stepIndex: Int32Array;
};

const SNAPSHOT_VERSION = 1;

/**
 * A ring of transitions: one typed array a field, rows overwritten oldest first, episodes kept apart.
 *
 * Rows are numbered in the order they come; row `r` lies in slot `r % capacity`, and slots are what
 * samplers and readers speak of. Memory is reserved when the buffer is made, in zeroed pages that the
 * operating system hands out as rows are written: a buffer too large fails at once and not after
 * 700,000 rows, and nothing is ever moved.
 *
 * A field is a dtype, or a dtype and the shape of one row's value.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { ReplayBuffer, UniformSampler } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({
 *   capacity: 1000,
 *   schema: {
 *     obs: { dtype: 'float32', shape: [2] },
 *     reward: 'float32',
 *     terminated: 'uint8',
 *   },
 * });
 * buffer.add({ obs: Float32Array.of(0, 1), reward: 1, terminated: 0 });
 * buffer.add({ obs: Float32Array.of(1, 2), reward: 5, terminated: 1 });
 * const { index } = new UniformSampler(buffer).sample(256, 7);
 * const batch = buffer.get(index);
 * expect(batch.obs.shape).toEqual([256, 2]);
 * expect(batch.reward).toBeInstanceOf(Float32Array);
 * ```
 */
export class ReplayBuffer<const S extends ReplaySchema = ReplaySchema> implements EpisodeRows {
  /** Number of slots. */
  readonly capacity: number;
  /** The fields of a row. */
  readonly schema: S;
  /**
   * The ring itself, by field: `[capacity, ...shape]`, in slots. It is shared memory: read it freely,
   * and write only into slots that hold a row.
   */
  readonly columns: ReplayColumns<S>;
  readonly #stores: readonly FieldStore[];
  #episodes: EpisodeLog = new EpisodeLog();
  #added = 0;

  /**
   * Reserves the memory.
   *
   * @throws TypeError when the schema is no schema
   * @throws RangeError when the capacity or a shape is out of range, or there is not enough memory
   */
  constructor(options: ReplayBufferOptions<S>) {
    expectOptions('ReplayBuffer', options, ['capacity', 'schema']);
    const { capacity, schema } = options;
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 2 ** 30) {
      throw new RangeError(`ReplayBuffer: capacity must be an integer in 1..2^30, got ${capacity}`);
    }
    this.#stores = openStores(schema, capacity);
    this.capacity = capacity;
    this.schema = schema;
    this.columns = columnsOf(this.#stores, [capacity], ({ data }) => data) as ReplayColumns<S>;
  }

  /** Number of stored rows. */
  get size(): number {
    return Math.min(this.#added, this.capacity);
  }

  /** Number of rows ever added. */
  get added(): number {
    return this.#added;
  }

  /**
   * Adds one row to the running episode, and ends it where `terminated` or `truncated` is 1.
   *
   * @param row - every field of the schema; others are left aside
   * @throws TypeError when a value is missing or of the wrong type
   * @throws `ShapeError` when a value has the wrong shape
   * @throws RangeError when an integer field cannot hold a number. The buffer is then as before
   */
  add(row: ReplayRow<S>): void {
    const given = expectRows('ReplayBuffer.add', row);
    const values = this.#stores.map((store) =>
      expectValue('ReplayBuffer.add', store, given[store.name]),
    );
    const slot = this.#added % this.capacity;
    let ends = false;
    for (const [i, { name, width, data }] of this.#stores.entries()) {
      const value = values[i];
      if (typeof value === 'number') {
        data[slot] = value;
        if (endsEpisode(name) && value !== 0) ends = true;
      } else {
        data.set(value, slot * width);
      }
    }
    const episodes = this.#episodes;
    if (!episodes.open) episodes.begin(this.#added);
    if (ends) episodes.open = false;
    this.#added++;
    episodes.forget(this.#added - this.size);
  }

  /**
   * Adds rows in order. Of more than `capacity` rows the last `capacity` are kept.
   *
   * @param rows - every field of the schema, `n` rows each: a typed array `[n]` for numbers, a view
   *   `[n, ...shape]` for the rest; other fields are left aside
   * @throws TypeError when a field is missing or of the wrong type
   * @throws `ShapeError` when a field has the wrong shape or another number of rows. The buffer is
   *   then as before
   */
  addBatch(rows: ReplayColumns<S>, options: AddBatchOptions = {}): void {
    const what = 'ReplayBuffer.addBatch';
    const { count, columns } = this.#expectBatch(what, rows);
    // Several trajectories as one episode would corrupt windows and n-step targets silently.
    if ('startIndex' in rows && !Object.hasOwn(this.columns, 'startIndex')) {
      throw new TypeError(`${what}: rows must be of one run, got transitions; use addTrajectory`);
    }
    const alone = options.consecutive === false;
    this.#write(columns, count, () => alone);
    if (alone && count > 0) this.#episodes.open = false;
  }

  /**
   * Adds whole trajectories: `buffer.addTrajectory(trajectory.transitions())`.
   *
   * An episode begins with each start and wherever steps do not follow each other; the running one and
   * the last one added are over.
   *
   * @param rows - every field of the schema as in {@link ReplayBuffer.addBatch}, and `startIndex` and
   *   `stepIndex`, int32 `[n]`; other fields are left aside
   * @throws TypeError when a field is missing or of the wrong type
   * @throws `ShapeError` when a field has the wrong shape or another number of rows. The buffer is
   *   then as before
   */
  addTrajectory(rows: TrajectoryRows<S>): void {
    const what = 'ReplayBuffer.addTrajectory';
    const { count, columns } = this.#expectBatch(what, rows);
    const start = expectInts(what, 'startIndex', rows.startIndex, count);
    const step = expectInts(what, 'stepIndex', rows.stepIndex, count);
    this.#episodes.open = false;
    this.#write(
      columns,
      count,
      (i) => i > 0 && (start[i] !== start[i - 1] || step[i] !== step[i - 1] + 1),
    );
    this.#episodes.open = false;
  }

  /** Ends the running episode where no flag does, as when an environment is reset early. */
  endEpisode(): void {
    this.#episodes.open = false;
  }

  /**
   * Rows by slot.
   *
   * @param index - slots that hold rows, `[n]`, in any order, repeats allowed
   * @param options - memory to write to
   * @returns copies: a typed array `[n]` for numbers, a view `[n, ...shape]` for the rest; `out` where
   *   it was given
   * @throws TypeError when `index` is no Int32Array or a field of `out` has the wrong type
   * @throws RangeError when a slot holds no row, or `out` is too short
   */
  get(index: Int32Array, options: GetOptions<ReplayColumns<S>> = {}): ReplayColumns<S> {
    expectSlots('ReplayBuffer.get', index, this.size);
    const { out, at = 0 } = options;
    const rows = this.#gather('ReplayBuffer.get', index, 1, [index.length], out, at);
    return rows as ReplayColumns<S>;
  }

  /**
   * Windows of consecutive rows.
   *
   * @param start - slot of each first row, `[n]`; `SequenceSampler` draws them
   * @param length - rows a window, `L`
   * @param options - what windows may span, and memory to write to
   * @returns copies, views `[n, L, ...shape]`; `out` where it was given
   * @throws TypeError when `start` is no Int32Array or a field of `out` has the wrong type
   * @throws RangeError when a window spans what it may not, or `out` is not `[n, L, ...shape]`
   */
  windows(
    start: Int32Array,
    length: number,
    options: WindowOptions<ReplayWindows<S>> = {},
  ): ReplayWindows<S> {
    const what = 'ReplayBuffer.windows';
    const { cross = 'none', out } = options;
    expectCross(what, cross);
    if (!Number.isInteger(length) || length < 1 || length > this.capacity) {
      throw new RangeError(
        `${what}: length must be an integer in 1..${this.capacity}, got ${length}`,
      );
    }
    expectSlots(what, start, this.size);
    let around = false;
    for (let i = 0; i < start.length; i++) {
      const left = this.#rowsFrom(start[i], cross);
      if (left < length) {
        const border = cross === 'none' ? 'its episode' : 'the newest row';
        throw new RangeError(
          `${what}: a window must end within ${border}, got ${left} rows from slot ${start[i]} for ` +
            `length ${length}; draw starts with SequenceSampler`,
        );
      }
      around ||= start[i] + length > this.capacity;
    }
    const lead = [start.length, length];
    if (!around) return this.#gather(what, start, length, lead, out, 0) as ReplayWindows<S>;
    const index = new Int32Array(start.length * length);
    for (let i = 0, at = 0; i < start.length; i++) {
      for (let t = 0; t < length; t++) index[at++] = (start[i] + t) % this.capacity;
    }
    return this.#gather(what, index, 1, lead, out, 0) as ReplayWindows<S>;
  }

  /**
   * Whether each row is the first of its episode, uint8 `[n]`: where a recurrent state is reset in
   * windows that span episodes. A row whose predecessors were overwritten is not the first.
   *
   * @param index - slots, `[n]`
   * @throws RangeError when a slot holds no row
   */
  isFirst(index: Int32Array): Uint8Array {
    expectSlots('ReplayBuffer.isFirst', index, this.size);
    const first = new Uint8Array(index.length);
    for (let i = 0; i < index.length; i++) {
      const row = rowInSlot(this, index[i]);
      first[i] = this.#episodes.beginOf(this.#episodes.find(row)) === row ? 1 : 0;
    }
    return first;
  }

  /**
   * Stored rows of the same episode before and from a slot on: the episode is the slots
   * `slot - before .. slot + from - 1`, around the ring's end where need be.
   *
   * @throws RangeError when the slot holds no row
   */
  span(slot: number): EpisodePlace {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.size) {
      throw new RangeError(
        `ReplayBuffer.span: slot must be one of the ${this.size} that hold rows, got ${slot}`,
      );
    }
    const row = rowInSlot(this, slot);
    const place = this.#episodes.find(row);
    const begin = Math.max(this.#episodes.beginOf(place), this.#added - this.size);
    return { before: row - begin, from: this.#episodes.endOf(place, this.#added) - row };
  }

  /** First slot and number of stored rows of each episode, oldest first. */
  episodes(): EpisodeSpans {
    const episodes = this.#episodes;
    const oldest = this.#added - this.size;
    const start = new Int32Array(episodes.count);
    const length = new Int32Array(episodes.count);
    for (let place = 0; place < episodes.count; place++) {
      const begin = Math.max(episodes.beginOf(place), oldest);
      start[place] = begin % this.capacity;
      length[place] = episodes.endOf(place, this.#added) - begin;
    }
    return { start, length };
  }

  /**
   * A buffer of another capacity with the newest rows of this one, in their order: as if only they had
   * been added, except that a row whose predecessors are gone is still not the first of its episode.
   *
   * Rows are numbered anew and lie in other slots, so samplers that remember slots must be made anew.
   *
   * @param capacity - number of rows, 1 to 2^30
   * @returns a new buffer; this one where the capacity is the same
   * @throws RangeError when the capacity is out of range, or there is not enough memory
   *
   * @example
   * ```ts @import.meta.vitest
   * const { ReplayBuffer } = await import('umwelt/sampling');
   * const buffer = new ReplayBuffer({ capacity: 4, schema: { reward: 'float32' } });
   * buffer.addBatch({ reward: Float32Array.of(1, 2, 3, 4, 5) });
   * expect([...buffer.resized(2).columns.reward]).toEqual([4, 5]);
   * ```
   */
  resized(capacity: number): ReplayBuffer<S> {
    if (capacity === this.capacity) return this;
    const other = new ReplayBuffer<S>({ capacity, schema: this.schema });
    const kept = Math.min(this.size, capacity);
    const oldest = this.#added - kept;
    const first = oldest % this.capacity;
    // The rows lie from one slot on, around the ring's end where need be.
    const before = Math.min(kept, this.capacity - first);
    for (const [i, { width, data }] of this.#stores.entries()) {
      const to = other.#stores[i].data;
      to.set(data.subarray(first * width, (first + before) * width));
      to.set(data.subarray(0, (kept - before) * width), before * width);
    }
    other.#added = kept;
    other.#episodes = this.#episodes.since(oldest);
    return other;
  }

  /** The whole state, copied. */
  snapshot(): ReplaySnapshot {
    const rows = this.size;
    return {
      replayState: Float64Array.of(
        SNAPSHOT_VERSION,
        this.capacity,
        this.#added,
        this.#episodes.open ? 1 : 0,
      ),
      replayEpisodes: this.#episodes.toArray(),
      ...columnsOf(this.#stores, [rows], ({ data, width }) => data.slice(0, rows * width)),
    };
  }

  /**
   * A buffer in the state of a snapshot, which it copies: everything it does from here on equals what
   * the first buffer would have done.
   *
   * @param snapshot - from {@link ReplayBuffer.snapshot}, or the arrays of an npz file it was written to
   * @param schema - what the fields must be; gives the buffer its type. By default they are whatever
   *   the snapshot holds
   * @throws TypeError when an array is missing or of the wrong type
   * @throws RangeError when the arrays contradict each other or the schema
   */
  static restore<const S extends ReplaySchema = ReplaySchema>(
    snapshot: ReplaySnapshot,
    schema?: S,
  ): ReplayBuffer<S> {
    const what = 'ReplayBuffer.restore';
    const given = expectRows(what, snapshot);
    const { replayState, replayEpisodes, ...columns } = given;
    const state = expectDoubles(what, 'replayState', replayState);
    const begins = expectDoubles(what, 'replayEpisodes', replayEpisodes);
    const [version, capacity, added, open] = state;
    if (version !== SNAPSHOT_VERSION || state.length !== 4) {
      throw new RangeError(
        `${what}: replayState must be of version ${SNAPSHOT_VERSION}, got [${state}]`,
      );
    }
    const size = Math.min(added, capacity);
    const sound =
      Number.isSafeInteger(added) &&
      added >= 0 &&
      (open === 0 || open === 1) &&
      (added === 0 ? begins.length === 0 && open === 0 : begins[0] <= added - size) &&
      begins.every(
        (row, i) =>
          Number.isSafeInteger(row) && row >= -1 && row < added && (i === 0 || row > begins[i - 1]),
      ) &&
      !(begins[1] <= added - size);
    if (!sound) {
      throw new RangeError(
        `${what}: replayEpisodes must be rising row numbers that cover the rows of replayState ` +
          `[${state}], got ${begins.length} of them`,
      );
    }
    const fields: Record<string, ReplayField> = {};
    for (const [name, column] of Object.entries(columns)) {
      fields[name] = fieldOfColumn(what, name, column);
    }
    const wanted = (schema ?? fields) as S;
    const names = Object.keys(wanted);
    for (const name of Object.keys(columns)) {
      if (!names.includes(name)) {
        throw new RangeError(
          `${what}: the snapshot must have the schema's fields, got another one, ${name}`,
        );
      }
    }
    // Columns are checked against a buffer of one row, so that a false capacity reserves no memory.
    const probe = openStores(wanted, 1);
    for (const store of probe) expectColumn(what, store, columns[store.name], size);
    const buffer = new ReplayBuffer<S>({ capacity, schema: wanted });
    for (const store of buffer.#stores) {
      store.data.set(expectColumn(what, store, columns[store.name], size));
    }
    buffer.#added = added;
    buffer.#episodes = EpisodeLog.from(begins, open === 1);
    return buffer;
  }

  /** Rows that a window from a slot may take. */
  #rowsFrom(slot: number, cross: WindowCross): number {
    if (cross === 'none') return this.span(slot).from;
    if (cross === 'head' && this.size === this.capacity) return this.capacity;
    return this.#added - rowInSlot(this, slot);
  }

  /** Checks a batch against the schema before anything is written. */
  #expectBatch(
    what: string,
    rows: unknown,
  ): { count: number; columns: ReplayArrays[ReplayDtype][] } {
    const given = expectRows(what, rows);
    let count: number | null = null;
    const columns = this.#stores.map((store) => {
      const column = expectColumn(what, store, given[store.name], count);
      count ??= column.length / store.width;
      return column;
    });
    return { count: count ?? 0, columns };
  }

  /** Writes checked columns; an episode begins at row `i` of them where `begins(i)` says so. */
  #write(
    columns: readonly ReplayArrays[ReplayDtype][],
    count: number,
    begins: (i: number) => boolean,
  ): void {
    const { capacity } = this;
    const skipped = Math.max(count - capacity, 0);
    const first = (this.#added + skipped) % capacity;
    const before = Math.min(count - skipped, capacity - first);
    const flags: ReplayArrays[ReplayDtype][] = [];
    for (const [i, { name, width, data }] of this.#stores.entries()) {
      const column = columns[i];
      const turn = (skipped + before) * width;
      data.set(column.subarray(skipped * width, turn), first * width);
      data.set(column.subarray(turn), 0);
      if (endsEpisode(name)) flags.push(column);
    }
    const episodes = this.#episodes;
    for (let i = 0; i < count; i++) {
      if (!episodes.open || begins(i)) episodes.begin(this.#added + i);
      for (const flag of flags) if (flag[i] !== 0) episodes.open = false;
    }
    this.#added += count;
    episodes.forget(this.#added - this.size);
  }

  #gather(
    what: string,
    index: Int32Array,
    run: number,
    lead: readonly number[],
    out: Readonly<Record<string, unknown>> | undefined,
    at: number,
  ): unknown {
    if (out === undefined) {
      const columns = columnsOf(this.#stores, lead, (store) => newArray(store, index.length * run));
      for (const store of this.#stores)
        gatherInto(store, index, run, dataOf(columns[store.name]), 0);
      return columns;
    }
    if (!Number.isInteger(at) || at < 0) {
      throw new RangeError(`${what}: at must be a non-negative integer, got ${at}`);
    }
    for (const store of this.#stores) {
      expectOut(what, store, out[store.name], lead, at);
    }
    for (const store of this.#stores) gatherInto(store, index, run, dataOf(out[store.name]), at);
    return out;
  }
}

/**
 * Checks what windows may span.
 *
 * @throws RangeError when it is none of the three
 */
export function expectCross(what: string, cross: WindowCross): void {
  if (cross !== 'none' && cross !== 'episodes' && cross !== 'head') {
    throw new RangeError(`${what}: cross must be 'none', 'episodes' or 'head', got ${cross}`);
  }
}

function endsEpisode(name: string): boolean {
  return name === 'terminated' || name === 'truncated';
}

/** An object of arrays, one a field: plain for one number a row in rank 1, a view for the rest. */
function columnsOf(
  stores: readonly FieldStore[],
  lead: readonly number[],
  data: (store: FieldStore) => ReplayArrays[ReplayDtype],
): Record<string, TypedArray | NdView<TypedArray>> {
  const columns: Record<string, TypedArray | NdView<TypedArray>> = {};
  for (const store of stores) {
    const elements: TypedArray = data(store);
    const shape = [...lead, ...store.shape];
    columns[store.name] = shape.length === 1 ? elements : nd(elements, shape);
  }
  return columns;
}

function dataOf(column: unknown): TypedArray {
  return ArrayBuffer.isView(column) ? (column as TypedArray) : (column as NdView<TypedArray>).data;
}

function expectRows(what: string, rows: unknown): Readonly<Record<string, unknown>> {
  if (typeof rows !== 'object' || rows === null || Array.isArray(rows)) {
    throw new TypeError(
      `${what}: argument must be an object with the schema's fields, got ${describe(rows)}`,
    );
  }
  return rows as Readonly<Record<string, unknown>>;
}

function expectInts(what: string, name: string, value: unknown, count: number): Int32Array {
  if (!(value instanceof Int32Array)) {
    throw new TypeError(`${what}: ${name} must be an Int32Array, got ${describe(value)}`);
  }
  if (value.length !== count) {
    throw new ShapeError(`${what}: ${name} must have shape [${count}], got [${value.length}]`);
  }
  return value;
}

function expectDoubles(what: string, name: string, value: unknown): Float64Array {
  const data = ArrayBuffer.isView(value) ? value : (value as Partial<NdView> | undefined)?.data;
  if (!(data instanceof Float64Array)) {
    throw new TypeError(`${what}: ${name} must be a Float64Array, got ${describe(value)}`);
  }
  return data;
}

/** Memory to write to must be packed and of the right type, and hold the rows from `at` on. */
function expectOut(
  what: string,
  store: FieldStore,
  column: unknown,
  lead: readonly number[],
  at: number,
): void {
  const data = dataOf(column ?? null);
  const [rows, ...inner] = lead;
  const view = ArrayBuffer.isView(column) ? null : (column as NdView<TypedArray>);
  if (!(data instanceof store.data.constructor)) {
    throw new TypeError(
      `${what}: out.${store.name} must be ${store.dtype}, as an earlier call returned it, ` +
        `got ${describe(column)}`,
    );
  }
  const width = inner.reduce((product, length) => product * length, store.width);
  const rank = lead.length + store.shape.length;
  const fits =
    view === null
      ? rank === 1
      : view.offset === 0 &&
        sameShape(view.shape.slice(1), [...inner, ...store.shape]) &&
        view.shape[0] * width === data.length;
  if (!fits || data.length < (at + rows) * width) {
    throw new ShapeError(
      `${what}: out.${store.name} must hold rows ${at}..${at + rows - 1} of shape ` +
        `[${[...inner, ...store.shape]}], got ${describe(column)} of ${data.length} elements`,
    );
  }
}
