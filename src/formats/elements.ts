/** Elements of files as typed arrays, and views as elements of files: shared by all formats. */

import { type NdView, packed, type TypedArray } from '../nd.js';

/** The constructors of all element stores that a file may hold. */
export type ElementKind =
  | Float32ArrayConstructor
  | Float64ArrayConstructor
  | Int8ArrayConstructor
  | Int16ArrayConstructor
  | Int32ArrayConstructor
  | BigInt64ArrayConstructor
  | Uint8ArrayConstructor
  | Uint16ArrayConstructor
  | Uint32ArrayConstructor
  | BigUint64ArrayConstructor;

/** Typed arrays are in the machine's byte order, which nearly everywhere is little-endian. */
export const LITTLE_ENDIAN: boolean = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Bytes as elements, in the machine's byte order.
 *
 * @param bytes - a whole number of elements
 * @returns a view of the same memory where it is aligned, else a copy
 */
export function elementsOf(bytes: Uint8Array, kind: ElementKind): TypedArray {
  const { byteOffset, byteLength } = bytes;
  const aligned = byteOffset % kind.BYTES_PER_ELEMENT === 0;
  // Not slice(), which in Node's Buffer copies nothing.
  const { buffer } = aligned ? bytes : new Uint8Array(bytes);
  const length = byteLength / kind.BYTES_PER_ELEMENT;
  return new kind(buffer as ArrayBuffer, aligned ? byteOffset : 0, length);
}

/** The elements as bytes of the same memory. */
export function bytesOf({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The same elements as integers: a NaN copied as a number may lose its payload on the way. */
export function patterns(data: TypedArray): TypedArray {
  const { buffer, byteOffset, length } = data;
  if (data instanceof Float32Array) return new Uint32Array(buffer, byteOffset, length);
  if (data instanceof Float64Array) return new BigUint64Array(buffer, byteOffset, length);
  return data;
}

/**
 * The elements of a view in row-major order and in its own type, bit for bit.
 *
 * @returns the view's memory where it is packed already, else a copy
 */
export function packedBits(view: NdView<TypedArray>): TypedArray {
  const words = packed({ ...view, data: patterns(view.data) });
  const { buffer, byteOffset, length } = words;
  if (view.data instanceof Float32Array) return new Float32Array(buffer, byteOffset, length);
  if (view.data instanceof Float64Array) return new Float64Array(buffer, byteOffset, length);
  return words;
}

/** The array's type by its tag, which subclasses such as Node's `Buffer` keep. */
export function kindOf(data: TypedArray): string {
  return data[Symbol.toStringTag];
}

/**
 * Number of elements of a shape that came from a file.
 *
 * @param shape - non-negative safe integers
 * @returns the product, or -1 where it exceeds 2^53 - 1 on the way
 */
export function checkedSize(shape: readonly number[]): number {
  let size = 1;
  for (const length of shape) {
    size *= length;
    if (!Number.isSafeInteger(size)) return -1;
  }
  return size;
}

/** Text from a file for a message: quoted, control characters escaped, cut to 80 characters. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}
