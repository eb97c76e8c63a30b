/** What the improved cross-entropy method carries from plan to plan. */

import { nd } from '../nd.js';
import { actionWidth } from './action-space.js';
import type { IcemSettings } from './icem-options.js';
import type { PlanCarry } from './planner.js';
import { expectCarried } from './planner-options.js';

/** What a plan carries, packed. */
export interface IcemCarry {
  /** `[B, H, A]`. */
  readonly mean: Float32Array;
  /** `[B, K, H, A]`, best first. */
  readonly elites: Float32Array;
  /** How many of a start's `K` there are, `[B]`. */
  readonly count: Int32Array;
  /** How many of the elites' last actions are to be drawn, `[B]`. */
  readonly fresh: Int32Array;
}

/** A carry as the planner hands it out. */
export function icemCarry(
  { horizon, actionSpace, kept }: IcemSettings,
  { mean, elites, count, fresh }: IcemCarry,
): PlanCarry {
  const rows = count.length;
  const width = actionWidth(actionSpace);
  return {
    mean: nd(mean, [rows, horizon, width]),
    elites: nd(elites, [rows, kept, horizon, width]),
    count: nd(count, [rows]),
    fresh: nd(fresh, [rows]),
  };
}

/**
 * A carry as the planner handed it out; null leaves the number of starts open.
 *
 * @throws TypeError or RangeError when it is not one of this planner
 */
export function expectIcemCarry(
  what: string,
  { horizon, actionSpace, kept }: IcemSettings,
  carry: PlanCarry,
  rows: number | null,
): IcemCarry {
  const width = actionWidth(actionSpace);
  return {
    mean: expectCarried(what, carry, 'mean', Float32Array, [rows, horizon, width]),
    elites: expectCarried(what, carry, 'elites', Float32Array, [rows, kept, horizon, width]),
    count: expectCarried(what, carry, 'count', Int32Array, [rows]),
    fresh: expectCarried(what, carry, 'fresh', Int32Array, [rows]),
  };
}
