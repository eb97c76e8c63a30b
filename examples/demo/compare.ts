/** The true simulator beside a dream: what really follows from the actions that the dream took. */

import { type NdView, nd, type Trajectory } from 'umwelt';
import {
  type OpenLoopReport,
  openLoopReport,
  type Scale,
  type TerminationReport,
  terminationReport,
  uncertaintyErrorCorrelation,
} from 'umwelt/evaluation';
import type { Hopper } from '../hopper/simulator.js';
import type { Start } from '../hopper/starts.js';

/** What the simulator did with a dream's starts and actions; `B` rows, `T` steps. */
export interface Reality {
  /** Observations, float64 `[B, T + 1, S]`; 0 past a row's end. */
  readonly obs: NdView<Float64Array>;
  /** Rewards, float64 `[B, T]`; 0 past a row's end. */
  readonly reward: NdView<Float64Array>;
  /** 1 for the step in which the simulated hopper falls, uint8 `[B, T]`. */
  readonly terminated: NdView<Uint8Array>;
  /**
   * 1 for each step that both the dream and the simulator took, uint8 `[B, T]`: neither had ended
   * before it. The step that ends either of them is their last common one.
   */
  readonly mask: NdView<Uint8Array>;
}

/** One line of the table; means over rows. */
export interface HorizonLine {
  /** Steps from the start. */
  readonly horizon: number;
  /** Rows that take this step in the dream and in the simulator. */
  readonly rows: number;
  /** Reward so far, as dreamt, without penalty. */
  readonly imaginedReturn: number;
  /** Penalty so far. */
  readonly penalty: number;
  /** Reward so far in the simulator. */
  readonly trueReturn: number;
  /** Open-loop error of the observation, in standard deviations of the training data. */
  readonly error: number;
  /** The same error of holding the start. */
  readonly persistence: number;
  /** Spearman correlation over rows of each uncertainty with the error, at this step. */
  readonly rankCorrelation: readonly number[];
}

/** A dream beside the truth. */
export interface Comparison {
  readonly reality: Reality;
  readonly openLoop: OpenLoopReport;
  /** Whether the dream falls at the steps in which the simulated hopper does. */
  readonly falls: TerminationReport;
  readonly lines: readonly HorizonLine[];
}

/** Steps the simulator from the dream's starts through the dream's actions. */
export function simulate(hopper: Hopper, starts: readonly Start[], dream: Trajectory): Reality {
  const [rows, points, obsSize] = dream.obs.shape;
  const [, horizon, actionSize] = dream.action.shape;
  const obs = new Float64Array(rows * points * obsSize);
  const reward = new Float64Array(rows * horizon);
  const terminated = new Uint8Array(rows * horizon);
  const mask = new Uint8Array(rows * horizon);
  for (let row = 0; row < rows; row++) {
    const { qpos, qvel } = starts[row];
    obs.set(hopper.reset(qpos, qvel), row * points * obsSize);
    let fell = false;
    for (let step = 0; step < dream.length[row] && !fell; step++) {
      const at = row * horizon + step;
      const action = dream.action.data.subarray(at * actionSize, (at + 1) * actionSize);
      const result = hopper.step(action);
      obs.set(result.obs, (row * points + step + 1) * obsSize);
      reward[at] = result.reward;
      mask[at] = 1;
      fell = result.terminated;
      terminated[at] = fell ? 1 : 0;
    }
  }
  return {
    obs: nd(obs, [rows, points, obsSize]),
    reward: nd(reward, [rows, horizon]),
    terminated: nd(terminated, [rows, horizon]),
    mask: nd(mask, [rows, horizon]),
  };
}

/**
 * Sets a dream beside the truth, step by step.
 *
 * Returns and penalties add up over the steps that both took; a row that ended keeps what it had. Error
 * and rank correlation are over the rows that take the step in both.
 *
 * @param dream - with its scores
 * @param scale - what an error of 1 is in each observation, `[S]`
 */
export function compare(dream: Trajectory, reality: Reality, scale: Scale): Comparison {
  const { mask } = reality;
  const openLoop = openLoopReport({ obs: dream.obs }, reality, { scale });
  const { states, perRow } = openLoop;
  const falls = terminationReport(dream.terminated, reality.terminated, { mask });
  // No resamples: the table shows no intervals.
  const correlations = uncertaintiesOf(dream).map((uncertainty) =>
    uncertaintyErrorCorrelation(uncertainty, perRow, { mask, seed: 0, resamples: 0 }),
  );
  const [rows, horizon] = mask.shape;
  const lines: HorizonLine[] = [];
  let imaginedReturn = 0;
  let penalty = 0;
  let trueReturn = 0;
  for (let step = 0; step < horizon; step++) {
    for (let row = 0; row < rows; row++) {
      const at = row * horizon + step;
      if (mask.data[at] === 0) continue;
      imaginedReturn += dream.rawReward.data[at] / rows;
      penalty += dream.penalty.data[at] / rows;
      trueReturn += reality.reward.data[at] / rows;
    }
    lines.push({
      horizon: step + 1,
      rows: states.count[step],
      imaginedReturn,
      penalty,
      trueReturn,
      error: states.rmse[step],
      persistence: states.persistence[step],
      // Past the last step that any row takes there is none.
      rankCorrelation: correlations.map(({ byHorizon }) => byHorizon?.spearman[step] ?? Number.NaN),
    });
  }
  return { reality, openLoop, falls, lines };
}

/** The uncertainty of each step: the penalty's score first, then the others. */
export function uncertaintiesOf({ uncertainty, scores = {} }: Trajectory): readonly NdView[] {
  return [uncertainty, ...Object.values(scores)];
}
