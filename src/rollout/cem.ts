import { nd } from '../nd.js';
import { type ActionSpace, actionWidth, middleOf } from './action-space.js';
import { CemBox } from './cem-box.js';
import { CemDiscrete } from './cem-discrete.js';
import { type CemOptions, type CemSettings, expectCemOptions } from './cem-options.js';
import type { Plan, PlanCarry, Planner, PlanRequest } from './planner.js';
import { expectCarried } from './planner-options.js';
import { searchSequences } from './sequence-search.js';
import { expectSteps, shiftSequences } from './shift-sequences.js';

const WHAT = 'CemPlanner';

/**
 * The cross-entropy method: sequences are drawn from a distribution, which is fitted to the best of them,
 * and drawn again.
 *
 * In a box the numbers of a sequence are independent and normal. The defaults are those of PETS: cut off
 * at two standard deviations, each of them at most half the way to the nearer bound. That alone would leave
 * a mean on a bound for ever. So from a quarter of the bounds' distance on, let `p` grow from 0 to 1 towards
 * the bound: there a standard deviation is at least `p` times what was fitted to the elites, what is drawn
 * beyond the bound goes to it, and a plan begins with `1 + p` times `initialStd`, by default enough to reach
 * from one bound to the other. Further inside, a plan can go only so far from the mean that was carried;
 * `sampling: 'clipped'` goes further.
 *
 * `{ sampling: 'clipped', alpha: 0, population: 1000, iterations: 10 }` is PlaNet's. The variance of elites
 * is the unbiased one; a single elite moves the mean and leaves the spread.
 *
 * Indices are independent too, each step with probabilities of its own, of which 1 % are always spread
 * over all `n`.
 *
 * A plan carries its mean, or its probabilities, to the next, which begins there with the initial standard
 * deviation, or half-way between the probabilities and equal ones. Any carry with a float32 `mean`
 * `[B, H, A]`, or `probabilities` `[B, H, n]`, serves, also another planner's; a mean is brought within the
 * box. A start of which no sequence has a finite value keeps the distribution it had.
 *
 * Rubinstein, "The cross-entropy method for combinatorial and continuous optimization" (1999); Chua et al.,
 * "Deep reinforcement learning in a handful of trials" (2018). In a box an iteration is that of mbrl-lib's
 * `CEMOptimizer`, unless the mean is that near to a bound or a value is not finite.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { CemPlanner } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const actionSpace = { type: 'box', low: [-1], high: [1] } as const;
 * const planner = new CemPlanner({ horizon: 2, actionSpace });
 * // The nearer the two actions add up to 1, the better.
 * const objective = ({ data, shape }) =>
 *   nd(Float32Array.from({ length: shape[1] }, (_, n) => -Math.abs(data[2 * n] + data[2 * n + 1] - 1)), [1, shape[1]]);
 * const first = await planner.plan({ objective, start: nd([[0]]), seed: 7 });
 * expect(first.actions.data[0] + first.actions.data[1]).toBeCloseTo(1, 1);
 * const carry = planner.shift(first.carry, 1); // one of its actions was taken
 * await planner.plan({ objective, start: nd([[0]]), seed: 7, step: 1, carry });
 * ```
 */
export class CemPlanner implements Planner {
  /** Actions of a sequence, `H`. */
  readonly horizon: number;
  /** Which actions there are. */
  readonly actionSpace: ActionSpace;
  readonly #settings: CemSettings;

  /** @throws TypeError or RangeError naming the option, what must hold and what came */
  constructor(options: CemOptions) {
    this.#settings = expectCemOptions(WHAT, options);
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
    const { actionSpace } = this;
    const { carry } = request;
    return searchSequences(this.#settings, request, (rows) => {
      const carried = carry && this.#carried(`${WHAT}.plan`, carry, rows);
      return actionSpace.type === 'box'
        ? new CemBox(this.#settings, actionSpace, rows, carried)
        : new CemDiscrete(this.#settings, actionSpace.n, rows, carried);
    });
  }

  /**
   * The carry after this many of the plan's actions have been taken, at most `H`: what is not known of is
   * the middle of the box, or equal probabilities.
   *
   * @throws TypeError or RangeError when `carry` has no such array or `steps` is not in `0 .. H`
   */
  shift(carry: PlanCarry, steps: number): PlanCarry {
    expectSteps(WHAT, steps, this.horizon);
    const data = this.#carried(`${WHAT}.shift`, carry, null);
    const { horizon, actionSpace } = this;
    const [name, fill] =
      actionSpace.type === 'box'
        ? ['mean', Array.from(actionSpace.low, (_, d) => middleOf(actionSpace, d))]
        : ['probabilities', new Array<number>(actionSpace.n).fill(1 / actionSpace.n)];
    const rows = data.length / (horizon * fill.length);
    const shifted = shiftSequences(data, rows, horizon, fill.length, steps, fill as number[]);
    return { [name as string]: nd(shifted, [rows, horizon, fill.length]) };
  }

  #carried(what: string, carry: PlanCarry, rows: number | null): Float32Array {
    const { horizon, actionSpace } = this;
    return actionSpace.type === 'box'
      ? expectCarried(what, carry, 'mean', Float32Array, [rows, horizon, actionWidth(actionSpace)])
      : expectCarried(what, carry, 'probabilities', Float32Array, [rows, horizon, actionSpace.n]);
  }
}
