/** Every penalty beside the true error of the model, on transitions that a policy dreamt. */

import { type NdView, nd, packed, type Trajectory } from 'umwelt';
import {
  type EnsembleDynamics,
  modelContext,
  type Prediction,
  penaltyPresets,
  type UncertaintyScore,
} from 'umwelt/dynamics';
import { uncertaintyErrorCorrelation } from 'umwelt/evaluation';
import { Stream } from 'umwelt/sampling';
import type { Hopper } from '../hopper/simulator.js';

/** Transitions of a dream, with what the simulator says of them; `N` in all. */
export interface JudgedTransitions {
  /** The start each belongs to, `[N]`. */
  readonly start: Int32Array;
  /** Step within its trajectory, `[N]`. */
  readonly step: Int32Array;
  /** Distance of the elites' mean from the truth, in standard deviations of the data, `[N]`. */
  readonly error: Float32Array;
  /** Each penalty, `[N]`, by name. */
  readonly scores: ReadonlyMap<string, Float32Array>;
}

/** Steps that are looked at together, from and to, counted from 1. */
export interface Phase {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

/** How one penalty ranks transitions, against how their error does. */
export interface Ranking {
  readonly name: string;
  /** Spearman's rank correlation over all transitions. */
  readonly all: number;
  /** Its middle 90 % over resampled starts. */
  readonly interval: readonly [low: number, high: number];
  /** The same over the transitions of each phase. */
  readonly phases: readonly number[];
}

/** Asks the model and the simulator about each transition that the dream took. */
export async function judge(
  model: EnsembleDynamics,
  hopper: Hopper,
  dream: Trajectory,
  scale: ArrayLike<number>,
  seed: number,
): Promise<JudgedTransitions> {
  const { obs, action, startIndex, stepIndex } = dream.transitions();
  const rows = startIndex.length;
  const context = modelContext(
    seed,
    Uint32Array.from({ length: rows }, (_, row) => row),
  );
  const { prediction, reward, obs: nextObs } = await model.step({ obs }, action, context);
  if (prediction === undefined) throw new Error('judge: the model must give a prediction');
  const transitions = { obs, action, nextObs, reward, ...context };
  const noise = context.noise.in(Stream.score);
  const scores = new Map<string, Float32Array>();
  for (const [name, preset] of Object.entries(penaltyPresets)) {
    const score: UncertaintyScore = preset();
    scores.set(name, await score(prediction, { ...transitions, noise }));
  }
  return {
    start: startIndex,
    step: stepIndex,
    error: trueError(hopper, obs, action, elitesMean(prediction, obs), scale),
    scores,
  };
}

/** The next observations that the elites expect, `[N, S]`. */
function elitesMean(prediction: Prediction, obs: NdView): NdView {
  const { mean, elites = [] } = prediction;
  const [, rows, width] = mean.shape;
  const sum = new Float32Array(rows * width);
  for (const e of elites) {
    const from = e * rows * width;
    for (let i = 0; i < sum.length; i++) sum[i] += mean.data[from + i] / elites.length;
  }
  const arrival = prediction.arrive?.(nd(sum, [rows, width]));
  if (arrival === undefined) throw new Error('judge: the model must say where outputs lead');
  return { ...arrival.nextObs, shape: obs.shape };
}

/** Root mean square over dimensions of the distance to what the simulator does in one step, `[N]`. */
function trueError(
  hopper: Hopper,
  obs: NdView,
  action: NdView,
  expected: NdView,
  scale: ArrayLike<number>,
): Float32Array {
  const [rows, width] = obs.shape;
  const [, actionSize] = action.shape;
  const [before, torque, guess] = [packed(obs), packed(action), packed(expected)];
  const positions = hopper.qpos.length - 1;
  const error = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const state = before.subarray(row * width, (row + 1) * width);
    // The observation is the state but for the distance run, on which nothing depends.
    hopper.reset([0, ...state.subarray(0, positions)], state.subarray(positions));
    const truth = hopper.step(torque.subarray(row * actionSize, (row + 1) * actionSize));
    let sum = 0;
    for (let d = 0; d < width; d++) {
      sum += ((guess[row * width + d] - truth.obs[d]) / scale[d]) ** 2;
    }
    error[row] = Math.sqrt(sum / width);
  }
  return error;
}

/**
 * Ranks the penalties, best first.
 *
 * @param resamples - draws of as many starts with replacement, for the interval
 */
export function rank(
  { start, step, error, scores }: JudgedTransitions,
  phases: readonly Phase[],
  { resamples, seed }: { resamples: number; seed: number },
): Ranking[] {
  const horizons = phases.map(({ from, to }) => [from, to] as const);
  const options = { seed, resamples, startIndex: start, stepIndex: step, horizons };
  const rankings = [...scores].map(([name, score]): Ranking => {
    const { spearman, low, high, byHorizon } = uncertaintyErrorCorrelation(score, error, options);
    return { name, all: spearman, interval: [low, high], phases: [...(byHorizon?.spearman ?? [])] };
  });
  return rankings.sort((a, b) => b.all - a.all);
}
