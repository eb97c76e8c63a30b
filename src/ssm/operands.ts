/**
 * Arrays as the kernels see them. What lies in the kernel memory in a fitting order is used in place;
 * the rest goes through a piece of scratch, a few steps of one row at a time, so that it stays in the
 * cache and any length fits.
 */

import { copyStrided, isPacked, type NdView, rowMajor, sizeOf } from '../nd.js';
import type { KernelMemory } from './kernel-memory.js';

/** Pieces of kernel memory, taken one by one and given back together. */
export class Scratch {
  readonly memory: KernelMemory;
  readonly #addresses: number[] = [];

  constructor(memory: KernelMemory) {
    this.memory = memory;
  }

  /** The address of a new piece. */
  take(bytes: number): number {
    const address = this.memory.allocate(bytes);
    this.#addresses.push(address);
    return address;
  }

  /** The address of a copy of a vector; 0 for none. */
  hold(vector: Float32Array | undefined): number {
    if (vector === undefined) return 0;
    const address = this.take(4 * vector.length);
    this.memory.f32.set(vector, address >> 2);
    return address;
  }

  release(): void {
    for (const address of this.#addresses.splice(0)) this.memory.free(address);
  }
}

/** An array `[B, L, ...]`, of which a kernel takes some steps of one row. */
export class Sequence {
  /** Where the steps lie after {@link Sequence.load} or {@link Sequence.place}; 0 for no array. */
  address = 0;
  /** Bytes from step to step. */
  stride = 0;
  readonly #memory: KernelMemory;
  readonly #view: NdView | undefined;
  readonly #width: number;
  readonly #inPlace: boolean;
  readonly #piece: number;

  /**
   * @param steps - the most that come at once
   * @param mayLieInPlace - whether the kernel may use the array where it is
   */
  constructor(scratch: Scratch, view: NdView | undefined, steps: number, mayLieInPlace = true) {
    this.#memory = scratch.memory;
    this.#view = view;
    this.#width = view === undefined ? 0 : sizeOf(view.shape.slice(2));
    const dense = view !== undefined && isPacked(view.shape, view.stride, 2);
    this.#inPlace =
      mayLieInPlace && dense && view.stride[1] >= 0 && scratch.memory.holds(view.data);
    this.#piece =
      view === undefined || this.#inPlace ? 0 : scratch.take(4 * this.#width * Math.max(1, steps));
  }

