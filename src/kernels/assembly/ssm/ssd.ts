/** The state-space dual of one row, step by step: Mamba-2's recurrence, one decay a head. */

import { CHUNK, gatherChunks, scatterChunks } from './chunk';
import { exp2, LOG2_E, madd, silu, softplus, splat } from './math';

/**
 * First the step sizes and decays of all heads and steps, into `scratch`; then head by head, sixteen
 * channels at a time. A head's state is small and contiguous, so it stays where it is.
 *
 * `stateIn` and `stateOut` may be one. `scratch` has room for 8 bytes a step and head, heads rounded
 * up to 4, and for 64 bytes a state dimension and 64 more.
 */
export function ssd(
  steps: i32,
  heads: i32,
  headDim: i32,
  dState: i32,
  headsPerGroup: i32,
  x: usize,
  xStride: usize,
  dt: usize,
  dtStride: usize,
  A: usize,
  B: usize,
  bStride: usize,
  C: usize,
  cStride: usize,
  D: usize,
  z: usize,
  zStride: usize,
  dtBias: usize,
  dtSoftplus: i32,
  dtMin: f32,
  dtMax: f32,
  reset: usize,
  stateIn: usize,
  stateOut: usize,
  y: usize,
  yStride: usize,
  scratch: usize,
): void {
  const headBytes: usize = ((heads + 3) >> 2) << 4;
  const ownDt = scratch;
  const decay = ownDt + steps * headBytes;
  const partial = decay + steps * headBytes;
  const low = f32x4.splat(dtMin);
  const high = f32x4.splat(dtMax);
  let step = 0;
  do {
    let at: usize = 0;
    do {
      let d = v128.load(dt + step * dtStride + at);
      if (dtBias) d = f32x4.add(d, v128.load(dtBias + at));
      if (dtSoftplus) d = softplus(d);
      d = f32x4.pmin(f32x4.pmax(d, low), high);
      v128.store(ownDt + step * headBytes + at, d);
      v128.store(decay + step * headBytes + at, exp2(f32x4.mul(f32x4.mul(d, splat(LOG2_E)), v128.load(A + at))));
      at += 16;
    } while (at < headBytes);
  } while (++step < steps);

  const rowBytes: usize = headDim << 2;
  const stateBytes = dState * rowBytes;
  let head = 0;
  do {
    const group = head / headsPerGroup;
    const own: usize = head << 2;
    const b = B + group * (dState << 2);
    const c = C + group * (dState << 2);
    let left = headDim;
    let at: usize = head * rowBytes;
    let from = stateIn;
    let to = stateOut;
    do {
      const channelD = D ? D + at : 0;
      const channelZ = z ? z + at : 0;
      if (left >= 16) {
        channels(
          steps, 16, dState, x + at, xStride, ownDt + own, decay + own, headBytes, b, bStride, c, cStride,
          channelD, channelZ, zStride, reset, from, to, rowBytes, y + at, yStride, partial,
        );
      } else {
        const chunks = partial + CHUNK;
        gatherChunks(from, rowBytes, dState, left, chunks);
        channels(
          steps, left, dState, x + at, xStride, ownDt + own, decay + own, headBytes, b, bStride, c, cStride,
          channelD, channelZ, zStride, reset, chunks, chunks, CHUNK, y + at, yStride, partial,
        );
        scatterChunks(chunks, dState, left, to, rowBytes);
      }
      at += CHUNK;
      from += CHUNK;
      to += CHUNK;
      left -= 16;
    } while (left > 0);
    stateIn += stateBytes;
    stateOut += stateBytes;
  } while (++head < heads);
}

/** All steps of at most sixteen channels of one head. */
function channels(
  steps: i32,
  count: i32,
  dState: i32,
  x: usize,
  xStride: usize,
  dt: usize,
  decay: usize,
  headBytes: usize,
  B: usize,
  bStride: usize,
  C: usize,
  cStride: usize,
  D: usize,
  z: usize,
  zStride: usize,
  reset: usize,
  from: usize,
  to: usize,
  stateStride: usize,
  y: usize,
  yStride: usize,
  spill: usize,
): void {
  const zero = f32x4.splat(0);
  do {
    if (reset) {
      if (load<u8>(reset)) {
        let n = dState;
        let h = to;
        do {
          v128.store(h, zero);
          v128.store(h, zero, 16);
          v128.store(h, zero, 32);
          v128.store(h, zero, 48);
          h += stateStride;
        } while (--n > 0);
        from = to;
      }
      reset++;
    }
    const a = splat(decay);
    const d = splat(dt);
    const u0 = v128.load(x);
    const u1 = v128.load(x, 16);
    const u2 = v128.load(x, 32);
    const u3 = v128.load(x, 48);
    const x0 = f32x4.mul(d, u0);
    const x1 = f32x4.mul(d, u1);
    const x2 = f32x4.mul(d, u2);
    const x3 = f32x4.mul(d, u3);
    let y0 = zero, y1 = zero, y2 = zero, y3 = zero;
    let b = B, c = C, h = from, next = to;
    const end = b + (dState << 2);
    do {
      const bn = splat(b);
      const cn = splat(c);
      const h0 = madd(v128.load(h), a, f32x4.mul(x0, bn));
      v128.store(next, h0);
      y0 = madd(h0, cn, y0);
      const h1 = madd(v128.load(h, 16), a, f32x4.mul(x1, bn));
      v128.store(next, h1, 16);
      y1 = madd(h1, cn, y1);
      const h2 = madd(v128.load(h, 32), a, f32x4.mul(x2, bn));
      v128.store(next, h2, 32);
      y2 = madd(h2, cn, y2);
      const h3 = madd(v128.load(h, 48), a, f32x4.mul(x3, bn));
      v128.store(next, h3, 48);
      y3 = madd(h3, cn, y3);
      b += 4;
      c += 4;
      h += stateStride;
      next += stateStride;
    } while (b < end);
    if (D) {
      y0 = madd(u0, v128.load(D), y0);
      y1 = madd(u1, v128.load(D, 16), y1);
      y2 = madd(u2, v128.load(D, 32), y2);
      y3 = madd(u3, v128.load(D, 48), y3);
    }
    if (z) {
      y0 = f32x4.mul(y0, silu(v128.load(z)));
      y1 = f32x4.mul(y1, silu(v128.load(z, 16)));
      y2 = f32x4.mul(y2, silu(v128.load(z, 32)));
      y3 = f32x4.mul(y3, silu(v128.load(z, 48)));
      z += zStride;
    }
    const out = count == 16 ? y : spill;
    v128.store(out, y0);
    v128.store(out, y1, 16);
    v128.store(out, y2, 32);
    v128.store(out, y3, 48);
    if (count < 16) memory.copy(y, spill, count << 2);
    // After the first step the state lies where it will stay.
    from = to;
    x += xStride;
    dt += headBytes;
    decay += headBytes;
    B += bStride;
    C += cStride;
    y += yStride;
  } while (--steps > 0);
}
