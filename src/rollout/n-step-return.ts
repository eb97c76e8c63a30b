import { type NdView, zeros } from '../nd.js';
import {
  EndRows,
  expectDepartureValues,
  expectEnds,
  expectFloats,
  expectObject,
  expectShare,
  type FloatView,
  type StepEnds,
} from './step-arrays.js';

/** What {@link nStepReturn} reads, in departure alignment; fields it does not know are left alone. */
export interface NStepReturnOptions extends StepEnds {
  /** Reward of each step, `[B, T]`. */
  reward: FloatView;
  /**
   * Value of each observation, `[B, T + 1]`. It must be there: a `Trajectory` has it where `imagine` was
   * given `value`.
   */
  value?: FloatView;
  /** Most rewards summed, at least 1. */
  n: number;
  /** Discount factor in [0, 1]. */
  gamma: number;
}

/**
 * n-step returns: `m` rewards and the value of the observation after them,
 * `R_t = sum_{i < m} g_i r_{t+i} + g_m v_{t+m}` with `g_i = prod_{j < i} gamma c_{t+j}`.
 *
 * `m` is `n`, or fewer where an episode or the row ends first. A terminated step does not bootstrap; a
 * truncated one and the row's end do, from the value after them. `c` is `discount`, or `1 - terminated`.
 * Each row is taken for one episode: the value after a truncated step is that of the observation it led
 * to. `nStepTargets` of `umwelt/sampling` does the same for stored rows.
 *
 * @returns float32 `[B, T]`, row-major; sums are float64
 * @throws TypeError when `value` is missing, `terminated` and `discount` both are, or an array is of
 *   another kind; `ShapeError` when shapes disagree; RangeError when `n` is no positive integer, or
 *   `gamma` or an end is not in [0, 1]
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nStepReturn } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const returns = nStepReturn({
 *   reward: nd([[1, 2, 3]]),
 *   value: nd([[0, 0, 8, 16]]),
 *   terminated: nd([[0, 0, 0]]),
 *   n: 2,
 *   gamma: 0.5,
 * });
 * expect([...returns.data]).toEqual([1 + 1 + 2, 2 + 1.5 + 4, 3 + 8]);
 * ```
 */
export function nStepReturn(options: NStepReturnOptions): NdView {
  expectObject(WHAT, options);
  const { n, gamma } = options;
  if (!Number.isInteger(n) || n < 1) {
    throw new RangeError(`${WHAT}: n must be a positive integer, got ${n}`);
  }
  expectShare(`${WHAT}: gamma`, gamma);
  expectEnds(WHAT, options);
  const reward = expectFloats(`${WHAT}: reward`, options.reward, undefined);
  const [rows, steps] = options.reward.shape;
  const value = expectDepartureValues(WHAT, options.value, [rows, steps]);
  const ends = new EndRows(WHAT, options, [rows, steps]);
  const { discount, open, mask } = ends;
  const result = zeros([rows, steps]);
  const out = result.data;
  for (let row = 0; row < rows; row++) {
    ends.read(row);
    const from = row * steps;
    const states = row * (steps + 1);
    for (let start = 0; start < steps; start++) {
      if (mask !== undefined && mask[from + start] === 0) continue;
      const end = Math.min(start + n, steps);
      let sum = 0;
      let factor = 1;
      for (let t = start; t < end; t++) {
        sum += factor * reward[from + t];
        factor *= gamma * discount[t];
        // What has no share in the return must not reach it, even if it is not finite.
        if (factor === 0) break;
        // A chain that is open in part bootstraps the rest of it here.
        const rest = t + 1 === end ? 0 : open[t];
        if (rest < 1) sum += factor * (1 - rest) * value[states + t + 1];
        factor *= rest;
        if (factor === 0) break;
      }
      out[from + start] = sum;
    }
  }
  return result;
}

const WHAT = 'nStepReturn';
