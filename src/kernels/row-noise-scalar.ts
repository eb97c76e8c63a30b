/**
 * Float32 noise for rows, each row named by a trajectory id: element `c` of a row is word `c % 4` of
 * the Philox block with counter `(draw << 16 | floor(c / 4), step, trajectory, stream)`.
 *
 * The float arithmetic rounds to float32 after every operation and uses only `+ - * /` and `sqrt`,
 * which IEEE 754 rounds in one way everywhere. `Math.log`, `Math.cos` and their kin may differ between
 * engines and are not used: one seed gives one stream on every machine.
 */

import { philoxBlock } from './philox.js';
import type { Truncation } from './truncation.js';

const f = Math.fround;
const block = new Uint32Array(4);
const floatBits = new Float32Array(1);
const intBits = new Int32Array(floatBits.buffer);

const TWO_POW_MINUS_24 = f(2 ** -24);
const TWO_POW_MINUS_32 = f(2 ** -32);
const TWO_POW_MINUS_33 = f(2 ** -33);
const LN2 = f(Math.LN2);
const QUARTER_TURN_PER_WORD = f((Math.PI / 2) * 2 ** -30);
const [L3, L5, L7, L9] = [3, 5, 7, 9].map((n) => f(2 / n));
const [S3, S5, S7, S9] = [-1 / 6, 1 / 120, -1 / 5040, 1 / 362880].map(f);
const [C4, C6, C8, C10] = [1 / 24, -1 / 720, 1 / 40320, -1 / 3628800].map(f);

// The quantile of the standard normal distribution at (1 + x) / 2, where w = -ln(1 - x^2): below
// w = 5 it is x P(w - 2.5), above x sqrt(w) P(1 / sqrt(w) - 1/4). The form is Giles', "Approximating
// the erfinv function" (2012); the coefficients are our own, least in the largest relative error:
// 1.0e-7 below, 1.5e-7 for w in 5..58.
const CENTRE = [
  2.12331367, 0.348802686, -0.00590815861, -0.00177303178, 0.000309135736, -6.20957417e-6,
  -4.98566351e-6, 4.85199052e-7, 3.98672633e-8,
].map(f);
const TAIL = [
  1.3575685, -0.280269295, 0.114257365, 0.791296721, -0.883416116, 10.3889494, 58.9441071,
  -100.423241, -1212.19812, 2854.68848,
].map(f);

/** What names the numbers: all but the column. */
export interface RowNames {
  /** Id of each row, uint32 `[rows]`. */
  trajectory: Uint32Array;
  /** Uint32. */
  step: number;
  /** Uint32. */
  stream: number;
  /** Below 2^16. */
  draw: number;
  /** The key's words, uint32. */
  k0: number;
  k1: number;
}

/** Writes noise for rows into `out`, float32 `[rows, width]`. */
export type FillRows = (out: Float32Array, width: number, names: RowNames) => void;

/** The same for a truncated distribution. */
export type FillTruncatedRows = (
  out: Float32Array,
  width: number,
  names: RowNames,
  truncation: Truncation,
) => void;

/** One implementation of the row noise: the functions of this file, or the kernel's. */
export interface RowNoiseKernel {
  uniformRows: FillRows;
  normalRows: FillRows;
  gumbelRows: FillRows;
  truncatedNormalRows: FillTruncatedRows;
}

/**
 * Uniform noise in `[0, 1)`, 24 bits each.
 *
 * @param out - `[rows, width]` float32, written
 */
export function uniformRows(out: Float32Array, width: number, names: RowNames): void {
  const { trajectory, step, stream, draw, k0, k1 } = names;
  for (let row = 0, at = 0; row < trajectory.length; row++) {
    for (let column = 0; column < width; column += 4) {
      philoxBlock((draw << 16) | (column >>> 2), step, trajectory[row], stream, k0, k1, block);
      const count = Math.min(4, width - column);
      for (let i = 0; i < count; i++) out[at++] = f(f(block[i] >>> 8) * TWO_POW_MINUS_24);
    }
  }
}

/**
 * Standard normal noise by Box-Muller: words 0 and 1 of a block give elements 0 and 1, words 2 and 3
 * give elements 2 and 3. The largest magnitude is 6.77.
 *
 * @param out - `[rows, width]` float32, written
 */
export function normalRows(out: Float32Array, width: number, names: RowNames): void {
  const { trajectory, step, stream, draw, k0, k1 } = names;
  for (let row = 0, at = 0; row < trajectory.length; row++) {
    for (let column = 0; column < width; column += 4) {
      philoxBlock((draw << 16) | (column >>> 2), step, trajectory[row], stream, k0, k1, block);
      const count = Math.min(4, width - column);
      for (let pair = 0; pair < count; pair += 2) {
        const radius = radiusOf(block[pair]);
        const word = block[pair + 1];
        // The upper two bits choose the quadrant; the others an angle in [-pi/4, pi/4), so that the
        // series below stay short. A fixed rotation of pi/4 does not change the distribution.
        const angle = f(f((word & 0x3fffffff) - 0x20000000) * QUARTER_TURN_PER_WORD);
        const sine = sineOf(angle);
        const cosine = cosineOf(angle);
        const swapped = (word & 0x40000000) !== 0;
        const negative = word >>> 31 !== 0;
        const x = swapped ? -sine : cosine;
        const y = swapped ? cosine : sine;
        out[at++] = f(radius * (negative ? -x : x));
        if (pair + 1 < count) out[at++] = f(radius * (negative ? -y : y));
      }
    }
  }
}

