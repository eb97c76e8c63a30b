/** What the options of planners that draw sequences have in common. */

import {
  describe,
  expectExtent,
  isNd,
  type NdView,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { expectCount } from '../runtime/row-chunks.js';
import { type ActionSpace, actionWidth, expectActionSpace, middleOf } from './action-space.js';
import type { Best } from './sequence-search.js';

/** Which sequence a plan returns: the mean of what was good, or the best that was valued. */
export type PlanReturns = 'mean' | 'best';

/** Options that every search has. */
interface SearchOptions {
  readonly horizon: number;
  readonly actionSpace: ActionSpace;
  readonly population: number;
  readonly iterations: number;
}

/** The noise of iterations is told apart by draws, of which a row has 65536. */
const MOST_ITERATIONS = 65536;

/**
 * Checks the options that every search has.
 *
 * @throws TypeError or RangeError naming the option
 */
export function expectSearchOptions(
  what: string,
  { horizon, actionSpace, population, iterations }: SearchOptions,
): void {
  expectCount(`${what}: horizon`, horizon);
  expectActionSpace(what, actionSpace);
  expectCount(`${what}: population`, population);
  expectCount(`${what}: iterations`, iterations);
  if (iterations > MOST_ITERATIONS) {
    throw new RangeError(
      `${what}: iterations must be at most ${MOST_ITERATIONS}, got ${iterations}`,
    );
  }
}

/** A space of the planner's own, so that what the caller does with the bounds later changes no plan. */
export function ownActionSpace<T extends ActionSpace>(space: T): T {
  if (space.type === 'discrete') return { ...space };
  const { low, high }: Extract<ActionSpace, { type: 'box' }> = space;
  return { ...space, low: Object.freeze(Array.from(low)), high: Object.freeze(Array.from(high)) };
}

/**
 * Checks that a space is a box, for planners that search nothing else.
 *
 * @throws TypeError when it has indices
 */
export function expectBox(
  what: string,
  space: ActionSpace,
): asserts space is Extract<ActionSpace, { type: 'box' }> {
  if (space.type !== 'box') {
    throw new TypeError(
      `${what}: actionSpace must be a box, got one of ${space.n} indices; ` +
        'CemPlanner and MppiPlanner search those',
    );
  }
}

/**
 * Checks that options of the other kind of space are not given.
 *
 * @param names - the options that a space of this kind has no use for
 * @throws TypeError naming the option
 */
export function expectLeftOut<T extends object>(
  what: string,
  options: T,
  names: readonly (keyof T & string)[],
  { type }: ActionSpace,
): void {
  for (const name of names) {
    if (options[name] === undefined) continue;
    throw new TypeError(
      `${what}: ${name} must be left out for a ${type} space, got ${String(options[name])}`,
    );
  }
}

/** How elites are taken in. */
interface EliteOptions {
  readonly eliteRatio: number;
  readonly alpha: number;
  readonly returns: PlanReturns;
  readonly initialStd: number | undefined;
}

/**
 * Checks the options of a search that goes by elites.
 *
 * @throws RangeError naming the option
 */
export function expectEliteOptions(
  what: string,
  { eliteRatio, alpha, returns, initialStd }: EliteOptions,
): void {
  if (!(eliteRatio > 0 && eliteRatio <= 1)) {
    throw new RangeError(`${what}: eliteRatio must lie above 0 and up to 1, got ${eliteRatio}`);
  }
  if (!(alpha >= 0 && alpha < 1)) {
    throw new RangeError(`${what}: alpha must be at least 0 and below 1, got ${alpha}`);
  }
  if (returns !== 'mean' && returns !== 'best') {
    throw new RangeError(`${what}: returns must be mean or best, got ${returns}`);
  }
  if (initialStd !== undefined && !(initialStd > 0 && Number.isFinite(initialStd))) {
    throw new RangeError(`${what}: initialStd must be a positive number, got ${initialStd}`);
  }
}

/** The bounds of a box for each number of a sequence, `[H A]`. */
export interface SequenceBox {
  readonly low: Float64Array;
  readonly high: Float64Array;
  /** The middle of the box, where a search begins that knows nothing. */
  readonly middle: Float64Array;
}

/** The bounds of sequences of actions from a box. */
export function sequenceBox(
  space: Extract<ActionSpace, { type: 'box' }>,
  horizon: number,
): SequenceBox {
  const width = actionWidth(space);
  const of = (value: (d: number) => number): Float64Array =>
    Float64Array.from({ length: horizon * width }, (_, i) => value(i % width));
  return {
    low: of((d) => space.low[d]),
    high: of((d) => space.high[d]),
    middle: of((d) => middleOf(space, d)),
  };
}

/**
 * An array of a carry; null leaves the number of starts open.
 *
 * @throws TypeError when the carry has none of the name and kind, `ShapeError` when it has another shape
 */
export function expectCarried<T extends TypedArray>(
  what: string,
  carry: unknown,
  name: string,
  store: new () => T,
  [rows, ...inner]: readonly [number | null, ...number[]],
): T {
  const view = (carry as { readonly [name: string]: unknown } | null | undefined)?.[name];
  const wanted = `[${[rows ?? 'B', ...inner].join(', ')}]`;
  if (!isNd(view) || !(view.data instanceof store)) {
    throw new TypeError(
      `${what}: carry must have ${name} ${wanted}, got ${describe(view)}; ` +
        'give what a plan of this planner carried, or leave it out',
    );
  }
  const { shape } = view;
  const fits = inner.every((length, i) => shape[i + 1] === length);
  if (!fits || shape.length !== inner.length + 1 || (rows !== null && shape[0] !== rows)) {
    throw new ShapeError(
      `${what}: carry must have ${name} ${wanted}, got [${shape.join(', ')}]; ` +
        'one for other starts or of another horizon does not serve, leave it out',
    );
  }
  expectExtent(`${what}: carry's ${name}`, view);
  return packed(view as NdView<T>);
}

/** The sequences to be taken: the best, or of starts where nothing had a value, and on request, the mean. */
export function chosenSequences<T extends Float32Array | Int32Array>(
  returns: PlanReturns,
  mean: T,
  best: Best,
): T {
  if (returns === 'mean') return mean;
  const width = mean.length / best.values.length;
  const actions = mean.slice() as T;
  for (let b = 0; b < best.values.length; b++) {
    if (best.values[b] === Number.NEGATIVE_INFINITY) continue;
    actions.set(best.actions.subarray(b * width, (b + 1) * width), b * width);
  }
  return actions;
}

/** The same numbers `times` times over, one after another, float32. */
export function repeated(numbers: Float64Array, times: number): Float32Array {
  const out = new Float32Array(times * numbers.length);
  for (let i = 0; i < times; i++) out.set(numbers, i * numbers.length);
  return out;
}
