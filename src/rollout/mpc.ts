/**
 * Planning anew as an episode goes on: which starts are due, what the others still have of their plan, and
 * what is remembered from one step to the next.
 */

import type { Awaitable } from '../dynamics/contract.js';
import {
  describe,
  gatherRows,
  type NdView,
  nd,
  rowMajorView,
  type TypedArray,
  zeros,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import type { Seed } from '../sampling/key.js';
import { expectFunction, expectFunctions } from './imagine-checks.js';
import type {
  Actions,
  FeasibleActions,
  Objective,
  PlanCarry,
  Planner,
  PlanRequest,
  Proposals,
} from './planner.js';
import type { Policy } from './policy.js';

/** How actions are planned while an episode goes on. */
export interface MpcOptions<Start = NdView> {
  /** Plans the sequences. */
  planner: Planner;
  /** What they are to make large, from the observations of the present, or from the model's state of it. */
  objective: Objective<Start>;
  /** Actions taken of each plan before the next, at most the planner's horizon. Default 1. */
  replanEvery?: number;
  /** Sequences to be tried besides the planner's own. */
  proposals?: Proposals<Start>;
  /** Puts sequences into the set of those that may be taken. */
  feasible?: FeasibleActions<Start>;
  /**
   * Milliseconds that a decision may take, see `PlanRequest`; where rows that begin an episode are planned
   * for apart, the second plan has what the first left. Default: all iterations.
   */
  budgetMs?: number;
}

/** The names of {@link MpcOptions}. */
export const MPC_OPTIONS: readonly string[] = [
  'planner',
  'objective',
  'replanEvery',
  'proposals',
  'feasible',
  'budgetMs',
];

/** What each row remembers; rows can be gathered. */
export type MpcMemory = {
  /** What the planner carries. */
  readonly carry: PlanCarry;
  /** The plan under way, `[B, H, A]`. */
  readonly actions: Actions;
  /** Actions of it that have been taken, `[B]`. */
  readonly age: Int32Array;
};

/** One decision for every row. */
export interface MpcDecision {
  /** What to do now, `[B, A]`: float32, or int32 indices. */
  action: Actions;
  /** Values of the plans that were made, `[B]`; NaN where an earlier plan goes on. */
  value: Float32Array;
  /** The fewest iterations that a plan of this decision had; 0 when none was made. */
  iterations: number;
}

/** What a decision is about. */
export interface Situation<Start> {
  readonly rows: number;
  /** The present of some rows; null for all of them. */
  readonly start: (rows: Int32Array | null) => Awaitable<Start>;
  /** Frees a present of some rows. */
  readonly release?: (start: Start) => void;
  readonly trajectory: Uint32Array;
  readonly step: number;
  readonly seed: Seed;
  readonly memory: MpcMemory | undefined;
  /** 1 for rows that must forget, `[B]`. */
  readonly first?: Uint8Array;
  readonly signal?: AbortSignal;
}

/**
 * Checks options of planning.
 *
 * @throws TypeError or RangeError naming the option
 */
export function expectMpcOptions<Start>(what: string, options: MpcOptions<Start>): void {
  const { planner, objective, proposals, feasible, replanEvery = 1, budgetMs = 0 } = options;
  if (typeof planner?.plan !== 'function' || typeof planner.shift !== 'function') {
    throw new TypeError(
      `${what}: planner must have functions plan and shift, got ${describe(planner)}`,
    );
  }
  expectFunction(`${what}: objective`, objective);
  expectFunctions(what, { proposals, feasible });
  if (!(budgetMs >= 0)) {
    throw new RangeError(`${what}: budgetMs must not be negative, got ${budgetMs}`);
  }
  expectCount(`${what}: replanEvery`, replanEvery);
  if (replanEvery > planner.horizon) {
    throw new RangeError(
      `${what}: replanEvery must be at most the planner's horizon ${planner.horizon}, got ${replanEvery}`,
    );
  }
}

/** Plans for the rows that are due and decides for all of them. */
export async function decide<Start>(
  options: MpcOptions<Start>,
  situation: Situation<Start>,
): Promise<{ decision: MpcDecision; memory: MpcMemory }> {
  const { planner, budgetMs } = options;
  const { rows, memory } = situation;
  const began = performance.now();
  const groups = groupsOf(options, situation);
  // A copy: what was remembered may be somebody's to go on from again.
  let next = memory && (groups.size > 0 ? copyOf(memory) : { ...memory, age: memory.age.slice() });
  const value = new Float32Array(rows).fill(Number.NaN);
  let iterations = 0;
  for (const [age, some] of groups) {
    const carry =
      age !== FRESH && next ? planner.shift(gatherCarry(next.carry, some), age) : undefined;
    const left = budgetMs === undefined ? undefined : budgetMs - (performance.now() - began);
    const plan = await planFor(options, situation, some, carry, left);
    iterations = iterations === 0 ? plan.iterations : Math.min(iterations, plan.iterations);
    const made = {
      carry: packedCarry(plan.carry),
      actions: rowMajorView<TypedArray>(plan.actions) as Actions,
      age: new Int32Array(some.length),
    };
    for (let i = 0; i < some.length; i++) value[some[i]] = plan.value[i];
    if (some.length === rows) next = made;
    else if (next !== undefined) writeMemory(next, made, some);
  }
  next ??= emptyMemory(planner);
  const action = takeNext(next);
  return { decision: { action, value, iterations }, memory: next };
}

/** Stands for rows that have no plan to go on from. */
const FRESH = -1;

/** The rows that must be planned for, by how many actions of their plan they have taken. */
function groupsOf<Start>(
  { planner, replanEvery = 1 }: MpcOptions<Start>,
  { rows, memory, first }: Situation<Start>,
): Map<number, Int32Array> {
  const groups = new Map<number, number[]>();
  for (let b = 0; b < rows; b++) {
    const age = memory === undefined || first?.[b] ? FRESH : memory.age[b];
    if (age !== FRESH && age < Math.min(replanEvery, planner.horizon)) continue;
    const group = groups.get(age);
    if (group === undefined) groups.set(age, [b]);
    else group.push(b);
  }
  return new Map([...groups].map(([age, some]) => [age, Int32Array.from(some)]));
}

/**
 * A policy that plans: for rollouts of a model by a planner, and wherever else a policy is asked.
 *
 * It plans from the observations alone, with noise of the rollout's seed that the model does not meet; a
 * model whose state holds more than it shows is planned with by an `MpcAgent`. Discrete actions become
 * one-hot rows.
 *
 * @throws TypeError or RangeError for options of another kind or outside their range
 *
 * @example
 * ```ts
 * const planner = new CemPlanner({ horizon: 10, actionSpace: { type: 'box', low: [-1], high: [1] } });
 * const policy = mpcPolicy({ planner, objective: modelObjective(model) });
 * const dream = await imagine(model, policy, { start, horizon: 50, seed: 0 }).collect();
 * ```
 */
export function mpcPolicy(options: MpcOptions): Policy<MpcMemory> {
  expectOptions('mpcPolicy', options, MPC_OPTIONS);
  expectMpcOptions('mpcPolicy', options);
  const { actionSpace } = options.planner;
  return async (obs, { noise, state, step, trajectory }) => {
    const { decision, memory } = await decide(options, {
      rows: obs.shape[0],
      start: (rows) => (rows === null ? obs : gatherRows(obs, rows)),
      trajectory,
      step,
      seed: noise.key,
      memory: state,
    });
    const { action } = decision;
    if (actionSpace.type === 'box') return { action: action as NdView, state: memory };
    return { action: oneHot(action as NdView<Int32Array>, actionSpace.n), state: memory };
  };
}

/** One-hot rows of indices `[B, 1]`, float32 `[B, n]`. */
export function oneHot(index: NdView<Int32Array>, n: number): NdView {
  const rows = index.shape[0];
  const out = zeros([rows, n]);
  for (let b = 0; b < rows; b++) out.data[b * n + index.data[b]] = 1;
  return out;
}

async function planFor<Start>(
  { planner, objective, proposals, feasible }: MpcOptions<Start>,
  { rows, start, release, trajectory, step, seed, signal }: Situation<Start>,
  some: Int32Array,
  carry: PlanCarry | undefined,
  budgetMs: number | undefined,
): ReturnType<Planner['plan']> {
  const all = some.length === rows;
  const present = await start(all ? null : some);
  const request: PlanRequest<Start> = {
    objective,
    start: present,
    rows: some.length,
    seed,
    step,
    trajectory: all ? trajectory : Uint32Array.from(some, (b) => trajectory[b]),
    ...(carry && { carry }),
    ...(proposals && { proposals }),
    ...(feasible && { feasible }),
    ...(budgetMs !== undefined && { budgetMs: Math.max(0, budgetMs) }),
    ...(signal && { signal }),
  };
  try {
    return await planner.plan(request);
  } finally {
    if (!all) release?.(present);
  }
}

/** The next action of each row's plan, `[B, A]`; it then counts as taken. */
function takeNext({ actions, age }: MpcMemory): Actions {
  const [rows, horizon, width] = actions.shape;
  const out =
    actions.data instanceof Int32Array
      ? new Int32Array(rows * width)
      : new Float32Array(rows * width);
  for (let b = 0, to = 0; b < rows; b++) {
    const from = (b * horizon + age[b]++) * width;
    for (let d = 0; d < width; d++) out[to++] = actions.data[from + d];
  }
  return nd(out as Float32Array, [rows, width]) as Actions;
}

function gatherCarry(carry: PlanCarry, rows: Int32Array): PlanCarry {
  return Object.fromEntries(
    Object.entries(carry).map(([name, view]) => [name, gatherRows(view, rows)]),
  );
}

/** A carry whose arrays can be read one number after another. */
function packedCarry(carry: PlanCarry): PlanCarry {
  return Object.fromEntries(
    Object.entries(carry).map(([name, view]) => [name, rowMajorView(view)]),
  );
}

function copyOf({ carry, actions, age }: MpcMemory): MpcMemory {
  const all = Int32Array.from(age, (_, b) => b);
  return {
    carry: gatherCarry(carry, all),
    actions: gatherRows<TypedArray>(actions, all) as Actions,
    age: age.slice(),
  };
}

/** Writes the memory of some rows over that of all. */
function writeMemory(all: MpcMemory, some: MpcMemory, rows: Int32Array): void {
  for (const [name, view] of Object.entries(some.carry)) writeRows(all.carry[name], view, rows);
  writeRows(all.actions, some.actions, rows);
  for (let i = 0; i < rows.length; i++) all.age[rows[i]] = some.age[i];
}

/** Writes rows over those of another view; both are packed. */
function writeRows(all: NdView<TypedArray>, some: NdView<TypedArray>, rows: Int32Array): void {
  const width = some.data.length / rows.length;
  const to = all.data as Float32Array;
  const from = some.data as Float32Array;
  for (let i = 0; i < rows.length; i++) {
    to.set(from.subarray(i * width, (i + 1) * width), rows[i] * width);
  }
}

/** The memory of no rows: a planner is not asked about none. */
function emptyMemory({ horizon, actionSpace }: Planner): MpcMemory {
  const box = actionSpace.type === 'box';
  const width = box ? actionSpace.low.length : 1;
  const none = box ? new Float32Array(0) : new Int32Array(0);
  const actions = nd(none as Float32Array, [0, horizon, width]) as Actions;
  return { carry: {}, actions, age: new Int32Array(0) };
}
