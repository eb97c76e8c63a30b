/**
 * Variances and draws: by the WASM kernel, or where that cannot start by its scalar twin, within
 * float32 rounding of each other.
 */

import type { VarianceKernel } from './variance-scalar.js';
import * as scalar from './variance-scalar.js';
import { startVariances } from './variance-simd.js';

export { type VarianceForm, varianceOf } from './variance-scalar.js';

let started: VarianceKernel | undefined;

/** Started at the first use: importing this file does nothing. */
function kernel(): VarianceKernel {
  started ??= startVariances() ?? scalar;
  return started;
}

/** Writes the variances of rows. */
export const variances: VarianceKernel['variances'] = (form, raw, out) =>
  kernel().variances(form, raw, out);

/** Adds noise of the variances to means. */
export const draw: VarianceKernel['draw'] = (form, raw, noise, out) =>
  kernel().draw(form, raw, noise, out);
