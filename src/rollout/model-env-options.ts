/** What a learned environment is made of, and what it answers. */

import type { Awaitable, TerminationFunction, WorldModel } from '../dynamics/contract.js';
import type { UncertaintyScore } from '../dynamics/score.js';
import { isFiniteRow } from '../dynamics/termination-rules.js';
import {
  describe,
  expectMatrix,
  isNd,
  type NdView,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import type { ActionSpace } from '../runtime/manifest.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import { key, type Seed } from '../sampling/key.js';
import type { RowNoise } from '../sampling/row-noise.js';
import { expectActionSpace } from './action-space.js';
import { expectFunction, expectHalt, expectModel, expectPenalty } from './imagine-checks.js';
import type { Halt } from './imagine-options.js';

/**
 * What happens to an env after its episode has ended, as in Gymnasium: `next-step`, the next call ignores
 * its action and resets it; `same-step`, the call that ends it resets it; `disabled`, nothing, and it
 * must be reset before the next step.
 */
export type AutoresetMode = 'next-step' | 'same-step' | 'disabled';

/** The envs that begin an episode. */
export interface EpisodeStarts {
  /** Which episode of these envs this is, from 0. Envs in different episodes are asked for apart. */
  readonly episode: number;
  /** Ids of the envs, `[b]`. */
  readonly env: Uint32Array;
  /** Noise of these envs in this episode; nobody else draws from it. */
  readonly noise: RowNoise;
}

/**
 * Says where episodes start: observations, float32 `[b, S]`; or a state of the model with `b` rows that
 * shows its observations as `obs`, which is the environment's to release from then on.
 */
export type StartFunction<State = unknown> = (starts: EpisodeStarts) => Awaitable<NdView | State>;

/** How a model becomes an environment. */
export interface ModelEnvOptions<State = unknown> {
  /** Number of envs, `N`. */
  numEnvs: number;
  /**
   * Observations to start from, float32 `[M, S]`, drawn with replacement for each env and episode; or
   * a function that says.
   */
  starts: NdView | StartFunction<State>;
  /** Names the noise; `reset({ seed })` names it anew. */
  seed: Seed;
  /**
   * Ids that key each env's noise and starts, `[N]`: envs of one id have the same fate under the same
   * actions. Default `0 .. N - 1`.
   */
  ids?: Uint32Array;
  /** The actions there are; `discrete` ones are int32 indices. Default: any float32 `[N, A]`. */
  actionSpace?: ActionSpace;
  /** Steps after which an episode is truncated. Default: never. */
  maxEpisodeSteps?: number;
  /** Default `next-step`. */
  autoreset?: AutoresetMode;
  /** Subtracts `coefficient * score` from the reward. */
  penalty?: {
    /** Scores each step. */
    score: UncertaintyScore;
    /** Reward units per unit of score; 0 reports the uncertainty and leaves the reward as it is. */
    coefficient: number;
  };
  /** Ends or cuts episodes where the model is not to be trusted. */
  halt?: Halt;
  /** Ends episodes, besides the model's own ends. */
  terminate?: TerminationFunction;
  /**
   * How envs that begin an episode join those under way. `groups`: envs that began together keep a state
   * of their own, which any model can do; a step calls the model once for each group, at most `N` times.
   * `observe`: the model's `observe` puts them into the one state there is, and a step is one call; the
   * other envs are told what they showed, so it is exact only where the state is what is seen. Default:
   * `observe` where the model has it and its state holds nothing but `obs` (and `member`), else `groups`.
   */
  merge?: 'observe' | 'groups';
}

/** Which envs to reset, and how. */
export interface ModelEnvResetOptions {
  /** Starts the noise over: clocks and episodes count from 0 again. Only without a mask. */
  seed?: Seed;
  /** 1 for envs to reset, `[N]`, at least one. Default: all. */
  mask?: Uint8Array;
  /** Observations to start from, float32 `[b, S]` for the `b` envs that are reset. Default: `starts`. */
  start?: NdView;
}

/** What goes with a reset. */
export interface ModelEnvResetInfo {
  /** 1 for the envs that were reset, `[N]`. */
  readonly first: Uint8Array;
  /** Which episode each env is in, from 0, `[N]`. */
  readonly episode: Uint32Array;
}

/** The answer to a reset; its arrays are never written again. */
export interface ModelEnvReset {
  /** Observations of all envs, float32 `[N, S]`; those that were not reset show their last. */
  readonly obs: NdView;
  /** What goes with them. */
  readonly info: ModelEnvResetInfo;
}

/** What is known of a step besides its outcome; 0 for envs that took none. */
export interface TransitionInfo {
  /** The model's reward, `[N]`. */
  readonly rawReward: Float32Array;
  /** `coefficient * uncertainty`, and what a halt costs, `[N]`. */
  readonly penalty: Float32Array;
  /** The score of the step, `[N]`; 0 when none was asked for. */
  readonly uncertainty: Float32Array;
  /** Ensemble member, `[N]`; -1 where none was drawn. */
  readonly member: Int32Array;
  /**
   * 1 where the result was not finite, `[N]`: the episode was cut before that step, which has reward 0
   * and shows the observation before it.
   */
  readonly nonFinite: Uint8Array;
  /** The model's extras that have an entry a row, `[N]` or `[N, ...]`, by name. */
  readonly extras: Readonly<Record<string, TypedArray | NdView<TypedArray>>>;
}

/** What goes with a step. */
export interface ModelEnvStepInfo extends TransitionInfo {
  /** 1 where `obs` begins an episode, `[N]`. */
  readonly first: Uint8Array;
  /** Which episode `obs` belongs to, from 0, `[N]`. */
  readonly episode: Uint32Array;
  /** With `same-step`, where any episode ended: 1 for those envs, `[N]`. */
  readonly final?: Uint8Array;
  /** Their last observations, float32 `[N, S]`; 0 for the other envs. */
  readonly finalObs?: NdView;
  /** What is known of their last steps; 0 for the other envs. */
  readonly finalInfo?: TransitionInfo;
}

/** The answer to a step; its arrays are never written again. */
export interface ModelEnvStep {
  /** Observations, float32 `[N, S]`. */
  readonly obs: NdView;
  /** `rawReward - penalty`, `[N]`; 0 for envs that were reset instead of stepped. */
  readonly reward: Float32Array;
  /** 1 where the episode ended, `[N]`. */
  readonly terminated: Uint8Array;
  /** 1 where it was cut short of an end: bootstrap from the last observation, `[N]`. */
  readonly truncated: Uint8Array;
  /** What goes with it. */
  readonly info: ModelEnvStepInfo;
}

/** What goes with actions. */
export interface ModelEnvActionInfo {
  /** Log-densities of the actions, `[N]`, for scores that need them. */
  logProb?: Float32Array;
}

const OPTIONS = [
  'numEnvs',
  'starts',
  'seed',
  'ids',
  'actionSpace',
  'maxEpisodeSteps',
  'autoreset',
  'penalty',
  'halt',
  'terminate',
  'merge',
];

/**
 * Checks a model and the options for it.
 *
 * @throws TypeError, `ShapeError` or RangeError naming the option, what must hold and what came
 */
export function expectModelEnv<State>(
  model: WorldModel<State>,
  options: ModelEnvOptions<State>,
): void {
  expectModel('ModelEnv', model);
  expectOptions('ModelEnv', options, OPTIONS);
  const { actionSpace, autoreset = 'next-step', ids, maxEpisodeSteps, merge, numEnvs } = options;
  expectCount('ModelEnv: numEnvs', numEnvs);
  key(options.seed);
  if (ids !== undefined && !(ids instanceof Uint32Array)) {
    throw new TypeError(`ModelEnv: ids must be a Uint32Array, got ${describe(ids)}`);
  }
  if (ids !== undefined && ids.length !== numEnvs) {
    throw new ShapeError(
      `ModelEnv: ids must have one entry for each of the ${numEnvs} envs, got ${ids.length}`,
    );
  }
  if (maxEpisodeSteps !== undefined) expectCount('ModelEnv: maxEpisodeSteps', maxEpisodeSteps);
  expectOneOf('autoreset', autoreset, ['next-step', 'same-step', 'disabled']);
  if (merge !== undefined) expectOneOf('merge', merge, ['observe', 'groups']);
  if (merge === 'observe' && typeof model.observe !== 'function') {
    throw new TypeError(
      "ModelEnv: merge must be 'groups' for a model without observe, got observe",
    );
  }
  if (actionSpace !== undefined) {
    expectActionSpace('ModelEnv', actionSpace);
    const width = actionSpace.type === 'box' ? actionSpace.low.length : actionSpace.n;
    if (width !== model.actionSize) {
      throw new RangeError(
        `ModelEnv: actionSpace must fit the model's actionSize ${model.actionSize}, got ` +
          `${actionSpace.type === 'box' ? `${width} bounds` : `n = ${width}, which is fed one-hot`}`,
      );
    }
  }
  if (options.terminate !== undefined) expectFunction('ModelEnv: terminate', options.terminate);
  if (options.penalty !== undefined) expectPenalty('ModelEnv', options.penalty);
  if (options.halt !== undefined) expectHalt('ModelEnv', options.halt);
  const { starts } = options;
  if (!isNd(starts)) {
    expectFunction('ModelEnv: starts', starts);
    return;
  }
  expectStarts('ModelEnv: starts', starts, null, model.obsSize);
  if (starts.shape[0] === 0) {
    throw new ShapeError('ModelEnv: starts must have at least one row, got none');
  }
}

/**
 * Checks observations to start from.
 *
 * @throws TypeError or `ShapeError` when they are no float32 `[rows, S]`, RangeError when one is not finite
 */
export function expectStarts(
  what: string,
  value: unknown,
  rows: number | null,
  obsSize: number,
): NdView {
  const view = expectMatrix(what, value, rows, obsSize);
  const data = packed(view);
  for (let row = 0; row < view.shape[0]; row++) {
    if (!isFiniteRow(data, row * obsSize, obsSize)) {
      throw new RangeError(`${what} must be finite, got a number that is not in row ${row}`);
    }
  }
  return view;
}

function expectOneOf(name: string, value: unknown, values: readonly string[]): void {
  if (!values.includes(value as string)) {
    throw new RangeError(`ModelEnv: ${name} must be among ${values.join(', ')}, got ${value}`);
  }
}
