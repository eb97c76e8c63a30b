import { type KernelVariant, OVERREAD, type SsmKernels } from '../kernels/ssm-kernels.js';
import { startScalar } from '../kernels/ssm-scalar.js';
import { startSimd } from '../kernels/ssm-simd.js';
import { describe, isNd, type NdView, nd, ShapeError, sizeOf, type TypedArray } from '../nd.js';
import { expectOptions } from '../runtime/options.js';

export type { KernelVariant };

/** What {@link KernelMemory} is made with. */
export interface KernelMemoryOptions {
  /** Size in bytes, below 2 GiB; default 64 MiB. The system gives pages as they are first written. */
  readonly bytes?: number;
  /** Which kernels work in it; by default the fastest this platform has. */
  readonly variant?: KernelVariant;
}

/** Every array starts at a multiple of this, a cache line. */
const ALIGNMENT = 64;
const DEFAULT_BYTES = 64 * 2 ** 20;
const MAX_BYTES = 2 ** 31 - 2 ** 16;

/**
 * The memory the state-space kernels work in, and the kernels.
 *
 * Its size is fixed: growing a WebAssembly memory would detach every array in it. Arrays made by
 * {@link KernelMemory.array} are read and written by the kernels in place, all others are copied in and
 * out piece by piece.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { KernelMemory, causalConv1d } = await import('umwelt/ssm');
 * const memory = new KernelMemory({ bytes: 1 << 20 });
 * const x = memory.array([2, 5, 3]); // zeros
 * const weight = memory.array([3, 4]);
 * const y = memory.array([2, 5, 3]);
 * causalConv1d(x, weight, { memory, out: { y } }); // nothing is copied
 * memory.release(y);
 * ```
 */
export class KernelMemory {
  /** The kernels' variant: `relaxed`, `simd` or `scalar`. */
  readonly variant: KernelVariant;
  /** The memory itself. */
  readonly buffer: ArrayBuffer;
  /** @internal */
  readonly kernels: SsmKernels;
  /** @internal All of the memory as float32. */
  readonly f32: Float32Array;
  /** Sizes of the pieces in use, by address. */
  readonly #used = new Map<number, number>();
  /** The free pieces, `[address, bytes]` in order of address. */
  readonly #free: [address: number, bytes: number][];

  /**
   * @throws TypeError when this platform does not have the variant
   * @throws RangeError when the size is no positive number or more than the engine gives
   */
  constructor(options: KernelMemoryOptions = {}) {
    expectOptions('KernelMemory', options, ['bytes', 'variant']);
    const { bytes = DEFAULT_BYTES, variant } = options;
    expectBytes('KernelMemory', bytes);
    const room = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT + 4096 + OVERREAD;
    const machine = start(variant, Math.min(room, MAX_BYTES));
    this.variant = machine.variant;
    this.buffer = machine.buffer;
    this.kernels = machine.kernels;
    this.f32 = new Float32Array(machine.buffer);
    const first = Math.ceil(machine.heapBase / ALIGNMENT) * ALIGNMENT;
    this.#free = [[first, this.buffer.byteLength - OVERREAD - first]];
  }

