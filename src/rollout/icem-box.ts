import { withinBox } from './action-space.js';
import { NoiseColour } from './coloured-noise.js';
import { EliteMoments, spreadAround } from './elite-moments.js';
import { topSequences } from './elites.js';
import { type IcemCarry, icemCarry } from './icem-carry.js';
import type { IcemSettings } from './icem-options.js';
import type { PlanCarry } from './planner.js';
import { chosenSequences, type SequenceBox, sequenceBox } from './planner-options.js';
import type { Best, PlanNoise, SequenceMethod, Sequences } from './sequence-search.js';

/** The improved cross-entropy method: normal distributions around a mean, coloured over time. */
export class IcemBox implements SequenceMethod {
  readonly #settings: IcemSettings;
  readonly #box: SequenceBox;
  readonly #colour: NoiseColour;
  /** Whether there was a carry. */
  readonly #warm: boolean;
  /** `[B, H A]`. */
  readonly #mean: Float64Array;
  /** `[B, H A]`. */
  readonly #variance: Float64Array;
  /** `[B, K, H A]`, best first. */
  readonly #kept: Float32Array;
  /** How many of a start's kept elites there are, `[B]`. */
  readonly #keptCount: Int32Array;
  /** How many of their last actions are to be drawn, `[B]`. */
  readonly #fresh: Int32Array;
  readonly #std: Float64Array;
  readonly #moments: EliteMoments;
  readonly #elites: Int32Array;

  constructor(settings: IcemSettings, rows: number, carried: IcemCarry | undefined) {
    const { what, horizon, actionSpace, beta, elites, kept, initialStd } = settings;
    const box = sequenceBox(actionSpace, horizon);
    const { low, high, middle } = box;
    const width = middle.length;
    this.#settings = settings;
    this.#box = box;
    this.#colour = new NoiseColour(`${what}: beta`, beta, horizon);
    this.#warm = carried !== undefined;
    this.#mean = new Float64Array(rows * width);
    this.#variance = new Float64Array(rows * width);
    this.#kept =
      carried === undefined
        ? new Float32Array(rows * kept * width)
        : withinBox(carried.elites, actionSpace);
    this.#keptCount = carried?.count.slice() ?? new Int32Array(rows);
    this.#fresh = carried?.fresh.slice() ?? new Int32Array(rows);
    this.#std = new Float64Array(width);
    this.#moments = new EliteMoments(width);
    this.#elites = new Int32Array(elites);
    const mean = carried && withinBox(carried.mean, actionSpace);
    for (let at = 0; at < this.#mean.length; at++) {
      const i = at % width;
      this.#mean[at] = mean === undefined ? middle[i] : mean[at];
      this.#variance[at] = (((initialStd ?? 0.5) * (high[i] - low[i])) / 2) ** 2;
    }
  }

  count(iteration: number): number {
    const { population, decay, elites } = this.#settings;
    const drawn = Math.ceil(Math.max(population * decay ** -iteration, 2 * elites));
    return drawn + this.#again(iteration);
  }

  /** How many sequences an iteration tries besides those it draws. */
  #again(iteration: number): number {
    const { iterations, kept } = this.#settings;
    if (iteration === 0) return this.#warm ? kept : 0;
    return iteration === iterations - 1 ? 1 : kept;
  }

  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void {
    const { rows, count, proposed, width, data } = sequences;
    const { horizon, iterations } = this.#settings;
    const std = this.#std;
    const last = iteration > 0 && iteration === iterations - 1;
    for (let b = 0; b < rows; b++) {
      const out = data.subarray(
        (b * count + proposed) * width,
        (b + 1) * count * width,
      ) as Float32Array;
      noise.sequences(b, count - proposed).normal(width, { draw: iteration, out });
      this.#colour.apply(out, width / horizon);
      for (let i = 0; i < width; i++) std[i] = Math.sqrt(this.#variance[b * width + i]);
      spreadAround(out, this.#mean, b * width, std, this.#box);
      // What is tried again takes the place of the last sequences drawn.
      const to = out.length - this.#again(iteration) * width;
      if (last) out.set(this.#mean.subarray(b * width, (b + 1) * width), to);
      else this.#writeKept(b, out, to, iteration === 0 ? this.#fresh[b] : 0);
    }
  }

  /** Writes one start's kept elites over drawn sequences, whose last `fresh` actions stay. */
  #writeKept(row: number, out: Float32Array, to: number, fresh: number): void {
    const { horizon, kept } = this.#settings;
    const width = this.#std.length;
    const known = width - fresh * (width / horizon);
    for (let k = 0; k < this.#keptCount[row] && to + k * width < out.length; k++) {
      const from = (row * kept + k) * width;
      out.set(this.#kept.subarray(from, from + known), to + k * width);
    }
  }

  update(_iteration: number, sequences: Sequences, values: Float32Array): void {
    const { rows, count, width, data } = sequences;
    const { alpha, kept } = this.#settings;
    const { mean: eliteMean, squares } = this.#moments;
    const mean = this.#mean;
    const variance = this.#variance;
    const elites = this.#elites;
    const rest = 1 - alpha;
    for (let b = 0; b < rows; b++) {
      const found = topSequences(values, b * count, count, elites.length, elites);
      if (found === 0) continue;
      this.#moments.take(sequences, b, elites, found);
      for (let i = 0, at = b * width; i < width; i++, at++) {
        mean[at] = alpha * mean[at] + rest * eliteMean[i];
        variance[at] = alpha * variance[at] + rest * (squares[i] / found);
      }
      const keep = Math.min(kept, found);
      for (let k = 0; k < keep; k++) {
        const from = (b * count + elites[k]) * width;
        this.#kept.set(data.subarray(from, from + width), (b * kept + k) * width);
      }
      this.#keptCount[b] = keep;
      this.#fresh[b] = 0;
    }
  }

  finish(best: Best): { actions: Float32Array; carry: PlanCarry } {
    const mean = Float32Array.from(this.#mean);
    return {
      actions: chosenSequences(this.#settings.returns, mean.slice(), best),
      carry: icemCarry(this.#settings, {
        mean,
        elites: this.#kept,
        count: this.#keptCount,
        fresh: this.#fresh,
      }),
    };
  }
}
