/** What the trajectory converters share: taking arrays apart, and making a trajectory of them. */

import {
  describe,
  expectExtent,
  isNd,
  type NdView,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { Trajectory } from './trajectory.js';

/** The elements of a trajectory in departure alignment, row-major; past a row's end they are not read. */
export interface TrajectoryParts {
  /** Rows, `B`. */
  readonly rows: number;
  /** Room for steps, `T`. */
  readonly horizon: number;
  /** `S`. */
  readonly obsSize: number;
  /** `A`. */
  readonly actionSize: number;
  /** `[B, T + 1, S]`. */
  readonly obs: Float32Array;
  /** `[B, T, A]`. */
  readonly action: Float32Array;
  /** `[B, T]`. */
  readonly reward: Float32Array;
  /** `[B, T]`. */
  readonly terminated: Uint8Array;
  /** `[B, T]`; nothing where it is left out. */
  readonly truncated?: Uint8Array;
  /** Steps of each row, `[B]`. */
  readonly length: Int32Array;
}

/**
 * A trajectory of these elements: no penalties, no uncertainty, no members.
 *
 * A row ends at its last step: where that is not terminated it was cut, flagged or not, and where it is
 * flagged as both, it terminated.
 *
 * @throws RangeError when a row goes on after an end
 */
export function trajectoryOf(what: string, parts: TrajectoryParts): Trajectory {
  const { rows, horizon, obsSize, actionSize, length, truncated: cuts } = parts;
  const out = new Trajectory(rows, horizon, obsSize, actionSize);
  out.length.set(length);
  for (let row = 0; row < rows; row++) {
    const steps = length[row];
    const first = row * horizon;
    const from = row * (horizon + 1) * obsSize;
    out.obs.data.set(parts.obs.subarray(from, from + (steps + 1) * obsSize), from);
    const actions = parts.action.subarray(first * actionSize, (first + steps) * actionSize);
    out.action.data.set(actions, first * actionSize);
    for (let t = 0; t < steps; t++) {
      const at = first + t;
      const terminated = parts.terminated[at] !== 0 ? 1 : 0;
      const last = t === steps - 1 ? 1 : 0;
      if (last === 0 && (terminated !== 0 || (cuts !== undefined && cuts[at] !== 0))) {
        throw new RangeError(
          `${what}: a row must end where it is terminated or truncated, got an end at [${row}, ${t}] ` +
            `of ${steps} steps; split rows where episodes end`,
        );
      }
      out.reward.data[at] = parts.reward[at];
      out.rawReward.data[at] = parts.reward[at];
      out.terminated.data[at] = terminated;
      out.truncated.data[at] = last - (last & terminated);
      out.last.data[at] = last;
      out.mask.data[at] = 1;
      out.discount.data[at] = 1 - terminated;
    }
  }
  return out;
}

/**
 * Checks that nothing follows a row's end where no mask tells padding from another episode: whatever is
 * not 0 there would be lost.
 *
 * @param length - entries of each row that count, `[B]`
 * @param arrays - by name, `[B, places, ...]` each
 * @throws RangeError when an entry after them is not 0
 */
export function expectZerosAfter(
  what: string,
  length: Int32Array,
  places: number,
  arrays: Readonly<Record<string, Float32Array | Uint8Array>>,
): void {
  const rows = length.length;
  if (rows === 0 || places === 0) return;
  for (const [name, data] of Object.entries(arrays)) {
    const width = data.length / (rows * places);
    for (let row = 0; row < rows; row++) {
      const end = (row + 1) * places * width;
      for (let i = (row * places + length[row]) * width; i < end; i++) {
        if (data[i] === 0) continue;
        const at = Math.floor(i / width) - row * places;
        throw new RangeError(
          `${what}: without a mask, ${name} must be 0 after a row's end, got ${data[i]} at ` +
            `[${row}, ${at}]; give a mask, or split rows where episodes end`,
        );
      }
    }
  }
}

/** @throws TypeError when what should hold arrays by name is no object */
export function expectArrays(what: string, arrays: unknown): void {
  if (typeof arrays !== 'object' || arrays === null) {
    throw new TypeError(`${what} must be an object of arrays, got ${describe(arrays)}`);
  }
}

/**
 * Steps of each row: those the mask shows, or up to the first end where there is none.
 *
 * @param mask - `[B, T]`
 * @param ends - flags of which any ends a row, `[B, T]`
 * @throws RangeError when a mask rises again
 */
export function lengthsOf(
  what: string,
  rows: number,
  horizon: number,
  mask: Uint8Array | undefined,
  ends: readonly Uint8Array[],
): Int32Array {
  const length = new Int32Array(rows);
  for (let row = 0; row < rows; row++) {
    const first = row * horizon;
    let steps = 0;
    if (mask === undefined) {
      while (steps < horizon) {
        const at = first + steps++;
        if (ends.some((flags) => flags[at] !== 0)) break;
      }
    } else {
      while (steps < horizon && mask[first + steps] !== 0) steps++;
      for (let t = steps; t < horizon; t++) {
        if (mask[first + t] !== 0) {
          throw new RangeError(
            `${what}: mask must not rise again, got a step at [${row}, ${t}] after the end at ${steps}`,
          );
        }
      }
    }
    length[row] = steps;
  }
  return length;
}

/**
 * Checks an array of a layout.
 *
 * @param shape - the lengths that must hold, null leaving one open
 * @returns the elements, row-major; to be read only
 */
export function expectView<T extends TypedArray>(
  what: string,
  value: unknown,
  store: new () => T,
  shape: readonly (number | null)[],
): T {
  const wanted = `[${shape.map((length) => length ?? 'N').join(', ')}]`;
  if (!isNd(value) || !(value.data instanceof store)) {
    throw new TypeError(
      `${what} must be a view ${wanted} of ${store.name}, got ${describe(value)}`,
    );
  }
  const fits = shape.every((length, axis) => length === null || value.shape[axis] === length);
  if (value.shape.length !== shape.length || !fits) {
    throw new ShapeError(`${what} must have shape ${wanted}, got [${value.shape}]`);
  }
  expectExtent(what, value);
  return packed(value as unknown as NdView<T>);
}

/** Checks an array that may be absent. */
export function expectOptionalView<T extends TypedArray>(
  what: string,
  value: unknown,
  store: new () => T,
  shape: readonly (number | null)[],
): T | undefined {
  return value === undefined ? undefined : expectView(what, value, store, shape);
}

/** Steps `[from, to)` of a view `[B, T, ...]`, not copied. */
export function stepsOf<T extends TypedArray>(
  view: NdView<T>,
  from: number,
  to: number,
): NdView<T> {
  const [rows, , ...inner] = view.shape;
  return {
    data: view.data,
    shape: [rows, to - from, ...inner],
    stride: view.stride,
    offset: view.offset + from * view.stride[1],
  };
}

/** A view with its first two axes changed for each other, not copied. */
export function swapped<T extends TypedArray>(view: NdView<T>): NdView<T> {
  const [a, b, ...lengths] = view.shape;
  const [p, q, ...strides] = view.stride;
  return { ...view, shape: [b, a, ...lengths], stride: [q, p, ...strides] };
}

/** The elements, row-major, in memory of their own. */
export function copyOf<T extends TypedArray>(view: NdView<T>): T {
  const data = packed(view);
  return data.buffer === view.data.buffer ? (data.slice() as T) : data;
}

/**
 * Observations `[B, T + 1, S]` of those before and after each step; the last of a row is the one after its
 * last step.
 *
 * @throws RangeError when the one after a step is not the one before the next
 */
export function joinObs(
  what: string,
  obs: Float32Array,
  nextObs: Float32Array,
  horizon: number,
  obsSize: number,
  length: Int32Array,
): Float32Array {
  const rows = length.length;
  const out = new Float32Array(rows * (horizon + 1) * obsSize);
  for (let row = 0; row < rows; row++) {
    const steps = length[row];
    const from = row * horizon * obsSize;
    const to = row * (horizon + 1) * obsSize;
    const inner = (steps - 1) * obsSize;
    for (let i = 0; i < inner; i++) {
      const after = nextObs[from + i];
      const before = obs[from + obsSize + i];
      if (after !== before && !(Number.isNaN(after) && Number.isNaN(before))) {
        throw new RangeError(
          `${what}: the observation after a step must be the one before the next, got ${after} and ` +
            `${before} after step ${Math.floor(i / obsSize)} of row ${row}; split rows where episodes end`,
        );
      }
    }
    // A row without steps still has its start.
    const seen = Math.max(steps, Math.min(horizon, 1)) * obsSize;
    out.set(obs.subarray(from, from + seen), to);
    if (steps > 0) {
      out.set(nextObs.subarray(from + inner, from + inner + obsSize), to + steps * obsSize);
    }
  }
  return out;
}
