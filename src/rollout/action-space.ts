/** Which actions there are, as planners and environments need to know. */

import { describe } from '../nd.js';
import type { ActionSpace } from '../runtime/manifest.js';

export type { ActionSpace } from '../runtime/manifest.js';

/** Numbers that describe one action: `A` bounds of a box, 1 for an index. */
export function actionWidth(space: ActionSpace): number {
  return space.type === 'box' ? space.low.length : 1;
}

/**
 * Checks an action space.
 *
 * @param what - the name used in messages, such as `CemPlanner`
 * @throws TypeError when it is none, RangeError when its bounds or its number of actions do not make sense
 */
export function expectActionSpace(what: string, space: unknown): asserts space is ActionSpace {
  const { type } = (space ?? {}) as Partial<ActionSpace>;
  if (type === 'box') {
    const { low, high } = space as Extract<ActionSpace, { type: 'box' }>;
    if (!(low?.length > 0) || low.length !== high?.length) {
      throw new RangeError(
        `${what}: actionSpace must have as many low as high bounds, got ${low?.length} and ${high?.length}`,
      );
    }
    for (let d = 0; d < low.length; d++) {
      if (!(low[d] < high[d] && Number.isFinite(high[d] - low[d]))) {
        throw new RangeError(
          `${what}: actionSpace must have finite bounds with low < high, got ${low[d]} and ${high[d]} at ${d}`,
        );
      }
    }
  } else if (type === 'discrete') {
    const { n } = space as Extract<ActionSpace, { type: 'discrete' }>;
    if (!Number.isInteger(n) || n < 1) {
      throw new RangeError(`${what}: actionSpace must have n of at least 1, got ${n}`);
    }
  } else {
    throw new TypeError(
      `${what}: actionSpace must be { type: 'box', low, high } or { type: 'discrete', n }, got ${describe(space)}`,
    );
  }
}

/** A copy of actions `[..., A]` brought within the box; what is no number becomes the middle. */
export function withinBox(
  data: Float32Array,
  space: Extract<ActionSpace, { type: 'box' }>,
): Float32Array {
  const { low, high } = space;
  return data.map((value, i) => {
    const d = i % low.length;
    return Number.isNaN(value) ? middleOf(space, d) : Math.min(Math.max(value, low[d]), high[d]);
  });
}

/** The middle of one bound's range. */
export function middleOf(space: Extract<ActionSpace, { type: 'box' }>, d: number): number {
  return (space.low[d] + space.high[d]) / 2;
}
