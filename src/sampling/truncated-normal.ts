import { type NdView, nd, ShapeError } from '../nd.js';
import { type Distribution, expectRows, expectSameShape, widthOf } from './distribution.js';
import { GaussianParameters, type Scale } from './gaussian-parameters.js';
import {
  HALF_LOG_TWO_PI,
  logNormalCdf,
  lowerNormalQuantile,
  normalCdf,
} from './special-functions.js';

/** Where a {@link TruncatedNormal} ends. */
export interface TruncatedNormalOptions {
  /** Least value: one number, or one for each number of a row. Default -1. */
  low?: number | ArrayLike<number>;
  /** Greatest value: one number, or one for each number of a row. Default 1. */
  high?: number | ArrayLike<number>;
}

/**
 * Independent Gaussians restricted to `[low, high]`; either bound may be infinite.
 *
 * The mean and the standard deviation are those before truncation. Bounds are rounded to float32.
 * Works in logarithms from the nearer tail, so that a mean many deviations outside of the bounds is
 * as good as one between them.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { RowNoise, Stream, TruncatedNormal } = await import('umwelt/sampling');
 * const plan = new TruncatedNormal(nd([[0.9, -3]]), { std: nd([[0.5, 2]]) }, { low: -1, high: 1 });
 * const noise = new RowNoise(7, Stream.policy, 0, Uint32Array.of(0));
 * const [x, y] = plan.sample(noise.uniform(plan.noiseWidth)).data;
 * expect(Math.max(Math.abs(x), Math.abs(y))).toBeLessThanOrEqual(1);
 * ```
 */
export class TruncatedNormal implements Distribution {
  /** Shape of the mean and of a sample, `[B, ...]`. */
  readonly shape: readonly number[];
  /** `sample` takes uniform noise, of `RowNoise.uniform(noiseWidth)`. */
  readonly noiseKind = 'uniform';
  /** Numbers of noise a row: as many as the mean has. */
  readonly noiseWidth: number;
  /** Least value of each number of a row; not to be changed. */
  readonly low: Float32Array;
  /** Greatest value of each number of a row; not to be changed. */
  readonly high: Float32Array;
  readonly #parameters: GaussianParameters;

  /**
   * @param mean - before truncation, float32 `[B, ...]`
   * @param scale - `{ std }` or `{ logStd }` before truncation, float32 in the mean's shape; a negative
   *   `std` counts as NaN
   * @throws TypeError when one is no float32 view
   * @throws `ShapeError` when the shapes differ or there are not as many bounds as numbers in a row
   * @throws RangeError unless `low < high`
   */
  constructor(mean: NdView, scale: Scale, { low = -1, high = 1 }: TruncatedNormalOptions = {}) {
    this.#parameters = new GaussianParameters('TruncatedNormal', mean, scale);
    this.shape = mean.shape;
    this.noiseWidth = widthOf(mean.shape);
    this.low = bounds('low', low, this.noiseWidth);
    this.high = bounds('high', high, this.noiseWidth);
    for (let i = 0; i < this.noiseWidth; i++) {
      if (!(this.low[i] < this.high[i])) {
        throw new RangeError(
          `TruncatedNormal: low < high must hold, got ${this.low[i]} and ${this.high[i]} at ${i}`,
        );
      }
    }
  }

  /**
   * The inverse of the distribution function at the noise, within the bounds.
   *
   * @param noise - uniform in `[0, 1)`, float32 `[B, noiseWidth]`; 0 counts as `2^-25`, so that no sample
   *   of an unbounded side is infinite
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sample(noise: NdView): NdView {
    const uniform = expectRows('TruncatedNormal: noise', noise, this.shape);
    const { low, high } = this;
    const width = this.noiseWidth;
    const parameters = this.#parameters;
    const { mean } = parameters;
    const out = new Float32Array(mean.length);
    for (let row = 0, at = 0; row < this.shape[0]; row++) {
      for (let i = 0; i < width; i++, at++) {
        const std = parameters.std(at);
        const a = (low[i] - mean[at]) / std;
        const b = (high[i] - mean[at]) / std;
        const u = Math.max(uniform[at], LEAST_UNIFORM);
        // Beyond the mean's upper side the mirror image keeps the digits of the tail.
        const z = a > 0 ? -quantile(-b, -a, 1 - u) : quantile(a, b, u);
        out[at] = Math.min(Math.max(mean[at] + std * z, low[i]), high[i]);
      }
    }
    return nd(out, this.shape);
  }

  /** The mean before truncation, moved to the nearer bound where it lies outside. */
  mode(): NdView {
    const { low, high } = this;
    const width = this.noiseWidth;
    const { mean } = this.#parameters;
    const out = new Float32Array(mean.length);
    for (let row = 0, at = 0; row < this.shape[0]; row++) {
      for (let i = 0; i < width; i++, at++) out[at] = Math.min(Math.max(mean[at], low[i]), high[i]);
    }
    return nd(out, this.shape);
  }

