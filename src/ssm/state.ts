/// <reference lib="esnext.disposable" preserve="true" />
import { writeSafetensors } from '../formats/safetensors.js';
import { describe, type NdView, nd, packed, ShapeError } from '../nd.js';
import { DisposedError } from '../runtime/errors.js';
import type { OrtTensor } from '../runtime/ort.js';
import type { KernelMemory } from './kernel-memory.js';
import { publicView, rowSize, type StatePart } from './state-layout.js';

/** An array of a state: in JavaScript's or kernel memory, or a tensor on a device. */
export type StateArray = Float32Array | OrtTensor;

/** What a state's stack does with arrays on a device; never called for arrays in memory. */
export interface DeviceArrays {
  gather(arrays: readonly OrtTensor[], rows: Int32Array): Promise<OrtTensor[]>;
  concat(first: readonly StateArray[], second: readonly StateArray[]): Promise<OrtTensor[]>;
  read(arrays: readonly OrtTensor[]): Promise<Float32Array[]>;
}

/** The stack a state belongs to, as its states know it. */
export interface StateHome {
  readonly parts: readonly StatePart[];
  /** Where new arrays go as long as there is room. */
  readonly memory?: KernelMemory;
  readonly device?: DeviceArrays;
  /** What its states hold. Tensors must not outlive a device's sessions: the stack frees them first. */
  readonly held: Set<SharedArrays>;
}

/** Arrays that several states may hold, for none of them ever writes; freed when the last lets go. */
export class SharedArrays {
  readonly #home: StateHome;
  #arrays: readonly StateArray[] | undefined;
  #holders = 1;

  constructor(home: StateHome, arrays: readonly StateArray[]) {
    this.#home = home;
    this.#arrays = arrays;
    home.held.add(this);
  }

  /** The arrays; undefined once they are freed. */
  get arrays(): readonly StateArray[] | undefined {
    return this.#arrays;
  }

  hold(): this {
    this.#holders++;
    return this;
  }

  letGo(): void {
    if (--this.#holders === 0) this.free();
  }

  /** Frees the arrays, whoever still holds them. */
  free(): void {
    const { memory, held } = this.#home;
    for (const array of this.#arrays ?? []) {
      if (!isHost(array)) array.dispose();
      else if (array.length > 0 && memory?.holds(array)) memory.free(array.byteOffset);
    }
    this.#arrays = undefined;
    held.delete(this);
  }
}

/** Frees what a state held that was forgotten instead of released. */
const forgotten = new FinalizationRegistry<SharedArrays>((shared) => shared.letGo());

/**
 * What a stack remembers of each row: the last inputs of its convolutions and the states of its scans.
 *
 * A state is never consumed: any number of scans may start from it. Whoever got one releases it when
 * it is no longer needed; a state that is merely forgotten is freed by the garbage collector, later.
 */
export class SsmState implements Disposable {
  /** Number of rows. */
  readonly batch: number;
  /** @internal */
  readonly home: StateHome;
  #shared: SharedArrays | undefined;

