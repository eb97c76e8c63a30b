/**
 * The loop that planners of action sequences share: draw, make feasible, value, take in, again. A
 * {@link SequenceMethod} says how sequences are drawn and what is learned from their values.
 */

import { turns } from '../formats/turns.js';
import { describe, expectExtent, isNd, type NdView, nd, packed, ShapeError } from '../nd.js';
import type { ActionSpace } from '../runtime/manifest.js';
import { expectOptions } from '../runtime/options.js';
import { foldIn, type Key, key } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { actionWidth, withinBox } from './action-space.js';
import { Budget } from './budget.js';
import {
  expectFunction,
  expectFunctions,
  expectSignal,
  expectTrajectoryIds,
  shownBy,
} from './imagine-checks.js';
import type {
  Actions,
  Objective,
  ObjectiveContext,
  Plan,
  PlanCarry,
  PlanRequest,
} from './planner.js';

/** The sequences of one iteration. */
export interface Sequences {
  /** Number of starts, `B`. */
  readonly rows: number;
  /** Sequences a start, `N`: the proposals first. */
  readonly count: number;
  /** How many of them are proposals. */
  readonly proposed: number;
  /** Numbers of a sequence, `H * A`. */
  readonly width: number;
  /** `[B, N, H, A]`. */
  readonly data: Float32Array | Int32Array;
}

/** Noise of a plan, of which each start has its own. */
export interface PlanNoise {
  /** Noise of sequences `0 .. count - 1` of a start; `draw` tells iterations apart. */
  sequences(row: number, count: number): RowNoise;
  /** One row of noise for each start, on the choice among good sequences. */
  readonly choice: RowNoise;
}

/** How a planner draws sequences and learns from them. Its methods are called for all starts at once. */
export interface SequenceMethod {
  /** How many sequences of its own a start gets in this iteration, given the number of proposals. */
  count(iteration: number, proposed: number): number;
  /** Writes its own sequences, those from `proposed` on. */
  draw(iteration: number, sequences: Sequences, noise: PlanNoise): void;
  /** Takes in values, `[B, N]`: finite, or minus infinity. */
  update(iteration: number, sequences: Sequences, values: Float32Array): void;
  /**
   * The sequences to be taken, `[B, H, A]`, and what to carry; `best` are the best that were valued. Actions
   * that the carry shares memory with are carried as they are taken: made feasible.
   */
  finish(best: Best, noise: PlanNoise): { actions: Float32Array | Int32Array; carry: PlanCarry };
}

/** The best sequences so far. */
export interface Best {
  /** `[B, H, A]`; of a start without finite values, the first that was tried. */
  readonly actions: Float32Array | Int32Array;
  /** `[B]`; minus infinity where no value was finite. */
  readonly values: Float32Array;
}

/** What a search needs to know of its planner. */
export interface SearchSettings {
  /** The planner's name, for messages. */
  readonly what: string;
  readonly horizon: number;
  readonly actionSpace: ActionSpace;
  readonly iterations: number;
}

