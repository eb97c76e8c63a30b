import type { UncertaintyScore } from '../dynamics/score.js';
import { describe } from '../nd.js';
import { expectOptions } from '../runtime/options.js';

/** Uncertainty as part of what a plan is worth. */
export interface WeighedUncertainty {
  /** Scores each step. */
  score: UncertaintyScore;
  /** Reward units per unit of score: negative to avoid what is uncertain, positive to seek it. */
  weight: number;
  /** Discount factor of the scores, in [0, 1]. Default: that of the rewards. */
  gamma?: number;
}

/**
 * Checks discount factors and the uncertainty that goes with them.
 *
 * @param what - the name used in messages
 * @throws TypeError or RangeError naming the option
 */
export function expectDiscounted(
  what: string,
  gamma: number,
  uncertainty: WeighedUncertainty | undefined,
): void {
  expectFactor(`${what}: gamma`, gamma);
  if (uncertainty === undefined) return;
  expectOptions(`${what}: uncertainty`, uncertainty, ['score', 'weight', 'gamma']);
  const { score } = uncertainty;
  if (typeof score !== 'function') {
    throw new TypeError(
      `${what}: uncertainty.score must be a function, got ${describe(score)}, such as maxAleatoric()`,
    );
  }
  if (!Number.isFinite(uncertainty.weight)) {
    throw new RangeError(
      `${what}: uncertainty.weight must be a finite number, got ${uncertainty.weight}`,
    );
  }
  expectFactor(`${what}: uncertainty.gamma`, uncertainty.gamma ?? gamma);
}

function expectFactor(what: string, gamma: number): void {
  if (!(gamma >= 0 && gamma <= 1)) {
    throw new RangeError(`${what} must lie in 0..1, got ${gamma}`);
  }
}
