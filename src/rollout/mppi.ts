import { describe, isTypedArray, type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type ActionSpace, actionWidth, withinBox } from './action-space.js';
import { NoiseColour } from './coloured-noise.js';
import type { Plan, PlanCarry, Planner, PlanRequest } from './planner.js';
import {
  expectCarried,
  expectLeftOut,
  expectSearchOptions,
  ownActionSpace,
  repeated,
  type SequenceBox,
  sequenceBox,
} from './planner-options.js';
import {
  type PlanNoise,
  type SequenceMethod,
  type Sequences,
  searchSequences,
} from './sequence-search.js';
import { expectSteps, shiftSequences } from './shift-sequences.js';

/** How a path-integral planner searches. */
export interface MppiOptions {
  /** Actions of a sequence, `H`. */
  horizon: number;
  /** Which actions there are. */
  actionSpace: ActionSpace;
  /** Sequences that are drawn in an iteration for each start, besides the proposals. Default 350. */
  population?: number;
  /** Default 5. */
  iterations?: number;
  /**
   * How much worse a sequence may be and still count, in units of value: weights are proportional to
   * `exp(value / lambda)`. It is one over what mbrl-lib calls `gamma` and TD-MPC2 `temperature`. Default 1.
   */
  lambda?: number;
  /**
   * Of a box: standard deviation of the noise in halves of each dimension's range, one for all dimensions
   * or `[A]`. Default 0.5.
   */
  sigma?: number | ArrayLike<number>;
  /**
   * Of a box: what an action has of its own mean and noise, in (0, 1]; the rest it has of the action
   * before it, so that 1 does not smooth. Default 0.9.
   */
  beta?: number;
  /** Of a box: exponent of the noise's power spectrum, see {@link colouredNoise}. Default 0, white. */
  colour?: number;
  /**
   * Of a discrete space: the share of indices drawn from all alike, whatever their weights, in (0, 1].
   * Default 0.1.
   */
  epsilon?: number;
}

const WHAT = 'MppiPlanner';

/**
 * Model predictive path integral control: the plan is the mean of all sequences tried, weighted by
 * `exp((value - greatest value) / lambda)`, found anew in each iteration.
 *
 * In a box, sequences are drawn around the mean `mu` and smoothed, as PDDM does:
 * `a[t] = beta * (mu[t] + sigma * n[t]) + (1 - beta) * a[t - 1]`, then brought within the bounds; `a[-1]`
 * is the action taken last, which goes with the carry, at first the middle of the box. The quadratic cost
 * of noise that canonical MPPI adds is not part of the weights; an objective may have it.
 *
 * In a discrete space, each place of a sequence has probabilities of its own: the weights of the sequences
 * with that index there, summed. The plan has the most probable index at each place, the least of equal
 * ones. Places are learned apart, so where only their combination matters the plan can be worse than the
 * best sequence tried, as a mean can in a box.
 *
 * A sequence whose value is not finite has weight 0; where all are so, mean and probabilities stay. What
 * is carried into a box is brought within its bounds first.
 *
 * Williams et al., "Information Theoretic MPC for Model-Based Reinforcement Learning" (2017); Nagabandi et
 * al., "Deep Dynamics Models for Learning Dexterous Manipulation" (2019). The update agrees with
 * `MPPIOptimizer` of facebookresearch/mbrl-lib, where `sigma` has no
 * effect and the first action is smoothed towards the one planned for its own place.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { MppiPlanner } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const actionSpace = { type: 'box', low: [-2], high: [2] } as const;
 * const planner = new MppiPlanner({ horizon: 1, actionSpace, lambda: 0.01 });
 * const objective = ({ data, shape: [B, N] }) => nd(data.map((a) => -((a - 1.5) ** 2)), [B, N]);
 * const plan = await planner.plan({ objective, start: nd([[0]]), seed: 0 });
 * expect(Math.abs(plan.actions.data[0] - 1.5)).toBeLessThan(0.05);
 * // The next plan starts from what is left of this one.
 * const carry = planner.shift(plan.carry, 1);
 * await planner.plan({ objective, start: nd([[0]]), seed: 0, step: 1, carry });
 * ```
 */
export class MppiPlanner implements Planner {
  /** Actions of a sequence, `H`. */
  readonly horizon: number;
  /** Which actions there are. */
  readonly actionSpace: ActionSpace;
  readonly #settings: Settings;