/** Runs a method to its end, or to the end of the budget. */
export async function searchSequences<Start>(
  settings: SearchSettings,
  request: PlanRequest<Start>,
  begin: (rows: number) => SequenceMethod,
): Promise<Plan> {
  const { what, horizon, actionSpace, iterations } = settings;
  const budget = new Budget(`${what}.plan`, request.budgetMs);
  const { rows, trajectory, step } = expectRequest(what, request);
  const { objective, feasible, signal } = request;
  const own = foldIn(request.seed, PLAN);
  // Plans of different steps must not meet the same futures.
  const future = foldIn(own, step);
  const noise = new Noise(own, step, trajectory);
  const wide = actionWidth(actionSpace);
  const width = horizon * wide;
  const method = begin(rows);
  const common = {
    start: request.start,
    step,
    trajectory,
    ...(signal && { signal }),
  };

  signal?.throwIfAborted();
  const proposals = await proposalsOf(settings, request, rows, { ...common, key: future });
  const proposed = proposals === undefined ? 0 : proposals.length / (rows * width || 1);

  const store = actionSpace.type === 'box' ? Float32Array : Int32Array;
  const best = {
    actions: new store(rows * width),
    values: new Float32Array(rows).fill(Number.NEGATIVE_INFINITY),
  };
  let data: Float32Array | Int32Array = new store(0);
  let done = 0;
  let evaluated = 0;
  const turn = turns();
  budget.begin();
  while (done < iterations && (done === 0 || budget.allowsLap())) {
    const others = turn();
    if (others !== undefined) await others;
    signal?.throwIfAborted();
    const count = proposed + method.count(done, proposed);
    if (data.length !== rows * count * width) data = new store(rows * count * width);
    const sequences = { rows, count, proposed, width, data };
    if (proposals !== undefined) writeProposals(sequences, proposals);
    method.draw(done, sequences, noise);
    const actions = nd(data as Float32Array, [rows, count, horizon, wide]) as Actions;
    const context = { ...common, key: foldIn(future, done), iteration: done };
    if (feasible !== undefined) {
      await feasible(actions, context);
      expectActions(`${what}: feasible actions`, data, actionSpace);
    }
    const values = await valuesOf(what, objective, actions, context);
    keepBest(best, sequences, values, done === 0);
    method.update(done, sequences, values);
    done++;
    evaluated += count;
    budget.lap();
  }

  const { actions, carry } = method.finish(best, noise);
  if (feasible !== undefined) {
    const one = nd(actions as Float32Array, [rows, 1, horizon, wide]) as Actions;
    await feasible(one, { ...common, iteration: done });
    expectActions(`${what}: feasible actions`, actions, actionSpace);
  }
  const chosen = nd(actions.slice() as Float32Array, [rows, horizon, wide]) as Actions;
  return { actions: chosen, value: best.values, iterations: done, evaluated, carry };
}

/** The fold that keeps a plan's noise apart from that of the rollout or environment it plans for. */
const PLAN = 0x706c616e;

/** Keyed by start, so that a start's plan does not depend on the starts around it. */
class Noise implements PlanNoise {
  readonly choice: RowNoise;
  readonly #keys: readonly Key[];
  readonly #step: number;
  #ids = new Uint32Array(0);

  constructor(seed: Key, step: number, trajectory: Uint32Array) {
    this.#keys = Array.from(trajectory, (id) => foldIn(seed, id));
    this.#step = step;
    this.choice = new RowNoise(seed, Stream.choose, step, trajectory);
  }

