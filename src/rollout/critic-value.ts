import {
  type CriticReductionOptions,
  type Critics,
  criticValues,
  reduceCritics,
} from '../dynamics/critic-ensemble.js';
import { type NextAction, type NextActor, nextActionOf } from '../dynamics/next-action.js';
import { isNd, type NdView, zeros } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import type { ValueFunction } from './value.js';

/** Whose value a state has; and how the critics' values become one, see {@link CriticReductionOptions}. */
export interface CriticValueOptions extends Omit<CriticReductionOptions, 'noise'> {
  /** Values of observations and actions, `[B, N]` in all. */
  critics: Critics;
  /**
   * Acts in the states that are valued, as a function or as the `act` of an object. One that remembers
   * something is asked as at the start of an episode.
   */
  policy: NextAction | NextActor;
}

/**
 * What states are worth by an ensemble of critics: the values of the action that a policy takes there,
 * reduced to one.
 *
 * Planning in TD-MPC2 takes `reduce: 'random-2-mean'` with `pair: 'call'`, and samples its policy. Noise is
 * that of the rows: of the policy in its own stream, of random reductions in `Stream.critic`.
 *
 * @returns a function for `modelObjective`'s `value` and wherever else a {@link ValueFunction} is read
 * @throws TypeError or RangeError when an option is not what it must be; the function throws
 *   `EnsembleTooSmallError` where the reduction needs more critics
 *
 * @example
 * ```ts @import.meta.vitest
 * const { criticValue } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const { RowNoise, Stream } = await import('umwelt/sampling');
 * const value = criticValue({
 *   // Two critics of one action: 10 a and 20 a.
 *   critics: ({ action }) => nd([...action.data].map((a) => [10 * a, 20 * a])),
 *   policy: (obs) => nd(obs.data.map((x) => 2 * x), obs.shape),
 *   reduce: 'mean',
 * });
 * const trajectory = Uint32Array.of(0);
 * const noise = new RowNoise(0, Stream.policy, 0, trajectory);
 * expect(await value(nd([[3]]), { step: 0, trajectory, noise })).toEqual(Float32Array.of(90));
 * ```
 */
export function criticValue(options: CriticValueOptions): ValueFunction {
  expectOptions('criticValue', options, OPTIONS);
  const { critics, policy, ...reduction } = options;
  const act = nextActionOf('criticValue', policy);
  // On no rows: options that are wrong are refused now.
  reduceCritics(zeros([0, 0]), reduction);
  return async (obs, { step, trajectory, noise }) => {
    if (obs.shape[0] === 0) return new Float32Array(0);
    const answer = await act(obs, { step, trajectory, noise });
    const action = isNd(answer) ? (answer as NdView) : answer?.action;
    return reduceCritics(await criticValues(critics, { obs, action }), { ...reduction, noise });
  };
}

const OPTIONS = ['critics', 'policy', 'reduce', 'beta', 'weights', 'ddof', 'pair'];
