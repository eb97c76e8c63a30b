import { type NdView, nd, ShapeError } from '../nd.js';
import { expectParameter } from './distribution.js';
import { softmax } from './softmax.js';

/**
 * Simplicial normalisation: a softmax over every group of `groupSize` consecutive numbers, which makes
 * the latent of TD-MPC2.
 *
 * Hansen et al., "TD-MPC2: Scalable, Robust World Models for Continuous Control" (2024).
 *
 * @param x - float32 `[B, ..., D]`
 * @param groupSize - a divisor of `D`. Default 8
 * @returns float32 in the same shape; each group sums to 1
 * @throws TypeError when `x` is no float32 view
 * @throws `ShapeError` when `groupSize` does not divide `D`
 */
export function simNorm(x: NdView, groupSize = 8): NdView {
  const values = expectParameter('simNorm: x', x);
  const width = x.shape[x.shape.length - 1];
  if (!Number.isInteger(groupSize) || groupSize < 1 || width % groupSize !== 0) {
    throw new ShapeError(
      `simNorm: groupSize must divide the last axis of length ${width}, got ${groupSize}`,
    );
  }
  const out = new Float32Array(values.length);
  const group = new Float64Array(groupSize);
  for (let at = 0; at < out.length; at += groupSize) {
    softmax(values, at, groupSize, group);
    out.set(group, at);
  }
  return nd(out, x.shape);
}
