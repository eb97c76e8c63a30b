/**
 * How far a dream drifts: imagined states against those the true system reached from the same start
 * under the same actions.
 */

import { type NdView, nd, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type FloatView, flagMatrix, floats, type Scale, scaleOf } from './arguments.js';

/** What {@link openLoopError} counts, and in which unit. */
export interface OpenLoopOptions {
  /** `[B, T]` uint8: 1 where step `h` of a row counts; by default all do. */
  readonly mask?: NdView<Uint8Array>;
  /**
   * `[S]`: what an error of 1 is in each dimension, usually the standard deviation of the states in
   * the data; by default 1, which leaves the states' own units. Where an ensemble's inputs are
   * normalised, its `manifest.inputNormalizer.std` holds it: the first `S` entries, before those of the
   * action.
   */
  readonly scale?: Scale;
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
  imagined: FloatView,
  actual: FloatView,
  options: OpenLoopOptions = {},
): OpenLoopError {
  expectOptions('openLoopError', options, ['mask', 'scale']);
  const names = { imagined: 'imagined', actual: 'actual' };
  const { mse, perRow, count } = squaredErrors('openLoopError', names, imagined, actual, options);
  const shape = [imagined.shape[0], mse.length];
  return { rmse: mse.map(Math.sqrt), perRow: nd(Float32Array.from(perRow), shape), count };
}

/** Errors before their mean's root is taken. */
export interface SquaredErrors {
  /** `[T]`: mean over rows and dimensions of the squared scaled error; NaN where no row counts. */
  mse: Float64Array;
  /** `[B * T]`: root mean square error of each row; NaN where the step does not count. */
  perRow: Float64Array;
  /** `[T]`: rows that count. */
  count: Int32Array;
}

/**
 * What {@link openLoopError} is made of.
 *
 * @param names - of the two arguments, for messages
 */
export function squaredErrors(
  what: string,
  names: { imagined: string; actual: string },
  imagined: FloatView,
  actual: FloatView,
  options: OpenLoopOptions,
): SquaredErrors {
  const guess = floats(what, names.imagined, imagined);
  const truth = floats(what, names.actual, actual);
  const [rows, points, dims] = imagined.shape;
  if (imagined.shape.length !== 3 || points < 1 || dims < 1) {
    throw new ShapeError(
      `${what}: ${names.imagined} must have shape [B, T+1, S] with S at least 1, ` +
        `got [${imagined.shape}]`,
    );
  }
  if (actual.shape.join() !== imagined.shape.join()) {
    throw new ShapeError(
      `${what}: ${names.actual} must have the shape of ${names.imagined}, [${imagined.shape}], ` +
        `got [${actual.shape}]`,
    );
  }
  const horizon = points - 1;
  const mask = flagMatrix(what, 'mask', options.mask, [rows, horizon]);
  const scale = scaleOf(what, options.scale, dims);

  const mse = new Float64Array(horizon);
  const count = new Int32Array(horizon);
  const perRow = new Float64Array(rows * horizon).fill(Number.NaN);
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
          `${what}: every state that counts must be finite, ` +
            `got another at row ${row}, horizon ${step + 1}; leave it out by the mask`,
        );
      }
      mse[step] += sum;
      count[step]++;
      perRow[cell] = Math.sqrt(sum / dims);
    }
  }
  // Without rows this is 0 / 0, which is the NaN that is promised.
  for (let step = 0; step < horizon; step++) mse[step] /= count[step] * dims;
  return { mse, perRow, count };
}
