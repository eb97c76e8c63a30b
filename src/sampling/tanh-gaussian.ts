import { type NdView, nd } from '../nd.js';
import { DiagonalGaussian } from './diagonal-gaussian.js';
import { type Distribution, expectRows, widthOf } from './distribution.js';
import { GaussianParameters, type Scale } from './gaussian-parameters.js';
import { HALF_LOG_TWO_PI } from './special-functions.js';

/** A sampled action and how likely it was. */
export interface TanhGaussianSample {
  /** `tanh(mean + std * noise)`, float32 in the mean's shape, within [-1, 1]. */
  action: NdView;
  /** Log-density of the action, float32 `[B]`. */
  logProb: Float32Array;
}

/**
 * Independent Gaussians squashed by tanh, the usual head of soft actor-critic policies.
 *
 * The entropy has no closed form and is left out; the mean of `-logProb` over samples estimates it.
 * Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018), appendix C.
 */
export class TanhGaussian implements Distribution {
  /** Shape of the mean and of a sample, `[B, ...]`. */
  readonly shape: readonly number[];
  /** `sample` takes standard normal noise, of `RowNoise.normal(noiseWidth)`. */
  readonly noiseKind = 'normal';
  /** Numbers of noise a row: as many as the mean has. */
  readonly noiseWidth: number;
  /** The Gaussian before squashing. */
  readonly base: DiagonalGaussian;
  readonly #parameters: GaussianParameters;

  /**
   * @param mean - float32 `[B, ...]`, before squashing
   * @param scale - `{ std }` or `{ logStd }` before squashing, float32 in the mean's shape; a negative
   *   `std` counts as NaN
   * @throws TypeError when one is no float32 view
   * @throws `ShapeError` when the shapes differ
   */
  constructor(mean: NdView, scale: Scale) {
    this.#parameters = new GaussianParameters('TanhGaussian', mean, scale);
    this.base = new DiagonalGaussian(mean, scale);
    this.shape = mean.shape;
    this.noiseWidth = widthOf(mean.shape);
  }

  /**
   * `tanh(mean + std * noise)`.
   *
   * @param noise - standard normal, float32 `[B, noiseWidth]`
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sample(noise: NdView): NdView {
    return this.sampleWithLogProb(noise).action;
  }

  /**
   * A sample and its log-density, taken from the value before squashing:
   * `sum log N(u; mean, std) - 2 (ln 2 - u - softplus(-2u))`, which stays exact where tanh saturates and
   * needs no epsilon.
   *
   * @param noise - standard normal, float32 `[B, noiseWidth]`
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sampleWithLogProb(noise: NdView): TanhGaussianSample {
    const e = expectRows('TanhGaussian: noise', noise, this.shape);
    const parameters = this.#parameters;
    const { mean } = parameters;
    const width = this.noiseWidth;
    const action = new Float32Array(mean.length);
    const logProb = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < logProb.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const u = mean[at] + parameters.std(at) * e[at];
        // tanh u and the softplus share one exponential: with t = e^(-2|u|),
        // tanh |u| = (1 - t) / (1 + t) and softplus(-2u) = max(-2u, 0) + ln(1 + t). expm1 keeps the
        // digits of t - 1 near u = 0.
        const minus = Math.expm1(-2 * Math.abs(u));
        const magnitude = -minus / (2 + minus);
        action[at] = u < 0 ? -magnitude : magnitude;
        sum += -0.5 * e[at] * e[at] - parameters.logStd(at) - HALF_LOG_TWO_PI;
        sum -= 2 * (Math.LN2 - u - Math.max(-2 * u, 0) - Math.log(2 + minus));
      }
      logProb[row] = sum;
    }
    return { action: nd(action, this.shape), logProb };
  }

  /**
   * The squashed mean: what a tanh-Gaussian policy does without noise.
   *
   * It is the image of the Gaussian's mode and the median of each number, not the mode of the squashed
   * density.
   */
  mode(): NdView {
    const { mean } = this.#parameters;
    const out = new Float32Array(mean.length);
    for (let i = 0; i < out.length; i++) out[i] = Math.tanh(mean[i]);
    return nd(out, this.shape);
  }

  /**
   * Log-density of given actions, float32 `[B]`, summed over the row.
   *
   * The value before squashing is `atanh(action)`. An action of exactly -1 or 1, which tanh reaches by
   * rounding only, counts as the float32 next to it (`1 - 2^-24`); beyond them the density is 0 and its
   * logarithm `-Infinity`. Near the bounds float32 holds few digits of what was squashed: where samples
   * saturate use {@link TanhGaussian.sampleWithLogProb}.
   *
   * @param action - float32 `[B, ...]`
   * @throws TypeError or `ShapeError` when `action` is not that
   */
  logProb(action: NdView): Float32Array {
    const a = expectRows('TanhGaussian: action', action, this.shape);
    const parameters = this.#parameters;
    const { mean } = parameters;
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const inside = Math.min(Math.max(a[at], -LARGEST), LARGEST);
        const z = (Math.atanh(inside) - mean[at]) / parameters.std(at);
        sum -= 0.5 * z * z + parameters.logStd(at) + HALF_LOG_TWO_PI;
        // tanh' = 1 - a^2, and both factors are exact.
        sum -= Math.log((1 - inside) * (1 + inside));
        if (Math.abs(a[at]) > 1) sum += Number.NEGATIVE_INFINITY;
      }
      out[row] = sum;
    }
    return out;
  }

  /**
   * Kullback-Leibler divergence `KL(this || other)` in nats, float32 `[B]`: that of the Gaussians before
   * squashing, since a bijection leaves it unchanged.
   *
   * @throws `ShapeError` when the other's shape differs
   */
  kl(other: TanhGaussian): Float32Array {
    return this.base.kl(other.base);
  }
}

/** The largest float32 below 1. */
const LARGEST = 1 - 2 ** -24;
