import type { TerminationFunction } from '../dynamics/contract.js';
import type { UncertaintyScore } from '../dynamics/score.js';
import type { NdView } from '../nd.js';
import type { Seed } from '../sampling/key.js';
import type { Carry } from './carry.js';
import type { RolloutProgress } from './progress.js';
import type { NonFiniteError, NonFinitePolicy } from './settle.js';
import type { ValueFunction } from './value.js';

/** Stops rows by their uncertainty. */
export interface Halt {
  /** Scores each step, and says which scores are too high, `[B]` of 0 or 1. */
  readonly detector: {
    /** Scores transitions; the rollout's `uncertainty` when nothing else is. */
    readonly score: UncertaintyScore;
    /** 1 where a score is too high. */
    unknown(uncertainty: Float32Array): Uint8Array;
  };
  /**
   * `terminated`, as in MOReL's pessimistic process: nothing follows and nothing is bootstrapped; or
   * `truncated`: the value of `nextObs` stands for what would follow. Default `terminated`.
   */
  readonly as?: 'terminated' | 'truncated';
  /** Added to the penalty of that step, in reward units. Default 0. */
  readonly penalty?: number;
}

/** What to imagine. */
export interface ImagineOptions<State> {
  /**
   * Where to start: observations, float32 `[B, S]`; a state of the model that shows its observations as
   * `obs`; or the `carry` of an earlier rollout.
   */
  start: NdView | State | Carry<State>;
  /** Most steps of a row, `T`. */
  horizon: number;
  /**
   * Names the noise; may be left out when starting from a carry, which brings its own. A carry with
   * another seed keeps its trajectory ids and gets another future.
   */
  seed?: Seed;
  /** Ids that key each row's noise, `[B]`. Default `0 .. B - 1`, or those of the carry. */
  trajectory?: Uint32Array;
  /**
   * Steps an action lasts: the policy is asked where the time step is a multiple of it, and every step of
   * the model is recorded; see `holdActions`. A carry goes on with the same number. Default 1.
   */
  actionRepeat?: number;
  /** Subtracts `coefficient * score` from the reward. */
  penalty?: {
    /** Scores each step. Default: `uncertainty`. */
    score?: UncertaintyScore;
    /** Reward units per unit of score; 0 leaves the reward as it is. */
    coefficient: number;
  };
  /**
   * Scores each step; it is recorded as `uncertainty` and changes nothing. Default: the penalty's score, else
   * the halt's. A score that serves several ends is asked once a step.
   */
  uncertainty?: UncertaintyScore;
  /** Further scores, recorded by name and changing nothing. Each sees the noise it would see alone. */
  scores?: Readonly<Record<string, UncertaintyScore>>;
  /**
   * Stops rows where the model is not to be trusted, such as an `UnknownStateActionDetector` says. The
   * step that shows it is recorded as the row's last; where its score is not finite, it costs only what the
   * halt costs.
   */
  halt?: Halt;
  /** Ends episodes, besides the model's own ends. */
  terminate?: TerminationFunction;
  /**
   * What each observation is worth, recorded: asked once at the start and then once a step, of the
   * observations arrived at. A value that is not finite is a result that is not finite.
   */
  value?: ValueFunction;
  /**
   * Names of the model's `extras` to record, each a typed array `[B]` or a view `[B, ...]`: such as `clipped`,
   * how many outputs a support has changed.
   */
  record?: readonly string[];
  /**
   * Whether finished rows are taken out of the batch, which saves their work, or stepped along unseen,
   * which keeps the batch size. The trajectories are the same. Default true.
   */
  compact?: boolean;
  /**
   * What becomes of a row whose observation, action, reward or value is not finite: `end` takes it out, its
   * earlier steps remain; `throw` raises a {@link NonFiniteError}; `keep` records it and goes on. All
   * are counted in `nonFinite`. Default `end`.
   */
  nonFinite?: NonFinitePolicy;
  /**
   * Stops between network calls; reading the rollout then throws the signal's reason. What was streamed
   * and the `carry` remain; the steps of an aborted `collect()` do not.
   */
  signal?: AbortSignal;
  /**
   * Called after every step, and once at the end. What it throws reaches the reader, after the step it was
   * told of.
   */
  onProgress?: (progress: RolloutProgress) => void;
}
