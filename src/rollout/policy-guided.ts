import type { TerminationFunction, WorldModel } from '../dynamics/contract.js';
import { describe, expectMatrix, gatherRows, isNd, type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import { foldIn, type Seed } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { Budget } from './budget.js';
import { Carry } from './carry.js';
import { imagine } from './imagine.js';
import { expectFunctions, expectTrajectoryIds, shownBy } from './imagine-checks.js';
import {
  type AnyPolicy,
  gatherPolicyState,
  type Policy,
  type PolicyContext,
  type PolicyResult,
  type PolicyState,
  policyOf,
} from './policy.js';
import { copyIds, repeatStart } from './repeat-start.js';
import { type ValueFunction, valuesOf } from './value.js';
import { expectDiscounted, type WeighedUncertainty } from './weighed-uncertainty.js';

/** How a policy's own proposals are weighed against each other. */
export interface PolicyGuidedOptions {
  /** Actions drawn from the policy for each start, `K`. Default 5. */
  candidates?: number;
  /** Steps that the policy is followed for after each of them, the first included, `H`. Default 5. */
  horizon?: number;
  /** Discount factor of the rewards, in [0, 1]. Default 0.97. */
  gamma?: number;
  /** Adds `weight * sum_t gamma^t u_t`. Default: uncertainty is not looked at. */
  uncertainty?: WeighedUncertainty;
  /** What the last state is worth; counts `gamma^H`, and nothing where the episode ended. Default 0. */
  value?: ValueFunction;
  /** Ends episodes, besides the model's own ends. */
  terminate?: TerminationFunction;
}

/** What is asked of a {@link PolicyGuidedPlanner}. */
export interface GuidedRequest<State> {
  /** Observations, float32 `[B, S]`, or a state of the model that shows them as `obs`. */
  start: NdView | State;
  /** Names the noise. */
  seed: Seed;
  /** Ids that key each start's noise, `[B]`. Default `0 .. B - 1`. */
  trajectory?: Uint32Array;
  /** Time step at which the action will be taken. Default 0. */
  step?: number;
  /** What the policy remembers of the starts. */
  policyState?: PolicyState;
  /**
   * No step is begun that, taking as long as the longest so far, would end later than this many
   * milliseconds after the plan began; the first always is. Default: all steps.
   */
  budgetMs?: number;
  /** Stops between network calls; the plan then throws the signal's reason. */
  signal?: AbortSignal;
}

/** What became of the candidates. */
export interface GuidedPlan {
  /** The first action of each start's best candidate, float32 `[B, A]`. */
  action: NdView;
  /** Which candidate that is, `[B]`. */
  chosen: Int32Array;
  /** `reward + weight * uncertainty`, float32 `[B, K]`; minus infinity where something was not finite. */
  value: NdView;
  /** Discounted rewards and what the last state is worth, float32 `[B, K]`. */
  reward: NdView;
  /** Discounted scores, float32 `[B, K]`; 0 when none was asked for. */
  uncertainty: NdView;
  /** Steps looked ahead; fewer than `horizon` when the budget or every episode ended before. */
  iterations: number;
  /** What the policy remembers after the chosen action. */
  policyState: PolicyState;
}

/**
 * Policy-guided planning with uncertainty over several steps: the policy proposes actions, the model shows
 * where following it leads, and the best beginning is taken.
 *
 * Wang et al., "COPlanner: Plan to Roll Out Conservatively but to Explore Optimistically for Model-Based RL"
 * (2024), and si0wang/COPlanner: weights of -2 in rollouts and 1 in the environment, with 5 candidates and 5
 * steps. Unlike there, nothing is counted after an episode's end.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { imagine, PolicyGuidedPlanner } = await import('umwelt/rollout');
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
 * const policy = (obs, { noise }) => noise.normal(1); // it knows nothing of the task
 * const guided = new PolicyGuidedPlanner(model, policy, { candidates: 256, horizon: 1 });
 * const { action } = await guided.plan({ start: nd([[1]]), seed: 0 });
 * expect(action.data[0]).toBeCloseTo(-1, 1);
 * await imagine(model, guided, { start: nd([[1]]), horizon: 3, seed: 0 }).collect(); // it is a policy too
 * ```
 */
export class PolicyGuidedPlanner<State = unknown> {
  readonly #model: WorldModel<State>;
  readonly #policy: Policy;
  readonly #options: PolicyGuidedOptions;
  readonly #candidates: number;
  readonly #horizon: number;

  /**
   * @param model - where candidates are followed
   * @param policy - proposes and follows
   * @throws TypeError or RangeError for options of another kind or outside their range
   */
  constructor(model: WorldModel<State>, policy: AnyPolicy, options: PolicyGuidedOptions = {}) {
    expectOptions('PolicyGuidedPlanner', options, OPTIONS);
    const { candidates = 5, horizon = 5, gamma = 0.97, uncertainty, value, terminate } = options;
    expectCount('PolicyGuidedPlanner: candidates', candidates);
    expectCount('PolicyGuidedPlanner: horizon', horizon);
    expectDiscounted('PolicyGuidedPlanner', gamma, uncertainty);
    expectFunctions('PolicyGuidedPlanner', { value, terminate });
    this.#model = model;
    this.#policy = policyOf('PolicyGuidedPlanner', policy);
    this.#options = options;
    this.#candidates = candidates;
    this.#horizon = horizon;
  }

  /**
   * Chooses among the policy's candidates.
   *
   * @throws TypeError or `ShapeError` when the request does not fit the model
   */
  async plan(request: GuidedRequest<State>): Promise<GuidedPlan> {
    expectOptions('PolicyGuidedPlanner.plan', request, REQUEST);
    const budget = new Budget('PolicyGuidedPlanner.plan', request.budgetMs);
    const { start, step = 0, policyState, signal } = request;
    const starts = shownBy(start)?.shape[0];
    if (starts === undefined) {
      throw new TypeError(
        `PolicyGuidedPlanner.plan: start must be a view [B, S] or a state with its observations as obs, got ${describe(start)}`,
      );
    }
    const own = request.trajectory ?? Uint32Array.from({ length: starts }, (_, b) => b);
    expectTrajectoryIds('PolicyGuidedPlanner.plan', own, starts);
    const count = this.#candidates;
    const copies = Int32Array.from({ length: starts * count }, (_, i) => Math.floor(i / count));
    const remembered = gatherPolicyState(policyState, copies);
    const futures: Futures = {
      reward: new Float64Array(copies.length),
      uncertainty: new Float64Array(copies.length),
      first: undefined,
      iterations: 0,
    };
    if (starts > 0) {
      const trajectory = copyIds(own, count);
      const key = foldIn(foldIn(request.seed, GUIDED), step);
      const context = {
        step,
        trajectory,
        noise: new RowNoise(key, Stream.model, step, trajectory),
      };
      const what = 'PolicyGuidedPlanner.plan';
      const { state, obs } = await repeatStart(what, this.#model, start, count, context);
      const row = Int32Array.from(copies, (_, i) => i);
      const fields = { state, obs, trajectory, row, policyState: remembered, step, key };
      const from = new Carry(fields, () => this.#model.release?.(state));
      try {
        expectFinite(obs);
        budget.begin();
        await this.#follow(from, futures, budget, signal);
      } finally {
        from.release();
      }
    }
    return this.#choose(starts, futures);
  }

  /** The planner as a policy, for rollouts; the rollout's seed names its noise. */
  async act(obs: NdView, context: PolicyContext): Promise<PolicyResult> {
    const { action, policyState } = await this.plan({
      start: obs,
      seed: context.noise.key,
      trajectory: context.trajectory,
      step: context.step,
      policyState: context.state,
    });
    return { action, ...(policyState !== undefined && { state: policyState }) };
  }

  /** Lets the policy act from every copy of every start, and adds up what comes of it. */
  async #follow(
    from: Carry<State>,
    futures: Futures,
    budget: Budget,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { gamma = 0.97, uncertainty, value, terminate } = this.#options;
    const { reward, uncertainty: doubt } = futures;
    const rollout = imagine(this.#model, this.#remembering(futures), {
      start: from,
      horizon: this.#horizon,
      ...(uncertainty && { uncertainty: uncertainty.score }),
      ...(terminate && { terminate }),
      ...(signal && { signal }),
    });
    let factor = 1;
    let doubtFactor = 1;
    let end: Carry<State> | undefined;
    try {
      for await (const taken of rollout) {
        for (let i = 0; i < taken.row.length; i++) {
          reward[taken.row[i]] += factor * taken.rawReward[i];
          doubt[taken.row[i]] += doubtFactor * taken.uncertainty[i];
        }
        for (const lost of taken.dropped) reward[lost] = Number.NaN;
        futures.iterations++;
        factor *= gamma;
        doubtFactor *= uncertainty?.gamma ?? gamma;
        budget.lap();
        if (!budget.allowsLap()) break;
      }
      end = rollout.carry;
      if (value === undefined || end.row.length === 0) return;
      signal?.throwIfAborted();
      const { key, row, step, trajectory } = end;
      const noise = new RowNoise(key, Stream.policy, step, trajectory);
      const context = { step, trajectory, noise };
      const worth = await valuesOf('PolicyGuidedPlanner', value, end.obs, context);
      for (let i = 0; i < worth.length; i++) reward[row[i]] += factor * worth[i];
    } finally {
      end ??= rollout.carry;
      end.release();
    }
  }

  /** The policy, whose first answer is kept: copies, for it may write its next into the same memory. */
  #remembering(futures: Futures): Policy {
    return async (obs, context) => {
      const answer = await this.#policy(obs, context);
      const result = isNd(answer) ? { action: answer as NdView } : answer;
      if (futures.first === undefined) {
        const [rows] = obs.shape;
        const what = 'PolicyGuidedPlanner: the action';
        expectMatrix(what, result?.action, rows, this.#model.actionSize);
        const all = Int32Array.from({ length: rows }, (_, row) => row);
        futures.first = {
          action: gatherRows(result.action, all),
          state: gatherPolicyState(result.state, all),
        };
      }
      return result;
    };
  }

  #choose(starts: number, { reward, uncertainty, first, iterations }: Futures): GuidedPlan {
    const count = this.#candidates;
    const weight = this.#options.uncertainty?.weight ?? 0;
    const values = new Float32Array(starts * count);
    const chosen = new Int32Array(starts);
    const best = new Int32Array(starts);
    for (let b = 0; b < starts; b++) {
      for (let k = 0; k < count; k++) {
        const i = b * count + k;
        const value = reward[i] + weight * uncertainty[i];
        values[i] = Number.isFinite(value) ? value : Number.NEGATIVE_INFINITY;
        if (values[i] > values[b * count + chosen[b]]) chosen[b] = k;
      }
      best[b] = b * count + chosen[b];
    }
    const shape = [starts, count];
    const none = nd(new Float32Array(0), [0, this.#model.actionSize]);
    return {
      action: first === undefined ? none : gatherRows(first.action, best),
      chosen,
      value: nd(values, shape),
      reward: nd(Float32Array.from(reward), shape),
      uncertainty: nd(Float32Array.from(uncertainty), shape),
      iterations,
      policyState: gatherPolicyState(first?.state, best),
    };
  }
}

/** The fold that keeps a plan's noise apart from that of the rollout it plans for. */
const GUIDED = 0x67756964;

const OPTIONS = ['candidates', 'horizon', 'gamma', 'uncertainty', 'value', 'terminate'];
const REQUEST = ['start', 'seed', 'trajectory', 'step', 'policyState', 'budgetMs', 'signal'];

/** What becomes of the candidates: row `b * K + k` is candidate `k` of start `b`. */
interface Futures {
  /** Discounted sums so far; NaN of candidates that are lost. */
  readonly reward: Float64Array;
  readonly uncertainty: Float64Array;
  /** What the policy did first, and remembered after it. */
  first: Pick<PolicyResult, 'action' | 'state'> | undefined;
  iterations: number;
}

/** A start that is not finite would be left out of the rollout, and with it a decision. */
function expectFinite({ data, shape }: NdView): void {
  const at = data.findIndex((x) => !Number.isFinite(x));
  if (at < 0) return;
  throw new RangeError(
    `PolicyGuidedPlanner.plan: start must be finite, got ${data[at]} at dimension ${at % shape[1]}`,
  );
}
