/** Ranks and correlations of items that count any number of times, as they do in a resample. */

/** The order of some values, found once: ranks under any weights then take one pass. */
export interface Ordering {
  /** Places of the values, least first. */
  readonly order: Uint32Array;
  /** Where each run of equal values ends within `order`; the last is the number of values. */
  readonly ends: Uint32Array;
}

/** Sorts finite values. */
export function orderingOf(values: ArrayLike<number>): Ordering {
  const order = Uint32Array.from({ length: values.length }, (_, index) => index);
  order.sort((i, j) => values[i] - values[j]);
  const ends: number[] = [];
  for (let at = 1; at <= order.length; at++) {
    // Not by their bits: -0 and 0 are equal.
    if (at === order.length || values[order[at]] !== values[order[at - 1]]) ends.push(at);
  }
  return { order, ends: Uint32Array.from(ends) };
}

/**
 * Ranks from 1 of a sample that holds each item `weight` times; equal values get the mean of the ranks
 * they take up together.
 *
 * @param ranks - written; those of items that are not in the sample mean nothing
 */
export function ranksOf(
  { order, ends }: Ordering,
  weight: ArrayLike<number> | null,
  ranks: Float64Array,
): void {
  let start = 0;
  let below = 0;
  for (let run = 0; run < ends.length; run++) {
    const end = ends[run];
    let total = end - start;
    if (weight !== null) {
      total = 0;
      for (let i = start; i < end; i++) total += weight[order[i]];
    }
    const rank = below + (total + 1) / 2;
    for (let i = start; i < end; i++) ranks[order[i]] = rank;
    start = end;
    below += total;
  }
}

/**
 * Pearson's correlation of a sample that holds each pair `weight` times; NaN for fewer than 2 pairs or
 * where one of the two never varies.
 */
export function correlationOf(
  x: ArrayLike<number>,
  y: ArrayLike<number>,
  weight: ArrayLike<number> | null,
): number {
  let count = 0;
  let sumX = 0;
  let sumY = 0;
  let [lowX, highX, lowY, highY] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < x.length; i++) {
    const w = weight === null ? 1 : weight[i];
    if (w === 0) continue;
    const xi = x[i];
    const yi = y[i];
    count += w;
    sumX += w * xi;
    sumY += w * yi;
    if (xi < lowX) lowX = xi;
    if (xi > highX) highX = xi;
    if (yi < lowY) lowY = yi;
    if (yi > highY) highY = yi;
  }
  // A constant's mean may be rounded, and its variance then not be 0.
  if (count < 2 || lowX === highX || lowY === highY) return Number.NaN;
  const meanX = sumX / count;
  const meanY = sumY / count;
  let sumXX = 0;
  let sumYY = 0;
  let sumXY = 0;
  for (let i = 0; i < x.length; i++) {
    const w = weight === null ? 1 : weight[i];
    if (w === 0) continue;
    const dx = x[i] - meanX;
    const dy = y[i] - meanY;
    sumXX += w * dx * dx;
    sumYY += w * dy * dy;
    sumXY += w * dx * dy;
  }
  const correlation = sumXY / Math.sqrt(sumXX * sumYY);
  return Math.min(Math.max(correlation, -1), 1);
}