  /**
   * @throws TypeError or RangeError naming the option, what must hold and what came
   */
  constructor(options: MppiOptions) {
    this.#settings = expectSettings(options);
    this.horizon = options.horizon;
    this.actionSpace = this.#settings.actionSpace;
  }

  /**
   * Looks for the sequence of the greatest value.
   *
   * @throws TypeError or `ShapeError` for a request, or an answer of one of its functions, that is not
   *   what it must be; the signal's reason
   */
  async plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
    const { horizon, actionSpace } = this;
    const settings = this.#settings;
    const { iterations } = settings;
    return searchSequences({ what: WHAT, horizon, actionSpace, iterations }, request, (rows) =>
      settings.kind === 'box'
        ? new BoxMethod(settings, rows, horizon, request.carry)
        : new DiscreteMethod(settings, rows, horizon, request.carry),
    );
  }

  /**
   * The carry after this many of the plan's actions: what is left of it, filled up with the middle of the
   * box, and the last action taken; or of probabilities, filled up with equal ones.
   */
  shift(carry: PlanCarry, steps: number): PlanCarry {
    const { horizon } = this;
    expectSteps(WHAT, steps, horizon);
    const settings = this.#settings;
    const { carryName: name, fill } = settings;
    const wide = fill.length;
    const data = expectCarried(WHAT, carry, name, Float32Array, [null, horizon, wide]);
    const rows = data.length / (horizon * wide);
    const shifted = shiftSequences(data, rows, horizon, wide, steps, fill);
    const rest = { [name]: nd(shifted, [rows, horizon, wide]) };
    if (settings.kind === 'discrete') return rest;
    const previous = expectCarried(WHAT, carry, 'previous', Float32Array, [rows, wide]).slice();
    for (let b = 0; b < rows && steps > 0; b++) {
      const from = (b * horizon + steps - 1) * wide;
      previous.set(data.subarray(from, from + wide), b * wide);
    }
    return { ...rest, previous: nd(previous, [rows, wide]) };
  }
}

interface Common {
  /** What the carry calls the distributions, and one of a place of which nothing is known. */
  readonly carryName: 'mean' | 'probabilities';
  readonly fill: Float64Array;
  readonly population: number;
  readonly iterations: number;
  readonly lambda: number;
}

interface BoxSettings extends Common {
  readonly kind: 'box';
  readonly actionSpace: Extract<ActionSpace, { type: 'box' }>;
  readonly box: SequenceBox;
  /** In actions' units, `[H A]`. */
  readonly sigma: Float64Array;
  readonly beta: number;
  readonly colour: NoiseColour;
}

interface DiscreteSettings extends Common {
  readonly kind: 'discrete';
  readonly actionSpace: Extract<ActionSpace, { type: 'discrete' }>;
  readonly epsilon: number;
}

type Settings = BoxSettings | DiscreteSettings;

/** A mean of each action. */
class BoxMethod implements SequenceMethod {
  readonly #settings: BoxSettings;
  readonly #rows: number;
  readonly #horizon: number;
  /** `[B, H, A]`. */
  readonly #mean: Float32Array;
  /** The action before the first, `[B, A]`. */
  readonly #previous: Float32Array;
  readonly #sum: Float64Array;
  #normal = new Float32Array(0);

  constructor(settings: BoxSettings, rows: number, horizon: number, carry?: PlanCarry) {
    const { fill } = settings;
    const wide = fill.length;
    this.#settings = settings;
    this.#rows = rows;
    this.#horizon = horizon;
    if (carry === undefined) {
      this.#mean = repeated(fill, rows * horizon);
      this.#previous = repeated(fill, rows);
    } else {
      const of = (name: string, shape: [number, ...number[]]) =>
        withinBox(expectCarried(WHAT, carry, name, Float32Array, shape), settings.actionSpace);
      this.#mean = of('mean', [rows, horizon, wide]);
      this.#previous = of('previous', [rows, wide]);
    }
    this.#sum = new Float64Array(horizon * wide);
  }

