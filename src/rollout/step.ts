import type { NdView, TypedArray } from '../nd.js';

/** One step of the rows that took it, `b` of them. Its arrays are never written again. */
export interface RolloutStep {
  /** Step within this rollout, from 0. */
  step: number;
  /** Row of this rollout's start that each entry is, `[b]`; a carry's `row` leads further back. */
  row: Int32Array;
  /** Trajectory id of each entry, `[b]`. */
  trajectory: Uint32Array;
  /** Float32 `[b, S]`. */
  obs: NdView;
  /** Float32 `[b, A]`. */
  action: NdView;
  /** Float32 `[b, S]`. */
  nextObs: NdView;
  /** `rawReward - penalty`, `[b]`. */
  reward: Float32Array;
  /** The model's reward, `[b]`. */
  rawReward: Float32Array;
  /** The score recorded as uncertainty, `[b]`; 0 when none was asked for. */
  uncertainty: Float32Array;
  /** The penalty's coefficient times its score, and what a halt costs, `[b]`. */
  penalty: Float32Array;
  /** 1 where the episode ended in `nextObs`, `[b]`. */
  terminated: Uint8Array;
  /** 1 where the horizon or a halt cut the row after this step, `[b]`. */
  truncated: Uint8Array;
  /** `1 - terminated`, `[b]`. */
  discount: Float32Array;
  /** Ensemble member, `[b]`; -1 where none was drawn. */
  member: Int32Array;
  /** Log-density of the actions, `[b]`; absent when the policy gave none. */
  logProb?: Float32Array;
  /** Value of `obs`, `[b]`; absent without a value function. */
  value?: Float32Array;
  /** Value of `nextObs`, `[b]`, where the episode ended too; absent without a value function. */
  nextValue?: Float32Array;
  /** Further scores by name, `[b]` each; absent when none was asked for. */
  scores?: Readonly<Record<string, Float32Array>>;
  /** Recorded extras by name, `[b, ...]` each; absent when none was asked for. */
  extras?: Readonly<Record<string, NdView<TypedArray>>>;
  /**
   * Rows of the start whose result at this step was not finite: they ended one step earlier, and that
   * earlier step was their last.
   */
  dropped: Int32Array;
}
