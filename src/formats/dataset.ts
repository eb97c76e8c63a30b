/** What offline datasets of every layout share: options, progress, and transitions in chunks. */

import { isTypedArray, type NdView, nd, type TypedArray } from '../nd.js';
import { FormatError } from './format-error.js';

/**
 * One array, or named arrays: a dictionary space's entries, nested as the space nests. An array of one
 * number a row is a typed array `[N]`, of more a row-major view `[N, ...]`.
 */
export type Fields = NdView<TypedArray> | TypedArray | { readonly [name: string]: Fields };

/**
 * Transitions as rows, with the names of `Trajectory.transitions()`; `N` of them. Floats are float32;
 * int64 and uint64 become int32 and uint32; other integers are as stored.
 */
export interface TransitionChunk<Obs extends Fields = Fields, Action extends Fields = Fields> {
  /** `[N, ...]`, or named arrays of it. */
  readonly obs: Obs;
  /** `[N, ...]`, or named arrays of it. */
  readonly action: Action;
  /** `[N]`. */
  readonly reward: Float32Array;
  /** Like `obs`; the two may share memory. */
  readonly nextObs: Obs;
  /** 1 where the episode ended: do not bootstrap, `[N]`. */
  readonly terminated: Uint8Array;
  /** 1 where the episode was cut: bootstrap from `nextObs`, `[N]`. */
  readonly truncated: Uint8Array;
}

/** How far a dataset has been read. */
export interface DatasetProgress {
  /** `reading` after each episode or chunk, `done` once at the end. */
  readonly status: 'reading' | 'done';
  /** Episodes or rows given so far. */
  readonly done: number;
  /** Episodes or rows in all. */
  readonly total: number;
}

/** What all dataset readers take. */
export interface DatasetOptions {
  /** The most bytes of one episode, or of one array of a chunk; by default 1 GiB. */
  readonly maxBytes?: number;
  /** Called after each episode or chunk. */
  readonly onProgress?: (progress: DatasetProgress) => void;
  /** Stops before the next episode or chunk with the signal's reason. */
  readonly signal?: AbortSignal;
}

const MAX_BYTES: number = 2 ** 30;

/** The limit of the options, checked. */
export function limitOf(what: string, { maxBytes = MAX_BYTES }: DatasetOptions): number {
  if (!(maxBytes >= 0)) {
    throw new RangeError(`${what}: maxBytes must be a non-negative number, got ${maxBytes}`);
  }
  return maxBytes;
}

/** A row-major view as fields hold it. */
export function asField(view: NdView<TypedArray>): NdView<TypedArray> | TypedArray {
  return view.shape.length === 1 ? view.data : view;
}

/** Rows `[start, end)` of each array, sharing its memory. */
export function fieldRows(fields: Fields, start: number, end: number): Fields {
  return mapFields(fields, '', (view) => {
    const { data, shape } = view;
    const width = shape[0] === 0 ? 0 : data.length / shape[0];
    return nd(data.subarray(start * width, end * width), [end - start, ...shape.slice(1)]);
  });
}

/** Each array in the types of {@link TransitionChunk}. */
export function narrowFields(what: string, fields: Fields): Fields {
  return mapFields(fields, '', ({ data, shape }, name) => nd(narrow(what, name, data), shape));
}

/** Each array through a function, as a view, with its name as in `goal/position`. */
function mapFields(
  fields: Fields,
  name: string,
  map: (view: NdView<TypedArray>, name: string) => NdView<TypedArray>,
): Fields {
  if (isTypedArray(fields)) return asField(map(nd(fields), name));
  if (isTypedArray(fields.data)) return asField(map(fields as NdView<TypedArray>, name));
  const entries = Object.entries(fields as Record<string, Fields>).map(([key, value]) => [
    key,
    mapFields(value, name === '' ? key : `${name}/${key}`, map),
  ]);
  return Object.fromEntries(entries) as Fields;
}

function narrow(what: string, name: string, data: TypedArray): TypedArray {
  if (data instanceof Float64Array) return Float32Array.from(data);
  if (!(data instanceof BigInt64Array || data instanceof BigUint64Array)) return data;
  const out =
    data instanceof BigInt64Array ? new Int32Array(data.length) : new Uint32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    out[i] = Number(data[i]);
    if (BigInt(out[i]) !== data[i]) {
      throw new FormatError(
        'hdf5',
        `${what}: the 64-bit integers ${name === '' ? '' : `of ${name} `}must fit 32 bits, ` +
          `got ${data[i]} at element ${i}; read them with readMinari, which keeps them`,
      );
    }
  }
  return out;
}

/** Rewards as float32. */
export function toFloat32(data: TypedArray): Float32Array {
  if (data instanceof Float32Array) return data;
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = Number(data[i]);
  return out;
}

/** Flags as 0 and 1, from booleans or any numbers. */
export function toFlags(data: TypedArray): Uint8Array {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = Number(data[i]) === 0 ? 0 : 1;
  return out;
}
