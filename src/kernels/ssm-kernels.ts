/**
 * What the state-space kernels compute, whichever variant computes it. A call is for one row, that is
 * one sequence, in one memory: addresses and strides are in bytes, 0 where an optional array is absent.
 * Rows and channels lie together; a stride is the distance of steps.
 */

/** `relaxed`: WASM SIMD with fused multiply-add; `simd`: base WASM SIMD; `scalar`: plain TypeScript. */
export type KernelVariant = 'relaxed' | 'simd' | 'scalar';

/** Bytes a kernel may read beyond an array; the host keeps them free at the end of the memory. */
export const OVERREAD = 64;

export interface SsmKernels {
  /**
   * `h = exp(delta A) h + delta u B`, `y = C h + D u`, and `y silu(z)` with a gate.
   *
   * @param steps - at least 1
   * @param channels - of u, delta, z and y, each `[steps, channels]`; all share B and C
   * @param A - `[dState, channels]`, with the stride of the state
   * @param B - `[steps, dState]`
   * @param C - `[steps, dState]`
   * @param D - `[channels]`
   * @param deltaBias - `[channels]`, added to delta before the softplus
   * @param reset - `[steps]` bytes: other than 0 where the state is zeroed before the step
   * @param stateIn - `[dState, channels]`; may be `stateOut`
   * @param scratch - 128 bytes a state dimension and 64 more
   */
  scan(
    steps: number,
    channels: number,
    dState: number,
    u: number,
    uStride: number,
    delta: number,
    deltaStride: number,
    A: number,
    B: number,
    bStride: number,
    C: number,
    cStride: number,
    D: number,
    z: number,
    zStride: number,
    deltaBias: number,
    deltaSoftplus: number,
    reset: number,
    stateIn: number,
    stateOut: number,
    stateStride: number,
    y: number,
    yStride: number,
    scratch: number,
  ): void;

  /**
   * `scan` of one step, for channels in multiples of 16.
   *
   * @param scratch - 12 bytes a channel
   */
  scanStep(
    channels: number,
    dState: number,
    u: number,
    delta: number,
    A: number,
    B: number,
    C: number,
    D: number,
    z: number,
    deltaBias: number,
    deltaSoftplus: number,
    stateIn: number,
    stateOut: number,
    stateStride: number,
    y: number,
    scratch: number,
  ): void;

  /**
   * `S = exp(dt A) S + dt B x`, `y = C S + D x` for each head, and `y silu(z)` with a gate.
   *
   * @param steps - at least 1
   * @param headsPerGroup - heads that share one B and C
   * @param x - `[steps, heads, headDim]`, as z and y
   * @param dt - `[steps, heads]`; after bias and softplus bounded by `dtMin` and `dtMax`
   * @param A - `[heads]`
   * @param B - `[steps, groups, dState]`
   * @param C - `[steps, groups, dState]`
   * @param D - `[heads, headDim]`
   * @param stateIn - `[heads, dState, headDim]`; may be `stateOut`
   * @param scratch - 8 bytes a step and head, heads rounded up to 4; 64 a state dimension and 64 more
   */
  ssd(
    steps: number,
    heads: number,
    headDim: number,
    dState: number,
    headsPerGroup: number,
    x: number,
    xStride: number,
    dt: number,
    dtStride: number,
    A: number,
    B: number,
    bStride: number,
    C: number,
    cStride: number,
    D: number,
    z: number,
    zStride: number,
    dtBias: number,
    dtSoftplus: number,
    dtMin: number,
    dtMax: number,
    reset: number,
    stateIn: number,
    stateOut: number,
    y: number,
    yStride: number,
    scratch: number,
  ): void;

  /**
   * The causal depthwise convolution: tap `k` of `taps` weighs the input `taps - 1 - k` steps ago.
   *
   * @param steps - at least 1
   * @param weight - `[taps, channels]`
   * @param bias - `[channels]`
   * @param silu - 1 to apply it to the sum
   * @param reset - `[steps]` bytes: other than 0 where earlier inputs are forgotten
   * @param windowIn - the inputs before the row, `[taps - 1, channels]`; may be `windowOut`
   * @param scratch - 4 bytes a tap, rounded up to 16, and 64 more
   */
  conv(
    steps: number,
    channels: number,
    taps: number,
    x: number,
    xStride: number,
    weight: number,
    bias: number,
    silu: number,
    reset: number,
    windowIn: number,
    windowOut: number,
    y: number,
    yStride: number,
    scratch: number,
  ): void;

  /** `[rows, columns]` to `[columns, rows]`, out of place. */
  transpose(from: number, rows: number, columns: number, to: number): void;
}

/** Kernels over a memory of their own, which never grows. */
export interface SsmMachine {
  readonly variant: KernelVariant;
  readonly buffer: ArrayBuffer;
  /** The first address that is the host's. */
  readonly heapBase: number;
  readonly kernels: SsmKernels;
}
