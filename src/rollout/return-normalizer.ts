import { quantileOf } from '../dynamics/quantile.js';
import { describe, expectExtent, isNd, type NdView, nd, packed, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import type { FlagView, FloatView } from './step-arrays.js';

/** How a {@link ReturnNormalizer} follows the returns. */
export interface ReturnNormalizerOptions {
  /** Share of a new batch in the averages, in (0, 1]. Default 0.01. */
  rate?: number;
  /** Least scale, positive: smaller returns are not blown up. Default 1. */
  limit?: number;
  /** The lower percentile, in [0, 100]. Default 5. */
  low?: number;
  /** The upper percentile, above `low`. Default 95. */
  high?: number;
  /**
   * What is averaged over batches: the two percentiles, from 0 on, as in Dreamer, `bounds`; or their
   * distance, each at least `limit`, from `limit` on, as in TD-MPC2, `range`. Default `bounds`.
   */
  average?: 'bounds' | 'range';
  /** Divides the averages of `bounds` by the share that batches have in them by now. Default false. */
  debias?: boolean;
}

/** Where a normaliser stands: plain numbers, for a checkpoint. */
export interface ReturnNormalizerState {
  /** Average of the lower percentile, not debiased. */
  low: number;
  /** Average of the upper percentile, not debiased. */
  high: number;
  /** Average of the distance, each at least the limit. */
  range: number;
  /** Share of batches in `low` and `high`; the rest is the start's. */
  weight: number;
}

/** What is done to values besides dividing them. */
export interface NormalizeOptions {
  /** Subtracts {@link ReturnNormalizer.offset} first. Default false. */
  subtractOffset?: boolean;
}

/**
 * Scales returns and advantages by a running range of the returns, which outliers do not move: the
 * distance of two percentiles, by default the 5th and the 95th, and at least 1.
 *
 * Dreamer divides advantages by {@link ReturnNormalizer.scale} and subtracts no offset. TD-MPC2's
 * running scale is `average: 'range'`. dreamerv3-torch subtracts the offset from returns and values
 * alike, which changes no advantage. STORM and Drama differ from the default only in that they take an
 * order statistic where this interpolates.
 *
 * Returns that are not finite are refused, since one of them would stay in the averages for good; the
 * percentiles are numpy's, linear between order statistics.
 *
 * Source: Hafner et al., "Mastering Diverse Domains through World Models" (2023), `Normalize` with `perc`
 * of `danijar/dreamerv3`; Hansen et al., "TD-MPC2" (2024), `RunningScale` of `nicklashansen/tdmpc2`.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { ReturnNormalizer } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const normalizer = new ReturnNormalizer({ rate: 0.5 });
 * normalizer.update(nd([[0, 25, 50, 75, 100]])); // percentiles 5 and 95
 * expect(normalizer.scale).toBe(45);
 * expect(normalizer.normalize(Float32Array.of(90))).toEqual(Float32Array.of(2));
 * ```
 */
export class ReturnNormalizer {
  readonly #rate: number;
  readonly #limit: number;
  readonly #low: number;
  readonly #high: number;
  readonly #average: 'bounds' | 'range';
  readonly #debias: boolean;
  #state: ReturnNormalizerState;

  /** @throws TypeError for an unknown option, RangeError for one out of range */
  constructor(options: ReturnNormalizerOptions = {}) {
    expectOptions(WHAT, options, ['rate', 'limit', 'low', 'high', 'average', 'debias']);
    const { rate = 0.01, limit = 1, low = 5, high = 95 } = options;
    const { average = 'bounds', debias = false } = options;
    if (!(rate > 0 && rate <= 1)) {
      throw new RangeError(`${WHAT}: rate must lie in (0, 1], got ${rate}`);
    }
    if (!(Number.isFinite(limit) && limit > 0)) {
      throw new RangeError(`${WHAT}: limit must be a positive number, got ${limit}`);
    }
    if (!(low >= 0 && low < high && high <= 100)) {
      throw new RangeError(
        `${WHAT}: low and high must be percentiles with 0 <= low < high <= 100, got ${low} and ${high}`,
      );
    }
    if (average !== 'bounds' && average !== 'range') {
      throw new RangeError(`${WHAT}: average must be 'bounds' or 'range', got ${String(average)}`);
    }
    if (debias && average === 'range') {
      throw new RangeError(
        `${WHAT}: debias must be false with average: 'range', got true; that average starts at limit, not at 0`,
      );
    }
    this.#rate = rate;
    this.#limit = limit;
    this.#low = low / 100;
    this.#high = high / 100;
    this.#average = average;
    this.#debias = debias;
    this.#state = this.#start();
  }

  /** What returns are divided by, at least the limit; the limit itself before the first update. */
  get scale(): number {
    const { low, high, range } = this.#state;
    if (this.#average === 'range') return range;
    return Math.max(this.#limit, (high - low) * this.#correction());
  }

  /** Average of the lower percentile, in reward units; 0 before the first update. */
  get offset(): number {
    return this.#state.low * this.#correction();
  }

  /**
   * Takes a batch of returns into the averages.
   *
   * @param returns - float, of any shape, in reward units
   * @param mask - of the same shape; returns where it is 0 are not read. By default all are
   * @returns the new scale; a batch without a return changes nothing
   * @throws TypeError when an argument is of another kind; {@link ShapeError} when shapes disagree;
   *   RangeError for a return that is not finite, after which nothing has changed
   */
  update(returns: FloatView | Float32Array | Float64Array, mask?: FlagView | Uint8Array): number {
    const what = `${WHAT}.update`;
    const values = validReturns(what, returns, mask);
    if (values.length === 0) return this.scale;
    const lower = quantileOf(values, this.#low);
    const upper = quantileOf(values, this.#high);
    const { low, high, range, weight } = this.#state;
    const rate = this.#rate;
    this.#state = {
      low: (1 - rate) * low + rate * lower,
      high: (1 - rate) * high + rate * upper,
      // Rounded, an average of numbers that are at least the limit can fall below it.
      range: Math.max(
        this.#limit,
        (1 - rate) * range + rate * Math.max(this.#limit, upper - lower),
      ),
      weight: (1 - rate) * weight + rate,
    };
    return this.scale;
  }

  /**
   * Divides returns or advantages by the scale.
   *
   * @param values - one number each, or a float view of any shape; left as they are
   * @param options - whether the offset is subtracted first
   * @returns float32 of the same shape, row-major
   * @throws TypeError when `values` are of another kind or an option is unknown
   */
  normalize(values: Float32Array | Float64Array, options?: NormalizeOptions): Float32Array;
  normalize(values: FloatView, options?: NormalizeOptions): NdView;
  normalize(
    values: FloatView | Float32Array | Float64Array,
    options: NormalizeOptions = {},
  ): NdView | Float32Array {
    const what = `${WHAT}.normalize`;
    expectOptions(what, options, ['subtractOffset']);
    const data = expectNumbers(what, 'values', values);
    const offset = options.subtractOffset === true ? this.offset : 0;
    const { scale } = this;
    const out = new Float32Array(data.length);
    for (let i = 0; i < out.length; i++) out[i] = (data[i] - offset) / scale;
    return isNd(values) ? nd(out, values.shape) : out;
  }

  /** Where the averages stand, as a plain object of numbers. */
  state(): ReturnNormalizerState {
    return { ...this.#state };
  }

  /**
   * Goes on from where another normaliser stood.
   *
   * @throws TypeError or RangeError when `state` is not what {@link ReturnNormalizer.state} gives; with
   *   `average: 'range'`, when its range is below the limit
   */
  restore(state: ReturnNormalizerState): void {
    const what = `${WHAT}.restore`;
    const names = Object.keys(this.#state) as (keyof ReturnNormalizerState)[];
    expectOptions(what, state, names);
    for (const name of names) {
      if (!Number.isFinite(state[name])) {
        throw new RangeError(`${what}: ${name} must be a finite number, got ${state[name]}`);
      }
    }
    const { low, high, range, weight } = state;
    if (low > high || range <= 0 || weight < 0 || weight > 1) {
      throw new RangeError(
        `${what}: state must have low <= high, a positive range and a weight in [0, 1], ` +
          `got ${low}, ${high}, ${range} and ${weight}`,
      );
    }
    if (this.#average === 'range' && range < this.#limit) {
      throw new RangeError(
        `${what}: range must be at least the limit ${this.#limit}, got ${range}; restore what a ` +
          'normaliser of this limit gave',
      );
    }
    this.#state = { low, high, range, weight };
  }

  /** Forgets all returns. */
  reset(): void {
    this.#state = this.#start();
  }

  #start(): ReturnNormalizerState {
    return { low: 0, high: 0, range: this.#limit, weight: 0 };
  }

  /** What makes up for the start at 0. */
  #correction(): number {
    return this.#debias && this.#state.weight > 0 ? 1 / this.#state.weight : 1;
  }
}

/** The returns that count, in an array of their own, each checked to be finite. */
function validReturns(what: string, returns: unknown, mask: unknown): Float64Array {
  const data = expectNumbers(what, 'returns', returns);
  const valid = mask === undefined ? undefined : expectMask(what, mask, returns);
  const out = new Float64Array(data.length);
  let count = 0;
  for (let i = 0; i < data.length; i++) {
    if (valid !== undefined && valid[i] === 0) continue;
    if (!Number.isFinite(data[i])) {
      throw new RangeError(
        `${what}: returns must be finite, got ${data[i]} at ${i}; leave such steps out with a mask`,
      );
    }
    out[count++] = data[i];
  }
  return out.subarray(0, count);
}

function expectNumbers(what: string, name: string, value: unknown): Float32Array | Float64Array {
  const data = isNd(value) ? value.data : value;
  if (!(data instanceof Float32Array || data instanceof Float64Array)) {
    throw new TypeError(
      `${what}: ${name} must be a Float32Array or a view of one, got ${describe(value)}`,
    );
  }
  if (!isNd(value)) return data;
  expectExtent(`${what}: ${name}`, value);
  return packed(value as FloatView);
}

function expectMask(what: string, mask: unknown, returns: unknown): ArrayLike<number> {
  const data = isNd(mask) ? mask.data : mask;
  const isFlags =
    data instanceof Uint8Array || data instanceof Float32Array || data instanceof Float64Array;
  if (!isFlags) {
    throw new TypeError(
      `${what}: mask must be a Uint8Array or a view of one, got ${describe(mask)}`,
    );
  }
  const shapeOf = (value: unknown): readonly number[] =>
    isNd(value) ? value.shape : [(value as Float32Array).length];
  const [wanted, got] = [shapeOf(returns), shapeOf(mask)];
  if (wanted.length !== got.length || wanted.some((length, axis) => length !== got[axis])) {
    throw new ShapeError(
      `${what}: mask must have the returns' shape [${wanted.join(', ')}], got [${got.join(', ')}]`,
    );
  }
  if (!isNd(mask)) return data;
  expectExtent(`${what}: mask`, mask);
  return packed(mask as FlagView);
}

const WHAT = 'ReturnNormalizer';
