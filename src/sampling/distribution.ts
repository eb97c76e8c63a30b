import { describe, expectExtent, isNd, type NdView, packed, ShapeError, sizeOf } from '../nd.js';

/**
 * A batch of distributions, one for each row: parameters `[B, ...]` in, samples `[B, ...]` out.
 *
 * A distribution holds its parameters and no randomness. `sample` takes the noise, so that it comes
 * from {@link RowNoise}, from a file or from anywhere else, and the same noise gives the same sample:
 * `distribution.sample(noise[distribution.noiseKind](distribution.noiseWidth))`.
 *
 * Values and noise may have any shape with `B` rows and the right count of numbers in a row.
 * Arithmetic is float64, one row at a time: a row's results depend on that row alone, and a NaN among
 * its parameters reaches no other row. Parameters are not copied where they are row-major already: leave
 * them unchanged while the distribution is used.
 */
export interface Distribution {
  /** Shape of a sample, `[B, ...]`. */
  readonly shape: readonly number[];
  /** The method of {@link RowNoise} that makes the noise `sample` takes. */
  readonly noiseKind: 'gumbel' | 'normal' | 'uniform';
  /** Numbers of noise a row that `sample` takes. */
  readonly noiseWidth: number;
  /** Draws a sample a row, float32 in the shape `shape`, from noise `[B, noiseWidth]`. */
  sample(noise: NdView): NdView;
  /** What a deterministic policy takes, float32 in the shape `shape`. */
  mode(): NdView;
  /** Log-density (for discrete values, log-probability) of a value a row, float32 `[B]`, summed over the row. */
  logProb(value: NdView): Float32Array;
}

/**
 * The elements of a parameter in row-major order.
 *
 * @param what - the name used in messages, such as `Bernoulli: logit`
 * @param shape - the shape it must have; by default any of rank 1 or more
 * @throws TypeError when it is no view of `Float32Array`
 * @throws `ShapeError` when it has another shape
 */
export function expectParameter(
  what: string,
  value: unknown,
  shape?: readonly number[],
): Float32Array {
  const view = expectFloat32(what, value);
  if (shape === undefined) {
    if (view.shape.length === 0) throw new ShapeError(`${what} must be [B, ...], got rank 0`);
  } else if (view.shape.join() !== shape.join()) {
    throw new ShapeError(`${what} must have shape [${shape}], got [${view.shape}]`);
  }
  return packed(view);
}

/**
 * The elements of values or noise in row-major order.
 *
 * @param shape - `[B, ...]`; any shape with `B` rows and as many numbers in a row will do
 * @throws TypeError when it is no view of `Float32Array`
 * @throws `ShapeError` when it has other rows
 */
export function expectRows(what: string, value: unknown, shape: readonly number[]): Float32Array {
  const view = expectFloat32(what, value);
  const width = widthOf(shape);
  if (view.shape[0] !== shape[0] || widthOf(view.shape) !== width) {
    throw new ShapeError(
      `${what} must have ${shape[0]} rows of ${width} numbers, got shape [${view.shape}]`,
    );
  }
  return packed(view);
}

/** Numbers in a row: the product of all axes but the first. */
export function widthOf(shape: readonly number[]): number {
  return sizeOf(shape.slice(1));
}

/**
 * Checks that another distribution's samples have the same shape.
 *
 * @throws `ShapeError` when they do not
 */
export function expectSameShape(what: string, { shape }: Distribution, own: Distribution): void {
  if (shape.join() !== own.shape.join()) {
    throw new ShapeError(`${what} must have shape [${own.shape}], got [${shape}]`);
  }
}

function expectFloat32(what: string, value: unknown): NdView {
  if (!isNd(value)) {
    throw new TypeError(`${what} must be a view, got ${describe(value)}; make one with nd()`);
  }
  if (!(value.data instanceof Float32Array)) {
    throw new TypeError(
      `${what} must be float32, got ${describe(value)}; convert it, as in Float32Array.from(data)`,
    );
  }
  expectExtent(what, value);
  return value as NdView;
}