  /** Brings the steps `from .. from + count - 1` of a row. */
  load(row: number, from: number, count: number): void {
    if (this.#view === undefined) return;
    this.place(row, from);
    if (this.#inPlace) return;
    const { data, shape, stride } = this.#view;
    const { f32 } = this.#memory;
    const start = this.#start(row, from);
    const width = this.#width;
    const to = this.#piece >> 2;
    if (!isPacked(shape, stride, 2)) {
      for (let t = 0; t < count; t++) {
        copyStrided(data, shape, stride, start + t * stride[1], 2, f32, to + t * width);
      }
    } else if (stride[1] === width) {
      f32.set(data.subarray(start, start + count * width), to);
    } else {
      for (let t = 0; t < count; t++) {
        const at = start + t * stride[1];
        f32.set(data.subarray(at, at + width), to + t * width);
      }
    }
  }

  /** Says where the steps from `from` on of a row are to be written. */
  place(row: number, from: number): void {
    if (this.#view === undefined) return;
    if (this.#inPlace) {
      this.address = this.#view.data.byteOffset + 4 * this.#start(row, from);
      this.stride = 4 * this.#view.stride[1];
    } else {
      this.address = this.#piece;
      this.stride = 4 * this.#width;
    }
  }

  /** Brings written steps to where they belong. */
  store(row: number, from: number, count: number): void {
    if (this.#view === undefined || this.#inPlace) return;
    const { data, shape, stride } = this.#view;
    const { f32 } = this.#memory;
    const start = this.#start(row, from);
    const width = this.#width;
    const piece = this.#piece >> 2;
    if (!isPacked(shape, stride, 2)) {
      for (let t = 0; t < count; t++) {
        copyOut(f32, piece + t * width, data, shape, stride, start + t * stride[1], 2);
      }
    } else if (stride[1] === width) {
      data.set(f32.subarray(piece, piece + count * width), start);
    } else {
      for (let t = 0; t < count; t++) {
        const at = piece + t * width;
        data.set(f32.subarray(at, at + width), start + t * stride[1]);
      }
    }
  }

  #start(row: number, from: number): number {
    const { offset = 0, stride = [] } = this.#view ?? {};
    return offset + row * stride[0] + from * stride[1];
  }
}

/** Resets `[B, L]` as bytes, of which a kernel takes some steps of one row. */
export class Flags {
  /** 0 where there are none. */
  readonly address: number;
  readonly #flags: Uint8Array | undefined;
  readonly #steps: number;
  readonly #piece: Uint8Array | undefined;

  /** @param atOnce - the most steps that come at once */
  constructor(scratch: Scratch, flags: Uint8Array | undefined, steps: number, atOnce: number) {
    this.address = flags === undefined ? 0 : scratch.take(atOnce);
    this.#flags = flags;
    this.#steps = steps;
    this.#piece = flags && new Uint8Array(scratch.memory.buffer, this.address, atOnce);
  }

  /** Brings the steps `from .. from + count - 1` of a row. */
  load(row: number, from: number, count: number): void {
    const start = row * this.#steps + from;
    if (this.#flags !== undefined) this.#piece?.set(this.#flags.subarray(start, start + count));
  }
}

/**
 * An array `[B, ..., R, S]` of which the kernel holds each row's matrices transposed, `[..., S, R]`: a
 * state, or with a batch of 1 a weight. A view whose strides are transposed needs no work.
 */
export class Transposed {
  readonly #memory: KernelMemory;
  readonly #view: NdView | undefined;
  readonly #rows: number;
  readonly #columns: number;
  readonly #size: number;
  /** Whether the view's matrices lie as the kernel holds them. */
  readonly #transposed: boolean;
  readonly #inPlace: boolean;
  readonly #piece: number;
  readonly #straight: number;

  /**
   * @param shape - of a row, `[..., R, S]`; no view stands for zeros
   * @param piece - where a row goes that cannot be used in place; by default a new piece
   */
  constructor(
    scratch: Scratch,
    view: NdView | undefined,
    shape: readonly number[],
    piece?: number,
  ) {
    this.#memory = scratch.memory;
    this.#view = view;
    this.#size = sizeOf(shape);
    this.#rows = shape[shape.length - 2];
    this.#columns = shape[shape.length - 1];
    this.#transposed = view !== undefined && isTransposed(view);
    this.#inPlace = this.#transposed && view !== undefined && scratch.memory.holds(view.data);
    this.#piece = this.#inPlace ? 0 : (piece ?? scratch.take(4 * this.#size));
    this.#straight = view === undefined || this.#transposed ? 0 : scratch.take(4 * this.#size);
  }

  /** Brings a row's matrices and says where they are. */
  load(row: number): number {
    const view = this.#view;
    const { f32, kernels } = this.#memory;
    const piece = this.#piece >> 2;
    if (view === undefined) {
      f32.fill(0, piece, piece + this.#size);
      return this.#piece;
    }
    const address = this.place(row);
    if (this.#inPlace) return address;
    const { data, shape, stride } = view;
    const start = view.offset + row * stride[0];
    if (this.#transposed) {
      f32.set(data.subarray(start, start + this.#size), piece);
      return address;
    }
    if (isPacked(view.shape, view.stride, 1)) {
      f32.set(data.subarray(start, start + this.#size), this.#straight >> 2);
    } else {
      copyStrided(data, shape, stride, start, 1, f32, this.#straight >> 2);
    }
    const bytes = 4 * this.#rows * this.#columns;
    for (let at = 0; at < 4 * this.#size; at += bytes) {
      kernels.transpose(this.#straight + at, this.#rows, this.#columns, this.#piece + at);
    }
    return address;
  }

  /** Says where a row's matrices are to be written. */
  place(row: number): number {
    const view = this.#view;
    if (view === undefined || !this.#inPlace) return this.#piece;
    return view.data.byteOffset + 4 * (view.offset + row * view.stride[0]);
  }

  /** Brings a row's written matrices to where they belong. */
  store(row: number): void {
    const view = this.#view;
    if (view === undefined || this.#inPlace) return;
    const { f32, kernels } = this.#memory;
    const { data, shape, stride } = view;
    const start = view.offset + row * stride[0];
    if (this.#transposed) {
      const piece = this.#piece >> 2;
      data.set(f32.subarray(piece, piece + this.#size), start);
      return;
    }
    const bytes = 4 * this.#rows * this.#columns;
    for (let at = 0; at < 4 * this.#size; at += bytes) {
      kernels.transpose(this.#piece + at, this.#columns, this.#rows, this.#straight + at);
    }
    copyOut(f32, this.#straight >> 2, data, shape, stride, start, 1);
  }
}

/** The strides of `[B, ..., R, S]` whose matrices lie transposed, `[B, ..., S, R]`. */
export function transposedView(data: Float32Array, shape: readonly number[]): NdView {
  const stride = transposedStrides(shape);
  return { data, shape: [...shape], stride, offset: 0 };
}

/** The strides of a shape whose last two axes lie transposed. */
export function transposedStrides(shape: readonly number[]): number[] {
  const last = shape.length - 1;
  const stride = rowMajor([...shape.slice(0, last - 1), shape[last], shape[last - 1]]);
  [stride[last - 1], stride[last]] = [stride[last], stride[last - 1]];
  return stride;
}

function isTransposed({ shape, stride }: NdView): boolean {
  const last = shape.length - 1;
  const [rows, columns] = [shape[last - 1], shape[last]];
  if (rows !== 1 && stride[last - 1] !== 1) return false;
  if (columns !== 1 && stride[last] !== rows) return false;
  let step = rows * columns;
  for (let axis = last - 2; axis >= 1; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== step) return false;
    step *= shape[axis];
  }
  return true;
}

/** The way back of `copyStrided`; returns the end in `from`. */
function copyOut(
  from: Float32Array,
  at: number,
  data: Float32Array,
  shape: readonly number[],
  stride: readonly number[],
  to: number,
  axis: number,
): number {
  if (axis === shape.length) {
    data[to] = from[at];
    return at + 1;
  }
  let end = at;
  for (let i = 0; i < shape[axis]; i++) {
    end = copyOut(from, end, data, shape, stride, to + i * stride[axis], axis + 1);
  }
  return end;
}
