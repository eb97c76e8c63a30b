/**
 * Seeded, row-keyed noise and the distributions drawn from it.
 *
 * Nothing here holds a hidden state: noise is a function of its names (seed, stream, step, trajectory),
 * so one seed gives one dream however the rows are split, ordered or dropped.
 *
 * @module sampling
 */

export { philox4x32 } from '../kernels/philox.js';
export { type Key, key, type Seed } from './key.js';
export { type DrawOptions, RowNoise } from './row-noise.js';
export { Stream } from './stream.js';
export {
  modeTanhGaussian,
  sampleTanhGaussian,
  type TanhGaussianSample,
} from './tanh-gaussian.js';
