import { type NdView, nd, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { Axes, expectMemory, type Reset, stepsAtOnce, type Vector } from './arguments.js';
import { type KernelMemory, workMemory } from './kernel-memory.js';
import { Flags, Scratch, Sequence, Transposed, transposedView } from './operands.js';
import type { ScanOut, ScanResult } from './scan-result.js';

/** Optional arguments of {@link selectiveScan}. */
export interface SelectiveScanOptions {
  /** `[D]`: the skip, added to y as `D u`. */
  readonly D?: Vector;
  /** `[B, L, D]`: the gate; y is multiplied by `silu(z)`. */
  readonly z?: NdView;
  /** `[D]`, added to delta before the softplus. */
  readonly deltaBias?: Vector;
  /** Whether delta goes through a softplus; default false. */
  readonly deltaSoftplus?: boolean;
  /** `[B, D, N]`: the state before the first step; default zeros. Not written to. */
  readonly state?: NdView;
  /** `[B, L]`: 1 where a row starts anew, so that its state is overwritten by zeros before the step. */
  readonly reset?: Reset;
  /** Arrays to write to, in place of new ones. */
  readonly out?: ScanOut;
  /** Where the kernel works, and with which variant; by default a memory of the library's own. */
  readonly memory?: KernelMemory;
}

const OPTIONS = ['D', 'z', 'deltaBias', 'deltaSoftplus', 'state', 'reset', 'out', 'memory'];

/**
 * The selective scan of Mamba: a linear recurrence whose step size and projections depend on the input.
 *
 * For each channel d, with `dt = delta` after bias and softplus,
 * `h[d, n] = exp(dt[d] A[d, n]) h[d, n] + dt[d] B[n] u[d]` and `y[d] = sum_n h[d, n] C[n] + D[d] u[d]`,
 * times `silu(z[d])` with a gate. Any split of a sequence gives the same results, and so do its steps
 * one by one; a row depends on nothing but itself.
 *
 * @param u - the inputs, `[B, L, D]` float32; L may be 0
 * @param delta - step sizes, `[B, L, D]`
 * @param A - decay rates, `[D, N]`, negative where the state is to fade
 * @param B - input projections, `[B, L, N]`; or `[B, L, G, N]`, where channel d belongs to group
 *   `floor(d / (D / G))`
 * @param C - output projections, shaped as B
 * @param options - skip, gate, bias, initial state, resets, where results go and which kernel works
 * @returns y `[B, L, D]` and the last state `[B, D, N]`, in memory of their own unless `out` says
 *   otherwise
 * @throws TypeError when an argument is of the wrong kind or an option has an unknown name
 * @throws `ShapeError` when shapes disagree
 * @throws RangeError when `reset` holds anything but 0 and 1, or `memory` is too small
 *
 * Time comes before channels here; the functions below have it last.
 *
 * Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023);
 * `selective_scan_ref` of state-spaces/mamba, which has neither an initial state nor resets.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd } = await import('umwelt');
 * const { selectiveScan } = await import('umwelt/ssm');
 * const A = nd([[-1], [-2]]); // two channels, one state dimension
 * const ones = nd(new Float32Array(6).fill(1), [1, 3, 2]);
 * const one = nd(new Float32Array(3).fill(1), [1, 3, 1]);
 * const { y, lastState } = selectiveScan(ones, ones, A, one, one);
 * expect(y.shape).toEqual([1, 3, 2]);
 * expect(lastState.shape).toEqual([1, 2, 1]);
 * // The state fades by e^-1 a step and gains 1.
 * expect(y.data[4]).toBeCloseTo(1 + Math.exp(-1) + Math.exp(-2), 6);
 * ```
 */
export function selectiveScan(
  u: NdView,
  delta: NdView,
  A: NdView,
  B: NdView,
  C: NdView,
  options: SelectiveScanOptions = {},
): ScanResult {
  const what = 'selectiveScan';
  expectOptions(what, options, OPTIONS);
  expectOptions(`${what}: out`, options.out ?? {}, ['y', 'lastState']);
  const axes = new Axes(what);
  axes.view('u', u, 'BLD');
  axes.view('delta', delta, 'BLD');
  axes.view('A', A, 'DN');
  const grouped = Array.isArray(B?.shape) && B.shape.length === 4;
  if (!grouped) axes.bind('G', 1);
  axes.view('B', B, grouped ? 'BLGN' : 'BLN');
  axes.view('C', C, grouped ? 'BLGN' : 'BLN');
  for (const axis of ['D', 'N', 'G']) axes.expectSome(axis);
  const [batch, steps, channels] = u.shape;
  const dState = A.shape[1];
  const groups = axes.length('G');
  if (channels % groups !== 0) {
    throw new ShapeError(
      `${what}: the groups of B and C must divide the channels, got G = ${groups} and D = ${channels}`,
    );
  }
  const D = axes.vector('D', options.D, 'D');
  const deltaBias = axes.vector('deltaBias', options.deltaBias, 'D');
  const z = axes.optional('z', options.z, 'BLD');
  const state = axes.optional('state', options.state, 'BDN');
  const reset = axes.reset(options.reset);
  const stateShape = [batch, channels, dState];
  const y =
    axes.optional('out.y', options.out?.y, 'BLD') ??
    nd(new Float32Array(batch * steps * channels), u.shape);
  const lastState =
    axes.optional('out.lastState', options.out?.lastState, 'BDN') ??
    transposedView(new Float32Array(batch * channels * dState), stateShape);
  const softplus = axes.flag('deltaSoftplus', options.deltaSoftplus);

  const bytesPerStep = 4 * (4 * channels + 2 * groups * dState);
  const atOnce = stepsAtOnce(steps, bytesPerStep);
  const needed =
    atOnce * (bytesPerStep + 1) + 4 * channels * (6 * dState + 5) + 128 * dState + 64 * 24;
  const memory = expectMemory(what, options.memory) ?? workMemory(needed);
  const scratch = new Scratch(memory);
  try {
    const { f32, kernels } = memory;
    const rates = new Transposed(
      scratch,
      { ...A, shape: [1, ...A.shape], stride: [0, ...A.stride] },
      [channels, dState],
    ).load(0);
    const skip = scratch.hold(D);
    const bias = scratch.hold(deltaBias);
    const flags = new Flags(scratch, reset, steps, atOnce);
    const own = scratch.take(Math.max(12 * channels, 128 * dState + 64));
    const before = new Transposed(scratch, state, [channels, dState]);
    const after = new Transposed(scratch, lastState, [channels, dState]);
    const [us, deltas, bs, cs, zs, ys] = [u, delta, B, C, z, y].map(
      (view) => new Sequence(scratch, view, atOnce),
    );
    const perGroup = channels / groups;
    const stateStride = 4 * channels;
    for (let row = 0; row < batch; row++) {
      let from = before.load(row);
      const to = after.place(row);
      if (steps === 0) f32.copyWithin(to >> 2, from >> 2, (from >> 2) + channels * dState);
      for (let t = 0; t < steps; t += atOnce) {
        const count = Math.min(atOnce, steps - t);
        for (const operand of [us, deltas, bs, cs, zs]) operand.load(row, t, count);
        ys.place(row, t);
        flags.load(row, t, count);
        for (let group = 0; group < groups; group++) {
          const first = 4 * group * perGroup;
          const at = (address: number): number => (address === 0 ? 0 : address + first);
          const b = bs.address + 4 * group * dState;
          const c = cs.address + 4 * group * dState;
          // One step without a reset needs no gathering of the state; 16 channels at a time.
          const streamed = steps === 1 && reset === undefined ? perGroup & ~15 : 0;
          if (streamed > 0) {
            kernels.scanStep(
              streamed,
              dState,
              at(us.address),
              at(deltas.address),
              at(rates),
              b,
              c,
              at(skip),
              at(zs.address),
              at(bias),
              softplus,
              at(from),
              at(to),
              stateStride,
              at(ys.address),
              own,
            );
          }
          if (streamed < perGroup) {
            const rest = (address: number): number =>
              address === 0 ? 0 : address + first + 4 * streamed;
            kernels.scan(
              count,
              perGroup - streamed,
              dState,
              rest(us.address),
              us.stride,
              rest(deltas.address),
              deltas.stride,
              rest(rates),
              b,
              bs.stride,
              c,
              cs.stride,
              rest(skip),
              rest(zs.address),
              zs.stride,
              rest(bias),
              softplus,
              flags.address,
              rest(from),
              rest(to),
              stateStride,
              rest(ys.address),
              ys.stride,
              own,
            );
          }
        }
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
