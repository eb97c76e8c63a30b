/** The arguments that measures share: series, views of numbers, masks and scales. */

import {
  describe,
  expectExtent,
  isNd,
  type NdView,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import type { Seed } from '../sampling/key.js';

/** Numbers in a row: an array, a typed array, or a view, which is taken in row-major order. */
export type NumberSeries =
  | readonly number[]
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | NdView<Float32Array>
  | NdView<Float64Array>
  | NdView<Int32Array>;

/** 0 or 1 in a row: uint8, or a view of it, which is taken in row-major order. */
export type FlagSeries = Uint8Array | NdView<Uint8Array>;

/** A view of float32 or float64 numbers. */
export type FloatView = NdView<Float32Array> | NdView<Float64Array>;

/** What an error of 1 is in each dimension, `[D]`. */
export type Scale = Float32Array | Float64Array | readonly number[];

/** The numbers of a series, only to be read. */
export function series(what: string, name: string, value: NumberSeries): ArrayLike<number> {
  if (Array.isArray(value)) return value;
  if (isNd(value)) expectExtent(`${what}: ${name}`, value);
  const data: unknown = isNd(value) ? packed<TypedArray>(value) : value;
  if (!ArrayBuffer.isView(data) || data instanceof DataView || isBig(data)) {
    throw new TypeError(
      `${what}: ${name} must be an array, a typed array or a view of numbers, got ${describe(value)}`,
    );
  }
  return data as Float32Array;
}

/** As many flags as there are values; null for a mask that is not given. */
export function maskOf(
  what: string,
  mask: FlagSeries | undefined,
  length: number,
  each: string,
): Uint8Array | null {
  if (mask === undefined) return null;
  const data = flags(what, 'mask', mask);
  if (data.length !== length) {
    throw new ShapeError(
      `${what}: mask must have a flag for each of the ${length} ${each}, got ${data.length}`,
    );
  }
  return data;
}

/** The flags of a series, only to be read. */
export function flags(what: string, name: string, value: FlagSeries): Uint8Array {
  if (isNd(value)) expectExtent(`${what}: ${name}`, value);
  const data = isNd(value) ? packed(value) : value;
  if (!(data instanceof Uint8Array)) {
    throw new TypeError(`${what}: ${name} must be uint8, got ${describe(value)}`);
  }
  return data;
}

/**
 * Checks that arguments that go together by their places have their axes in one order: views of two axes
 * or more must have one shape. Flat ones are for the caller to check by their length.
 */
export function expectOneShape(what: string, given: Readonly<Record<string, unknown>>): void {
  const views = Object.entries(given).filter(([, value]) => isNd(value) && value.shape.length > 1);
  const [[first, view] = [], ...others] = views as [string, NdView<TypedArray>][];
  for (const [name, other] of others) {
    if (view !== undefined && other.shape.join() !== view.shape.join()) {
      throw new ShapeError(
        `${what}: ${first} and ${name} must have one shape, ` +
          `got [${view.shape.join(', ')}] and [${other.shape.join(', ')}]`,
      );
    }
  }
}

/**
 * Checks the kind of a seed where it comes in.
 *
 * @throws TypeError when there is none
 */
export function expectSeed(what: string, seed: Seed): void {
  const kind = seed === null ? 'null' : typeof seed;
  if (kind !== 'number' && kind !== 'bigint' && kind !== 'object') {
    throw new TypeError(
      `${what}: seed must be an integer, a bigint or a key, got ${kind}; it names the random numbers`,
    );
  }
}

/** The numbers of a float view, packed and only to be read; its shape is for the caller to check. */
export function floats(what: string, name: string, view: FloatView): Float32Array | Float64Array {
  if (!isNd(view) || !(view.data instanceof Float32Array || view.data instanceof Float64Array)) {
    throw new TypeError(
      `${what}: ${name} must be a float32 or float64 view, got ${describe(view)}; ` +
        (isNd(view)
          ? 'convert it, as in nd(Float32Array.from(data), shape)'
          : 'nd(data, shape) makes one'),
    );
  }
  expectExtent(`${what}: ${name}`, view);
  return packed<Float32Array | Float64Array>(view);
}

/** Checks a shape; `axes` names it, as in `[B, T]`. */
export function expectShape(
  what: string,
  name: string,
  view: NdView<TypedArray>,
  axes: string,
  shape: readonly number[],
): void {
  if (view.shape.join() !== shape.join()) {
    throw new ShapeError(
      `${what}: ${name} must have shape ${axes} = [${shape.join(', ')}], got [${view.shape}]`,
    );
  }
}

/** Flags `[B, T]`, packed; null where they are not given. */
export function flagMatrix(
  what: string,
  name: string,
  view: NdView<Uint8Array> | undefined,
  shape: readonly number[],
): Uint8Array | null {
  if (view === undefined) return null;
  if (!isNd(view) || !(view.data instanceof Uint8Array)) {
    throw new TypeError(`${what}: ${name} must be a uint8 view, got ${describe(view)}`);
  }
  expectShape(what, name, view, '[B, T]', shape);
  expectExtent(`${what}: ${name}`, view);
  return packed(view);
}

/** A scale for each dimension, 1 by default. */
export function scaleOf(what: string, scale: Scale | undefined, dims: number): Float64Array {
  if (scale === undefined) return new Float64Array(dims).fill(1);
  const isList =
    Array.isArray(scale) || scale instanceof Float32Array || scale instanceof Float64Array;
  if (!isList) {
    throw new TypeError(
      `${what}: scale must be a list of numbers, one for each of the ${dims} dimensions, ` +
        `got ${describe(scale)}`,
    );
  }
  const result = Float64Array.from(scale);
  if (result.length !== dims) {
    throw new ShapeError(
      `${what}: scale must have one value for each of the ${dims} dimensions, got ${result.length}`,
    );
  }
  for (let dim = 0; dim < dims; dim++) {
    const value = result[dim];
    if (!(value > 0 && value < Number.POSITIVE_INFINITY)) {
      throw new RangeError(
        `${what}: scale must be positive and finite, got ${value} at dimension ${dim}; ` +
          'use 1 for a dimension that never varies',
      );
    }
  }
  return result;
}

function isBig(data: ArrayBufferView): boolean {
  return data instanceof BigInt64Array || data instanceof BigUint64Array;
}
