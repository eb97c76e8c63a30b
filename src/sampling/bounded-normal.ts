import { type NdView, nd } from '../nd.js';
import { DiagonalGaussian } from './diagonal-gaussian.js';
import { expectParameter } from './distribution.js';
import { sigmoid } from './special-functions.js';

/** The range of a {@link BoundedNormal}'s standard deviation. */
export interface BoundedNormalOptions {
  /** Approached by the least raw scales. Default 0.1. */
  minStd?: number;
  /** Approached by the greatest raw scales. Default 1. */
  maxStd?: number;
}

/**
 * The continuous actor of DreamerV3: Gaussians with mean `tanh(x)` and standard deviation
 * `(maxStd - minStd) sigmoid(y + 2) + minStd`, by default `0.9 sigmoid(y + 2) + 0.1`.
 *
 * The mean is bounded, samples are not: they may leave [-1, 1], where a world model rescales and an
 * environment clips. Hafner et al., "Mastering Diverse Domains through World Models" (2023); agrees with
 * danijar/dreamerv3, `bounded_normal`.
 */
export class BoundedNormal extends DiagonalGaussian {
  /**
   * @param rawMean - `x`, float32 `[B, ...]`, as the network gives it
   * @param rawStd - `y`, float32 in the same shape, as the network gives it
   * @throws TypeError when one is no float32 view
   * @throws `ShapeError` when the shapes differ
   * @throws RangeError unless `0 < minStd <= maxStd`
   */
  constructor(
    rawMean: NdView,
    rawStd: NdView,
    { minStd = 0.1, maxStd = 1 }: BoundedNormalOptions = {},
  ) {
    if (!(minStd > 0 && minStd <= maxStd && maxStd < Number.POSITIVE_INFINITY)) {
      throw new RangeError(
        `BoundedNormal: 0 < minStd <= maxStd must hold, got minStd ${minStd}, maxStd ${maxStd}`,
      );
    }
    const mean = expectParameter('BoundedNormal: rawMean', rawMean).map(Math.tanh);
    const std = expectParameter('BoundedNormal: rawStd', rawStd, rawMean.shape).slice();
    for (let i = 0; i < std.length; i++) std[i] = (maxStd - minStd) * sigmoid(std[i] + 2) + minStd;
    super(nd(mean, rawMean.shape), { std: nd(std, rawMean.shape) });
  }
}
