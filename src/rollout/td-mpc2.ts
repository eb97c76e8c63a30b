import { type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import { type ActionSpace, actionWidth, withinBox } from './action-space.js';
import { topSequences } from './elites.js';
import type { Plan, PlanCarry, Planner, PlanRequest } from './planner.js';
import {
  expectBox,
  expectCarried,
  expectSearchOptions,
  ownActionSpace,
  repeated,
  type SequenceBox,
  sequenceBox,
} from './planner-options.js';
import {
  type PlanNoise,
  type SearchSettings,
  type SequenceMethod,
  type Sequences,
  searchSequences,
} from './sequence-search.js';
import { expectSteps, shiftSequences } from './shift-sequences.js';

/** How the planner of TD-MPC2 searches. The defaults are the published ones. */
export interface TdMpc2Options {
  /** Actions of a sequence, `H`. Default 3. */
  horizon?: number;
  /** Which actions there are: a box; indices are refused. */
  actionSpace: ActionSpace;
  /** Sequences valued in an iteration for each start, the proposals among them. Default 512. */
  population?: number;
  /** Sequences that are learned from in an iteration. Default 64, or the population where that is less. */
  elites?: number;
  /** Default 6; 8 for actions of 20 dimensions and more. */
  iterations?: number;
  /**
   * How much better sequences count more, in 1 / units of value: weights are proportional to
   * `exp(temperature * value)`, so that 0 makes all elites alike. Default 0.5.
   */
  temperature?: number;
  /** Least standard deviation, in halves of each dimension's range. Default 0.05. */
  minStd?: number;
  /** Standard deviation that each plan starts with and never exceeds, in halves of the range. Default 2. */
  maxStd?: number;
  /**
   * Leaves out the noise on the first action, as for evaluation. Which elite is taken is drawn all the
   * same, as upstream does; it depends on the plan's seed and step. Default false.
   */
  deterministic?: boolean;
}

const WHAT = 'TdMpc2Planner';

/**
 * The planner of TD-MPC2: a normal distribution of each action is fitted to the elites, weighted by their
 * values; the plan is one of the elites, drawn by weight, with noise on its first action. What is carried
 * is the mean; any carry with a float32 `mean` `[B, H, A]` serves, also another planner's, brought within
 * the box.
 *
 * Made for short horizons with a policy and a value function: the policy's own sequences come as the
 * request's `proposals`, see {@link policyProposals} (24 of them are published), and `modelObjective` takes
 * what the last state is worth, see {@link criticValue}, with {@link tdMpc2Discount} as `gamma`.
 *
 * Standard deviations are in halves of the range of each action dimension, which for `[-1, 1]`, the only
 * box upstream knows, are the actions' own units. A sequence whose value is not finite is no elite, where
 * upstream takes it for worth 0; an iteration without any elite leaves everything as it was. A start that
 * never had one gets the mean.
 *
 * Hansen, Su and Wang, "TD-MPC2: Scalable, Robust World Models for Continuous Control" (2024); agrees with
 * `_plan` of nicklashansen/tdmpc2.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { TdMpc2Planner } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const planner = new TdMpc2Planner({
 *   actionSpace: { type: 'box', low: [-1], high: [1] },
 *   deterministic: true,
 *   temperature: 100,
 * });
 * // Three actions that should add up to 1.5.
 * const objective = ({ data, shape: [B, N] }) =>
 *   nd(Float32Array.from({ length: B * N }, (_, i) => -((data[3 * i] + data[3 * i + 1] + data[3 * i + 2] - 1.5) ** 2)), [B, N]);
 * const plan = await planner.plan({ objective, start: nd([[0]]), seed: 0 });
 * const [a, b, c] = plan.actions.data;
 * expect(Math.abs(a + b + c - 1.5)).toBeLessThan(0.1);
 * ```
 */
export class TdMpc2Planner implements Planner {
  /** Actions of a sequence, `H`. */
  readonly horizon: number;
  /** Which actions there are. */
  readonly actionSpace: Extract<ActionSpace, { type: 'box' }>;
  readonly #settings: Settings;

  /**
   * @throws TypeError or RangeError naming the option, what must hold and what came
   */
  constructor(options: TdMpc2Options) {
    this.#settings = expectSettings(options);
    this.horizon = this.#settings.horizon;
    this.actionSpace = this.#settings.actionSpace;
  }

  /**
   * Looks for the sequence of the greatest value.
   *
   * @throws RangeError for more proposals than the population has places; TypeError or `ShapeError` for a
   *   request, or an answer of one of its functions, that is not what it must be; the signal's reason
   */
  async plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
    const settings = this.#settings;
    const { carry } = request;
    return searchSequences(settings, request, (rows) => {
      const { actionSpace, horizon, wide, box } = settings;
      if (carry === undefined) return new Method(settings, rows, repeated(box.middle, rows));
      const mean = expectCarried(WHAT, carry, 'mean', Float32Array, [rows, horizon, wide]);
      return new Method(settings, rows, withinBox(mean, actionSpace));
    });
  }

  /** The carry after this many of the plan's actions: its mean, filled up with the middle of the box. */
  shift(carry: PlanCarry, steps: number): PlanCarry {
    const { horizon, wide, box } = this.#settings;
    expectSteps(WHAT, steps, horizon);
    const mean = expectCarried(WHAT, carry, 'mean', Float32Array, [null, horizon, wide]);
    const rows = mean.length / (horizon * wide);
    const shifted = shiftSequences(mean, rows, horizon, wide, steps, box.middle);
    return { mean: nd(shifted, [rows, horizon, wide]) };
  }
}

