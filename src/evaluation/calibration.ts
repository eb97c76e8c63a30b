/**
 * Whether predicted probabilities are borne out: of Gaussians and mixtures of them, by the values their
 * distribution functions take at what happened.
 */

import { describe, isNd, type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import {
  expectOneShape,
  type FlagSeries,
  type FloatView,
  maskOf,
  type NumberSeries,
  series,
} from './arguments.js';
import {
  crpsOf,
  type GaussianPredictionOptions,
  type GaussianPredictions,
  type Judged,
  judge,
  mixtureOf,
} from './gaussian-predictions.js';
import { type IsotonicMap, isotonicRegression } from './isotonic.js';

/**
 * The probability integral transform: the value of each prediction's distribution function at what
 * happened. Where predictions are calibrated these are uniform in 0..1.
 *
 * Members mix: the value is the mean of theirs. It is 1/2 where the median was hit, near 0 or 1 where the
 * target lies far out. {@link coverage}, {@link expectedCalibrationError} and {@link recalibrationMap}
 * read it.
 *
 * @param predictions - mean and deviations, `[B, D]` or `[E, B, D]`
 * @param target - what happened, float32 or float64 `[B, D]`
 * @param options - `members`, `mask`, `scale`
 * @returns float64 `[B, D]`; NaN in rows that do not count
 * @throws TypeError or `ShapeError` when arguments are no such arrays
 * @throws RangeError when a standard deviation is not positive, or a number that counts is not finite
 *
 * Source: Dawid (1984), "Present position and potential developments: some personal views: statistical
 * theory: the prequential approach".
 */
export function pitValues(
  predictions: GaussianPredictions,
  target: FloatView,
  options: GaussianPredictionOptions = {},
): NdView<Float64Array> {
  expectOptions('pitValues', options, ['members', 'mask', 'scale']);
  const mixture = mixtureOf('pitValues', predictions, target, options);
  const judged: Judged = { error: 0, variance: 0, pit: 0, nll: 0 };
  return eachCell(mixture, (k) => judge(mixture, k, judged).pit);
}

/**
 * Continuous ranked probability score of Gaussian predictions: the integral over `x` of
 * `(F(x) - 1[x >= y])^2`, in units of the target; lower is better. It is the absolute error of a
 * prediction without spread.
 *
 * In closed form, for one Gaussian `s [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`, and for the equal
 * mixture of members in `E^2 / 2` terms.
 *
 * @param predictions - mean and deviations, `[B, D]` or `[E, B, D]`
 * @param target - what happened, float32 or float64 `[B, D]`
 * @param options - `members`, `mask`, `scale`
 * @returns float64 `[B, D]`; NaN in rows that do not count
 * @throws TypeError or `ShapeError` when arguments are no such arrays
 * @throws RangeError when a standard deviation is not positive, or a number that counts is not finite
 *
 * Source: Gneiting and Raftery (2007), "Strictly proper scoring rules, prediction, and estimation"; for
 * mixtures Grimit et al. (2006), "The continuous ranked probability score for circular variables and its
 * application to mesoscale forecast ensemble verification".
 *
 * @example
 * ```ts @import.meta.vitest
 * const { gaussianCrps } = await import('umwelt/evaluation');
 * const { nd } = await import('umwelt');
 * const crps = gaussianCrps({ mean: nd([[0]]), std: nd([[2]]) }, nd([[2]]));
 * expect(crps.data[0]).toBeCloseTo(1.204883, 6);
 * ```
 */
export function gaussianCrps(
  predictions: GaussianPredictions,
  target: FloatView,
  options: GaussianPredictionOptions = {},
): NdView<Float64Array> {
  expectOptions('gaussianCrps', options, ['members', 'mask', 'scale']);
  const mixture = mixtureOf('gaussianCrps', predictions, target, options);
  return eachCell(mixture, (k) => crpsOf(mixture, k));
}

function eachCell(
  { rows, width, mask }: { rows: number; width: number; mask: Uint8Array | null },
  value: (k: number) => number,
): NdView<Float64Array> {
  const out = new Float64Array(rows * width).fill(Number.NaN);
  for (let k = 0; k < out.length; k++) {
    if (mask === null || mask[Math.floor(k / width)] !== 0) out[k] = value(k);
  }
  return nd(out, [rows, width]);
}

/** Which values count. */
export interface PitOptions {
  /**
   * 1 for each value that counts, uint8, as many as there are values; for a view `[B, D]` also one for
   * each row, `[B]`, as {@link pitValues} takes them. By default all do.
   */
  readonly mask?: FlagSeries;
}

/** Shares beside the probabilities they should equal. */
export interface Coverage {
  /** `[L]`: probabilities. */
  readonly level: Float64Array;
  /** `[L]`: shares; NaN without a value. */
  readonly share: Float64Array;
}

/**
 * How often what happened lies within the central interval of probability `p`: the share of values with
 * `|2 pit - 1| <= p`, which for a Gaussian is that of `|z| <= Phi^-1((1 + p) / 2)`. More than `p` speaks of
 * intervals that are too wide.
 *
 * @param pit - from {@link pitValues}
 * @param levels - a list of probabilities `[L]`, each in 0..1; 50 % and 90 % by default
 * @param options - `mask`
 * @returns level and share, `[L]` each
 * @throws RangeError when a level or a value that counts is not in 0..1
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 */
export function coverage(
  pit: NumberSeries,
  levels: readonly number[] | Float64Array = [0.5, 0.9],
  options: PitOptions = {},
): Coverage {
  const level = levelsOf('coverage', levels);
  const values = pitOf('coverage', pit, options);
  return { level, share: sharesBelow(values.map((u) => Math.abs(2 * u - 1)).sort(), level) };
}

/**
 * Probabilities of central intervals, copied.
 *
 * @throws TypeError when they are no list, RangeError when one is not in 0..1
 */
export function levelsOf(what: string, levels: readonly number[] | Float64Array): Float64Array {
  if (!Array.isArray(levels) && !(levels instanceof Float64Array)) {
    throw new TypeError(
      `${what}: levels must be a list of probabilities, such as [0.5, 0.9], got ${describe(levels)}`,
    );
  }
  const level = Float64Array.from(levels);
  for (const p of level) {
    if (!(p >= 0 && p <= 1)) throw new RangeError(`${what}: levels must lie in 0..1, got ${p}`);
  }
  return level;
}

/** At which levels a calibration curve is taken. */
export interface CalibrationCurveOptions extends PitOptions {
  /** How many levels there are, `L`: `i / (L + 1)` for `i` from 1 to `L`. Default 99. */
  readonly grid?: number;
}

/**
 * The calibration curve of quantiles: how often what happened lies below the quantile of probability `p`,
 * the share of values with `pit <= p`.
 *
 * @param pit - from {@link pitValues}
 * @param options - `grid`, `mask`
 * @returns level and share, `[L]` each; the curve of calibrated predictions is the diagonal
 * @throws RangeError when a value that counts is not in 0..1, or `grid` no positive integer
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 *
 * Source: Kuleshov, Fenner, Ermon (2018), "Accurate uncertainties for deep learning using calibrated
 * regression", section 3.3.
 */
export function calibrationCurve(
  pit: NumberSeries,
  options: CalibrationCurveOptions = {},
): Coverage {
  return curveOf('calibrationCurve', pit, options);
}

/**
 * Expected calibration error of a regression: the mean over levels `p` of `|share(pit <= p) - p|`, that is
 * the distance of the {@link calibrationCurve} of quantiles from the diagonal, each level alike.
 *
 * It sees a wrong mean as well as a wrong width. Kuleshov et al. take a weighted sum of squares; the mean
 * of absolute values is the usual choice since. Of `n` values it is above 0 for calibrated predictions
 * too, `0.31 / sqrt(n)` on average.
 *
 * @param pit - from {@link pitValues}
 * @param options - `grid`, 99 levels by default, which are 1 % to 99 %; `mask`
 * @returns from 0, calibrated, to 0.5; NaN without a value
 * @throws RangeError when a value that counts is not in 0..1, or `grid` no positive integer
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 *
 * Source: Kuleshov, Fenner, Ermon (2018), "Accurate uncertainties for deep learning using calibrated
 * regression".
 */
export function expectedCalibrationError(
  pit: NumberSeries,
  options: CalibrationCurveOptions = {},
): number {
  const { level, share } = curveOf('expectedCalibrationError', pit, options);
  let sum = 0;
  for (let i = 0; i < level.length; i++) sum += Math.abs(share[i] - level[i]);
  return sum / level.length;
}

/**
 * The map from predicted to observed probability that makes predictions calibrated: `R(p)`, by which the
 * distribution function `F` becomes `R(F)`. Fit it on held-out data.
 *
 * @param pit - from {@link pitValues}, at least one value
 * @param options - `mask`
 * @returns knots for `isotonicValue`: the values that occurred, and the share `rank / (n + 1)` below them
 * @throws RangeError when a value that counts is not in 0..1, or there is none
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 *
 * Source: Kuleshov, Fenner, Ermon (2018), algorithm 1.
 */
export function recalibrationMap(pit: NumberSeries, options: PitOptions = {}): IsotonicMap {
  const values = pitOf('recalibrationMap', pit, options).sort();
  return isotonicRegression(
    values,
    values.map((_, i) => (i + 1) / (values.length + 1)),
  );
}

function curveOf(what: string, pit: NumberSeries, options: CalibrationCurveOptions): Coverage {
  expectOptions(what, options, ['grid', 'mask']);
  const { grid = 99, mask } = options;
  if (typeof grid !== 'number') {
    throw new TypeError(`${what}: grid must be a number of levels, got ${describe(grid)}`);
  }
  if (!Number.isInteger(grid) || grid < 1) {
    throw new RangeError(`${what}: grid must be a positive integer, got ${grid}`);
  }
  const values = pitOf(what, pit, { mask });
  const level = Float64Array.from({ length: grid }, (_, i) => (i + 1) / (grid + 1));
  return { level, share: sharesBelow(values.sort(), level) };
}

/** The values that count, copied. */
function pitOf(what: string, pit: NumberSeries, options: PitOptions): Float64Array<ArrayBuffer> {
  expectOptions(what, options, ['mask']);
  const values = series(what, 'pit', pit);
  const mask = pitMask(what, pit, options.mask, values.length);
  const kept = new Float64Array(values.length);
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    if (mask !== null && mask[i] === 0) continue;
    if (!(values[i] >= 0 && values[i] <= 1)) {
      throw new RangeError(
        `${what}: pit must lie in 0..1, got ${values[i]} at ${i}; leave it out by the mask`,
      );
    }
    kept[count++] = values[i];
  }
  return kept.slice(0, count);
}

/** A flag for each value; those of the rows of a matrix count for all of a row. */
function pitMask(
  what: string,
  pit: NumberSeries,
  mask: FlagSeries | undefined,
  length: number,
): Uint8Array | null {
  expectOneShape(what, { pit, mask });
  const [rows, width] = isNd(pit) && pit.shape.length === 2 ? pit.shape : [length, 1];
  const given = isNd(mask) ? mask.shape : [mask?.length];
  if (width === 1 || given.length !== 1 || given[0] !== rows) {
    return maskOf(what, mask, length, 'values');
  }
  const ofRow = maskOf(what, mask, rows, 'rows') as Uint8Array;
  return Uint8Array.from({ length }, (_, k) => ofRow[Math.floor(k / width)]);
}

/** The share of sorted values that are at most each level, `[L]`, in any order. */
function sharesBelow(sorted: Float64Array, level: Float64Array): Float64Array {
  return level.map((p) => {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= p) low = middle + 1;
      else high = middle;
    }
    return low / sorted.length;
  });
}
