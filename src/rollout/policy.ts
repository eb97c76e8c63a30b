import type { Awaitable } from '../dynamics/contract.js';
import type { Scratch } from '../dynamics/scratch.js';
import {
  describe,
  gatherRows,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  type TypedArray,
} from '../nd.js';
import type { RowNoise } from '../sampling/row-noise.js';

/**
 * What a policy remembers of each row: arrays whose first axis is the rows, alone or nested in plain
 * objects, so that a rollout can gather it when rows finish.
 */
export type PolicyState =
  | NdView<TypedArray>
  | TypedArray
  | { readonly [name: string]: PolicyState }
  | undefined;

/** What a policy is told about the rows of one call. */
export interface PolicyContext<State = PolicyState> {
  /** Time step of the rollout, from 0. */
  readonly step: number;
  /** Trajectory id of each row, `[B]`, in the order of the rows. */
  readonly trajectory: Uint32Array;
  /** Noise of these rows at this step, in the policy's own stream. */
  readonly noise: RowNoise;
  /** Row of the rollout's start that each row is, `[B]`. Default: `0 .. B - 1`. */
  readonly row?: Int32Array;
  /** Rows of the rollout's start, those included that ended. Default: `B`. */
  readonly startRows?: number;
  /** What the policy returned last, gathered with its rows; undefined at the start. */
  readonly state?: State;
  /** Memory of the rollout, for the policy to reuse from step to step. Default: new memory. */
  readonly scratch?: Scratch;
}

/** A policy's answer. */
export interface PolicyResult<State = PolicyState> {
  /** Float32 `[B, A]`. */
  action: NdView;
  /** What to remember for the next step. */
  state?: State;
  /** Log-density of the actions, `[B]`. */
  logProb?: Float32Array;
}

/**
 * Chooses actions for observations, float32 `[B, S]` and row-major from offset 0; the answer is `[B, A]` or
 * a {@link PolicyResult}.
 *
 * @typeParam State - what the policy remembers, a {@link PolicyState}
 *
 * @example
 * ```ts
 * // Acts on what it saw one step ago.
 * const late: Policy<NdView> = (obs, { state }) => ({ action: state ?? zeros(obs.shape), state: obs });
 * ```
 */
export type Policy<State = PolicyState> = (
  obs: NdView,
  context: PolicyContext<State>,
) => Awaitable<NdView | PolicyResult<State>>;

/** A policy with any kind of memory, as a function or as the `act` of an object. */
export type AnyPolicy =
  // biome-ignore lint/suspicious/noExplicitAny: a rollout hands back what the policy gave, of any type
  | Policy<any>
  | {
      /** The function. */
      // biome-ignore lint/suspicious/noExplicitAny: as above
      act: Policy<any>;
    };

/**
 * The function of a policy.
 *
 * @param what - the name used in messages
 * @throws TypeError when it is no policy
 */
export function policyOf(what: string, policy: AnyPolicy): Policy {
  if (typeof policy === 'function') return policy;
  if (typeof policy?.act === 'function') return (obs, context) => policy.act(obs, context);
  throw new TypeError(
    `${what}: policy must be a function or have one as act, got ${describe(policy)}`,
  );
}

/** Rows of whatever a policy remembers. */
export function gatherPolicyState(state: PolicyState, rows: Int32Array): PolicyState {
  if (state === undefined) return undefined;
  if (isNd(state)) return gatherRows(state, rows);
  if (isTypedArray(state)) return gatherRows(nd(state), rows).data;
  return Object.fromEntries(
    Object.entries(state).map(([name, part]) => [name, gatherPolicyState(part, rows)]),
  );
}
