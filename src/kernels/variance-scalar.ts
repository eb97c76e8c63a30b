/**
 * Variances of the log-variance outputs of an ensemble, and draws from them, in plain TypeScript: what the
 * kernel computes within float32 rounding, and what serves where it cannot start.
 */

/** What makes variances of a network's numbers: of each output, `[D]` each. */
export interface VarianceForm {
  /** `e^lo`; 0 without a bound. */
  readonly floor: Float64Array;
  /** `e^-hi`; 0 without a bound. */
  readonly inverseCeiling: Float64Array;
  /** What a variance of 1 in the network's units is in output units. */
  readonly factor: Float64Array;
  /** Whether the numbers are logarithms of standard deviations. */
  readonly squared: boolean;
}

/** `floor + 1 / (inverseCeiling + e^-raw)`, squared or not, times `factor`: over rows `[B, D]`. */
export interface VarianceKernel {
  /** Writes the variances of `raw` to `out`, which may be `raw`. */
  variances(form: VarianceForm, raw: Float32Array, out: Float32Array): void;
  /** Adds `sqrt(variance) * noise` to the means in `out`. */
  draw(form: VarianceForm, raw: Float32Array, noise: Float32Array, out: Float32Array): void;
}

/** One variance, of output `d`; keeps NaN. */
export function varianceOf(form: VarianceForm, raw: number, d: number): number {
  const clamped = form.floor[d] + 1 / (form.inverseCeiling[d] + Math.exp(-raw));
  return form.factor[d] * (form.squared ? clamped * clamped : clamped);
}

export const variances: VarianceKernel['variances'] = (form, raw, out) => {
  const width = form.floor.length;
  for (let i = 0, d = 0; i < out.length; i++) {
    out[i] = varianceOf(form, raw[i], d);
    if (++d === width) d = 0;
  }
};

export const draw: VarianceKernel['draw'] = (form, raw, noise, out) => {
  const width = form.floor.length;
  for (let i = 0, d = 0; i < out.length; i++) {
    out[i] += Math.sqrt(varianceOf(form, raw[i], d)) * noise[i];
    if (++d === width) d = 0;
  }
};
