import type { StepResult, WorldModel } from '../dynamics/contract.js';
import type { UncertaintyScore } from '../dynamics/score.js';
import { describe, type NdView, nd, packed, ShapeError, type TypedArray, zeros } from '../nd.js';
import { actionSequence } from '../rollout/action-sequence.js';
import { burnIn } from '../rollout/burn-in.js';
import { imagine } from '../rollout/imagine.js';
import { expectModel } from '../rollout/imagine-checks.js';
import type { ImagineOptions } from '../rollout/imagine-options.js';
import { expectOptions } from '../runtime/options.js';
import { foldIn, type Seed } from '../sampling/key.js';
import { expectSeed, expectShape, type FloatView, flagMatrix, floats } from './arguments.js';
import { rewardOf, type StateSequences } from './open-loop-report.js';

/**
 * Sequences of the true system, in departure alignment: `action[b, t]` leads from `obs[b, t]` to
 * `obs[b, t + 1]`. `N = C + T` steps: a context of `C` that the model is shown, and `T` it imagines.
 */
export interface RecordedSequences extends StateSequences {
  /** Actions, float32 or float64 `[B, N, A]`; past a row's end they may hold anything. */
  readonly action: FloatView;
}

/** How recorded sequences are imagined anew. */
export interface ImagineRecordedOptions<State> {
  /** Names the noise. */
  readonly seed: Seed;
  /** Ids that key each row's noise, `[B]`. Default `0 .. B - 1`. */
  readonly trajectory?: Uint32Array;
  /**
   * Steps the model is shown before it imagines, `C`, by `burnIn`: it must be able to observe. Default 0.
   */
  readonly context?: number;
  /**
   * Where to start in place of the first observation: anything `imagine` starts from, `B` rows; only
   * without a context. It stays the caller's.
   */
  readonly start?: ImagineOptions<State>['start'];
  /** Scores each imagined step. */
  readonly score?: UncertaintyScore;
  /** Stops between network calls; the promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What a model made of recorded starts and actions. */
export interface ImaginedSequences {
  /** Imagined states, float32 `[B, T+1, S]`; index 0 is the start. */
  readonly obs: NdView;
  /** Imagined rewards, float32 `[B, T]`. */
  readonly reward: NdView;
  /**
   * 1 where the model would have ended the row, which went on all the same, uint8 `[B, T]`; absent where
   * the model never says whether a row ends.
   */
  readonly terminated?: NdView<Uint8Array>;
  /** 1 as long as the states, rewards and scores imagined of a row were finite, uint8 `[B, T]`. */
  readonly mask: NdView<Uint8Array>;
  /** The score of each step, float32 `[B, T]`; 0 without one. */
  readonly uncertainty: NdView;
}

/** Sequences that say which of their steps happened. */
export interface MaskedSequences extends StateSequences {
  /** 1 for steps that happened, uint8 `[B, T]`. */
  readonly mask: NdView<Uint8Array>;
}

/** Imagined sequences beside what was recorded of the same steps. */
export interface ImaginedRecording {
  /** What the model made of it. */
  readonly imagined: ImaginedSequences;
  /**
   * The recording after its context; its mask leaves out what follows an end. Its `reward` is that before a
   * penalty where the recording has such a `rawReward`.
   */
  readonly actual: MaskedSequences;
  /** Recorded steps that count, and of which what was imagined is not finite. */
  readonly nonFinite: number;
}

/**
 * Imagines recorded sequences anew: from the same starts, by the recorded actions, blind to what was then
 * seen.
 *
 * Ends that the model foresees are noted and do not stop a row, so that its states can be judged as long as
 * the recorded episode lasts. Nothing else ends one either: the horizon is the recording's.
 *
 * A stochastic model draws its noise here as in any rollout, so that the error of its dreams is that of
 * what it expects and of what it draws together. For the first alone take a model that follows its means,
 * or {@link sampleRecorded} and the error of the samples' mean.
 *
 * @param model - any world model
 * @param recorded - `obs` `[B, N+1, S]`, `action` `[B, N, A]`, and where there are such, `reward` or
 *   `rawReward`, `terminated` and `mask` `[B, N]`
 * @param options - `seed`; `context`, `start`, `score`
 * @returns what was imagined and what was recorded, for {@link openLoopReport}, whose `mask` says which of
 *   it counts
 * @throws TypeError or `ShapeError` when an array does not fit the model or the others
 * @throws RangeError when the recording is not longer than the context
 *
 * @example
 * ```ts @import.meta.vitest
 * const { imagineRecorded, openLoopReport } = await import('umwelt/evaluation');
 * const { gatherRows, nd } = await import('umwelt');
 * // Believes that an action moves a point by as much; it moves by half.
 * const model = {
 *   obsSize: 1,
 *   actionSize: 1,
 *   initial: (obs) => obs,
 *   step(x, action) {
 *     const next = nd(x.data.map((v, i) => v + action.data[i]), x.shape);
 *     return { state: next, obs: next, reward: new Float32Array(x.shape[0]) };
 *   },
 *   gather: gatherRows,
 * };
 * const recorded = { obs: nd([[[0], [1], [2]]]), action: nd([[[2], [2]]]) };
 * const { imagined, actual } = await imagineRecorded(model, recorded, { seed: 0 });
 * const { states } = openLoopReport(imagined, actual);
 * expect([...states.rmse]).toEqual([1, 2]);
 * expect([...states.skill]).toEqual([0, 0]); // no better than standing still
 * ```
 */
export async function imagineRecorded<State>(
  model: WorldModel<State>,
  recorded: RecordedSequences,
  options: ImagineRecordedOptions<State>,
): Promise<ImaginedRecording> {
  const what = 'imagineRecorded';
  expectOptions(what, options, [...OPTIONS, 'score']);
  expectSeed(what, options.seed);
  const setting = settingOf(what, model, recorded, options);
  const { start, release } = await startOf(model, setting, options);
  try {
    const imagined = await follow(model, setting, options, start, options.seed);
    const { actual } = setting;
    return { imagined, actual, nonFinite: lostSteps(actual.mask.data, imagined.mask.data) };
  } finally {
    release();
  }
}

/** How recorded sequences are imagined several times. */
export interface SampleRecordedOptions<State> extends Omit<ImagineRecordedOptions<State>, 'score'> {
  /** How many times, `M`. */
  readonly samples: number;
}

/** Several imagined sequences of each row beside what was recorded. */
export interface SampledRecording {
  /** Imagined states, float32 `[B, M, T+1, S]`. */
  readonly obs: NdView;
  /** The recording after its context; its mask also leaves out what is not finite in some sample. */
  readonly actual: MaskedSequences;
  /** Recorded steps that count, and of which some sample is not finite. */
  readonly nonFinite: number;
}

/**
 * Imagines recorded sequences `M` times over with different noise, see {@link imagineRecorded}: sample `m`
 * has the noise of `foldIn(seed, m)`.
 *
 * @param model - a stochastic world model
 * @param recorded - as for {@link imagineRecorded}
 * @param options - `seed`, `samples`; `context`, `start`
 * @returns the samples and what was recorded, for {@link sampleReport}
 * @throws RangeError when `samples` is no positive integer, or the recording not longer than the context
 * @throws TypeError or `ShapeError` when an array does not fit the model or the others
 *
 * @example
 * ```ts @import.meta.vitest
 * const { sampleRecorded, sampleReport } = await import('umwelt/evaluation');
 * const { gatherRows, nd } = await import('umwelt');
 * // A point that jitters.
 * const model = {
 *   obsSize: 1,
 *   actionSize: 1,
 *   initial: (obs) => obs,
 *   step(x, action, { noise }) {
 *     const jitter = noise.normal(1).data;
 *     const next = nd(x.data.map((v, i) => v + action.data[i] + jitter[i]), x.shape);
 *     return { state: next, obs: next, reward: new Float32Array(x.shape[0]) };
 *   },
 *   gather: gatherRows,
 * };
 * const recorded = { obs: nd([[[0], [2]]]), action: nd([[[2]]]) };
 * const { obs, actual } = await sampleRecorded(model, recorded, { seed: 0, samples: 256 });
 * const { rmseOfMean, rmseOfOne } = sampleReport(obs, actual);
 * expect(rmseOfMean[0]).toBeLessThan(0.2 * rmseOfOne[0]); // right on average
 * ```
 */
export async function sampleRecorded<State>(
  model: WorldModel<State>,
  recorded: RecordedSequences,
  options: SampleRecordedOptions<State>,
): Promise<SampledRecording> {
  const what = 'sampleRecorded';
  expectOptions(what, options, [...OPTIONS, 'samples']);
  const { samples, seed } = options;
  expectSeed(what, seed);
  if (!Number.isInteger(samples) || samples < 1) {
    throw new RangeError(`${what}: samples must be a positive integer, got ${samples}`);
  }
  const setting = settingOf(what, model, recorded, options);
  const { rows, horizon, actual } = setting;
  const width = (horizon + 1) * model.obsSize;
  const obs = zeros([rows, samples, horizon + 1, model.obsSize]);
  const mask = actual.mask.data.slice();
  const { start, release } = await startOf(model, setting, options);
  try {
    for (let sample = 0; sample < samples; sample++) {
      const dream = await follow(model, setting, options, start, foldIn(seed, sample));
      for (let row = 0; row < rows; row++) {
        const states = dream.obs.data.subarray(row * width, (row + 1) * width);
        obs.data.set(states, (row * samples + sample) * width);
      }
      for (let cell = 0; cell < mask.length; cell++) mask[cell] &= dream.mask.data[cell];
    }
  } finally {
    release();
  }
  const nonFinite = lostSteps(actual.mask.data, mask);
  return { obs, actual: { ...actual, mask: nd(mask, actual.mask.shape) }, nonFinite };
}

const OPTIONS = ['seed', 'trajectory', 'context', 'start', 'signal'];

/** A recording, checked and cut. */
interface Setting {
  rows: number;
  /** Steps of the context and of the imagination. */
  context: number;
  horizon: number;
  /** All of it in float32. */
  obs: NdView;
  action: NdView;
  reward: NdView | undefined;
  /** What follows the context. */
  actual: MaskedSequences;
}

function settingOf(
  what: string,
  model: Pick<WorldModel, 'obsSize' | 'actionSize'>,
  recorded: RecordedSequences,
  { context = 0, start }: { context?: number; start?: unknown },
): Setting {
  expectModel(what, model);
  if (typeof recorded !== 'object' || recorded === null || !('action' in recorded)) {
    throw new TypeError(
      `${what}: recorded must be sequences { obs, action }, got ${describe(recorded)}`,
    );
  }
  const obs = float32(what, 'recorded.obs', recorded.obs);
  const action = float32(what, 'recorded.action', recorded.action);
  const [rows, points] = obs.shape;
  const steps = points - 1;
  if (obs.shape.length !== 3 || points < 1) {
    throw new ShapeError(`${what}: recorded.obs must have shape [B, N+1, S], got [${obs.shape}]`);
  }
  expectShape(what, 'recorded.obs', obs, '[B, N+1, S]', [rows, points, model.obsSize]);
  expectShape(what, 'recorded.action', action, '[B, N, A]', [rows, steps, model.actionSize]);
  if (!Number.isInteger(context) || context < 0 || context > steps) {
    throw new RangeError(
      `${what}: context must be an integer in 0..${steps}, the steps recorded, got ${context}`,
    );
  }
  if (context > 0 && start !== undefined) {
    throw new TypeError(`${what}: start must be left out with a context, got both`);
  }
  const grid = [rows, steps];
  const terminated = flagMatrix(what, 'recorded.terminated', recorded.terminated, grid);
  const taken = flagMatrix(what, 'recorded.mask', recorded.mask, grid);
  const given = rewardOf(recorded);
  const name = recorded.rawReward === undefined ? 'recorded.reward' : 'recorded.rawReward';
  const reward = given && float32(what, name, given);
  if (reward !== undefined) expectShape(what, name, reward, '[B, N]', grid);

  const mask = new Uint8Array(rows * steps);
  for (let row = 0; row < rows; row++) {
    for (let step = 0; step < steps; step++) {
      const cell = row * steps + step;
      mask[cell] = taken === null || taken[cell] !== 0 ? 1 : 0;
      if (terminated !== null && terminated[cell] !== 0) break;
    }
  }
  const maskAfter = after(nd(mask, grid), context);
  return {
    rows,
    context,
    horizon: steps - context,
    obs,
    action,
    reward,
    actual: {
      obs: after(recorded.obs as NdView, context),
      ...(given && { reward: after(given as NdView, context) }),
      ...(recorded.terminated && { terminated: after(recorded.terminated, context) }),
      mask: nd(packed(maskAfter), maskAfter.shape),
    },
  };
}

/** Where imagination starts; what was made for it is freed by `release`. */
async function startOf<State>(
  model: WorldModel<State>,
  { rows, context, obs, action, reward }: Setting,
  { start, seed, trajectory, signal }: ImagineRecordedOptions<State>,
): Promise<{ start: ImagineOptions<State>['start']; release: () => void }> {
  if (context === 0) {
    const first = { ...obs, shape: [rows, obs.shape[2]], stride: [obs.stride[0], obs.stride[2]] };
    return { start: start ?? nd(packed(first).slice(), first.shape), release: () => {} };
  }
  const seen = {
    obs: upTo(obs, context + 1),
    action: upTo(action, context),
    ...(reward && { reward: upTo(reward, context) }),
  };
  const carry = await burnIn(model, seen, { seed, trajectory, signal });
  return { start: carry, release: () => carry.release() };
}

/** One imagination of a recording. */
async function follow<State>(
  model: WorldModel<State>,
  { rows, context, horizon, action }: Setting,
  { trajectory, score, signal }: ImagineRecordedOptions<State>,
  start: ImagineOptions<State>['start'],
  seed: Seed,
): Promise<ImaginedSequences> {
  const flags = new Uint8Array(rows * horizon);
  const ends: { terminated?: NdView<Uint8Array> } = {};
  let steps = 0;
  let made = false;
  // No row ends and none is dropped, so that every call has all rows in their order.
  const endless: WorldModel<State> = {
    obsSize: model.obsSize,
    actionSize: model.actionSize,
    async initial(obs, told) {
      const state = await model.initial(obs, told);
      made = true;
      return state;
    },
    async step(state, chosen, told) {
      const step = steps++;
      const result: StepResult<State> = await model.step(state, chosen, told);
      made = true;
      const { terminated } = result;
      if (terminated !== undefined) {
        ends.terminated = nd(flags, [rows, horizon]);
        for (let row = 0; row < rows; row++) {
          flags[row * horizon + step] = terminated[row] === 0 ? 0 : 1;
        }
      }
      return { ...result, terminated: undefined };
    },
    gather: (state, chosen) => model.gather(state, chosen),
    release: (state) => model.release?.(state),
  };
  const rollout = imagine(endless, actionSequence(after(action, context)), {
    start,
    horizon,
    seed,
    ...(trajectory && { trajectory }),
    ...(signal && { signal }),
    ...(score && { penalty: { score, coefficient: 0 } }),
    nonFinite: 'keep',
  });
  try {
    const { obs, rawReward, uncertainty } = await rollout.collect();
    const mask = finiteSteps(obs, rawReward, uncertainty);
    return {
      obs,
      reward: rawReward,
      ...ends,
      mask,
      uncertainty,
    };
  } finally {
    // Before the model made a state there is none to release, and no carry.
    if (made) rollout.carry.release();
  }
}

/** 1 as long as states, rewards and scores of a row are finite. */
function finiteSteps(obs: NdView, reward: NdView, uncertainty: NdView): NdView<Uint8Array> {
  const [rows, horizon] = reward.shape;
  const [, points, dims] = obs.shape;
  const mask = new Uint8Array(rows * horizon);
  const finite = (row: number, point: number): boolean => {
    const from = (row * points + point) * dims;
    for (let dim = 0; dim < dims; dim++) {
      if (!Number.isFinite(obs.data[from + dim])) return false;
    }
    return true;
  };
  for (let row = 0; row < rows; row++) {
    if (!finite(row, 0)) continue;
    for (let step = 0; step < horizon; step++) {
      const cell = row * horizon + step;
      const numbers = reward.data[cell] + uncertainty.data[cell];
      if (!finite(row, step + 1) || !Number.isFinite(numbers)) break;
      mask[cell] = 1;
    }
  }
  return nd(mask, [rows, horizon]);
}

function lostSteps(actual: Uint8Array, imagined: Uint8Array): number {
  let lost = 0;
  for (let cell = 0; cell < actual.length; cell++) lost += actual[cell] & (1 - imagined[cell]);
  return lost;
}

/** The times of `[B, N, ...]` from one on, a view of the same memory. */
function after<T extends TypedArray>(view: NdView<T>, first: number): NdView<T> {
  const [rows, times, ...inner] = view.shape;
  return {
    ...view,
    shape: [rows, times - first, ...inner],
    offset: view.offset + first * view.stride[1],
  };
}

/** The times of `[B, N, ...]` before one, a view of the same memory. */
function upTo<T extends TypedArray>(view: NdView<T>, end: number): NdView<T> {
  const [rows, , ...inner] = view.shape;
  return { ...view, shape: [rows, end, ...inner] };
}

/** A packed float32 view of the same numbers. */
function float32(what: string, name: string, view: FloatView): NdView {
  const data = floats(what, name, view);
  return nd(data instanceof Float32Array ? data : Float32Array.from(data), view.shape);
}
