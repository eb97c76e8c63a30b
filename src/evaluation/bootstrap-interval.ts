/** Percentile intervals over resampled rows. */

import { quantileOf } from '../dynamics/quantile.js';
import { foldIn, type Seed } from '../sampling/key.js';
import { Draws } from '../sampling/replay-draws.js';
import { Stream } from '../sampling/stream.js';
import { expectSeed } from './arguments.js';

/** How an interval is found. */
export interface BootstrapIntervalOptions {
  /** Names the resamples. */
  readonly seed: Seed;
  /** Number of resamples; 0 for none, and an interval of NaN. Default 1000. */
  readonly resamples?: number;
  /** Share of the resamples that lies within the interval, above 0 and below 1. Default 0.9. */
  readonly level?: number;
}

/** The middle share of a statistic over resamples. */
export interface Intervals {
  /** Lower ends, one for each statistic; NaN where no resample defines it, and for too few groups. */
  readonly low: Float64Array;
  /** Upper ends. */
  readonly high: Float64Array;
}

/**
 * Percentile intervals of `count` statistics under resampled groups (Efron and Tibshirani 1993, "An
 * introduction to the bootstrap", chapter 13).
 *
 * Resample `i` holds as many groups as there are, drawn with replacement: the index set of member `i` of
 * `bootstrapIndices(seed, resamples, groups)` (draw 0, step 0 of `Stream.bootstrap` under
 * `foldIn(seed, i)`). A resample in which a statistic is NaN does not count for it. A single group has no
 * interval: its resamples are all the same, which says nothing.
 *
 * @param statistics - given how often each group is drawn, writes the statistics of that resample
 */
export function bootstrapIntervals(
  what: string,
  { seed, resamples = 1000, level = 0.9 }: BootstrapIntervalOptions,
  groups: number,
  count: number,
  statistics: (times: Int32Array, out: Float64Array) => void,
): Intervals {
  if (!Number.isInteger(resamples) || resamples < 0) {
    throw new RangeError(`${what}: resamples must be a non-negative integer, got ${resamples}`);
  }
  if (!(level > 0 && level < 1)) {
    throw new RangeError(`${what}: level must lie between 0 and 1, got ${level}`);
  }
  expectSeed(what, seed);
  const low = new Float64Array(count).fill(Number.NaN);
  const high = new Float64Array(count).fill(Number.NaN);
  if (groups < 2 || resamples === 0) return { low, high };
  const drawn = new Int32Array(groups);
  const times = new Int32Array(groups);
  const out = new Float64Array(count);
  const values = Array.from({ length: count }, () => new Float64Array(resamples));
  const kept = new Int32Array(count);
  for (let sample = 0; sample < resamples; sample++) {
    new Draws(what, foldIn(seed, sample), Stream.bootstrap).integers(groups, drawn);
    times.fill(0);
    for (let i = 0; i < groups; i++) times[drawn[i]]++;
    statistics(times, out);
    for (let k = 0; k < count; k++) {
      if (!Number.isNaN(out[k])) values[k][kept[k]++] = out[k];
    }
  }
  for (let k = 0; k < count; k++) {
    if (kept[k] === 0) continue;
    const found = values[k].subarray(0, kept[k]);
    low[k] = quantileOf(found, (1 - level) / 2);
    high[k] = quantileOf(found, (1 + level) / 2);
  }
  return { low, high };
}
