/** The selective scan of one row: Mamba's recurrence. */

import { CHUNK, gatherChunks, scatterChunks } from './chunk';
import {
  bound, fraction, HIGHEST, LOG2_E, LOWEST, madd, ONE, P1, P2, P3, P4, P5, powerOf, ROUND, silu, softplus,
  splat,
} from './math';

/**
 * Sixteen channels at a time, all steps of them: their state and their part of A lie in `scratch`,
 * side by side, because rows a power of two apart would fall on the same cache lines.
 *
 * `stateIn` and `stateOut` may be one. `scratch` has room for 128 bytes a state dimension and 64 more.
 */
export function scan(
  steps: i32,
  channels: i32,
  dState: i32,
  u: usize,
  uStride: usize,
  delta: usize,
  deltaStride: usize,
  A: usize,
  B: usize,
  bStride: usize,
  C: usize,
  cStride: usize,
  D: usize,
  z: usize,
  zStride: usize,
  deltaBias: usize,
  deltaSoftplus: i32,
  reset: usize,
  stateIn: usize,
  stateOut: usize,
  stateStride: usize,
  y: usize,
  yStride: usize,
  scratch: usize,
): void {
  const ownA = scratch;
  const state = ownA + dState * CHUNK;
  const spill = state + dState * CHUNK;
  const zero = f32x4.splat(0);
  const low = splat(LOWEST), high = splat(HIGHEST), round = splat(ROUND), one = splat(ONE);
  const p1 = splat(P1), p2 = splat(P2), p3 = splat(P3), p4 = splat(P4), p5 = splat(P5);
  while (channels > 0) {
    const count = min(channels, 16);
    gatherChunks(A, stateStride, dState, count, ownA);
    gatherChunks(stateIn, stateStride, dState, count, state);
    let bias0 = zero, bias1 = zero, bias2 = zero, bias3 = zero;
    if (deltaBias) {
      bias0 = v128.load(deltaBias);
      bias1 = v128.load(deltaBias, 16);
      bias2 = v128.load(deltaBias, 32);
      bias3 = v128.load(deltaBias, 48);
    }
    let uAt = u, deltaAt = delta, bAt = B, cAt = C, zAt = z, yAt = y, resetAt = reset;
    let step = steps;
    do {
      if (resetAt) {
        if (load<u8>(resetAt)) memory.fill(state, 0, dState * CHUNK);
        resetAt++;
      }
      const u0 = v128.load(uAt);
      const u1 = v128.load(uAt, 16);
      const u2 = v128.load(uAt, 32);
      const u3 = v128.load(uAt, 48);
      let d0 = f32x4.add(v128.load(deltaAt), bias0);
      let d1 = f32x4.add(v128.load(deltaAt, 16), bias1);
      let d2 = f32x4.add(v128.load(deltaAt, 32), bias2);
      let d3 = f32x4.add(v128.load(deltaAt, 48), bias3);
      if (deltaSoftplus) {
        d0 = softplus(d0);
        d1 = softplus(d1);
        d2 = softplus(d2);
        d3 = softplus(d3);
      }
      const x0 = f32x4.mul(d0, u0);
      const x1 = f32x4.mul(d1, u1);
      const x2 = f32x4.mul(d2, u2);
      const x3 = f32x4.mul(d3, u3);
      d0 = f32x4.mul(d0, splat(LOG2_E));
      d1 = f32x4.mul(d1, splat(LOG2_E));
      d2 = f32x4.mul(d2, splat(LOG2_E));
      d3 = f32x4.mul(d3, splat(LOG2_E));
      let y0 = zero, y1 = zero, y2 = zero, y3 = zero;
      let a = ownA, h = state, b = bAt, c = cAt;
      do {
        const bn = splat(b);
        const cn = splat(c);
        // All loads, then all stores: a store between them would chain the four computations up.
        const a0 = v128.load(a), a1 = v128.load(a, 16), a2 = v128.load(a, 32), a3 = v128.load(a, 48);
        const f0 = v128.load(h), f1 = v128.load(h, 16), f2 = v128.load(h, 32), f3 = v128.load(h, 48);
        const h0 = faded(f0, f32x4.mul(d0, a0), f32x4.mul(x0, bn), low, high, round, p5, p4, p3, p2, p1, one);
        const h1 = faded(f1, f32x4.mul(d1, a1), f32x4.mul(x1, bn), low, high, round, p5, p4, p3, p2, p1, one);
        const h2 = faded(f2, f32x4.mul(d2, a2), f32x4.mul(x2, bn), low, high, round, p5, p4, p3, p2, p1, one);
        const h3 = faded(f3, f32x4.mul(d3, a3), f32x4.mul(x3, bn), low, high, round, p5, p4, p3, p2, p1, one);
        v128.store(h, h0);
        v128.store(h, h1, 16);
        v128.store(h, h2, 32);
        v128.store(h, h3, 48);
        y0 = madd(h0, cn, y0);
        y1 = madd(h1, cn, y1);
        y2 = madd(h2, cn, y2);
        y3 = madd(h3, cn, y3);
        a += CHUNK;
        h += CHUNK;
        b += 4;
        c += 4;
      } while (h < spill);
      if (D) {
        y0 = madd(u0, v128.load(D), y0);
        y1 = madd(u1, v128.load(D, 16), y1);
        y2 = madd(u2, v128.load(D, 32), y2);
        y3 = madd(u3, v128.load(D, 48), y3);
      }
      if (zAt) {
        y0 = f32x4.mul(y0, silu(v128.load(zAt)));
        y1 = f32x4.mul(y1, silu(v128.load(zAt, 16)));
        y2 = f32x4.mul(y2, silu(v128.load(zAt, 32)));
        y3 = f32x4.mul(y3, silu(v128.load(zAt, 48)));
        zAt += zStride;
      }
      const to = count == 16 ? yAt : spill;
      v128.store(to, y0);
      v128.store(to, y1, 16);
      v128.store(to, y2, 32);
      v128.store(to, y3, 48);
      if (count < 16) memory.copy(yAt, spill, count << 2);
      uAt += uStride;
      deltaAt += deltaStride;
      bAt += bStride;
      cAt += cStride;
      yAt += yStride;
    } while (--step > 0);
    scatterChunks(state, dState, count, stateOut, stateStride);
    u += CHUNK;
    delta += CHUNK;
    A += CHUNK;
    if (D) D += CHUNK;
    if (z) z += CHUNK;
    if (deltaBias) deltaBias += CHUNK;
    stateIn += CHUNK;
    stateOut += CHUNK;
    y += CHUNK;
    channels -= 16;
  }
}

