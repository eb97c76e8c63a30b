/**
 * safetensors: a length, a JSON header, and the bytes of all tensors without gaps. The checks follow
 * the reference implementation, huggingface/safetensors, and its documentation of the format.
 */

import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  sizeOf,
  type TypedArray,
} from '../nd.js';
import { bfloat16ToFloat32 } from './bfloat16.js';
import {
  bytesOf,
  checkedSize,
  type ElementKind,
  elementsOf,
  kindOf,
  LITTLE_ENDIAN,
  packedBits,
  quoted,
} from './elements.js';
import { float16ToFloat32 } from './float16.js';
import { FormatError } from './format-error.js';
import { parseHeader, type TensorInfo } from './safetensors-header.js';

/** The contents of a safetensors file. */
export interface Safetensors {
  /** The tensors by name, in the order of their bytes. */
  readonly tensors: Record<string, NdView<TypedArray>>;
  /** Text by key, as whoever wrote the file left it. */
  readonly metadata: Record<string, string>;
}

/** What {@link readSafetensors} allows. */
export interface ReadSafetensorsOptions {
  /** The longest header, in bytes; by default 100,000,000 as in the reference implementation. */
  readonly maxHeaderBytes?: number;
}

/** What {@link writeSafetensors} adds. */
export interface WriteSafetensorsOptions {
  /** Text by key, such as `{ format: 'np' }`. */
  readonly metadata?: Readonly<Record<string, string>>;
}

const LENGTH_BYTES = 8;
const ALIGNMENT = 8;
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = '__metadata__';

const KINDS: Readonly<Record<string, ElementKind>> = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/** In the order in which the reference implementation writes them: wide ones first, so all align. */
const WRITE_ORDER: readonly (readonly [kind: string, dtype: string])[] = [
  ['BigUint64Array', 'U64'],
  ['BigInt64Array', 'I64'],
  ['Float64Array', 'F64'],
  ['Float32Array', 'F32'],
  ['Uint32Array', 'U32'],
  ['Int32Array', 'I32'],
  ['Uint16Array', 'U16'],
  ['Int16Array', 'I16'],
  ['Int8Array', 'I8'],
  ['Uint8Array', 'U8'],
  ['Uint8ClampedArray', 'U8'],
];

function broken(problem: string): FormatError {
  return new FormatError('safetensors', `readSafetensors: ${problem}`);
}

/**
 * Reads a safetensors file.
 *
 * Types map bit for bit: F32, F64, I8 to I64, U8 to U64; BOOL comes as uint8. F16 and BF16 are widened
 * to float32, exactly. Checked before any tensor is made: the header's length and grammar, unique
 * names, that the tensors fill the file without holes or overlaps, and that each shape fills its bytes.
 *
 * @param bytes - the whole file. Tensors share its memory where they are aligned in it
 * @param options - `maxHeaderBytes`, 100,000,000 by default
 * @returns the tensors by name, row-major, and the file's metadata
 * @throws {@link FormatError} when the file is truncated, corrupted or hostile, or has another dtype
 * @throws TypeError when `bytes` is not a `Uint8Array`
 * @throws RangeError when `maxHeaderBytes` is not a non-negative number
 *
 * @example
 * ```ts @import.meta.vitest
 * const { readSafetensors, writeSafetensors } = await import('umwelt/formats');
 * const bytes = writeSafetensors({ w: new Float32Array([1, 2]) }, { metadata: { format: 'np' } });
 * const { tensors, metadata } = readSafetensors(bytes); // or readFileSync('model.safetensors')
 * expect([...tensors.w.data]).toEqual([1, 2]);
 * expect(metadata).toEqual({ format: 'np' });
 * ```
 */
