/** What can be said of a rollout's model and options before anything is asked. */

import type { WorldModel } from '../dynamics/contract.js';
import { describe, isNd, type NdView, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import type { Halt, ImagineOptions } from './imagine-options.js';
import type { StepOptions } from './judge.js';

/** Every option of `imagine`. */
export const IMAGINE_OPTIONS: readonly string[] = [
  'start',
  'horizon',
  'seed',
  'trajectory',
  'actionRepeat',
  'penalty',
  'uncertainty',
  'scores',
  'halt',
  'terminate',
  'value',
  'record',
  'compact',
  'nonFinite',
  'signal',
  'onProgress',
];

/**
 * Checks everything of the options but what depends on the start.
 *
 * @throws TypeError or RangeError naming the option, what must hold and what came
 */
export function expectImagineOptions(options: StepOptions): void {
  expectOptions('imagine', options, IMAGINE_OPTIONS);
  const { actionRepeat, halt, horizon, nonFinite, penalty, record, scores } = options;
  if (!Number.isInteger(horizon) || horizon < 0) {
    throw new RangeError(
      `imagine: horizon must be a non-negative integer, got ${JSON.stringify(horizon)}`,
    );
  }
  if (actionRepeat !== undefined) expectCount('imagine: actionRepeat', actionRepeat);
  const { uncertainty, terminate, value, onProgress } = options;
  expectFunctions('imagine', { uncertainty, terminate, value, onProgress });
  if (penalty !== undefined) {
    const elsewhere = options.uncertainty !== undefined;
    expectPenalty('imagine', penalty, elsewhere, '; or give one as uncertainty');
  }
  expectSignal('imagine', options.signal);
  if (halt !== undefined) expectHalt('imagine', halt);
  if (scores !== undefined) {
    if (typeof scores !== 'object' || scores === null) {
      throw new TypeError(`imagine: scores must be an object of scores, got ${describe(scores)}`);
    }
    for (const [name, score] of Object.entries(scores)) {
      expectFunction(`imagine: scores.${name}`, score);
    }
  }
  if (record !== undefined) {
    if (!Array.isArray(record) || record.some((name) => typeof name !== 'string')) {
      throw new TypeError(
        `imagine: record must be an array of names of the model's extras, got ${describe(record)}`,
      );
    }
  }
  if (nonFinite !== undefined && !['end', 'throw', 'keep'].includes(nonFinite)) {
    throw new RangeError(`imagine: nonFinite must be end, throw or keep, got ${nonFinite}`);
  }
}

/**
 * Checks what can be seen of a model before it is asked anything.
 *
 * @param what - the name used in messages
 * @throws TypeError when something is missing
 */
export function expectModel(what: string, model: unknown): void {
  const { initial, step, gather, obsSize, actionSize } = (model ?? {}) as Partial<WorldModel>;
  const functions = Object.entries({ initial, step, gather });
  const missing = functions.find(([, part]) => typeof part !== 'function')?.[0];
  if (missing !== undefined) {
    const ofTasks = typeof (model as { task?: unknown } | null)?.task === 'function';
    const remedy =
      model instanceof Promise
        ? '; await it'
        : ofTasks
          ? '; take one of its tasks, as in model.task(id)'
          : '';
    throw new TypeError(
      `${what}: model must have a function ${missing}, got ${describe(model)}${remedy}`,
    );
  }
  if (!isCount(obsSize) || !isCount(actionSize)) {
    throw new TypeError(
      `${what}: model must have obsSize and actionSize, got ${obsSize} and ${actionSize}`,
    );
  }
}

/**
 * Checks a signal.
 *
 * @param what - the name used in messages
 * @throws TypeError when it is none
 */
export function expectSignal(what: string, signal: unknown): void {
  const { throwIfAborted } = (signal ?? {}) as Partial<AbortSignal>;
  if (signal === undefined || typeof throwIfAborted === 'function') return;
  throw new TypeError(
    `${what}: signal must be an AbortSignal, got ${describe(signal)}, such as the signal of an AbortController`,
  );
}

/**
 * Checks the ids of rows.
 *
 * @param what - the name used in messages
 * @throws TypeError for another kind of array, `ShapeError` for another length
 */
export function expectTrajectoryIds(what: string, ids: unknown, rows: number): void {
  if (!(ids instanceof Uint32Array)) {
    throw new TypeError(`${what}: trajectory must be a Uint32Array, got ${describe(ids)}`);
  }
  if (ids.length !== rows) {
    throw new ShapeError(
      `${what}: trajectory must have one id for each of the ${rows} rows, got ${ids.length}`,
    );
  }
}

/** What is seen of a start: observations themselves, or those that a state shows as `obs`. */
export function shownBy(start: unknown): NdView | undefined {
  const view = isNd(start) ? start : (start as { obs?: unknown } | null | undefined)?.obs;
  return isNd(view) ? (view as NdView) : undefined;
}

/**
 * What is seen of a start of `imagine`.
 *
 * @throws TypeError when it shows nothing
 */
export function obsOf(start: unknown): NdView {
  const view = shownBy(start);
  if (view !== undefined) return view;
  throw new TypeError(
    `imagine: start must be a view [B, S], a carry, or a state with its observations as obs, got ${describe(start)}`,
  );
}

/**
 * Checks a penalty.
 *
 * @param what - the name used in messages
 * @param elsewhere - whether another option gives the score where it has none
 * @param remedy - what else could give it
 * @throws TypeError or RangeError naming what must hold and what came
 */
export function expectPenalty(
  what: string,
  penalty: NonNullable<ImagineOptions<unknown>['penalty']>,
  elsewhere: boolean = false,
  remedy: string = '',
): void {
  expectOptions(`${what}: penalty`, penalty, ['score', 'coefficient']);
  const { score, coefficient } = penalty;
  if (typeof score !== 'function' && !(score === undefined && elsewhere)) {
    throw new TypeError(
      `${what}: penalty.score must be a function, got ${describe(score)}, such as maxAleatoric()` +
        remedy,
    );
  }
  if (!Number.isFinite(coefficient)) {
    throw new RangeError(
      `${what}: penalty.coefficient must be a finite number, got ${coefficient}`,
    );
  }
}

/**
 * Checks a halt.
 *
 * @param what - the name used in messages
 * @throws TypeError or RangeError naming what must hold and what came
 */
export function expectHalt(what: string, halt: Halt): void {
  expectOptions(`${what}: halt`, halt, ['detector', 'as', 'penalty']);
  const { detector, as = 'terminated', penalty = 0 } = halt;
  if (typeof detector?.score !== 'function' || typeof detector.unknown !== 'function') {
    throw new TypeError(
      `${what}: halt.detector must have functions score and unknown, got ${describe(detector)}`,
    );
  }
  if (as !== 'terminated' && as !== 'truncated') {
    throw new RangeError(`${what}: halt.as must be terminated or truncated, got ${as}`);
  }
  if (!Number.isFinite(penalty)) {
    throw new RangeError(`${what}: halt.penalty must be a finite number, got ${penalty}`);
  }
}

/** @throws TypeError when a value is no function */
export function expectFunction(what: string, value: unknown): void {
  if (typeof value !== 'function') {
    throw new TypeError(`${what} must be a function, got ${describe(value)}`);
  }
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0;
}

/**
 * Checks options that are functions, where they are given.
 *
 * @throws TypeError naming the first that is none
 */
export function expectFunctions(what: string, functions: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(functions)) {
    if (value !== undefined) expectFunction(`${what}: ${name}`, value);
  }
}
