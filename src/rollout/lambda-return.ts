import { type NdView, ShapeError, zeros } from '../nd.js';
import {
  EndRows,
  expectAlignment,
  expectEnds,
  expectFloats,
  expectShare,
  expectValue,
  type FloatView,
  type StepAlignment,
  type StepEnds,
} from './step-arrays.js';

/** What {@link lambdaReturn} reads; fields it does not know are left alone. */
export interface LambdaReturnOptions extends StepEnds {
  /** Reward of the transition into observation `t`, of that out of it with `departure`, `[B, T]`. */
  reward: FloatView;
  /**
   * Value of each observation, `[B, T]`, with `departure` `[B, T + 1]`. It must be there: a
   * `Trajectory` has it where `imagine` was given `value`.
   */
  value?: FloatView;
  /** Discount factor in [0, 1]; 1 where `discount` contains it. */
  gamma: number;
  /** From 0, one-step targets, to 1, the discounted return that bootstraps only where a row is cut. */
  lambda: number;
  /** Whose index rewards and ends have. Default `arrival`. */
  align?: StepAlignment;
  /**
   * Whose value is blended in at each step: that of the observation the step led to, `next`, the default
   * and the definition; or that of the one it left, `current`, as in the code of STORM and Drama.
   */
  blend?: 'next' | 'current';
}

/**
 * Lambda-returns: at each step the exponential average of all n-step returns, up to the first cut.
 *
 * With the default alignment, `arrival`, and `t` from 0 to `T - 2`:
 * `R_t = r_{t+1} + gamma c_{t+1} ((1 - lambda l_{t+1}) v_{t+1} + lambda l_{t+1} R_{t+1})`, from
 * `R_{T-1} = v_{T-1}` back; with `departure`, `t` from 0 to `T - 1` and from `R_T = v_T` back:
 * `R_t = r_t + gamma c_t ((1 - lambda l_t) v_{t+1} + lambda l_t R_{t+1})`. Here `c` is `discount`, or
 * `1 - terminated`, and `l` is 0 at a cut and else 1.
 *
 * Ends: where `c` is 0 nothing counts any more, not even a value that is NaN. At `last`, at `truncated`
 * and before padding the chain is cut: `v_{t+1}` stands for `R_{t+1}`. The horizon itself is such a cut.
 * With `arrival`, index 0 of rewards and ends belongs to no transition, and what it holds is not read. A
 * return that starts at a `last` step of a row that goes on with another episode (the arrival index of a
 * last observation) crosses the border and means nothing: mask it, as Dreamer does. To treat a truncation
 * as an end, flag it in `terminated`. In `departure`, each row is taken for one episode, since `value` has
 * no place for the final observation of one before the last; `gae` takes the values of rows of
 * several by `nextValue`, and its `target` is this return.
 *
 * Which call gives whose numbers:
 * - DreamerV3, imagined: `{ reward, value, discount: con, gamma, lambda }`, with `gamma` 1 where the
 *   continue head contains it (`contdisc`) and else `1 - 1/333`; replayed: `{ reward, value, terminated,
 *   last, gamma: 1 - 1/333, lambda }`, where `value` is not the critic's but the imagined return from each
 *   replayed state, the first of its dream's lambda-returns.
 * - dreamerv3-torch: as imagined, with `gamma` 0.997; its targets come time-major.
 * - STORM and Drama: `align: 'departure'`, `terminated` as predicted, `value` of the `T + 1` imagined
 *   states, and `blend: 'current'`: their code blends in the value of the state left, where the
 *   definition has that of the state arrived at.
 * - TD-MPC2: `align: 'departure'` and `lambda: 0`, one-step targets.
 * - A `Trajectory`: `lambdaReturn({ ...trajectory, gamma, lambda, align: 'departure' })`.
 *
 * @returns float32 `[B, T - 1]`, with `departure` `[B, T]`, row-major; sums are float64
 * @throws TypeError when `value` is missing, `terminated` and `discount` both are, or an array is of
 *   another kind; {@link ShapeError} when shapes disagree or are those of the other alignment; RangeError
 *   when `gamma`, `lambda` or an end is not in [0, 1]
 *
 * Source: Hafner et al., "Mastering Diverse Domains through World Models" (2023); agrees with
 * `lambda_return` of `danijar/dreamerv3`. With `blend: 'current'`, `calc_lambda_return` of
 * `weipu-zhang/STORM` and `realwenlongwang/drama`.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { lambdaReturn } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const returns = lambdaReturn({
 *   reward: nd([[9, 1, 0, 2]]), // the first belongs to no transition here
 *   value: nd([[5, 4, 3, 10]]),
 *   discount: nd([[1, 1, 0.5, 1]]),
 *   gamma: 1,
 *   lambda: 0.5,
 * });
 * expect([...returns.data]).toEqual([1 + (4 + 3.75) / 2, 0.5 * ((3 + 12) / 2), 2 + 10]);
 * ```
 */
