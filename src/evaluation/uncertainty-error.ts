import { isNd, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type FlagSeries, maskOf, type NumberSeries, series } from './arguments.js';
import { type BootstrapIntervalOptions, bootstrapIntervals } from './bootstrap-interval.js';
import { correlationOf, type Ordering, orderingOf, ranksOf } from './ranks.js';

/** What {@link uncertaintyErrorCorrelation} counts, and how its intervals are found. */
export interface UncertaintyErrorOptions extends BootstrapIntervalOptions {
  /** 1 for each pair that counts, uint8, as many as there are pairs; by default all do. */
  readonly mask?: FlagSeries;
  /**
   * The start each pair belongs to, `[N]`, by any integers: pairs of one start are resampled together. By
   * default the row of a view `[B, T]`, and else every pair is its own.
   */
  readonly startIndex?: NumberSeries;
  /**
   * Step of each pair, `[N]`, from 0. By default the column of a view `[B, T]`, and else there are no
   * correlations by horizon.
   */
  readonly stepIndex?: NumberSeries;
  /**
   * Horizons that are looked at together, the first and the last of each range, counted from 1. By
   * default each horizon alone.
   */
  readonly horizons?: readonly (readonly [from: number, to: number])[];
}

/** Rank correlations of ranges of horizons, `[K]` each. */
export interface CorrelationByHorizon {
  /** First horizon of the range, counted from 1. */
  readonly from: Int32Array;
  /** Last horizon of the range. */
  readonly to: Int32Array;
  /** Pairs that count. */
  readonly count: Int32Array;
  /** Spearman's correlation; NaN where it is undefined. */
  readonly spearman: Float64Array;
  /** Lower end of its interval. */
  readonly low: Float64Array;
  /** Upper end of its interval. */
  readonly high: Float64Array;
}

/** Whether uncertainty ranks predictions as their errors do. */
export interface UncertaintyErrorReport {
  /** Pairs that count. */
  readonly count: number;
  /** Starts they belong to. */
  readonly starts: number;
  /** Spearman's correlation over all of them; NaN where it is undefined. */
  readonly spearman: number;
  /** Lower end of its interval. */
  readonly low: number;
  /** Upper end of its interval. */
  readonly high: number;
  /** The same by horizon; absent where steps are not known. */
  readonly byHorizon?: CorrelationByHorizon;
}

/**
 * Whether a model's uncertainty ranks its predictions as their true errors do: Spearman's correlation over
 * all pairs and by horizon, with intervals over resampled starts.
 *
 * The pairs of one start depend on each other, so that starts are drawn, with all their pairs. Ask it of
 * the transitions a policy dreams of and not of held-out data, where a penalty is of no use. Over all
 * horizons a correlation may come from both growing with the horizon alone: look at `byHorizon` too.
 *
 * @param uncertainty - `[B, T]`, such as `trajectory.uncertainty`, or `[N]`
 * @param error - as many values, such as `perRow` of `openLoopError`
 * @param options - `seed`, `resamples`, `level`; `mask`, `startIndex`, `stepIndex`, `horizons`
 * @returns plain data; `reportTable` prints it
 * @throws `ShapeError` when lengths differ
 * @throws RangeError when a pair that counts is not finite, or an option outside its range
 * @throws TypeError when an argument is of another kind
 *
 * Source: the comparison of penalties in Lu et al. (2022), "Revisiting design choices in offline
 * model-based reinforcement learning"; percentile intervals as in Efron and Tibshirani (1993). Resample
 * `i` is the index set of member `i` of `bootstrapIndices(seed, resamples, starts)`, in which starts are
 * numbered in the order they first count.
 */