export function readSafetensors(
  bytes: Uint8Array,
  options: ReadSafetensorsOptions = {},
): Safetensors {
  if (!(bytes instanceof Uint8Array)) {
    throw new TypeError(
      `readSafetensors: bytes must be a Uint8Array, got ${describe(bytes)}; read the file first`,
    );
  }
  const { maxHeaderBytes = MAX_HEADER_BYTES } = options;
  if (!(maxHeaderBytes >= 0)) {
    throw new RangeError(
      `readSafetensors: maxHeaderBytes must be a non-negative number, got ${maxHeaderBytes}`,
    );
  }
  const { text, dataStart } = headerText(bytes, maxHeaderBytes);
  const header = parseHeader(text);
  const data = bytes.subarray(dataStart);
  const tensors = [...header.tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkLayout(tensors, data.length);
  return {
    // Own properties, whatever the names: "__proto__" is a key as any other.
    tensors: Object.fromEntries(tensors.map(([name, info]) => [name, tensorOf(info, data)])),
    metadata: Object.fromEntries(header.metadata),
  };
}

function headerText(bytes: Uint8Array, limit: number): { text: string; dataStart: number } {
  if (bytes.length < LENGTH_BYTES) {
    throw broken(`the file must have at least ${LENGTH_BYTES} bytes, got ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getBigUint64(0, true);
  if (length > limit) {
    throw broken(`the header must have at most ${limit} bytes, got ${length}`);
  }
  const dataStart = LENGTH_BYTES + Number(length);
  if (dataStart > bytes.length) {
    throw broken(
      `the header of ${length} bytes must end within the file's ${bytes.length}; ` +
        'check that the file is complete',
    );
  }
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return { text: decoder.decode(bytes.subarray(LENGTH_BYTES, dataStart)), dataStart };
  } catch {
    throw broken('the header must be UTF-8');
  }
}

/** Each tensor must begin where the one before it ends, and the last must end the file. */
function checkLayout(tensors: readonly (readonly [string, TensorInfo])[], length: number): void {
  let at = 0;
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    if (begin > end || end > length) {
      throw broken(
        `${quoted(name)} must lie within the ${length} bytes of data, got ${begin} to ${end}; ` +
          'check that the file is complete',
      );
    }
    if (begin !== at) {
      throw broken(
        `tensors must have no holes and no overlaps, got ${quoted(name)} at ${begin} after ${at}`,
      );
    }
    at = end;
    if (!Object.hasOwn(KINDS, dtype)) {
      throw broken(
        `${quoted(name)} must have one of the dtypes ${Object.keys(KINDS).join(', ')}, ` +
          `got ${quoted(dtype)}; save it as one of these`,
      );
    }
    const size = checkedSize(shape);
    const width = KINDS[dtype].BYTES_PER_ELEMENT;
    if (size < 0 || size * width !== end - begin) {
      throw broken(
        `the shape [${shape}] of ${dtype} of ${quoted(name)} must fill its ${end - begin} bytes, ` +
          `got ${size < 0 ? 'more elements than can be counted' : size * width}`,
      );
    }
  }
  if (at !== length) {
    throw broken(`tensors must fill the ${length} bytes of data, got ${at}`);
  }
}

function tensorOf({ dtype, shape, begin, end }: TensorInfo, data: Uint8Array): NdView<TypedArray> {
  const kind = KINDS[dtype];
  let bytes = data.subarray(begin, end);
  if (!LITTLE_ENDIAN) bytes = swapped(bytes, kind.BYTES_PER_ELEMENT);
  const elements = elementsOf(bytes, kind);
  if (dtype === 'F16') return nd(float16ToFloat32(elements as Uint16Array), shape);
  if (dtype === 'BF16') return nd(bfloat16ToFloat32(elements as Uint16Array), shape);
  return nd(elements, shape);
}

/**
 * Writes tensors as one safetensors file, which `safetensors.numpy.load_file` and every other reader
 * of the format read bit for bit.
 *
 * Types map as they are: float32, float64, int8 to int64, uint8 to uint64. Equal tensors and metadata
 * give equal bytes, whatever the order of keys: tensors are ordered by type and name as the reference
 * implementation orders them, metadata by key, and the header is padded to 8 bytes.
 *
 * @param tensors - by name: a view of any shape and strides, or a typed array `[N]`. Undefined values
 *   are left out
 * @param options - `metadata`, text by key
 * @returns the file's bytes
 * @throws TypeError when a value is neither a view nor a typed array, or metadata is not text
 * @throws RangeError when a name is `__metadata__` or not well-formed text, or the header would exceed
 *   100,000,000 bytes
 * @throws `ShapeError` when a view reaches outside its data
 *
 * @example
 * ```ts
 * const bytes = writeSafetensors({ 'actor.weight': nd(weight, [64, 17]) });
 * await writeFile('actor.safetensors', bytes); // safetensors.numpy.load_file('actor.safetensors')
 * ```
 */
