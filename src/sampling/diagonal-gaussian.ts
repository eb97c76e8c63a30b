import { type NdView, nd } from '../nd.js';
import { type Distribution, expectRows, expectSameShape, widthOf } from './distribution.js';
import { GaussianParameters, type Scale } from './gaussian-parameters.js';
import { HALF_LOG_TWO_PI } from './special-functions.js';

/**
 * Independent Gaussians, one for each number of a row.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { DiagonalGaussian, RowNoise, Stream } = await import('umwelt/sampling');
 * const latent = new DiagonalGaussian(nd([[0, 1], [2, 3]]), { logStd: nd([[0, 0], [-1, -1]]) });
 * const noise = new RowNoise(7, Stream.model, 0, Uint32Array.of(0, 1));
 * const value = latent.sample(noise.normal(latent.noiseWidth));
 * expect(value.shape).toEqual([2, 2]);
 * expect(latent.logProb(value).length).toBe(2);
 * ```
 */
export class DiagonalGaussian implements Distribution {
  /** Shape of the mean and of a sample, `[B, ...]`. */
  readonly shape: readonly number[];
  /** `sample` takes standard normal noise, of `RowNoise.normal(noiseWidth)`. */
  readonly noiseKind = 'normal';
  /** Numbers of noise a row: as many as the mean has. */
  readonly noiseWidth: number;
  readonly #parameters: GaussianParameters;

  /**
   * @param mean - float32 `[B, ...]`
   * @param scale - `{ std }` or `{ logStd }`, float32 in the mean's shape; a negative `std` counts as NaN
   * @throws TypeError when one is no float32 view
   * @throws `ShapeError` when the shapes differ
   */
  constructor(mean: NdView, scale: Scale) {
    this.#parameters = new GaussianParameters('DiagonalGaussian', mean, scale);
    this.shape = mean.shape;
    this.noiseWidth = widthOf(mean.shape);
  }

  /**
   * `mean + std * noise`.
   *
   * @param noise - standard normal, float32 `[B, noiseWidth]`
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sample(noise: NdView): NdView {
    const e = expectRows('DiagonalGaussian: noise', noise, this.shape);
    const { mean } = this.#parameters;
    const out = new Float32Array(mean.length);
    for (let i = 0; i < out.length; i++) out[i] = mean[i] + this.#parameters.std(i) * e[i];
    return nd(out, this.shape);
  }

  /** The mean, copied. */
  mode(): NdView {
    return nd(this.#parameters.mean.slice(), this.shape);
  }

  /**
   * Log-density, float32 `[B]`, summed over the row.
   *
   * @param value - float32 `[B, ...]`
   * @throws TypeError or `ShapeError` when `value` is not that
   */
  logProb(value: NdView): Float32Array {
    const x = expectRows('DiagonalGaussian: value', value, this.shape);
    const { mean } = this.#parameters;
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const z = (x[at] - mean[at]) / this.#parameters.std(at);
        sum -= 0.5 * z * z + this.#parameters.logStd(at) + HALF_LOG_TWO_PI;
      }
      out[row] = sum;
    }
    return out;
  }

  /** Differential entropy in nats, float32 `[B]`, summed over the row. */
  entropy(): Float32Array {
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++)
        sum += this.#parameters.logStd(at) + HALF_LOG_TWO_PI + 0.5;
      out[row] = sum;
    }
    return out;
  }

  /**
   * Kullback-Leibler divergence `KL(this || other)` in nats, float32 `[B]`, summed over the row.
   *
   * @throws `ShapeError` when the other's shape differs
   */
  kl(other: DiagonalGaussian): Float32Array {
    expectSameShape('DiagonalGaussian: other', other, this);
    const own = this.#parameters;
    const its = other.#parameters;
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        // With d = ln (s / s'): (s / s')^2 - 1 - 2 d, which expm1 keeps exact and above 0 for nearly
        // equal scales.
        const d = own.logStd(at) - its.logStd(at);
        const z = (own.mean[at] - its.mean[at]) / its.std(at);
        sum += 0.5 * (Math.expm1(2 * d) - 2 * d + z * z);
      }
      out[row] = sum;
    }
    return out;
  }
}
