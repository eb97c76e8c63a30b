import { type NdView, packed, ShapeError, zeros } from '../nd.js';

/** A sampled action and how likely it was. */
export interface TanhGaussianSample {
  /** `tanh(mean + std * noise)`, float32 `[B, A]`, within [-1, 1]. */
  action: NdView;
  /** Log-density of the action, float32 `[B]`. */
  logProb: Float32Array;
}

/**
 * Samples a Gaussian squashed by tanh, the usual head of soft actor-critic policies.
 *
 * The log-density is taken from the value before squashing,
 * `sum log N(u; mean, std) - 2 (ln 2 - u - softplus(-2u))`, which stays exact where tanh saturates and
 * needs no epsilon. Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018), appendix C.
 *
 * @param mean - float32 `[B, A]`, before squashing
 * @param logStd - float32 `[B, A]`, natural logarithm of the standard deviation
 * @param noise - standard normal, float32 `[B, A]`
 * @throws `ShapeError` when the three shapes differ
 */
export function sampleTanhGaussian(
  mean: NdView,
  logStd: NdView,
  noise: NdView,
): TanhGaussianSample {
  const [rows, width] = mean.shape;
  for (const [name, view] of Object.entries({ mean, logStd, noise })) {
    if (view.shape.length !== 2 || view.shape[0] !== rows || view.shape[1] !== width) {
      throw new ShapeError(
        `sampleTanhGaussian: ${name} must be [B, A] = [${rows}, ${width}], got [${view.shape}]`,
      );
    }
  }
  const m = packed(mean);
  const l = packed(logStd);
  const e = packed(noise);
  const action = zeros([rows, width]);
  const logProb = new Float32Array(rows);
  for (let row = 0, at = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++, at++) {
      const u = m[at] + Math.exp(l[at]) * e[at];
      // tanh u and the softplus share one exponential: with t = e^(-2|u|), tanh |u| = (1 - t) / (1 + t)
      // and softplus(-2u) = max(-2u, 0) + ln(1 + t). expm1 keeps the digits of t - 1 near u = 0.
      const minus = Math.expm1(-2 * Math.abs(u));
      const magnitude = -minus / (2 + minus);
      action.data[at] = u < 0 ? -magnitude : magnitude;
      sum += -0.5 * e[at] * e[at] - l[at] - HALF_LOG_TWO_PI;
      sum -= 2 * (Math.LN2 - u - Math.max(-2 * u, 0) - Math.log(2 + minus));
    }
    logProb[row] = sum;
  }
  return { action, logProb };
}

/**
 * The squashed mean, float32 `[B, A]`: what a tanh-Gaussian policy does without noise.
 *
 * It is the image of the Gaussian's mode and the median of each action, not the mode of the squashed
 * density.
 */
export function modeTanhGaussian(mean: NdView): NdView {
  const m = packed(mean);
  const action = zeros(mean.shape);
  for (let i = 0; i < m.length; i++) action.data[i] = Math.tanh(m[i]);
  return action;
}

const HALF_LOG_TWO_PI = 0.5 * Math.log(2 * Math.PI);
