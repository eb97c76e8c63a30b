/** Recorded transitions as a model's outputs would say them. */

import { describe, type NdView, nd, packed, ShapeError } from '../nd.js';
import type { EnsembleManifest } from '../runtime/manifest.js';
import { outputSizeOf } from './ensemble-layout.js';
import { expectReals } from './real-view.js';

/** What a model's outputs are; the manifest of an ensemble says it. */
export type OutputMeanings = Pick<
  EnsembleManifest,
  'noDelta' | 'obsSize' | 'predictsDelta' | 'rewardIndex'
>;

/** Transitions that happened, such as `trajectory.transitions()` or those of a data set. */
export interface TargetTransitions {
  /** Observations before the step, float32 or float64 `[N, S]`. */
  readonly obs: NdView<Float32Array | Float64Array>;
  /** Observations after it, float32 or float64 `[N, S]`. */
  readonly nextObs: NdView<Float32Array | Float64Array>;
  /** Rewards, `[N]`; needed where the model predicts them. */
  readonly reward?: Float32Array | Float64Array;
  /** Rewards before a penalty, `[N]`; where they are there, `reward` is not read. */
  readonly rawReward?: Float32Array | Float64Array;
}

/**
 * What a model's outputs ought to have been: changes of the observation, or the observation itself where
 * the model predicts that, and the reward where it predicts one, in the order and the units of `mean` of
 * a `Prediction`. It is the inverse of a prediction's `arrive`, and the target that
 * `modelCalibrationReport` and `gaussianLogProb` ask for.
 *
 * @param meanings - `model.manifest` of an ensemble, or the same fields
 * @param transitions - `obs`, `nextObs` `[N, S]`; `reward` or `rawReward` `[N]`
 * @returns float32 `[N, D]`
 * @throws TypeError or `ShapeError` when the transitions are not that, or have no reward where one is
 *   predicted
 *
 * @example
 * ```ts @import.meta.vitest
 * const { outputTargets } = await import('umwelt/dynamics');
 * const { nd } = await import('umwelt');
 * // Predicts the change of a point, and then the reward.
 * const meanings = { obsSize: 1, predictsDelta: true, rewardIndex: 1 };
 * const transitions = { obs: nd([[2]]), nextObs: nd([[5]]), reward: Float32Array.of(0.5) };
 * expect([...outputTargets(meanings, transitions).data]).toEqual([3, 0.5]);
 * ```
 */
export function outputTargets(meanings: OutputMeanings, transitions: TargetTransitions): NdView {
  const what = 'outputTargets';
  if (!Number.isInteger(meanings?.obsSize) || typeof meanings.predictsDelta !== 'boolean') {
    throw new TypeError(
      `${what}: meanings must have obsSize, predictsDelta and rewardIndex, got ${describe(meanings)}; ` +
        'give the manifest of a model',
    );
  }
  const { noDelta = [], obsSize, predictsDelta, rewardIndex = null } = meanings;
  expectReals(`${what}: obs`, transitions?.obs, null, obsSize);
  const [rows] = transitions.obs.shape;
  expectReals(`${what}: nextObs`, transitions.nextObs, rows, obsSize);
  const before = packed(transitions.obs);
  const after = packed(transitions.nextObs);
  const width = outputSizeOf(meanings);
  const target = new Float32Array(rows * width);
  for (let row = 0, to = 0; row < rows; row++) {
    for (let i = 0, d = 0; d < width; d++, to++) {
      if (d === rewardIndex) continue;
      const from = row * obsSize + i;
      target[to] = predictsDelta && !noDelta.includes(i) ? after[from] - before[from] : after[from];
      i++;
    }
  }
  if (rewardIndex !== null) {
    const reward = rewardsOf(what, transitions, rows);
    for (let row = 0; row < rows; row++) target[row * width + rewardIndex] = reward[row];
  }
  return nd(target, [rows, width]);
}

function rewardsOf(
  what: string,
  { reward, rawReward }: TargetTransitions,
  rows: number,
): Float32Array | Float64Array {
  const rewards = rawReward ?? reward;
  if (!(rewards instanceof Float32Array || rewards instanceof Float64Array)) {
    throw new TypeError(
      `${what}: reward must be a Float32Array or Float64Array, for the model predicts one, ` +
        `got ${describe(rewards)}`,
    );
  }
  if (rewards.length !== rows) {
    throw new ShapeError(
      `${what}: reward must have one value for each of the ${rows} rows, got ${rewards.length}`,
    );
  }
  return rewards;
}
