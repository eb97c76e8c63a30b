/**
 * Variances of an ensemble's log-variance outputs, and draws from them, in WASM SIMD; what they are
 * says `../variance-scalar.ts`, whose numbers these are within float32 rounding. The rules of
 * `row-noise.ts` hold.
 */

import { bound, fraction, LOG2_E, ONE, P1, P2, P3, P4, P5, powerOf, ROUND, splat } from './ssm/math';

/** Numbers a call takes at most, a multiple of 4. */
export const capacity: i32 = 1 << 15;
/** Outputs a row may have at most. */
export const widthCapacity: i32 = 1 << 10;

/** What the networks gave, float32; variances come in its place. */
export const raw: usize = memory.data((capacity + 4) << 2, 16);
/** Means, float32; draws come in their place. */
export const mean: usize = memory.data((capacity + 4) << 2, 16);
/** Standard normal noise, float32. */
export const noise: usize = memory.data((capacity + 4) << 2, 16);
/** Of each output, four rows of them side by side, so that vectors of 4 meet their own: `[4, width]`. */
export const floor: usize = memory.data((4 * widthCapacity) << 2, 16);
export const inverseCeiling: usize = memory.data((4 * widthCapacity) << 2, 16);
export const factor: usize = memory.data((4 * widthCapacity) << 2, 16);

// ln 2 in two parts, of which the first has so few digits that its multiples are exact.
const LN2_HIGH: usize = memory.data<f32>([0.693359375]);
const LN2_LOW: usize = memory.data<f32>([-0.00021219444]);
const LOWEST: usize = memory.data<f32>([-88.02969]);
const HIGHEST: usize = memory.data<f32>([88.72284]);

/** e^-x to 2e-7 relative, however large x is: a plain 2^(-x log2 e) would lose a digit at |x| = 10. */
// @ts-ignore: decorator
@inline
function expOfMinus(x: v128): v128 {
  const z = bound(f32x4.neg(x), splat(LOWEST), splat(HIGHEST));
  const shifted = f32x4.add(f32x4.mul(z, splat(LOG2_E)), splat(ROUND));
  const k = f32x4.sub(shifted, splat(ROUND));
  const rest = f32x4.sub(f32x4.sub(z, f32x4.mul(k, splat(LN2_HIGH))), f32x4.mul(k, splat(LN2_LOW)));
  const r = f32x4.mul(rest, splat(LOG2_E));
  const part = fraction(r, splat(P5), splat(P4), splat(P3), splat(P2), splat(P1), splat(ONE));
  return f32x4.mul(part, powerOf(shifted));
}

/** The variances at four places: `at` in bytes of the outputs, `place` of the parameters. */
// @ts-ignore: decorator
@inline
function variance(at: usize, place: usize, squares: v128): v128 {
  const inverse = expOfMinus(v128.load(raw + at));
  const ceiling = f32x4.add(v128.load(inverseCeiling + place), inverse);
  const clamped = f32x4.add(v128.load(floor + place), f32x4.div(splat(ONE), ceiling));
  const again = v128.bitselect(clamped, splat(ONE), squares);
  return f32x4.mul(f32x4.mul(clamped, again), v128.load(factor + place));
}

/**
 * Writes variances over the raw numbers.
 *
 * @param count - numbers, at least 1
 * @param width - outputs a row
 * @param squared - 1 where the numbers are logarithms of standard deviations
 */
export function variances(count: i32, width: i32, squared: i32): void {
  const squares = i32x4.splat(-squared);
  const period = <usize>width << 4;
  const end = <usize>count << 2;
  let at: usize = 0;
  let place: usize = 0;
  do {
    v128.store(raw + at, variance(at, place, squares));
    at += 16;
    place += 16;
    place = place === period ? 0 : place;
  } while (at < end);
}

/** Adds noise times the standard deviation to the means; parameters as of `variances`. */
export function draw(count: i32, width: i32, squared: i32): void {
  const squares = i32x4.splat(-squared);
  const period = <usize>width << 4;
  const end = <usize>count << 2;
  let at: usize = 0;
  let place: usize = 0;
  do {
    const std = f32x4.sqrt(variance(at, place, squares));
    const random = f32x4.mul(std, v128.load(noise + at));
    v128.store(mean + at, f32x4.add(v128.load(mean + at), random));
    at += 16;
    place += 16;
    place = place === period ? 0 : place;
  } while (at < end);
}
