import { nd } from '../nd.js';
import { type ActionSpace, withinBox } from './action-space.js';
import type { CemSettings } from './cem-options.js';
import { EliteMoments, spreadAround } from './elite-moments.js';
import { topSequences } from './elites.js';
import type { PlanCarry } from './planner.js';
import { chosenSequences, type SequenceBox, sequenceBox } from './planner-options.js';
import type { Best, PlanNoise, SequenceMethod, Sequences } from './sequence-search.js';

/** Part of the bounds' distance from which on a bound is near. */
const NEAR = 1 / 4;

/** How near a mean is to the nearer bound: 1 upon it, 0 from a quarter of the bounds' distance on. */
function nearness(mean: number, low: number, high: number): number {
  return Math.max(0, 1 - Math.min(mean - low, high - mean) / (NEAR * (high - low)));
}

/** The cross-entropy method in a box: independent normal distributions. */
export class CemBox implements SequenceMethod {
  readonly #settings: CemSettings;
  readonly #box: SequenceBox;
  /** `[B, H A]`. */
  readonly #mean: Float64Array;
  /** Variances, or where sampling is clipped standard deviations, `[B, H A]`. */
  readonly #spread: Float64Array;
  readonly #width: number;
  readonly #std: Float64Array;
  readonly #moments: EliteMoments;
  readonly #elites: Int32Array;

  constructor(
    settings: CemSettings,
    space: Extract<ActionSpace, { type: 'box' }>,
    rows: number,
    carried: Float32Array | undefined,
  ) {
    const { horizon, sampling, initialStd, elites } = settings;
    const box = sequenceBox(space, horizon);
    const { low, high, middle } = box;
    const width = middle.length;
    this.#settings = settings;
    this.#box = box;
    this.#width = width;
    this.#mean = new Float64Array(rows * width);
    this.#spread = new Float64Array(rows * width);
    this.#std = new Float64Array(width);
    this.#moments = new EliteMoments(width);
    this.#elites = new Int32Array(elites);
    const truncated = sampling === 'truncated';
    const from = carried && withinBox(carried, space);
    for (let at = 0; at < this.#mean.length; at++) {
      const i = at % width;
      const std = ((initialStd ?? (truncated ? 0.5 : 1)) * (high[i] - low[i])) / 2;
      const mean = from === undefined ? middle[i] : from[at];
      this.#mean[at] = mean;
      // From a bound the other one is twice as far as from the middle.
      this.#spread[at] = truncated ? (std * (1 + nearness(mean, low[i], high[i]))) ** 2 : std;
    }
  }

  count(): number {
    return this.#settings.population;
  }

  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void {
    const { rows, count, proposed, width, data } = sequences;
    const truncated = this.#settings.sampling === 'truncated';
    for (let b = 0; b < rows; b++) {
      const own = noise.sequences(b, count - proposed);
      const out = data.subarray(
        (b * count + proposed) * width,
        (b + 1) * count * width,
      ) as Float32Array;
      if (truncated) own.truncatedNormal(width, { draw: iteration, out });
      else own.normal(width, { draw: iteration, out });
      this.#measure(b * width);
      spreadAround(out, this.#mean, b * width, this.#std, this.#box);
    }
  }

  /** Sets the standard deviations that one start's sequences are drawn with. */
  #measure(from: number): void {
    const { low, high } = this.#box;
    const { sampling, minStd } = this.#settings;
    const mean = this.#mean;
    const spread = this.#spread;
    const out = this.#std;
    for (let i = 0; i < out.length; i++) {
      let std = spread[from + i];
      if (sampling === 'truncated') {
        const at = mean[from + i];
        const room = Math.min(at - low[i], high[i] - at);
        const fitted = Math.sqrt(std);
        // On a bound there is no room: there nothing would ever be drawn off it but for the second part.
        std = Math.max(Math.min(fitted, room / 2), nearness(at, low[i], high[i]) * fitted);
      }
      out[i] = Math.max(std, (minStd * (high[i] - low[i])) / 2);
    }
  }

  update(_iteration: number, sequences: Sequences, values: Float32Array): void {
    const { rows, count, width } = sequences;
    const { alpha, sampling } = this.#settings;
    const { mean: eliteMean, squares } = this.#moments;
    const mean = this.#mean;
    const spread = this.#spread;
    const elites = this.#elites;
    const rest = 1 - alpha;
    for (let b = 0; b < rows; b++) {
      const found = topSequences(values, b * count, count, elites.length, elites);
      if (found === 0) continue;
      this.#moments.take(sequences, b, elites, found);
      for (let i = 0, at = b * width; i < width; i++, at++) {
        mean[at] = alpha * mean[at] + rest * eliteMean[i];
        // One sequence says nothing of how far others may lie.
        if (found === 1) continue;
        const variance = squares[i] / (found - 1);
        const fitted = sampling === 'truncated' ? variance : Math.sqrt(variance);
        spread[at] = alpha * spread[at] + rest * fitted;
      }
    }
  }

  finish(best: Best): { actions: Float32Array; carry: PlanCarry } {
    const { horizon, returns } = this.#settings;
    const mean = Float32Array.from(this.#mean);
    const rows = best.values.length;
    return {
      actions: chosenSequences(returns, mean.slice(), best),
      carry: { mean: nd(mean, [rows, horizon, this.#width / horizon]) },
    };
  }
}
