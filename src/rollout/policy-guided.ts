import type { TerminationFunction, WorldModel } from '../dynamics/contract.js';
import type { UncertaintyScore } from '../dynamics/score.js';
import {
  describe,
  expectMatrix,
  gatherRows,
  isNd,
  type NdView,
  nd,
  packed,
  ShapeError,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import { foldIn, type Seed } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { Budget } from './budget.js';
import { Carry } from './carry.js';
import { imagine } from './imagine.js';
import {
  type AnyPolicy,
  gatherPolicyState,
  type Policy,
  type PolicyContext,
  type PolicyResult,
  type PolicyState,
  policyOf,
} from './policy.js';
import { type ValueFunction, valuesOf } from './value.js';

/** How a policy's own proposals are weighed against each other. */
export interface PolicyGuidedOptions {
  /** Actions drawn from the policy for each start, `K`. Default 5. */
  candidates?: number;
  /** Steps that the policy is followed for after each of them, the first included, `H`. Default 5. */
  horizon?: number;
  /** Discount factor of the rewards, in [0, 1]. Default 0.97. */
  gamma?: number;
  /** Adds `weight * sum_t gamma^t u_t`. Default: uncertainty is not looked at. */
  uncertainty?: {
    /** Scores each step. */
    score: UncertaintyScore;
    /** Reward units per unit of score: negative in rollouts of a model, positive to explore. */
    weight: number;
    /** Discount factor of the scores, in [0, 1]. Default 0.97. */
    gamma?: number;
  };
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
 * const guided = new PolicyGuidedPlanner(model, policy, { candidates: 64, horizon: 1 });
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
    const { candidates = 5, horizon = 5, gamma = 0.97, uncertainty } = options;
    expectCount('PolicyGuidedPlanner: candidates', candidates);
    expectCount('PolicyGuidedPlanner: horizon', horizon);
    expectFactor('gamma', gamma);
    if (uncertainty !== undefined) {
      const what = 'PolicyGuidedPlanner: uncertainty';
      expectOptions(what, uncertainty, ['score', 'weight', 'gamma']);
      if (!Number.isFinite(uncertainty.weight)) {
        throw new RangeError(`${what}.weight must be a finite number, got ${uncertainty.weight}`);
      }
      expectFactor('uncertainty.gamma', uncertainty.gamma ?? 0.97);
    }
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
    const { gamma = 0.97, uncertainty, value, terminate } = this.#options;
    const seen = obsOf(start);
    const starts = seen.shape[0];
    const count = this.#candidates;
    const own = request.trajectory ?? Uint32Array.from({ length: starts }, (_, b) => b);
    if (own.length !== starts) {
      throw new ShapeError(
        `PolicyGuidedPlanner.plan: trajectory must have one id for each of the ${starts} starts, got ${own.length}`,
      );
    }
    const copies = Int32Array.from({ length: starts * count }, (_, i) => Math.floor(i / count));
    const trajectory = Uint32Array.from(copies, (b, i) => Math.imul(own[b], count) + (i % count));
    const key = foldIn(request.seed, GUIDED);
    const obs = gatherRows(seen, copies);
    let state: State | undefined;
    if (starts > 0) {
      const noise = new RowNoise(key, Stream.model, step, trajectory);
      state = isNd(start)
        ? await this.#model.initial(obs, { step, trajectory, noise })
        : await this.#model.gather(start as State, copies);
    }
    const release = () => state !== undefined && this.#model.release?.(state);
    const row = Int32Array.from(copies, (_, i) => i);
    const remembered = gatherPolicyState(policyState, copies);
    const from = new Carry(
      { state, obs, trajectory, row, policyState: remembered, step, key },
      release,
    );

    let first: PolicyResult | undefined;
    const policy: Policy = async (o, context) => {
      const answer = await this.#policy(o, context);
      const result = isNd(answer) ? { action: answer as NdView } : answer;
      if (first === undefined) {
        const [rows] = o.shape;
        expectMatrix(
          'PolicyGuidedPlanner: the action',
          result?.action,
          rows,
          this.#model.actionSize,
        );
        // A copy, for a policy may write its next answer into the same memory.
        first = { ...result, action: nd(packed(result.action).slice(), result.action.shape) };
      }
      return result;
    };
    budget.begin();
    const rollout = imagine(this.#model, policy, {
      start: from,
      horizon: this.#horizon,
      ...(uncertainty && { uncertainty: uncertainty.score }),
      ...(terminate && { terminate }),
      ...(signal && { signal }),
    });
    const rewards = new Float64Array(starts * count);
    const doubts = new Float64Array(starts * count);
    let iterations = 0;
    let factor = 1;
    let doubtFactor = 1;
    try {
      for await (const taken of rollout) {
        for (let i = 0; i < taken.row.length; i++) {
          rewards[taken.row[i]] += factor * taken.rawReward[i];
          doubts[taken.row[i]] += doubtFactor * taken.uncertainty[i];
        }
        for (const lost of taken.dropped) rewards[lost] = Number.NaN;
        iterations++;
        factor *= gamma;
        doubtFactor *= uncertainty?.gamma ?? 0.97;
        budget.lap();
        if (!budget.allowsLap()) break;
      }
      const end = rollout.carry;
      if (value !== undefined && end.row.length > 0) {
        const at = { step: end.step, trajectory: end.trajectory };
        const noise = new RowNoise(key, Stream.policy, end.step, end.trajectory);
        const worth = await valuesOf('PolicyGuidedPlanner', value, end.obs, { ...at, noise });
        for (let i = 0; i < worth.length; i++) rewards[end.row[i]] += factor * worth[i];
      }
    } finally {
      rollout.carry.release();
      from.release();
    }
    return this.#choose(starts, rewards, doubts, first, iterations);
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

  #choose(
    starts: number,
    rewards: Float64Array,
    doubts: Float64Array,
    first: PolicyResult | undefined,
    iterations: number,
  ): GuidedPlan {
    const count = this.#candidates;
    const weight = this.#options.uncertainty?.weight ?? 0;
    const values = new Float32Array(starts * count);
    const chosen = new Int32Array(starts);
    const best = new Int32Array(starts);
    for (let b = 0; b < starts; b++) {
      for (let k = 0; k < count; k++) {
        const i = b * count + k;
        const value = rewards[i] + weight * doubts[i];
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
      reward: nd(Float32Array.from(rewards), shape),
      uncertainty: nd(Float32Array.from(doubts), shape),
      iterations,
      policyState: gatherPolicyState(first?.state, best),
    };
  }
}

/** The fold that keeps a plan's noise apart from that of the rollout it plans for. */
const GUIDED = 0x67756964;

const OPTIONS = ['candidates', 'horizon', 'gamma', 'uncertainty', 'value', 'terminate'];
const REQUEST = ['start', 'seed', 'trajectory', 'step', 'policyState', 'budgetMs', 'signal'];

function expectFactor(name: string, gamma: number): void {
  if (!(gamma >= 0 && gamma <= 1)) {
    throw new RangeError(`PolicyGuidedPlanner: ${name} must lie in 0..1, got ${gamma}`);
  }
}

function obsOf(start: unknown): NdView {
  const view = isNd(start) ? start : (start as { obs?: unknown } | null | undefined)?.obs;
  if (isNd(view)) return view as NdView;
  throw new TypeError(
    `PolicyGuidedPlanner.plan: start must be a view [B, S] or a state with its observations as obs, got ${describe(start)}`,
  );
}
