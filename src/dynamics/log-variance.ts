/**
 * The log-variance outputs of an ensemble, as variances.
 *
 * Raw outputs get the soft clamp of PETS, `v <- hi - softplus(hi - v)` and then
 * `v <- lo + softplus(v - lo)`. With `softplus(z) = ln(1 + e^z)` the variance after both passes has the
 * closed form `e^lo + 1 / (e^-hi + e^-v)`: one exponential instead of two and two logarithms.
 * Chua et al., "Deep Reinforcement Learning in a Handful of Trials" (2018); mbrl-lib's GaussianMLP.
 */
export class LogVarianceForm {
  readonly #floor: Float64Array;
  readonly #inverseCeiling: Float64Array;

  /**
   * @param form - raw with the bounds of each output, or clamped by the network
   * @param width - number of outputs, `D`
   */
  constructor(
    form: { form: 'raw'; min: readonly number[]; max: readonly number[] } | { form: 'clamped' },
    width: number,
  ) {
    // Without bounds the closed form is e^v itself: 0 + 1 / (0 + e^-v).
    this.#floor = new Float64Array(width);
    this.#inverseCeiling = new Float64Array(width);
    if (form.form === 'raw') {
      for (let d = 0; d < width; d++) {
        this.#floor[d] = Math.exp(form.min[d]);
        this.#inverseCeiling[d] = Math.exp(-form.max[d]);
      }
    }
  }

  /** The variance of output `d` whose log-variance the network gave; NaN for NaN. */
  variance(logVar: number, d: number): number {
    return this.#floor[d] + 1 / (this.#inverseCeiling[d] + Math.exp(-logVar));
  }

  /** Clamped log-variances of packed rows `[..., D]`, as a new array. */
  clamp(logVar: Float32Array): Float32Array {
    const out = new Float32Array(logVar.length);
    const width = this.#floor.length;
    for (let i = 0, d = 0; i < out.length; i++) {
      out[i] = Math.log(this.variance(logVar[i], d));
      if (++d === width) d = 0;
    }
    return out;
  }
}
