import { philoxBlock } from '../kernels/philox.js';
import { key, type Seed } from './key.js';

/**
 * The keyed numbers behind the samplers: number `i` of a draw is a function of (seed, stream, step,
 * draw, i), so nothing is consumed and a longer draw begins like a shorter one.
 *
 * Block `b` of a draw is the Philox block with counter `(b, step, draw << 16 | attempt, stream)`.
 */
export class Draws {
  readonly #k0: number;
  readonly #k1: number;
  readonly #stream: number;
  readonly #step: number;
  readonly #block: Uint32Array = new Uint32Array(4);

  /**
   * @param what - the caller's name, for messages
   * @param seed - the seed or key
   * @param stream - who draws, uint32
   * @param step - which batch, uint32
   * @throws RangeError when step is not a uint32
   */
  constructor(what: string, seed: Seed, stream: number, step = 0) {
    if (step >>> 0 !== step) {
      throw new RangeError(`${what}: step must be an integer in 0..2^32-1, got ${step}`);
    }
    const { k0, k1 } = key(seed);
    this.#k0 = k0;
    this.#k1 = k1;
    this.#stream = stream;
    this.#step = step;
  }

  /**
   * Integers in `[0, bound)`, each exactly as likely as the others.
   *
   * A word that falls into the incomplete last share of the 2^32 values is replaced by the word in its
   * place of the next attempt.
   *
   * @param bound - 1 to 2^31 - 1
   * @param out - `[n]`, written
   */
  integers(bound: number, out: Int32Array, draw = 0): void {
    const share = Math.floor(2 ** 32 / bound);
    const block = this.#block;
    for (let i = 0; i < out.length; i++) {
      if ((i & 3) === 0) this.#fill(i >>> 2, draw, 0);
      const value = Math.floor(block[i & 3] / share);
      if (value < bound) {
        out[i] = value;
      } else {
        out[i] = this.#retry(i, bound, share, draw);
        this.#fill(i >>> 2, draw, 0);
      }
    }
  }

  /** Integers in `[0, bound - i)` for each `i` of `out`: the steps of a shuffle. */
  shuffle(bound: number, out: Int32Array): void {
    const block = this.#block;
    for (let i = 0; i < out.length; i++) {
      if ((i & 3) === 0) this.#fill(i >>> 2, 0, 0);
      const left = bound - i;
      const share = Math.floor(2 ** 32 / left);
      const value = Math.floor(block[i & 3] / share);
      if (value < left) {
        out[i] = value;
      } else {
        out[i] = this.#retry(i, left, share, 0);
        this.#fill(i >>> 2, 0, 0);
      }
    }
  }

  /** Uniform numbers in `(0, 1)`: odd multiples of 2^-53, so that neither end is ever met. */
  uniforms(out: Float64Array, draw = 0): void {
    const block = this.#block;
    for (let i = 0; i < out.length; i++) {
      const at = (i & 1) << 1;
      if (at === 0) this.#fill(i >>> 1, draw, 0);
      out[i] = (block[at] * 2 ** 20 + (block[at + 1] >>> 12) + 0.5) * 2 ** -52;
    }
  }

  #retry(i: number, bound: number, share: number, draw: number): number {
    // The chance of another attempt is below 1/2 each time.
    for (let attempt = 1; ; attempt++) {
      this.#fill(i >>> 2, draw, attempt);
      const value = Math.floor(this.#block[i & 3] / share);
      if (value < bound) return value;
    }
  }

  #fill(number: number, draw: number, attempt: number): void {
    const third = (draw << 16) | attempt;
    philoxBlock(number, this.#step, third, this.#stream, this.#k0, this.#k1, this.#block);
  }
}

const double = new Float64Array(1);
const halves = new Uint32Array(double.buffer);
/** Which half of a float64 holds the exponent depends on the machine's byte order. */
const HIGH: number = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 1 : 0;

/**
 * Standard Gumbel noise `-ln(-ln u)`.
 *
 * The logarithm is made of `+ - * /` alone: `Math.log` may differ in its last digit between engines.
 *
 * @param u - in `(0, 1)`
 */
export function gumbel(u: number): number {
  return -logOf(-logOf(u));
}

/** Natural logarithm of a positive normal number: the atanh series on [sqrt(1/2), sqrt(2)). */
function logOf(x: number): number {
  double[0] = x;
  const exponent = ((halves[HIGH] - 0x3fe6a09e) | 0) >> 20;
  halves[HIGH] -= exponent << 20;
  const m = double[0];
  const s = (m - 1) / (m + 1);
  const z = s * s;
  let series = 0;
  for (let n = 23; n >= 1; n -= 2) series = 1 / n + z * series;
  return exponent * Math.LN2 + 2 * s * series;
}
