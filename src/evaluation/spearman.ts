/**
 * Rank correlation: does one number grow when another does, whatever the shape of the relation.
 */

import { describe, isNd, type NdView, packed, ShapeError, type TypedArray } from '../nd.js';

/** Numbers in a row: an array, a typed array, or a view, which is taken in row-major order. */
export type NumberSeries =
  | readonly number[]
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | NdView<Float32Array>
  | NdView<Float64Array>;

/** What {@link spearman} counts. */
export interface SpearmanOptions {
  /** 1 for each pair that counts, 0 for one that does not; uint8, as long as the series. */
  readonly mask?: Uint8Array | NdView<Uint8Array>;
}

/**
 * Spearman's rank correlation of two series: the Pearson correlation of their ranks, where equal
 * values share the average of their ranks.
 *
 * Asked of a penalty: does uncertainty rank predictions as their true errors do?
 *
 * @param a - `[N]`, or a view of any shape
 * @param b - as many values as `a`
 * @param options - `mask` leaves pairs out, for example the padding of a trajectory
 * @returns from -1 to 1; NaN where it is undefined, which is for fewer than 2 pairs or when one series
 *   is constant
 * @throws `ShapeError` when the lengths differ
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
  const first = series(a, 'a');
  const second = series(b, 'b');
  const mask = options.mask === undefined ? null : flags(options.mask);
  if (first.length !== second.length) {
    throw new ShapeError(
      `spearman: a and b must have one length, got ${first.length} and ${second.length}`,
    );
  }
  if (mask !== null && mask.length !== first.length) {
    throw new ShapeError(
      `spearman: mask must have a flag for each of the ${first.length} pairs, got ${mask.length}`,
    );
  }
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
  if (x.length < 2) return Number.NaN;

  const rankX = averageRanks(x);
  const rankY = averageRanks(y);
  // Ranks and their mean are multiples of 1/2, so the deviations are exact and a constant series
  // has a variance of exactly 0.
  const mean = (x.length + 1) / 2;
  let sumXX = 0;
  let sumYY = 0;
  let sumXY = 0;
  for (let i = 0; i < x.length; i++) {
    const dx = rankX[i] - mean;
    const dy = rankY[i] - mean;
    sumXX += dx * dx;
    sumYY += dy * dy;
    sumXY += dx * dy;
  }
  if (sumXX === 0 || sumYY === 0) return Number.NaN;
  return sumXY / Math.sqrt(sumXX * sumYY);
}

/** Ranks from 1; equal values get the mean of the ranks they take up together. */
function averageRanks(values: readonly number[]): Float64Array {
  const order = Uint32Array.from(values, (_, index) => index);
  order.sort((i, j) => values[i] - values[j]);
  const ranks = new Float64Array(values.length);
  let start = 0;
  while (start < order.length) {
    const value = values[order[start]];
    let end = start + 1;
    while (end < order.length && values[order[end]] === value) end++;
    // Positions start..end-1 are the ranks start+1..end.
    for (let i = start; i < end; i++) ranks[order[i]] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

function flags(mask: Uint8Array | NdView<Uint8Array>): Uint8Array {
  const data = isNd(mask) ? packed(mask) : mask;
  if (!(data instanceof Uint8Array)) {
    throw new TypeError(`spearman: mask must be uint8, got ${describe(mask)}`);
  }
  return data;
}

function series(value: NumberSeries, name: string): ArrayLike<number> {
  if (Array.isArray(value)) return value;
  const data: unknown = isNd(value) ? packed<TypedArray>(value) : value;
  if (!ArrayBuffer.isView(data) || data instanceof DataView || isBig(data)) {
    throw new TypeError(
      `spearman: ${name} must be an array, a typed array or a view of numbers, got ${describe(value)}`,
    );
  }
  return data as Float32Array;
}

function isBig(data: ArrayBufferView): boolean {
  return data instanceof BigInt64Array || data instanceof BigUint64Array;
}
