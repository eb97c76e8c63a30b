/**
 * Float32 noise for rows, each row named by a trajectory id: element `c` of a row is word `c % 4` of
 * the Philox block with counter `(draw << 16 | floor(c / 4), step, trajectory, stream)`.
 *
 * The float arithmetic rounds to float32 after every operation and uses only `+ - * /` and `sqrt`,
 * which IEEE 754 rounds in one way everywhere. `Math.log`, `Math.cos` and their kin may differ between
 * engines and are not used: one seed gives one stream on every machine.
 */

import { philoxBlock } from './philox.js';

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

/**
 * Uniform noise in `[0, 1)`, 24 bits each.
 *
 * @param out - `[rows, width]` float32, written
 * @param trajectory - `[rows]` uint32 ids
 */
export function uniformRows(
  out: Float32Array,
  width: number,
  trajectory: Uint32Array,
  step: number,
  stream: number,
  draw: number,
  k0: number,
  k1: number,
): void {
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
 * @param trajectory - `[rows]` uint32 ids
 */
export function normalRows(
  out: Float32Array,
  width: number,
  trajectory: Uint32Array,
  step: number,
  stream: number,
  draw: number,
  k0: number,
  k1: number,
): void {
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
  const s = f(f(m - 1) / f(m + 1));
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