  count(): number {
    return this.#settings.population;
  }

  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void {
    const { rows, count, proposed, width, data } = sequences;
    const { box, sigma, beta, colour, fill } = this.#settings;
    const { low, high } = box;
    const wide = fill.length;
    const own = count - proposed;
    if (this.#normal.length < own * width) this.#normal = new Float32Array(own * width);
    const out = this.#normal;
    const mean = this.#mean;
    const previous = this.#previous;
    // Smoothed before the bounds: an action beyond them pulls the next one as far as it was drawn.
    const last = new Float64Array(wide);
    for (let b = 0; b < rows; b++) {
      const normal = noise.sequences(b, own).normal(width, { draw: iteration, out }).data;
      colour.apply(normal, wide);
      let to = (b * count + proposed) * width;
      for (let n = 0, from = 0; n < own; n++) {
        for (let d = 0; d < wide; d++) last[d] = previous[b * wide + d];
        for (let i = 0, at = b * width, d = 0; i < width; i++, at++, from++, to++) {
          const action = beta * (mean[at] + sigma[i] * normal[from]) + (1 - beta) * last[d];
          last[d] = action;
          data[to] = Math.min(Math.max(action, low[i]), high[i]);
          if (++d === wide) d = 0;
        }
      }
    }
  }

  update(_iteration: number, sequences: Sequences, values: Float32Array): void {
    const { rows, count, width, data } = sequences;
    const sum = this.#sum;
    for (let b = 0; b < rows; b++) {
      const weights = weightsOf(values, b * count, count, this.#settings.lambda);
      if (weights === undefined) continue;
      sum.fill(0);
      for (let n = 0, from = b * count * width; n < count; n++, from += width) {
        const weight = weights[n];
        for (let i = 0; i < width; i++) sum[i] += weight * data[from + i];
      }
      for (let i = 0; i < width; i++) this.#mean[b * width + i] = sum[i];
    }
  }

  finish(): { actions: Float32Array; carry: PlanCarry } {
    const rows = this.#rows;
    const wide = this.#settings.fill.length;
    const mean: NdView = nd(this.#mean, [rows, this.#horizon, wide]);
    return {
      actions: this.#mean,
      carry: { mean, previous: nd(this.#previous, [rows, wide]) },
    };
  }
}

/** Probabilities of the indices at each place. */
class DiscreteMethod implements SequenceMethod {
  readonly #settings: DiscreteSettings;
  readonly #rows: number;
  readonly #horizon: number;
  /** `[B, H, n]`. */
  readonly #probabilities: Float32Array;
  readonly #sum: Float64Array;
  #uniform = new Float32Array(0);

  constructor(settings: DiscreteSettings, rows: number, horizon: number, carry?: PlanCarry) {
    const { fill } = settings;
    const choices = fill.length;
    this.#settings = settings;
    this.#rows = rows;
    this.#horizon = horizon;
    this.#probabilities =
      carry === undefined
        ? repeated(fill, rows * horizon)
        : expectCarried(WHAT, carry, 'probabilities', Float32Array, [
            rows,
            horizon,
            choices,
          ]).slice();
    this.#sum = new Float64Array(horizon * choices);
  }

  count(): number {
    return this.#settings.population;
  }

  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void {
    const { rows, count, proposed, width, data } = sequences;
    const { fill, epsilon } = this.#settings;
    const choices = fill.length;
    const own = count - proposed;
    if (this.#uniform.length < own * width) this.#uniform = new Float32Array(own * width);
    const out = this.#uniform;
    const probabilities = this.#probabilities;
    for (let b = 0; b < rows; b++) {
      const uniform = noise.sequences(b, own).uniform(width, { draw: iteration, out }).data;
      let to = (b * count + proposed) * width;
      for (let n = 0, from = 0; n < own; n++) {
        for (let t = 0; t < width; t++, from++, to++) {
          const first = (b * width + t) * choices;
          let left = uniform[from];
          let index = 0;
          // The last index takes what rounding leaves over.
          for (; index < choices - 1; index++) {
            left -= (1 - epsilon) * probabilities[first + index] + epsilon / choices;
            if (left < 0) break;
          }
          data[to] = index;
        }
      }
    }
  }

  update(_iteration: number, sequences: Sequences, values: Float32Array): void {
    const { rows, count, width, data } = sequences;
    const { fill, lambda } = this.#settings;
    const choices = fill.length;
    const sum = this.#sum;
    for (let b = 0; b < rows; b++) {
      const weights = weightsOf(values, b * count, count, lambda);
      if (weights === undefined) continue;
      sum.fill(0);
      for (let n = 0, from = b * count * width; n < count; n++) {
        for (let t = 0; t < width; t++, from++) {
          sum[t * choices + data[from]] += weights[n];
        }
      }
      this.#probabilities.set(sum, b * sum.length);
    }
  }

  finish(): { actions: Int32Array; carry: PlanCarry } {
    const choices = this.#settings.fill.length;
    const probabilities = this.#probabilities;
    const actions = new Int32Array(this.#rows * this.#horizon);
    for (let i = 0; i < actions.length; i++) {
      const first = i * choices;
      for (let index = 1; index < choices; index++) {
        if (probabilities[first + index] > probabilities[first + actions[i]]) actions[i] = index;
      }
    }
    const shape = [this.#rows, this.#horizon, choices];
    return { actions, carry: { probabilities: nd(probabilities, shape) } };
  }
}

/** Weights of a start's sequences, which add up to 1; none where no value is finite. */
function weightsOf(
  values: Float32Array,
  from: number,
  count: number,
  lambda: number,
): Float64Array | undefined {
  let most = Number.NEGATIVE_INFINITY;
  for (let n = 0; n < count; n++) most = Math.max(most, values[from + n]);
  if (most === Number.NEGATIVE_INFINITY) return undefined;
  const weights = new Float64Array(count);
  let total = 0;
  for (let n = 0; n < count; n++) {
    // At most 1: the greatest value has exponent 0.
    weights[n] = Math.exp((values[from + n] - most) / lambda);
    total += weights[n];
  }
  for (let n = 0; n < count; n++) weights[n] /= total;
  return weights;
}

const OPTIONS = [
  'horizon',
  'actionSpace',
  'population',
  'iterations',
  'lambda',
  'sigma',
  'beta',
  'colour',
  'epsilon',
];

/** Options of one kind of space alone. */
const OF_BOX = ['sigma', 'beta', 'colour'] as const;
const OF_DISCRETE = ['epsilon'] as const;

function expectSettings(options: MppiOptions): Settings {
  expectOptions(WHAT, options, OPTIONS);
  const { horizon, population = 350, iterations = 5, lambda = 1 } = options;
  const { sigma = 0.5, beta = 0.9, colour = 0, epsilon = 0.1 } = options;
  expectSearchOptions(WHAT, { ...options, population, iterations });
  const actionSpace = ownActionSpace(options.actionSpace);
  if (!(lambda > 0 && lambda < Number.POSITIVE_INFINITY)) {
    throw new RangeError(`${WHAT}: lambda must be a finite number above 0, got ${lambda}`);
  }
  expectLeftOut(WHAT, options, actionSpace.type === 'box' ? OF_DISCRETE : OF_BOX, actionSpace);
  const common = { population, iterations, lambda };
  if (actionSpace.type === 'discrete') {
    expectShare('epsilon', epsilon);
    const fill = new Float64Array(actionSpace.n).fill(1 / actionSpace.n);
    return { ...common, kind: 'discrete', actionSpace, carryName: 'probabilities', fill, epsilon };
  }
  expectShare('beta', beta);
  const box = sequenceBox(actionSpace, horizon);
  return {
    ...common,
    kind: 'box',
    actionSpace,
    carryName: 'mean',
    fill: box.middle.slice(0, actionWidth(actionSpace)),
    box,
    sigma: sigmasOf(sigma, box, actionWidth(actionSpace)),
    beta,
    colour: new NoiseColour(`${WHAT}: colour`, colour, horizon),
  };
}

function expectShare(name: string, value: number): void {
  if (!(value > 0 && value <= 1)) {
    throw new RangeError(`${WHAT}: ${name} must be above 0 and at most 1, got ${value}`);
  }
}

/** Standard deviations in actions' units, `[H A]`. */
function sigmasOf(sigma: unknown, { low, high }: SequenceBox, wide: number): Float64Array {
  if (typeof sigma !== 'number' && !Array.isArray(sigma) && !isTypedArray(sigma)) {
    throw new TypeError(
      `${WHAT}: sigma must be a number or one for each action dimension, got ${describe(sigma)}`,
    );
  }
  const each: ArrayLike<unknown> =
    typeof sigma === 'number' ? Array.from({ length: wide }, () => sigma) : sigma;
  if (each.length !== wide) {
    throw new RangeError(
      `${WHAT}: sigma must have ${wide} entries, one for each action dimension, got ${each.length}`,
    );
  }
  return high.map((most, i) => {
    const own = Number(each[i % wide]);
    if (!(own > 0 && own < Number.POSITIVE_INFINITY)) {
      throw new RangeError(`${WHAT}: sigma must be finite and above 0, got ${own}`);
    }
    return (own * (most - low[i])) / 2;
  });
}
