/**
 * How far a dream drifts: imagined states against those the true system reached from the same start
 * under the same actions.
 */

import { describe, isNd, type NdView, nd, packed, ShapeError } from '../nd.js';

/** What {@link openLoopError} counts, and in which unit. */
export interface OpenLoopOptions {
  /** `[B, T]` uint8: 1 where step `h` of a row counts; by default all do. */
  readonly mask?: NdView<Uint8Array>;
  /**
   * `[S]`: what an error of 1 is in each dimension, usually the standard deviation of the states in
   * the data; by default 1, which leaves the states' own units.
   */
  readonly scale?: Float32Array | Float64Array | readonly number[];
}

/** Error by horizon; `T` horizons, horizon `h` at index `h - 1`. */
export interface OpenLoopError {
  /**
   * `[T]`: root of the mean, over the rows that count at that horizon and over all dimensions, of the
   * squared scaled error; NaN where no row counts.
   */
  readonly rmse: Float64Array;
  /** `[B, T]` float32: the same of one row alone; NaN where the step does not count. */
  readonly perRow: NdView<Float32Array>;
  /** `[T]`: how many rows count at that horizon. */
  readonly count: Int32Array;
}

/**
 * Open-loop error of imagined states by horizon.
 *
 * Horizon `h` compares `imagined[:, h]` with `actual[:, h]` for `h` from 1 to `T`. Index 0 is the start,
 * which both were given, and is left out. Steps that the mask leaves out, such as those after a row
 * ended, count nowhere, and may hold anything. So later horizons can rest on fewer rows: read `rmse`
 * together with `count`.
 *
 * @param imagined - `[B, T+1, S]` float32 or float64, for example `trajectory.obs`
 * @param actual - `[B, T+1, S]`, the true states under the same actions
 * @param options - `mask` `[B, T]`, `scale` `[S]`
 * @returns error by horizon, for all rows and for each
 * @throws `ShapeError` when shapes do not fit together
 * @throws RangeError when a scale is not positive, or a state that counts is not finite
 * @throws TypeError when an argument is of another kind
 *
 * Source: the usual k-step open-loop evaluation of learned dynamics; mbrl-lib (Pineda et al. 2021,
 * "MBRL-Lib: a modular library for model-based reinforcement learning") draws the same comparison in
 * its visualizer.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { openLoopError } = await import('umwelt/evaluation');
 * const imagined = nd(new Float32Array([0, 1, 4]), [1, 3, 1]);
 * const actual = nd(new Float32Array([0, 2, 2]), [1, 3, 1]);
 * const { rmse } = openLoopError(imagined, actual, { scale: [2] });
 * expect(rmse).toEqual(new Float64Array([0.5, 1])); // after one step, after two
 * ```
 */
export function openLoopError(
  imagined: NdView<Float32Array> | NdView<Float64Array>,
  actual: NdView<Float32Array> | NdView<Float64Array>,
  options: OpenLoopOptions = {},
): OpenLoopError {
  const guess = floats(imagined, 'imagined');
  const truth = floats(actual, 'actual');
  const [rows, points, dims] = imagined.shape as [number, number, number];
  if (imagined.shape.length !== 3 || points < 1 || dims < 1) {
    throw new ShapeError(
      'openLoopError: imagined must have shape [B, T+1, S] with S at least 1, ' +
        `got [${imagined.shape}]`,
    );
  }
  if (actual.shape.join() !== imagined.shape.join()) {
    throw new ShapeError(
      `openLoopError: actual must have the shape of imagined, [${imagined.shape}], ` +
        `got [${actual.shape}]`,
    );
  }
  const horizon = points - 1;
  const mask = checkedMask(options.mask, rows, horizon);
  const scale = checkedScale(options.scale, dims);

  const rmse = new Float64Array(horizon);
  const count = new Int32Array(horizon);
  const perRow = new Float32Array(rows * horizon).fill(Number.NaN);
  for (let row = 0; row < rows; row++) {
    for (let step = 0; step < horizon; step++) {
      const cell = row * horizon + step;
      if (mask !== null && mask[cell] === 0) continue;
      const base = (row * points + step + 1) * dims;
      let sum = 0;
      for (let dim = 0; dim < dims; dim++) {
        const error = (guess[base + dim] - truth[base + dim]) / scale[dim];
        sum += error * error;
      }
      if (!Number.isFinite(sum)) {
        throw new RangeError(
          'openLoopError: every state that counts must be finite, ' +
            `got another at row ${row}, horizon ${step + 1}; leave it out by the mask`,
        );
      }
      rmse[step] = rmse[step] + sum;
      count[step] = count[step] + 1;
      perRow[cell] = Math.sqrt(sum / dims);
    }
  }
  // Without rows this is 0 / 0, which is the NaN that is promised.
  for (let step = 0; step < horizon; step++) {
    rmse[step] = Math.sqrt(rmse[step] / (count[step] * dims));
  }
  return { rmse, perRow: nd(perRow, [rows, horizon]), count };
}

function floats(
  view: NdView<Float32Array> | NdView<Float64Array>,
  name: string,
): ArrayLike<number> {
  if (!isNd(view) || !(view.data instanceof Float32Array || view.data instanceof Float64Array)) {
    throw new TypeError(
      `openLoopError: ${name} must be a float32 or float64 view, got ${describe(view)}; ` +
        'nd(data, shape) makes one',
    );
  }
  return packed<Float32Array | Float64Array>(view);
}

function checkedMask(
  mask: NdView<Uint8Array> | undefined,
  rows: number,
  horizon: number,
): Uint8Array | null {
  if (mask === undefined) return null;
  if (!isNd(mask) || !(mask.data instanceof Uint8Array)) {
    throw new TypeError(`openLoopError: mask must be a uint8 view, got ${describe(mask)}`);
  }
  if (mask.shape.length !== 2 || mask.shape[0] !== rows || mask.shape[1] !== horizon) {
    throw new ShapeError(
      `openLoopError: mask must have shape [B, T] = [${rows}, ${horizon}], got [${mask.shape}]`,
    );
  }
  return packed(mask);
}

function checkedScale(scale: OpenLoopOptions['scale'], dims: number): Float64Array {
  if (scale === undefined) return new Float64Array(dims).fill(1);
  const result = Float64Array.from(scale);
  if (result.length !== dims) {
    throw new ShapeError(
      `openLoopError: scale must have one value for each of the ${dims} dimensions, ` +
        `got ${result.length}`,
    );
  }
  for (let dim = 0; dim < dims; dim++) {
    const value = result[dim];
    if (!(value > 0 && value < Number.POSITIVE_INFINITY)) {
      throw new RangeError(
        `openLoopError: scale must be positive and finite, got ${value} at dimension ${dim}; ` +
          'use 1 for a dimension that never varies',
      );
    }
  }
  return result;
}