  sequences(row: number, count: number): RowNoise {
    if (this.#ids.length !== count) this.#ids = Uint32Array.from({ length: count }, (_, n) => n);
    return new RowNoise(this.#keys[row], Stream.plan, this.#step, this.#ids);
  }
}

const REQUEST = [
  'objective',
  'start',
  'seed',
  'rows',
  'trajectory',
  'step',
  'carry',
  'proposals',
  'feasible',
  'budgetMs',
  'signal',
];

function expectRequest<Start>(
  what: string,
  request: PlanRequest<Start>,
): { rows: number; trajectory: Uint32Array; step: number } {
  expectOptions(`${what}.plan`, request, REQUEST);
  const { objective, proposals, feasible, step = 0 } = request;
  expectFunction(`${what}.plan: objective`, objective);
  expectFunctions(`${what}.plan`, { proposals, feasible });
  expectSignal(`${what}.plan`, request.signal);
  if (request.seed === undefined) {
    throw new TypeError(`${what}.plan: seed must be given, got none`);
  }
  key(request.seed);
  if (step >>> 0 !== step) {
    throw new RangeError(`${what}.plan: step must be an integer in 0..2^32-1, got ${step}`);
  }
  const shown = shownBy(request.start)?.shape[0];
  const rows = request.rows ?? shown;
  if (rows === undefined || !Number.isInteger(rows) || rows < 0) {
    throw new TypeError(
      `${what}.plan: rows must be the number of starts, got ${rows}; it is known only of views and of ` +
        'states with their observations as obs',
    );
  }
  if (shown !== undefined && shown !== rows) {
    throw new ShapeError(`${what}.plan: rows must be the ${shown} rows of start, got ${rows}`);
  }
  const trajectory = request.trajectory ?? Uint32Array.from({ length: rows }, (_, b) => b);
  expectTrajectoryIds(`${what}.plan`, trajectory, rows);
  return { rows, trajectory, step };
}

/** Checked proposals as packed numbers `[B, K, H, A]`, a copy within bounds. */
async function proposalsOf<Start>(
  { what, horizon, actionSpace }: SearchSettings,
  { proposals }: PlanRequest<Start>,
  rows: number,
  context: Omit<ObjectiveContext<Start>, 'iteration'>,
): Promise<Float32Array | Int32Array | undefined> {
  if (proposals === undefined || rows === 0) return undefined;
  const view: unknown = await proposals(context);
  const wide = actionWidth(actionSpace);
  const store = actionSpace.type === 'box' ? Float32Array : Int32Array;
  const wanted = `${store.name} [${rows}, K, ${horizon}, ${wide}]`;
  if (!isNd(view) || !(view.data instanceof store)) {
    throw new TypeError(`${what}: proposals must be ${wanted}, got ${describe(view)}`);
  }
  const [b, , h, a] = view.shape;
  if (view.shape.length !== 4 || b !== rows || h !== horizon || a !== wide) {
    throw new ShapeError(`${what}: proposals must be ${wanted}, got [${view.shape}]`);
  }
  expectExtent(`${what}: proposals`, view);
  const numbers = packed(view as NdView);
  // A mean must not be drawn out of bounds by what was proposed.
  if (actionSpace.type === 'box') return withinBox(numbers, actionSpace);
  expectActions(`${what}: proposals`, numbers, actionSpace);
  return numbers.slice();
}

/** Puts each start's proposals in front of its sequences, anew in each iteration: others write there too. */
function writeProposals(sequences: Sequences, proposals: Float32Array | Int32Array): void {
  const { rows, count, proposed, width, data } = sequences;
  const size = proposed * width;
  for (let b = 0; b < rows; b++) {
    data.set(proposals.subarray(b * size, (b + 1) * size), b * count * width);
  }
}

/** Checked values, a copy `[B, N]` without anything but finite numbers and minus infinity. */
async function valuesOf<Start>(
  what: string,
  objective: Objective<Start>,
  actions: Actions,
  context: ObjectiveContext<Start>,
): Promise<Float32Array> {
  const [rows, count] = actions.shape;
  if (rows * count === 0) return new Float32Array(0);
  const answer: unknown = await objective(actions, context);
  if (!isNd(answer) || !(answer.data instanceof Float32Array)) {
    throw new TypeError(
      `${what}: the objective's answer must be float32 [${rows}, ${count}], got ${describe(answer)}`,
    );
  }
  if (answer.shape.length !== 2 || answer.shape[0] !== rows || answer.shape[1] !== count) {
    throw new ShapeError(
      `${what}: the objective's answer must be float32 [${rows}, ${count}], got [${answer.shape}]`,
    );
  }
  expectExtent(`${what}: the objective's answer`, answer);
  const values = packed(answer as NdView).slice();
  for (let i = 0; i < values.length; i++) {
    // An infinite value is as little to be trusted as one that is no number.
    if (!Number.isFinite(values[i])) values[i] = Number.NEGATIVE_INFINITY;
  }
  return values;
}

/** Checks that actions may be taken: indices of the space, or finite numbers. */
function expectActions(what: string, data: Float32Array | Int32Array, space: ActionSpace): void {
  if (space.type === 'box') {
    for (let i = 0; i < data.length; i++) {
      if (!Number.isFinite(data[i])) {
        throw new RangeError(`${what} must be finite, got ${data[i]}`);
      }
    }
    return;
  }
  for (let i = 0; i < data.length; i++) {
    if (data[i] >= 0 && data[i] < space.n) continue;
    throw new RangeError(`${what} must be indices in 0..${space.n - 1}, got ${data[i]}`);
  }
}

function keepBest(best: Best, sequences: Sequences, values: Float32Array, first: boolean): void {
  const { rows, count, width, data } = sequences;
  if (count === 0) return;
  for (let b = 0; b < rows; b++) {
    let at = -1;
    for (let n = 0; n < count; n++) {
      if (values[b * count + n] > best.values[b]) {
        best.values[b] = values[b * count + n];
        at = n;
      }
    }
    if (at < 0 && !first) continue;
    const from = (b * count + Math.max(at, 0)) * width;
    best.actions.set(data.subarray(from, from + width), b * width);
  }
}
