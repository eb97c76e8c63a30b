import type { NdView } from '../nd.js';
import { discountedReturn } from './discounted-return.js';
import { expectObject, type FloatView, type StepEnds } from './step-arrays.js';

/** Rewards in departure alignment; a `Trajectory` is one. */
export interface RewardRows extends Omit<StepEnds, 'discount'> {
  /** Float32 `[B, T]`, in reward units. */
  readonly reward: FloatView;
}

/**
 * The return from each step on, as predicted: `G[b, t] = reward[b, t] + gamma * G[b, t + 1]` over the steps
 * that happened, and nothing for what would have followed.
 *
 * That is `discountedReturn` without its bootstrap: the targets of return-conditioned policies, for which
 * a value function's word does not count.
 *
 * @param rows - a trajectory, or rewards with their mask and ends
 * @param gamma - discount factor in [0, 1]. Default 1
 * @returns float32 `[B, T]`, row-major, summed in float64; 0 where nothing happened. Column 0 is each
 *   row's return
 * @throws TypeError, `ShapeError` or RangeError as {@link discountedReturn} does
 *
 * Source: Zhou et al., "Free from Bellman Completeness: Trajectory Stitching via Model-based
 * Return-conditioned Supervised Learning" (2023), `zhaoyizhou1123/mbrcsl`, where gamma is 1.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { returnsToGo } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const reward = nd([[1, 2, 4], [8, 16, 0]]);
 * const mask = nd(Uint8Array.of(1, 1, 1, 1, 1, 0), [2, 3]);
 * expect([...returnsToGo({ reward, mask }).data]).toEqual([7, 6, 4, 24, 16, 0]);
 * ```
 */
export function returnsToGo(rows: RewardRows, gamma: number = 1): NdView {
  expectObject('returnsToGo', rows, 'rows');
  const { reward, terminated, truncated, last, mask } = rows;
  return discountedReturn({ reward, terminated, truncated, last, mask, gamma }).toGo;
}