interface Settings extends SearchSettings {
  readonly actionSpace: Extract<ActionSpace, { type: 'box' }>;
  /** Numbers of an action, `A`. */
  readonly wide: number;
  readonly box: SequenceBox;
  /** Half of the range of each number of a sequence, `[H A]`. */
  readonly half: Float64Array;
  readonly population: number;
  readonly elites: number;
  readonly temperature: number;
  readonly minStd: number;
  readonly maxStd: number;
  readonly deterministic: boolean;
}

/** The distributions of one plan. */
class Method implements SequenceMethod {
  readonly #settings: Settings;
  readonly #rows: number;
  readonly #width: number;
  /** In actions' units, `[B, H, A]`. */
  readonly #mean: Float32Array;
  /** In halves of the range, `[B, H, A]`. */
  readonly #std: Float32Array;
  /** Elites of the last iteration that had any, best first, `[B, elites, H, A]`. */
  readonly #elites: Float32Array;
  /** Logarithms of their weights, the best having 0, `[B, elites]`. */
  readonly #logWeights: Float64Array;
  /** How many there are, `[B]`. */
  readonly #found: Int32Array;
  readonly #order: Int32Array;
  #normal = new Float32Array(0);

  constructor(settings: Settings, rows: number, mean: Float32Array) {
    const { elites, half, maxStd } = settings;
    this.#settings = settings;
    this.#rows = rows;
    this.#width = half.length;
    this.#mean = mean;
    this.#std = new Float32Array(mean.length).fill(maxStd);
    this.#elites = new Float32Array(rows * elites * this.#width);
    this.#logWeights = new Float64Array(rows * elites);
    this.#found = new Int32Array(rows);
    this.#order = new Int32Array(elites);
  }

  count(_iteration: number, proposed: number): number {
    const { population } = this.#settings;
    if (proposed > population) {
      throw new RangeError(
        `${WHAT}: proposals must be at most population ${population}, got ${proposed}; the population counts them`,
      );
    }
    return population - proposed;
  }

  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void {
    const { rows, count, proposed, width, data } = sequences;
    const { half, box } = this.#settings;
    const { low, high } = box;
    const own = count - proposed;
    if (this.#normal.length < own * width) this.#normal = new Float32Array(own * width);
    const mean = this.#mean;
    const std = this.#std;
    for (let b = 0; b < rows; b++) {
      const out = this.#normal;
      const normal = noise.sequences(b, own).normal(width, { draw: iteration, out }).data;
      let to = (b * count + proposed) * width;
      for (let n = 0, from = 0; n < own; n++) {
        for (let i = 0, at = b * width; i < width; i++, at++, from++, to++) {
          const action = mean[at] + std[at] * half[i] * normal[from];
          data[to] = Math.min(Math.max(action, low[i]), high[i]);
        }
      }
    }
  }

  update(_iteration: number, sequences: Sequences, values: Float32Array): void {
    const { rows, count, width, data } = sequences;
    const { elites, temperature } = this.#settings;
    const order = this.#order;
    for (let b = 0; b < rows; b++) {
      const found = topSequences(values, b * count, count, elites, order);
      if (found === 0) continue;
      this.#found[b] = found;
      const most = values[b * count + order[0]];
      for (let e = 0; e < found; e++) {
        const from = (b * count + order[e]) * width;
        this.#elites.set(
          data.subarray(from, from + width) as Float32Array,
          (b * elites + e) * width,
        );
        this.#logWeights[b * elites + e] = temperature * (values[b * count + order[e]] - most);
      }
      this.#fit(b, found);
    }
  }

