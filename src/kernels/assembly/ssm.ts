/**
 * The state-space kernels in WASM SIMD: the selective scan, the state-space dual and the causal
 * convolution of one row, a sequence. `../ssm-scalar.ts` says the same in plain TypeScript, with the
 * meaning of every argument.
 *
 * Compiled twice, for base and for relaxed SIMD. The host imports the memory, which never grows, and
 * passes addresses in it; the kernels trust them. The rules of this folder stand in `row-noise.ts`,
 * but that here relaxed SIMD is allowed: results are within rounding, not the same bits everywhere.
 *
 * Vectors run over channels, so B and C are splats and no sum crosses lanes. Loads may read up to 60
 * bytes beyond a row, never stores: the host keeps that much of its memory free at the end.
 */

/** Where the host's part of the memory starts. */
export const heapBase: usize = __heap_base;

export { conv } from './ssm/conv';
export { scan, scanStep } from './ssm/scan';
export { ssd } from './ssm/ssd';
export { transpose } from './ssm/transpose';
