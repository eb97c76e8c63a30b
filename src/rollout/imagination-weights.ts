import { type NdView, zeros } from '../nd.js';
import {
  EndRows,
  expectAlignment,
  expectEnds,
  expectFlagView,
  expectShare,
  type StepAlignment,
  type StepEnds,
} from './step-arrays.js';

/** What {@link imaginationWeights} reads; fields it does not know are left alone. */
export interface ImaginationWeightsOptions
  extends Pick<StepEnds, 'terminated' | 'discount' | 'mask'> {
  /** Discount factor in [0, 1]; 1 where `discount` contains it. */
  gamma: number;
  /** Whose index the ends have. Default `arrival`. */
  align?: StepAlignment;
}

/**
 * How much each imagined step counts in a loss: the discounted probability that it is reached.
 *
 * With the default alignment, `arrival`, index 0 is the start, and the weight of observation `t`, and of
 * the action there, is `w_t = (prod_{i <= t} gamma c_i) / gamma`: whether the start itself had ended
 * counts, and where the continue head contains the discount factor (`gamma` is 1), so does one factor
 * of it, `w_0 = c_0`. With `departure` the weight of step `t` is `prod_{i < t} gamma c_i`, 1 at the
 * start. Both agree where `c_0` is 1: `c` is `discount`, or `1 - terminated`.
 *
 * A truncation does not change weights; what comes after it must be padding. Beside the returns of
 * {@link lambdaReturn} in `arrival` alignment, which are one fewer, the last weight is not used.
 *
 * Which call gives whose numbers: DreamerV3, `{ discount: con, gamma }` with `gamma` 1 where the head
 * contains it (`contdisc`) and else `1 - 1/333`; dreamerv3-torch leaves out the step's own factor, which
 * is `align: 'departure'` on the same arrays; STORM and Drama weight all steps alike.
 *
 * @returns float32 `[B, T]`, row-major; products are float64
 * @throws TypeError when `terminated` and `discount` are both missing or an array is of another kind;
 *   `ShapeError` when shapes disagree; RangeError when `gamma` or an end is not in [0, 1]
 *
 * Source: Hafner et al., "Mastering Diverse Domains through World Models" (2023); agrees with the weights
 * in `imag_loss` of `danijar/dreamerv3`.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { imaginationWeights } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const weights = imaginationWeights({ discount: nd([[1, 1, 0.5, 0.5]]), gamma: 0.5 });
 * expect([...weights.data]).toEqual([1, 0.5, 0.125, 0.03125]);
 * ```
 */
export function imaginationWeights(options: ImaginationWeightsOptions): NdView {
  expectAlignment(WHAT, options);
  const { gamma, align = 'arrival' } = options;
  expectShare(`${WHAT}: gamma`, gamma);
  expectEnds(WHAT, options);
  const name = options.discount === undefined ? 'terminated' : 'discount';
  const [rows, steps] = expectFlagView(`${WHAT}: ${name}`, options[name]).shape;
  // A trajectory has truncations too, which do not change weights.
  const { terminated, discount: given, mask: valid } = options;
  const ends = new EndRows(WHAT, { terminated, discount: given, mask: valid }, [rows, steps]);
  const { discount, mask } = ends;
  const result = zeros([rows, steps]);
  const out = result.data;
  for (let row = 0; row < rows; row++) {
    ends.read(row);
    const from = row * steps;
    let weight = 1;
    for (let t = 0; t < steps; t++) {
      const i = from + t;
      if (mask !== undefined && mask[i] === 0) continue;
      // Arrival's first factor is c_0 alone: the discount factor in it is divided out again.
      if (align === 'arrival') weight *= t === 0 ? discount[t] : gamma * discount[t];
      out[i] = weight;
      if (align === 'departure') weight *= gamma * discount[t];
    }
  }
  return result;
}

const WHAT = 'imaginationWeights';
