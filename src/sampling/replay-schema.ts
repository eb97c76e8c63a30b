import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  packed,
  ShapeError,
  sizeOf,
  type TypedArray,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';

/** The array that stores each dtype. */
export interface ReplayArrays {
  /** 32-bit floats. */
  float32: Float32Array;
  /** 64-bit floats. */
  float64: Float64Array;
  /** Signed bytes. */
  int8: Int8Array;
  /** Signed 16-bit integers. */
  int16: Int16Array;
  /** Signed 32-bit integers. */
  int32: Int32Array;
  /** Bytes: images and flags. */
  uint8: Uint8Array;
  /** Unsigned 16-bit integers. */
  uint16: Uint16Array;
  /** Unsigned 32-bit integers. */
  uint32: Uint32Array;
}

/** Element type of a field. */
export type ReplayDtype = keyof ReplayArrays;

/** What one row holds of a field: a dtype alone is one number a row. */
export type ReplayField =
  | ReplayDtype
  | {
      /** Element type. */
      readonly dtype: ReplayDtype;
      /** Shape of one row's value; `[]`, one number, by default. */
      readonly shape?: readonly number[];
    };

/** The fields of a buffer's rows, by name. */
export type ReplaySchema = Readonly<Record<string, ReplayField>>;

/** The dtype of a field. */
export type ReplayDtypeOf<F extends ReplayField> = F extends {
  /** The stored type. */ readonly dtype: ReplayDtype;
}
  ? F['dtype']
  : F extends ReplayDtype
    ? F
    : never;

/** The array type that stores a field. */
export type ReplayArrayOf<F extends ReplayField> = ReplayArrays[ReplayDtypeOf<F>];

/** A view over the array that stores a field. */
export type ReplayViewOf<F extends ReplayField> =
  ReplayArrayOf<F> extends infer T extends TypedArray ? NdView<T> : never;

/** Many rows of a field: a typed array `[n]` for numbers, a view `[n, ...shape]` for the rest. */
export type ReplayColumn<F extends ReplayField> = F extends ReplayDtype
  ? ReplayArrayOf<F>
  : F extends {
        /** Length of each axis. */
        readonly shape: infer Shape extends readonly number[];
      }
    ? Shape extends readonly []
      ? ReplayArrayOf<F>
      : Shape extends readonly [number, ...number[]]
        ? ReplayViewOf<F>
        : ReplayArrayOf<F> | ReplayViewOf<F>
    : ReplayArrayOf<F>;

/** Many rows, by field. */
export type ReplayColumns<S extends ReplaySchema> = {
  readonly [K in keyof S]: ReplayColumn<S[K]>;
};

/** Windows of every field: views `[n, L, ...shape]`. */
export type ReplayWindows<S extends ReplaySchema> = {
  readonly [K in keyof S]: ReplayViewOf<S[K]>;
};

/** One row: a number for a field of one number; a typed array or a view for the rest. */
export type ReplayRow<S extends ReplaySchema> = {
  readonly [K in keyof S]: ReplayColumn<S[K]> extends infer C
    ? C extends NdView<infer T>
      ? T | NdView<T>
      : number
    : never;
};

/** A field of the ring: its element type, its shape and the array that stores it. */
export interface FieldStore {
  /** Name in the schema. */
  readonly name: string;
  /** Element type. */
  readonly dtype: ReplayDtype;
  /** Shape of one row's value. */
  readonly shape: readonly number[];
  /** Elements a row. */
  readonly width: number;
  /** The ring, `[capacity, ...shape]`. */
  readonly data: ReplayArrays[ReplayDtype];
}

const ARRAYS: {
  readonly [D in ReplayDtype]: new (
    length: number,
  ) => ReplayArrays[D];
} = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
};

/** Smallest and largest value of the integer types. */
const RANGES: Partial<Record<ReplayDtype, readonly [number, number]>> = {
  int8: [-(2 ** 7), 2 ** 7 - 1],
  int16: [-(2 ** 15), 2 ** 15 - 1],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  uint8: [0, 2 ** 8 - 1],
  uint16: [0, 2 ** 16 - 1],
  uint32: [0, 2 ** 32 - 1],
};

/** Names that a snapshot needs for itself. */
const RESERVED: readonly string[] = ['replayState', 'replayEpisodes'];

/** Fields that end episodes; they must be flags. */
const FLAGS: readonly string[] = ['terminated', 'truncated'];

/**
 * Makes the ring of each field.
 *
 * @throws TypeError when the schema is no schema, or `terminated` or `truncated` are not uint8 flags
 * @throws RangeError when a shape has a length that is no positive integer, or a ring is too long
 */
export function openStores(schema: ReplaySchema, capacity: number): FieldStore[] {
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
    throw new TypeError(
      `ReplayBuffer: schema must be an object of fields, got ${describe(schema)}`,
    );
  }
  const names = Object.keys(schema);
  if (names.length === 0) {
    throw new TypeError('ReplayBuffer: schema must have at least one field, got none');
  }
  const fields = names.map((name) => ({ name, ...normalise(name, schema[name]) }));
  return fields.map((field) => {
    const length = capacity * field.width;
    try {
      return { ...field, data: new ARRAYS[field.dtype](length) };
    } catch {
      throw new RangeError(
        `ReplayBuffer: field ${field.name} must fit in memory as one array, got ${length} elements ` +
          `of ${field.dtype}; lower the capacity`,
      );
    }
  });
}

/** A new array of a field's type, for `rows` rows. */
export function newArray({ dtype, width }: FieldStore, rows: number): ReplayArrays[ReplayDtype] {
  return new ARRAYS[dtype](rows * width);
}

