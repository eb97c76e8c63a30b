/**
 * The array every module of this library speaks in: a strided view over a typed array.
 *
 * One value per row (rank 1) is a plain typed array; rank 2 and above is an {@link NdView}; flags are
 * `Uint8Array`. An `ndarray` object has these four fields, so it is an `NdView` as it is.
 */

/** The element stores a view may lie over. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/**
 * A strided view over a typed array; element `[i, j, ...]` is
 * `data[offset + i * stride[0] + j * stride[1] + ...]`.
 */
export interface NdView<T extends TypedArray = Float32Array> {
  /** The elements, shared with whoever made the view. */
  readonly data: T;
  /** Length of each axis. */
  readonly shape: readonly number[];
  /** Distance in elements between neighbours along each axis. */
  readonly stride: readonly number[];
  /** Index of the first element in `data`. */
  readonly offset: number;
}

/** Numbers nested to any depth, every level of one length: `[[1, 2], [3, 4]]`; rows may be typed. */
export type NestedNumbers =
  | readonly number[]
  | Float32Array
  | Float64Array
  | readonly NestedNumbers[];

/** An array had the wrong shape: the message says which shape must hold and which came. */
export class ShapeError extends RangeError {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'ShapeError';
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const length of shape) size *= length;
  return size;
}

/** Whether a value is a view: has `data`, `shape`, `stride` and `offset` of the right kinds. */
export function isNd(value: unknown): value is NdView<TypedArray> {
  if (typeof value !== 'object' || value === null) return false;
  const view = value as Partial<NdView<TypedArray>>;
  return (
    ArrayBuffer.isView(view.data) &&
    Array.isArray(view.shape) &&
    Array.isArray(view.stride) &&
    typeof view.offset === 'number'
  );
}

/**
 * Makes a row-major view.
 *
 * @param data - a typed array, shared and not copied; or nested numbers, converted to float32
 * @param shape - the length of each axis; by default `[data.length]`, or the nesting's own shape
 * @returns a view of that shape at offset 0
 * @throws {@link ShapeError} when the shape and the number of elements disagree or rows are ragged
 * @throws TypeError when `data` is neither a typed array nor numbers
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * expect(nd([[1, 2, 3], [4, 5, 6]]).shape).toEqual([2, 3]);
 * expect(nd(new Float32Array(6), [3, 2]).stride).toEqual([2, 1]);
 * ```
 */
export function nd<T extends TypedArray>(data: T, shape?: readonly number[]): NdView<T>;
export function nd(data: NestedNumbers, shape?: readonly number[]): NdView<Float32Array>;
export function nd(
  data: TypedArray | NestedNumbers,
  shape?: readonly number[],
): NdView<TypedArray> {
  let elements: TypedArray;
  let natural: readonly number[];
  if (isTypedArray(data)) {
    elements = data;
    natural = [data.length];
  } else if (Array.isArray(data)) {
    natural = nestedShape(data);
    elements = new Float32Array(sizeOf(natural));
    flatten(data, natural, 0, elements, 0);
  } else {
    throw new TypeError(
      `nd: data must be a typed array or nested numbers, got ${describe(data)}; ` +
        'an ndarray or another view needs no conversion',
    );
  }
  const dims = shape ?? natural;
  for (const length of dims) {
    if (!Number.isInteger(length) || length < 0) {
      throw new ShapeError(`nd: each length must be a non-negative integer, got [${dims}]`);
    }
  }
  if (sizeOf(dims) !== elements.length) {
    throw new ShapeError(
      `nd: shape [${dims}] needs ${sizeOf(dims)} elements, got ${elements.length}`,
    );
  }
  return { data: elements, shape: [...dims], stride: rowMajor(dims), offset: 0 };
}

/** A view of zeros, float32. */
export function zeros(shape: readonly number[]): NdView {
  return nd(new Float32Array(sizeOf(shape)), shape);
}

/** Whether a value is one of the element stores a view may lie over. */
export function isTypedArray(value: unknown): value is TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

/**
 * The elements of a view in row-major order.
 *
 * Shares memory with the view where it is packed already and copies where it is not, so treat the
 * result as read-only.
 */
export function packed<T extends TypedArray>(view: NdView<T>): T {
  const { data, shape, stride, offset } = view;
  const size = sizeOf(shape);
  if (isPacked(shape, stride)) {
    return offset === 0 && data.length === size
      ? data
      : (data.subarray(offset, offset + size) as T);
  }
  const out = newLike(data, size);
  copyStrided(data, shape, stride, offset, 0, out, 0);
  return out;
}

/** The view itself where it is row-major from offset 0 over all of its data, else a packed copy. */
export function rowMajorView<T extends TypedArray>(view: NdView<T>): NdView<T> {
  const data = packed(view);
  return data === view.data ? view : nd(data, view.shape);
}

/**
 * Rows of a view, copied out: `out[i] = view[rows[i]]` along the first axis.
 *
 * @param view - any rank of at least 1, `[B, ...]`
 * @param rows - row numbers within `B`, in any order, repeats allowed
 * @returns a packed copy `[rows.length, ...]`
 * @throws RangeError when a row number is outside the view
 */
