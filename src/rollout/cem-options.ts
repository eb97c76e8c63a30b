/** Options of the cross-entropy method. */

import { expectOptions } from '../runtime/options.js';
import type { ActionSpace } from './action-space.js';
import {
  expectEliteOptions,
  expectLeftOut,
  expectSearchOptions,
  ownActionSpace,
  type PlanReturns,
} from './planner-options.js';
import type { SearchSettings } from './sequence-search.js';

/** How the cross-entropy method looks for actions. */
export interface CemOptions {
  /** Actions of a sequence, `H`. */
  horizon: number;
  /** Which actions there are. */
  actionSpace: ActionSpace;
  /** Sequences drawn for each start in an iteration, `N`, of any number. Default 350. */
  population?: number;
  /** How often sequences are drawn and their distribution fitted to the best. Default 5. */
  iterations?: number;
  /** Part of the population that the distribution is fitted to, rounded up. Default 0.1. */
  eliteRatio?: number;
  /** Part of the distribution that stays as it was, in [0, 1). Default 0.1. */
  alpha?: number;
  /**
   * How sequences are drawn from a box: `truncated`, the default, from normal distributions cut off at two
   * standard deviations, which are smaller towards a bound but not upon it, see {@link CemPlanner}; or
   * `clipped`, from whole ones, kept within bounds.
   */
  sampling?: 'truncated' | 'clipped';
  /**
   * The standard deviation that a plan begins with, in halves of each dimension's range; `truncated` has up
   * to twice as much where the mean that is carried lies near a bound. Default 0.5, of `clipped` 1.
   */
  initialStd?: number;
  /** The least standard deviation, in halves of each dimension's range. Default 0. */
  minStd?: number;
  /**
   * The sequence returned: `mean`, the default, of the distribution at the end, which of indices is the
   * most probable at each step; or `best`, the best of all that were valued.
   */
  returns?: PlanReturns;
}

const OPTIONS = [
  'horizon',
  'actionSpace',
  'population',
  'iterations',
  'eliteRatio',
  'alpha',
  'sampling',
  'initialStd',
  'minStd',
  'returns',
];

/** Options of the cross-entropy method with their defaults. */
export interface CemSettings extends SearchSettings {
  readonly population: number;
  /** Sequences that the distribution is fitted to. */
  readonly elites: number;
  readonly alpha: number;
  readonly sampling: 'truncated' | 'clipped';
  readonly initialStd: number | undefined;
  readonly minStd: number;
  readonly returns: PlanReturns;
}

/**
 * Options with their defaults.
 *
 * @throws TypeError or RangeError naming the option
 */
export function expectCemOptions(what: string, options: CemOptions): CemSettings {
  expectOptions(what, options, OPTIONS);
  const { horizon, actionSpace, population = 350, iterations = 5, eliteRatio = 0.1 } = options;
  const { alpha = 0.1, sampling = 'truncated', initialStd, minStd = 0, returns = 'mean' } = options;
  expectSearchOptions(what, { horizon, actionSpace, population, iterations });
  expectEliteOptions(what, { eliteRatio, alpha, returns, initialStd });
  if (actionSpace.type === 'discrete') {
    expectLeftOut(what, options, ['sampling', 'initialStd', 'minStd'], actionSpace);
  }
  if (sampling !== 'truncated' && sampling !== 'clipped') {
    throw new RangeError(`${what}: sampling must be truncated or clipped, got ${sampling}`);
  }
  if (!(minStd >= 0 && Number.isFinite(minStd))) {
    throw new RangeError(`${what}: minStd must not be negative, got ${minStd}`);
  }
  return {
    what,
    horizon,
    actionSpace: ownActionSpace(actionSpace),
    population,
    iterations,
    elites: Math.ceil(population * eliteRatio),
    alpha,
    sampling,
    initialStd,
    minStd,
    returns,
  };
}
