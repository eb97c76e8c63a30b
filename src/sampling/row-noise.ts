import { gumbelRows, normalRows, truncatedNormalRows, uniformRows } from '../kernels/row-noise.js';
import type { FillRows } from '../kernels/row-noise-scalar.js';
import { type Truncation, truncation } from '../kernels/truncation.js';
import { type NdView, nd } from '../nd.js';
import { type Key, key, type Seed } from './key.js';

/** Which numbers to draw, and where to put them. */
export interface DrawOptions {
  /**
   * Which of a row's independent draws, 0..65535. Noise is a function of its names and nothing is
   * consumed: the same call gives the same numbers, and a second, fresh set needs another `draw`.
   * The noise of one draw comes from the same bits, whatever its distribution.
   */
  draw?: number;
  /** Memory for the result, at least `rows * width` long; by default new. */
  out?: Float32Array;
}

/** Bounds of a truncated draw. */
export interface TruncatedDrawOptions extends DrawOptions {
  /** Least value, in standard deviations; may be `-Infinity`. Default -2. */
  low?: number;
  /** Greatest value, in standard deviations; may be `Infinity`. Default 2. */
  high?: number;
}

/**
 * Noise for rows named by trajectory ids: a pure function of (seed, stream, step, trajectory, draw,
 * column), drawn from Philox4x32-10.
 *
 * Splitting a batch, reordering it or dropping rows does not change which numbers a trajectory sees.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { RowNoise, Stream } = await import('umwelt/sampling');
 * const both = new RowNoise(7, Stream.policy, 0, Uint32Array.of(0, 1)).normal(3);
 * const second = new RowNoise(7, Stream.policy, 0, Uint32Array.of(1)).normal(3);
 * expect(second.data).toEqual(both.data.subarray(3));
 * ```
 */
export class RowNoise {
  /** The generator's key. */
  readonly key: Key;
  /** Who draws, a number of the `Stream` list or of your own, uint32. */
  readonly stream: number;
  /** Time step of the rollout, uint32. */
  readonly step: number;
  /** Trajectory id of each row, `[B]`. */
  readonly trajectory: Uint32Array;

  /**
   * @param seed - the seed or key
   * @param stream - who draws, uint32
   * @param step - time step, uint32
   * @param trajectory - id of each row, `[B]`
   * @throws RangeError when stream or step is not a uint32
   */
  constructor(seed: Seed, stream: number, step: number, trajectory: Uint32Array) {
    this.key = key(seed);
    this.stream = word('stream', stream);
    this.step = word('step', step);
    this.trajectory = trajectory;
  }

  /** The same rows and step in another stream. */
  in(stream: number): RowNoise {
    return new RowNoise(this.key, stream, this.step, this.trajectory);
  }

  /**
   * Uniform numbers in `[0, 1)`, 24 bits each.
   *
   * @param width - numbers a row, at most 262144
   * @returns float32 `[B, width]`
   * @throws RangeError for a width or draw outside its range, or an `out` too short
   */
  uniform(width: number, options: DrawOptions = {}): NdView {
    return this.#fill(uniformRows, width, options);
  }

  /**
   * Standard normal numbers, by Box-Muller in float32.
   *
   * @param width - numbers a row, at most 262144
   * @returns float32 `[B, width]`
   * @throws RangeError for a width or draw outside its range, or an `out` too short
   */
  normal(width: number, options: DrawOptions = {}): NdView {
    return this.#fill(normalRows, width, options);
  }

  /**
   * Standard Gumbel numbers, `-ln(-ln u)` in float32, between -3.13 and 22.88: what the largest of
   * logits plus noise, a draw from their softmax, is made of.
   *
   * Both tails keep their digits: a number `g` is within `4e-7 + 1e-7 |g|` of the exact one.
   *
   * @param width - numbers a row, at most 262144
   * @returns float32 `[B, width]`
   * @throws RangeError for a width or draw outside its range, or an `out` too short
   */
  gumbel(width: number, options: DrawOptions = {}): NdView {
    return this.#fill(gumbelRows, width, options);
  }

  /**
   * Standard normal numbers restricted to `[low, high]`, by the inverse of their distribution function
   * in float32; for a mean and a standard deviation of each number there is {@link TruncatedNormal}.
   *
   * Bounds are rounded to float32. A number `z` is within `5e-7 max(1, |z|)` of the exact one. Without
   * bounds the largest magnitude is 6.34.
   *
   * @param width - numbers a row, at most 262144
   * @returns float32 `[B, width]`
   * @throws RangeError unless `low < high`; where float32 cannot serve the bounds, that is where both
   *   lie beyond 8 on the same side, or are closer together than 1/1024 of the larger one; for a
   *   width or draw outside its range, or an `out` too short
   */
  truncatedNormal(width: number, options: TruncatedDrawOptions = {}): NdView {
    const cut = truncationOf(options);
    const fillRows: FillRows = (out, columns, names) =>
      truncatedNormalRows(out, columns, names, cut);
    return this.#fill(fillRows, width, options);
  }

  #fill(fillRows: FillRows, width: number, { draw = 0, out }: DrawOptions): NdView {
    if (!Number.isInteger(width) || width < 0 || width > 4 * 65536) {
      throw new RangeError(`RowNoise: width must be an integer in 0..262144, got ${width}`);
    }
    if (!Number.isInteger(draw) || draw < 0 || draw > 65535) {
      throw new RangeError(`RowNoise: draw must be an integer in 0..65535, got ${draw}`);
    }
    const { step, stream, trajectory } = this;
    const size = trajectory.length * width;
    if (out !== undefined && out.length < size) {
      throw new RangeError(`RowNoise: out must hold ${size} numbers, got ${out.length}`);
    }
    const memory = out?.subarray(0, size) ?? new Float32Array(size);
    fillRows(memory, width, { trajectory, step, stream, draw, ...this.key });
    return nd(memory, [trajectory.length, width]);
  }
}

function truncationOf({ low = -2, high = 2 }: TruncatedDrawOptions): Truncation {
  // The sum turns -0 into 0.
  const a = Math.fround(low) + 0;
  const b = Math.fround(high) + 0;
  if (!(a < b)) {
    throw new RangeError(`RowNoise: low < high must hold in float32, got ${low} and ${high}`);
  }
  if (a > 8 || b < -8) {
    throw new RangeError(
      `RowNoise: a bound must be within -8..8, got ${low} and ${high}; for far tails draw from TruncatedNormal`,
    );
  }
  const largest = Math.max(...[a, b].filter(Number.isFinite).map(Math.abs));
  if (b - a < largest / 1024) {
    throw new RangeError(
      `RowNoise: high - low must be at least 1/1024 of the larger bound, got ${low} and ${high}; for narrow bounds draw from TruncatedNormal`,
    );
  }
  return truncation(a, b);
}

function word(name: string, value: number): number {
  if (value >>> 0 !== value) {
    throw new RangeError(`RowNoise: ${name} must be an integer in 0..2^32-1, got ${value}`);
  }
  return value;
}
