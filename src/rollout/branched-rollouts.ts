import type { WorldModel } from '../dynamics/contract.js';
import { describe, expectMatrix, isNd, type NdView, type TypedArray } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { foldIn, type Seed } from '../sampling/key.js';
import { collectTrajectory } from './collect-trajectory.js';
import { drawStarts, type StartRows, type StartSampler } from './draw-starts.js';
import { imagine } from './imagine.js';
import { expectFunction, IMAGINE_OPTIONS } from './imagine-checks.js';
import type { ImagineOptions } from './imagine-options.js';
import type { AnyPolicy } from './policy.js';
import type { Rollout } from './rollout.js';
import { expectObject } from './step-arrays.js';
import type { Transitions } from './trajectory.js';

/** A buffer whose observations are drawn from; every `ReplayBuffer` is one. */
export interface StartBuffer {
  /** Number of slots that hold a row. */
  readonly size: number;
  /** Number of slots. */
  readonly capacity: number;
  /** Number of rows ever added. */
  readonly added: number;
  /** The fields, `[capacity, ...]` each. */
  readonly columns: Readonly<Record<string, NdView<TypedArray> | TypedArray>>;
}

/** A buffer that imagined transitions are added to; a `ReplayBuffer` of such fields is one. */
export interface TransitionSink {
  /** Adds the fields it has; others are left aside. */
  addTrajectory(rows: Transitions): void;
}

/** How far a round of branched rollouts has come. */
export interface BranchProgress {
  /** `running` after each chunk, `done` after the last. */
  status: 'running' | 'done';
  /** Starts that are rolled out. */
  done: number;
  /** Starts of the round. */
  total: number;
  /** Transitions so far. */
  transitions: number;
  /** Results that were not finite so far. */
  nonFinite: number;
}

/** What to roll out, besides what {@link imagine} takes for each chunk. */
export interface BranchedRolloutsOptions<State = unknown>
  extends Omit<ImagineOptions<State>, 'start' | 'trajectory' | 'seed' | 'onProgress'> {
  /** Where to start: observations, float32 `[N, S]`, or a buffer with a field of them. */
  starts: NdView | StartBuffer;
  /** The buffer's field of observations. Default `obs`. */
  field?: string;
  /** Draws the rows to start from. Default uniformly, with replacement. */
  sampler?: StartSampler;
  /** Number of starts. */
  rows: number;
  /** Names the noise. */
  seed: Seed;
  /**
   * Number of this round, uint32: the key is `foldIn(seed, round)`, so that every round draws other
   * starts and dreams another dream. Default 0.
   */
  round?: number;
  /** Starts rolled out at a time; it bounds the memory and changes no result. Default 10,000. */
  batch?: number;
  /** A buffer the transitions are added to, each chunk before it is yielded. */
  into?: TransitionSink;
  /** Called after every chunk. */
  onProgress?: (progress: BranchProgress) => void;
}

const OPTIONS = [
  'starts',
  'field',
  'sampler',
  'rows',
  'round',
  'batch',
  'into',
  ...IMAGINE_OPTIONS.filter((name) => name !== 'start' && name !== 'trajectory'),
];

const ROWS_AT_A_TIME = 10_000;

/**
 * Branched rollouts: short dreams from observations of real experience, as MBPO, MOPO and their
 * successors train on.
 *
 * Starts are drawn when this is called, keyed by (seed, round); row `i` of the round is trajectory `i` of
 * that key. They are rolled out in chunks, each computed when it is asked for, and the chunks one after
 * another are what one chunk would be: `startIndex` counts the starts of the round. A row that the horizon
 * cuts is marked truncated, so that its last `nextObs`, which is bootstrapped from and never acted in, can
 * be told apart.
 *
 * Source: Janner et al. 2019, jannerm/mbpo `mbpo/algorithms/mbpo.py`.
 *
 * @param model - any {@link WorldModel}
 * @param policy - a function, or an object with one as `act`
 * @param options - starts, and everything {@link imagine} takes; `horizon` is the length of rollouts,
 *   from a {@link lengthSchedule} for instance
 * @returns the transitions of each chunk, `Trajectory.transitions()`
 * @throws TypeError or `ShapeError` when the starts or another option do not fit
 * @throws RangeError when a number is out of range, `NotEnoughRowsError` when there is nothing to start from
 *
 * @example
 * ```ts
 * const length = lengthSchedule(mbpoSchedules.hopper);
 * const rounds = { starts: real, rows: 100_000, horizon: length(epoch), seed: 7, round };
 * for await (const { reward } of branchedRollouts(model, policy, { ...rounds, into: imagined })) {
 *   count += reward.length;
 * }
 * ```
 */
