import { gatherRows, type NdView } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { returnsToGo } from './returns-to-go.js';
import type { Trajectory } from './trajectory.js';

/** Which episodes to keep. */
export interface FilterByReturnOptions {
  /** A row is kept when its return is greater than this, in reward units; equal is not enough. */
  above: number;
  /** Discount factor in 0..1 of the return. Default 1, a plain sum. */
  gamma?: number;
  /** Most rows to keep: the first of those that pass, in their order. Default all. */
  count?: number;
}

/** The rows that passed, `K` of them. */
export interface FilteredByReturn {
  /** Their numbers, rising, `[K]`; `trajectory.gather(rows)` takes them out. */
  rows: Int32Array;
  /** Their returns, `[K]`. */
  returns: Float32Array;
  /** The return from each of their steps on, float32 `[K, T]`; 0 past a row's end. */
  returnsToGo: NdView;
}

/**
 * The episodes whose predicted return exceeds a threshold, such as the best return of the dataset they
 * were dreamt from: what MBRCSL (Zhou et al. 2023) fits its return-conditioned policy to.
 *
 * The return is the sum of `reward`, penalties subtracted, over the steps that happened; nothing is
 * bootstrapped. Rows without a step are no episodes and never pass. Returns are compared as they are
 * given back, in float32.
 *
 * @param trajectory - whole episodes
 * @throws TypeError when an option has an unknown name
 * @throws RangeError when an option is out of range
 *
 * @example
 * ```ts
 * const { rows, returnsToGo } = filterByReturn(dream, { above: bestOfDataset });
 * const better = dream.gather(rows);
 * ```
 */
export function filterByReturn(
  trajectory: Trajectory,
  options: FilterByReturnOptions,
): FilteredByReturn {
  const what = 'filterByReturn';
  expectOptions(what, options, ['above', 'gamma', 'count']);
  const { above, gamma, count = Number.POSITIVE_INFINITY } = options;
  expectThreshold(what, above);
  if (!(count === Number.POSITIVE_INFINITY || (Number.isInteger(count) && count >= 0))) {
    throw new RangeError(`${what}: count must be a non-negative integer, got ${count}`);
  }
  const { length } = trajectory;
  const toGo = returnsToGo(trajectory, gamma);
  const [batch, steps] = toGo.shape;
  const rows = new Int32Array(batch);
  const returns = new Float32Array(batch);
  let kept = 0;
  for (let row = 0; row < batch && kept < count; row++) {
    if (length[row] === 0) continue;
    const sum = toGo.data[row * steps];
    if (!(sum > above)) continue;
    rows[kept] = row;
    returns[kept++] = sum;
  }
  const passed = rows.slice(0, kept);
  return {
    rows: passed,
    returns: returns.slice(0, kept),
    returnsToGo: gatherRows(toGo, passed),
  };
}

/** Checks a threshold of returns: any number, infinities included. */
export function expectThreshold(what: string, above: number): void {
  if (typeof above !== 'number' || Number.isNaN(above)) {
    throw new RangeError(`${what}: above must be a number, got ${above}`);
  }
}