  finish(_best: unknown, noise: PlanNoise): { actions: Float32Array; carry: PlanCarry } {
    const { elites, horizon, wide, half, box, deterministic } = this.#settings;
    const { low, high } = box;
    const width = this.#width;
    const actions = this.#mean.slice();
    const gumbel = noise.choice.gumbel(elites, { draw: 0 }).data;
    const normal = deterministic ? undefined : noise.choice.normal(wide, { draw: 1 }).data;
    for (let b = 0; b < this.#rows; b++) {
      if (this.#found[b] > 0) {
        let taken = 0;
        let most = Number.NEGATIVE_INFINITY;
        for (let e = 0; e < this.#found[b]; e++) {
          const score = this.#logWeights[b * elites + e] + gumbel[b * elites + e];
          if (score > most) {
            most = score;
            taken = e;
          }
        }
        const from = (b * elites + taken) * width;
        actions.set(this.#elites.subarray(from, from + width), b * width);
      }
      if (normal === undefined) continue;
      for (let d = 0; d < wide; d++) {
        const i = b * width + d;
        const action = actions[i] + this.#std[i] * half[d] * normal[b * wide + d];
        actions[i] = Math.min(Math.max(action, low[d]), high[d]);
      }
    }
    const mean: NdView = nd(this.#mean, [this.#rows, horizon, wide]);
    return { actions, carry: { mean } };
  }

  /** Weighted mean and standard deviation of a start's elites. */
  #fit(b: number, found: number): void {
    const { elites, half, minStd, maxStd } = this.#settings;
    const width = this.#width;
    const data = this.#elites;
    const weight = new Float64Array(found);
    let total = 0;
    for (let e = 0; e < found; e++) {
      weight[e] = Math.exp(this.#logWeights[b * elites + e]);
      total += weight[e];
    }
    for (let i = 0; i < width; i++) {
      let mean = 0;
      for (let e = 0, at = b * elites * width + i; e < found; e++, at += width) {
        mean += weight[e] * data[at];
      }
      mean /= total;
      let square = 0;
      for (let e = 0, at = b * elites * width + i; e < found; e++, at += width) {
        square += weight[e] * (data[at] - mean) ** 2;
      }
      const std = Math.sqrt(square / total) / half[i];
      this.#mean[b * width + i] = mean;
      this.#std[b * width + i] = Math.min(Math.max(std, minStd), maxStd);
    }
  }
}

const OPTIONS = [
  'horizon',
  'actionSpace',
  'population',
  'elites',
  'iterations',
  'temperature',
  'minStd',
  'maxStd',
  'deterministic',
];

function expectSettings(options: TdMpc2Options): Settings {
  expectOptions(WHAT, options, OPTIONS);
  const { actionSpace: given, horizon = 3, population = 512, temperature = 0.5 } = options;
  const { minStd = 0.05, maxStd = 2, deterministic = false } = options;
  const { iterations, elites = Math.min(64, population) } = options;
  expectSearchOptions(WHAT, {
    horizon,
    actionSpace: given,
    population,
    iterations: iterations ?? 1,
  });
  expectCount(`${WHAT}: elites`, elites);
  expectBox(WHAT, given);
  const actionSpace = ownActionSpace(given);
  if (elites > population) {
    throw new RangeError(
      `${WHAT}: elites must be at most population ${population}, got ${elites}; give fewer`,
    );
  }
  if (!(temperature >= 0 && temperature < Number.POSITIVE_INFINITY)) {
    throw new RangeError(
      `${WHAT}: temperature must be a finite number of at least 0, got ${temperature}`,
    );
  }
  if (!(minStd >= 0 && minStd <= maxStd && Number.isFinite(maxStd) && maxStd > 0)) {
    throw new RangeError(
      `${WHAT}: 0 <= minStd <= maxStd must hold, and maxStd be above 0, got ${minStd} and ${maxStd}`,
    );
  }
  if (typeof deterministic !== 'boolean') {
    throw new TypeError(`${WHAT}: deterministic must be true or false, got ${deterministic}`);
  }
  const box = sequenceBox(actionSpace, horizon);
  const wide = actionWidth(actionSpace);
  return {
    what: WHAT,
    horizon,
    actionSpace,
    wide,
    box,
    half: box.high.map((high, i) => (high - box.low[i]) / 2),
    population,
    elites,
    iterations: iterations ?? (wide >= 20 ? 8 : 6),
    temperature,
    minStd,
    maxStd,
    deterministic,
  };
}
