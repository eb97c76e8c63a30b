/** Action repeat: a policy that decides less often than the model steps. */

import { describe, isNd, type NdView, nd, packed } from '../nd.js';
import { expectCount } from '../runtime/row-chunks.js';
import { type AnyPolicy, type Policy, type PolicyState, policyOf } from './policy.js';

/** What the wrapper remembers: the action that is held, and the memory of the policy that chose it. */
type Held = {
  readonly heldAction: NdView;
  /** Zeros `[B]`, where the policy gives log-densities. */
  readonly heldLogProb: Float32Array | undefined;
  readonly chooser: PolicyState;
};

/**
 * A policy that is asked at every `n`-th time step, and whose action is held in between.
 *
 * It counts the time steps of the rollout, so that one that goes on from a carry asks where the unbroken
 * one would have. Where there is nothing to hold yet, such as after a carry of the policy alone, it asks too.
 *
 * @param policy - asked where `step % n` is 0; its memory changes only there
 * @param n - steps an action lasts, at least 1
 * @returns the policy; the `logProb` of a held step is 0, for given the past its action is certain
 * @throws TypeError when `policy` is none; RangeError when `n` is not a count
 *
 * @example
 * ```ts @import.meta.vitest
 * const { holdActions, imagine } = await import('umwelt/rollout');
 * const { ClosedFormDynamics } = await import('umwelt/dynamics');
 * const { nd } = await import('umwelt');
 * const model = new ClosedFormDynamics({
 *   obsSize: 1,
 *   actionSize: 1,
 *   next: ({ obs, action, nextObs }) => nextObs.data.set(obs.data.map((x, i) => x + action.data[i])),
 *   reward: ({ nextObs }) => nextObs.data.slice(),
 * });
 * const half = holdActions((obs) => nd(obs.data.map((x) => x / 2), obs.shape), 2);
 * const dream = await imagine(model, half, { start: nd([[4]]), horizon: 4, seed: 0 }).collect();
 * expect([...dream.action.data]).toEqual([2, 2, 4, 4]);
 * ```
 */
export function holdActions(policy: AnyPolicy, n: number): Policy<PolicyState> {
  const choose = policyOf('holdActions', policy);
  expectCount('holdActions: n', n);
  return async (obs, context) => {
    const held = heldOf(context.state);
    if (held !== undefined && context.step % n !== 0) {
      const { heldAction, heldLogProb } = held;
      return {
        action: heldAction,
        state: held,
        ...(heldLogProb && { logProb: heldLogProb }),
      };
    }
    const state = held === undefined ? context.state : held.chooser;
    const answer = await choose(obs, { ...context, state });
    const result = isNd(answer) ? { action: answer as NdView } : answer;
    if (!isNd(result?.action)) {
      throw new TypeError(
        `holdActions: the action must be a view [B, A], got ${describe(result)}; make one with nd()`,
      );
    }
    const { action, logProb, state: chooser } = result;
    const next: Held = {
      // A copy, for a policy may write its next answer into the same memory.
      heldAction: nd(packed(action).slice(), action.shape),
      heldLogProb: logProb && new Float32Array(logProb.length),
      chooser,
    };
    return { action: next.heldAction, state: next, ...(logProb && { logProb }) };
  };
}

/** What was held, where a memory is this wrapper's own. */
function heldOf(state: PolicyState): Held | undefined {
  const ours = typeof state === 'object' && state !== null && 'heldAction' in state;
  return ours ? (state as Held) : undefined;
}
