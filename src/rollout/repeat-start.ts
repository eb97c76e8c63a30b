/** Imagined futures that begin in the same place: each start of a plan several times over. */

import type { ModelContext, WorldModel } from '../dynamics/contract.js';
import { describe, expectMatrix, gatherRows, isNd, type NdView } from '../nd.js';

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
  const rows = Int32Array.from(context.trajectory, (_, row) => Math.floor(row / copies));
  if (isNd(start)) {
    const one = expectMatrix(`${what}: start`, start, null, model.obsSize);
    const obs = gatherRows(one, rows);
    return { state: await model.initial(obs, context), obs };
  }
  const seen: unknown = (start as { obs?: unknown } | null | undefined)?.obs;
  if (!isNd(seen)) {
    throw new TypeError(
      `${what}: start must be a view [B, S] or a state with its observations as obs, got ${describe(start)}`,
    );
  }
  const one = expectMatrix(`${what}: start.obs`, seen, null, model.obsSize);
  return { state: await model.gather(start as State, rows), obs: gatherRows(one, rows) };
}

/** Ids of the copies, `[B * copies]`: different ones for all copies of all starts. */
export function copyIds(trajectory: Uint32Array, copies: number): Uint32Array {
  const ids = new Uint32Array(trajectory.length * copies);
  for (let row = 0; row < ids.length; row++) {
    ids[row] = Math.imul(trajectory[Math.floor(row / copies)], copies) + (row % copies);
  }
  return ids;
}
