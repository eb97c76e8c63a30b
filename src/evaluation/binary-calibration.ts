/** Probabilities of something that happens or not, such as the end of an episode. */

import { ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import {
  expectOneShape,
  type FlagSeries,
  flags,
  maskOf,
  type NumberSeries,
  series,
} from './arguments.js';

/** Which predictions count. */
export interface BrierOptions {
  /** 1 for each prediction that counts, uint8, as many as there are; by default all do. */
  readonly mask?: FlagSeries;
}

/**
 * Brier score of binary predictions: the mean of `(probability - outcome)^2`, from 0 to 1; lower is better.
 *
 * It is the same for a head that predicts the end and for one that predicts that the episode goes on.
 *
 * @param probability - `[N]`, or a view of any shape, each in 0..1
 * @param outcome - uint8, as many: 1 where it happened; views have one shape
 * @param options - `mask`
 * @returns the score; NaN without a prediction
 * @throws RangeError when a probability that counts is not in 0..1
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 *
 * Source: Brier (1950), "Verification of forecasts expressed in terms of probability"; agrees with
 * `sklearn.metrics.brier_score_loss`.
 */
export function brierScore(
  probability: NumberSeries,
  outcome: FlagSeries,
  options: BrierOptions = {},
): number {
  expectOptions('brierScore', options, ['mask']);
  const { p, y } = pairsOf('brierScore', probability, outcome, options.mask);
  return brierOf(p, y);
}

/** How binary predictions are judged. */
export interface BinaryCalibrationOptions extends BrierOptions {
  /** Bins of equal width, `K`. Default 10. */
  readonly bins?: number;
}

/** A calibration curve of probabilities: bins of equal width. */
export interface ProbabilityBins {
  /** `[K]`: least probability of the bin; the bin ends below the next, the last with 1. */
  readonly from: Float64Array;
  /** `[K]`: predictions within. */
  readonly count: Int32Array;
  /** `[K]`: mean probability; NaN for an empty bin. */
  readonly confidence: Float64Array;
  /** `[K]`: share of them that happened; NaN for an empty bin. */
  readonly frequency: Float64Array;
}

/** How far binary predictions can be trusted. */
export interface BinaryCalibrationReport {
  /** Predictions that count. */
  readonly count: number;
  /** Share of them that happened. */
  readonly rate: number;
  /** Brier score. */
  readonly brier: number;
  /**
   * `1 - brier / (rate (1 - rate))`: 1 is perfect, 0 no better than always predicting the rate; NaN or
   * minus infinity where outcomes are all the same.
   */
  readonly skill: number;
  /** Expected calibration error: `sum_bins count / N |frequency - confidence|`. */
  readonly ece: number;
  /** The bins it is made of. */
  readonly bins: ProbabilityBins;
}

/**
 * The calibration of a binary head, such as one for the end of an episode.
 *
 * @param probability - `[N]`, or a view of any shape, each in 0..1
 * @param outcome - uint8, as many: 1 where it happened; views have one shape
 * @param options - `bins`, `mask`
 * @returns plain data; `reportTable` prints it. Without a prediction the scores are NaN
 * @throws RangeError when a probability that counts is not in 0..1, or `bins` no positive integer
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 *
 * Source: Brier (1950); the binned error as in Guo et al. (2017), "On calibration of modern neural
 * networks", of the probability itself and not of the likelier outcome's.
 */
export function binaryCalibrationReport(
  probability: NumberSeries,
  outcome: FlagSeries,
  options: BinaryCalibrationOptions = {},
): BinaryCalibrationReport {
  const what = 'binaryCalibrationReport';
  expectOptions(what, options, ['mask', 'bins']);
  const { bins = 10, mask } = options;
  if (!Number.isInteger(bins) || bins < 1) {
    throw new RangeError(`${what}: bins must be a positive integer, got ${bins}`);
  }
  const { p, y } = pairsOf(what, probability, outcome, mask);
  const count = new Int32Array(bins);
  const confidence = new Float64Array(bins);
  const frequency = new Float64Array(bins);
  for (let i = 0; i < p.length; i++) {
    let bin = Math.min(Math.floor(p[i] * bins), bins - 1);
    // The product may be rounded past a border that `from` has.
    if (p[i] < bin / bins) bin--;
    else if (bin + 1 < bins && p[i] >= (bin + 1) / bins) bin++;
    count[bin]++;
    confidence[bin] += p[i];
    frequency[bin] += y[i];
  }
  let happened = 0;
  let distance = 0;
  for (let bin = 0; bin < bins; bin++) {
    happened += frequency[bin];
    distance += Math.abs(frequency[bin] - confidence[bin]);
    confidence[bin] /= count[bin];
    frequency[bin] /= count[bin];
  }
  const rate = happened / p.length;
  const brier = brierOf(p, y);
  return {
    count: p.length,
    rate,
    brier,
    skill: 1 - brier / (rate * (1 - rate)),
    ece: distance / p.length,
    bins: {
      from: Float64Array.from({ length: bins }, (_, bin) => bin / bins),
      count,
      confidence,
      frequency,
    },
  };
}

function brierOf(p: readonly number[], y: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += (p[i] - y[i]) ** 2;
  return sum / p.length;
}

/** The predictions that count, and 0 or 1 for each. */
function pairsOf(
  what: string,
  probability: NumberSeries,
  outcome: FlagSeries,
  mask: FlagSeries | undefined,
): { p: number[]; y: number[] } {
  const values = series(what, 'probability', probability);
  const happened = flags(what, 'outcome', outcome);
  if (happened.length !== values.length) {
    throw new ShapeError(
      `${what}: probability and outcome must have one length, got ${values.length} and ${happened.length}`,
    );
  }
  expectOneShape(what, { probability, outcome, mask });
  const counts = maskOf(what, mask, values.length, 'predictions');
  const p: number[] = [];
  const y: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (counts !== null && counts[i] === 0) continue;
    if (!(values[i] >= 0 && values[i] <= 1)) {
      throw new RangeError(
        `${what}: probability must lie in 0..1, got ${values[i]} at ${i}; leave it out by the mask`,
      );
    }
    p.push(values[i]);
    y.push(happened[i] === 0 ? 0 : 1);
  }
  return { p, y };
}
