import { expectOptions } from '../runtime/options.js';

/** What a buffer of imagined transitions has to hold. */
export interface ModelBufferOptions {
  /** Starts of one round of rollouts. */
  rows: number;
  /** Steps of a rollout. */
  length: number;
  /** Rounds of rollouts an epoch. */
  roundsPerEpoch: number;
  /** Epochs whose transitions are kept. Default 1. */
  retainEpochs?: number;
}

/**
 * Capacity of the replay buffer for imagined transitions: all that the epochs to be kept can make,
 * `rows * length * roundsPerEpoch * retainEpochs`.
 *
 * Where the length follows a schedule, so does the capacity: give it to `ReplayBuffer.resized`, which
 * keeps the newest rows. The sizing rule is MBPO's (Janner et al. 2019; jannerm/mbpo
 * `_reallocate_model_pool`, mbrl-lib `mbrl/algorithms/mbpo.py`).
 *
 * @returns rows, an integer in 1..2^30
 * @throws TypeError when an option has an unknown name
 * @throws RangeError when an option is no positive integer, or a buffer cannot hold so many rows
 *
 * @example
 * ```ts @import.meta.vitest
 * const { modelBufferCapacity } = await import('umwelt/rollout');
 * // 100,000 starts every 250 steps of epochs of 1000.
 * const capacity = modelBufferCapacity({ rows: 100_000, length: 15, roundsPerEpoch: 4 });
 * expect(capacity).toBe(6_000_000);
 * ```
 */
export function modelBufferCapacity(options: ModelBufferOptions): number {
  const what = 'modelBufferCapacity';
  expectOptions(what, options, ['rows', 'length', 'roundsPerEpoch', 'retainEpochs']);
  const { rows, length, roundsPerEpoch, retainEpochs = 1 } = options;
  for (const [name, count] of Object.entries({ rows, length, roundsPerEpoch, retainEpochs })) {
    if (!Number.isInteger(count) || count < 1) {
      throw new RangeError(`${what}: ${name} must be a positive integer, got ${count}`);
    }
  }
  const capacity = rows * length * roundsPerEpoch * retainEpochs;
  if (capacity > 2 ** 30) {
    throw new RangeError(
      `${what}: the capacity must be at most 2^30 rows, got ${capacity}; retain fewer epochs`,
    );
  }
  return capacity;
}
