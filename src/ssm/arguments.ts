/** Checks of what the functions of this room are given. */

import { describe, expectExtent, isNd, type NdView, ShapeError, type TypedArray } from '../nd.js';
import { KernelMemory } from './kernel-memory.js';

/** A rank-1 argument: a typed array, or a view of one. */
export type Vector = Float32Array | NdView;

/** Which steps start anew, `[B, L]`: 1 where the state is zeroed before the step, else 0. */
export type Reset = NdView<TypedArray>;

/** Lengths of axes by their letters, bound by the first array that has them. */
export class Axes {
  readonly #what: string;
  readonly #lengths = new Map<string, number>();
  readonly #names = new Map<string, string>();

  /** @param what - the function's name, for messages */
  constructor(what: string) {
    this.#what = what;
  }

  /** The length of an axis that is bound. */
  length(axis: string): number {
    return this.#lengths.get(axis) ?? 0;
  }

  /** @param name - what messages call the axis, where that is not its letter */
  bind(axis: string, length: number, name: string = axis): void {
    this.#lengths.set(axis, length);
    this.#names.set(axis, name);
  }

  /**
   * Checks an array of rank 2 and above against letters such as `BLD`.
   *
   * @throws TypeError when it is no float32 view
   * @throws ShapeError when its shape or extent is wrong
   */
  view(name: string, value: unknown, letters: string): NdView {
    this.#expectFloat32(name, value, letters);
    this.#expectShape(name, value.shape, letters);
    expectExtent(`${this.#what}: ${name}`, value);
    return value;
  }

  /** The same where the array may be left out. */
  optional(name: string, value: unknown, letters: string): NdView | undefined {
    return value === undefined ? undefined : this.view(name, value, letters);
  }

  /** Checks a rank-1 array and gives its elements, in order. */
  vector(name: string, value: unknown, letter: string): Float32Array | undefined {
    if (value === undefined) return undefined;
    if (value instanceof Float32Array) {
      this.#expectShape(name, [value.length], letter);
      return value;
    }
    const { data, offset, stride } = this.view(name, value, letter);
    return Float32Array.from(
      { length: this.length(letter) },
      (_, i) => data[offset + i * stride[0]],
    );
  }

  /** Checks resets and gives them as bytes, row by row; undefined when there are none. */
  reset(value: unknown): Uint8Array | undefined {
    if (value === undefined) return undefined;
    const what = `${this.#what}: reset`;
    if (!isNd(value)) {
      throw new TypeError(`${what} must be a view [B, L] of 0 and 1, got ${describe(value)}`);
    }
    this.#expectShape('reset', value.shape, 'BL');
    expectExtent(what, value);
    const { data, offset, stride } = value;
    const [rows, steps] = value.shape;
    const flags = new Uint8Array(rows * steps);
    let any = false;
    for (let row = 0, to = 0; row < rows; row++) {
      for (let t = 0; t < steps; t++, to++) {
        const flag = Number(data[offset + row * stride[0] + t * stride[1]]);
        if (flag !== 0 && flag !== 1) {
          throw new RangeError(`${what} must hold 0 and 1, got ${flag} at [${row}, ${t}]`);
        }
        flags[to] = flag;
        any ||= flag === 1;
      }
    }
    return any ? flags : undefined;
  }

  /** Checks a flag and gives it as the kernels take it. */
  flag(name: string, value: unknown): number {
    if (value !== undefined && typeof value !== 'boolean') {
      throw new TypeError(`${this.#what}: ${name} must be true or false, got ${describe(value)}`);
    }
    return value ? 1 : 0;
  }

  /** Checks that an axis has at least one element. */
  expectSome(axis: string): void {
    if (this.length(axis) < 1) {
      throw new ShapeError(`${this.#what}: ${axis} must be at least 1, got ${this.length(axis)}`);
    }
  }

  #expectFloat32(name: string, value: unknown, letters: string): asserts value is NdView {
    if (!isNd(value)) {
      const [or, remedy] =
        letters.length === 1 ? [' or a Float32Array', 'Float32Array.from()'] : ['', 'nd()'];
      throw new TypeError(
        `${this.#what}: ${name} must be a view [${this.#namesOf(letters)}]${or}, ` +
          `got ${describe(value)}; make one with ${remedy}`,
      );
    }
    if (!(value.data instanceof Float32Array)) {
      throw new TypeError(
        `${this.#what}: ${name} must be float32, got ${describe(value)}; ` +
          'convert it, as in Float32Array.from(data)',
      );
    }
  }

  #expectShape(name: string, shape: readonly number[], letters: string): void {
    const fits =
      shape.length === letters.length &&
      shape.every((length, i) => (this.#lengths.get(letters[i]) ?? length) === length);
    if (!fits) {
      const wanted = [...letters].map((letter) => this.#lengths.get(letter) ?? letter);
      const bound = [...letters].some((letter) => this.#lengths.has(letter));
      throw new ShapeError(
        `${this.#what}: ${name} must have shape [${this.#namesOf(letters)}]` +
          `${bound ? ` = [${wanted.join(', ')}]` : ''}, got [${shape.join(', ')}]`,
      );
    }
    for (let i = 0; i < letters.length; i++) this.#lengths.set(letters[i], shape[i]);
  }

  #namesOf(letters: string): string {
    return [...letters].map((letter) => this.#names.get(letter) ?? letter).join(', ');
  }
}

/** Checks the option `memory`. */
export function expectMemory(what: string, memory: unknown): KernelMemory | undefined {
  if (memory === undefined || memory instanceof KernelMemory) return memory;
  throw new TypeError(`${what}: memory must be a KernelMemory, got ${describe(memory)}`);
}

/** Steps that come at once, so that a piece stays in the cache. */
export function stepsAtOnce(steps: number, bytesPerStep: number): number {
  return Math.max(1, Math.min(steps, Math.floor(2 ** 20 / bytesPerStep)));
}