export function writeSafetensors(
  tensors: Readonly<Record<string, NdView<TypedArray> | TypedArray | undefined>>,
  options: WriteSafetensorsOptions = {},
): Uint8Array {
  const items = Object.entries(tensors)
    .flatMap(([name, value]) => (value === undefined ? [] : [item(name, value)]))
    .sort((a, b) => a.rank - b.rank || compareText(a.name, b.name));
  const fields: string[] = [];
  if (options.metadata !== undefined) {
    fields.push(`"${METADATA}":{${metadataFields(options.metadata).join(',')}}`);
  }
  let at = 0;
  for (const { name, dtype, shape, byteLength } of items) {
    const info = { dtype, shape, data_offsets: [at, at + byteLength] };
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(info)}`);
    at += byteLength;
  }
  const header = new TextEncoder().encode(`{${fields.join(',')}}`);
  const headerSize = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;
  if (headerSize > MAX_HEADER_BYTES) {
    throw new RangeError(
      `writeSafetensors: the header must have at most ${MAX_HEADER_BYTES} bytes, ` +
        `got ${headerSize}; write several files`,
    );
  }
  const bytes = new Uint8Array(LENGTH_BYTES + headerSize + at);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerSize), true);
  bytes.set(header, LENGTH_BYTES);
  bytes.fill(0x20, LENGTH_BYTES + header.length, LENGTH_BYTES + headerSize);
  let to = LENGTH_BYTES + headerSize;
  for (const { view } of items) {
    const data = packedBits(view);
    bytes.set(LITTLE_ENDIAN ? bytesOf(data) : swapped(bytesOf(data), data.BYTES_PER_ELEMENT), to);
    to += data.byteLength;
  }
  return bytes;
}

interface Item {
  readonly name: string;
  readonly view: NdView<TypedArray>;
  readonly rank: number;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

function item(name: string, value: NdView<TypedArray> | TypedArray): Item {
  if (name === METADATA || /\p{Surrogate}/u.test(name)) {
    throw new RangeError(
      `writeSafetensors: a tensor's name must be well-formed text other than ${METADATA}, ` +
        `got ${quoted(name)}`,
    );
  }
  const view = isTypedArray(value) ? nd(value) : value;
  const kind = isNd(view) ? kindOf(view.data) : '';
  const order = WRITE_ORDER.findIndex(([known]) => known === kind);
  if (order < 0) {
    throw new TypeError(
      `writeSafetensors: ${quoted(name)} must be a view or a typed array of integers, float32 or ` +
        `float64, got ${isNd(view) ? kind : describe(value)}; nd() makes a view of nested numbers`,
    );
  }
  expectExtent(`writeSafetensors: ${quoted(name)}`, view);
  const dtype = WRITE_ORDER[order][1];
  return {
    name,
    view,
    // Both kinds of bytes are U8 and ordered by name.
    rank: WRITE_ORDER.findIndex(([, known]) => known === dtype),
    dtype,
    shape: view.shape,
    byteLength: sizeOf(view.shape) * view.data.BYTES_PER_ELEMENT,
  };
}

function metadataFields(metadata: Readonly<Record<string, string>>): string[] {
  return Object.entries(metadata)
    .sort(([a], [b]) => compareText(a, b))
    .map(([key, value]) => {
      if (typeof value !== 'string') {
        throw new TypeError(
          `writeSafetensors: metadata must be text, got ${describe(value)} for ${quoted(key)}; ` +
            'JSON.stringify makes text of anything',
        );
      }
      if (/\p{Surrogate}/u.test(key + value)) {
        throw new RangeError(
          `writeSafetensors: metadata must be well-formed text, got ${quoted(value)} for ${quoted(key)}`,
        );
      }
      return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
    });
}

/** By code points, as UTF-8 bytes compare; `<` compares UTF-16 units. */
function compareText(a: string, b: string): number {
  const left = [...a];
  const right = [...b];
  for (let i = 0; i < left.length && i < right.length; i++) {
    if (left[i] !== right[i]) {
      return (left[i].codePointAt(0) ?? 0) - (right[i].codePointAt(0) ?? 0);
    }
  }
  return left.length - right.length;
}

/** Elements in the other byte order. */
function swapped(bytes: Uint8Array, width: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++)
    out[i] = bytes[i - (i % width) + (width - 1 - (i % width))];
  return out;
}
