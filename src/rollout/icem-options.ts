/** Options of the improved cross-entropy method. */

import { expectOptions } from '../runtime/options.js';
import type { ActionSpace } from './action-space.js';
import {
  expectBox,
  expectEliteOptions,
  expectSearchOptions,
  ownActionSpace,
  type PlanReturns,
} from './planner-options.js';
import type { SearchSettings } from './sequence-search.js';

/** How the improved cross-entropy method looks for actions. */
export interface IcemOptions {
  /** Actions of a sequence, `H`. */
  horizon: number;
  /** Which actions there are: a box; indices are refused. */
  actionSpace: ActionSpace;
  /**
   * Sequences drawn for each start in the first iteration, `N`, but twice the elites at least: a population
   * of 1 draws 2, one of 100 with an `eliteRatio` of 1 draws 200. Default 200.
   */
  population?: number;
  /** How often sequences are drawn and their distribution fitted to the best. Default 5. */
  iterations?: number;
  /**
   * By how much the population is divided from one iteration to the next, at least 1; no iteration draws
   * fewer than twice the elites. Default 1.3.
   */
  decay?: number;
  /** Exponent of the noise's power spectrum, see `colouredNoise`; 0 is white. Default 2. */
  beta?: number;
  /** Part of `N` that the distribution is fitted to, rounded up. Default 0.1. */
  eliteRatio?: number;
  /** Part of the elites that are tried again, the best ones, rounded up. Default 0.3. */
  keepFraction?: number;
  /** Part of the distribution that stays as it was, in [0, 1). Default 0.1. */
  alpha?: number;
  /** The standard deviation that a plan begins with, in halves of each dimension's range. Default 0.5. */
  initialStd?: number;
  /**
   * The sequence returned: `best`, the default, of all that were valued, or `mean`, of the distribution at
   * the end.
   */
  returns?: PlanReturns;
}

const OPTIONS = [
  'horizon',
  'actionSpace',
  'population',
  'iterations',
  'decay',
  'beta',
  'eliteRatio',
  'keepFraction',
  'alpha',
  'initialStd',
  'returns',
];

/** Options of the improved cross-entropy method with their defaults. */
export interface IcemSettings extends SearchSettings {
  readonly actionSpace: Extract<ActionSpace, { type: 'box' }>;
  readonly population: number;
  readonly decay: number;
  readonly beta: number;
  /** Sequences that the distribution is fitted to. */
  readonly elites: number;
  /** Elites that are tried again, `K`. */
  readonly kept: number;
  readonly alpha: number;
  readonly initialStd: number | undefined;
  readonly returns: PlanReturns;
}

/**
 * Options with their defaults.
 *
 * @throws TypeError or RangeError naming the option
 */
export function expectIcemOptions(what: string, options: IcemOptions): IcemSettings {
  expectOptions(what, options, OPTIONS);
  const { horizon, actionSpace, population = 200, iterations = 5, decay = 1.3, beta = 2 } = options;
  const { eliteRatio = 0.1, keepFraction = 0.3, alpha = 0.1, initialStd } = options;
  const { returns = 'best' } = options;
  expectSearchOptions(what, { horizon, actionSpace, population, iterations });
  expectBox(what, actionSpace);
  expectEliteOptions(what, { eliteRatio, alpha, returns, initialStd });
  if (!(decay >= 1 && Number.isFinite(decay))) {
    throw new RangeError(`${what}: decay must be a number of at least 1, got ${decay}`);
  }
  if (!(beta >= 0 && Number.isFinite(beta))) {
    throw new RangeError(`${what}: beta must be a finite number of at least 0, got ${beta}`);
  }
  if (!(keepFraction >= 0 && keepFraction <= 1)) {
    throw new RangeError(`${what}: keepFraction must lie in 0..1, got ${keepFraction}`);
  }
  const elites = Math.ceil(population * eliteRatio);
  return {
    what,
    horizon,
    actionSpace: ownActionSpace(actionSpace),
    population,
    iterations,
    decay,
    beta,
    elites,
    kept: Math.ceil(keepFraction * elites),
    alpha,
    initialStd,
    returns,
  };
}
