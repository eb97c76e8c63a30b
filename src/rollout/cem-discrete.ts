import { nd } from '../nd.js';
import type { CemSettings } from './cem-options.js';
import { topSequences } from './elites.js';
import type { PlanCarry } from './planner.js';
import { chosenSequences } from './planner-options.js';
import type { Best, PlanNoise, SequenceMethod, Sequences } from './sequence-search.js';

/** Part of the probability that is always spread over all indices, so that none dies out. */
const ALWAYS = 0.01;
/** Part of it that is at the start of a plan that goes on from another, whose choices may be past. */
const AT_START = 0.5;

/** The cross-entropy method over indices: independent categorical distributions. */
export class CemDiscrete implements SequenceMethod {
  readonly #settings: CemSettings;
  readonly #n: number;
  /** `[B, H, n]`. */
  readonly #probabilities: Float64Array;
  readonly #frequencies: Float64Array;
  readonly #cumulative: Float64Array;
  readonly #elites: Int32Array;
  #uniform: Float32Array = new Float32Array(0);

  constructor(settings: CemSettings, n: number, rows: number, carried: Float32Array | undefined) {
    const { horizon, elites } = settings;
    this.#settings = settings;
    this.#n = n;
    this.#probabilities = new Float64Array(rows * horizon * n).fill(1 / n);
    this.#frequencies = new Float64Array(horizon * n);
    this.#cumulative = new Float64Array(horizon * n);
    this.#elites = new Int32Array(elites);
    if (carried === undefined) return;
    for (let at = 0; at < carried.length; at++) {
      this.#probabilities[at] = (1 - AT_START) * carried[at] + AT_START / n;
    }
  }

  count(): number {
    return this.#settings.population;
  }

  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void {
    const { rows, count, proposed, width, data } = sequences;
    const n = this.#n;
    const own = count - proposed;
    if (this.#uniform.length !== own * width) this.#uniform = new Float32Array(own * width);
    const uniform = this.#uniform;
    const cumulative = this.#cumulative;
    for (let b = 0; b < rows; b++) {
      noise.sequences(b, own).uniform(width, { draw: iteration, out: uniform });
      this.#accumulate(b * width * n);
      const to = (b * count + proposed) * width;
      for (let i = 0, t = 0; i < uniform.length; i++, t = t + 1 === width ? 0 : t + 1) {
        const u = uniform[i];
        let low = t * n;
        let high = low + n - 1;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (u < cumulative[middle]) high = middle;
          else low = middle + 1;
        }
        data[to + i] = low - t * n;
      }
    }
  }

  /** Sums up one start's probabilities at each step. */
  #accumulate(from: number): void {
    const n = this.#n;
    const cumulative = this.#cumulative;
    for (let i = 0; i < cumulative.length; i++) {
      cumulative[i] = this.#probabilities[from + i] + (i % n === 0 ? 0 : cumulative[i - 1]);
    }
  }

  update(_iteration: number, sequences: Sequences, values: Float32Array): void {
    const { rows, count, width, data } = sequences;
    const { alpha } = this.#settings;
    const n = this.#n;
    const probabilities = this.#probabilities;
    const frequencies = this.#frequencies;
    const elites = this.#elites;
    for (let b = 0; b < rows; b++) {
      const found = topSequences(values, b * count, count, elites.length, elites);
      if (found === 0) continue;
      frequencies.fill(0);
      for (let e = 0; e < found; e++) {
        const from = (b * count + elites[e]) * width;
        for (let t = 0; t < width; t++) frequencies[t * n + data[from + t]] += 1 / found;
      }
      for (let i = 0, at = b * width * n; i < frequencies.length; i++, at++) {
        const fitted = alpha * probabilities[at] + (1 - alpha) * frequencies[i];
        probabilities[at] = (1 - ALWAYS) * fitted + ALWAYS / n;
      }
    }
  }

  finish(best: Best): { actions: Int32Array; carry: PlanCarry } {
    const { horizon, returns } = this.#settings;
    const probabilities = Float32Array.from(this.#probabilities);
    const rows = best.values.length;
    return {
      actions: chosenSequences(returns, this.#modes(rows * horizon), best),
      carry: { probabilities: nd(probabilities, [rows, horizon, this.#n]) },
    };
  }

  /** The most probable index of each step; of equal ones the least. */
  #modes(steps: number): Int32Array {
    const n = this.#n;
    const probabilities = this.#probabilities;
    const modes = new Int32Array(steps);
    for (let i = 0; i < steps; i++) {
      for (let index = 1; index < n; index++) {
        if (probabilities[i * n + index] > probabilities[i * n + modes[i]]) modes[i] = index;
      }
    }
    return modes;
  }
}
