/**
 * The log-variance outputs of an ensemble, as variances.
 *
 * Raw outputs get the soft clamp of PETS, `v <- hi - softplus(hi - v)` and then
 * `v <- lo + softplus(v - lo)`. With `softplus(z) = ln(1 + e^z)` the variance after both passes has the
 * closed form `e^lo + 1 / (e^-hi + e^-v)`: one exponential instead of two and two logarithms.
 * Chua et al., "Deep Reinforcement Learning in a Handful of Trials" (2018); mbrl-lib's GaussianMLP.
 */

/** The variance for a raw log-variance, with `floor = e^lo` and `inverseCeiling = e^-hi`; keeps NaN. */
export function clampedVariance(logVar: number, floor: number, inverseCeiling: number): number {
  return floor + 1 / (inverseCeiling + Math.exp(-logVar));
}

/** What a manifest says of the log-variances, ready for {@link clampedVariance}. */
export class LogVarianceForm {
  /** `e^lo` of each output, `[D]`; 0 without a bound. */
  readonly floor: Float64Array;
  /** `e^-hi` of each output, `[D]`; 0 without a bound. */
  readonly inverseCeiling: Float64Array;

  /**
   * @param form - raw with the bounds of each output, or clamped by the network
   * @param width - number of outputs, `D`
   */
  constructor(
    form: { form: 'raw'; min: readonly number[]; max: readonly number[] } | { form: 'clamped' },
    width: number,
  ) {
    // Without bounds the closed form is e^v itself: 0 + 1 / (0 + e^-v).
    this.floor = new Float64Array(width);
    this.inverseCeiling = new Float64Array(width);
    if (form.form === 'raw') {
      for (let d = 0; d < width; d++) {
        this.floor[d] = Math.exp(form.min[d]);
        this.inverseCeiling[d] = Math.exp(-form.max[d]);
      }
    }
  }

  /** Clamped log-variances of packed rows `[..., D]`, as a new array. */
  clamp(logVar: Float32Array): Float32Array {
    const { floor, inverseCeiling } = this;
    const out = new Float32Array(logVar.length);
    for (let i = 0, d = 0; i < out.length; i++) {
      out[i] = Math.log(clampedVariance(logVar[i], floor[d], inverseCeiling[d]));
      if (++d === floor.length) d = 0;
    }
    return out;
  }
}
