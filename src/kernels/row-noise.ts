/**
 * Float32 noise for rows: by the WASM kernel, or where that cannot start by its scalar twin, which
 * says what the numbers are. Both give the same bits.
 */

import type { FillRows, FillTruncatedRows, RowNoiseKernel } from './row-noise-scalar.js';
import * as scalar from './row-noise-scalar.js';
import { startRowNoise } from './row-noise-simd.js';

let started: RowNoiseKernel | undefined;

/** Started at the first use: importing this file does nothing. */
function kernel(): RowNoiseKernel {
  started ??= startRowNoise() ?? scalar;
  return started;
}

/** Uniform noise in `[0, 1)`, 24 bits each. */
export const uniformRows: FillRows = (out, width, names) => kernel().uniformRows(out, width, names);

/** Standard normal noise by Box-Muller. */
export const normalRows: FillRows = (out, width, names) => kernel().normalRows(out, width, names);

/** Standard Gumbel noise. */
export const gumbelRows: FillRows = (out, width, names) => kernel().gumbelRows(out, width, names);

/** Standard normal noise between two bounds. */
export const truncatedNormalRows: FillTruncatedRows = (out, width, names, truncation) =>
  kernel().truncatedNormalRows(out, width, names, truncation);
