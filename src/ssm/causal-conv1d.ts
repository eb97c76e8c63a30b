import { type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { Axes, expectMemory, type Reset, stepsAtOnce, type Vector } from './arguments.js';
import { type KernelMemory, workMemory } from './kernel-memory.js';
import { Flags, Scratch, Sequence, Transposed, transposedView } from './operands.js';
import type { ScanOut, ScanResult } from './scan-result.js';

/** Optional arguments of {@link causalConv1d}. */
export interface CausalConv1dOptions {
  /** `[C]`, added to the sum of the taps. */
  readonly bias?: Vector;
  /** What the sum goes through; default nothing. */
  readonly activation?: 'silu';
  /** `[B, C, K - 1]`: the inputs before the first step, the oldest first; default zeros. */
  readonly state?: NdView;
  /** `[B, L]`: 1 where a row starts anew, so that earlier inputs count as zeros. */
  readonly reset?: Reset;
  /** Arrays to write to, in place of new ones. */
  readonly out?: ScanOut;
  /** Where the kernel works, and with which variant; by default a memory of the library's own. */
  readonly memory?: KernelMemory;
}

const OPTIONS = ['bias', 'activation', 'state', 'reset', 'out', 'memory'];

/**
 * The causal depthwise convolution in front of a scan: each channel's last K inputs, weighed.
 *
 * `y[t, c] = bias[c] + sum_k weight[c, k] x[t - (K - 1) + k, c]`: the last tap weighs the present input.
 *
 * @param x - the inputs, `[B, L, C]` float32; L may be 0
 * @param weight - `[C, K]`
 * @param options - bias, activation, the inputs before, resets, where results go and which kernel works
 * @returns y `[B, L, C]`, and as the last state the last K - 1 inputs, `[B, C, K - 1]`; in memory of
 *   their own unless `out` says otherwise
 * @throws TypeError when an argument is of the wrong kind or an option has an unknown name
 * @throws `ShapeError` when shapes disagree
 * @throws RangeError when `reset` holds anything but 0 and 1, or `memory` is too small
 *
 * Time comes before channels here; the functions below have it last.
 *
 * Source: `causal_conv1d_ref` of Dao-AILab/causal-conv1d. Caches of state-spaces/mamba and of
 * transformers are K wide; their first column is not needed any more.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { causalConv1d } = await import('umwelt/ssm');
 * const x = nd([[[1], [2], [3]]]); // [1, 3, 1]
 * const { y, lastState } = causalConv1d(x, nd([[10, 1]]));
 * expect([...y.data]).toEqual([1, 12, 23]);
 * expect([...lastState.data]).toEqual([3]);
 * ```
 */
export function causalConv1d(
  x: NdView,
  weight: NdView,
  options: CausalConv1dOptions = {},
): ScanResult {
  const what = 'causalConv1d';
  expectOptions(what, options, OPTIONS);
  expectOptions(`${what}: out`, options.out ?? {}, ['y', 'lastState']);
  const { activation } = options;
  if (activation !== undefined && activation !== 'silu') {
    throw new TypeError(`${what}: activation must be 'silu' or left out, got '${activation}'`);
  }
  const axes = new Axes(what);
  axes.view('x', x, 'BLC');
  axes.view('weight', weight, 'CK');
  for (const axis of ['C', 'K']) axes.expectSome(axis);
  const [batch, steps, channels] = x.shape;
  const taps = weight.shape[1];
  const before = taps - 1;
  axes.bind('W', before, 'K - 1');
  const bias = axes.vector('bias', options.bias, 'C');
  const state = axes.optional('state', options.state, 'BCW');
  const reset = axes.reset(options.reset);
  const y =
    axes.optional('out.y', options.out?.y, 'BLC') ??
    nd(new Float32Array(batch * steps * channels), x.shape);
  const lastState =
    axes.optional('out.lastState', options.out?.lastState, 'BCW') ??
    transposedView(new Float32Array(batch * channels * before), [batch, channels, before]);

  const atOnce = stepsAtOnce(steps, 8 * channels);
  const needed = atOnce * (8 * channels + 1) + 4 * channels * (6 * taps + 1) + 64 * (taps + 24);
  const memory = expectMemory(what, options.memory) ?? workMemory(needed);
  const scratch = new Scratch(memory);
  try {
    const { f32, kernels } = memory;
    const weights = new Transposed(
      scratch,
      { ...weight, shape: [1, ...weight.shape], stride: [0, ...weight.stride] },
      [channels, taps],
    ).load(0);
    const offset = scratch.hold(bias);
    const flags = new Flags(scratch, reset, steps, atOnce);
    const own = scratch.take(4 * ((taps + 3) & ~3) + 64);
    const windows = new Transposed(scratch, state, [channels, before]);
    const after = new Transposed(scratch, lastState, [channels, before]);
    const xs = new Sequence(scratch, x, atOnce);
    // Later steps still need the inputs that outputs in their place would overwrite.
    const ys = new Sequence(scratch, y, atOnce, y.data.buffer !== x.data.buffer);
    for (let row = 0; row < batch; row++) {
      let from = windows.load(row);
      const to = after.place(row);
      if (steps === 0) f32.copyWithin(to >> 2, from >> 2, (from >> 2) + channels * before);
      for (let t = 0; t < steps; t += atOnce) {
        const count = Math.min(atOnce, steps - t);
        xs.load(row, t, count);
        ys.place(row, t);
        flags.load(row, t, count);
        kernels.conv(
          count,
          channels,
          taps,
          xs.address,
          xs.stride,
          weights,
          offset,
          activation === 'silu' ? 1 : 0,
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
