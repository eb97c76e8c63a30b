import { type ActionSpace, actionWidth, middleOf } from './action-space.js';
import { IcemBox } from './icem-box.js';
import { expectIcemCarry, icemCarry } from './icem-carry.js';
import { expectIcemOptions, type IcemOptions, type IcemSettings } from './icem-options.js';
import type { Plan, PlanCarry, Planner, PlanRequest } from './planner.js';

import { searchSequences } from './sequence-search.js';
import { expectSteps, shiftSequences } from './shift-sequences.js';

const WHAT = 'IcemPlanner';

/**
 * The improved cross-entropy method: coloured noise, a population that shrinks, and elites that are kept.
 *
 * The actions of a sequence are alike for a while, as {@link colouredNoise} has them, and kept within
 * bounds. Iteration `i` draws `max(N decay^-i, 2 elites)` sequences, the first too. The best of the elites are tried again
 * in the next iteration, but for the last, which tries the mean instead. They are carried to the next plan
 * too, whose first iteration tries them shifted, with their last actions drawn anew; what is carried is
 * brought within the box first. The variance of elites is the biased one. A start of which no sequence has a finite value keeps the distribution it had.
 *
 * Pinneri et al., "Sample-efficient cross-entropy method for real-time planning" (2020). Populations, kept
 * elites and the fit are those of mbrl-lib's `ICEMOptimizer`; that the best elites are kept, and not some
 * of them by lot, and that the best sequence is returned is as in the authors' code.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { IcemPlanner } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const planner = new IcemPlanner({ horizon: 2, actionSpace: { type: 'box', low: [-1], high: [1] } });
 * // The nearer the two actions add up to 1, the better.
 * const objective = ({ data, shape }) =>
 *   nd(Float32Array.from({ length: shape[1] }, (_, n) => -Math.abs(data[2 * n] + data[2 * n + 1] - 1)), [1, shape[1]]);
 * const { actions } = await planner.plan({ objective, start: nd([[0]]), seed: 7 });
 * expect(actions.data[0] + actions.data[1]).toBeCloseTo(1, 2);
 * ```
 */
export class IcemPlanner implements Planner {
  /** Actions of a sequence, `H`. */
  readonly horizon: number;
  /** Which actions there are. */
  readonly actionSpace: Extract<ActionSpace, { type: 'box' }>;
  readonly #settings: IcemSettings;

  /** @throws TypeError or RangeError naming the option, what must hold and what came */
  constructor(options: IcemOptions) {
    this.#settings = expectIcemOptions(WHAT, options);
    this.horizon = options.horizon;
    this.actionSpace = this.#settings.actionSpace;
  }

  /**
   * Looks for the sequence of the greatest value.
   *
   * @throws TypeError or RangeError for a request or an answer that is not as it must be; so for a carry
   *   for another number of starts or of another horizon
   */
  plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
    const { carry } = request;
    return searchSequences(this.#settings, request, (rows) => {
      const carried = carry && expectIcemCarry(`${WHAT}.plan`, this.#settings, carry, rows);
      return new IcemBox(this.#settings, rows, carried);
    });
  }

  /**
   * The carry after this many of the plan's actions have been taken, at most `H`: the mean that is not
   * known of is the middle of the box, and such actions of the kept elites are drawn anew.
   *
   * @throws TypeError or RangeError when `carry` is not of this planner or `steps` not in `0 .. H`
   */
  shift(carry: PlanCarry, steps: number): PlanCarry {
    expectSteps(WHAT, steps, this.horizon);
    const { horizon, actionSpace } = this;
    const { kept } = this.#settings;
    const { mean, elites, count, fresh } = expectIcemCarry(
      `${WHAT}.shift`,
      this.#settings,
      carry,
      null,
    );
    const width = actionWidth(actionSpace);
    const rows = fresh.length;
    const fill = Array.from(actionSpace.low, (_, d) => middleOf(actionSpace, d));
    const shift = (data: Float32Array, sequences: number): Float32Array =>
      shiftSequences(data, sequences, horizon, width, steps, fill);
    return icemCarry(this.#settings, {
      mean: shift(mean, rows),
      elites: shift(elites, rows * kept),
      count: count.slice(),
      fresh: fresh.map((known) => Math.min(known + steps, horizon)),
    });
  }
}
