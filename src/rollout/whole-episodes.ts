import type { WorldModel } from '../dynamics/contract.js';
import { expectMatrix, type NdView } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type Key, key, type Seed } from '../sampling/key.js';
import { collectTrajectory } from './collect-trajectory.js';
import { drawStarts } from './draw-starts.js';
import { expectThreshold, filterByReturn } from './filter-by-return.js';
import { imagine } from './imagine.js';
import { expectFunction, IMAGINE_OPTIONS } from './imagine-checks.js';
import type { ImagineOptions } from './imagine-options.js';
import type { AnyPolicy } from './policy.js';
import type { Rollout } from './rollout.js';
import { expectObject } from './step-arrays.js';
import type { Trajectory } from './trajectory.js';

/** How far the search for good episodes has come. */
export interface EpisodeProgress {
  /** `running` after each batch, `done` after the last. */
  status: 'running' | 'done';
  /** Batches done. */
  batches: number;
  /** Episodes imagined so far. */
  tried: number;
  /** Episodes kept so far. */
  kept: number;
}

/** The episodes of a batch whose return passed, `K` of them. */
export interface KeptEpisodes {
  /** The episodes, `[K, T, ...]`. */
  trajectory: Trajectory;
  /** Trajectory id of each, `[K]`, unique in the whole search. */
  id: Uint32Array;
  /** Return of each, `[K]`. */
  returns: Float32Array;
  /** The return from each step on, float32 `[K, T]`; 0 past a row's end. */
  returnsToGo: NdView;
  /** Episodes imagined so far, this batch's included. */
  tried: number;
  /** Episodes kept so far, these included. */
  kept: number;
}

/** What to look for, besides what {@link imagine} takes for each batch. */
export interface WholeEpisodesOptions<State = unknown>
  extends Omit<ImagineOptions<State>, 'start' | 'trajectory' | 'seed' | 'onProgress'> {
  /** Where episodes begin: the initial observations of a dataset, float32 `[N, S]`. */
  starts: NdView;
  /** Names the noise. */
  seed: Seed;
  /** An episode is kept when its predicted return is greater than this, in reward units. */
  above: number;
  /** Discount factor in 0..1 of that return. Default 1. */
  gamma?: number;
  /** Episodes to keep. Default 100. */
  count?: number;
  /** Episodes imagined at a time. Default 200. */
  rows?: number;
  /** Batches after which to give up. Default 1000. */
  maxBatches?: number;
  /** Called after every batch, also one of which nothing was kept. */
  onProgress?: (progress: EpisodeProgress) => void;
}

const OPTIONS = [
  'starts',
  'above',
  'gamma',
  'count',
  'rows',
  'maxBatches',
  ...IMAGINE_OPTIONS.filter((name) => name !== 'start' && name !== 'trajectory'),
];

/**
 * Imagines whole episodes from initial observations and keeps those whose predicted return is better
 * than a threshold, until enough are found.
 *
 * Starts are drawn with replacement, keyed by (seed, batch). The episodes of all batches are numbered
 * through: number `rows * batch + row` is the trajectory id that keys its noise. Unlike the original's,
 * episodes may end, and no more than `count` are kept.
 *
 * Source: MBRCSL, Zhou et al. 2023; zhaoyizhou1123/mbrcsl `examples/pointmaze/run_mbrcsl_maze.py`, whose
 * defaults these are.
 *
 * @param model - any {@link WorldModel}
 * @param policy - a function, or an object with one as `act`
 * @param options - starts, threshold, and everything {@link imagine} takes; `horizon` is the length of a
 *   whole episode
 * @returns what was kept of each batch, of those batches only of which something was
 * @throws TypeError or `ShapeError` when the starts or another option do not fit
 * @throws RangeError when a number is out of range
 *
 * @example
 * ```ts
 * const search = { starts: initialObs, horizon: 200, above: bestOfDataset, seed: 7 };
 * for await (const { trajectory, returnsToGo } of wholeEpisodes(model, policy, search)) {
 *   const file = writeNpz({ ...trajectoryArrays(trajectory), returnsToGo });
 * }
 * ```
 */
