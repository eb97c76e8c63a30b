/** Elementary functions on four lanes. Constants come from memory, see the rules in `../row-noise.ts`. */

export const ROUND: usize = memory.data<f32>([12583039]);
export const LOWEST: usize = memory.data<f32>([-127]);
export const HIGHEST: usize = memory.data<f32>([128]);
export const LOG2_E: usize = memory.data<f32>([1.4426950408889634]);
const MINUS_LOG2_E: usize = memory.data<f32>([-1.4426950408889634]);
export const ONE: usize = memory.data<f32>([1]);
const TWO: usize = memory.data<f32>([2]);
const TWENTY: usize = memory.data<f32>([20]);
const LN2: usize = memory.data<f32>([0.6931471805599453]);
const SQRT_HALF_BITS: usize = memory.data<u32>([0x3f3504f3]);
const L3: usize = memory.data<f32>([0.6666666666666666]);
const L5: usize = memory.data<f32>([0.4]);
const L7: usize = memory.data<f32>([0.2857142857142857]);
const L9: usize = memory.data<f32>([0.2222222222222222]);

// 2^x on -1/2..1/2 with value 1 at 0: least largest relative error under that condition, 9.1e-8.
export const P1: usize = memory.data<f32>([0.693146978]);
export const P2: usize = memory.data<f32>([0.240222421]);
export const P3: usize = memory.data<f32>([0.0555073386]);
export const P4: usize = memory.data<f32>([0.00967151229]);
export const P5: usize = memory.data<f32>([0.0013264671]);

// @ts-ignore: decorator
@inline
export function splat(address: usize): v128 {
  return v128.load32_splat(address);
}

/** a b + c, rounded once where the relaxed instruction fuses. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

/** x within the range of {@link exp2}. The operands of pmin and pmax stand so that NaN passes. */
// @ts-ignore: decorator
@inline
export function bound(x: v128, lowest: v128, highest: v128): v128 {
  return f32x4.pmin(f32x4.pmax(x, lowest), highest);
}

/** 2 to the power that `shifted`, a bounded number plus `ROUND`, rounds to: its low bits hold it, biased. */
// @ts-ignore: decorator
@inline
export function powerOf(shifted: v128): v128 {
  return i32x4.shl(shifted, 23);
}

/** 2^r on -1/2..1/2. In pairs, not by Horner's rule: the chain of operations sets the pace. */
// @ts-ignore: decorator
@inline
export function fraction(r: v128, p5: v128, p4: v128, p3: v128, p2: v128, p1: v128, one: v128): v128 {
  const square = f32x4.mul(r, r);
  const high = madd(square, madd(r, p5, p4), madd(r, p3, p2));
  return madd(square, high, madd(r, p1, one));
}

/** 2^x: 1 at 0, zero below -126.5, infinite from 127.5 on, NaN of NaN. */
// @ts-ignore: decorator
@inline
export function exp2(x: v128): v128 {
  const bounded = bound(x, splat(LOWEST), splat(HIGHEST));
  const shifted = f32x4.add(bounded, splat(ROUND));
  const rest = f32x4.sub(bounded, f32x4.sub(shifted, splat(ROUND)));
  const part = fraction(rest, splat(P5), splat(P4), splat(P3), splat(P2), splat(P1), splat(ONE));
  return f32x4.mul(part, powerOf(shifted));
}

/** ln(1 + e^x), and x above 20 as PyTorch has it. */
// @ts-ignore: decorator
@inline
export function softplus(x: v128): v128 {
  const t = exp2(f32x4.mul(x, splat(LOG2_E)));
  const u = f32x4.add(splat(ONE), t);
  const less = f32x4.sub(u, splat(ONE));
  // What rounding took from u is given back by the factor t / (u - 1).
  const log1p = f32x4.div(f32x4.mul(log(u), t), less);
  const small = v128.bitselect(t, log1p, f32x4.eq(u, splat(ONE)));
  return v128.bitselect(x, small, f32x4.gt(x, splat(TWENTY)));
}

/** x / (1 + e^-x). */
// @ts-ignore: decorator
@inline
export function silu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(splat(ONE), exp2(f32x4.mul(x, splat(MINUS_LOG2_E)))));
}

/** Natural logarithm of a normal positive number: the atanh series on a mantissa in sqrt(1/2)..sqrt(2). */
// @ts-ignore: decorator
@inline
function log(x: v128): v128 {
  const exponent = i32x4.shr_s(i32x4.sub(x, splat(SQRT_HALF_BITS)), 23);
  const m = i32x4.sub(x, i32x4.shl(exponent, 23));
  const s = f32x4.div(f32x4.sub(m, splat(ONE)), f32x4.add(m, splat(ONE)));
  const z = f32x4.mul(s, s);
  let series = madd(z, splat(L9), splat(L7));
  series = madd(z, series, splat(L5));
  series = madd(z, series, splat(L3));
  series = madd(z, series, splat(TWO));
  return madd(f32x4.convert_i32x4_s(exponent), splat(LN2), f32x4.mul(s, series));
}
