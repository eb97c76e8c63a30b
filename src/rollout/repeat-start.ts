/** Imagined futures that begin in the same place: each start of a plan several times over. */

import type { ModelContext, WorldModel } from '../dynamics/contract.js';
import { describe, expectMatrix, gatherRows, isNd, type NdView } from '../nd.js';
import { shownBy } from './imagine-checks.js';

/**
 * The state of every start `copies` times, row `b * copies + k` being start `b`, and what is seen of it.
 *
 * @param what - the name used in messages
 * @param start - observations `[B, S]`, or a state with its observations as `obs`, which stays the caller's
 * @param context - of all `B * copies` rows
 * @returns a state that is the caller's to release
 * @throws TypeError or `ShapeError` when the start is neither
 */
export async function repeatStart<State>(
  what: string,
  model: WorldModel<State>,
  start: NdView | State,
  copies: number,
  context: ModelContext,
): Promise<{ state: State; obs: NdView }> {
  const seen = shownBy(start);
  if (seen === undefined) {
    throw new TypeError(
      `${what}: start must be a view [B, S] or a state with its observations as obs, got ${describe(start)}`,
    );
  }
  const starts = context.trajectory.length / copies;
  const rows = Int32Array.from(context.trajectory, (_, row) => Math.floor(row / copies));
  const name = isNd(start) ? 'start' : 'start.obs';
  const obs = gatherRows(expectMatrix(`${what}: ${name}`, seen, starts, model.obsSize), rows);
  const state = isNd(start)
    ? await model.initial(obs, context)
    : await model.gather(start as State, rows);
  return { state, obs };
}

/**
 * Ids of the copies, `[B * copies]`: different ones for all copies of all starts, as long as
 * `id * copies` stays below 2^32. Larger products are scattered over the ids there are.
 */
export function copyIds(trajectory: Uint32Array, copies: number): Uint32Array {
  const ids = new Uint32Array(trajectory.length * copies);
  for (let b = 0, row = 0; b < trajectory.length; b++) {
    const first = trajectory[b] * copies;
    const low = first >>> 0;
    const high = Math.imul(Math.floor(first / 2 ** 32), SCATTER);
    for (let k = 0; k < copies; k++) ids[row++] = (low ^ high) + k;
  }
  return ids;
}

/** An odd number without a pattern, 2^32 over the golden ratio. */
const SCATTER = 0x9e3779b9;
