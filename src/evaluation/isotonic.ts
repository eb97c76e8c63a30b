import { ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type NumberSeries, series } from './arguments.js';

/** A map that never falls: linear between its knots, constant beyond them. */
export interface IsotonicMap {
  /** `[K]`: where the knots are, rising. */
  readonly x: Float64Array;
  /** `[K]`: values there, none below the one before. */
  readonly y: Float64Array;
}

/** How an isotonic map is fitted. */
export interface IsotonicOptions {
  /** How much each pair counts, `[N]`, positive; by default 1. */
  readonly weight?: NumberSeries;
}

/**
 * The map that never falls and is nearest to some pairs, in weighted squares, by pooling adjacent
 * violators. It recalibrates the probabilities of a binary head: fit it on held-out predictions and what
 * happened.
 *
 * @param x - `[N]`, in any order, at least one; pairs of equal `x` are one, with their mean
 * @param y - `[N]`
 * @param options - `weight` `[N]`
 * @returns knots: the first and the last `x` of every pool, with the pool's mean
 * @throws RangeError when there is no pair, a number is not finite or a weight not positive
 * @throws TypeError or `ShapeError` when an argument is of another kind or length
 *
 * Source: Ayer et al. (1955), "An empirical distribution function for sampling with incomplete
 * information"; for calibration Zadrozny and Elkan (2002), "Transforming classifier scores into accurate
 * multiclass probability estimates". Agrees with `sklearn.isotonic.IsotonicRegression`.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { isotonicRegression, isotonicValue } = await import('umwelt/evaluation');
 * const map = isotonicRegression([1, 2, 3, 4], [0, 3, 1, 5]);
 * expect([...map.y]).toEqual([0, 2, 2, 5]); // 3 and 1 are pooled
 * expect(isotonicValue(map, 1.5)).toBe(1);
 * ```
 */
export function isotonicRegression(
  x: NumberSeries,
  y: NumberSeries,
  options: IsotonicOptions = {},
): IsotonicMap {
  const what = 'isotonicRegression';
  expectOptions(what, options, ['weight']);
  const at = series(what, 'x', x);
  const value = series(what, 'y', y);
  const weight = options.weight === undefined ? null : series(what, 'weight', options.weight);
  const n = at.length;
  if (value.length !== n || (weight !== null && weight.length !== n)) {
    throw new ShapeError(
      `${what}: x, y and weight must have one length, got ${n}, ${value.length}` +
        `${weight === null ? '' : ` and ${weight.length}`}`,
    );
  }
  if (n === 0) throw new RangeError(`${what}: x must have a value, got none`);
  for (let i = 0; i < n; i++) {
    const w = weight === null ? 1 : weight[i];
    if (!Number.isFinite(at[i]) || !Number.isFinite(value[i]) || !(w > 0 && w < Infinity)) {
      throw new RangeError(
        `${what}: x and y must be finite and weights positive, got (${at[i]}, ${value[i]}), ` +
          `weight ${w} at ${i}; leave it out`,
      );
    }
  }
  const order = Uint32Array.from({ length: n }, (_, i) => i).sort((i, j) => at[i] - at[j]);

  // Pools so far: where each begins and ends, its weight and its mean.
  const first = new Float64Array(n);
  const last = new Float64Array(n);
  const total = new Float64Array(n);
  const mean = new Float64Array(n);
  let pools = 0;
  for (let from = 0; from < n; ) {
    // Equal places are one, before any pooling.
    const place = at[order[from]];
    let sum = 0;
    let weights = 0;
    for (; from < n && at[order[from]] === place; from++) {
      const i = order[from];
      const w = weight === null ? 1 : weight[i];
      sum += w * value[i];
      weights += w;
    }
    first[pools] = place;
    last[pools] = place;
    total[pools] = weights;
    mean[pools] = sum / weights;
    pools++;
    while (pools > 1 && mean[pools - 2] > mean[pools - 1]) {
      const a = pools - 2;
      const b = pools - 1;
      const both = total[a] + total[b];
      mean[a] = (mean[a] * total[a] + mean[b] * total[b]) / both;
      total[a] = both;
      last[a] = last[b];
      pools--;
    }
  }
  const knotX: number[] = [];
  const knotY: number[] = [];
  for (let pool = 0; pool < pools; pool++) {
    knotX.push(first[pool]);
    knotY.push(mean[pool]);
    if (last[pool] === first[pool]) continue;
    knotX.push(last[pool]);
    knotY.push(mean[pool]);
  }
  return { x: Float64Array.from(knotX), y: Float64Array.from(knotY) };
}

/**
 * An isotonic map's value: linear between knots, and that of the nearest knot beyond them.
 *
 * @param map - from {@link isotonicRegression} or `recalibrationMap`
 * @param at - where; NaN gives NaN
 */
export function isotonicValue({ x, y }: IsotonicMap, at: number): number {
  const end = x.length - 1;
  if (Number.isNaN(at)) return Number.NaN;
  if (at <= x[0]) return y[0];
  if (at >= x[end]) return y[end];
  let low = 0;
  let high = end;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= at) low = middle;
    else high = middle;
  }
  return y[low] + ((y[high] - y[low]) * (at - x[low])) / (x[high] - x[low]);
}
