import { describe, isNd, type NdView, nd, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { Axes, expectMemory, type Reset, stepsAtOnce, type Vector } from './arguments.js';
import { type KernelMemory, workMemory } from './kernel-memory.js';
import { Flags, Scratch, Sequence, Transposed, transposedView } from './operands.js';
import type { ScanOut, ScanResult } from './scan-result.js';

/** Optional arguments of {@link ssd}. */
export interface SsdOptions {
  /** `[H]`, or `[H, P]` with one for each channel: the skip, added to y as `D x`. */
  readonly D?: Vector;
  /** `[B, L, H, P]`: the gate; y is multiplied by `silu(z)`. */
  readonly z?: NdView;
  /** `[H]`, added to dt before the softplus. */
  readonly dtBias?: Vector;
  /** Whether dt goes through a softplus; default false. */
  readonly dtSoftplus?: boolean;
  /** Bounds of dt, after the softplus; default none. */
  readonly dtLimit?: readonly [low: number, high: number];
  /** `[B, H, P, N]`: the state before the first step; default zeros. Not written to. */
  readonly state?: NdView;
  /** `[B, L]`: 1 where a row starts anew, so that its state is overwritten by zeros before the step. */
  readonly reset?: Reset;
  /** Arrays to write to, in place of new ones. */
  readonly out?: ScanOut;
  /** Where the kernel works, and with which variant; by default a memory of the library's own. */
  readonly memory?: KernelMemory;
}

const OPTIONS = ['D', 'z', 'dtBias', 'dtSoftplus', 'dtLimit', 'state', 'reset', 'out', 'memory'];

/**
 * The state-space dual of Mamba-2: the selective scan with one decay for all channels of a head.
 *
 * For each head h of group `g = floor(h / (H / G))`, with dt after bias, softplus and bounds,
 * `S[p, n] = exp(dt A) S[p, n] + dt x[p] B[g, n]` and `y[p] = sum_n S[p, n] C[g, n] + D x[p]`, times
 * `silu(z[p])` with a gate. Computed step by step, so any split of a sequence gives the same results.
 *
 * @param x - the inputs, `[B, L, H, P]` float32; L may be 0
 * @param dt - step sizes, `[B, L, H]`
 * @param A - decay rates, `[H]`, negative where the state is to fade
 * @param B - input projections, `[B, L, G, N]`
 * @param C - output projections, `[B, L, G, N]`
 * @param options - skip, gate, bias and bounds of dt, initial state, resets, where results go and which kernel works
 * @returns y `[B, L, H, P]` and the last state `[B, H, P, N]`, in memory of their own unless `out`
 *   says otherwise
 * @throws TypeError when an argument is of the wrong kind or an option has an unknown name
 * @throws `ShapeError` when shapes disagree
 * @throws RangeError when `dtLimit` is not ordered, `reset` holds anything but 0 and 1, or `memory` is
 *   too small
 *
 * Source: Dao and Gu, "Transformers are SSMs" (2024); `ssd_minimal` of state-spaces/mamba, and its
 * `Mamba2.step`, which forgets the bounds of dt.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { ssd } = await import('umwelt/ssm');
 * const x = nd(new Float32Array(8).fill(1), [1, 2, 1, 4]); // one head of four channels
 * const dt = nd(new Float32Array(2).fill(0.5), [1, 2, 1]);
 * const BC = nd(new Float32Array(6).fill(1), [1, 2, 1, 3]);
 * const { y, lastState } = ssd(x, dt, new Float32Array([-1]), BC, BC);
 * expect(y.data[0]).toBeCloseTo(3 * 0.5, 6);
 * expect(y.data[4]).toBeCloseTo(3 * (0.5 * Math.exp(-0.5) + 0.5), 6);
 * expect(lastState.shape).toEqual([1, 1, 4, 3]);
 * ```
 */
export function ssd(
  x: NdView,
  dt: NdView,
  A: Vector,
  B: NdView,
  C: NdView,
  options: SsdOptions = {},
): ScanResult {
  const what = 'ssd';
  expectOptions(what, options, OPTIONS);
  expectOptions(`${what}: out`, options.out ?? {}, ['y', 'lastState']);
  const axes = new Axes(what);
  axes.view('x', x, 'BLHP');
  axes.view('dt', dt, 'BLH');
  // Unlike the other vectors it may not be left out.
  if (A === undefined) axes.view('A', A, 'H');
  const rates = axes.vector('A', A, 'H');
  axes.view('B', B, 'BLGN');
  axes.view('C', C, 'BLGN');
  for (const axis of ['H', 'P', 'G', 'N']) axes.expectSome(axis);
  const [batch, steps, heads, headDim] = x.shape;
  const [, , groups, dState] = B.shape;
  if (heads % groups !== 0) {
    throw new ShapeError(
      `${what}: the groups of B and C must divide the heads, got G = ${groups} and H = ${heads}`,
    );
  }
  const D = skipOf(axes, options.D, heads, headDim);
  const dtBias = axes.vector('dtBias', options.dtBias, 'H');
  const [low, high] = limits(what, options.dtLimit);
  const z = axes.optional('z', options.z, 'BLHP');
  const state = axes.optional('state', options.state, 'BHPN');
  const reset = axes.reset(options.reset);
  const channels = heads * headDim;
  const y =
    axes.optional('out.y', options.out?.y, 'BLHP') ??
    nd(new Float32Array(batch * steps * channels), x.shape);
  const stateSize = channels * dState;
  const lastState =
    axes.optional('out.lastState', options.out?.lastState, 'BHPN') ??
    transposedView(new Float32Array(batch * stateSize), [batch, heads, headDim, dState]);
  const softplus = axes.flag('dtSoftplus', options.dtSoftplus);

  const paddedHeads = (heads + 3) & ~3;
  const bytesPerStep = 4 * (3 * channels + 2 * groups * dState + heads + 2 * paddedHeads);
  const atOnce = stepsAtOnce(steps, bytesPerStep);
  const needed =
    atOnce * (bytesPerStep + 1) + 4 * (channels + 2 * heads + 4 * stateSize) + 64 * (dState + 32);
  const memory = expectMemory(what, options.memory) ?? workMemory(needed);
  const scratch = new Scratch(memory);
  try {
    const { f32, kernels } = memory;
    const decay = scratch.hold(rates);
    const skip = scratch.hold(D);
    const bias = scratch.hold(dtBias);
    const flags = new Flags(scratch, reset, steps, atOnce);
    const own = scratch.take(8 * atOnce * paddedHeads + 64 * (dState + 1));
    const before = new Transposed(scratch, state, [heads, headDim, dState]);
    const after = new Transposed(scratch, lastState, [heads, headDim, dState]);
    const [xs, dts, bs, cs, zs, ys] = [x, dt, B, C, z, y].map(
      (view) => new Sequence(scratch, view, atOnce),
    );
    for (let row = 0; row < batch; row++) {
      let from = before.load(row);
      const to = after.place(row);
      if (steps === 0) f32.copyWithin(to >> 2, from >> 2, (from >> 2) + stateSize);
      for (let t = 0; t < steps; t += atOnce) {
        const count = Math.min(atOnce, steps - t);
        for (const operand of [xs, dts, bs, cs, zs]) operand.load(row, t, count);
        ys.place(row, t);
        flags.load(row, t, count);
        kernels.ssd(
          count,
          heads,
          headDim,
          dState,
          heads / groups,
          xs.address,
          xs.stride,
          dts.address,
          dts.stride,
          decay,
          bs.address,
          bs.stride,
          cs.address,
          cs.stride,
          skip,
          zs.address,
          zs.stride,
          bias,
          softplus,
          low,
          high,
          flags.address,
          from,
          to,
          ys.address,
          ys.stride,
          own,
        );
        ys.store(row, t, count);
        from = to;
      }
      after.store(row);
    }
  } finally {
    scratch.release();
  }
  return { y, lastState };
}

/** The skip of each channel. */
function skipOf(
  axes: Axes,
  D: Vector | undefined,
  heads: number,
  headDim: number,
): Float32Array | undefined {
  if (isNd(D) && D.shape.length === 2) {
    const { data, offset, stride } = axes.view('D', D, 'HP');
    return Float32Array.from(
      { length: heads * headDim },
      (_, i) => data[offset + Math.floor(i / headDim) * stride[0] + (i % headDim) * stride[1]],
    );
  }
  const perHead = axes.vector('D', D, 'H');
  return (
    perHead &&
    Float32Array.from({ length: heads * headDim }, (_, i) => perHead[Math.floor(i / headDim)])
  );
}

function limits(
  what: string,
  limit: readonly [number, number] | undefined,
): readonly [number, number] {
  if (limit === undefined) return [-Infinity, Infinity];
  if (!Array.isArray(limit) || !limit.every((bound) => typeof bound === 'number')) {
    throw new TypeError(
      `${what}: dtLimit must be an array [low, high] of numbers, got ${describe(limit)}`,
    );
  }
  const [low, high] = limit;
  if (limit.length !== 2 || !(low <= high)) {
    throw new RangeError(
      `${what}: dtLimit must be [low, high] in order, got [${limit.join(', ')}]`,
    );
  }
  return [low, high];
}
