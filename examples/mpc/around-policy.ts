import { type NdView, nd, packed } from 'umwelt';
import type { EnsembleDynamics, EnsembleState, WorldModel } from 'umwelt/dynamics';
import type { NetworkPolicy, PolicyContext } from 'umwelt/rollout';

/**
 * What the policy would do and something on top, within [-1, 1]: `extra` is `[B, A]`.
 */
export async function addToPolicy(
  policy: NetworkPolicy,
  obs: NdView,
  extra: NdView,
  context: PolicyContext,
): Promise<NdView> {
  const { action } = await policy.act(obs, context);
  const own = packed(action);
  const more = packed(extra);
  return nd(
    own.map((x, i) => Math.min(Math.max(x + more[i], -1), 1)),
    extra.shape,
  );
}

/**
 * The ensemble with the policy in it: its actions are what is added to the policy's. A plan of zeros is
 * then the policy itself, which knows how to hop, and a planner looks for something better nearby.
 *
 * Particle `p` of a sequence keeps elite `p`, so that each elite has a say in each value.
 *
 * @param model - with propagation `fixed-model`
 * @param policy - deterministic
 */
export function aroundPolicy(
  model: EnsembleDynamics,
  policy: NetworkPolicy,
): WorldModel<EnsembleState> {
  const { elites } = model;
  return {
    obsSize: model.obsSize,
    actionSize: model.actionSize,
    initial: (obs) => ({
      obs,
      member: Int32Array.from({ length: obs.shape[0] }, (_, row) => elites[row % elites.length]),
    }),
    async step(state, extra, context) {
      const action = await addToPolicy(policy, state.obs, extra, context);
      return model.step(state, action, context);
    },
    gather: (state, rows) => model.gather(state, rows),
  };
}