  /** Bytes that are free, in however many pieces. */
  get freeBytes(): number {
    let sum = 0;
    for (const [, bytes] of this.#free) sum += bytes;
    return sum;
  }

  /**
   * A float32 array of zeros in this memory, row-major.
   *
   * @throws RangeError when no free piece is long enough
   * @throws `ShapeError` when a length is no integer of at least 0
   */
  array(shape: readonly number[]): NdView {
    if (
      !Array.isArray(shape) ||
      !shape.every((length) => Number.isInteger(length) && length >= 0)
    ) {
      throw new ShapeError(
        `array: shape must be non-negative integers, got ${Array.isArray(shape) ? `[${shape.join(', ')}]` : describe(shape)}`,
      );
    }
    const address = this.allocate(4 * sizeOf(shape));
    const view = nd(new Float32Array(this.buffer, address, sizeOf(shape)), shape);
    view.data.fill(0);
    return view;
  }

  /**
   * Gives an array's memory back. The array must not be used any more.
   *
   * @throws RangeError when it does not start an array made by {@link KernelMemory.array}, or was given back
   * @throws TypeError when it is no view
   */
  release(array: NdView): void {
    if (!isNd(array)) {
      throw new TypeError(`release: the array must be a view, got ${describe(array)}`);
    }
    const { data } = array;
    if (data.buffer !== this.buffer) {
      throw new RangeError(
        'release: the array must lie in this memory, got one that lies elsewhere',
      );
    }
    this.free(data.byteOffset);
  }

  /** Whether an array lies in this memory. */
  holds(data: TypedArray): boolean {
    return data.buffer === this.buffer;
  }

  /**
   * The address of a free piece, or undefined.
   *
   * @internal
   */
  tryAllocate(bytes: number): number | undefined {
    const length = Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
    const index = this.#free.findIndex((piece) => piece[1] >= length);
    if (index < 0) return undefined;
    const piece = this.#free[index];
    const [address] = piece;
    if (piece[1] === length) this.#free.splice(index, 1);
    else this.#free[index] = [address + length, piece[1] - length];
    this.#used.set(address, length);
    return address;
  }

  /** @internal */
  allocate(bytes: number): number {
    const address = this.tryAllocate(bytes);
    if (address === undefined) {
      const longest = this.#free.reduce((most, piece) => Math.max(most, piece[1]), 0);
      throw new RangeError(
        `KernelMemory: ${bytes} bytes must fit, got ${longest} in one piece of ` +
          `${this.buffer.byteLength}; release arrays, or make the memory with more bytes`,
      );
    }
    return address;
  }

  /** @internal */
  free(address: number): void {
    let length = this.#used.get(address);
    if (length === undefined) {
      throw new RangeError(
        `release: the array must have been made by this memory and not released before, got one at ${address}`,
      );
    }
    this.#used.delete(address);
    let index = this.#free.findIndex((piece) => piece[0] > address);
    if (index < 0) index = this.#free.length;
    const next = this.#free[index];
    if (next?.[0] === address + length) {
      length += next[1];
      this.#free.splice(index, 1);
    }
    const last = this.#free[index - 1];
    if (last !== undefined && last[0] + last[1] === address) last[1] += length;
    else this.#free.splice(index, 0, [address, length]);
  }
}

/**
 * Checks a memory's size.
 *
 * @throws RangeError when it is no number of bytes that a memory can have
 */
export function expectBytes(what: string, bytes: unknown): void {
  if (typeof bytes !== 'number' || !(bytes > 0 && bytes <= MAX_BYTES)) {
    throw new RangeError(`${what}: bytes must be within 1..${MAX_BYTES}, got ${bytes}`);
  }
}

function start(variant: KernelVariant | undefined, bytes: number) {
  switch (variant) {
    case undefined:
      return startSimd('relaxed', bytes) ?? startSimd('simd', bytes) ?? startScalar(bytes);
    case 'scalar':
      return startScalar(bytes);
    case 'relaxed':
    case 'simd': {
      const machine = startSimd(variant, bytes);
      if (machine !== undefined) return machine;
      throw new TypeError(
        `KernelMemory: variant must be one this platform has, got '${variant}'; ` +
          "leave it out for the fastest, or name 'simd' or 'scalar'",
      );
    }
    default:
      throw new TypeError(
        `KernelMemory: variant must be 'relaxed', 'simd' or 'scalar', got '${variant}'`,
      );
  }
}

let own: KernelMemory | undefined;

/**
 * A memory for the work of one call, in which no array outlives it.
 *
 * @internal
 */
export function workMemory(bytes: number): KernelMemory {
  if (own === undefined || own.freeBytes < bytes) {
    own = new KernelMemory({ bytes: Math.max(bytes, 16 * 2 ** 20) });
  }
  return own;
}
