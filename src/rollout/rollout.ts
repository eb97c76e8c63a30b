import type { ModelContext, StepResult, WorldModel } from '../dynamics/contract.js';
import { expectPerRow } from '../dynamics/per-row.js';
import { Scratch } from '../dynamics/scratch.js';
import { isFiniteRow } from '../dynamics/termination-rules.js';
import { turns } from '../formats/turns.js';
import {
  describe,
  expectMatrix,
  gatherRows,
  isNd,
  type NdView,
  nd,
  packed,
  rowMajorView,
  zeros,
} from '../nd.js';
import { type Key, key } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { Carry } from './carry.js';
import { holdActions } from './hold-actions.js';
import { expectImagineOptions, expectModel, expectTrajectoryIds, obsOf } from './imagine-checks.js';
import type { ImagineOptions } from './imagine-options.js';
import { judge, readsPrediction, valuesAt } from './judge.js';
import {
  type AnyPolicy,
  gatherPolicyState,
  type Policy,
  type PolicyResult,
  type PolicyState,
  policyOf,
} from './policy.js';
import type { RolloutCount, RolloutEnding } from './progress.js';
import { mapValues, NonFiniteError, type NonFinitePolicy, rowsOf, settle } from './settle.js';
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
  /** Values of the observations; undefined without a value function. */
  value: Float32Array | undefined;
  /** 1 for rows that have not ended. */
  live: Uint8Array;
}

/** Memory that is reused from step to step. */
interface Memory {
  readonly model: Scratch;
  readonly policy: Scratch;
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
  readonly #prediction: boolean;
  #nonFinite = 0;
  #transitions = 0;
  /** Values of the start, `[B]`; 0 for rows that did not begin. */
  #startValue: Float32Array | undefined;
  #carry: Carry<State> | undefined;

