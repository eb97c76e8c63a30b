import { quantileOf } from '../dynamics/quantile.js';
import { describe, type NdView, nd, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import {
  expectShape,
  type FloatView,
  flagMatrix,
  floats,
  type Scale,
  scaleOf,
} from './arguments.js';
import { squaredErrors } from './open-loop.js';
import { type TerminationReport, terminationReport } from './termination-report.js';

/**
 * Sequences of states in departure alignment: `reward[b, t]` and `terminated[b, t]` belong to the step
 * from `obs[b, t]` to `obs[b, t + 1]`. A `Trajectory` is one: of its rewards those without the penalty count.
 */
export interface StateSequences {
  /** States, float32 or float64 `[B, T+1, S]`. */
  readonly obs: FloatView;
  /** Rewards, float32 or float64 `[B, T]`. */
  readonly reward?: FloatView;
  /** Rewards before a penalty, float32 or float64 `[B, T]`; where they are there, `reward` is not read. */
  readonly rawReward?: FloatView;
  /** 1 where the episode ended in `obs[b, t + 1]`, uint8 `[B, T]`. */
  readonly terminated?: NdView<Uint8Array>;
  /** 1 for steps that happened, uint8 `[B, T]`; by default all did. */
  readonly mask?: NdView<Uint8Array>;
}

/** What {@link openLoopReport} counts, and in which unit. */
export interface OpenLoopReportOptions {
  /** `[S]`: what an error of 1 is in each dimension, see `OpenLoopOptions`. */
  readonly scale?: Scale;
  /**
   * What a single step predicts from the true state before it: `oneStep[b, h]` from `actual.obs[b, h - 1]`;
   * float32 or float64 `[B, T+1, S]`, of which index 0 is not read.
   */
  readonly oneStep?: FloatView;
}

/** Error of states at each of `T` horizons, horizon `h` at index `h - 1`. */
export interface StatesByHorizon {
  /** `[T]`: 1 to `T`. */
  readonly horizon: Int32Array;
  /** `[T]`: rows that count: those that take the step in both sequences. */
  readonly count: Int32Array;
  /** `[T]`: rows that take the step in truth and not in imagination, which do not count. */
  readonly lost: Int32Array;
  /** `[T]`: mean over rows of `||(imagined - actual) / scale||^2 / S`. */
  readonly mse: Float64Array;
  /** `[T]`: its root. */
  readonly rmse: Float64Array;
  /** `[T]`: median over rows of each row's own root mean square. */
  readonly median: Float64Array;
  /** `[T]`: their 90 % quantile. */
  readonly p90: Float64Array;
  /** `[T]`: root mean square error of holding the first state, over the same rows. */
  readonly persistence: Float64Array;
  /**
   * `[T]`: `1 - mse / persistence^2`: 1 is perfect, 0 no better than holding the state. Where the truth
   * never moves holding is perfect: minus infinity, or NaN for a dream that does not move either.
   */
  readonly skill: Float64Array;
  /** `[T]`: root mean square error of `oneStep`; absent without it. */
  readonly oneStep?: Float64Array;
}

/** Error of rewards by horizon. */
export interface RewardByHorizon {
  /** `[T]`: 1 to `T`. */
  readonly horizon: Int32Array;
  /** `[T]`: rows that count: those that take the step in both sequences. */
  readonly count: Int32Array;
  /** `[T]`: mean of imagined less actual reward; above 0 the dream is too good. */
  readonly bias: Float64Array;
  /** `[T]`: root mean square of the difference. */
  readonly rmse: Float64Array;
  /** `[T]`: mean over the rows that count of imagined less actual sum of rewards up to there. */
  readonly returnBias: Float64Array;
}

/** Imagined sequences beside the true ones. */
export interface OpenLoopReport {
  /** Error of states. */
  readonly states: StatesByHorizon;
  /** Error of rewards; absent unless both sequences have them. */
  readonly reward?: RewardByHorizon;
  /** How well ends are foreseen; absent unless both sequences have them. */
  readonly termination?: TerminationReport;
  /** `[B, T]` float32: root mean square error of each row alone; NaN where the step does not count. */
  readonly perRow: NdView<Float32Array>;
  /**
   * `[B, T]` uint8: 1 where the step counts, because both sequences took it; the mask of whatever is asked
   * of `perRow`, such as {@link uncertaintyErrorCorrelation}.
   */
  readonly mask: NdView<Uint8Array>;
}

/**
 * The k-step open-loop evaluation of a model: error of imagined states, rewards and ends by horizon, with
 * baselines.
 *
 * A step counts where both sequences took it. So later horizons can rest on fewer rows, and on the easier
 * ones when a dream ends early: read errors together with `count` and `lost`. Where `imagined` comes from
 * `imagineRecorded` a dream does not stop at the ends it foresees, and only what is not finite is lost.
 *
 * @param imagined - what the model made of the same starts and actions
 * @param actual - what happened
 * @param options - `scale` `[S]`, such as the standard deviations of the data; `oneStep` `[B, T+1, S]`
 * @returns plain data; `reportTable` prints it
 * @throws `ShapeError` when shapes do not fit together
 * @throws RangeError when a scale is not positive, or a number that counts is not finite
 * @throws TypeError when an argument is of another kind
 *
 * Source: the standardised k-step error with persistence as its baseline is the common practice of
 * forecast verification (Murphy 1988, "Skill scores based on the mean square error and their
 * relationships to the correlation coefficient").
 */
export function openLoopReport(
  imagined: StateSequences,
  actual: StateSequences,
  options: OpenLoopReportOptions = {},
): OpenLoopReport {
  const what = 'openLoopReport';
  expectOptions(what, options, ['scale', 'oneStep']);
  for (const [name, given] of Object.entries({ imagined, actual })) {
    if (typeof given !== 'object' || given === null || !('obs' in given)) {
      throw new TypeError(`${what}: ${name} must be sequences { obs }, got ${describe(given)}`);
    }
  }
  floats(what, 'imagined.obs', imagined.obs);
  const truth = floats(what, 'actual.obs', actual.obs);
  const { shape } = imagined.obs;
  const [rows, points, dims] = shape;
  if (shape.length !== 3 || points < 1 || dims < 1) {
    throw new ShapeError(
      `${what}: imagined.obs must have shape [B, T+1, S] with S at least 1, got [${shape}]`,
    );
  }
  expectShape(what, 'actual.obs', actual.obs, '[B, T+1, S]', shape);
  const horizon = points - 1;
  const grid = [rows, horizon];
  const scale = scaleOf(what, options.scale, dims);
  const dreamt = flagMatrix(what, 'imagined.mask', imagined.mask, grid);
  const happened = flagMatrix(what, 'actual.mask', actual.mask, grid);
  const both = new Uint8Array(rows * horizon);
  const lost = new Int32Array(horizon);
  for (let cell = 0; cell < both.length; cell++) {
    if (happened !== null && happened[cell] === 0) continue;
    if (dreamt !== null && dreamt[cell] === 0) lost[cell % horizon]++;
    else both[cell] = 1;
  }
  const mask = nd(both, grid);

  const against = (name: string, states: FloatView) =>
    squaredErrors(what, { imagined: name, actual: 'actual.obs' }, states, actual.obs, {
      mask,
      scale,
    });
  const { mse, perRow, count } = against('imagined.obs', imagined.obs);
  const held = against('actual.obs', holdFirst(truth, rows, points, dims)).mse;
  const quantile = (share: number): Float64Array =>
    mse.map((_, step) => {
      const own: number[] = [];
      for (let cell = step; cell < both.length; cell += horizon) {
        if (both[cell] === 1) own.push(perRow[cell]);
      }
      return own.length === 0 ? Number.NaN : quantileOf(Float64Array.from(own), share);
    });
  const steps = Int32Array.from({ length: horizon }, (_, step) => step + 1);
  const { oneStep } = options;
  const rewards = { imagined: rewardOf(imagined), actual: rewardOf(actual) };
  return {
    states: {
      horizon: steps,
      count,
      lost,
      mse,
      rmse: mse.map(Math.sqrt),
      median: quantile(0.5),
      p90: quantile(0.9),
      persistence: held.map(Math.sqrt),
      skill: mse.map((value, step) => 1 - value / held[step]),
      ...(oneStep && { oneStep: against('oneStep', oneStep).mse.map(Math.sqrt) }),
    },
    ...(rewards.imagined &&
      rewards.actual && {
        reward: rewardErrors(rewards.imagined, rewards.actual, both, steps, rows),
      }),
    ...(imagined.terminated &&
      actual.terminated && {
        termination: terminationReport(imagined.terminated, actual.terminated, { mask }),
      }),
    perRow: nd(Float32Array.from(perRow), grid),
    mask,
  };
}

/** The rewards of sequences, without a penalty where that is known. */
export function rewardOf({
  reward,
  rawReward,
}: Pick<StateSequences, 'reward' | 'rawReward'>): FloatView | undefined {
  return rawReward ?? reward;
}

/** `[B, T+1, S]`: the first state of each row at every point. */
function holdFirst(
  states: ArrayLike<number>,
  rows: number,
  points: number,
  dims: number,
): NdView<Float64Array> {
  const held = new Float64Array(rows * points * dims);
  for (let row = 0, to = 0; row < rows; row++) {
    const first = row * points * dims;
    for (let point = 0; point < points; point++) {
      for (let dim = 0; dim < dims; dim++) held[to++] = states[first + dim];
    }
  }
  return nd(held, [rows, points, dims]);
}

function rewardErrors(
  imagined: FloatView,
  actual: FloatView,
  counts: Uint8Array,
  steps: Int32Array,
  rows: number,
): RewardByHorizon {
  const what = 'openLoopReport';
  const horizon = steps.length;
  const guess = floats(what, 'imagined.reward', imagined);
  const truth = floats(what, 'actual.reward', actual);
  expectShape(what, 'imagined.reward', imagined, '[B, T]', [rows, horizon]);
  expectShape(what, 'actual.reward', actual, '[B, T]', [rows, horizon]);
  const count = new Int32Array(horizon);
  const bias = new Float64Array(horizon);
  const rmse = new Float64Array(horizon);
  const returnBias = new Float64Array(horizon);
  for (let row = 0, cell = 0; row < rows; row++) {
    let sum = 0;
    for (let step = 0; step < horizon; step++, cell++) {
      if (counts[cell] === 0) continue;
      const error = guess[cell] - truth[cell];
      if (!Number.isFinite(error)) {
        throw new RangeError(
          `${what}: every reward that counts must be finite, ` +
            `got another at row ${row}, horizon ${step + 1}; leave it out by the mask`,
        );
      }
      sum += error;
      count[step]++;
      bias[step] += error;
      rmse[step] += error * error;
      returnBias[step] += sum;
    }
  }
  for (let step = 0; step < horizon; step++) {
    bias[step] /= count[step];
    rmse[step] = Math.sqrt(rmse[step] / count[step]);
    returnBias[step] /= count[step];
  }
  return { horizon: steps, count, bias, rmse, returnBias };
}
