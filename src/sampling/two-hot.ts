import { expectMatrix, type NdView, nd, packed } from '../nd.js';
import { softmax } from './softmax.js';
import { symexp, symlog } from './symlog.js';

/** The bins of a two-hot codec. */
export interface TwoHotOptions {
  /** The first bin, in symlog units. Default -20. */
  low?: number;
  /** The last bin, in symlog units. Default 20. */
  high?: number;
  /** Number of bins, at least 2. Default 255. */
  size?: number;
}

/**
 * Scalars as probabilities over bins that lie at `symexp` of equal steps, **in raw units**: DreamerV3's
 * rewards and values (`symexp_twohot`). A prediction is the plain mean of the bins.
 *
 * Not interchangeable with {@link SymlogDisc}, though both encode with the same neighbours: an even belief
 * in 0 and 100 decodes to about 50 here and to about 9 there.
 *
 * Hafner et al., "Mastering Diverse Domains through World Models" (2023); agrees with `TwoHot` of
 * danijar/dreamerv3 for an odd number of bins.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nd, zeros } = await import('umwelt');
 * const { SymexpTwoHot } = await import('umwelt/sampling');
 * const codec = new SymexpTwoHot();
 * expect(codec.decode(zeros([1, 255]))[0]).toBe(0);
 * expect(codec.decodeProbs(codec.encode([-3.5]))[0]).toBeCloseTo(-3.5, 5);
 * ```
 */
export class SymexpTwoHot {
  /** Number of bins, `N`. */
  readonly size: number;
  /** The value of each bin in raw units, `[N]`; not to be changed. */
  readonly bins: Float64Array;

  /** @throws RangeError unless `low < high` and there are two bins or more */
  constructor(options: TwoHotOptions = {}) {
    this.bins = linearBins('SymexpTwoHot', options).map(symexp);
    this.size = this.bins.length;
  }

  /**
   * Targets: each value shared between its two neighbouring bins, nearer ones weighing more.
   *
   * @param values - `[B]`, in raw units; those beyond the bins count as the last bin, NaN gives NaN
   * @returns float32 `[B, N]`
   */
  encode(values: ArrayLike<number>): NdView {
    return encodeRows(Float64Array.from(values), this.bins);
  }

  /**
   * The mean of the bins under the softmax of the logits.
   *
   * @param logits - float32 `[B, N]`
   * @returns float32 `[B]`, in raw units; exactly 0 for equal logits and `low = -high`
   * @throws TypeError or `ShapeError` when `logits` are not that
   */
  decode(logits: NdView): Float32Array {
    return Float32Array.from(means('SymexpTwoHot: logits', logits, this.bins, true));
  }

  /**
   * The mean of the bins under given probabilities, which are taken as they are.
   *
   * @param probs - float32 `[B, N]`
   * @returns float32 `[B]`, in raw units
   * @throws TypeError or `ShapeError` when `probs` are not that
   */
  decodeProbs(probs: NdView): Float32Array {
    return Float32Array.from(means('SymexpTwoHot: probs', probs, this.bins, false));
  }
}

/**
 * Scalars as probabilities over bins at equal steps **in symlog units**: the first DreamerV3 (2023),
 * NM512/dreamerv3-torch (`symlog_disc`) and Drama with 255 bins from -20 to 20, TD-MPC2 with 101 from -10
 * to 10. A prediction is `symexp` of the mean of the bins.
 *
 * Not interchangeable with {@link SymexpTwoHot}, though both encode with the same neighbours.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { SymlogDisc } = await import('umwelt/sampling');
 * const tdmpc2 = new SymlogDisc({ low: -10, high: 10, size: 101 });
 * expect(tdmpc2.encode([1]).data[54]).toBeCloseTo(0.465736, 6);
 * ```
 */
export class SymlogDisc {
  /** Number of bins, `N`. */
  readonly size: number;
  /** The value of each bin in symlog units, `[N]`; not to be changed. */
  readonly bins: Float64Array;