  /** @internal */
  constructor(model: WorldModel<State>, policy: AnyPolicy, options: ImagineOptions<State>) {
    expectModel('imagine', model);
    expectImagineOptions(options);
    const { actionRepeat = 1, nonFinite = 'end', start } = options;
    const chooser = policyOf('imagine', policy);
    this.#model = model;
    this.#options = options;
    this.#policy = actionRepeat === 1 ? chooser : holdActions(chooser, actionRepeat);
    this.#nonFinitePolicy = nonFinite;
    this.#prediction = readsPrediction(options);
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
    expectTrajectoryIds('imagine', this.#trajectory, rows);
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
    const { horizon, scores, value } = this.#options;
    const [rows] = this.#start.shape;
    const trajectory = new Trajectory(rows, horizon, obsSize, actionSize);
    const { last, length, obs, terminated, truncated } = trajectory;
    if (scores !== undefined) {
      trajectory.scores = mapValues(scores, () => zeros([rows, horizon]));
    }
    if (value !== undefined) trajectory.value = zeros([rows, horizon + 1]);
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
    if (trajectory.value !== undefined) {
      const values = trajectory.value.data;
      const bootstrap = new Float32Array(rows);
      for (let row = 0; row < rows; row++) {
        const steps = length[row];
        values[row * (horizon + 1)] = this.#startValue?.[row] ?? 0;
        const ended = steps > 0 && terminated.data[row * horizon + steps - 1] === 1;
        bootstrap[row] = ended ? 0 : values[row * (horizon + 1) + steps];
      }
      trajectory.bootstrap = bootstrap;
    }
    trajectory.nonFinite = this.#nonFinite;
    return trajectory;
  }

  async *#run(): AsyncGenerator<RolloutStep, void, undefined> {
    const { horizon, onProgress, signal, value } = this.#options;
    const memory = { model: new Scratch(), policy: new Scratch() };
    let rows: Rows<State> | undefined;
    let done = 0;
    const turn = turns();
    // What remains when the reader breaks off: then nothing below comes to its end or throws.
    let ending: RolloutEnding = { status: 'stopped' };
    try {
      rows = await this.#begin(memory.model);
      if (value !== undefined) rows = await this.#valueStart(rows, value);
      while (done < horizon && rows.live.includes(1)) {
        const others = turn();
        if (others !== undefined) await others;
        const outcome = await this.#step(rows, done, memory);
        rows = outcome.rows;
        done++;
        let refusal: { error: unknown } | undefined;
        try {
          onProgress?.({ status: 'running', ...this.#count(rows, done) });
        } catch (error) {
          refusal = { error };
        }
        yield outcome.step;
        // Thrown no earlier: the carry goes on after this step, so the reader must have it.
        if (refusal !== undefined) throw refusal.error;
      }
      ending = { status: 'done' };
    } catch (error) {
      const aborted = signal?.aborted === true && error === signal.reason;
      ending = aborted ? { status: 'aborted', reason: error } : { status: 'failed', error };
      throw error;
    } finally {
      await this.#end(rows, done, ending);
    }
  }

  /** Leaves the carry and tells how the rollout ended. */
  async #end(rows: Rows<State> | undefined, done: number, ending: RolloutEnding): Promise<void> {
    let told = ending;
    let refusal: { error: unknown } | undefined;
    try {
      if (rows !== undefined) this.#carry = await this.#finish(rows, this.#firstStep + done);
    } catch (error) {
      // What failed first is what the reader is to catch.
      if (told.status !== 'failed') {
        told = { status: 'failed', error };
        refusal = { error };
      }
    }
    try {
      this.#options.onProgress?.({ ...told, ...this.#count(rows, done) });
    } catch (error) {
      if (told.status === 'done' || told.status === 'stopped') refusal = { error };
    }
    if (refusal !== undefined) throw refusal.error;
  }

  #count(rows: Rows<State> | undefined, step: number): RolloutCount {
    return {
      step,
      horizon: this.#options.horizon,
      rows: rows === undefined ? 0 : count(rows.live),
      transitions: this.#transitions,
      nonFinite: this.#nonFinite,
    };
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
      value: undefined,
      live: new Uint8Array(row.length).fill(1),
    };
    if (row.length === 0) return rows;
    if (isNd(start)) {
      const state = await this.#model.initial(obs, this.#modelContext(trajectory, 0, scratch));
      rows.state = expectState("the model's initial", state);
      rows.owned = true;
    } else {
      const given = this.#given === undefined ? (start as State) : (this.#given.state as State);
      rows.state = all ? given : await this.#model.gather(given, row);
      rows.owned = !all;
    }
    return rows;
  }

  /** The first values; rows whose value is not finite do not begin, as if their start were not. */
  async #valueStart(
    rows: Rows<State>,
    value: NonNullable<ImagineOptions<State>['value']>,
  ): Promise<Rows<State>> {
    const { signal } = this.#options;
    const { obs, row, trajectory } = rows;
    const values = new Float32Array(this.#trajectory.length);
    this.#startValue = values;
    if (row.length === 0) return rows;
    signal?.throwIfAborted();
    const step = this.#firstStep;
    const answer = await valuesAt(value, obs, { key: this.#key }, step, trajectory);
    const live = rows.live.slice();
    for (let i = 0; i < answer.length; i++) {
      if (!Number.isFinite(answer[i])) {
        if (this.#nonFinitePolicy === 'throw') throw new NonFiniteError(row[i], -1);
        this.#nonFinite++;
        if (this.#nonFinitePolicy === 'end') {
          live[i] = 0;
          continue;
        }
      }
      values[row[i]] = answer[i];
    }
    const valued = { ...rows, live, value: answer };
    return this.#options.compact === false ? valued : this.#keepLive(valued);
  }

  async #step(
    rows: Rows<State>,
    step: number,
    memory: Memory,
  ): Promise<{ step: RolloutStep; rows: Rows<State> }> {
    const { halt, horizon, penalty, signal } = this.#options;
    const { obs, trajectory } = rows;
    const model = this.#model;

    signal?.throwIfAborted();
    const chosen = await this.#act(rows, step, memory.policy);
    signal?.throwIfAborted();
    const context = this.#modelContext(trajectory, step, memory.model);
    const result = await model.step(rows.state as State, chosen.action, context);
    expectResult(result);
    let kept: Rows<State> | undefined;
    try {
      const taken = { state: rows.state, obs, chosen, result, context };
      const { halted, nextValue, ...judged } = await judge(this.#options, taken);
      const settled = settle({
        ...judged,
        step,
        last: step === horizon - 1,
        row: rows.row,
        trajectory,
        live: rows.live,
        obs,
        chosen,
        result,
        coefficient: penalty?.coefficient ?? 0,
        halt: halted && {
          rows: halted,
          penalty: halt?.penalty ?? 0,
          terminates: halt?.as !== 'truncated',
        },
        values: rows.value && nextValue && { value: rows.value, nextValue },
        policy: this.#nonFinitePolicy,
      });
      const next: Rows<State> = {
        ...rows,
        state: result.state,
        owned: true,
        obs: judged.nextObs,
        policyState: chosen.state,
        value: nextValue,
        live: settled.live,
      };
      kept = this.#options.compact === false ? next : await this.#compact(next);
      if (rows.owned) model.release?.(rows.state as State);
      this.#nonFinite += settled.nonFinite;
      this.#transitions += settled.step.row.length;
      return { step: settled.step, rows: kept };
    } finally {
      // The new state lives on only where the rows that go on hold it.
      if (kept?.state !== result.state) model.release?.(result.state);
    }
  }

  async #act(rows: Rows<State>, step: number, scratch: Scratch): Promise<PolicyResult> {
    const { obs, policyState, row, trajectory } = rows;
    const at = this.#firstStep + step;
    const answer = await this.#policy(obs, {
      step: at,
      trajectory,
      noise: new RowNoise(this.#key, Stream.policy, at, trajectory),
      row,
      startRows: this.#trajectory.length,
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
      value: rows.value && gatherRows(nd(rows.value), kept).data,
      live: new Uint8Array(kept.length).fill(1),
    };
  }

  /** The rows that have not ended; a state left behind is released where the rollout made it. */
  async #keepLive(rows: Rows<State>): Promise<Rows<State>> {
    const kept = await this.#compact(rows);
    if (rows.owned && kept.state !== rows.state) this.#model.release?.(rows.state as State);
    return kept;
  }

  async #finish(rows: Rows<State>, step: number): Promise<Carry<State>> {
    let kept: Rows<State>;
    try {
      kept = await this.#keepLive(rows);
    } catch (error) {
      // There will be no carry to release it by.
      if (rows.owned) this.#model.release?.(rows.state as State);
      throw error;
    }
    const { obs, policyState, row, state, trajectory } = kept;
    // A state the caller passed stays the caller's: the carry must not release it.
    const release = kept.owned ? () => this.#model.release?.(state as State) : undefined;
    return new Carry({ state, obs, policyState, row, step, trajectory, key: this.#key }, release);
  }

  #modelContext(trajectory: Uint32Array, step: number, scratch: Scratch): ModelContext {
    const at = this.#firstStep + step;
    return {
      step: at,
      trajectory,
      noise: new RowNoise(this.#key, Stream.model, at, trajectory),
      prediction: this.#prediction,
      scratch,
    };
  }
}

/** Checks that a step answered with something to go on from. */
function expectResult(result: unknown): asserts result is StepResult<unknown> {
  if (typeof result !== 'object' || result === null) {
    throw new TypeError(
      `imagine: the model's step must return { state, obs, reward }, got ${describe(result)}`,
    );
  }
  expectState("the model's step", (result as { state?: unknown }).state);
}

function expectState<State>(what: string, state: State): State {
  if (state === undefined) {
    throw new TypeError(
      `imagine: ${what} must return a state, got undefined; return null where there is none`,
    );
  }
  return state;
}

function count(flags: Uint8Array): number {
  let sum = 0;
  for (const flag of flags) sum += flag;
  return sum;
}
