import { writeSafetensors } from '../formats/safetensors.js';
import { type NdView, nd, packed, ShapeError } from '../nd.js';
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
}

/** Gives kernel memory back when its state was forgotten instead of released. */
const forgotten = new FinalizationRegistry<{ memory: KernelMemory; addresses: number[] }>(
  ({ memory, addresses }) => {
    for (const address of addresses) memory.free(address);
  },
);

/**
 * What a stack remembers of each row: the last inputs of its convolutions and the states of its scans.
 *
 * A state is never consumed: any number of scans may start from it. Whoever got one releases it when
 * it is no longer needed; a state that is merely forgotten is freed by the garbage collector, later.
 */
export class SsmState {
  /** Number of rows. */
  readonly batch: number;
  /** @internal */
  readonly home: StateHome;
  #arrays: readonly StateArray[] | undefined;
  readonly #kept: { memory: KernelMemory; addresses: number[] } | undefined;

  /**
   * States are made by stacks.
   *
   * @internal
   */
  constructor(home: StateHome, batch: number, arrays: readonly StateArray[]) {
    this.home = home;
    this.batch = batch;
    this.#arrays = arrays;
    const { memory } = home;
    if (memory === undefined) return;
    const addresses = arrays
      .filter((array): array is Float32Array => isHost(array) && memory.holds(array))
      .map((array) => array.byteOffset);
    if (addresses.length === 0) return;
    this.#kept = { memory, addresses };
    forgotten.register(this, this.#kept, this);
  }

  /**
   * The arrays as they lie.
   *
   * @internal
   */
  get arrays(): readonly StateArray[] {
    if (this.#arrays === undefined) {
      throw new DisposedError(
        'SsmState: the state must not be released before its use, got one that is',
      );
    }
    return this.#arrays;
  }

  /**
   * A new state of some rows, in any order, repeats allowed.
   *
   * @param rows - row numbers
   * @throws RangeError when a row number is outside the state
   */
  async gather(rows: Int32Array): Promise<SsmState> {
    const { arrays, home, batch } = this;
    for (let i = 0; i < rows.length; i++) {
      if (!(rows[i] >= 0 && rows[i] < batch)) {
        throw new RangeError(`gather: rows must lie in 0..${batch - 1}, got ${rows[i]} at ${i}`);
      }
    }
    if (arrays.every(isHost)) {
      const gathered = arrays.map((from, p) => {
        const width = rowSize(home.parts[p]);
        const to = newArray(home, rows.length * width);
        for (let i = 0; i < rows.length; i++) {
          to.set(from.subarray(rows[i] * width, (rows[i] + 1) * width), i * width);
        }
        return to;
      });
      return new SsmState(home, rows.length, gathered);
    }
    if (rows.length === 0) return zeroState(home, 0);
    const gathered = await deviceOf(home).gather(arrays as readonly OrtTensor[], rows);
    return new SsmState(home, rows.length, gathered);
  }

  /** A copy. */
  async clone(): Promise<SsmState> {
    return this.gather(Int32Array.from({ length: this.batch }, (_, i) => i));
  }

  /**
   * The state's arrays for everybody, in the layout of state-spaces/mamba: `layers.{i}.conv`
   * `[B, C, K - 1]`, the oldest input first, and `layers.{i}.ssm` `[B, D, N]` (Mamba) or
   * `[B, H, P, N]` (Mamba-2).
   *
   * @returns copies, float32, row-major
   */
  async toArrays(): Promise<Record<string, NdView>> {
    const { arrays, home, batch } = this;
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
  }

  /** The same as the bytes of a safetensors file; the stack's `restore` reads them. */
  async serialise(): Promise<Uint8Array> {
    return writeSafetensors(await this.toArrays(), { metadata: { kind: 'umwelt.ssm-state' } });
  }

  /** Gives the memory back. A second call does nothing more. */
  release(): void {
    const arrays = this.#arrays;
    if (arrays === undefined) return;
    this.#arrays = undefined;
    if (this.#kept !== undefined) {
      forgotten.unregister(this);
      for (const address of this.#kept.addresses) this.#kept.memory.free(address);
    }
    for (const array of arrays) if (!isHost(array)) array.dispose();
  }

  /**
   * A new state of the rows of several, one after another.
   *
   * @param states - at least one, all of one stack
   * @throws RangeError when there is none
   * @throws TypeError when they belong to different stacks
   */
  static async concat(states: readonly SsmState[]): Promise<SsmState> {
    const [first] = states;
    if (first === undefined) throw new RangeError('concat: states must be at least one, got none');
    const { home } = first;
    if (states.some((state) => !(state instanceof SsmState) || state.home !== home)) {
      throw new TypeError('concat: states must be of one stack, got states of several');
    }
    const batch = states.reduce((sum, state) => sum + state.batch, 0);
    const all = states.map((state) => state.arrays);
    if (all.every((arrays) => arrays.every(isHost))) {
      const joined = home.parts.map((part, p) => {
        const to = newArray(home, batch * rowSize(part));
        let at = 0;
        for (const arrays of all) {
          to.set(arrays[p] as Float32Array, at);
          at += (arrays[p] as Float32Array).length;
        }
        return to;
      });
      return new SsmState(home, batch, joined);
    }
    const some = states.filter((state) => state.batch > 0);
    let result = await some[0].clone();
    for (const state of some.slice(1)) {
      const joined = await deviceOf(home).concat(result.arrays, state.arrays);
      const longer = new SsmState(home, result.batch + state.batch, joined);
      result.release();
      result = longer;
    }
    return result;
  }
}

/** Whether an array can be read at once. */
export function isHost(array: StateArray): array is Float32Array {
  return array instanceof Float32Array;
}

/** An array for a new state: in kernel memory while there is room. Not cleared. */
export function newArray({ memory }: StateHome, length: number): Float32Array {
  if (memory !== undefined && length > 0) {
    const address = memory.tryAllocate(4 * length);
    if (address !== undefined) return new Float32Array(memory.buffer, address, length);
  }
  return new Float32Array(length);
}

/** A state of zeros, in memory. */
export function zeroState(home: StateHome, batch: number): SsmState {
  const arrays = home.parts.map((part) => newArray(home, batch * rowSize(part)).fill(0));
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
        `${value instanceof SsmState ? "another stack's" : typeof value}; ` +
        'start with initialState(batch), or bring a state over by restore(await state.serialise())',
    );
  }
  if (value.batch !== batch) {
    throw new ShapeError(`${what}: state must have ${batch} rows as x has, got ${value.batch}`);
  }
  return value;
}