export function lambdaReturn(options: LambdaReturnOptions): NdView {
  expectAlignment(WHAT, options);
  const { gamma, lambda, align = 'arrival', blend = 'next' } = options;
  expectShare(`${WHAT}: gamma`, gamma);
  expectShare(`${WHAT}: lambda`, lambda);
  if (blend !== 'next' && blend !== 'current') {
    throw new RangeError(`${WHAT}: blend must be 'next' or 'current', got ${String(blend)}`);
  }
  expectEnds(WHAT, options);
  const reward = expectFloats(`${WHAT}: reward`, options.reward, undefined);
  const [rows, length] = options.reward.shape;
  // In arrival alignment, index 0 of rewards and ends belongs to no transition of the row.
  const shift = align === 'arrival' ? 1 : 0;
  const states = align === 'arrival' ? length : length + 1;
  const value = expectValues(options.value, rows, states, align);
  if (states === 0) {
    throw new ShapeError(
      `${WHAT}: reward must have at least one step with align: 'arrival', got [${rows}, 0]; ` +
        "rewards of no transitions, with the value of one observation, are align: 'departure'",
    );
  }
  const ends = new EndRows(WHAT, options, [rows, length], shift);
  const { discount, open, mask } = ends;

  const steps = states - 1;
  const result = zeros([rows, steps]);
  const out = result.data;
  for (let row = 0; row < rows; row++) {
    ends.read(row);
    const first = row * length;
    const from = row * states;
    const to = row * steps;
    let next = value[from + steps];
    for (let t = steps - 1; t >= 0; t--) {
      const k = t + shift;
      const i = first + k;
      if (mask !== undefined && mask[i] === 0) continue;
      const factor = gamma * discount[k];
      let sum: number = reward[i];
      // What has no share in the return must not reach it, even if it is not finite.
      if (factor !== 0) {
        const arrived = value[from + t + 1];
        const chain = open[k];
        let after = next;
        if (chain === 0) after = arrived;
        else if (chain !== 1) after = (1 - chain) * arrived + chain * next;
        const blended = blend === 'next' ? arrived : value[from + t];
        if (lambda === 1) sum += factor * after;
        else if (lambda === 0) sum += factor * blended;
        else sum += factor * ((1 - lambda) * blended + lambda * after);
      }
      next = sum;
      out[to + t] = sum;
    }
  }
  return result;
}

/** The values, one a state; those of the other alignment are one more or one fewer. */
function expectValues(
  value: unknown,
  rows: number,
  states: number,
  align: StepAlignment,
): Float32Array | Float64Array {
  expectValue(WHAT, value);
  const remedy =
    align === 'arrival'
      ? "with align: 'arrival' there are as many values as rewards; one value more than rewards, as " +
        "in a Trajectory, is align: 'departure'"
      : "with align: 'departure' there is one value more than rewards; as many values as rewards is " +
        "align: 'arrival'";
  return expectFloats(`${WHAT}: value`, value, [rows, states], remedy);
}

const WHAT = 'lambdaReturn';
