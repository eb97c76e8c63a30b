/** How far a model is trusted as it learns: rollout lengths by epoch. */

/**
 * A truncated linear schedule: `[firstEpoch, lastEpoch, firstLength, lastLength]`. The length is the first
 * up to the first epoch, the last from the last epoch on, and rises or falls linearly between them.
 */
export type LengthScheduleSpec = readonly [
  firstEpoch: number,
  lastEpoch: number,
  firstLength: number,
  lastLength: number,
];

/** The length of rollouts in an epoch, counted from 0. */
export type LengthSchedule = (epoch: number) => number;

/**
 * The schedules of MBPO's own experiments on the Gym MuJoCo tasks (Janner et al. 2019, `rollout_schedule`
 * in the files of `examples/config` of jannerm/mbpo), for {@link lengthSchedule}.
 */
export const mbpoSchedules: Readonly<
  Record<'hopper' | 'walker2d' | 'halfcheetah' | 'ant' | 'humanoid', LengthScheduleSpec>
> = {
  hopper: [20, 150, 1, 15],
  walker2d: [20, 150, 1, 1],
  halfcheetah: [20, 150, 1, 1],
  ant: [20, 100, 1, 25],
  humanoid: [20, 300, 1, 25],
};

/**
 * A schedule of rollout lengths, as MBPO (Janner et al. 2019; jannerm/mbpo `mbpo/algorithms/mbpo.py`) has
 * it: short rollouts while the model is young, longer ones later.
 *
 * Epochs count from 0, as there. mbrl-lib asks its own for epoch + 1: pass that to do as it does. A last
 * epoch that is not after the first, by which the original divides, makes a step: the last length from the
 * last epoch on.
 *
 * @param spec - `[firstEpoch, lastEpoch, firstLength, lastLength]`, lengths being positive integers
 * @returns a function of the epoch, which may be a fraction; its results are rounded down
 * @throws TypeError when the spec is no array of four numbers
 * @throws RangeError when an epoch is not finite or a length is no positive integer
 *
 * @example
 * ```ts @import.meta.vitest
 * const { lengthSchedule, mbpoSchedules } = await import('umwelt/rollout');
 * const length = lengthSchedule(mbpoSchedules.hopper);
 * expect([0, 30, 100, 150, 999].map(length)).toEqual([1, 2, 9, 15, 15]);
 * ```
 */
export function lengthSchedule(spec: LengthScheduleSpec): LengthSchedule {
  if (!Array.isArray(spec) || spec.length !== 4) {
    throw new TypeError(
      'lengthSchedule: spec must be [firstEpoch, lastEpoch, firstLength, lastLength], ' +
        `got ${JSON.stringify(spec)}`,
    );
  }
  const [firstEpoch, lastEpoch, firstLength, lastLength]: LengthScheduleSpec = spec;
  for (const epoch of [firstEpoch, lastEpoch]) {
    if (!Number.isFinite(epoch)) {
      throw new RangeError(`lengthSchedule: epochs must be finite numbers, got ${epoch}`);
    }
  }
  for (const length of [firstLength, lastLength]) {
    if (!Number.isInteger(length) || length < 1) {
      throw new RangeError(`lengthSchedule: lengths must be positive integers, got ${length}`);
    }
  }
  return (epoch) => {
    if (typeof epoch !== 'number' || Number.isNaN(epoch)) {
      throw new RangeError(`lengthSchedule: epoch must be a number, got ${epoch}`);
    }
    if (epoch >= lastEpoch) return lastLength;
    if (epoch <= firstEpoch) return firstLength;
    const share = (epoch - firstEpoch) / (lastEpoch - firstEpoch);
    return Math.floor(share * (lastLength - firstLength) + firstLength);
  };
}
