/**
 * Rank correlation: does one number grow when another does, whatever the shape of the relation.
 */

import { ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectOneShape, type FlagSeries, maskOf, type NumberSeries, series } from './arguments.js';
import { correlationOf, orderingOf, ranksOf } from './ranks.js';

/** What {@link spearman} counts. */
export interface SpearmanOptions {
  /** 1 for each pair that counts, 0 for one that does not; uint8, as long as the series. */
  readonly mask?: FlagSeries;
}

/**
 * Spearman's rank correlation of two series: the Pearson correlation of their ranks, where equal
 * values share the average of their ranks.
 *
 * Asked of a penalty: does uncertainty rank predictions as their true errors do?
 *
 * @param a - `[N]`, or a view of any shape
 * @param b - as many values as `a`; two views have one shape
 * @param options - `mask` leaves pairs out, for example the padding of a trajectory
 * @returns from -1 to 1; NaN where it is undefined, which is for fewer than 2 pairs or when one series
 *   is constant
 * @throws `ShapeError` when lengths or shapes differ
 * @throws RangeError when a pair that counts is not finite
 * @throws TypeError when an argument is not a series of numbers
 *
 * Source: Spearman (1904), "The proof and measurement of association between two things"; agrees with
 * `scipy.stats.spearmanr`.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { spearman } = await import('umwelt/evaluation');
 * expect(spearman([1, 2, 3, 4], [1, 4, 9, 16])).toBe(1); // the same order
 * expect(spearman([1, 2, 3], [9, 2, 1])).toBe(-1); // the opposite order
 * ```
 */
export function spearman(a: NumberSeries, b: NumberSeries, options: SpearmanOptions = {}): number {
  expectOptions('spearman', options, ['mask']);
  const first = series('spearman', 'a', a);
  const second = series('spearman', 'b', b);
  if (first.length !== second.length) {
    throw new ShapeError(
      `spearman: a and b must have one length, got ${first.length} and ${second.length}`,
    );
  }
  expectOneShape('spearman', { a, b, mask: options.mask });
  const mask = maskOf('spearman', options.mask, first.length, 'pairs');
  const x: number[] = [];
  const y: number[] = [];
  for (let i = 0; i < first.length; i++) {
    if (mask !== null && mask[i] === 0) continue;
    const xi = first[i];
    const yi = second[i];
    if (!Number.isFinite(xi) || !Number.isFinite(yi)) {
      throw new RangeError(
        `spearman: every pair must be finite, got (${xi}, ${yi}) at ${i}; leave it out by the mask`,
      );
    }
    x.push(xi);
    y.push(yi);
  }
  const rankX = new Float64Array(x.length);
  const rankY = new Float64Array(y.length);
  ranksOf(orderingOf(x), null, rankX);
  ranksOf(orderingOf(y), null, rankY);
  return correlationOf(rankX, rankY, null);
}
