import { type NdView, nd } from '../nd.js';
import {
  type Distribution,
  expectParameter,
  expectRows,
  expectSameShape,
  widthOf,
} from './distribution.js';
import { sigmoid, softplus } from './special-functions.js';

/**
 * Independent coins, one for each number of a row: 1 with probability `sigmoid(logit)`, else 0.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { Bernoulli } = await import('umwelt/sampling');
 * const goesOn = new Bernoulli(nd([[2], [-1]]));
 * expect([...goesOn.mode().data]).toEqual([1, 0]);
 * expect(goesOn.probs().data[0]).toBeCloseTo(0.880797, 6);
 * ```
 */
export class Bernoulli implements Distribution {
  /** Shape of the logits and of a sample, `[B, ...]`. */
  readonly shape: readonly number[];
  /** `sample` takes uniform noise, of `RowNoise.uniform(noiseWidth)`. */
  readonly noiseKind = 'uniform';
  /** Numbers of noise a row: as many as there are logits. */
  readonly noiseWidth: number;
  readonly #logit: Float32Array;

  /**
   * @param logit - log-odds of 1, float32 `[B, ...]`; infinite ones are certain
   * @throws TypeError or `ShapeError` when it is not that
   */
  constructor(logit: NdView) {
    this.#logit = expectParameter('Bernoulli: logit', logit);
    this.shape = logit.shape;
    this.noiseWidth = widthOf(logit.shape);
  }

  /** Probabilities of 1, float32 in the shape of the logits. */
  probs(): NdView {
    return nd(this.#logit.map(sigmoid), this.shape);
  }

  /**
   * 1 where the noise is below the probability, else 0; NaN for a NaN logit.
   *
   * @param noise - uniform in `[0, 1)`, float32 `[B, noiseWidth]`
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sample(noise: NdView): NdView {
    const u = expectRows('Bernoulli: noise', noise, this.shape);
    const logit = this.#logit;
    const out = new Float32Array(logit.length);
    for (let i = 0; i < out.length; i++) {
      const p = sigmoid(logit[i]);
      out[i] = u[i] < p ? 1 : p - p;
    }
    return nd(out, this.shape);
  }

  /** 1 where the logit is above 0, else 0; NaN for a NaN logit. */
  mode(): NdView {
    const logit = this.#logit;
    const out = new Float32Array(logit.length);
    for (let i = 0; i < out.length; i++) {
      out[i] = Number.isNaN(logit[i]) ? Number.NaN : Number(logit[i] > 0);
    }
    return nd(out, this.shape);
  }

  /**
   * Log-probability, float32 `[B]`, summed over the row.
   *
   * @param value - 0, 1, or between them a target probability, whose negative cross-entropy this gives;
   *   float32 `[B, ...]`; anything else gives NaN
   * @throws TypeError or `ShapeError` when `value` is not that
   */
  logProb(value: NdView): Float32Array {
    const x = expectRows('Bernoulli: value', value, this.shape);
    const logit = this.#logit;
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const target = x[at] >= 0 && x[at] <= 1 ? x[at] : Number.NaN;
        sum -= times(target, softplus(-logit[at])) + times(1 - target, softplus(logit[at]));
      }
      out[row] = sum;
    }
    return out;
  }

  /** Entropy in nats, float32 `[B]`, summed over the row. */
  entropy(): Float32Array {
    const logit = this.#logit;
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const l = logit[at];
        sum += times(sigmoid(l), softplus(-l)) + times(sigmoid(-l), softplus(l));
      }
      out[row] = sum;
    }
    return out;
  }

  /**
   * Kullback-Leibler divergence `KL(this || other)` in nats, float32 `[B]`, summed over the row.
   *
   * @throws `ShapeError` when the other's shape differs
   */
  kl(other: Bernoulli): Float32Array {
    expectSameShape('Bernoulli: other', other, this);
    const logit = this.#logit;
    const otherLogit = other.#logit;
    const width = this.noiseWidth;
    const out = new Float32Array(this.shape[0]);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) {
        const l = logit[at];
        const m = otherLogit[at];
        sum += times(sigmoid(l), softplus(-m) - softplus(-l));
        sum += times(sigmoid(-l), softplus(m) - softplus(l));
      }
      // Rounding may leave a tiny negative number for nearly equal rows.
      out[row] = Math.max(sum, 0);
    }
    return out;
  }
}

/** `weight * x`, where what cannot happen weighs nothing, however unlikely it is. */
function times(weight: number, x: number): number {
  return weight === 0 ? 0 : weight * x;
}