export function wholeEpisodes<State>(
  model: WorldModel<State>,
  policy: AnyPolicy,
  options: WholeEpisodesOptions<State>,
): AsyncGenerator<KeptEpisodes, void, undefined> {
  const what = 'wholeEpisodes';
  expectObject(what, options);
  const {
    starts,
    seed,
    above,
    gamma = 1,
    count = 100,
    rows = 200,
    maxBatches = 1000,
    onProgress,
    ...rest
  } = options;
  for (const name of ['start', 'trajectory']) {
    if (name in rest) {
      throw new TypeError(`${what}: ${name} must be left out, since it draws starts; give starts`);
    }
  }
  expectOptions(what, options, OPTIONS);
  if (onProgress !== undefined) expectFunction(`${what}: onProgress`, onProgress);
  for (const [name, value] of Object.entries({ count, rows, maxBatches })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(`${what}: ${name} must be a positive integer, got ${value}`);
    }
  }
  if (rows * maxBatches > 2 ** 32) {
    throw new RangeError(
      `${what}: rows * maxBatches must be at most 2^32, for ids are uint32, got ${rows * maxBatches}`,
    );
  }
  expectThreshold(what, above);
  if (!(gamma >= 0 && gamma <= 1)) {
    throw new RangeError(`${what}: gamma must be a number in 0..1, got ${gamma}`);
  }
  const obs = expectMatrix(`${what}: starts`, starts, null, model.obsSize);
  const source = { obs, size: obs.shape[0], sampler: undefined };
  const noise: Key = key(seed);
  const drawBatch = (batch: number) => drawStarts(what, source, rows, noise, batch);
  const imagineFrom = (start: NdView, trajectory: Uint32Array) =>
    imagine(model, policy, {
      ...(rest as Omit<ImagineOptions<State>, 'start'>),
      start,
      trajectory,
      seed: noise,
    });
  // Tells a wrong option now rather than when the first batch is read; nothing runs.
  imagineFrom(drawBatch(0), new Uint32Array(rows));
  const search = { above, gamma, count, rows, maxBatches, signal: rest.signal, onProgress };
  return batches(drawBatch, imagineFrom, search);
}

interface Search {
  above: number;
  gamma: number;
  count: number;
  rows: number;
  maxBatches: number;
  signal: AbortSignal | undefined;
  onProgress: ((progress: EpisodeProgress) => void) | undefined;
}

async function* batches<State>(
  drawBatch: (batch: number) => NdView,
  imagineFrom: (start: NdView, trajectory: Uint32Array) => Rollout<State>,
  { above, gamma, count, rows, maxBatches, signal, onProgress }: Search,
): AsyncGenerator<KeptEpisodes, void, undefined> {
  let kept = 0;
  for (let batch = 0; batch < maxBatches && kept < count; batch++) {
    signal?.throwIfAborted();
    const ids = Uint32Array.from({ length: rows }, (_, row) => batch * rows + row);
    const trajectory = await collectTrajectory(imagineFrom(drawBatch(batch), ids));
    const passed = filterByReturn(trajectory, { above, gamma, count: count - kept });
    kept += passed.rows.length;
    const tried = (batch + 1) * rows;
    const over = kept === count || batch + 1 === maxBatches;
    onProgress?.({ status: over ? 'done' : 'running', batches: batch + 1, tried, kept });
    if (passed.rows.length === 0) continue;
    yield {
      trajectory: trajectory.gather(passed.rows),
      id: Uint32Array.from(passed.rows, (row) => ids[row]),
      returns: passed.returns,
      returnsToGo: passed.returnsToGo,
      tried,
      kept,
    };
  }
}
