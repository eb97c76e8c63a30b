import type { NdView } from '../nd.js';
import { expectParameter } from './distribution.js';

/** A standard deviation or its natural logarithm, float32 in the shape of the mean. */
export type Scale =
  | {
      /** Standard deviation; a negative one counts as NaN. */
      readonly std: NdView;
    }
  | {
      /** Natural logarithm of the standard deviation. */
      readonly logStd: NdView;
    };

/** The checked parameters of Gaussians in row-major order, in whichever form the scale came. */
export class GaussianParameters {
  readonly shape: readonly number[];
  readonly mean: Float32Array;
  readonly #scale: Float32Array;
  readonly #isLog: boolean;

  /**
   * @param name - the class named in messages
   * @throws TypeError when a parameter is no float32 view
   * @throws `ShapeError` when the shapes differ
   */
  constructor(name: string, mean: NdView, scale: Scale) {
    this.mean = expectParameter(`${name}: mean`, mean);
    this.shape = mean.shape;
    this.#isLog = 'logStd' in scale;
    this.#scale =
      'logStd' in scale
        ? expectParameter(`${name}: logStd`, scale.logStd, mean.shape)
        : expectParameter(`${name}: std`, scale.std, mean.shape);
  }

  /** Standard deviation of element `i`; NaN where a negative one was given. */
  std(i: number): number {
    const scale = this.#scale[i];
    if (this.#isLog) return Math.exp(scale);
    return scale >= 0 ? scale : Number.NaN;
  }

  /** Its natural logarithm. */
  logStd(i: number): number {
    return this.#isLog ? this.#scale[i] : Math.log(this.#scale[i]);
  }
}