export function gatherRows<T extends TypedArray>(view: NdView<T>, rows: Int32Array): NdView<T> {
  const [batch, ...inner] = view.shape;
  const width = sizeOf(inner);
  const source = packed(view);
  let inOrder = rows.length === batch;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    if (row < 0 || row >= batch) {
      throw new RangeError(`gatherRows: rows must lie in 0..${batch - 1}, got ${row} at ${i}`);
    }
    inOrder &&= row === i;
  }
  if (inOrder) return nd(source.slice() as T, view.shape);
  const out = newLike(source, rows.length * width);
  for (let i = 0, to = 0; i < rows.length; i++) {
    const from = rows[i] * width;
    for (let j = 0; j < width; j++) out[to++] = source[from + j];
  }
  return nd(out, [rows.length, ...inner]);
}

/**
 * Checks that a view lies within its data, which would else be filled up with NaN.
 *
 * @param what - the name used in messages
 * @throws {@link ShapeError} when its shape, strides and offset reach beyond the elements
 */
export function expectExtent(
  what: string,
  { data, shape, stride, offset }: NdView<TypedArray>,
): void {
  let first = offset;
  let last = offset;
  for (let axis = 0; axis < shape.length; axis++) {
    const reach = (shape[axis] - 1) * stride[axis];
    if (reach < 0) first += reach;
    else last += reach;
  }
  const fits =
    stride.length === shape.length &&
    Number.isInteger(offset) &&
    stride.every(Number.isInteger) &&
    shape.every((length) => Number.isInteger(length) && length >= 0) &&
    (shape.includes(0) || (first >= 0 && last < data.length));
  if (!fits) {
    throw new ShapeError(
      `${what} must be a view within its ${data.length} elements, got shape [${shape.join(', ')}], ` +
        `stride [${stride.join(', ')}], offset ${offset}`,
    );
  }
}

/**
 * Checks that a value is a float32 matrix of a given height and width; null leaves one open.
 *
 * @param what - the name used in messages, such as `imagine: start`
 * @returns the value, as a view
 * @throws TypeError when it is no view of `Float32Array`
 * @throws {@link ShapeError} when it is not `[rows, width]` or reaches beyond its data
 */
export function expectMatrix(
  what: string,
  value: unknown,
  rows: number | null,
  width: number | null,
): NdView {
  const wanted = `[${rows ?? 'B'}, ${width ?? 'N'}]`;
  if (!isNd(value)) {
    throw new TypeError(
      `${what} must be a view ${wanted}, got ${describe(value)}; make one with nd()`,
    );
  }
  if (!(value.data instanceof Float32Array)) {
    throw new TypeError(
      `${what} must be float32, got ${describe(value)}; convert it, as in Float32Array.from(data)`,
    );
  }
  const { shape } = value;
  const fits = (length: number | null, axis: number) => length === null || shape[axis] === length;
  if (shape.length !== 2 || !fits(rows, 0) || !fits(width, 1)) {
    throw new ShapeError(`${what} must have shape ${wanted}, got [${shape}]`);
  }
  expectExtent(what, value);
  return value as NdView;
}

/** A new typed array of the same element type. */
function newLike<T extends TypedArray>(data: T, length: number): T {
  return new (data.constructor as new (length: number) => T)(length);
}

/** What a value is, for error messages: `Float64Array`, `array`, `null`, `[4, 3] view`. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (isNd(value)) return `a [${value.shape}] view of ${value.data.constructor.name}`;
  if (typeof value === 'object') {
    // Bundlers put an underscore before the names of some classes.
    const name = (value.constructor?.name ?? 'object').replace(/^_/, '');
    return `${/^[AEIO]/i.test(name) ? 'an' : 'a'} ${name}`;
  }
  return typeof value;
}

/** The strides of a shape whose elements lie one after another. */
export function rowMajor(shape: readonly number[]): number[] {
  const stride = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    stride[axis] = step;
    step *= shape[axis];
  }
  return stride;
}

/**
 * Whether the axes from one on lie row-major without gaps. Those of length 1 may have any stride; they are
 * never stepped along.
 */
export function isPacked(
  shape: readonly number[],
  stride: readonly number[],
  first: number = 0,
): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= first; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== step) return false;
    step *= shape[axis];
  }
  return true;
}

/** Copies the axes from one on, row-major, to `out[to..]`; returns the end. */
export function copyStrided(
  data: TypedArray,
  shape: readonly number[],
  stride: readonly number[],
  from: number,
  axis: number,
  out: TypedArray,
  to: number,
): number {
  if (axis === shape.length) {
    out[to] = data[from];
    return to + 1;
  }
  for (let i = 0; i < shape[axis]; i++) {
    to = copyStrided(data, shape, stride, from + i * stride[axis], axis + 1, out, to);
  }
  return to;
}

function nestedShape(data: NestedNumbers): number[] {
  const shape: number[] = [];
  let level: unknown = data;
  while (isList(level)) {
    shape.push(level.length);
    level = level[0];
  }
  return shape;
}

function flatten(
  data: unknown,
  shape: readonly number[],
  axis: number,
  out: TypedArray,
  to: number,
): number {
  if (axis === shape.length) {
    if (typeof data !== 'number') {
      throw new TypeError(`nd: nested values must be numbers, got ${describe(data)}`);
    }
    out[to] = data;
    return to + 1;
  }
  if (!isList(data) || data.length !== shape[axis]) {
    throw new ShapeError(
      `nd: rows must have one length; axis ${axis} has ${shape[axis]}, ` +
        `got ${isList(data) ? data.length : describe(data)}`,
    );
  }
  for (let i = 0; i < data.length; i++) to = flatten(data[i], shape, axis + 1, out, to);
  return to;
}

function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || isTypedArray(value);
}
