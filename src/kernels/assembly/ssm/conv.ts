/** The causal depthwise convolution of one row. */

import { CHUNK } from './chunk';
import { madd, silu as siluOf } from './math';

/**
 * Step by step, sixteen channels at a time; taps before the row come from the window, taps before the
 * last reset are left out.
 *
 * `windowIn` and `windowOut` may be one. `scratch` has room for 4 bytes a tap, rounded up to 16, and
 * for 64 more.
 */
export function conv(
  steps: i32,
  channels: i32,
  taps: i32,
  x: usize,
  xStride: usize,
  weight: usize,
  bias: usize,
  silu: i32,
  reset: usize,
  windowIn: usize,
  windowOut: usize,
  y: usize,
  yStride: usize,
  scratch: usize,
): void {
  const rowBytes: usize = channels << 2;
  const before = taps - 1;
  const spill = scratch + (((taps + 3) >> 2) << 4);
  // The first step whose input may still be seen.
  let begin = -before;
  let step = 0;
  do {
    if (reset) if (load<u8>(reset + step)) begin = step;
    const first = max(begin, step - before);
    let source = scratch;
    for (let t = first; t <= step; t++) {
      store<usize>(source, t < 0 ? windowIn + (before + t) * rowBytes : x + t * xStride);
      source += 4;
    }
    taps16(
      channels, scratch, source, weight + (first - step + before) * rowBytes, rowBytes, bias, silu,
      y + step * yStride, spill,
    );
  } while (++step < steps);

  let row = 0;
  while (row < before) {
    const t = steps - before + row;
    const to = windowOut + row * rowBytes;
    if (t < begin) memory.fill(to, 0, rowBytes);
    else memory.copy(to, t < 0 ? windowIn + (before + t) * rowBytes : x + t * xStride, rowBytes);
    row++;
  }
}

/** One step: the sum of the taps whose rows `sources..end` lists. */
function taps16(
  channels: i32,
  sources: usize,
  end: usize,
  weight: usize,
  rowBytes: usize,
  bias: usize,
  silu: i32,
  y: usize,
  spill: usize,
): void {
  const zero = f32x4.splat(0);
  let at: usize = 0;
  while (channels > 0) {
    let y0 = zero, y1 = zero, y2 = zero, y3 = zero;
    if (bias) {
      y0 = v128.load(bias + at);
      y1 = v128.load(bias + at, 16);
      y2 = v128.load(bias + at, 32);
      y3 = v128.load(bias + at, 48);
    }
    let source = sources;
    let w = weight + at;
    do {
      const from = load<usize>(source) + at;
      y0 = madd(v128.load(from), v128.load(w), y0);
      y1 = madd(v128.load(from, 16), v128.load(w, 16), y1);
      y2 = madd(v128.load(from, 32), v128.load(w, 32), y2);
      y3 = madd(v128.load(from, 48), v128.load(w, 48), y3);
      source += 4;
      w += rowBytes;
    } while (source < end);
    if (silu) {
      y0 = siluOf(y0);
      y1 = siluOf(y1);
      y2 = siluOf(y2);
      y3 = siluOf(y3);
    }
    const to = channels >= 16 ? y + at : spill;
    v128.store(to, y0);
    v128.store(to, y1, 16);
    v128.store(to, y2, 32);
    v128.store(to, y3, 48);
    if (channels < 16) memory.copy(y + at, spill, channels << 2);
    at += CHUNK;
    channels -= 16;
  }
}
