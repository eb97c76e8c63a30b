import { expectCount } from '../runtime/row-chunks.js';

/**
 * The discount factor that TD-MPC2 gives a task by the length of its episodes:
 * `(L / 5 - 1) / (L / 5)`, kept within 0.95 and 0.995.
 *
 * Hansen, Su and Wang, "TD-MPC2: Scalable, Robust World Models for Continuous Control" (2024); agrees with
 * `_get_discount` of nicklashansen/tdmpc2 under its published configuration.
 *
 * @param episodeLength - steps of an episode, `L`
 * @throws RangeError when it is not a positive integer
 *
 * @example
 * ```ts @import.meta.vitest
 * const { tdMpc2Discount } = await import('umwelt/rollout');
 * expect([1000, 500, 200, 50].map(tdMpc2Discount)).toEqual([0.995, 0.99, 0.975, 0.95]);
 * ```
 */
export function tdMpc2Discount(episodeLength: number): number {
  expectCount('tdMpc2Discount: episodeLength', episodeLength);
  const fraction = episodeLength / 5;
  return Math.min(Math.max((fraction - 1) / fraction, 0.95), 0.995);
}
