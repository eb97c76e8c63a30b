import type { NormalizerManifest } from '../runtime/manifest.js';

/**
 * Normalises one row into part of a wider one: `clamp((x - mean) / std, -clip, clip)`.
 *
 * @param x - the row lies at `x[from .. from + width - 1]`
 * @param normalizer - constants of each dimension; undefined copies the row
 * @param first - which of the normaliser's dimensions is the row's first
 * @param out - written at `out[to .. to + width - 1]`
 */
export function normalizeRow(
  x: Float32Array,
  from: number,
  width: number,
  normalizer: NormalizerManifest | undefined,
  first: number,
  out: Float32Array,
  to: number,
): void {
  if (normalizer === undefined) {
    for (let i = 0; i < width; i++) out[to + i] = x[from + i];
    return;
  }
  const { mean, std, clip = Number.POSITIVE_INFINITY } = normalizer;
  for (let i = 0; i < width; i++) {
    const z = (x[from + i] - mean[first + i]) / std[first + i];
    // Comparisons keep NaN as NaN, to be caught as a non-finite row.
    out[to + i] = z > clip ? clip : z < -clip ? -clip : z;
  }
}
