/**
 * Reading NumPy's `.npz`: a zip with one `.npy` file an array.
 */

import { describe, type NdView, type TypedArray } from '../nd.js';
import { quoted } from './elements.js';
import { FormatError } from './format-error.js';
import { readNpy } from './npy.js';
import { extract, zipEntries } from './zip.js';

/** What {@link readNpz} allows. */
export interface ReadNpzOptions {
  /** The most bytes that all arrays together may have, after inflating; by default 1 GiB. */
  readonly maxBytes?: number;
}

const SUFFIX = '.npy';
const MAX_BYTES: number = 2 ** 30;

/** Names are keys here; as file names, these would lead elsewhere. */
const NAME_RULES: readonly (readonly [pattern: RegExp, rule: string])[] = [
  [/^$/, 'not be empty'],
  [/\p{Cc}|\\/u, 'not contain control characters or backslashes'],
  [/^\/|^[a-z]:/i, 'not be an absolute path'],
  [/(^|\/)(\.{0,2})(\/|$)/, 'not contain empty steps, . or ..'],
];

/**
 * Reads all arrays of an `.npz` file, as `numpy.savez` and `numpy.savez_compressed` write it.
 *
 * Types map bit for bit: float32, float64, int8 to int64, uint8 to uint64. Booleans come as uint8;
 * half precision is widened to float32, exactly. Arrays in Fortran order come as strided views.
 * Everything is checked before memory is taken: sizes against the limit and the bytes that are there,
 * checksums, shapes. Pickled objects are never run.
 *
 * @param bytes - the whole file. Arrays that are neither compressed nor misaligned share its memory
 * @param options - `maxBytes`, the most bytes all arrays may have, 2^30 by default
 * @returns the arrays by name, in the file's order; views of rank 0 and up
 * @throws {@link FormatError} when the file is truncated, corrupted, larger than allowed, or holds
 *   what has no typed array: big-endian, object, structured, complex or text arrays
 * @throws TypeError when `bytes` is not a `Uint8Array`
 * @throws RangeError when `maxBytes` is not a non-negative number
 *
 * @example
 * ```ts @import.meta.vitest
 * const { readNpz, writeNpz } = await import('umwelt/formats');
 * const bytes = writeNpz({ reward: new Float32Array([1, 0.5]) }); // or readFileSync('data.npz')
 * const { reward } = readNpz(bytes);
 * expect(reward.shape).toEqual([2]);
 * expect([...reward.data]).toEqual([1, 0.5]);
 * ```
 */
export function readNpz(
  bytes: Uint8Array,
  options: ReadNpzOptions = {},
): Record<string, NdView<TypedArray>> {
  if (!(bytes instanceof Uint8Array)) {
    throw new TypeError(
      `readNpz: bytes must be a Uint8Array, got ${describe(bytes)}; read the file first`,
    );
  }
  const { maxBytes = MAX_BYTES } = options;
  if (!(maxBytes >= 0)) {
    throw new RangeError(`readNpz: maxBytes must be a non-negative number, got ${maxBytes}`);
  }
  const arrays: [string, NdView<TypedArray>][] = [];
  const entries = zipEntries(bytes, maxBytes).map((entry) => ({
    entry,
    name: arrayName(entry.name),
  }));
  for (const { entry, name } of entries) arrays.push([name, readNpy(name, extract(entry))]);
  // Own properties, whatever the names: "__proto__" is a key as any other.
  return Object.fromEntries(arrays);
}

function arrayName(file: string): string {
  if (!file.endsWith(SUFFIX)) {
    throw new FormatError(
      'npz',
      `readNpz: the zip must hold ${SUFFIX} files alone, got ${quoted(file)}`,
    );
  }
  const name = file.slice(0, -SUFFIX.length);
  const rule = NAME_RULES.find(([pattern]) => pattern.test(name));
  if (rule !== undefined) {
    throw new FormatError('npz', `readNpz: an array's name must ${rule[1]}, got ${quoted(name)}`);
  }
  return name;
}