/**
 * One step: with nothing to keep for a next one, the state streams through in the order it lies in.
 *
 * `channels` is a multiple of 16; B, C and A of one step have no stride but the state's. `scratch` has
 * room for 12 bytes a channel. No reset: the host passes a state of zeros.
 */
export function scanStep(
  channels: i32,
  dState: i32,
  u: usize,
  delta: usize,
  A: usize,
  B: usize,
  C: usize,
  D: usize,
  z: usize,
  deltaBias: usize,
  deltaSoftplus: i32,
  stateIn: usize,
  stateOut: usize,
  stateStride: usize,
  y: usize,
  scratch: usize,
): void {
  const bytes: usize = channels << 2;
  const ownDelta = scratch;
  const x = ownDelta + bytes;
  const sum = x + bytes;
  const zero = f32x4.splat(0);
  const low = splat(LOWEST), high = splat(HIGHEST), round = splat(ROUND), one = splat(ONE);
  const p1 = splat(P1), p2 = splat(P2), p3 = splat(P3), p4 = splat(P4), p5 = splat(P5);
  let at: usize = 0;
  do {
    let d = v128.load(delta + at);
    if (deltaBias) d = f32x4.add(d, v128.load(deltaBias + at));
    if (deltaSoftplus) d = softplus(d);
    v128.store(ownDelta + at, f32x4.mul(d, splat(LOG2_E)));
    v128.store(x + at, f32x4.mul(d, v128.load(u + at)));
    v128.store(sum + at, zero);
    at += 16;
  } while (at < bytes);

  do {
    const bn = splat(B);
    const cn = splat(C);
    let d = ownDelta, a = A, from = stateIn, to = stateOut;
    do {
      const h0 = faded(
        v128.load(from), f32x4.mul(v128.load(d), v128.load(a)), f32x4.mul(v128.load(d + bytes), bn),
        low, high, round, p5, p4, p3, p2, p1, one,
      );
      v128.store(to, h0);
      v128.store(d + 2 * bytes, madd(h0, cn, v128.load(d + 2 * bytes)));
      const h1 = faded(
        v128.load(from, 16), f32x4.mul(v128.load(d, 16), v128.load(a, 16)),
        f32x4.mul(v128.load(d + bytes, 16), bn), low, high, round, p5, p4, p3, p2, p1, one,
      );
      v128.store(to, h1, 16);
      v128.store(d + 2 * bytes, madd(h1, cn, v128.load(d + 2 * bytes, 16)), 16);
      d += 32;
      a += 32;
      from += 32;
      to += 32;
    } while (d < x);
    A += stateStride;
    B += 4;
    C += 4;
    stateIn += stateStride;
    stateOut += stateStride;
  } while (--dState > 0);

  at = 0;
  do {
    let out = v128.load(sum + at);
    if (D) out = madd(v128.load(u + at), v128.load(D + at), out);
    if (z) out = f32x4.mul(out, silu(v128.load(z + at)));
    v128.store(y + at, out);
    at += 16;
  } while (at < bytes);
}

/** h 2^x + gain. The power of two multiplies h while the rest of 2^x is still being computed. */
// @ts-ignore: decorator
@inline
function faded(
  h: v128,
  x: v128,
  gain: v128,
  low: v128,
  high: v128,
  round: v128,
  p5: v128,
  p4: v128,
  p3: v128,
  p2: v128,
  p1: v128,
  one: v128,
): v128 {
  const bounded = bound(x, low, high);
  const shifted = f32x4.add(bounded, round);
  const rest = f32x4.sub(bounded, f32x4.sub(shifted, round));
  return madd(f32x4.mul(h, powerOf(shifted)), fraction(rest, p5, p4, p3, p2, p1, one), gain);
}