/**
 * Checks one row's value of a field.
 *
 * @returns the number, or the elements in row-major order
 * @throws TypeError when it has the wrong type
 * @throws `ShapeError` when it has the wrong shape
 * @throws RangeError when it is a number that an integer field cannot hold
 */
export function expectValue(
  what: string,
  { name, dtype, shape, width }: FieldStore,
  value: unknown,
): number | ReplayArrays[ReplayDtype] {
  if (shape.length === 0) {
    if (typeof value !== 'number') {
      throw new TypeError(`${what}: ${name} must be a number, got ${describe(value)}`);
    }
    const range = RANGES[dtype];
    if (range && !(Number.isInteger(value) && value >= range[0] && value <= range[1])) {
      throw new RangeError(
        `${what}: ${name} must be an integer in ${range[0]}..${range[1]} (${dtype}), got ${value}`,
      );
    }
    return value;
  }
  const view = isNd(value);
  const data = view ? value.data : value;
  expectDtype(what, name, dtype, data, value, `[${shape}]`);
  if (view) {
    if (!sameShape(value.shape, shape)) {
      throw new ShapeError(`${what}: ${name} must have shape [${shape}], got [${value.shape}]`);
    }
    expectExtent(`${what}: ${name}`, value);
    return packed(value) as ReplayArrays[ReplayDtype];
  }
  if (data.length !== width) {
    throw new ShapeError(
      `${what}: ${name} must have ${width} elements for shape [${shape}], got ${data.length}`,
    );
  }
  return data;
}

/**
 * Checks many rows of a field.
 *
 * @param rows - how many there must be, or null for any number
 * @returns the elements in row-major order
 * @throws TypeError when they have the wrong type
 * @throws `ShapeError` when they have the wrong shape
 */
export function expectColumn(
  what: string,
  { name, dtype, shape, width }: FieldStore,
  value: unknown,
  rows: number | null,
): ReplayArrays[ReplayDtype] {
  const wanted = `[${[rows ?? 'n', ...shape].join(', ')}]`;
  const view = isNd(value);
  const data = view ? value.data : value;
  expectDtype(what, name, dtype, data, value, wanted);
  if (!view) {
    if (shape.length > 0) {
      throw new TypeError(
        `${what}: ${name} must be a view ${wanted}, got ${describe(value)}; make one with nd()`,
      );
    }
    if (rows !== null && data.length !== rows * width) {
      throw new ShapeError(`${what}: ${name} must have shape ${wanted}, got [${data.length}]`);
    }
    return data;
  }
  const [first, ...rest] = value.shape;
  if (first === undefined || !sameShape(rest, shape) || (rows !== null && first !== rows)) {
    throw new ShapeError(`${what}: ${name} must have shape ${wanted}, got [${value.shape}]`);
  }
  expectExtent(`${what}: ${name}`, value);
  return packed(value) as ReplayArrays[ReplayDtype];
}

/** The field of a stored column: a typed array holds one number a row, a view the shape it has. */
export function fieldOfColumn(what: string, name: string, value: unknown): ReplayField {
  const data = isNd(value) ? value.data : value;
  const found = Object.entries(ARRAYS).find(([, type]) => data instanceof type);
  if (found === undefined) {
    throw new TypeError(
      `${what}: ${name} must be a typed array or a view of ${Object.keys(ARRAYS).join(', ')}, ` +
        `got ${describe(value)}`,
    );
  }
  const dtype = found[0] as ReplayDtype;
  return isNd(value) && value.shape.length > 1 ? { dtype, shape: value.shape.slice(1) } : dtype;
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis]);
}

function expectDtype(
  what: string,
  name: string,
  dtype: ReplayDtype,
  data: unknown,
  value: unknown,
  shape: string,
): asserts data is ReplayArrays[ReplayDtype] {
  if (value === undefined) {
    throw new TypeError(`${what}: ${name} must be given, got undefined`);
  }
  if (!isTypedArray(data) || !(data instanceof ARRAYS[dtype])) {
    throw new TypeError(
      `${what}: ${name} must be ${dtype} ${shape} (${ARRAYS[dtype].name}), got ${describe(value)}`,
    );
  }
}

function normalise(
  name: string,
  field: ReplayField,
): { dtype: ReplayDtype; shape: readonly number[]; width: number } {
  if (RESERVED.includes(name)) {
    throw new TypeError(
      `ReplayBuffer: ${RESERVED.join(' and ')} are names that snapshots use; rename the field`,
    );
  }
  if (typeof field === 'object' && field !== null) {
    expectOptions(`ReplayBuffer: field ${name}`, field, ['dtype', 'shape']);
  }
  const { dtype, shape = [] } = typeof field === 'string' ? { dtype: field } : (field ?? {});
  if (typeof dtype !== 'string' || !Object.hasOwn(ARRAYS, dtype)) {
    throw new TypeError(
      `ReplayBuffer: the dtype of ${name} must be one of ${Object.keys(ARRAYS).join(', ')}, ` +
        `got ${typeof dtype === 'string' ? dtype : describe(dtype)}`,
    );
  }
  if (!Array.isArray(shape)) {
    throw new TypeError(
      `ReplayBuffer: the shape of ${name} must be an array of lengths, got ${describe(shape)}`,
    );
  }
  for (const length of shape as readonly number[]) {
    if (!Number.isInteger(length) || length < 1) {
      throw new RangeError(
        `ReplayBuffer: the shape of ${name} must consist of positive integers, got [${shape}]`,
      );
    }
  }
  if (FLAGS.includes(name) && (dtype !== 'uint8' || shape.length > 0)) {
    throw new TypeError(
      `ReplayBuffer: ${name} ends episodes and must be a flag, 'uint8', got ${dtype} [${shape}]`,
    );
  }
  return { dtype, shape: [...shape], width: sizeOf(shape) };
}
