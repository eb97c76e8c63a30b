import type { ModelContext, StepResult, WorldModel } from '../dynamics/contract.js';
import { eitherFlag, expectPerRow } from '../dynamics/per-row.js';
import { needs, scoreTransitions, type UncertaintyScore } from '../dynamics/score.js';
import { Scratch } from '../dynamics/scratch.js';
import {
  describe,
  expectExtent,
  expectMatrix,
  gatherRows,
  isNd,
  type NdView,
  nd,
  packed,
  rowMajorView,
  ShapeError,
  zeros,
} from '../nd.js';
import { DisposedError } from '../runtime/errors.js';
import type { ActionSpace } from '../runtime/manifest.js';
import { expectOptions } from '../runtime/options.js';
import { type Key, key } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import {
  type AutoresetMode,
  expectModelEnv,
  expectStarts,
  type ModelEnvActionInfo,
  type ModelEnvOptions,
  type ModelEnvReset,
  type ModelEnvResetOptions,
  type ModelEnvStep,
  type StartFunction,
} from './model-env-options.js';
import { StepOutcome } from './model-env-outcome.js';
import { rowsOf } from './settle.js';

/** Envs that share a state of the model, in ascending order. */
interface Group<State> {
  readonly state: State;
  /** Which envs, `[b]`. */
  readonly env: Int32Array;
  /** Their ids, `[b]`. */
  readonly ids: Uint32Array;
}

/** Where all envs are. A call makes a new one of these or, where it fails, leaves the old one. */
interface Standing<State> {
  readonly key: Key;
  /** Calls of `step` so far. */
  readonly clock: number;
  readonly groups: readonly Group<State>[];
  /** Whether there is one group of all envs, which those that begin an episode join by `observe`. */
  readonly joined: boolean;
  /** What was last shown, float32 `[N, S]`; never written. */
  readonly obs: NdView;
  /** Episode of each env, from 0; `2^32 - 1` before the first. */
  readonly episode: Uint32Array;
  /** Steps of each env's episode. */
  readonly elapsed: Int32Array;
  /** 1 for envs whose episode has ended. */
  readonly ended: Uint8Array;
}

/** Where some envs begin. */
interface Beginning<State> {
  readonly env: Int32Array;
  readonly obs: NdView;
  readonly state?: State;
}

/**
 * A learned model as `N` environments side by side, shaped like Gymnasium's vector environments.
 *
 * `terminated` is the model's end (or that of `terminate` or `halt`), `truncated` a cut: by
 * `maxEpisodeSteps`, by a halt, or before a result that was not finite. Never are both 1. After an episode
 * the envs behave as Gymnasium's `AutoresetMode` says: `next-step` ignores the next action and answers with
 * the first observation, reward 0 and both flags 0; `same-step` answers with the first observation at once,
 * the last being in `info.finalObs`; `disabled` refuses to step until `reset({ mask })`. Other than
 * Gymnasium, the `info` of a step always tells of the transition that its reward belongs to, with
 * `same-step` too, where `finalInfo` says the same of those that ended.
 *
 * Noise is keyed by (seed, env id, clock), the clock being the number of steps since the seed was given; the
 * start of an episode by (seed, env id, episode). So an env's fate does not depend on the envs beside it, and
 * its first episode is what `imagine` gives for the same seed, id and actions. The clock is also what the
 * model is told as `step`.
 *
 * One call at a time: each must have been answered before the next. A call that fails changes nothing.
 * States are the environment's and are released, all of them by `close()`; the model stays the caller's.
 *
 * Gymnasium, `vector/sync_vector_env.py` and `vector/vector_env.py` (1.4.0).
 *
 * @example
 * ```ts @import.meta.vitest
 * const { ModelEnv } = await import('umwelt/rollout');
 * const { ClosedFormDynamics } = await import('umwelt/dynamics');
 * const { nd } = await import('umwelt');
 * // A point that is pushed left or right, and is to reach 3.
 * const model = new ClosedFormDynamics({
 *   obsSize: 1,
 *   actionSize: 2,
 *   next: ({ obs, action, nextObs }) =>
 *     nextObs.data.forEach((_, i, next) => { next[i] = obs.data[i] + action.data[2 * i + 1] - action.data[2 * i]; }),
 *   reward: ({ nextObs }) => nextObs.data.map((x) => (x >= 3 ? 1 : 0)),
 *   terminate: ({ nextObs }) => Uint8Array.from(nextObs.data, (x) => (x >= 3 ? 1 : 0)),
 * });
 * using env = new ModelEnv(model, {
 *   numEnvs: 2,
 *   starts: ({ env }) => nd(Float32Array.from(env, (id) => 2 - id), [env.length, 1]),
 *   actionSpace: { type: 'discrete', n: 2 },
 *   maxEpisodeSteps: 100,
 *   seed: 0,
 * });
 * let { obs } = await env.reset();
 * expect([...obs.data]).toEqual([2, 1]);
 * const right = Int32Array.of(1, 1);
 * const { reward, terminated } = await env.step(right);
 * expect([...reward, ...terminated]).toEqual([1, 0, 1, 0]);
 * ({ obs } = await env.step(right));
 * expect([...obs.data]).toEqual([2, 3]); // the first begins anew, the second has arrived
 * ```
 */