  /**
   * Log-density, float32 `[B]`, summed over the row; `-Infinity` outside of the bounds.
   *
   * @param value - float32 `[B, ...]`
   * @throws TypeError or `ShapeError` when `value` is not that
   */
  logProb(value: NdView): Float32Array {
    const x = expectRows('TruncatedNormal: value', value, this.shape);
    const { low, high } = this;
    const width = this.noiseWidth;
    const parameters = this.#parameters;
    const { mean } = parameters;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const std = parameters.std(at);
        const z = (x[at] - mean[at]) / std;
        const logMass = logMassBetween((low[i] - mean[at]) / std, (high[i] - mean[at]) / std);
        sum -= 0.5 * z * z + parameters.logStd(at) + HALF_LOG_TWO_PI + logMass;
        if (x[at] < low[i] || x[at] > high[i]) sum += Number.NEGATIVE_INFINITY;
      }
      out[row] = sum;
    }
    return out;
  }

  /** Differential entropy in nats, float32 `[B]`, summed over the row. */
  entropy(): Float32Array {
    const { low, high } = this;
    const width = this.noiseWidth;
    const parameters = this.#parameters;
    const { mean } = parameters;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const std = parameters.std(at);
        const a = (low[i] - mean[at]) / std;
        const b = (high[i] - mean[at]) / std;
        const logMass = logMassBetween(a, b);
        // -E ln p = ln(std sqrt(2 pi) Z) + E z^2 / 2.
        sum +=
          parameters.logStd(at) + HALF_LOG_TWO_PI + logMass + 0.5 * secondMoment(a, b, logMass);
      }
      out[row] = sum;
    }
    return out;
  }

  /**
   * Kullback-Leibler divergence `KL(this || other)` in nats, float32 `[B]`, summed over the row.
   *
   * @throws `ShapeError` when the other's shape differs
   * @throws RangeError when its bounds differ, where the divergence is infinite or has another form
   */
  kl(other: TruncatedNormal): Float32Array {
    expectSameShape('TruncatedNormal: other', other, this);
    const { low, high } = this;
    if (low.join() !== other.low.join() || high.join() !== other.high.join()) {
      throw new RangeError(
        `TruncatedNormal: other must have bounds [${low}] to [${high}], ` +
          `got [${other.low}] to [${other.high}]`,
      );
    }
    const width = this.noiseWidth;
    const own = this.#parameters;
    const its = other.#parameters;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const std = own.std(at);
        const a = (low[i] - own.mean[at]) / std;
        const b = (high[i] - own.mean[at]) / std;
        const logMass = logMassBetween(a, b);
        const otherStd = its.std(at);
        const otherLogMass = logMassBetween(
          (low[i] - its.mean[at]) / otherStd,
          (high[i] - its.mean[at]) / otherStd,
        );
        // The other's standard score of x = mean + std z is ratio * (z + shift).
        const ratio = std / otherStd;
        const shift = (own.mean[at] - its.mean[at]) / std;
        const first = densityOver(a, logMass) - densityOver(b, logMass);
        const second = secondMoment(a, b, logMass);
        sum += its.logStd(at) - own.logStd(at) + otherLogMass - logMass;
        sum += 0.5 * (ratio * ratio * (second + 2 * shift * first + shift * shift) - second);
      }
      // Rounding may leave a tiny negative number for nearly equal rows.
      out[row] = Math.max(sum, 0);
    }
    return out;
  }
}

/** The `z` in `[a, b]` with a share `u` of the standard normal's mass between them below it; `a <= 0`. */
function quantile(a: number, b: number, u: number): number {
  const below = (1 - u) * normalCdf(a) + u * normalCdf(b);
  if (below > 0.5) {
    return -lowerNormalQuantile(Math.log((1 - u) * normalCdf(-a) + u * normalCdf(-b)));
  }
  const logBelowB = logNormalCdf(b);
  const share = u + (1 - u) * Math.exp(logNormalCdf(a) - logBelowB);
  return lowerNormalQuantile(Math.min(logBelowB + Math.log(share), -Math.LN2));
}

/** Logarithm of the standard normal's mass between `a < b`. */
function logMassBetween(a: number, b: number): number {
  if (a > 0) return logMassBetween(-b, -a);
  if (b > 0) return Math.log1p(-normalCdf(a) - normalCdf(-b));
  const logBelowB = logNormalCdf(b);
  return logBelowB + Math.log(-Math.expm1(logNormalCdf(a) - logBelowB));
}

/** `E z^2` of a standard normal between `a` and `b`. */
function secondMoment(a: number, b: number, logMass: number): number {
  const low = Number.isFinite(a) ? a * densityOver(a, logMass) : 0;
  const high = Number.isFinite(b) ? b * densityOver(b, logMass) : 0;
  return 1 + low - high;
}

/** The standard normal's density at `z` over a mass given by its logarithm. */
function densityOver(z: number, logMass: number): number {
  return Math.exp(-0.5 * z * z - HALF_LOG_TWO_PI - logMass);
}

function bounds(name: string, value: number | ArrayLike<number>, width: number): Float32Array {
  if (typeof value === 'number') return new Float32Array(width).fill(value);
  if (value.length !== width) {
    throw new ShapeError(
      `TruncatedNormal: ${name} must have ${width} numbers, got ${value.length}`,
    );
  }
  return Float32Array.from(value);
}

/** Half of the least positive number that 24 bits of uniform noise hold. */
const LEAST_UNIFORM = 2 ** -25;
