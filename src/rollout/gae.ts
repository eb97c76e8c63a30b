import { type NdView, zeros } from '../nd.js';
import {
  EndRows,
  expectDepartureValues,
  expectEnds,
  expectFloats,
  expectObject,
  expectShare,
  expectValue,
  type FloatView,
  type StepEnds,
} from './step-arrays.js';

/** What {@link gae} reads, in departure alignment; fields it does not know are left alone. */
export interface GaeOptions extends StepEnds {
  /** Reward of each step, `[B, T]`. */
  reward: FloatView;
  /**
   * Value of each observation, `[B, T + 1]`; with `nextValue`, of those that steps leave, `[B, T]`. It
   * must be there: a `Trajectory` has it where `imagine` was given `value`.
   */
  value?: FloatView;
  /**
   * Value of the observation each step led to, `[B, T]`: for rows of several episodes, where the next
   * index of `value` belongs to the observation after a reset. Default `value` one index on.
   */
  nextValue?: FloatView;
  /** Discount factor in [0, 1]. */
  gamma: number;
  /** From 0, the one-step temporal difference, to 1, the discounted return less the value. */
  lambda: number;
}

/** Advantages and what the value is to become. */
export interface AdvantageEstimate {
  /** Float32 `[B, T]`. */
  advantage: NdView;
  /** `advantage + value`, the lambda-return, float32 `[B, T]`. */
  target: NdView;
}

/**
 * Generalised advantage estimates:
 * `A_t = d_t + gamma lambda c_t l_t A_{t+1}` with `d_t = r_t + gamma c_t v_{t+1} - v_t`.
 *
 * `c` is `discount`, or `1 - terminated`; `l` is 0 at a truncated or last step and before padding, else 1.
 * So a terminated step counts nothing after it, and a truncated one counts the value of the observation
 * it led to and cuts the chain. PPO implementations that know one `done` take every truncation for an
 * end: `terminated: done` gives their numbers.
 *
 * @returns both, row-major; sums are float64
 * @throws TypeError when `value` is missing, `terminated` and `discount` both are, or an array is of
 *   another kind; `ShapeError` when shapes disagree; RangeError when `gamma`, `lambda` or an end is not
 *   in [0, 1]
 *
 * Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation"
 * (2016); agrees with `generalized_advantage_estimate` of TorchRL.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { gae } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const { advantage } = gae({
 *   reward: nd([[1, 1]]),
 *   value: nd([[2, 4, 8]]),
 *   terminated: nd([[0, 0]]),
 *   gamma: 0.5,
 *   lambda: 0.5,
 * });
 * expect([...advantage.data]).toEqual([1 + 2 - 2 + 0.25 * 1, 1 + 4 - 4]);
 * ```
 */
export function gae(options: GaeOptions): AdvantageEstimate {
  expectObject(WHAT, options);
  const { gamma, lambda } = options;
  expectShare(`${WHAT}: gamma`, gamma);
  expectShare(`${WHAT}: lambda`, lambda);
  expectEnds(WHAT, options);
  const reward = expectFloats(`${WHAT}: reward`, options.reward, undefined);
  const [rows, steps] = options.reward.shape;
  const { value, width, nextValue } = expectValues(options, rows, steps);
  const ends = new EndRows(WHAT, options, [rows, steps]);
  const { discount, open, mask } = ends;
  const advantage = zeros([rows, steps]);
  const target = zeros([rows, steps]);
  for (let row = 0; row < rows; row++) {
    ends.read(row);
    const from = row * steps;
    const states = row * width;
    let next = 0;
    for (let t = steps - 1; t >= 0; t--) {
      const i = from + t;
      if (mask !== undefined && mask[i] === 0) continue;
      const factor = gamma * discount[t];
      let sum: number = reward[i];
      // What has no share in the estimate must not reach it, even if it is not finite.
      if (factor !== 0) {
        sum += factor * (nextValue === undefined ? value[states + t + 1] : nextValue[i]);
        const chain = lambda * open[t];
        if (chain !== 0) sum += factor * chain * next;
      }
      const current = value[states + t];
      next = sum - current;
      advantage.data[i] = next;
      target.data[i] = sum;
    }
  }
  return { advantage, target };
}

/** The values of observations, `width` a row, and those of next observations where they come apart. */
function expectValues(
  { value, nextValue }: GaeOptions,
  rows: number,
  steps: number,
): {
  value: Float32Array | Float64Array;
  width: number;
  nextValue: Float32Array | Float64Array | undefined;
} {
  if (nextValue === undefined) {
    const remedy = 'or give nextValue, and value of the observations that steps leave';
    const states = expectDepartureValues(WHAT, value, [rows, steps], remedy);
    return { value: states, width: steps + 1, nextValue: undefined };
  }
  expectValue(WHAT, value);
  const remedy = 'with nextValue, value is that of the observations that steps leave alone';
  return {
    value: expectFloats(`${WHAT}: value`, value, [rows, steps], remedy),
    width: steps,
    nextValue: expectFloats(`${WHAT}: nextValue`, nextValue, [rows, steps]),
  };
}

const WHAT = 'gae';
