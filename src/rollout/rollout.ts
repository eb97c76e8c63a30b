import type { ModelContext, StepResult, WorldModel } from '../dynamics/contract.js';
import { eitherFlag, expectPerRow } from '../dynamics/per-row.js';
import { needs, scoreTransitions, type UncertaintyScore } from '../dynamics/score.js';
import { Scratch } from '../dynamics/scratch.js';
import { isFiniteRow } from '../dynamics/termination-rules.js';
import {
  describe,
  expectMatrix,
  gatherRows,
  isNd,
  type NdView,
  nd,
  packed,
  rowMajorView,
  ShapeError,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type Key, key } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { Carry } from './carry.js';
import type { Halt, ImagineOptions } from './imagine-options.js';
import {
  type AnyPolicy,
  gatherPolicyState,
  type Policy,
  type PolicyResult,
  type PolicyState,
} from './policy.js';
import { NonFiniteError, type NonFinitePolicy, rowsOf, settle } from './settle.js';
import type { RolloutStep } from './step.js';
import { Trajectory } from './trajectory.js';
import { writeStep } from './write-step.js';

/** The rows a rollout is working on. */
interface Rows<State> {
  /** Undefined when there are no rows: a model is never asked about none. */
  state: State | undefined;
  /** Whether the rollout made the state and must release it. */
  owned: boolean;
  obs: NdView;
  row: Int32Array;
  trajectory: Uint32Array;
  policyState: PolicyState;
  /** 1 for rows that have not ended. */
  live: Uint8Array;
}

/** What the caller's functions say of a step. */
interface Judgement {
  nextObs: NdView;
  terminated: Uint8Array;
  uncertainty: Float32Array;
  /** Rows that the detector stops; undefined without one. */
  halted: Uint8Array | undefined;
}

/** Imagined trajectories in the making; read once, step by step or whole. */
export class Rollout<State = unknown> implements AsyncIterable<RolloutStep> {
  readonly #model: WorldModel<State>;
  readonly #policy: Policy;
  readonly #options: ImagineOptions<State>;
  readonly #key: Key;
  readonly #start: NdView;
  readonly #given: Carry<State> | undefined;
  readonly #trajectory: Uint32Array;
  readonly #firstStep: number;
  #read = false;
  readonly #nonFinitePolicy: NonFinitePolicy;
  #nonFinite = 0;
  #carry: Carry<State> | undefined;

