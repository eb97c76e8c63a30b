import { ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type NumberSeries, series } from './arguments.js';
import { type BootstrapIntervalOptions, bootstrapIntervals } from './bootstrap-interval.js';
import { correlationOf, orderingOf, ranksOf } from './ranks.js';

/** A correlation and its interval. */
export interface CorrelationInterval {
  /** From -1 to 1; NaN where it is undefined. */
  readonly correlation: number;
  /** Lower end of the interval; NaN for fewer than 3 checkpoints. */
  readonly low: number;
  /** Upper end of the interval. */
  readonly high: number;
}

/** Whether likelier models give better policies. */
export interface LikelihoodReturnReport {
  /** Checkpoints. */
  readonly count: number;
  /** Share of the resamples that lies within each interval. */
  readonly level: number;
  /** Pearson's correlation: how nearly they lie on a line. */
  readonly pearson: CorrelationInterval;
  /** Spearman's rank correlation. */
  readonly spearman: CorrelationInterval;
}

/**
 * Validation likelihood against episode return over the checkpoints of a model: whether what a model is
 * trained for is what it is used for.
 *
 * Below 0, checkpoints with a smaller loss give a larger return, as one hopes; near 0, the loss does not
 * tell which checkpoint to take. The intervals resample checkpoints and take them as independent, which
 * those of one training run are not: they are too narrow then. Resamples in which a correlation is
 * undefined, such as those that hold one checkpoint alone, are left out; of fewer than 3 checkpoints,
 * which lie on a line in any case, there is no interval.
 *
 * @param nll - validation negative log-likelihood of each checkpoint, `[N]`
 * @param returns - mean return of an episode controlled with it, `[N]`
 * @param options - `seed`; `resamples`, `level`
 * @returns plain data; `reportTable` prints it
 * @throws `ShapeError` when lengths differ
 * @throws RangeError when a number is not finite, or an option outside its range
 * @throws TypeError when an argument is no series of numbers
 *
 * Source: Lambert et al. (2020), "Objective mismatch in model-based reinforcement learning".
 */
export function likelihoodAgainstReturn(
  nll: NumberSeries,
  returns: NumberSeries,
  options: BootstrapIntervalOptions,
): LikelihoodReturnReport {
  const what = 'likelihoodAgainstReturn';
  expectOptions(what, options, ['seed', 'resamples', 'level']);
  const x = series(what, 'nll', nll);
  const y = series(what, 'returns', returns);
  const count = x.length;
  if (y.length !== count) {
    throw new ShapeError(
      `${what}: nll and returns must have one length, got ${count} and ${y.length}`,
    );
  }
  for (let i = 0; i < count; i++) {
    if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) {
      throw new RangeError(
        `${what}: every checkpoint must have finite numbers, got (${x[i]}, ${y[i]}) at ${i}; leave it out`,
      );
    }
  }
  const orderX = orderingOf(x);
  const orderY = orderingOf(y);
  const rankX = new Float64Array(count);
  const rankY = new Float64Array(count);
  const both = (times: Int32Array | null, out: Float64Array): void => {
    ranksOf(orderX, times, rankX);
    ranksOf(orderY, times, rankY);
    out[0] = correlationOf(x, y, times);
    out[1] = correlationOf(rankX, rankY, times);
  };
  const found = new Float64Array(2);
  both(null, found);
  const { seed, resamples, level = 0.9 } = options;
  const { low, high } = bootstrapIntervals(what, { seed, resamples, level }, count, 2, both);
  if (count < 3) {
    low.fill(Number.NaN);
    high.fill(Number.NaN);
  }
  return {
    count,
    level,
    pearson: { correlation: found[0], low: low[0], high: high[0] },
    spearman: { correlation: found[1], low: low[1], high: high[1] },
  };
}
