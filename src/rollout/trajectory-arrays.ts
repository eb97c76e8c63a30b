import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import type { NamedArrays } from './named-arrays.js';
import { expectTrajectory, TRAJECTORY_FIELDS, Trajectory } from './trajectory.js';

const SCORE = 'score.';
const EXTRA = 'extra.';

/**
 * Everything a trajectory holds as arrays by name, whole and padded: `obs [B, T + 1, S]`, `reward [B, T]`
 * and so on, further scores as `score.name`, extras as `extra.name`, `length [B]` and `nonFinite [1]`.
 *
 * `writeNpz` and `writeSafetensors` of `umwelt/formats` take them as they are, and
 * {@link trajectoryFromArrays} makes the trajectory again of what is read back.
 *
 * @returns the trajectory's own views, not copied
 * @throws TypeError when `trajectory` is none
 *
 * @example
 * ```ts
 * await writeFile('dream.npz', writeNpz(trajectoryArrays(trajectory)));
 * const again = trajectoryFromArrays(readNpz(await readFile('dream.npz')));
 * ```
 */
export function trajectoryArrays(trajectory: Trajectory): NamedArrays {
  expectTrajectory('trajectoryArrays', trajectory);
  const arrays: NamedArrays = {};
  for (const name of TRAJECTORY_FIELDS) arrays[name] = trajectory[name];
  arrays.length = trajectory.length;
  arrays.nonFinite = Int32Array.of(trajectory.nonFinite);
  const { logProb, value, bootstrap, scores = {}, extras = {} } = trajectory;
  if (logProb) arrays.logProb = logProb;
  if (value) arrays.value = value;
  if (bootstrap) arrays.bootstrap = bootstrap;
  for (const [name, score] of Object.entries(scores)) arrays[SCORE + name] = score;
  for (const [name, extra] of Object.entries(extras)) arrays[EXTRA + name] = extra;
  return arrays;
}

/**
 * A trajectory of the arrays of {@link trajectoryArrays}, as they were or as a file gives them.
 *
 * @param arrays - by name, views of any strides; other names are left aside
 * @returns a trajectory with arrays of its own
 * @throws TypeError or {@link ShapeError} when an array is missing or not of its type and shape
 * @throws RangeError when a row's length is not in `0..T`, or its mask is not 1 in just its first steps
 */
export function trajectoryFromArrays(
  arrays: Readonly<Record<string, NdView<TypedArray> | TypedArray | undefined>>,
): Trajectory {
  const what = 'trajectoryFromArrays';
  if (typeof arrays !== 'object' || arrays === null) {
    throw new TypeError(`${what}: arrays must be an object of arrays, got ${describe(arrays)}`);
  }
  const [rows, horizon, actionSize] = shapeOf(what, 'action', arrays.action);
  const [, , obsSize] = shapeOf(what, 'obs', arrays.obs);
  const trajectory = new Trajectory(rows, horizon, obsSize, actionSize);
  for (const name of TRAJECTORY_FIELDS) {
    const { data, shape } = trajectory[name];
    data.set(elements(what, name, arrays[name], kindOf(data), shape));
  }
  trajectory.length.set(elements(what, 'length', arrays.length, Int32Array, [rows]));
  expectLengths(what, trajectory);
  const [nonFinite] = elements(what, 'nonFinite', arrays.nonFinite, Int32Array, [1]);
  trajectory.nonFinite = nonFinite;

  const floats = (name: string, shape: readonly number[]): NdView =>
    nd(elements(what, name, arrays[name], Float32Array, shape).slice(), shape);
  if (arrays.logProb) trajectory.logProb = floats('logProb', [rows, horizon]);
  if (arrays.value) trajectory.value = floats('value', [rows, horizon + 1]);
  if (arrays.bootstrap) trajectory.bootstrap = floats('bootstrap', [rows]).data;
  const scores: Record<string, NdView> = {};
  const extras: Record<string, NdView<TypedArray>> = {};
  for (const [name, value] of Object.entries(arrays)) {
    if (value === undefined) continue;
    if (name.startsWith(SCORE)) scores[name.slice(SCORE.length)] = floats(name, [rows, horizon]);
    if (name.startsWith(EXTRA)) {
      const view = viewOf(what, name, value);
      const shape = [rows, horizon, ...view.shape.slice(2)];
      const data = elements(what, name, value, kindOf(view.data), shape).slice() as TypedArray;
      extras[name.slice(EXTRA.length)] = nd(data, shape);
    }
  }
  if (Object.keys(scores).length > 0) trajectory.scores = scores;
  if (Object.keys(extras).length > 0) trajectory.extras = extras;
  return trajectory;
}

/** Checks that lengths and masks tell the same. */
function expectLengths(what: string, { length, mask }: Trajectory): void {
  const [rows, horizon] = mask.shape;
  for (let row = 0; row < rows; row++) {
    const steps = length[row];
    if (steps < 0 || steps > horizon) {
      throw new RangeError(`${what}: length must lie in 0..${horizon}, got ${steps} at ${row}`);
    }
    for (let t = 0; t < horizon; t++) {
      const flag = mask.data[row * horizon + t];
      const wanted = t < steps ? 1 : 0;
      if (flag !== wanted) {
        throw new RangeError(
          `${what}: mask must be ${wanted} at [${row}, ${t}] of a row of ${steps} steps, got ${flag}`,
        );
      }
    }
  }
}

function shapeOf(what: string, name: string, value: unknown): readonly number[] {
  const { shape } = viewOf(what, name, value);
  if (shape.length !== 3) {
    throw new ShapeError(`${what}: ${name} must have three axes, got [${shape}]`);
  }
  return shape;
}

function viewOf(what: string, name: string, value: unknown): NdView<TypedArray> {
  const view = isTypedArray(value) ? nd(value) : value;
  if (!isNd(view)) {
    throw new TypeError(`${what}: ${name} must be an array, got ${describe(value)}`);
  }
  return view;
}

function elements<T extends TypedArray>(
  what: string,
  name: string,
  value: unknown,
  store: new (length: number) => T,
  shape: readonly number[],
): T {
  const view = viewOf(what, name, value);
  if (!(view.data instanceof store)) {
    throw new TypeError(`${what}: ${name} must be a ${store.name}, got ${describe(value)}`);
  }
  const { shape: given } = view;
  if (given.length !== shape.length || given.some((length, axis) => length !== shape[axis])) {
    throw new ShapeError(`${what}: ${name} must have shape [${shape}], got [${given}]`);
  }
  expectExtent(`${what}: ${name}`, view);
  return packed(view as unknown as NdView<T>);
}

function kindOf<T extends TypedArray>(data: T): new (length: number) => T {
  return data.constructor as new (
    length: number,
  ) => T;
}