  /** @internal */
  constructor(model: WorldModel<State>, policy: AnyPolicy, options: ImagineOptions<State>) {
    expectModel(model);
    expectOptions('imagine', options, OPTIONS);
    const { start, halt, horizon, penalty, nonFinite = 'end' } = options;
    this.#model = model;
    this.#options = options;
    this.#policy = policyOf(policy);
    if (!Number.isInteger(horizon) || horizon < 0) {
      throw new RangeError(
        `imagine: horizon must be a non-negative integer, got ${JSON.stringify(horizon)}`,
      );
    }
    if (penalty !== undefined) expectPenalty(penalty);
    if (halt !== undefined) expectHalt(halt);
    if (!['end', 'throw', 'keep'].includes(nonFinite)) {
      throw new RangeError(`imagine: nonFinite must be end, throw or keep, got ${nonFinite}`);
    }
    this.#nonFinitePolicy = nonFinite;
    const carry = start instanceof Carry ? start : undefined;
    const seed = options.seed ?? carry?.key;
    if (seed === undefined) {
      throw new TypeError('imagine: seed must be given unless start is a carry, got none');
    }
    this.#given = carry;
    this.#key = key(seed);
    this.#firstStep = carry?.step ?? 0;
    this.#start = expectMatrix('imagine: start', obsOf(start), null, model.obsSize);
    const rows = this.#start.shape[0];
    this.#trajectory =
      options.trajectory ?? carry?.trajectory ?? Uint32Array.from({ length: rows }, (_, i) => i);
    if (!(this.#trajectory instanceof Uint32Array)) {
      throw new TypeError(
        `imagine: trajectory must be a Uint32Array, got ${describe(this.#trajectory)}`,
      );
    }
    if (this.#trajectory.length !== rows) {
      throw new ShapeError(
        `imagine: trajectory must have one id for each of the ${rows} rows, got ${this.#trajectory.length}`,
      );
    }
  }

  /** Number of results, so far, that were not finite; each ended its row, unless they are kept. */
  get nonFinite(): number {
    return this.#nonFinite;
  }

  /**
   * Where the rollout stopped, after its end or an abort, as the `start` of another.
   *
   * @throws Error while the rollout has not been read or is still being read
   */
  get carry(): Carry<State> {
    if (this.#carry === undefined) {
      throw new Error('Rollout: carry is there when the rollout has ended; read it first');
    }
    return this.#carry;
  }

  /**
   * Iterates over the steps; the next step is computed when it is asked for.
   *
   * @throws Error when the rollout has been read before
   */
  [Symbol.asyncIterator](): AsyncGenerator<RolloutStep, void, undefined> {
    if (this.#read) {
      throw new Error('Rollout: a rollout is read once; call imagine again for another pass');
    }
    this.#read = true;
    return this.#run();
  }

  /**
   * Runs to the end and returns everything.
   *
   * @throws Error when the rollout has been read before
   */
  async collect(): Promise<Trajectory> {
    const { obsSize, actionSize } = this.#model;
    const { horizon } = this.#options;
    const [rows] = this.#start.shape;
    const trajectory = new Trajectory(rows, horizon, obsSize, actionSize);
    const { last, length, obs, truncated } = trajectory;
    const start = packed(this.#start);
    for (let row = 0; row < rows; row++) {
      const from = row * obsSize;
      if (!isFiniteRow(start, from, obsSize) && this.#nonFinitePolicy !== 'keep') continue;
      obs.data.set(start.subarray(from, from + obsSize), row * (horizon + 1) * obsSize);
    }
    for await (const step of this) {
      writeStep(trajectory, step);
      for (const row of step.dropped) {
        if (length[row] === 0) continue;
        const at = row * horizon + length[row] - 1;
        truncated.data[at] = 1;
        last.data[at] = 1;
      }
    }
    trajectory.nonFinite = this.#nonFinite;
    return trajectory;
  }

  async *#run(): AsyncGenerator<RolloutStep, void, undefined> {
    const { horizon, onProgress } = this.#options;
    const scratch = { model: new Scratch(), policy: new Scratch() };
    let rows: Rows<State> | undefined;
    let done = 0;
    try {
      rows = await this.#begin(scratch.model);
      while (done < horizon && rows.live.includes(1)) {
        const outcome = await this.#step(rows, done, scratch);
        rows = outcome.rows;
        done++;
        onProgress?.({ step: done, horizon, rows: count(rows.live), nonFinite: this.#nonFinite });
        yield outcome.step;
      }
    } finally {
      if (rows !== undefined) this.#carry = await this.#finish(rows, this.#firstStep + done);
    }
  }

  /** The first rows: those of the start that are finite. */
  async #begin(scratch: Scratch): Promise<Rows<State>> {
    const { start } = this.#options;
    const width = this.#model.obsSize;
    const data = packed(this.#start);
    const finite = new Uint8Array(this.#trajectory.length);
    for (let i = 0; i < finite.length; i++) {
      finite[i] = isFiniteRow(data, i * width, width) ? 1 : 0;
      if (finite[i] === 1) continue;
      if (this.#nonFinitePolicy === 'throw') throw new NonFiniteError(i, -1);
      this.#nonFinite++;
      if (this.#nonFinitePolicy === 'keep') finite[i] = 1;
    }
    const row = rowsOf(finite);
    const all = row.length === this.#trajectory.length;
    // A copy: what was yielded must stay as it is whatever the caller does with the start.
    const obs = gatherRows(this.#start, row);
    const trajectory = gatherRows(nd(this.#trajectory), row).data;
    const rows: Rows<State> = {
      state: undefined,
      owned: false,
      obs,
      row,
      trajectory,
      policyState: gatherPolicyState(this.#given?.policyState, row),
      live: new Uint8Array(row.length).fill(1),
    };
    if (row.length === 0) return rows;
    if (isNd(start)) {
      rows.state = await this.#model.initial(obs, this.#modelContext(trajectory, 0, scratch));
      rows.owned = true;
    } else {
      const given = this.#given === undefined ? (start as State) : (this.#given.state as State);
      rows.state = all ? given : await this.#model.gather(given, row);
      rows.owned = !all;
    }
    return rows;
  }

  async #step(
    rows: Rows<State>,
    step: number,
    scratch: { model: Scratch; policy: Scratch },
  ): Promise<{ step: RolloutStep; rows: Rows<State> }> {
    const { halt, horizon, penalty, signal } = this.#options;
    const { obs, trajectory } = rows;
    const model = this.#model;

    signal?.throwIfAborted();
    const chosen = await this.#act(rows, step, scratch.policy);
    signal?.throwIfAborted();
    const context = this.#modelContext(trajectory, step, scratch.model);
    const result = await model.step(rows.state as State, chosen.action, context);
    let kept: Rows<State> | undefined;
    try {
      const { nextObs, terminated, uncertainty, halted } = await this.#judge(
        result,
        rows,
        chosen,
        context,
      );
      const settled = settle({
        step,
        last: step === horizon - 1,
        row: rows.row,
        trajectory,
        live: rows.live,
        obs,
        chosen,
        nextObs,
        result,
        terminated,
        uncertainty,
        coefficient: penalty?.coefficient ?? 0,
        halt: halted && {
          rows: halted,
          penalty: halt?.penalty ?? 0,
          terminates: halt?.as !== 'truncated',
        },
        policy: this.#nonFinitePolicy,
      });
      this.#nonFinite += settled.nonFinite;
      const next: Rows<State> = {
        ...rows,
        state: result.state,
        owned: true,
        obs: nextObs,
        policyState: chosen.state,
        live: settled.live,
      };
      kept = this.#options.compact === false ? next : await this.#compact(next);
      if (rows.owned) model.release?.(rows.state as State);
      return { step: settled.step, rows: kept };
    } finally {
      // The new state lives on only where the rows that go on hold it.
      if (kept?.state !== result.state) model.release?.(result.state);
    }
  }

  async #act(rows: Rows<State>, step: number, scratch: Scratch): Promise<PolicyResult> {
    const { obs, policyState, trajectory } = rows;
    const at = this.#firstStep + step;
    const answer = await this.#policy(obs, {
      step: at,
      trajectory,
      noise: new RowNoise(this.#key, Stream.policy, at, trajectory),
      state: policyState,
      scratch,
    });
    const result = isNd(answer) ? { action: answer as NdView } : answer;
    const what = 'imagine: the action';
    const action = result && 'action' in result ? result.action : answer;
    expectMatrix(what, action, trajectory.length, this.#model.actionSize);
    if (result.logProb)
      expectPerRow('imagine: logProb', result.logProb, Float32Array, trajectory.length);
    return { ...result, action: rowMajorView(result.action) };
  }

  /** Checks a model's answer; adds the caller's ends and the score. */
  async #judge(
    result: StepResult<State>,
    rows: Rows<State>,
    chosen: PolicyResult,
    context: ModelContext,
  ): Promise<Judgement> {
    const { halt, penalty, terminate } = this.#options;
    const { obs } = rows;
    const { action } = chosen;
    const [size] = obs.shape;
    expectMatrix("imagine: the model's obs", result.obs, size, this.#model.obsSize);
    // A copy, for a model may write its next answer into the same memory.
    const nextObs = nd(packed(result.obs).slice(), result.obs.shape);
    expectPerRow("imagine: the model's reward", result.reward, Float32Array, size);
    const transitions = { obs, action, nextObs };
    let terminated: Uint8Array = new Uint8Array(size);
    if (result.terminated !== undefined) {
      expectPerRow("imagine: the model's terminated", result.terminated, Uint8Array, size);
      terminated = result.terminated.slice();
    }
    if (terminate !== undefined) {
      const ended = await terminate({ ...transitions, noise: context.noise.in(Stream.end) });
      expectPerRow("imagine: terminate's answer", ended, Uint8Array, size);
      terminated = eitherFlag(terminated, ended);
    }
    const scored = {
      ...transitions,
      reward: result.reward,
      step: context.step,
      trajectory: context.trajectory,
      noise: context.noise.in(Stream.score),
      logProb: chosen.logProb,
      state: rows.state,
      nextState: result.state,
    };
    const ask = (score: UncertaintyScore) =>
      scoreTransitions('imagine', score, result.prediction, scored);
    const doubt = halt && (await ask(halt.detector.score));
    // One score for both is asked once.
    const uncertainty =
      penalty && penalty.score !== halt?.detector.score ? await ask(penalty.score) : doubt;
    let halted: Uint8Array | undefined;
    if (halt !== undefined && doubt !== undefined) {
      halted = halt.detector.unknown(doubt);
      expectPerRow("imagine: the detector's answer", halted, Uint8Array, size);
    }
    return { nextObs, terminated, uncertainty: uncertainty ?? new Float32Array(size), halted };
  }

  /** The rows that have not ended; a state left behind is the caller's to release. */
  async #compact(rows: Rows<State>): Promise<Rows<State>> {
    const { live } = rows;
    const kept = rowsOf(live);
    if (kept.length === live.length) return rows;
    const some = kept.length > 0;
    return {
      state: some ? await this.#model.gather(rows.state as State, kept) : undefined,
      owned: some,
      obs: gatherRows(rows.obs, kept),
      row: gatherRows(nd(rows.row), kept).data,
      trajectory: gatherRows(nd(rows.trajectory), kept).data,
      policyState: gatherPolicyState(rows.policyState, kept),
      live: new Uint8Array(kept.length).fill(1),
    };
  }

  async #finish(rows: Rows<State>, step: number): Promise<Carry<State>> {
    const kept = await this.#compact(rows);
    if (rows.owned && kept.state !== rows.state) this.#model.release?.(rows.state as State);
    const { obs, policyState, row, state, trajectory } = kept;
    // A state the caller passed stays the caller's: the carry must not release it.
    const release = kept.owned ? () => this.#model.release?.(state as State) : undefined;
    return new Carry({ state, obs, policyState, row, step, trajectory, key: this.#key }, release);
  }

  #modelContext(trajectory: Uint32Array, step: number, scratch: Scratch): ModelContext {
    const { halt, penalty } = this.#options;
    const scores = [penalty?.score, halt?.detector.score];
    const at = this.#firstStep + step;
    return {
      step: at,
      trajectory,
      noise: new RowNoise(this.#key, Stream.model, at, trajectory),
      prediction: scores.some((score) => score !== undefined && needs(score, 'prediction')),
      scratch,
    };
  }
}

function policyOf(policy: AnyPolicy): Policy {
  if (typeof policy === 'function') return policy;
  if (typeof policy?.act === 'function') return (obs, context) => policy.act(obs, context);
  throw new TypeError(
    `imagine: policy must be a function or have one as act, got ${describe(policy)}`,
  );
}

const OPTIONS = [
  'start',
  'horizon',
  'seed',
  'trajectory',
  'penalty',
  'halt',
  'terminate',
  'compact',
  'nonFinite',
  'signal',
  'onProgress',
];

/** Checks what can be seen of a model before it is asked anything. */
function expectModel(model: unknown): void {
  const { initial, step, gather, obsSize, actionSize } = (model ?? {}) as Partial<WorldModel>;
  const functions = Object.entries({ initial, step, gather });
  const missing = functions.find(([, part]) => typeof part !== 'function')?.[0];
  if (missing !== undefined) {
    const ofTasks = typeof (model as { task?: unknown } | null)?.task === 'function';
    const remedy =
      model instanceof Promise
        ? '; await it'
        : ofTasks
          ? '; take one of its tasks, as in model.task(id)'
          : '';
    throw new TypeError(
      `imagine: model must have a function ${missing}, got ${describe(model)}${remedy}`,
    );
  }
  if (!isCount(obsSize) || !isCount(actionSize)) {
    throw new TypeError(
      `imagine: model must have obsSize and actionSize, got ${obsSize} and ${actionSize}`,
    );
  }
}

function expectPenalty(penalty: NonNullable<ImagineOptions<unknown>['penalty']>): void {
  expectOptions('imagine: penalty', penalty, ['score', 'coefficient']);
  const { score, coefficient } = penalty;
  if (typeof score !== 'function') {
    throw new TypeError(
      `imagine: penalty.score must be a function, got ${describe(score)}, such as maxAleatoric()`,
    );
  }
  if (!Number.isFinite(coefficient)) {
    throw new RangeError(
      `imagine: penalty.coefficient must be a finite number, got ${coefficient}`,
    );
  }
}

function expectHalt(halt: Halt): void {
  expectOptions('imagine: halt', halt, ['detector', 'as', 'penalty']);
  const { detector, as = 'terminated', penalty = 0 } = halt;
  if (typeof detector?.score !== 'function' || typeof detector.unknown !== 'function') {
    throw new TypeError(
      `imagine: halt.detector must have functions score and unknown, got ${describe(detector)}`,
    );
  }
  if (as !== 'terminated' && as !== 'truncated') {
    throw new RangeError(`imagine: halt.as must be terminated or truncated, got ${as}`);
  }
  if (!Number.isFinite(penalty)) {
    throw new RangeError(`imagine: halt.penalty must be a finite number, got ${penalty}`);
  }
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0;
}

/** What is seen of a start. */
function obsOf(start: unknown): unknown {
  if (isNd(start)) return start;
  const obs = (start as { obs?: unknown } | null | undefined)?.obs;
  if (isNd(obs)) return obs;
  throw new TypeError(
    `imagine: start must be a view [B, S], a carry, or a state with its observations as obs, got ${describe(start)}`,
  );
}

function count(flags: Uint8Array): number {
  let sum = 0;
  for (const flag of flags) sum += flag;
  return sum;
}