export class ModelEnv<State = unknown> implements Disposable {
  /** Number of envs, `N`. */
  readonly numEnvs: number;
  /** Width of an observation, `S`. */
  readonly obsSize: number;
  /** Width of the model's action, `A`. */
  readonly actionSize: number;
  /** The actions there are, where they were given; bounds are not imposed. */
  readonly actionSpace: ActionSpace | undefined;
  /** What happens after an episode has ended. */
  readonly autoreset: AutoresetMode;
  readonly #model: WorldModel<State>;
  readonly #options: ModelEnvOptions<State>;
  readonly #ids: Uint32Array;
  readonly #starts: StartFunction<State>;
  readonly #scores: readonly UncertaintyScore[];
  readonly #scratch: Scratch = new Scratch();
  #now: Standing<State>;
  #busy = false;
  #closed = false;
  #nonFinite = 0;

  /**
   * @param model - any {@link WorldModel}
   * @throws TypeError, `ShapeError` or RangeError naming the option, what must hold and what came
   */
  constructor(model: WorldModel<State>, options: ModelEnvOptions<State>) {
    expectModelEnv(model, options);
    const { halt, numEnvs, penalty, starts } = options;
    this.numEnvs = numEnvs;
    this.obsSize = model.obsSize;
    this.actionSize = model.actionSize;
    this.actionSpace = options.actionSpace;
    this.autoreset = options.autoreset ?? 'next-step';
    this.#model = model;
    this.#options = options;
    this.#ids = options.ids?.slice() ?? Uint32Array.from({ length: numEnvs }, (_, env) => env);
    this.#starts = isNd(starts) ? startsFrom(starts as NdView) : starts;
    this.#scores = [penalty?.score, halt?.detector.score].filter((score) => score !== undefined);
    this.#now = {
      ...beforeFirst(numEnvs),
      key: key(options.seed),
      obs: zeros([numEnvs, model.obsSize]),
      groups: [],
      joined: false,
    };
  }

  /** Number of results, so far, that were not finite; each cut its episode. */
  get nonFinite(): number {
    return this.#nonFinite;
  }

  /**
   * Begins an episode in all envs, or in those of a mask.
   *
   * Without a seed the noise goes on from where it is, as Gymnasium's does.
   *
   * @throws TypeError, `ShapeError` or RangeError when an option is not as it must be, or a start is not
   *   finite; Error for a mask before the first reset, or while another call is under way
   * @throws `DisposedError` after `close()`
   */
  reset(options: ModelEnvResetOptions = {}): Promise<ModelEnvReset> {
    return this.#change('reset', async (made) => {
      expectOptions('ModelEnv.reset', options, ['seed', 'mask', 'start']);
      const { mask, seed, start } = options;
      const env = this.#envsOf(mask);
      if (seed !== undefined && mask !== undefined) {
        throw new TypeError(
          'ModelEnv.reset: seed must be left out with a mask, for it names the noise of all envs',
        );
      }
      if (start !== undefined) {
        expectStarts('ModelEnv.reset: start', start, env.length, this.obsSize);
      }
      const from: Standing<State> =
        seed === undefined
          ? this.#now
          : { ...this.#now, ...beforeFirst(this.numEnvs), key: key(seed) };
      const moved = { action: zeros([this.numEnvs, this.actionSize]), reward: undefined };
      const standing = await this.#begin(from, env, start, moved, made);
      const first = flagsOf(env, this.numEnvs);
      const obs = copyOf(standing.obs);
      return { standing, answer: { obs, info: { first, episode: standing.episode.slice() } } };
    });
  }

  /**
   * One step of every env.
   *
   * @param action - float32 `[N, A]`; with a discrete action space, indices as `Int32Array [N]` or an int32
   *   view `[N]` or `[N, 1]`, which the model is fed one-hot. Bounds are not imposed. Where an env is reset
   *   instead, its action is ignored
   * @throws TypeError, `ShapeError` or RangeError when the actions, or a function's answer, are not as they
   *   must be; Error before the first reset, while another call is under way, or with `disabled` where an
   *   env has ended and was not reset
   * @throws `DisposedError` after `close()`
   */
  step(
    action: NdView | NdView<Int32Array> | Int32Array,
    about: ModelEnvActionInfo = {},
  ): Promise<ModelEnvStep> {
    return this.#change('step', async (made) => {
      const { autoreset, numEnvs } = this;
      const now = this.#now;
      if (now.episode[0] === NONE) {
        throw new Error('ModelEnv.step: reset must have been called before the first step');
      }
      if (autoreset === 'disabled' && now.ended.includes(1)) {
        throw new Error(
          'ModelEnv.step: an env whose episode has ended must be reset before it is stepped, got env ' +
            `${now.ended.indexOf(1)}; call reset({ mask })`,
        );
      }
      expectOptions('ModelEnv.step', about, ['logProb']);
      const actions = this.#actionsOf(action, now.ended);
      const logProb = this.#logProbOf(about);
      const outcome = new StepOutcome(now.obs);
      const stepped = await this.#advance(now, actions, logProb, outcome, made);
      const ending = autoreset === 'same-step' ? outcome.done : now.ended;
      const first = autoreset === 'disabled' ? new Uint8Array(numEnvs) : ending.slice();
      const env = rowsOf(first);
      const moved = { action: actions, reward: outcome.reward };
      const standing =
        env.length === 0
          ? stepped.standing
          : await this.#begin(stepped.standing, env, undefined, moved, made);
      const some = autoreset === 'same-step' && env.length > 0;
      const { reward, terminated, truncated } = outcome;
      const info = {
        ...outcome.info(),
        first,
        episode: standing.episode.slice(),
        ...(some && {
          final: first.slice(),
          finalObs: finalOf(stepped.standing.obs, first),
          finalInfo: outcome.info(first),
        }),
      };
      const answer = { obs: copyOf(standing.obs), reward, terminated, truncated, info };
      return { standing, answer, nonFinite: stepped.nonFinite };
    });
  }

  /** Releases every state; a call under way then fails. A second call does nothing more. */
  close(): void {
    this.#closed = true;
    if (!this.#busy) this.#become(undefined, []);
  }

  /** As {@link ModelEnv.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Runs a call that changes where the envs are, and releases the states that are left behind: the new
   * ones where it fails, else the old ones that did not stay.
   *
   * @param work - puts each state it makes into `made`
   */
  async #change<Answer>(
    name: string,
    work: (
      made: State[],
    ) => Promise<{ standing: Standing<State>; answer: Answer; nonFinite?: number }>,
  ): Promise<Answer> {
    this.#expectOpen(name);
    if (this.#busy) {
      throw new Error(`ModelEnv.${name}: the call before must have been answered; await it`);
    }
    this.#busy = true;
    const made: State[] = [];
    let standing: Standing<State> | undefined;
    try {
      const outcome = await work(made);
      this.#expectOpen(name);
      standing = outcome.standing;
      this.#nonFinite += outcome.nonFinite ?? 0;
      return outcome.answer;
    } finally {
      this.#busy = false;
      this.#become(standing, made);
    }
  }

  #become(standing: Standing<State> | undefined, made: readonly State[]): void {
    const before = this.#now;
    this.#now = standing ?? before;
    if (this.#closed) this.#now = { ...before, groups: [] };
    const kept = new Set(this.#now.groups.map(({ state }) => state));
    for (const state of new Set([...before.groups.map((group) => group.state), ...made])) {
      if (!kept.has(state)) this.#model.release?.(state);
    }
  }

  /** Steps all groups; envs that ended before stay where they are. */
  async #advance(
    now: Standing<State>,
    actions: NdView,
    logProb: Float32Array | undefined,
    outcome: StepOutcome,
    made: State[],
  ): Promise<{ standing: Standing<State>; nonFinite: number }> {
    const { maxEpisodeSteps = Number.POSITIVE_INFINITY } = this.#options;
    const { ended } = now;
    const elapsed = now.elapsed.slice();
    const cut = new Uint8Array(this.numEnvs);
    for (let env = 0; env < elapsed.length; env++) {
      if (ended[env] === 0 && ++elapsed[env] >= maxEpisodeSteps) cut[env] = 1;
    }
    const groups: Group<State>[] = [];
    let nonFinite = 0;
    for (const group of now.groups) {
      if (!anyGoesOn(group.env, ended)) continue;
      const all = group.env.length === this.numEnvs;
      const action = all ? actions : gatherRows(actions, group.env);
      const context = this.#context(now.key, now.clock, group.ids);
      const result = await this.#model.step(group.state, action, context);
      made.push(result.state);
      const facts = await this.#judge(now.obs, group, action, logProb, result, context);
      nonFinite += outcome.add(facts, ended, cut);
      groups.push({ ...group, state: result.state });
    }
    const standing: Standing<State> = {
      ...now,
      clock: now.clock + 1,
      obs: outcome.obs,
      elapsed,
      ended: outcome.done,
      groups: now.joined ? groups : await this.#without(groups, outcome.done, made),
    };
    return { standing, nonFinite };
  }

  /** Checks a model's answer; adds the caller's ends and the scores. */
  async #judge(
    before: NdView,
    { env, state }: Group<State>,
    action: NdView,
    logProb: Float32Array | undefined,
    result: StepResult<State>,
    context: ModelContext,
  ): Promise<Parameters<StepOutcome['add']>[0]> {
    const { halt, penalty, terminate } = this.#options;
    const rows = env.length;
    expectMatrix("ModelEnv: the model's obs", result.obs, rows, this.obsSize);
    expectPerRow("ModelEnv: the model's reward", result.reward, Float32Array, rows);
    let terminated: Uint8Array = result.terminated ?? new Uint8Array(rows);
    expectPerRow("ModelEnv: the model's terminated", terminated, Uint8Array, rows);
    const facts = { env, action, result, coefficient: penalty?.coefficient ?? 0 };
    if (terminate === undefined && this.#scores.length === 0) {
      return { ...facts, terminated, uncertainty: new Float32Array(rows), halt: undefined };
    }
    const all = rows === this.numEnvs;
    const obs = all ? before : gatherRows(before, env);
    const transitions = { obs, action, nextObs: rowMajorView(result.obs) };
    if (terminate !== undefined) {
      const also = await terminate({ ...transitions, noise: context.noise.in(Stream.end) });
      expectPerRow("ModelEnv: terminate's answer", also, Uint8Array, rows);
      terminated = eitherFlag(terminated, also);
    }
    const scored = {
      ...transitions,
      reward: result.reward,
      step: context.step,
      trajectory: context.trajectory,
      noise: context.noise.in(Stream.score),
      ...(logProb && { logProb: all ? logProb : gatherRows(nd(logProb), env).data }),
      state,
      nextState: result.state,
    };
    const ask = (score: UncertaintyScore) =>
      scoreTransitions('ModelEnv', score, result.prediction, scored);
    const doubt = halt && (await ask(halt.detector.score));
    // One score for both is asked once.
    const uncertainty =
      penalty && penalty.score !== halt?.detector.score ? await ask(penalty.score) : doubt;
    let stopped: Parameters<StepOutcome['add']>[0]['halt'];
    if (halt !== undefined && doubt !== undefined) {
      const unknown = halt.detector.unknown(doubt);
      expectPerRow("ModelEnv: the detector's answer", unknown, Uint8Array, rows);
      const terminates = halt.as !== 'truncated';
      stopped = { rows: unknown, penalty: halt.penalty ?? 0, terminates };
    }
    return {
      ...facts,
      terminated,
      uncertainty: uncertainty ?? new Float32Array(rows),
      halt: stopped,
    };
  }

  /** The groups without some envs. */
  async #without(
    groups: readonly Group<State>[],
    leaving: Uint8Array,
    made: State[],
  ): Promise<Group<State>[]> {
    const kept: Group<State>[] = [];
    for (const group of groups) {
      const rows = rowsGoingOn(group.env, leaving);
      if (rows.length === group.env.length) kept.push(group);
      else if (rows.length > 0) {
        const state = await this.#model.gather(group.state, rows);
        made.push(state);
        kept.push(this.#groupOf(state, gatherRows(nd(group.env), rows).data));
      }
    }
    return kept;
  }

  /**
   * Begins an episode in some envs.
   *
   * @param env - which, ascending
   * @param start - where; from `starts` where it is left out
   * @param moved - what the envs last did, `[N]`, for the model's `observe`
   */
  async #begin(
    from: Standing<State>,
    env: Int32Array,
    start: NdView | undefined,
    moved: { action: NdView; reward: Float32Array | undefined },
    made: State[],
  ): Promise<Standing<State>> {
    const { numEnvs, obsSize } = this;
    const episode = from.episode.slice();
    const elapsed = from.elapsed.slice();
    const ended = from.ended.slice();
    for (const at of env) {
      episode[at]++;
      elapsed[at] = 0;
      ended[at] = 0;
    }
    const beginnings =
      start === undefined
        ? await this.#beginnings(from.key, env, episode, made)
        : [{ env, obs: start }];
    const obs = copyOf(from.obs);
    for (const beginning of beginnings) {
      const seen = packed(beginning.obs);
      beginning.env.forEach((at, row) => {
        obs.data.set(seen.subarray(row * obsSize, (row + 1) * obsSize), at * obsSize);
      });
    }
    const next = { ...from, obs, episode, elapsed, ended };
    const all = env.length === numEnvs;
    const [shared] = from.groups;
    if (from.joined && !all && shared !== undefined) {
      const first = flagsOf(env, numEnvs);
      const seen = {
        obs,
        action: moved.action,
        reward: moved.reward ?? new Float32Array(numEnvs),
        first,
      };
      const context = this.#context(from.key, from.clock, this.#ids);
      const state = (await this.#model.observe?.(shared.state, seen, context)) as State;
      made.push(state);
      return { ...next, groups: [{ ...shared, state }] };
    }
    const groups = all ? [] : await this.#without(from.groups, flagsOf(env, numEnvs), made);
    const bare: Int32Array[] = [];
    for (const beginning of beginnings) {
      if (beginning.state === undefined) bare.push(beginning.env);
      else groups.push(this.#groupOf(beginning.state, beginning.env));
    }
    if (bare.length > 0) {
      const rows =
        bare.length === 1
          ? bare[0]
          : rowsOf(
              flagsOf(
                bare.flatMap((part) => [...part]),
                numEnvs,
              ),
            );
      const ids = gatherRows(nd(this.#ids), rows).data;
      const context = this.#context(from.key, from.clock, ids);
      const state = await this.#model.initial(gatherRows(obs, rows), context);
      made.push(state);
      groups.push({ state, env: rows, ids });
    }
    const joined = all && groups.length === 1 && this.#joins(groups[0].state);
    return { ...next, groups, joined };
  }

  /** Asks where episodes begin, once for each number of an episode. */
  async #beginnings(
    named: Key,
    env: Int32Array,
    episode: Uint32Array,
    made: State[],
  ): Promise<Beginning<State>[]> {
    const byEpisode = new Map<number, number[]>();
    for (const at of env) {
      const others = byEpisode.get(episode[at]);
      if (others === undefined) byEpisode.set(episode[at], [at]);
      else others.push(at);
    }
    const beginnings: Beginning<State>[] = [];
    for (const [number, envs] of byEpisode) {
      const rows = Int32Array.from(envs);
      const ids = gatherRows(nd(this.#ids), rows).data;
      const noise = new RowNoise(named, Stream.reset, number, ids);
      const answer = await this.#starts({ episode: number, env: ids, noise });
      const what = "ModelEnv: starts' answer";
      if (isNd(answer)) {
        const obs = expectStarts(what, answer, rows.length, this.obsSize);
        beginnings.push({ env: rows, obs });
      } else {
        const state = answer as State;
        made.push(state);
        const shown = (state as { obs?: unknown } | null | undefined)?.obs;
        if (!isNd(shown)) {
          throw new TypeError(
            `${what} must be a view [b, S] or a state with its observations as obs, got ${describe(answer)}`,
          );
        }
        const obs = expectStarts(what, shown, rows.length, this.obsSize);
        beginnings.push({ env: rows, obs, state });
      }
    }
    return beginnings;
  }

  /** Whether envs that begin can be put into a state of all envs by `observe`. */
  #joins(state: State): boolean {
    const { merge } = this.#options;
    if (merge !== undefined) return merge === 'observe';
    if (typeof this.#model.observe !== 'function') return false;
    return (
      isNd((state as { obs?: unknown } | null)?.obs) &&
      Object.keys(state as object).every((name) => name === 'obs' || name === 'member')
    );
  }

  #groupOf(state: State, env: Int32Array): Group<State> {
    return { state, env, ids: gatherRows(nd(this.#ids), env).data };
  }

  #context(named: Key, clock: number, ids: Uint32Array): ModelContext {
    return {
      step: clock,
      trajectory: ids,
      noise: new RowNoise(named, Stream.model, clock, ids),
      prediction: this.#scores.some((score) => needs(score, 'prediction')),
      scratch: this.#scratch,
    };
  }

  /** The envs of a mask. */
  #envsOf(mask: Uint8Array | undefined): Int32Array {
    if (mask === undefined) return Int32Array.from({ length: this.numEnvs }, (_, env) => env);
    expectPerRow('ModelEnv.reset: mask', mask, Uint8Array, this.numEnvs);
    const env = rowsOf(mask);
    if (env.length === 0) {
      throw new RangeError('ModelEnv.reset: mask must be 1 for at least one env, got none');
    }
    if (env.length < this.numEnvs && this.#now.episode[0] === NONE) {
      throw new Error('ModelEnv.reset: all envs must be reset before some of them, got a mask');
    }
    return env;
  }

  /** What the model is fed, float32 `[N, A]`; 0 for envs that take no step. */
  #actionsOf(action: unknown, idle: Uint8Array): NdView {
    const { actionSize, actionSpace, numEnvs } = this;
    let actions: NdView;
    if (actionSpace?.type === 'discrete') {
      const index = indicesOf(action, numEnvs);
      actions = zeros([numEnvs, actionSize]);
      for (let env = 0; env < numEnvs; env++) {
        if (idle[env] !== 0) continue;
        if (!(index[env] >= 0 && index[env] < actionSpace.n)) {
          throw new RangeError(
            `ModelEnv.step: actions must lie in 0..${actionSpace.n - 1}, got ${index[env]} for env ${env}`,
          );
        }
        actions.data[env * actionSize + index[env]] = 1;
      }
      return actions;
    }
    expectMatrix('ModelEnv.step: action', action, numEnvs, actionSize);
    actions = rowMajorView(action as NdView);
    if (!idle.includes(1)) return actions;
    actions = copyOf(actions);
    for (let env = 0; env < numEnvs; env++) {
      if (idle[env] !== 0) actions.data.fill(0, env * actionSize, (env + 1) * actionSize);
    }
    return actions;
  }

  #logProbOf({ logProb }: ModelEnvActionInfo): Float32Array | undefined {
    if (logProb !== undefined) {
      expectPerRow('ModelEnv.step: logProb', logProb, Float32Array, this.numEnvs);
    } else if (this.#scores.some((score) => needs(score, 'logProb'))) {
      throw new TypeError(
        'ModelEnv.step: this score needs the log-densities of the actions, got none; call ' +
          'step(action, { logProb })',
      );
    }
    return logProb;
  }

  #expectOpen(name: string): void {
    if (this.#closed) {
      throw new DisposedError(`ModelEnv.${name}: the environment must be open, but it was closed`);
    }
  }
}

/** The episode of an env that had none: the next number is 0. */
const NONE = 0xffffffff;

/** Clocks and episodes of envs that were not reset yet. */
function beforeFirst(numEnvs: number): {
  clock: number;
  episode: Uint32Array;
  elapsed: Int32Array;
  ended: Uint8Array;
} {
  return {
    clock: 0,
    episode: new Uint32Array(numEnvs).fill(NONE),
    elapsed: new Int32Array(numEnvs),
    ended: new Uint8Array(numEnvs),
  };
}

/** Starts drawn from observations, with replacement. */
function startsFrom(obs: NdView): StartFunction<never> {
  const [rows] = obs.shape;
  return ({ noise }) => {
    // Two numbers of 24 bits, so that every row of a large data set can be met.
    const uniform = noise.uniform(2).data;
    const index = Int32Array.from(noise.trajectory, (_, row) =>
      Math.floor((uniform[2 * row] + uniform[2 * row + 1] * 2 ** -24) * rows),
    );
    return gatherRows(obs, index);
  };
}

/** Indices of discrete actions, `[N]`. */
function indicesOf(action: unknown, numEnvs: number): Int32Array {
  const view = action instanceof Int32Array ? nd(action) : action;
  if (!isNd(view) || !(view.data instanceof Int32Array)) {
    throw new TypeError(
      `ModelEnv.step: discrete actions must be an Int32Array or an int32 view, got ${describe(action)}`,
    );
  }
  const { shape } = view;
  if (shape[0] !== numEnvs || shape.length > 2 || (shape[1] ?? 1) !== 1) {
    throw new ShapeError(
      `ModelEnv.step: discrete actions must have shape [${numEnvs}] or [${numEnvs}, 1], got [${shape}]`,
    );
  }
  expectExtent('ModelEnv.step: action', view);
  return packed(view as NdView<Int32Array>);
}

function anyGoesOn(env: Int32Array, ended: Uint8Array): boolean {
  for (let row = 0; row < env.length; row++) if (ended[env[row]] === 0) return true;
  return false;
}

/** The rows of envs that have not ended. */
function rowsGoingOn(env: Int32Array, ended: Uint8Array): Int32Array {
  const live = new Uint8Array(env.length);
  for (let row = 0; row < env.length; row++) live[row] = ended[env[row]] === 0 ? 1 : 0;
  return rowsOf(live);
}

function flagsOf(env: ArrayLike<number>, numEnvs: number): Uint8Array {
  const flags = new Uint8Array(numEnvs);
  for (let i = 0; i < env.length; i++) flags[env[i]] = 1;
  return flags;
}

/** The last observations of envs that ended, 0 for the others. */
function finalOf(obs: NdView, ended: Uint8Array): NdView {
  const last = copyOf(obs);
  const [, width] = obs.shape;
  ended.forEach((flag, env) => {
    if (flag === 0) last.data.fill(0, env * width, (env + 1) * width);
  });
  return last;
}

function copyOf(view: NdView): NdView {
  return nd(view.data.slice(), view.shape);
}
