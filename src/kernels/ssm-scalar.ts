/**
 * The state-space kernels in plain TypeScript: the reference for the WASM ones, and what runs where
 * those cannot. States are float32 and every other number between loads and stores float64.
 */

import { OVERREAD, type SsmKernels, type SsmMachine } from './ssm-kernels.js';

/** PyTorch's softplus: the identity above 20. */
export function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

/** x times the logistic function of x. */
export function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

/** Scalar kernels over a new memory of a number of bytes. */
export function startScalar(bytes: number): SsmMachine {
  const buffer = new ArrayBuffer(bytes);
  // Address 0 means absent, so nothing may lie there.
  return { variant: 'scalar', buffer, heapBase: OVERREAD, kernels: scalarKernels(buffer) };
}

function scalarKernels(buffer: ArrayBuffer): SsmKernels {
  const f32 = new Float32Array(buffer);
  const u8 = new Uint8Array(buffer);

  const scan: SsmKernels['scan'] = (
    steps,
    channels,
    dState,
    u,
    uStride,
    delta,
    deltaStride,
    A,
    B,
    bStride,
    C,
    cStride,
    D,
    z,
    zStride,
    deltaBias,
    deltaSoftplus,
    reset,
    stateIn,
    stateOut,
    stateStride,
    y,
    yStride,
    scratch,
  ) => {
    const h = f32.subarray(scratch >> 2, (scratch >> 2) + dState);
    const a = f32.subarray((scratch >> 2) + dState, (scratch >> 2) + 2 * dState);
    for (let d = 0; d < channels; d++) {
      for (let n = 0; n < dState; n++) {
        h[n] = f32[((stateIn + n * stateStride) >> 2) + d];
        a[n] = f32[((A + n * stateStride) >> 2) + d];
      }
      for (let t = 0; t < steps; t++) {
        if (reset !== 0 && u8[reset + t] !== 0) h.fill(0);
        const ut = f32[((u + t * uStride) >> 2) + d];
        let dt = f32[((delta + t * deltaStride) >> 2) + d];
        if (deltaBias !== 0) dt += f32[(deltaBias >> 2) + d];
        if (deltaSoftplus !== 0) dt = softplus(dt);
        const b = (B + t * bStride) >> 2;
        const c = (C + t * cStride) >> 2;
        let sum = 0;
        for (let n = 0; n < dState; n++) {
          h[n] = h[n] * Math.exp(dt * a[n]) + dt * ut * f32[b + n];
          sum += h[n] * f32[c + n];
        }
        if (D !== 0) sum += ut * f32[(D >> 2) + d];
        if (z !== 0) sum *= silu(f32[((z + t * zStride) >> 2) + d]);
        f32[((y + t * yStride) >> 2) + d] = sum;
      }
      for (let n = 0; n < dState; n++) f32[((stateOut + n * stateStride) >> 2) + d] = h[n];
    }
  };

  const scanStep: SsmKernels['scanStep'] = (
    channels,
    dState,
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    deltaBias,
    deltaSoftplus,
    stateIn,
    stateOut,
    stateStride,
    y,
    scratch,
  ) => {
    const fixed = [stateIn, stateOut, stateStride, y, 0, scratch] as const;
    const inputs = [u, 0, delta, 0, A, B, 0, C, 0, D, z, 0, deltaBias, deltaSoftplus, 0] as const;
    scan(1, channels, dState, ...inputs, ...fixed);
  };

  const ssd: SsmKernels['ssd'] = (
    steps,
    heads,
    headDim,
    dState,
    headsPerGroup,
    x,
    xStride,
    dt,
    dtStride,
    A,
    B,
    bStride,
    C,
    cStride,
    D,
    z,
    zStride,
    dtBias,
    dtSoftplus,
    dtMin,
    dtMax,
    reset,
    stateIn,
    stateOut,
    y,
    yStride,
  ) => {
    const stateSize = dState * headDim;
    for (let head = 0; head < heads; head++) {
      const group = Math.floor(head / headsPerGroup) * dState;
      const to = (stateOut >> 2) + head * stateSize;
      const from = (stateIn >> 2) + head * stateSize;
      if (from !== to) f32.copyWithin(to, from, from + stateSize);
      for (let t = 0; t < steps; t++) {
        if (reset !== 0 && u8[reset + t] !== 0) f32.fill(0, to, to + stateSize);
        let d = f32[((dt + t * dtStride) >> 2) + head];
        if (dtBias !== 0) d += f32[(dtBias >> 2) + head];
        if (dtSoftplus !== 0) d = softplus(d);
        d = Math.min(Math.max(d, dtMin), dtMax);
        const decay = Math.exp(d * f32[(A >> 2) + head]);
        const b = ((B + t * bStride) >> 2) + group;
        const c = ((C + t * cStride) >> 2) + group;
        for (let p = 0; p < headDim; p++) {
          const channel = head * headDim + p;
          const xt = f32[((x + t * xStride) >> 2) + channel];
          let sum = 0;
          for (let n = 0, at = to + p; n < dState; n++, at += headDim) {
            f32[at] = f32[at] * decay + d * xt * f32[b + n];
            sum += f32[at] * f32[c + n];
          }
          if (D !== 0) sum += xt * f32[(D >> 2) + channel];
          if (z !== 0) sum *= silu(f32[((z + t * zStride) >> 2) + channel]);
          f32[((y + t * yStride) >> 2) + channel] = sum;
        }
      }
    }
  };

  const conv: SsmKernels['conv'] = (
    steps,
    channels,
    taps,
    x,
    xStride,
    weight,
    bias,
    withSilu,
    reset,
    windowIn,
    windowOut,
    y,
    yStride,
  ) => {
    const before = taps - 1;
    const row = (t: number): number =>
      t < 0 ? (windowIn >> 2) + (before + t) * channels : (x + t * xStride) >> 2;
    // The first step whose input may still be seen.
    let begin = -before;
    for (let t = 0; t < steps; t++) {
      if (reset !== 0 && u8[reset + t] !== 0) begin = t;
      for (let c = 0; c < channels; c++) {
        let sum = bias === 0 ? 0 : f32[(bias >> 2) + c];
        for (let from = Math.max(begin, t - before); from <= t; from++) {
          sum += f32[row(from) + c] * f32[(weight >> 2) + (from - t + before) * channels + c];
        }
        f32[((y + t * yStride) >> 2) + c] = withSilu !== 0 ? silu(sum) : sum;
      }
    }
    for (let k = 0, t = steps - before; k < before; k++, t++) {
      const to = (windowOut >> 2) + k * channels;
      if (t < begin) f32.fill(0, to, to + channels);
      else f32.copyWithin(to, row(t), row(t) + channels);
    }
  };

  const transpose: SsmKernels['transpose'] = (from, rows, columns, to) => {
    for (let i = 0, at = from >> 2; i < rows; i++) {
      for (let j = 0; j < columns; j++) f32[(to >> 2) + j * rows + i] = f32[at++];
    }
  };

  return { scan, scanStep, ssd, conv, transpose };
}
