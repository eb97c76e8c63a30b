/** Noise whose neighbours in time are alike: normal, with the power of a frequency `f` being `f^-beta`. */

import { type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import type { RowNoise } from '../sampling/row-noise.js';

/** How noise is coloured. */
export interface ColouredNoiseOptions {
  /** Exponent of the power spectrum, at least 0: 0 is white, 1 pink, 2 brown. */
  beta: number;
  /** Steps of a sequence, `H`. */
  horizon: number;
  /** Numbers of a step, `A`, each with noise of its own. */
  width: number;
  /** Which of a row's independent draws, 0..65535. Default 0. */
  draw?: number;
  /** Memory for the result, at least `B H A` long; by default new. */
  out?: Float32Array;
}

/**
 * Coloured noise over time: each of the `A` columns of a row is a normal sequence of `H` steps whose power
 * at frequency `f` is `f^-beta`. Actions that are alike for a while explore further than white ones.
 *
 * The spectrum is drawn and transformed (Timmer and Koenig, "On generating power law noise", 1995), as in
 * colorednoise's `powerlaw_psd_gaussian` before version 2.1 and in mbrl-lib's: frequencies are scaled to a
 * variance of 1, to which the constant part comes on top, so that a short sequence has a standard deviation
 * of 1.03 to 1.1. White noise, and a sequence of one step, has 1.
 *
 * @param noise - names the rows; one row is one sequence, of at most 262144 numbers `H A`
 * @returns float32 `[B, H, A]`
 * @throws TypeError for an unknown option, RangeError for one outside its range
 *
 * @example
 * ```ts @import.meta.vitest
 * const { colouredNoise } = await import('umwelt/rollout');
 * const { RowNoise, Stream } = await import('umwelt/sampling');
 * // A hundred episodes' exploration, of 50 steps and 2 actions.
 * const rows = new RowNoise(7, Stream.policy, 0, Uint32Array.from({ length: 100 }, (_, b) => b));
 * expect(colouredNoise(rows, { beta: 2, horizon: 50, width: 2 }).shape).toEqual([100, 50, 2]);
 * ```
 */
export function colouredNoise(noise: RowNoise, options: ColouredNoiseOptions): NdView {
  expectOptions(WHAT, options, OPTIONS);
  const { beta, horizon, width, draw = 0, out } = options;
  expectCount(`${WHAT}: horizon`, horizon);
  expectCount(`${WHAT}: width`, width);
  const colour = new NoiseColour(`${WHAT}: beta`, beta, horizon);
  const white = noise.normal(horizon * width, { draw, ...(out && { out }) });
  colour.apply(white.data, width);
  return nd(white.data, [noise.trajectory.length, horizon, width]);
}

const WHAT = 'colouredNoise';
const OPTIONS = ['beta', 'horizon', 'width', 'draw', 'out'];

/**
 * The change of white noise into coloured: a linear map over time.
 *
 * Of `H` white numbers the first `floor(H / 2) + 1` are the real parts of the spectrum from frequency 0 up,
 * the rest the imaginary parts from frequency `1 / H` up; those of frequency 0, and of 1/2 where `H` is
 * even, are 0.
 */
export class NoiseColour {
  readonly #horizon: number;
  /** Weights of the real parts at steps `0 .. H / 2`; null where noise stays white. */
  readonly #even: Float64Array | null = null;
  /** Weights of the imaginary parts. */
  readonly #odd: Float64Array = new Float64Array(0);
  readonly #column: Float64Array;

  /**
   * @param name - what messages call the exponent, such as `MppiPlanner: colour`
   * @throws RangeError unless `beta` is a finite number of at least 0
   */
  constructor(name: string, beta: number, horizon: number) {
    if (!(beta >= 0 && Number.isFinite(beta))) {
      throw new RangeError(`${name} must be a finite number of at least 0, got ${beta}`);
    }
    this.#horizon = horizon;
    this.#column = new Float64Array(horizon);
    // A single step has no frequency but 0.
    if (beta === 0 || horizon === 1) return;
    const half = Math.floor(horizon / 2);
    const real = half + 1;
    const imaginary = horizon - real;
    // Frequency 0 counts as the lowest there is.
    const scale = Array.from({ length: real }, (_, k) => (Math.max(k, 1) / horizon) ** (-beta / 2));
    // Where H is even, frequency 1/2 has no counterpart among the negative ones.
    const paired = (k: number): number => (k === 0 || 2 * k === horizon ? 1 : 2);
    let power = 0;
    for (let k = 1; k <= half; k++) power += (paired(k) * scale[k]) ** 2;
    const sigma = Math.sqrt(power);
    this.#even = new Float64Array(real * real);
    this.#odd = new Float64Array(real * imaginary);
    for (let t = 0; t <= half; t++) {
      for (let k = 0; k < real; k++) {
        const weight = (paired(k) * scale[k]) / sigma;
        const turn = (2 * Math.PI * ((k * t) % horizon)) / horizon;
        this.#even[t * real + k] = weight * Math.cos(turn);
        if (k > 0 && k <= imaginary) {
          this.#odd[t * imaginary + k - 1] = -weight * Math.sin(turn);
        }
      }
    }
  }

  /** Colours sequences `[..., H, A]` in place. */
  apply(data: Float32Array, width: number): void {
    const even = this.#even;
    if (even === null) return;
    const odd = this.#odd;
    const column = this.#column;
    const horizon = this.#horizon;
    const half = Math.floor(horizon / 2);
    const real = half + 1;
    const imaginary = horizon - real;
    const size = horizon * width;
    for (let sequence = 0; sequence < data.length; sequence += size) {
      for (let d = 0; d < width; d++) {
        const from = sequence + d;
        for (let i = 0; i < horizon; i++) column[i] = data[from + i * width];
        for (let t = 0; t <= half; t++) {
          let cosines = 0;
          for (let k = 0, w = t * real; k < real; k++) cosines += even[w + k] * column[k];
          let sines = 0;
          for (let k = 0, w = t * imaginary; k < imaginary; k++) {
            sines += odd[w + k] * column[real + k];
          }
          // Cosines are the same, and sines the opposite, as many steps before the end.
          data[from + t * width] = cosines + sines;
          if (t > 0) data[from + (horizon - t) * width] = cosines - sines;
        }
      }
    }
  }
}
