import { modelContext, type WorldModel } from '../dynamics/contract.js';
import { expectPerRow } from '../dynamics/per-row.js';
import { describe, expectMatrix, gatherRows, type NdView, nd, packed, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { foldIn, type Key, type Seed } from '../sampling/key.js';
import {
  decide,
  expectMpcOptions,
  MPC_OPTIONS,
  type MpcDecision,
  type MpcMemory,
  type MpcOptions,
  oneHot,
} from './mpc.js';

/** How an agent plans. */
export interface MpcAgentOptions<Start = NdView> extends MpcOptions<Start> {
  /** Names the noise. */
  seed: Seed;
  /** Ids that key each row's noise, `[B]`. Default `0 .. B - 1`. */
  trajectory?: Uint32Array;
  /**
   * A model to follow what happens with: plans then start from its state, which takes in every
   * observation by `observe`, and not from the observations. The state must show its observations as `obs`.
   */
  model?: WorldModel<Start>;
}

/** What an agent is told besides the observations. */
export interface MpcObservation {
  /** 1 for rows in which an episode begins: they forget their plan, `[B]`. Default: nowhere. */
  first?: Uint8Array;
  /** Rewards of the transitions that led here, `[B]`; for models that infer something from them. */
  reward?: Float32Array;
  /** Stops the decision, which then throws the signal's reason and leaves the agent as it was. */
  signal?: AbortSignal;
}

/**
 * Acts by planning anew at every step, or at every few, for `B` environments at once.
 *
 * Each plan begins where the last one stopped: its actions that were not taken, moved forward. All memory
 * is cleared by `reset()`: an agent that was reset decides as a new one does.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { ClosedFormDynamics } = await import('umwelt/dynamics');
 * const { CemPlanner, MpcAgent, modelObjective } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * // A point that moves by its action and is paid for being near 0.
 * const model = new ClosedFormDynamics({
 *   obsSize: 1,
 *   actionSize: 1,
 *   next: ({ obs, action, nextObs }) => nextObs.data.set(obs.data.map((x, b) => x + action.data[b])),
 *   reward: ({ nextObs }) => nextObs.data.map((x) => -x * x),
 * });
 * const actionSpace = { type: 'box', low: [-1], high: [1] } as const;
 * const agent = new MpcAgent({
 *   planner: new CemPlanner({ horizon: 3, actionSpace }),
 *   objective: modelObjective(model),
 *   seed: 0,
 * });
 * const { action } = await agent.act(nd([[5], [-0.25]]));
 * expect(action.data[0]).toBeLessThan(-0.9);
 * expect(action.data[1]).toBeCloseTo(0.25, 1);
 * ```
 */
export class MpcAgent<Start = NdView> {
  // Of any start: agents for different objectives are of one type.
  readonly #options: MpcOptions<unknown>;
  readonly #model: Following | undefined;
  readonly #key: Key;
  readonly #ids: Uint32Array | undefined;
  #step = 0;
  #rows: number | undefined;
  #memory: MpcMemory | undefined;
  #state: unknown;
  #action: NdView | undefined;
  #acting = false;

  /**
   * @throws TypeError or RangeError for options of another kind or outside their range
   */
  constructor(options: MpcAgentOptions<Start>) {
    expectOptions('MpcAgent', options, [...MPC_OPTIONS, 'seed', 'trajectory', 'model']);
    const { seed, trajectory, model, ...rest } = options;
    expectMpcOptions('MpcAgent', rest);
    if (seed === undefined) throw new TypeError('MpcAgent: seed must be given, got none');
    if (trajectory !== undefined && !(trajectory instanceof Uint32Array)) {
      throw new TypeError(
        `MpcAgent: trajectory must be a Uint32Array, got ${describe(trajectory)}`,
      );
    }
    if (model !== undefined && typeof model.observe !== 'function') {
      throw new TypeError(
        `MpcAgent: model must have a function observe, got ${describe(model)}; leave it out to plan from observations`,
      );
    }
    this.#options = rest as MpcOptions<unknown>;
    this.#model = model as Following | undefined;
    this.#key = foldIn(seed, AGENT);
    this.#ids = trajectory;
  }

  /** Decisions since the start or the last reset. */
  get step(): number {
    return this.#step;
  }

  /**
   * Decides what to do.
   *
   * @param obs - what is seen now, float32 `[B, S]`; `B` is the same until the next reset
   * @param observation - beginnings of episodes, rewards, a signal
   * @throws TypeError or `ShapeError` when an argument is of another kind or shape
   * @throws Error when the last decision is not there yet
   */
  async act(obs: NdView, observation: MpcObservation = {}): Promise<MpcDecision> {
    expectOptions('MpcAgent.act', observation, ['first', 'reward', 'signal']);
    if (this.#acting) {
      throw new Error('MpcAgent: act must be awaited before it is called again, got a second call');
    }
    expectMatrix('MpcAgent: obs', obs, this.#rows ?? null, this.#model?.obsSize ?? null);
    const rows = obs.shape[0];
    const { first, reward } = observation;
    if (first !== undefined) expectPerRow('MpcAgent: first', first, Uint8Array, rows);
    if (reward !== undefined) expectPerRow('MpcAgent: reward', reward, Float32Array, rows);
    const trajectory = this.#ids ?? Uint32Array.from({ length: rows }, (_, b) => b);
    if (trajectory.length !== rows) {
      throw new ShapeError(
        `MpcAgent: obs must have a row for each of the ${trajectory.length} trajectory ids, got ${rows}`,
      );
    }
    this.#acting = true;
    try {
      return await this.#decide(nd(packed(obs).slice(), obs.shape), trajectory, observation);
    } finally {
      this.#acting = false;
    }
  }

  /** Forgets everything: plans, what was carried, the model's state, the count of steps. */
  reset(): void {
    if (this.#acting) {
      throw new Error('MpcAgent: act must be awaited before reset is called, got one under way');
    }
    if (this.#state !== undefined) this.#model?.release?.(this.#state);
    this.#step = 0;
    this.#rows = undefined;
    this.#memory = undefined;
    this.#state = undefined;
    this.#action = undefined;
  }

  async #decide(
    obs: NdView,
    trajectory: Uint32Array,
    observation: MpcObservation,
  ): Promise<MpcDecision> {
    const { first, signal } = observation;
    const model = this.#model;
    const state = model && (await this.#follow(model, obs, trajectory, observation));
    try {
      const { decision, memory } = await decide(this.#options, {
        rows: obs.shape[0],
        start: (rows) => {
          if (model !== undefined && state !== undefined) {
            return rows === null ? state : model.gather(state, rows);
          }
          return rows === null ? obs : gatherRows(obs, rows);
        },
        ...(model && { release: (some: unknown) => model.release?.(some) }),
        trajectory,
        step: this.#step,
        seed: this.#key,
        memory: this.#memory,
        ...(first && { first }),
        ...(signal && { signal }),
      });
      if (model !== undefined) {
        if (this.#state !== undefined) model.release?.(this.#state);
        this.#state = state;
        this.#action = this.#asFed(decision);
      }
      this.#memory = memory;
      this.#rows = obs.shape[0];
      this.#step++;
      return decision;
    } catch (error) {
      if (model !== undefined && state !== undefined) model.release?.(state);
      throw error;
    }
  }

  /** The model's state of the present, given what was done and is now seen. */
  async #follow(
    model: Following,
    obs: NdView,
    trajectory: Uint32Array,
    { first, reward }: MpcObservation,
  ): Promise<unknown> {
    const context = modelContext(this.#key, trajectory, { step: this.#step });
    if (this.#state === undefined || this.#action === undefined) return model.initial(obs, context);
    const seen = {
      obs,
      action: this.#action,
      ...(reward && { reward }),
      ...(first && { first }),
    };
    return model.observe(this.#state, seen, context);
  }

  /** The actions as a model takes them, float32 `[B, actionSize]`. */
  #asFed({ action }: MpcDecision): NdView {
    const { actionSpace } = this.#options.planner;
    const own = nd(action.data.slice() as Float32Array, action.shape);
    if (actionSpace.type === 'box') return own;
    return oneHot(own as unknown as NdView<Int32Array>, actionSpace.n);
  }
}

/** A model that takes in what is seen. */
type Following = WorldModel & Required<Pick<WorldModel, 'observe'>>;

/** The fold that keeps an agent's noise apart from that of an environment with the same seed. */
const AGENT = 0x6d7063;