export function branchedRollouts<State>(
  model: WorldModel<State>,
  policy: AnyPolicy,
  options: BranchedRolloutsOptions<State>,
): AsyncGenerator<Transitions, void, undefined> {
  const what = 'branchedRollouts';
  expectObject(what, options);
  const { starts, field, sampler, rows, seed, round, batch, into, onProgress, ...rest } = options;
  for (const name of ['start', 'trajectory']) {
    if (name in rest) {
      throw new TypeError(`${what}: ${name} must be left out, since it draws starts; give starts`);
    }
  }
  expectOptions(what, options, OPTIONS);
  if (onProgress !== undefined) expectFunction(`${what}: onProgress`, onProgress);
  expectPositive(`${what}: rows`, rows);
  expectPositive(`${what}: batch`, batch ?? ROWS_AT_A_TIME);
  if (into !== undefined && typeof into?.addTrajectory !== 'function') {
    throw new TypeError(`${what}: into must be a ReplayBuffer, got ${describe(into)}`);
  }
  if (seed === undefined) throw new TypeError(`${what}: seed must be given, got none`);
  const key = foldIn(seed, round ?? 0);
  const source = startRows(what, starts, field, sampler, model.obsSize);
  const start = drawStarts(what, source, rows, key, 0);
  const imagineFrom = (first: number, count: number) =>
    imagine(model, policy, {
      ...(rest as Omit<ImagineOptions<State>, 'start'>),
      start: chunkOf(start, first, count),
      trajectory: Uint32Array.from({ length: count }, (_, i) => first + i),
      seed: key,
    });
  // Tells a wrong option now rather than when the first chunk is read; nothing runs.
  imagineFrom(0, 1);
  return chunks(imagineFrom, rows, batch ?? ROWS_AT_A_TIME, into, rest.signal, onProgress);
}

async function* chunks<State>(
  imagineFrom: (first: number, count: number) => Rollout<State>,
  rows: number,
  batch: number,
  into: TransitionSink | undefined,
  signal: AbortSignal | undefined,
  onProgress: ((progress: BranchProgress) => void) | undefined,
): AsyncGenerator<Transitions, void, undefined> {
  let transitions = 0;
  let nonFinite = 0;
  for (let first = 0; first < rows; first += batch) {
    signal?.throwIfAborted();
    const count = Math.min(batch, rows - first);
    const trajectory = await collectTrajectory(imagineFrom(first, count));
    const chunk = trajectory.transitions();
    const { startIndex } = chunk;
    for (let i = 0; i < startIndex.length; i++) startIndex[i] += first;
    into?.addTrajectory(chunk);
    transitions += startIndex.length;
    nonFinite += trajectory.nonFinite;
    const done = first + count;
    onProgress?.({
      status: done < rows ? 'running' : 'done',
      done,
      total: rows,
      transitions,
      nonFinite,
    });
    yield chunk;
  }
}

/** Rows of packed starts, as a view of their own. */
function chunkOf({ data, shape }: NdView, first: number, count: number): NdView {
  const [, width] = shape;
  return { data, shape: [count, width], stride: [width, 1], offset: first * width };
}

function startRows(
  what: string,
  starts: unknown,
  field: string | undefined,
  sampler: StartSampler | undefined,
  obsSize: number,
): StartRows {
  if (sampler !== undefined && typeof sampler?.sample !== 'function') {
    throw new TypeError(`${what}: sampler must have a function sample, got ${describe(sampler)}`);
  }
  if (isNd(starts)) {
    if (field !== undefined) {
      throw new TypeError(`${what}: field must be left out where starts is a view, got '${field}'`);
    }
    const obs = expectMatrix(`${what}: starts`, starts, null, obsSize);
    return { obs, size: obs.shape[0], sampler };
  }
  const buffer = starts as Partial<StartBuffer> | null | undefined;
  if (typeof buffer?.columns !== 'object' || typeof buffer.size !== 'number') {
    throw new TypeError(
      `${what}: starts must be a view [N, ${obsSize}] or a ReplayBuffer, got ${describe(starts)}`,
    );
  }
  const name = field ?? 'obs';
  if (!Object.hasOwn(buffer.columns, name)) {
    throw new TypeError(
      `${what}: field must be one of the buffer's, ${Object.keys(buffer.columns).join(', ')}, ` +
        `got '${name}'`,
    );
  }
  const obs = expectMatrix(`${what}: the buffer's ${name}`, buffer.columns[name], null, obsSize);
  return { obs, size: buffer.size, sampler };
}

function expectPositive(what: string, count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > 2 ** 31 - 1) {
    throw new RangeError(`${what} must be an integer in 1..2^31-1, got ${count}`);
  }
}