export function uncertaintyErrorCorrelation(
  uncertainty: NumberSeries,
  error: NumberSeries,
  options: UncertaintyErrorOptions,
): UncertaintyErrorReport {
  const what = 'uncertaintyErrorCorrelation';
  expectOptions(what, options, OPTIONS);
  const u = series(what, 'uncertainty', uncertainty);
  const e = series(what, 'error', error);
  const n = u.length;
  const steps = isNd(uncertainty) && uncertainty.shape.length === 2 ? uncertainty.shape[1] : null;
  const startOf = indexOf(what, 'startIndex', options.startIndex, n, (i) =>
    steps === null ? i : Math.floor(i / steps),
  );
  const stepOf =
    steps === null && options.stepIndex === undefined
      ? null
      : indexOf(what, 'stepIndex', options.stepIndex, n, (i) => i % (steps ?? 1));
  if (e.length !== n) {
    throw new ShapeError(
      `${what}: uncertainty and error must have one length, got ${n} and ${e.length}`,
    );
  }
  const mask = maskOf(what, options.mask, n, 'pairs');

  const kept: number[] = [];
  const numbers = new Map<number, number>();
  const group = new Int32Array(n);
  let longest = 0;
  for (let i = 0; i < n; i++) {
    if (mask !== null && mask[i] === 0) continue;
    if (!Number.isFinite(u[i]) || !Number.isFinite(e[i])) {
      throw new RangeError(
        `${what}: every pair must be finite, got (${u[i]}, ${e[i]}) at ${i}; leave it out by the mask`,
      );
    }
    kept.push(i);
    const number = numbers.get(startOf[i]) ?? numbers.size;
    numbers.set(startOf[i], number);
    group[i] = number;
    if (stepOf !== null) longest = Math.max(longest, stepOf[i] + 1);
  }

  const sets = [new RankedPairs(u, e, group, kept)];
  const ranges = stepOf === null ? [] : rangesOf(what, options.horizons, longest);
  if (stepOf === null && options.horizons !== undefined) {
    throw new TypeError(`${what}: horizons need views [B, T] or a stepIndex, got neither`);
  }
  for (const [from, to] of ranges) {
    const within = kept.filter((i) => {
      const horizon = (stepOf as ArrayLike<number>)[i] + 1;
      return horizon >= from && horizon <= to;
    });
    sets.push(new RankedPairs(u, e, group, within));
  }
  const { seed, resamples, level } = options;
  const { low, high } = bootstrapIntervals(
    what,
    { seed, resamples, level },
    numbers.size,
    sets.length,
    (times, out) => {
      for (let k = 0; k < sets.length; k++) out[k] = sets[k].correlation(times);
    },
  );
  const correlations = Float64Array.from(sets, (set) => set.correlation(null));
  return {
    count: kept.length,
    starts: numbers.size,
    spearman: correlations[0],
    low: low[0],
    high: high[0],
    ...(stepOf !== null && {
      byHorizon: {
        from: Int32Array.from(ranges, ([from]) => from),
        to: Int32Array.from(ranges, ([, to]) => to),
        count: Int32Array.from(sets.slice(1), ({ count }) => count),
        spearman: correlations.slice(1),
        low: low.slice(1),
        high: high.slice(1),
      },
    }),
  };
}

const OPTIONS = [
  'seed',
  'resamples',
  'level',
  'mask',
  'startIndex',
  'stepIndex',
  'horizons',
] as const;

/** Some pairs, sorted once, whose rank correlation is asked for under many resamples. */
class RankedPairs {
  readonly count: number;
  readonly #group: Int32Array;
  readonly #orderX: Ordering;
  readonly #orderY: Ordering;
  readonly #rankX: Float64Array;
  readonly #rankY: Float64Array;
  readonly #weight: Int32Array;

  constructor(
    u: ArrayLike<number>,
    e: ArrayLike<number>,
    group: Int32Array,
    places: readonly number[],
  ) {
    this.count = places.length;
    this.#group = Int32Array.from(places, (i) => group[i]);
    this.#orderX = orderingOf(Float64Array.from(places, (i) => u[i]));
    this.#orderY = orderingOf(Float64Array.from(places, (i) => e[i]));
    this.#rankX = new Float64Array(places.length);
    this.#rankY = new Float64Array(places.length);
    this.#weight = new Int32Array(places.length);
  }

  /** Spearman's correlation where each group counts so many times; once by default. */
  correlation(times: Int32Array | null): number {
    const weight = times === null ? null : this.#weight;
    if (times !== null) {
      for (let i = 0; i < this.count; i++) this.#weight[i] = times[this.#group[i]];
    }
    ranksOf(this.#orderX, weight, this.#rankX);
    ranksOf(this.#orderY, weight, this.#rankY);
    return correlationOf(this.#rankX, this.#rankY, weight);
  }
}

function indexOf(
  what: string,
  name: string,
  given: NumberSeries | undefined,
  length: number,
  natural: (i: number) => number,
): ArrayLike<number> {
  if (given === undefined) return Int32Array.from({ length }, (_, i) => natural(i));
  const index = series(what, name, given);
  if (index.length !== length) {
    throw new ShapeError(
      `${what}: ${name} must have a value for each of the ${length} pairs, got ${index.length}`,
    );
  }
  for (let i = 0; i < length; i++) {
    if (!Number.isInteger(index[i])) {
      throw new RangeError(`${what}: ${name} must hold integers, got ${index[i]} at ${i}`);
    }
  }
  return index;
}

function rangesOf(
  what: string,
  given: UncertaintyErrorOptions['horizons'],
  longest: number,
): (readonly [number, number])[] {
  if (given === undefined)
    return Array.from({ length: longest }, (_, step) => [step + 1, step + 1]);
  for (const [from, to] of given) {
    if (!Number.isInteger(from) || !Number.isInteger(to) || from < 1 || to < from) {
      throw new RangeError(
        `${what}: horizons must be ranges from 1 up, the first not after the last, got [${from}, ${to}]`,
      );
    }
  }
  return [...given];
}
