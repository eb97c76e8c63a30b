/**
 * What every planner of action sequences has in common: an objective to be made large, a request, a plan,
 * and what is carried from one plan to the next.
 *
 * `B` start states are planned for at once, `N` sequences are tried for each, of `H` actions that are `A`
 * wide; the `N` of a call can differ from iteration to iteration.
 */

import type { Awaitable } from '../dynamics/contract.js';
import type { NdView, TypedArray } from '../nd.js';
import type { ActionSpace } from '../runtime/manifest.js';
import type { Key, Seed } from '../sampling/key.js';

/** Actions: float32 in a box; int32 indices, one wide, where the space is discrete. */
export type Actions = NdView<Float32Array> | NdView<Int32Array>;

/** What an objective is told about one call. */
export interface ObjectiveContext<Start = unknown> {
  /** What the sequences start from, as the plan was asked for. */
  readonly start: Start;
  /** Key of the objective's own noise; another one in each iteration. */
  readonly key: Key;
  /** Time step at which the first action would be taken. */
  readonly step: number;
  /** Trajectory id of each start, `[B]`. */
  readonly trajectory: Uint32Array;
  /** Which iteration asks, from 0. */
  readonly iteration: number;
  /** Stops the plan; an objective of several network calls looks at it between them. */
  readonly signal?: AbortSignal;
}

/**
 * Values action sequences `[B, N, H, A]`, row-major from offset 0 and only to be read; the answer is
 * float32 `[B, N]`, larger is better. A value that is not finite counts as minus infinity.
 *
 * The memory of the actions is written anew for the next iteration: copy what is to be kept.
 */
export type Objective<Start = unknown> = (
  actions: Actions,
  context: ObjectiveContext<Start>,
) => Awaitable<NdView>;

/**
 * Keeps sequences within a set that bounds do not describe: changes actions `[B, N, H, A]` in place, each
 * into one that may be taken. It is asked once an iteration and, for the one sequence a start that is
 * returned, once more at the end, with the number of iterations done as `iteration`.
 */
export type FeasibleActions<Start = unknown> = (
  actions: Actions,
  context: Omit<ObjectiveContext<Start>, 'key'>,
) => Awaitable<void>;

/**
 * Sequences to be tried besides a planner's own, `[B, K, H, A]`, such as what a policy would do; asked for
 * once a plan, and brought within the bounds of a box, of which a NaN becomes the middle.
 */
export type Proposals<Start = unknown> = (
  context: Omit<ObjectiveContext<Start>, 'iteration'>,
) => Awaitable<Actions>;

/** What is wanted of a plan. */
export interface PlanRequest<Start = unknown> {
  /** What is to be made large. */
  objective: Objective<Start>;
  /** Start states, handed to the objective as they are: observations `[B, S]`, or a state of a model. */
  start: Start;
  /** Names the noise. */
  seed: Seed;
  /** Number of starts, `B`. Default: the rows of `start`, or of its `obs`. */
  rows?: number;
  /** Ids that key each start's noise, `[B]`. Default `0 .. B - 1`. */
  trajectory?: Uint32Array;
  /** Time step at which the first action will be taken; plans of different steps see different noise. Default 0. */
  step?: number;
  /** What an earlier plan of the same planner carried, usually shifted. Default: from nothing. */
  carry?: PlanCarry;
  /** Sequences to be tried in every iteration besides the planner's own. */
  proposals?: Proposals<Start>;
  /** Puts sequences into the set of those that may be taken. Default: all within the bounds may. */
  feasible?: FeasibleActions<Start>;
  /**
   * No iteration is begun that, taking as long as the longest so far, would end later than this many
   * milliseconds after the plan began; the first always is. A plan with a budget depends on the machine.
   * Default: all iterations.
   */
  budgetMs?: number;
  /** Stops between iterations and between network calls; the plan then throws the signal's reason. */
  signal?: AbortSignal;
}

/**
 * What goes from one plan to the next: arrays whose first axis is the starts, so that rows of it can be
 * gathered. Only the planner that made it knows what they are.
 */
export type PlanCarry = { readonly [name: string]: NdView<TypedArray> };

/** An answer. */
export interface Plan {
  /** The chosen sequence of each start, `[B, H, A]`. */
  actions: Actions;
  /** The greatest value that any sequence tried for a start had, `[B]`; minus infinity where none was finite. */
  value: Float32Array;
  /** Iterations done. */
  iterations: number;
  /** Sequences valued for each start. */
  evaluated: number;
  /** For the next plan. */
  carry: PlanCarry;
}

/** A planner of action sequences; it keeps nothing from one plan to the next. */
export interface Planner {
  /** Actions of a sequence, `H`. */
  readonly horizon: number;
  /** Which actions there are. */
  readonly actionSpace: ActionSpace;
  /** Looks for the sequence of the greatest value. */
  plan<Start>(request: PlanRequest<Start>): Promise<Plan>;
  /** The carry after this many of the plan's actions have been taken, at most `H`. */
  shift(carry: PlanCarry, steps: number): PlanCarry;
}
