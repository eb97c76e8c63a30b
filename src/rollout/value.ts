/** What a state is worth, for returns that stop before the episode does. */

import type { Awaitable } from '../dynamics/contract.js';
import { expectPerRow } from '../dynamics/per-row.js';
import type { NdView } from '../nd.js';
import type { RowNoise } from '../sampling/row-noise.js';

/** What a value function is told about the rows of one call. */
export interface ValueContext {
  /** Time step at which the observations are met. */
  readonly step: number;
  /** Trajectory id of each row, `[B]`. */
  readonly trajectory: Uint32Array;
  /** Noise of these rows, in the policy's own stream: for values of what a policy would do there. */
  readonly noise: RowNoise;
}

/**
 * The return to expect from observations on, `[B]`, in reward units; `obs` is float32 `[B, S]` and
 * row-major from offset 0.
 */
export type ValueFunction = (obs: NdView, context: ValueContext) => Awaitable<Float32Array>;

/**
 * Asks a value function and checks its answer.
 *
 * @param what - the name used in messages
 * @throws TypeError or `ShapeError` when the answer is not one value a row
 */
export async function valuesOf(
  what: string,
  value: ValueFunction,
  obs: NdView,
  context: ValueContext,
): Promise<Float32Array> {
  const values = await value(obs, context);
  expectPerRow(`${what}: the value function's answer`, values, Float32Array, obs.shape[0]);
  return values;
}
