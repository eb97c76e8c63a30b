import { normalRows, uniformRows } from '../kernels/row-noise.js';
import { type NdView, nd } from '../nd.js';
import { type Key, key, type Seed } from './key.js';

/** Which numbers to draw, and where to put them. */
export interface DrawOptions {
  /**
   * Which of a row's independent draws, 0..65535. Noise is a function of its names and nothing is
   * consumed: the same call gives the same numbers, and a second, fresh set needs another `draw`.
   * Uniform and normal noise of one draw come from the same bits.
   */
  draw?: number;
  /** Memory for the result, at least `rows * width` long; by default new. */
  out?: Float32Array;
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
    const { draw, out } = this.#prepare(width, options);
    const { k0, k1 } = this.key;
    uniformRows(out, width, this.trajectory, this.step, this.stream, draw, k0, k1);
    return nd(out, [this.trajectory.length, width]);
  }

  /**
   * Standard normal numbers, by Box-Muller in float32.
   *
   * @param width - numbers a row, at most 262144
   * @returns float32 `[B, width]`
   * @throws RangeError for a width or draw outside its range, or an `out` too short
   */
  normal(width: number, options: DrawOptions = {}): NdView {
    const { draw, out } = this.#prepare(width, options);
    const { k0, k1 } = this.key;
    normalRows(out, width, this.trajectory, this.step, this.stream, draw, k0, k1);
    return nd(out, [this.trajectory.length, width]);
  }

  #prepare(width: number, { draw = 0, out }: DrawOptions): { draw: number; out: Float32Array } {
    if (!Number.isInteger(width) || width < 0 || width > 4 * 65536) {
      throw new RangeError(`RowNoise: width must be an integer in 0..262144, got ${width}`);
    }
    if (!Number.isInteger(draw) || draw < 0 || draw > 65535) {
      throw new RangeError(`RowNoise: draw must be an integer in 0..65535, got ${draw}`);
    }
    const size = this.trajectory.length * width;
    if (out === undefined) return { draw, out: new Float32Array(size) };
    if (out.length < size) {
      throw new RangeError(`RowNoise: out must hold ${size} numbers, got ${out.length}`);
    }
    return { draw, out: out.length === size ? out : out.subarray(0, size) };
  }
}

function word(name: string, value: number): number {
  if (value >>> 0 !== value) {
    throw new RangeError(`RowNoise: ${name} must be an integer in 0..2^32-1, got ${value}`);
  }
  return value;
}
