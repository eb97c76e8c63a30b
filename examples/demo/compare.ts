/** The true simulator beside a dream: what really follows from the actions that the dream took. */

import { type NdView, nd, type Trajectory, type TypedArray } from 'umwelt';
import { type OpenLoopError, openLoopError, spearman } from 'umwelt/evaluation';
import type { Hopper } from '../hopper/simulator.js';
import type { Start } from '../hopper/starts.js';

/** What the simulator did with a dream's starts and actions; `B` rows, `T` steps. */
export interface Reality {
  /** Observations, float64 `[B, T + 1, S]`; 0 past a row's end. */
  readonly obs: NdView<Float64Array>;
  /** Rewards, float64 `[B, T]`; 0 past a row's end. */
  readonly reward: NdView<Float64Array>;
  /**
   * 1 for each step that both the dream and the simulator took, uint8 `[B, T]`: neither had ended
   * before it. The step that ends either of them is their last common one.
   */
  readonly mask: NdView<Uint8Array>;
  /** Rows in which the simulated hopper fell at a step that the dream survived. */
  readonly fellUnseen: number;
  /** Rows in which the dream ended in a fall that the simulated hopper did not have. */
  readonly onlyDreamt: number;
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
  /** Spearman correlation over rows of each dream's uncertainty with the error, at this step. */
  readonly rankCorrelation: readonly number[];
}

/** A dream beside the truth. */
export interface Comparison {
  readonly reality: Reality;
  readonly error: OpenLoopError;
  readonly lines: readonly HorizonLine[];
}

/** Steps the simulator from the dream's starts through the dream's actions. */
export function simulate(hopper: Hopper, starts: readonly Start[], dream: Trajectory): Reality {
  const [rows, points, obsSize] = dream.obs.shape;
  const [, horizon, actionSize] = dream.action.shape;
  const obs = new Float64Array(rows * points * obsSize);
  const reward = new Float64Array(rows * horizon);
  const mask = new Uint8Array(rows * horizon);
  let fellUnseen = 0;
  let onlyDreamt = 0;
  for (let row = 0; row < rows; row++) {
    const { qpos, qvel } = starts[row];
    obs.set(hopper.reset(qpos, qvel), row * points * obsSize);
    let fell = false;
    let step = 0;
    for (; step < dream.length[row] && !fell; step++) {
      const at = row * horizon + step;
      const action = dream.action.data.subarray(at * actionSize, (at + 1) * actionSize);
      const result = hopper.step(action);
      obs.set(result.obs, (row * points + step + 1) * obsSize);
      reward[at] = result.reward;
      mask[at] = 1;
      fell = result.terminated;
    }
    const dreamt = step > 0 && dream.terminated.data[row * horizon + step - 1] === 1;
    if (fell && !dreamt) fellUnseen++;
    if (dreamt && !fell) onlyDreamt++;
  }
  return {
    obs: nd(obs, [rows, points, obsSize]),
    reward: nd(reward, [rows, horizon]),
    mask: nd(mask, [rows, horizon]),
    fellUnseen,
    onlyDreamt,
  };
}

/**
 * Sets a dream beside the truth, step by step.
 *
 * Returns and penalties add up over the steps that both took; a row that ended keeps what it had. Error
 * and rank correlation are over the rows that take the step in both.
 *
 * @param dreams - the same dream, once for each uncertainty score; returns and error are the first's
 * @param scale - what an error of 1 is in each observation, `[S]`
 */
export function compare(
  dreams: readonly Trajectory[],
  reality: Reality,
  scale: ArrayLike<number>,
): Comparison {
  const [dream] = dreams;
  const { mask } = reality;
  const error = openLoopError(dream.obs, reality.obs, { mask, scale: Float64Array.from(scale) });
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
    const errorAtStep = column(error.perRow, step);
    const taken = column(mask, step);
    lines.push({
      horizon: step + 1,
      rows: error.count[step],
      imaginedReturn,
      penalty,
      trueReturn,
      error: error.rmse[step],
      rankCorrelation: dreams.map(({ uncertainty }) =>
        spearman(column(uncertainty, step), errorAtStep, { mask: taken }),
      ),
    });
  }
  return { reality, error, lines };
}

/** Column `step` of a `[B, T]` view, `[B]`: a view of the same memory. */
export function column<T extends TypedArray>(view: NdView<T>, step: number): NdView<T> {
  const { data, shape, stride, offset } = view;
  return { data, shape: [shape[0]], stride: [stride[0]], offset: offset + step * stride[1] };
}
