/**
 * Writing NumPy's `.npz`: an uncompressed or deflated zip with one `.npy` file an array.
 */

import { type Zippable, zipSync } from 'fflate';
import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  sizeOf,
  type TypedArray,
} from '../nd.js';
import { bytesOf, kindOf, LITTLE_ENDIAN, packedBits } from './elements.js';

/** How {@link writeNpz} writes. */
export interface NpzOptions {
  /** Deflate the arrays; by default they are stored as they are, which is faster to write and read. */
  readonly compress?: boolean;
}

/** NumPy's type codes; the byte order goes before them. */
const CODES: Readonly<Record<string, string>> = {
  Float32Array: 'f4',
  Float64Array: 'f8',
  Int8Array: 'i1',
  Int16Array: 'i2',
  Int32Array: 'i4',
  BigInt64Array: 'i8',
  Uint8Array: 'u1',
  Uint8ClampedArray: 'u1',
  Uint16Array: 'u2',
  Uint32Array: 'u4',
  BigUint64Array: 'u8',
};

const MAGIC: readonly number[] = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]; // \x93NUMPY, version 1.0
const HEADER_ALIGNMENT = 64;

/** What no name may match, and what it must do instead. */
const NAME_RULES: readonly (readonly [pattern: RegExp, rule: string])[] = [
  [/^$/, 'not be empty'],
  [/^.{256}/s, 'have at most 255 characters'],
  [/[/\\]/, 'not contain path separators'],
  // A colon names a drive or a stream on Windows.
  [/[\p{Cc}:]/u, 'not contain colons or control characters'],
  [/\p{Surrogate}/u, 'be well-formed text'],
  [/^\.{1,2}$/, 'not be a folder'],
  [/\.npy$/i, 'not end in .npy, which NumPy would cut off'],
];

/**
 * Plain zip counts bytes in 32 bits and files in 16, with one value of each reserved. A megabyte is
 * left for what deflate adds to data it cannot make smaller.
 */
const MAX_BYTES: number = 2 ** 32 - 2 ** 20;
const MAX_FILES: number = 2 ** 16 - 2;

/** Both zip headers and the npy header, and the name in UTF-8 in both: more than they ever take. */
const HEADER_BYTES = 512;
const BYTES_PER_NAME_CHARACTER = 6;

/** The earliest day zip can tell, as NumPy writes it too; noon, which no time zone ever skipped. */
const MODIFIED: Date = new Date(1980, 0, 1, 12);

const BYTE_ORDER = LITTLE_ENDIAN ? '<' : '>';

/**
 * Writes arrays as one `.npz` file, which `numpy.load` reads bit for bit.
 *
 * Types map as they are: float32, float64, int8 to int64, uint8 to uint64. Flags are uint8 (0 or 1)
 * here and there; `array.astype(bool)` makes a mask of one. Equal arrays in equal order give equal
 * bytes: no time and no machine enters the file.
 *
 * @param arrays - by name: a view of any shape and strides, or a typed array `[N]`. A name becomes a
 *   file name: 1 to 255 characters, without path separators, colons or control characters, not `.` or
 *   `..`, not ending in `.npy`, which NumPy would cut off. Undefined values are left out
 * @param options - `compress: true` deflates
 * @returns the file's bytes
 * @throws TypeError when a value is neither a view nor a typed array of the types above
 * @throws RangeError when a name is not allowed, or the file would reach 4 GiB or 65535 arrays, the
 *   limits of plain zip
 * @throws `ShapeError` when a view reaches outside its data
 *
 * @example
 * ```ts
 * const bytes = writeNpz({ obs: nd(obs, [1000, 17]), terminated: flags });
 * await writeFile('transitions.npz', bytes); // numpy.load('transitions.npz')['obs'].shape == (1000, 17)
 * ```
 */
export function writeNpz(
  arrays: Readonly<Record<string, NdView<TypedArray> | TypedArray | undefined>>,
  options: NpzOptions = {},
): Uint8Array {
  const entries = Object.entries(arrays).filter(
    (entry): entry is [string, NdView<TypedArray> | TypedArray] => entry[1] !== undefined,
  );
  if (entries.length > MAX_FILES) {
    throw new RangeError(
      `writeNpz: an npz file must have at most ${MAX_FILES} arrays, got ${entries.length}; ` +
        'write several files',
    );
  }
  // Sizes are checked before anything is copied.
  let size = 0;
  for (const [name, array] of entries) {
    checkName(name);
    size += byteSize(name, array) + HEADER_BYTES + BYTES_PER_NAME_CHARACTER * name.length;
  }
  if (size > MAX_BYTES) {
    throw new RangeError(
      `writeNpz: an npz file must be smaller than 4 GiB, got ${size} bytes; write several files`,
    );
  }
  const level = options.compress === true ? 6 : 0;
  const files: Zippable = {};
  for (const [name, array] of entries) files[`${name}.npy`] = npy(array);
  return zipSync(files, { level, mtime: MODIFIED });
}

function checkName(name: string): void {
  const broken = NAME_RULES.find(([pattern]) => pattern.test(name));
  if (broken !== undefined) {
    throw new RangeError(
      `writeNpz: an array's name must ${broken[1]}, got ${JSON.stringify(name.slice(0, 80))}`,
    );
  }
}

function byteSize(name: string, array: NdView<TypedArray> | TypedArray): number {
  const data = isTypedArray(array) ? array : isNd(array) ? array.data : null;
  if (data === null || CODES[kindOf(data)] === undefined) {
    throw new TypeError(
      `writeNpz: "${name}" must be a view or a typed array of integers, float32 or float64, ` +
        `got ${data === null ? describe(array) : kindOf(data)}; nd() makes a view of nested numbers`,
    );
  }
  if (isTypedArray(array)) return array.byteLength;
  expectExtent(`writeNpz: "${name}"`, array);
  return sizeOf(array.shape) * array.data.BYTES_PER_ELEMENT;
}

/** One `.npy` file, format version 1.0. */
function npy(array: NdView<TypedArray> | TypedArray): Uint8Array {
  const [source, shape] = isTypedArray(array) ? [array, [array.length]] : [array.data, array.shape];
  const data = isTypedArray(array) ? array : packedBits(array);
  const order = data.BYTES_PER_ELEMENT === 1 ? '|' : BYTE_ORDER;
  // A Python tuple: one element needs a comma of its own.
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${order}${CODES[kindOf(source)]}', 'fortran_order': False, 'shape': (${tuple}), }`;

  // The length of the text is two bytes, and a newline ends it on a multiple of 64.
  const start = MAGIC.length + 2;
  const headerSize = Math.ceil((start + text.length + 1) / HEADER_ALIGNMENT) * HEADER_ALIGNMENT;
  const textSize = headerSize - start;
  if (textSize > 0xffff) {
    throw new RangeError(`writeNpz: a shape must fit the npy header, got ${shape.length} axes`);
  }
  const bytes = new Uint8Array(headerSize + data.byteLength);
  bytes.set(MAGIC);
  bytes[MAGIC.length] = textSize & 0xff;
  bytes[MAGIC.length + 1] = textSize >>> 8;
  bytes.set(new TextEncoder().encode(`${text.padEnd(textSize - 1)}\n`), start);
  bytes.set(bytesOf(data), headerSize);
  return bytes;
}