  /** @throws RangeError unless `low < high` and there are two bins or more */
  constructor(options: TwoHotOptions = {}) {
    this.bins = linearBins('SymlogDisc', options);
    this.size = this.bins.length;
  }

  /**
   * Targets: `symlog` of each value shared between its two neighbouring bins, nearer ones weighing more.
   *
   * @param values - `[B]`, in raw units; those beyond the bins count as the last bin, NaN gives NaN
   * @returns float32 `[B, N]`
   */
  encode(values: ArrayLike<number>): NdView {
    return encodeRows(Float64Array.from(values, symlog), this.bins);
  }

  /**
   * `symexp` of the mean of the bins under the softmax of the logits.
   *
   * @param logits - float32 `[B, N]`
   * @returns float32 `[B]`, in raw units; exactly 0 for equal logits and `low = -high`
   * @throws TypeError or `ShapeError` when `logits` are not that
   */
  decode(logits: NdView): Float32Array {
    return Float32Array.from(means('SymlogDisc: logits', logits, this.bins, true), symexp);
  }

  /**
   * `symexp` of the mean of the bins under given probabilities, which are taken as they are.
   *
   * @param probs - float32 `[B, N]`
   * @returns float32 `[B]`, in raw units
   * @throws TypeError or `ShapeError` when `probs` are not that
   */
  decodeProbs(probs: NdView): Float32Array {
    return Float32Array.from(means('SymlogDisc: probs', probs, this.bins, false), symexp);
  }
}

/** Bins at equal steps, the second half exactly the negative of the first where `low = -high`. */
function linearBins(
  name: string,
  { low = -20, high = 20, size = 255 }: TwoHotOptions,
): Float64Array {
  if (!(low < high && Number.isFinite(high - low))) {
    throw new RangeError(`${name}: low < high must hold, got ${low} and ${high}`);
  }
  if (!Number.isInteger(size) || size < 2) {
    throw new RangeError(`${name}: size must be an integer of 2 or more, got ${size}`);
  }
  const last = size - 1;
  return Float64Array.from({ length: size }, (_, i) => (low * (last - i) + high * i) / last);
}

/** Two-hot rows `[B, N]` of values in the units of the bins. */
function encodeRows(values: Float64Array, bins: Float64Array): NdView {
  const size = bins.length;
  const out = new Float32Array(values.length * size);
  for (let row = 0, at = 0; row < values.length; row++, at += size) {
    const value = Math.min(Math.max(values[row], bins[0]), bins[size - 1]);
    if (Number.isNaN(value)) {
      out.fill(Number.NaN, at, at + size);
      continue;
    }
    const below = Math.min(lastAtMost(bins, value), size - 2);
    const upper = (value - bins[below]) / (bins[below + 1] - bins[below]);
    out[at + below] = 1 - upper;
    out[at + below + 1] = upper;
  }
  return nd(out, [values.length, size]);
}

/** The last bin at or below a value, which is no less than the first bin. */
function lastAtMost(bins: Float64Array, value: number): number {
  let low = 0;
  let high = bins.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (bins[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Mean of the bins for each row, in float64.
 *
 * Opposite bins are added first: summed from one end to the other, equal probabilities over bins as far
 * apart as 5e8 would leave rounding where the mean is 0.
 */
function means(what: string, rows: NdView, bins: Float64Array, areLogits: boolean): Float64Array {
  const size = bins.length;
  const values = packed(expectMatrix(what, rows, null, size));
  const out = new Float64Array(rows.shape[0]);
  const p = new Float64Array(size);
  for (let row = 0, at = 0; row < out.length; row++, at += size) {
    if (areLogits) softmax(values, at, size, p);
    else for (let i = 0; i < size; i++) p[i] = values[at + i];
    const half = size >> 1;
    let sum = size % 2 === 1 ? p[half] * bins[half] : 0;
    for (let i = half - 1, j = size - half; i >= 0; i--, j++)
      sum += p[i] * bins[i] + p[j] * bins[j];
    out[row] = sum;
  }
  return out;
}