  /**
   * States are made by stacks.
   *
   * @internal
   */
  constructor(home: StateHome, batch: number, arrays: readonly StateArray[] | SharedArrays) {
    this.home = home;
    this.batch = batch;
    this.#shared = arrays instanceof SharedArrays ? arrays.hold() : new SharedArrays(home, arrays);
    forgotten.register(this, this.#shared, this);
  }

  /**
   * The arrays as they lie.
   *
   * @internal
   */
  get arrays(): readonly StateArray[] {
    const arrays = this.#shared?.arrays;
    if (arrays === undefined) {
      throw new DisposedError(
        'SsmState: the state must be alive, got one that was released or whose stack was disposed; ' +
          'make another with scan, initialState or restore',
      );
    }
    return arrays;
  }

  /**
   * The same state once more, released on its own: what is under way holds one, so that the caller may
   * release theirs meanwhile.
   *
   * @internal
   */
  share(): SsmState {
    const { arrays, home, batch } = this;
    return new SsmState(home, batch, this.#shared ?? arrays);
  }

  /**
   * A new state of some rows, in any order, repeats allowed.
   *
   * @param rows - row numbers
   * @throws TypeError when `rows` is no `Int32Array`
   * @throws RangeError when a row number is outside the state
   * @throws `DisposedError` when the state was released
   */
  async gather(rows: Int32Array): Promise<SsmState> {
    const { arrays, home, batch } = this;
    if (!(rows instanceof Int32Array)) {
      throw new TypeError(
        `gather: rows must be an Int32Array, got ${describe(rows)}; ` +
          'convert it, as in Int32Array.from(rows)',
      );
    }
    for (let i = 0; i < rows.length; i++) {
      if (rows[i] < 0 || rows[i] >= batch) {
        throw new RangeError(
          `gather: rows must be among the state's ${batch}, counted from 0, got ${rows[i]} at ${i}`,
        );
      }
    }
    if (arrays.every(isHost)) {
      const gathered = newArrays(home, rows.length);
      arrays.forEach((from, p) => {
        const width = rowSize(home.parts[p]);
        for (let i = 0; i < rows.length; i++) {
          gathered[p].set(from.subarray(rows[i] * width, (rows[i] + 1) * width), i * width);
        }
      });
      return new SsmState(home, rows.length, gathered);
    }
    if (rows.length === 0) return zeroState(home, 0);
    const own = this.share();
    try {
      const gathered = await deviceOf(home).gather(own.arrays as readonly OrtTensor[], rows);
      return new SsmState(home, rows.length, gathered);
    } finally {
      own.release();
    }
  }

  /** The same state for somebody else, who releases it; as no state ever changes, nothing is copied. */
  async clone(): Promise<SsmState> {
    return this.share();
  }

  /**
   * The state's arrays for everybody, in the layout of state-spaces/mamba: `layers.{i}.conv`
   * `[B, C, K - 1]`, the oldest input first, and `layers.{i}.ssm` `[B, D, N]` (Mamba) or
   * `[B, H, P, N]` (Mamba-2).
   *
   * @returns copies, float32, row-major
   */
  async toArrays(): Promise<Record<string, NdView>> {
    const own = this.share();
    try {
      const { arrays, home, batch } = own;
      const data = arrays.every(isHost)
        ? arrays
        : await deviceOf(home).read(arrays as readonly OrtTensor[]);
      return Object.fromEntries(
        home.parts.map((part, p) => {
          const view = publicView(part, data[p], batch);
          const copy = packed(view);
          // What packed() shared must be copied still.
          return [part.name, nd(copy.buffer === data[p].buffer ? copy.slice() : copy, view.shape)];
        }),
      );
    } finally {
      own.release();
    }
  }

  /** The same as the bytes of a safetensors file; the stack's `restore` reads them. */
  async serialise(): Promise<Uint8Array> {
    return writeSafetensors(await this.toArrays(), { metadata: { kind: 'umwelt.ssm-state' } });
  }

  /** Gives the memory back. A second call does nothing more. */
  release(): void {
    const shared = this.#shared;
    if (shared === undefined) return;
    this.#shared = undefined;
    forgotten.unregister(this);
    shared.letGo();
  }

  /** `release()`, for `using`. */
  [Symbol.dispose](): void {
    this.release();
  }

  /**
   * A new state of the rows of several, one after another.
   *
   * @param states - at least one, all of one stack
   * @throws RangeError when there is none
   * @throws TypeError when they belong to different stacks
   */
  static async concat(states: readonly SsmState[]): Promise<SsmState> {
    const given: unknown = states;
    if (!Array.isArray(given) || !given.every((state) => state instanceof SsmState)) {
      throw new TypeError(
        'concat: states must be an array of states, got ' +
          `${Array.isArray(given) ? 'something else in it' : describe(given)}`,
      );
    }
    if (states.length === 0) {
      throw new RangeError('concat: states must be at least one, got none');
    }
    const [{ home }] = states;
    if (states.some((state) => state.home !== home)) {
      throw new TypeError(
        'concat: states must be of one stack, got states of several; ' +
          'bring them over by restore(await state.serialise())',
      );
    }
    const batch = states.reduce((sum, state) => sum + state.batch, 0);
    const all = states.map((state) => state.arrays);
    if (all.every((arrays) => arrays.every(isHost))) {
      const joined = newArrays(home, batch);
      joined.forEach((to, p) => {
        let at = 0;
        for (const arrays of all) {
          to.set(arrays[p] as Float32Array, at);
          at += (arrays[p] as Float32Array).length;
        }
      });
      return new SsmState(home, batch, joined);
    }
    const [head, ...tail] = states.filter((state) => state.batch > 0).map((state) => state.share());
    let result = head;
    try {
      for (const state of tail) {
        const joined = await deviceOf(home).concat(result.arrays, state.arrays);
        const longer = new SsmState(home, result.batch + state.batch, joined);
        result.release();
        result = longer;
      }
      return result;
    } catch (error) {
      result.release();
      throw error;
    } finally {
      for (const state of tail) state.release();
    }
  }
}

/** Whether an array can be read at once. */
export function isHost(array: StateArray): array is Float32Array {
  return array instanceof Float32Array;
}

/**
 * Arrays for a new state, in kernel memory while there is room. Not cleared.
 *
 * @throws RangeError when there is no memory at all for them
 */
export function newArrays(home: StateHome, batch: number): Float32Array[] {
  const { memory, parts } = home;
  const arrays: Float32Array[] = [];
  for (const part of parts) {
    const length = batch * rowSize(part);
    const address = length === 0 ? undefined : memory?.tryAllocate(4 * length);
    if (memory !== undefined && address !== undefined) {
      arrays.push(new Float32Array(memory.buffer, address, length));
      continue;
    }
    try {
      arrays.push(new Float32Array(length));
    } catch {
      new SharedArrays(home, arrays).free();
      throw new RangeError(
        `SsmState: ${batch} rows must fit in memory, got no ${4 * length} bytes for ${part.name}`,
      );
    }
  }
  return arrays;
}

/** A state of zeros, in memory. */
export function zeroState(home: StateHome, batch: number): SsmState {
  const arrays = newArrays(home, batch);
  for (const array of arrays) array.fill(0);
  return new SsmState(home, batch, arrays);
}

function deviceOf({ device }: StateHome): DeviceArrays {
  if (device === undefined) throw new TypeError('SsmState: arrays on a device need a device');
  return device;
}

/**
 * Checks a state that a stack was given.
 *
 * @throws TypeError when it is none, or another stack's
 * @throws `ShapeError` when it has another number of rows
 */
export function expectState(
  what: string,
  value: unknown,
  home: StateHome,
  batch: number,
): SsmState {
  if (!(value instanceof SsmState) || value.home !== home) {
    throw new TypeError(
      `${what}: state must be one that this stack gave, got ` +
        `${value instanceof SsmState ? "another stack's" : describe(value)}; ` +
        'start with initialState(batch), or bring a state over by restore(await state.serialise())',
    );
  }
  if (value.batch !== batch) {
    throw new ShapeError(`${what}: state must have ${batch} rows as x has, got ${value.batch}`);
  }
  return value;
}
