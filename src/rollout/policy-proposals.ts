import type { ModelContext, WorldModel } from '../dynamics/contract.js';
import { Scratch } from '../dynamics/scratch.js';
import { turns } from '../formats/turns.js';
import { expectMatrix, isNd, type NdView, nd, packed, rowMajorView } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { type ActionSpace, actionWidth, expectActionSpace } from './action-space.js';
import type { Actions, ObjectiveContext, Proposals } from './planner.js';
import { type AnyPolicy, type Policy, type PolicyState, policyOf } from './policy.js';
import { copyIds, repeatStart } from './repeat-start.js';

/** Which sequences a policy proposes; `horizon` and `actionSpace` are the planner's. */
export interface PolicyProposalsOptions {
  /** Sequences for each start, `K`; 24 in TD-MPC2. */
  count: number;
  /** Actions of a sequence, `H`. */
  horizon: number;
  /** Which actions there are: those of a box are kept within its bounds. */
  actionSpace: ActionSpace;
  /** Steps of the model that each action is held for, as in the objective. Default 1. */
  actionRepeat?: number;
}

const WHAT = 'policyProposals';

/**
 * Proposals by a policy that is followed in a model: what it would do, for planners to start from.
 *
 * Each of the `K` sequences of a start meets noise of its own, so a policy without any proposes the same
 * one `K` times. The model is fed the actions that are proposed: those within the bounds, or of a discrete
 * space, where the policy gives scores or one-hot rows `[B, n]`, the index of the greatest. Episodes that
 * end are followed on, for it is the objective that values them.
 *
 * TD-MPC2 does this at the beginning of each plan (`_plan` of nicklashansen/tdmpc2).
 *
 * @param model - any {@link WorldModel}; its states are released
 * @param policy - a function, or an object with one as `act`
 * @returns proposals for plans that start from observations `[B, S]` or from a state of the model, which
 *   stays the caller's
 * @throws TypeError or RangeError for options that are not what they must be, or do not fit the model
 *
 * @example
 * ```ts @import.meta.vitest
 * const { CemPlanner, modelObjective, policyProposals } = await import('umwelt/rollout');
 * const { ClosedFormDynamics } = await import('umwelt/dynamics');
 * const { nd } = await import('umwelt');
 * const model = new ClosedFormDynamics({
 *   obsSize: 1,
 *   actionSize: 1,
 *   next: ({ obs, action, nextObs }) => nextObs.data.set(obs.data.map((x, b) => x + action.data[b])),
 *   reward: ({ nextObs }) => nextObs.data.map((x) => -Math.abs(x)),
 * });
 * const planner = new CemPlanner({ horizon: 4, actionSpace: { type: 'box', low: [-1], high: [1] } });
 * const policy = (obs) => nd(obs.data.map((x) => -0.5 * x), obs.shape);
 * const plan = await planner.plan({
 *   objective: modelObjective(model),
 *   proposals: policyProposals(model, policy, {
 *     count: 1,
 *     horizon: planner.horizon,
 *     actionSpace: planner.actionSpace,
 *   }),
 *   start: nd([[2]]),
 *   seed: 0,
 * });
 * expect(plan.value[0]).toBeGreaterThanOrEqual(-1.75); // -(1 + 0.5 + 0.25), not less than the policy's
 * ```
 */
export function policyProposals<State>(
  model: WorldModel<State>,
  policy: AnyPolicy,
  options: PolicyProposalsOptions,
): Proposals<NdView | State> {
  expectOptions(WHAT, options, ['count', 'horizon', 'actionSpace', 'actionRepeat']);
  const { count, horizon, actionSpace, actionRepeat = 1 } = options;
  const act = policyOf(WHAT, policy);
  expectCount(`${WHAT}: count`, count);
  expectCount(`${WHAT}: horizon`, horizon);
  expectCount(`${WHAT}: actionRepeat`, actionRepeat);
  expectActionSpace(WHAT, actionSpace);
  const size = actionSpace.type === 'box' ? actionWidth(actionSpace) : actionSpace.n;
  if (size !== model.actionSize) {
    throw new RangeError(
      `${WHAT}: actionSpace must be of the model's actionSize ${model.actionSize}, got ${size}`,
    );
  }
  return (context) => followed(model, act, options, context, new Scratch());
}

async function followed<State>(
  model: WorldModel<State>,
  act: Policy,
  { count, horizon, actionSpace, actionRepeat = 1 }: PolicyProposalsOptions,
  context: Omit<ObjectiveContext<NdView | State>, 'iteration'>,
  scratch: Scratch,
): Promise<Actions> {
  const { key, signal, start } = context;
  const starts = context.trajectory.length;
  const trajectory = copyIds(context.trajectory, count);
  const rows = trajectory.length;
  const wide = actionWidth(actionSpace);
  const store = actionSpace.type === 'box' ? Float32Array : Int32Array;
  const out = new store(rows * horizon * wide);
  const actions = nd(out as Float32Array, [starts, count, horizon, wide]) as Actions;
  if (rows === 0) return actions;
  const about = (t: number): ModelContext => {
    const step = context.step + t;
    const noise = new RowNoise(key, Stream.model, step, trajectory);
    return { step, trajectory, noise, prediction: false, scratch };
  };
  let { state, obs } = await repeatStart(WHAT, model, start, count, about(0));
  try {
    let remembered: PolicyState;
    const turn = turns();
    for (let t = 0; t < horizon; t++) {
      const others = turn();
      if (others !== undefined) await others;
      signal?.throwIfAborted();
      const now = about(t * actionRepeat);
      const answer = await act(rowMajorView(obs), {
        step: now.step,
        trajectory,
        noise: now.noise.in(Stream.policy),
        scratch,
        ...(remembered !== undefined && { state: remembered }),
      });
      const given = isNd(answer) ? answer : answer?.action;
      remembered = isNd(answer) ? undefined : answer?.state;
      const chosen = expectMatrix(`${WHAT}: the policy's action`, given, rows, model.actionSize);
      const action = take(actionSpace, chosen, out, t, horizon);
      for (let held = 0; held < actionRepeat && t < horizon - 1; held++) {
        signal?.throwIfAborted();
        const before = state;
        const result = await model.step(before, action, about(t * actionRepeat + held));
        state = result.state;
        model.release?.(before);
        obs = expectMatrix(`${WHAT}: the model's obs`, result.obs, rows, model.obsSize);
      }
    }
  } finally {
    model.release?.(state);
  }
  return actions;
}

/**
 * Writes the policy's actions as step `t` of the proposals `[R, H, A]`.
 *
 * @returns what the model is fed, `[R, actionSize]`
 */
function take(
  space: ActionSpace,
  chosen: NdView,
  out: Float32Array | Int32Array,
  t: number,
  horizon: number,
): NdView {
  const [rows, size] = chosen.shape;
  // A copy, for the policy's answer may be its own memory.
  const fed = packed(chosen).slice();
  if (space.type === 'box') {
    const { low, high } = space;
    for (let row = 0, i = 0; row < rows; row++) {
      const to = (row * horizon + t) * size;
      for (let d = 0; d < size; d++, i++) {
        fed[i] = Math.min(Math.max(fed[i], low[d]), high[d]);
        out[to + d] = fed[i];
      }
    }
  } else {
    for (let row = 0; row < rows; row++) {
      const first = row * size;
      let index = 0;
      for (let i = 1; i < size; i++) if (fed[first + i] > fed[first + index]) index = i;
      fed.fill(0, first, first + size);
      fed[first + index] = 1;
      out[row * horizon + t] = index;
    }
  }
  return nd(fed, [rows, size]);
}
