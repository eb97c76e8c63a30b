/** What elites have in common: the mean and spread of their numbers. */

import type { Sequences } from './sequence-search.js';

/** Mean and summed squared deviations of each number of the elites, `[H A]`, in float64. */
export class EliteMoments {
  readonly mean: Float64Array;
  readonly squares: Float64Array;

  /** @param width - numbers of a sequence, `H A` */
  constructor(width: number) {
    this.mean = new Float64Array(width);
    this.squares = new Float64Array(width);
  }

  /**
   * Takes in the elites of one start.
   *
   * @param elites - their numbers within the start's sequences, of which the first `found` count
   */
  take({ count, width, data }: Sequences, row: number, elites: Int32Array, found: number): void {
    const { mean, squares } = this;
    mean.fill(0);
    squares.fill(0);
    for (let e = 0; e < found; e++) {
      const from = (row * count + elites[e]) * width;
      for (let i = 0; i < width; i++) mean[i] += data[from + i];
    }
    for (let i = 0; i < width; i++) mean[i] /= found;
    for (let e = 0; e < found; e++) {
      const from = (row * count + elites[e]) * width;
      for (let i = 0; i < width; i++) {
        const deviation = data[from + i] - mean[i];
        squares[i] += deviation * deviation;
      }
    }
  }
}

/** Turns standard noise into sequences around a mean, within bounds, in place. */
export function spreadAround(
  data: Float32Array,
  mean: Float64Array,
  from: number,
  std: Float64Array,
  { low, high }: { low: Float64Array; high: Float64Array },
): void {
  const width = std.length;
  for (let at = 0; at < data.length; at += width) {
    for (let i = 0; i < width; i++) {
      const value = mean[from + i] + std[i] * data[at + i];
      data[at + i] = value < low[i] ? low[i] : value > high[i] ? high[i] : value;
    }
  }
}
