import { type NdView, nd, ShapeError, sizeOf } from '../nd.js';
import { type Distribution, expectParameter, expectRows, expectSameShape } from './distribution.js';
import { logSoftmax, softmax } from './softmax.js';

/** How a {@link Categorical} is made of its logits. */
export interface CategoricalOptions {
  /**
   * Share of the uniform distribution mixed into the probabilities: `(1 - unimix) softmax + unimix / K`.
   * Default 0; DreamerV3 and Drama use 0.01 for latents.
   */
  unimix?: number;
}

/**
 * Choices among `K` classes: one a row from logits `[B, K]`, or `S` independent ones a row from logits
 * `[B, S, K]`, as the latents of DreamerV3 and Drama; `logProb`, `entropy` and `kl` sum over them.
 *
 * A choice with a NaN logit, with `+Infinity` or with `-Infinity` alone has no probabilities: its index is
 * -1 and its other results are NaN; NaN noise gives index -1 too. A logit of `-Infinity` beside finite ones rules a class out.
 *
 * Hafner et al., "Mastering Diverse Domains through World Models" (2023), for the mixture; agrees with
 * `OneHot` of danijar/dreamerv3.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { Categorical, RowNoise, Stream } = await import('umwelt/sampling');
 * const latent = new Categorical(nd([[[2, 0, 0, 0], [0, 1, 0, 1]]]), { unimix: 0.01 });
 * const noise = new RowNoise(7, Stream.model, 0, Uint32Array.of(0));
 * const oneHot = latent.sample(noise.gumbel(latent.noiseWidth));
 * expect(oneHot.shape).toEqual([1, 2, 4]);
 * expect(latent.modeIndex()).toEqual(Int32Array.of(0, 1));
 * ```
 */
export class Categorical implements Distribution {
  /** Shape of the logits and of a one-hot sample, `[B, K]` or `[B, S, K]`. */
  readonly shape: readonly number[];
  /** `sample` takes standard Gumbel noise, of `RowNoise.gumbel(noiseWidth)`. */
  readonly noiseKind = 'gumbel';
  /** Numbers of noise a row: one for each class of each choice. */
  readonly noiseWidth: number;
  /** Choices a row, `S`; 1 for logits `[B, K]`. */
  readonly choices: number;
  /** Classes of a choice, `K`. */
  readonly classes: number;
  /** Share of the uniform distribution in the probabilities. */
  readonly unimix: number;
  readonly #logits: Float32Array;

  /**
   * @param logits - unnormalised log-probabilities, float32 `[B, K]` or `[B, S, K]`
   * @throws TypeError when they are no float32 view
   * @throws `ShapeError` when they have another rank or no class
   * @throws RangeError when `unimix` is not in 0..1
   */
  constructor(logits: NdView, { unimix = 0 }: CategoricalOptions = {}) {
    this.#logits = expectParameter('Categorical: logits', logits);
    const { shape } = logits;
    const classes = shape[shape.length - 1];
    if (shape.length < 2 || shape.length > 3 || classes === 0) {
      throw new ShapeError(
        `Categorical: logits must have shape [B, K] or [B, S, K] with K > 0, got [${shape}]`,
      );
    }
    if (!(unimix >= 0 && unimix <= 1)) {
      throw new RangeError(`Categorical: unimix must be in 0..1, got ${unimix}`);
    }
    this.shape = shape;
    this.classes = classes;
    this.choices = shape.length === 3 ? shape[1] : 1;
    this.noiseWidth = this.choices * classes;
    this.unimix = unimix;
  }

  /** Probabilities with the uniform share mixed in, float32 in the shape of the logits. */
  probs(): NdView {
    const { classes } = this;
    const out = new Float32Array(this.#logits.length);
    const p = new Float64Array(classes);
    for (let at = 0; at < out.length; at += classes) {
      this.#probs(at, p);
      out.set(p, at);
    }
    return nd(out, this.shape);
  }

  /**
   * Samples, one-hot: float32 in the shape of the logits.
   *
   * @param noise - standard Gumbel, float32 `[B, noiseWidth]`
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sample(noise: NdView): NdView {
    return this.#oneHot(this.sampleIndex(noise));
  }

  /**
   * The same samples as class numbers: int32 `[B]`, or `[B, S]` in row-major order.
   *
   * The largest of log-probability plus noise wins, the first of equal ones. Maddison, Tarlow and Minka,
   * "A* Sampling" (2014).
   *
   * @param noise - standard Gumbel, float32 `[B, noiseWidth]`
   * @throws TypeError or `ShapeError` when `noise` is not that
   */
  sampleIndex(noise: NdView): Int32Array {
    return this.#argmax(expectRows('Categorical: noise', noise, this.shape));
  }

  /** The likeliest classes, one-hot: float32 in the shape of the logits. */
  mode(): NdView {
    return this.#oneHot(this.modeIndex());
  }

  /**
   * The likeliest classes as numbers, the first of equal ones: int32 `[B]`, or `[B, S]` in row-major
   * order.
   */
  modeIndex(): Int32Array {
    return this.#argmax(null);
  }

  /**
   * Log-probability, float32 `[B]`, summed over the choices.
   *
   * @param value - class numbers, int32 `[B]` or `[B, S]` in row-major order, where -1 (a choice that had
   *   no probabilities) gives NaN; or one-hot float32 in the shape of the logits. Weights other than 0
   *   and 1 give the weighted sum of log-probabilities, a negative cross-entropy
   * @throws TypeError or `ShapeError` when `value` is not that
   * @throws RangeError when a class number is outside of -1..K-1
   */
  logProb(value: NdView | Int32Array): Float32Array {
    const weights =
      value instanceof Int32Array ? null : expectRows('Categorical: value', value, this.shape);
    const index = value instanceof Int32Array ? this.#expectIndex(value) : null;
    const { classes, choices } = this;
    const out = new Float32Array(this.shape[0]);
    const logP = new Float64Array(classes);
    for (let row = 0, choice = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < choices; i++, choice++, at += classes) {
        this.#logProbs(at, logP);
        if (index !== null) {
          sum += index[choice] < 0 ? Number.NaN : logP[index[choice]];
        } else if (weights !== null) {
          for (let k = 0; k < classes; k++) {
            // A class that was not chosen counts nothing even where its logarithm is -Infinity.
            const weight = weights[at + k];
            if (weight !== 0) sum += weight * logP[k];
          }
        }
      }
      out[row] = sum;
    }
    return out;
  }

