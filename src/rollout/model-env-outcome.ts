/** One step of an environment in the making: what each group of envs did, put in the envs' places. */

import type { StepResult } from '../dynamics/contract.js';
import { isFiniteRow } from '../dynamics/termination-rules.js';
import { isNd, isTypedArray, type NdView, nd, packed, type TypedArray } from '../nd.js';
import type { TransitionInfo } from './model-env-options.js';

/** What some envs did, and what decides the outcome; rows as in `env`. */
export interface GroupFacts {
  /** Which envs these rows are, `[b]`. */
  env: Int32Array;
  /** Float32 `[b, A]`. */
  action: NdView;
  result: StepResult<unknown>;
  /** Ends by the model and by the caller. */
  terminated: Uint8Array;
  uncertainty: Float32Array;
  coefficient: number;
  /** Rows stopped for their uncertainty, what that costs, and whether it counts as an end. */
  halt: { rows: Uint8Array; penalty: number; terminates: boolean } | undefined;
}

/** The arrays of one step of `N` envs; whoever took no step keeps the last observation and zeros. */
export class StepOutcome implements TransitionInfo {
  readonly obs: NdView;
  readonly reward: Float32Array;
  readonly terminated: Uint8Array;
  readonly truncated: Uint8Array;
  readonly rawReward: Float32Array;
  readonly penalty: Float32Array;
  readonly uncertainty: Float32Array;
  readonly member: Int32Array;
  readonly nonFinite: Uint8Array;
  readonly extras: Record<string, TypedArray | NdView<TypedArray>> = {};
  /** 1 for envs that are done: `terminated` or `truncated`. */
  readonly done: Uint8Array;

  constructor(last: NdView) {
    const [envs] = last.shape;
    this.obs = nd(last.data.slice(), last.shape);
    this.reward = new Float32Array(envs);
    this.terminated = new Uint8Array(envs);
    this.truncated = new Uint8Array(envs);
    this.rawReward = new Float32Array(envs);
    this.penalty = new Float32Array(envs);
    this.uncertainty = new Float32Array(envs);
    this.member = new Int32Array(envs).fill(-1);
    this.nonFinite = new Uint8Array(envs);
    this.done = new Uint8Array(envs);
  }

  /**
   * Puts what a group did in its envs' places.
   *
   * @param idle - 1 for envs that take no step though their rows are there, `[N]`
   * @param cut - 1 for envs whose time is up after this step, `[N]`
   * @returns the number of rows whose result was not finite
   */
  add(facts: GroupFacts, idle: Uint8Array, cut: Uint8Array): number {
    const { coefficient, env, halt, result, uncertainty } = facts;
    const width = this.obs.shape[1];
    const nextObs = packed(result.obs);
    const action = packed(facts.action);
    const actionWidth = facts.action.shape[1];
    const { data } = this.obs;
    const member = result.prediction?.member ?? result.extras?.member;
    const members = member instanceof Int32Array ? member : undefined;
    const halted = halt?.rows;
    const haltPenalty = halt?.penalty ?? 0;
    const haltEnds = halt?.terminates === true;
    let nonFinite = 0;
    for (let i = 0; i < env.length; i++) {
      const at = env[i];
      if (idle[at] !== 0) continue;
      // Without a coefficient the reward stays as it is, whatever the score.
      let penalty = coefficient === 0 ? 0 : Math.fround(coefficient * uncertainty[i]);
      const stopped = halted !== undefined && halted[i] !== 0;
      // A score that is not finite, and stops its row, costs only what the halt costs.
      if (stopped) penalty = Math.fround((Number.isFinite(penalty) ? penalty : 0) + haltPenalty);
      const reward = Math.fround(result.reward[i] - penalty);
      const finite =
        Number.isFinite(reward) &&
        isFiniteRow(nextObs, i * width, width) &&
        isFiniteRow(action, i * actionWidth, actionWidth);
      if (!finite) {
        nonFinite++;
        this.nonFinite[at] = 1;
        this.truncated[at] = 1;
        this.done[at] = 1;
        continue;
      }
      for (let d = 0, from = i * width, to = at * width; d < width; d++) {
        data[to++] = nextObs[from++];
      }
      this.reward[at] = reward;
      this.rawReward[at] = result.reward[i];
      this.penalty[at] = penalty;
      this.uncertainty[at] = uncertainty[i];
      if (members !== undefined) this.member[at] = members[i];
      const ended = facts.terminated[i] !== 0 || (stopped && haltEnds);
      if (ended) this.terminated[at] = 1;
      else if (cut[at] !== 0 || stopped) this.truncated[at] = 1;
      this.done[at] = this.terminated[at] | this.truncated[at];
    }
    for (const [name, value] of Object.entries(result.extras ?? {})) {
      this.#addExtra(name, value, env, idle);
    }
    return nonFinite;
  }

  /** What is known of the transitions, of all envs or of some alone. */
  info(only?: Uint8Array): TransitionInfo {
    const { extras, member, nonFinite, penalty, rawReward, uncertainty } = this;
    if (only === undefined) return { rawReward, penalty, uncertainty, member, nonFinite, extras };
    return {
      rawReward: where(only, rawReward),
      penalty: where(only, penalty),
      uncertainty: where(only, uncertainty),
      member: member.map((value, env) => (only[env] === 0 ? -1 : value)),
      nonFinite: where(only, nonFinite),
      extras: Object.fromEntries(
        Object.entries(extras).map(([name, extra]) => [
          name,
          isNd(extra) ? nd(where(only, extra.data), extra.shape) : where(only, extra as TypedArray),
        ]),
      ),
    };
  }

  #addExtra(name: string, value: unknown, env: Int32Array, idle: Uint8Array): void {
    const view = isNd(value) ? value : isTypedArray(value) ? nd(value) : undefined;
    if (view === undefined || view.shape[0] !== env.length) return;
    const [, ...inner] = view.shape;
    const source = packed(view);
    const width = source.length / env.length;
    if (this.extras[name] === undefined) {
      const Store = source.constructor as new (length: number) => TypedArray;
      const made = new Store(idle.length * width);
      this.extras[name] = isNd(value) ? nd(made, [idle.length, ...inner]) : made;
    }
    const kept = this.extras[name];
    const to = isNd(kept) ? kept.data : (kept as TypedArray);
    for (let i = 0; i < env.length; i++) {
      if (idle[env[i]] !== 0) continue;
      for (let d = 0; d < width; d++) to[env[i] * width + d] = source[i * width + d];
    }
  }
}

/** A copy that is 0 where a flag is 0; entries of one env lie together. */
function where<T extends TypedArray>(flags: Uint8Array, values: T): T {
  const copy = values.slice() as T;
  const width = copy.length / flags.length;
  const zero = copy instanceof BigInt64Array || copy instanceof BigUint64Array ? 0n : 0;
  for (let env = 0; env < flags.length; env++) {
    if (flags[env] === 0) copy.fill(zero as never, env * width, (env + 1) * width);
  }
  return copy;
}
