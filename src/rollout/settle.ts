import type { StepResult } from '../dynamics/contract.js';
import { gatherRows, type NdView, nd, packed } from '../nd.js';
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
  uncertainty: Float32Array;
  coefficient: number;
}

/**
 * Sorts out a step: which rows took it, which were dropped because a result was not finite, and which
 * can go on.
 *
 * @returns the step as the reader sees it, with arrays of its own, and a flag for each row that goes on
 */
export function settle(facts: StepFacts): { step: RolloutStep; live: Uint8Array } {
  const { chosen, coefficient, last, obs, result, row, terminated, trajectory, uncertainty } =
    facts;
  const size = row.length;
  const penalty = new Float32Array(size);
  const reward = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    penalty[i] = coefficient * uncertainty[i];
    reward[i] = result.reward[i] - penalty[i];
  }

  const live = new Uint8Array(size);
  const takenRows = new Int32Array(size);
  const droppedRows = new Int32Array(size);
  let taken = 0;
  let dropped = 0;
  const nextObs = packed(facts.nextObs);
  const action = packed(chosen.action);
  const [, obsSize] = facts.nextObs.shape;
  const [, actionSize] = chosen.action.shape;
  for (let i = 0; i < size; i++) {
    if (facts.live[i] === 0) continue;
    const finite =
      Number.isFinite(reward[i]) &&
      isFiniteRow(nextObs, i * obsSize, obsSize) &&
      isFiniteRow(action, i * actionSize, actionSize);
    if (finite) {
      takenRows[taken++] = i;
      live[i] = terminated[i] === 0 ? 1 : 0;
    } else droppedRows[dropped++] = i;
  }

  const rows = takenRows.subarray(0, taken);
  const flags = gatherRows(nd(terminated), rows).data;
  const truncated = new Uint8Array(taken);
  const discount = new Float32Array(taken);
  for (let i = 0; i < taken; i++) {
    truncated[i] = last && flags[i] === 0 ? 1 : 0;
    discount[i] = 1 - flags[i];
  }
  const member = result.prediction?.member ?? result.extras?.member;
  return {
    live,
    step: {
      step: facts.step,
      row: gatherRows(nd(row), rows).data,
      trajectory: gatherRows(nd(trajectory), rows).data,
      obs: gatherRows(obs, rows),
      action: gatherRows(chosen.action, rows),
      nextObs: gatherRows(facts.nextObs, rows),
      reward: gatherRows(nd(reward), rows).data,
      rawReward: gatherRows(nd(result.reward), rows).data,
      uncertainty: gatherRows(nd(uncertainty), rows).data,
      penalty: gatherRows(nd(penalty), rows).data,
      terminated: flags,
      truncated,
      discount,
      member:
        member instanceof Int32Array
          ? gatherRows(nd(member), rows).data
          : new Int32Array(taken).fill(-1),
      ...(chosen.logProb && { logProb: gatherRows(nd(chosen.logProb), rows).data }),
      dropped: gatherRows(nd(row), droppedRows.subarray(0, dropped)).data,
    },
  };
}

/** Whether `width` elements from `from` on are finite. */
export function isFiniteRow(data: Float32Array, from: number, width: number): boolean {
  for (let i = from; i < from + width; i++) if (!Number.isFinite(data[i])) return false;
  return true;
}

/** The places of the nonzero flags, in order. */
export function rowsOf(flags: Uint8Array): Int32Array {
  const rows = new Int32Array(flags.length);
  let count = 0;
  for (let i = 0; i < flags.length; i++) if (flags[i] !== 0) rows[count++] = i;
  return rows.slice(0, count);
}