  /** Entropy in nats, float32 `[B]`, summed over the choices. */
  entropy(): Float32Array {
    const { classes, choices } = this;
    const out = new Float32Array(this.shape[0]);
    const logP = new Float64Array(classes);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < choices; i++, at += classes) {
        this.#logProbs(at, logP);
        for (let k = 0; k < classes; k++) {
          const p = Math.exp(logP[k]);
          if (p !== 0) sum -= p * logP[k];
        }
      }
      out[row] = sum;
    }
    return out;
  }

  /**
   * Kullback-Leibler divergence `KL(this || other)` in nats, float32 `[B]`, summed over the choices.
   *
   * `Infinity` where the other rules a class out that this one does not. Free bits are the caller's:
   * DreamerV3 takes `max(1, kl)` of each row, Drama of the mean.
   *
   * @throws `ShapeError` when the other's shape differs
   */
  kl(other: Categorical): Float32Array {
    expectSameShape('Categorical: other', other, this);
    const { classes, choices } = this;
    const out = new Float32Array(this.shape[0]);
    const logP = new Float64Array(classes);
    const logQ = new Float64Array(classes);
    for (let row = 0, at = 0; row < out.length; row++) {
      let sum = 0;
      for (let i = 0; i < choices; i++, at += classes) {
        this.#logProbs(at, logP);
        other.#logProbs(at, logQ);
        for (let k = 0; k < classes; k++) {
          const p = Math.exp(logP[k]);
          if (p !== 0) sum += p * (logP[k] - logQ[k]);
        }
      }
      // Rounding may leave a tiny negative number for nearly equal rows.
      out[row] = Math.max(sum, 0);
    }
    return out;
  }

  /** Probabilities of the choice whose logits start at `at`. */
  #probs(at: number, out: Float64Array): void {
    const { classes, unimix } = this;
    softmax(this.#logits, at, classes, out);
    if (unimix === 0) return;
    for (let k = 0; k < classes; k++) out[k] = (1 - unimix) * out[k] + unimix / classes;
  }

  /** Their logarithms. */
  #logProbs(at: number, out: Float64Array): void {
    const { classes } = this;
    if (this.unimix === 0) {
      logSoftmax(this.#logits, at, classes, out);
      return;
    }
    this.#probs(at, out);
    for (let k = 0; k < classes; k++) out[k] = Math.log(out[k]);
  }

  /** The class of the largest log-probability, plus noise if any, for each choice; -1 where there is none. */
  #argmax(noise: Float32Array | null): Int32Array {
    const { classes } = this;
    const out = new Int32Array(this.shape[0] * this.choices);
    const scores = new Float64Array(classes);
    for (let choice = 0, at = 0; choice < out.length; choice++, at += classes) {
      this.#scores(at, scores);
      if (noise !== null) for (let k = 0; k < classes; k++) scores[k] += noise[at + k];
      let best = Number.NEGATIVE_INFINITY;
      let index = -1;
      for (let k = 0; k < classes; k++) {
        if (scores[k] > best) {
          best = scores[k];
          index = k;
        } else if (Number.isNaN(scores[k])) {
          best = Number.POSITIVE_INFINITY;
        }
      }
      out[choice] = best === Number.POSITIVE_INFINITY ? -1 : index;
    }
    return out;
  }

  /** Log-probabilities up to a constant: without a uniform share the logits are that already. */
  #scores(at: number, out: Float64Array): void {
    if (this.unimix > 0) this.#logProbs(at, out);
    else for (let k = 0; k < this.classes; k++) out[k] = this.#logits[at + k];
  }

  /** One-hot rows; NaN for index -1. */
  #oneHot(index: Int32Array): NdView {
    const { classes } = this;
    const out = new Float32Array(index.length * classes);
    for (let choice = 0, at = 0; choice < index.length; choice++, at += classes) {
      if (index[choice] < 0) out.fill(Number.NaN, at, at + classes);
      else out[at + index[choice]] = 1;
    }
    return nd(out, this.shape);
  }

  #expectIndex(index: Int32Array): Int32Array {
    const length = sizeOf(this.shape.slice(0, -1));
    if (index.length !== length) {
      throw new ShapeError(
        `Categorical: value must hold ${length} class numbers, got ${index.length}`,
      );
    }
    for (let i = 0; i < length; i++) {
      if (index[i] < -1 || index[i] >= this.classes) {
        throw new RangeError(
          `Categorical: a class number must be in 0..${this.classes - 1}, got ${index[i]} at ${i}`,
        );
      }
    }
    return index;
  }
}
