/**
 * The log-variance outputs of an ensemble, as variances in output units.
 *
 * Raw outputs get the soft clamp of PETS, `v <- hi - softplus(hi - v)` and then
 * `v <- lo + softplus(v - lo)`. With `softplus(z) = ln(1 + e^z)` the exponential after both passes has the
 * closed form `e^lo + 1 / (e^-hi + e^-v)`: one exponential instead of two and two logarithms.
 * Chua et al., "Deep Reinforcement Learning in a Handful of Trials" (2018); mbrl-lib's GaussianMLP.
 */

import { draw, type VarianceForm, varianceOf, variances } from '../kernels/variance.js';
import type { LogVarianceManifest } from '../runtime/manifest.js';

/** What a manifest says of the log-variances. */
export class LogVarianceForm {
  readonly #form: VarianceForm;
  /** Whether the network's numbers are the log-variances in output units. */
  readonly isPlain: boolean;

  /**
   * @param form - raw with the bounds of each output, or clamped by the network
   * @param width - number of outputs, `D`
   * @param scale - standard deviations the outputs are divided by, `[D]`; 1 by default
   */
  constructor(form: LogVarianceManifest, width: number, scale?: readonly number[]) {
    // Without bounds the closed form is e^v itself: 0 + 1 / (0 + e^-v).
    const floor = new Float64Array(width);
    const inverseCeiling = new Float64Array(width);
    const factor = Float64Array.from({ length: width }, (_, d) => (scale?.[d] ?? 1) ** 2);
    const squared = form.scale === 'log-std';
    this.isPlain = form.form === 'clamped' && !squared && factor.every((f) => f === 1);
    if (form.form === 'raw') {
      for (let d = 0; d < width; d++) {
        floor[d] = Math.exp(form.min[d]);
        inverseCeiling[d] = Math.exp(-form.max[d]);
      }
    }
    this.#form = { floor, inverseCeiling, factor, squared };
  }

  /** The variance of output `d` in output units, for the network's number; keeps NaN. */
  variance(raw: number, d: number): number {
    return varianceOf(this.#form, raw, d);
  }

  /** The variances of packed rows `[..., D]`, as a new array. */
  variances(raw: Float32Array): Float32Array {
    const out = new Float32Array(raw.length);
    variances(this.#form, raw, out);
    return out;
  }

  /** Adds noise, standard normal `[..., D]`, of the variances of `raw` to the means in `out`. */
  draw(raw: Float32Array, noise: Float32Array, out: Float32Array): void {
    draw(this.#form, raw, noise, out);
  }

  /** The log-variances of packed rows `[..., D]`, as a new array. */
  logVariances(raw: Float32Array): Float32Array {
    const out = new Float32Array(raw.length);
    const width = this.#form.floor.length;
    for (let i = 0, d = 0; i < out.length; i++) {
      out[i] = Math.log(this.variance(raw[i], d));
      if (++d === width) d = 0;
    }
    return out;
  }
}