/**
 * Standard Gumbel noise, `-ln(-ln u)` with `u = (word + 1/2) / 2^32`: from -3.13 for word 0 to 22.87
 * for word 2^32 - 1.
 *
 * @param out - `[rows, width]` float32, written
 */
export function gumbelRows(out: Float32Array, width: number, names: RowNames): void {
  const { trajectory, step, stream, draw, k0, k1 } = names;
  for (let row = 0, at = 0; row < trajectory.length; row++) {
    for (let column = 0; column < width; column += 4) {
      philoxBlock((draw << 16) | (column >>> 2), step, trajectory[row], stream, k0, k1, block);
      const count = Math.min(4, width - column);
      for (let i = 0; i < count; i++) out[at++] = -logOf(exponentialOf(block[i]));
    }
  }
}

/**
 * Standard normal noise restricted to `[low, high]`, by the inverse of its distribution function at
 * `u = (word + 1/2) / 2^32`.
 *
 * @param out - `[rows, width]` float32, written
 * @param truncation - the bounds, of which the one nearer to 0 must be within -8..8
 */
export function truncatedNormalRows(
  out: Float32Array,
  width: number,
  names: RowNames,
  truncation: Truncation,
): void {
  const { trajectory, step, stream, draw, k0, k1 } = names;
  const { low, high, below, above, start, mass } = truncation;
  for (let row = 0, at = 0; row < trajectory.length; row++) {
    for (let column = 0; column < width; column += 4) {
      philoxBlock((draw << 16) | (column >>> 2), step, trajectory[row], stream, k0, k1, block);
      const count = Math.min(4, width - column);
      for (let i = 0; i < count; i++) {
        const nearest = nearestEndOf(block[i]);
        const rest = f(1 - nearest);
        const upper = block[i] >>> 31 !== 0;
        const u = upper ? rest : nearest;
        const v = upper ? nearest : rest;
        // 1 + x and 1 - x as sums of positive terms keep the digits of both tails, x those of the
        // centre.
        const left = f(below + f(mass * u));
        const right = f(above + f(mass * v));
        const x = f(start + f(mass * u));
        const z = quantileOf(x, -logOf(f(left * right)));
        out[at++] = z < low ? low : high < z ? high : z;
      }
    }
  }
}

/**
 * The distance of u = (word + 1/2) / 2^32 from the nearer end of (0, 1): at least 2^-33, at most 1/2.
 * Float32 has few digits left beside 1; counted from the end in both halves, the two tails are alike.
 */
function nearestEndOf(word: number): number {
  return f(f(f(word ^ ((word | 0) >> 31)) + 0.5) * TWO_POW_MINUS_32);
}

/** -ln u for u = (word + 1/2) / 2^32. */
function exponentialOf(word: number): number {
  const nearest = nearestEndOf(word);
  const u = word >>> 31 !== 0 ? f(1 - nearest) : nearest;
  floatBits[0] = u;
  const bits = intBits[0];
  const exponent = (bits - 0x3f3504f3) >> 23;
  intBits[0] = bits - (exponent << 23);
  const m = floatBits[0];
  // With exponent 0 the mantissa is u itself, of which `nearest` tells the distance from 1 better.
  return -logOfParts(exponent, m, exponent === 0 ? -nearest : f(m - 1));
}

/** The standard normal quantile at (1 + x) / 2, given w = -ln(1 - x^2). */
function quantileOf(x: number, w: number): number {
  if (w < 5) {
    const d = f(w - 2.5);
    let series = CENTRE[8];
    for (let i = 7; i >= 0; i--) series = f(CENTRE[i] + f(d * series));
    return f(x * series);
  }
  const root = f(Math.sqrt(w));
  const d = f(f(1 / root) - 0.25);
  let series = TAIL[9];
  for (let i = 8; i >= 0; i--) series = f(TAIL[i] + f(d * series));
  return f(x * f(root * series));
}

/** sqrt(-2 ln u) for u = word / 2^32, at least 2^-33. */
function radiusOf(word: number): number {
  const u = f(Math.max(f(f(word) * TWO_POW_MINUS_32), TWO_POW_MINUS_33));
  return f(Math.sqrt(f(-2 * logOf(u))));
}

/** Natural logarithm: the atanh series on a mantissa in [sqrt(1/2), sqrt(2)). */
function logOf(x: number): number {
  floatBits[0] = x;
  const bits = intBits[0];
  const exponent = (bits - 0x3f3504f3) >> 23;
  intBits[0] = bits - (exponent << 23);
  const m = floatBits[0];
  return logOfParts(exponent, m, f(m - 1));
}

/** ln(2^exponent m), given m - 1. */
function logOfParts(exponent: number, m: number, less: number): number {
  const s = f(less / f(m + 1));
  const z = f(s * s);
  let series = f(L7 + f(z * L9));
  series = f(L5 + f(z * series));
  series = f(L3 + f(z * series));
  series = f(2 + f(z * series));
  return f(f(exponent * LN2) + f(s * series));
}

/** Taylor series on [-pi/4, pi/4]. */
function sineOf(x: number): number {
  const z = f(x * x);
  let series = f(S7 + f(z * S9));
  series = f(S5 + f(z * series));
  series = f(S3 + f(z * series));
  return f(x + f(x * f(z * series)));
}

/** Taylor series on [-pi/4, pi/4]. */
function cosineOf(x: number): number {
  const z = f(x * x);
  let series = f(C8 + f(z * C10));
  series = f(C6 + f(z * series));
  series = f(C4 + f(z * series));
  return f(f(1 - f(0.5 * z)) + f(f(z * z) * series));
}
