import type { WorldModel } from '../dynamics/contract.js';
import type { ImagineOptions } from './imagine-options.js';
import type { AnyPolicy } from './policy.js';
import { Rollout } from './rollout.js';

/**
 * Imagines trajectories: the policy acts, the model answers, for `horizon` steps or until every row has
 * ended.
 *
 * Nothing runs before the result is read. Noise is keyed by (seed, trajectory, step), so a row's future
 * does not depend on the rows around it.
 *
 * @param model - any {@link WorldModel}
 * @param policy - a function, or an object with one as `act`, such as a `NetworkPolicy`
 * @returns the rollout, to be iterated step by step or collected whole
 * @throws TypeError or {@link ShapeError} when the start or another option does not fit the model
 *
 * @example
 * ```ts @import.meta.vitest
 * const { imagine } = await import('umwelt/rollout');
 * const { gatherRows, nd } = await import('umwelt');
 * // A point that moves by its action and is paid for being near 0.
 * const model = {
 *   obsSize: 1,
 *   actionSize: 1,
 *   initial: (obs) => obs,
 *   step(x, action) {
 *     const next = nd(x.data.map((v, i) => v + action.data[i]), x.shape);
 *     return { state: next, obs: next, reward: next.data.map((v) => -Math.abs(v)) };
 *   },
 *   gather: gatherRows,
 * };
 * const policy = (obs) => nd(obs.data.map((x) => -0.5 * x), obs.shape);
 * const options = { start: nd([[8], [4]]), horizon: 3, seed: 0 };
 * const dream = await imagine(model, policy, options).collect();
 * expect([...dream.obs.data]).toEqual([8, 4, 2, 1, 4, 2, 1, 0.5]);
 * ```
 */
export function imagine<State>(
  model: WorldModel<State>,
  policy: AnyPolicy,
  options: ImagineOptions<State>,
): Rollout<State> {
  return new Rollout(model, policy, options);
}
