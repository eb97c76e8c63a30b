/** What the caller's functions say of a step: ends, scores, values, and the extras that are recorded. */

import type { ModelContext, StepResult } from '../dynamics/contract.js';
import { eitherFlag, expectPerRow } from '../dynamics/per-row.js';
import { needs, scoreTransitions, type UncertaintyScore } from '../dynamics/score.js';
import {
  describe,
  expectExtent,
  expectMatrix,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import type { ImagineOptions } from './imagine-options.js';
import type { PolicyResult } from './policy.js';
import { valuesOf } from './value.js';

/** The options that matter once there is a start. */
export type StepOptions = Omit<ImagineOptions<unknown>, 'start'>;

/** What there is to judge; rows as in the call. */
export interface StepTaken {
  /** The model's state before. */
  state: unknown;
  obs: NdView;
  chosen: PolicyResult;
  result: StepResult<unknown>;
  /** What the model was told. */
  context: ModelContext;
}

/** What is said of it. Its arrays are nobody else's. */
export interface Judgement {
  nextObs: NdView;
  terminated: Uint8Array;
  /** The score that is recorded, and the one that is charged for. */
  uncertainty: Float32Array;
  charged: Float32Array;
  /** Rows that the detector stops; undefined without one. */
  halted: Uint8Array | undefined;
  scores: Record<string, Float32Array> | undefined;
  extras: Record<string, NdView<TypedArray>> | undefined;
  /** Values of `nextObs`; undefined without a value function. */
  nextValue: Float32Array | undefined;
}

/** Whether any score of a rollout reads the prediction. */
export function readsPrediction(options: StepOptions): boolean {
  const { halt, penalty, scores, uncertainty } = options;
  const asked = [
    halt?.detector.score,
    penalty?.score,
    uncertainty,
    ...(scores === undefined ? [] : Object.values(scores)),
  ];
  return asked.some((score) => score !== undefined && needs(score, 'prediction'));
}

/**
 * Checks a model's answer and asks the caller's functions about it, one after another; the signal may stop
 * before each.
 *
 * @throws TypeError or `ShapeError` when an answer is not as it must be
 */
export async function judge(
  options: StepOptions,
  { state, obs, chosen, result, context }: StepTaken,
): Promise<Judgement> {
  const { halt, penalty, record, scores, signal, terminate, value } = options;
  const { action, logProb } = chosen;
  const { noise, step, trajectory } = context;
  const [size, obsSize] = obs.shape;
  expectMatrix("imagine: the model's obs", result.obs, size, obsSize);
  expectPerRow("imagine: the model's reward", result.reward, Float32Array, size);
  // Copies, for a model may write its next answer into the same memory.
  const nextObs = nd(packed(result.obs).slice(), result.obs.shape);
  const transitions = { obs, action, nextObs };
  let terminated: Uint8Array = new Uint8Array(size);
  if (result.terminated !== undefined) {
    expectPerRow("imagine: the model's terminated", result.terminated, Uint8Array, size);
    terminated = result.terminated.slice();
  }
  const extras = record && recorded(record, result.extras, size);

  if (terminate !== undefined) {
    signal?.throwIfAborted();
    const ended = await terminate({ ...transitions, noise: noise.in(Stream.end) });
    expectPerRow("imagine: terminate's answer", ended, Uint8Array, size);
    terminated = eitherFlag(terminated, ended);
  }

  const scored = {
    ...transitions,
    reward: result.reward,
    step,
    trajectory,
    noise: noise.in(Stream.score),
    logProb,
    state,
    nextState: result.state,
  };
  const answers = new Map<UncertaintyScore, Float32Array>();
  const ask = async (score: UncertaintyScore): Promise<Float32Array> => {
    const known = answers.get(score);
    if (known !== undefined) return known;
    signal?.throwIfAborted();
    const answer = await scoreTransitions('imagine', score, result.prediction, scored);
    const kept = answer.slice();
    answers.set(score, kept);
    return kept;
  };
  let halted: Uint8Array | undefined;
  let doubt: Float32Array | undefined;
  if (halt !== undefined) {
    doubt = await ask(halt.detector.score);
    halted = halt.detector.unknown(doubt);
    expectPerRow("imagine: the detector's answer", halted, Uint8Array, size);
  }
  const charging = penalty && (penalty.score ?? options.uncertainty);
  const charged = charging && (await ask(charging));
  const uncertainty = options.uncertainty
    ? await ask(options.uncertainty)
    : (charged ?? doubt ?? new Float32Array(size));
  let named: Record<string, Float32Array> | undefined;
  if (scores !== undefined) {
    named = {};
    for (const [name, score] of Object.entries(scores)) named[name] = await ask(score);
  }

  let nextValue: Float32Array | undefined;
  if (value !== undefined) {
    signal?.throwIfAborted();
    nextValue = await valuesAt(value, nextObs, noise, step + 1, trajectory);
  }
  return {
    nextObs,
    terminated,
    uncertainty,
    charged: charged ?? uncertainty,
    halted,
    scores: named,
    extras,
    nextValue,
  };
}

/** The values of observations met at a time step, in an array of their own. */
export async function valuesAt(
  value: NonNullable<StepOptions['value']>,
  obs: NdView,
  { key }: Pick<RowNoise, 'key'>,
  step: number,
  trajectory: Uint32Array,
): Promise<Float32Array> {
  const noise = new RowNoise(key, Stream.policy, step, trajectory);
  return (await valuesOf('imagine', value, obs, { step, trajectory, noise })).slice();
}

/** The named extras of a model's answer, `[B, ...]`; they are read before the model answers again. */
function recorded(
  names: readonly string[],
  extras: StepResult<unknown>['extras'],
  rows: number,
): Record<string, NdView<TypedArray>> {
  const found: Record<string, NdView<TypedArray>> = {};
  for (const name of names) {
    const extra = extras?.[name];
    if (extra === undefined) {
      const given = Object.keys(extras ?? {});
      throw new TypeError(
        `imagine: record must name extras of the model's step, got '${name}'; ` +
          `it gives ${given.length === 0 ? 'none' : given.join(', ')}`,
      );
    }
    const view = isTypedArray(extra) ? nd(extra) : extra;
    if (!isNd(view)) {
      throw new TypeError(
        `imagine: the model's extras.${name} must be a typed array [B] or a view [B, ...] to be recorded, ` +
          `got ${describe(extra)}`,
      );
    }
    if (view.shape[0] !== rows) {
      throw new ShapeError(
        `imagine: the model's extras.${name} must have ${rows} rows, got shape [${view.shape}]`,
      );
    }
    expectExtent(`imagine: the model's extras.${name}`, view);
    found[name] = view;
  }
  return found;
}
