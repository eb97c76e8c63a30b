import type { StepResult } from '../dynamics/contract.js';
import { eitherFlag } from '../dynamics/per-row.js';
import { isFiniteRow } from '../dynamics/termination-rules.js';
import { gatherRows, type NdView, nd, packed, type TypedArray } from '../nd.js';
import type { PolicyResult } from './policy.js';
import type { RolloutStep } from './step.js';

/** What decides the outcome of a step, for all rows of the call. */
export interface StepFacts {
  /** Step within the rollout, and whether the horizon cuts after it. */
  step: number;
  last: boolean;
  /** Rows of the start and their ids. */
  row: Int32Array;
  trajectory: Uint32Array;
  /** 1 for rows that had not ended before. */
  live: Uint8Array;
  obs: NdView;
  chosen: PolicyResult;
  nextObs: NdView;
  result: StepResult<unknown>;
  /** Ends by the model and by the caller. */
  terminated: Uint8Array;
  /** What is recorded as uncertainty. */
  uncertainty: Float32Array;
  /** The penalty's coefficient, 0 without one, and its score. */
  coefficient: number;
  charged: Float32Array;
  /** Values of the observations before and after; undefined without a value function. */
  values: { value: Float32Array; nextValue: Float32Array } | undefined;
  /** Further scores and extras to record; undefined when none was asked for. */
  scores: Readonly<Record<string, Float32Array>> | undefined;
  extras: Readonly<Record<string, NdView<TypedArray>>> | undefined;
  /** Rows stopped for their uncertainty, what that costs, and whether it counts as an end. */
  halt: { rows: Uint8Array; penalty: number; terminates: boolean } | undefined;
  /** What to do with rows whose result is not finite. */
  policy: NonFinitePolicy;
}

/** What becomes of a row whose result is not finite. */
export type NonFinitePolicy = 'end' | 'throw' | 'keep';

/** A result was not finite where that was not allowed. */
export class NonFiniteError extends RangeError {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'NonFiniteError';
  /** Row of the start. */
  readonly row: number;
  /** Step within the rollout, from 0; -1 for the start itself. */
  readonly step: number;

  /** @internal */
  constructor(row: number, step: number) {
    const what = step < 0 ? 'the start' : `the result of step ${step}`;
    super(
      `imagine: ${what} must be finite in every row, got a number that is not in row ${row}; ` +
        "leave nonFinite at 'end' to end such rows",
    );
    this.row = row;
    this.step = step;
  }
}

/**
 * Sorts out a step: which rows took it, which were dropped because a result was not finite, and which
 * can go on.
 *
 * @returns the step as the reader sees it, with arrays of its own; a flag for each row that goes on; and
 *   the number of rows whose result was not finite
 * @throws {@link NonFiniteError} for such a row, where the policy is `throw`
 */
export function settle(facts: StepFacts): {
  step: RolloutStep;
  live: Uint8Array;
  nonFinite: number;
} {
  const { charged, chosen, coefficient, extras, halt, last, obs, result, row } = facts;
  const { scores, trajectory, uncertainty, values } = facts;
  const terminated =
    halt?.terminates === true ? eitherFlag(facts.terminated, halt.rows) : facts.terminated;
  const cut = halt?.terminates === false ? halt.rows : undefined;
  const size = row.length;
  const penalty = new Float32Array(size);
  const reward = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    // Without a coefficient the reward stays as it is, whatever the score.
    if (coefficient !== 0) penalty[i] = coefficient * charged[i];
    if (halt !== undefined && halt.rows[i] !== 0) {
      penalty[i] = (Number.isFinite(penalty[i]) ? penalty[i] : 0) + halt.penalty;
    }
    reward[i] = result.reward[i] - penalty[i];
  }

  const live = new Uint8Array(size);
  const takenRows = new Int32Array(size);
  const droppedRows = new Int32Array(size);
  let taken = 0;
  let dropped = 0;
  let nonFinite = 0;
  const nextObs = packed(facts.nextObs);
  const action = packed(chosen.action);
  const [, obsSize] = facts.nextObs.shape;
  const [, actionSize] = chosen.action.shape;
  for (let i = 0; i < size; i++) {
    if (facts.live[i] === 0) continue;
    const finite =
      Number.isFinite(reward[i]) &&
      (values === undefined || Number.isFinite(values.nextValue[i])) &&
      isFiniteRow(nextObs, i * obsSize, obsSize) &&
      isFiniteRow(action, i * actionSize, actionSize);
    if (!finite) {
      if (facts.policy === 'throw') throw new NonFiniteError(row[i], facts.step);
      nonFinite++;
    }
    if (finite || facts.policy === 'keep') {
      takenRows[taken++] = i;
      live[i] = terminated[i] === 0 && !cut?.[i] ? 1 : 0;
    } else droppedRows[dropped++] = i;
  }

  const rows = takenRows.subarray(0, taken);
  const flags = gatherRows(nd(terminated), rows).data;
  const truncated = new Uint8Array(taken);
  const discount = new Float32Array(taken);
  for (let i = 0; i < taken; i++) {
    truncated[i] = (last || cut?.[rows[i]]) && flags[i] === 0 ? 1 : 0;
    discount[i] = 1 - flags[i];
  }
  const member = result.prediction?.member ?? result.extras?.member;
  const take = (perRow: Float32Array) => gatherRows(nd(perRow), rows).data;
  return {
    live,
    nonFinite,
    step: {
      step: facts.step,
      row: gatherRows(nd(row), rows).data,
      trajectory: gatherRows(nd(trajectory), rows).data,
      obs: gatherRows(obs, rows),
      action: gatherRows(chosen.action, rows),
      nextObs: gatherRows(facts.nextObs, rows),
      reward: take(reward),
      rawReward: take(result.reward),
      uncertainty: take(uncertainty),
      penalty: take(penalty),
      terminated: flags,
      truncated,
      discount,
      member:
        member instanceof Int32Array
          ? gatherRows(nd(member), rows).data
          : new Int32Array(taken).fill(-1),
      ...(chosen.logProb && { logProb: take(chosen.logProb) }),
      ...(values && { value: take(values.value), nextValue: take(values.nextValue) }),
      ...(scores && { scores: mapValues(scores, take) }),
      ...(extras && { extras: mapValues(extras, (extra) => gatherRows(extra, rows)) }),
      dropped: gatherRows(nd(row), droppedRows.subarray(0, dropped)).data,
    },
  };
}

/** A record with each entry turned into another. */
export function mapValues<A, B>(
  record: Readonly<Record<string, A>>,
  turn: (value: A) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, turn(value)]));
}

/** The places of the nonzero flags, in order. */
export function rowsOf(flags: Uint8Array): Int32Array {
  const rows = new Int32Array(flags.length);
  let count = 0;
  for (let i = 0; i < flags.length; i++) if (flags[i] !== 0) rows[count++] = i;
  return rows.slice(0, count);
}
