import { isNd, type NdView, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectOneShape, type FlagSeries, maskOf, type NumberSeries, series } from './arguments.js';
import { type BootstrapIntervalOptions, bootstrapIntervals } from './bootstrap-interval.js';
import { correlationOf, type Ordering, orderingOf, ranksOf } from './ranks.js';

/** What {@link uncertaintyErrorCorrelation} counts, and how its intervals are found. */
export interface UncertaintyErrorOptions extends BootstrapIntervalOptions {
  /** 1 for each pair that counts, uint8, as many as there are pairs; by default all do. */
  readonly mask?: FlagSeries;
  /**
   * The start each pair belongs to, `[N]`, by any integers: pairs of one start are resampled together. By
   * default the row of a view `[B, T]`, where the uncertainty, the error or the mask is one, and else every
   * pair is its own.
   */
  readonly startIndex?: NumberSeries;
  /**
   * Step of each pair, `[N]`, integers from 0. By default the column of such a view `[B, T]`, and else
   * there are no correlations by horizon.
   */
  readonly stepIndex?: NumberSeries;
  /**
   * Horizons that are looked at together, the first and the last of each range, counted from 1. By
   * default each horizon alone at which a pair counts.
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
  /** Lower end of its interval; NaN for fewer than 2 starts or 3 pairs. */
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
  /** Share of the resamples that lies within each interval. */
  readonly level: number;
  /** Spearman's correlation over all of them; NaN where it is undefined. */
  readonly spearman: number;
  /** Lower end of its interval; NaN for fewer than 2 starts or 3 pairs. */
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
 * Resamples in which a correlation is undefined, because nothing varies, are left out of its interval.
 *
 * @param uncertainty - `[B, T]`, such as `trajectory.uncertainty`, or `[N]`
 * @param error - as many values, such as `perRow` of {@link openLoopReport}, whose `mask` fits; two views
 *   have one shape
 * @param options - `seed`, `resamples`, `level`; `mask`, `startIndex`, `stepIndex`, `horizons`
 * @returns plain data; `reportTable` prints it
 * @throws `ShapeError` when lengths or shapes differ
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
  if (e.length !== n) {
    throw new ShapeError(
      `${what}: uncertainty and error must have one length, got ${n} and ${e.length}`,
    );
  }
  const { startIndex, stepIndex } = options;
  expectOneShape(what, { uncertainty, error, mask: options.mask, startIndex, stepIndex });
  const grid = [uncertainty, error, options.mask].find(
    (given) => isNd(given) && given.shape.length === 2,
  ) as NdView | undefined;
  const steps = grid === undefined ? null : grid.shape[1];
  const startOf = indexOf(what, 'startIndex', startIndex, n, (i) =>
    steps === null ? i : Math.floor(i / steps),
  );
  const stepOf =
    steps === null && stepIndex === undefined
      ? null
      : indexOf(what, 'stepIndex', stepIndex, n, (i) => i % (steps ?? 1));
  if (stepIndex !== undefined) expectSteps(what, stepOf as ArrayLike<number>);
  const mask = maskOf(what, options.mask, n, 'pairs');

  const kept: number[] = [];
  const numbers = new Map<number, number>();
  const group = new Int32Array(n);
  const byHorizon = new Map<number, number[]>();
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
    if (stepOf === null) continue;
    const places = byHorizon.get(stepOf[i] + 1);
    if (places === undefined) byHorizon.set(stepOf[i] + 1, [i]);
    else places.push(i);
  }

  const sets = [new RankedPairs(u, e, group, kept)];
  const occurring = [...byHorizon.keys()].sort((a, b) => a - b);
  const ranges = stepOf === null ? [] : rangesOf(what, options.horizons, occurring);
  if (stepOf === null && options.horizons !== undefined) {
    throw new TypeError(`${what}: horizons need views [B, T] or a stepIndex, got neither`);
  }
  for (const [from, to] of ranges) {
    const within =
      // Not by looking through all horizons, of which there can be as many as pairs.
      from === to
        ? (byHorizon.get(from) ?? [])
        : occurring
            .filter((horizon) => horizon >= from && horizon <= to)
            .flatMap((horizon) => byHorizon.get(horizon) as number[]);
    sets.push(new RankedPairs(u, e, group, within));
  }
  const { seed, resamples, level = 0.9 } = options;
  const { low, high } = bootstrapIntervals(
    what,
    { seed, resamples, level },
    numbers.size,
    sets.length,
    (times, out) => {
      for (let k = 0; k < sets.length; k++) {
        // Resamples of a single start are all the same, and two pairs always lie on a line: both would
        // pass for certainty.
        const tells = sets[k].starts > 1 && sets[k].count > 2;
        out[k] = tells ? sets[k].correlation(times) : Number.NaN;
      }
    },
  );
  const correlations = Float64Array.from(sets, (set) => set.correlation(null));
  return {
    count: kept.length,
    starts: numbers.size,
    level,
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
  readonly starts: number;
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
    this.starts = new Set(this.#group).size;
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

function expectSteps(what: string, steps: ArrayLike<number>): void {
  for (let i = 0; i < steps.length; i++) {
    if (steps[i] < 0 || steps[i] >= LAST_HORIZON) {
      throw new RangeError(
        `${what}: stepIndex must lie in 0..${LAST_HORIZON - 1}, got ${steps[i]} at ${i}`,
      );
    }
  }
}

/** The last that an int32 holds. */
const LAST_HORIZON = 2 ** 31 - 1;

function rangesOf(
  what: string,
  given: UncertaintyErrorOptions['horizons'],
  occurring: readonly number[],
): (readonly [number, number])[] {
  if (given === undefined) return occurring.map((horizon) => [horizon, horizon]);
  for (const [from, to] of given) {
    if (!Number.isInteger(from) || !Number.isInteger(to) || from < 1 || to < from) {
      throw new RangeError(
        `${what}: horizons must be ranges from 1 up, the first not after the last, got [${from}, ${to}]`,
      );
    }
  }
  return [...given];
}
