import type { ModelContext, StepResult, WorldModel } from '../dynamics/contract.js';
import {
  describe,
  expectMatrix,
  gatherRows,
  type NdView,
  packed,
  ShapeError,
  zeros,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import type { Environment } from './environment.js';

/** How observations are understood. */
export interface EnvironmentModelOptions<Snapshot> {
  /**
   * The state of the simulator that an observation stands for; `obs` is float32 `[S]`, `trajectory` the
   * row's id. Needed to start from observations, and only possible where they say enough.
   */
  snapshotOf?: (obs: Float32Array, trajectory: number) => Snapshot;
}

/** Rows of a simulator: what is seen of them, and where each one is. */
export interface EnvironmentState<Snapshot = unknown> {
  /** Observations, float32 `[B, S]`. */
  readonly obs: NdView;
  /** The simulator's state of each row, `[B]`; never written. */
  readonly snapshots: readonly Snapshot[];
}

/**
 * A simulator as a world model: rollouts, planners and evaluation on the truth.
 *
 * One simulator serves all rows. Each row's state is put back before its step and saved after it, so
 * rows know nothing of each other, and whatever the simulator did before does not matter. Its numbers
 * are rounded to float32 as they are read, not inside it. There is no prediction: the truth has no
 * members.
 *
 * @typeParam Snapshot - a saved state of the simulator
 *
 * @example
 * ```ts @import.meta.vitest
 * const { EnvironmentModel, imagine } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * // A falling ball: height and velocity; its engine pushes up.
 * const ball = {
 *   obsSize: 2,
 *   actionSize: 1,
 *   state: [0, 0],
 *   observe: () => ball.state,
 *   step([push]) {
 *     const velocity = ball.state[1] + 0.1 * (push - 9.8);
 *     ball.state = [ball.state[0] + 0.1 * velocity, velocity];
 *     return { obs: ball.state, reward: -Math.abs(ball.state[0]), terminated: ball.state[0] < 0 };
 *   },
 *   save: () => ball.state,
 *   restore: (state) => { ball.state = state; },
 * };
 * const model = new EnvironmentModel(ball, { snapshotOf: (obs) => [...obs] });
 * const coast = (obs) => nd(new Float32Array(obs.shape[0]), [obs.shape[0], 1]);
 * const options = { start: nd([[1, 0], [0.3, 0]]), horizon: 10, seed: 0 };
 * const { length } = await imagine(model, coast, options).collect();
 * expect([...length]).toEqual([5, 3]); // the lower one lands first
 * ```
 */
export class EnvironmentModel<Snapshot = unknown>
  implements WorldModel<EnvironmentState<Snapshot>>
{
  /** Width of an observation, `S`. */
  readonly obsSize: number;
  /** Width of an action, `A`. */
  readonly actionSize: number;
  readonly #environment: Environment<Snapshot>;
  readonly #snapshotOf: EnvironmentModelOptions<Snapshot>['snapshotOf'];

  /**
   * @param environment - the simulator; stays the caller's to dispose
   * @throws TypeError when the simulator lacks something, or an option is none
   */
  constructor(environment: Environment<Snapshot>, options: EnvironmentModelOptions<Snapshot> = {}) {
    expectOptions('EnvironmentModel', options, ['snapshotOf']);
    const parts = (environment ?? {}) as Partial<Environment<Snapshot>>;
    for (const name of ['observe', 'step', 'save', 'restore'] as const) {
      if (typeof parts[name] !== 'function') {
        throw new TypeError(
          `EnvironmentModel: environment must have a function ${name}, got ${describe(parts[name])}`,
        );
      }
    }
    for (const name of ['obsSize', 'actionSize'] as const) {
      if (!Number.isInteger(parts[name]) || Number(parts[name]) < 0) {
        throw new TypeError(
          `EnvironmentModel: environment must have ${name}, a number of entries, got ${parts[name]}`,
        );
      }
    }
    if (options.snapshotOf !== undefined && typeof options.snapshotOf !== 'function') {
      throw new TypeError(
        `EnvironmentModel: snapshotOf must be a function, got ${describe(options.snapshotOf)}`,
      );
    }
    this.obsSize = environment.obsSize;
    this.actionSize = environment.actionSize;
    this.#environment = environment;
    this.#snapshotOf = options.snapshotOf;
  }

  /**
   * Rows that stand where the simulator once stood, as the `start` of a rollout.
   *
   * @param snapshots - what the simulator's `save()` gave, `[B]`
   */
  at(snapshots: readonly Snapshot[]): EnvironmentState<Snapshot> {
    const environment = this.#environment;
    const obs = zeros([snapshots.length, this.obsSize]);
    snapshots.forEach((snapshot, row) => {
      environment.restore(snapshot);
      this.#see(environment.observe(), obs.data, row);
    });
    return { obs, snapshots: [...snapshots] };
  }

  /**
   * Rows at the beginning of an episode, as the `start` of a rollout.
   *
   * @param seeds - what the simulator's `reset` is given for each row, uint32 `[B]`
   * @throws TypeError when the simulator has no `reset`
   */
  start(seeds: Uint32Array): EnvironmentState<Snapshot> {
    const environment = this.#environment;
    if (typeof environment.reset !== 'function') {
      throw new TypeError(
        'EnvironmentModel.start: the environment must have a function reset, got none; start from ' +
          'snapshots with at()',
      );
    }
    const obs = zeros([seeds.length, this.obsSize]);
    const snapshots: Snapshot[] = [];
    for (let row = 0; row < seeds.length; row++) {
      environment.reset(seeds[row]);
      this.#see(environment.observe(), obs.data, row);
      snapshots.push(environment.save());
    }
    return { obs, snapshots };
  }

  /**
   * The state of newly observed rows.
   *
   * @param obs - float32 `[B, S]`
   * @throws TypeError without `snapshotOf`; TypeError or `ShapeError` when `obs` is not that
   */
  initial(obs: NdView, { trajectory }: ModelContext): EnvironmentState<Snapshot> {
    expectMatrix('EnvironmentModel: obs', obs, null, this.obsSize);
    const snapshotOf = this.#snapshotOf;
    if (snapshotOf === undefined) {
      throw new TypeError(
        'EnvironmentModel.initial: observations must be understood through snapshotOf, got none; give ' +
          'one, or start from a state of at() or start()',
      );
    }
    const data = packed(obs);
    const snapshots = Array.from({ length: obs.shape[0] }, (_, row) =>
      snapshotOf(data.slice(row * this.obsSize, (row + 1) * this.obsSize), trajectory[row]),
    );
    return { obs, snapshots };
  }

  /**
   * One step of the simulator from each row's state.
   *
   * @param action - float32 `[B, A]`
   * @throws TypeError or `ShapeError` when `action`, or the simulator's answer, is not as it must be
   */
  step(state: EnvironmentState<Snapshot>, action: NdView): StepResult<EnvironmentState<Snapshot>> {
    const environment = this.#environment;
    const { actionSize, obsSize } = this;
    const rows = state.snapshots.length;
    expectMatrix('EnvironmentModel: action', action, rows, actionSize);
    const actions = packed(action);
    const obs = zeros([rows, obsSize]);
    const reward = new Float32Array(rows);
    const terminated = new Uint8Array(rows);
    const snapshots = new Array<Snapshot>(rows);
    for (let row = 0; row < rows; row++) {
      environment.restore(state.snapshots[row]);
      const result = environment.step(actions.subarray(row * actionSize, (row + 1) * actionSize));
      this.#see(result.obs, obs.data, row);
      reward[row] = result.reward;
      terminated[row] = result.terminated ? 1 : 0;
      snapshots[row] = environment.save();
    }
    return { state: { obs, snapshots }, obs, reward, terminated };
  }

  /** The state of some rows, in the order given. */
  gather(state: EnvironmentState<Snapshot>, rows: Int32Array): EnvironmentState<Snapshot> {
    return {
      obs: gatherRows(state.obs, rows),
      snapshots: Array.from(rows, (row) => state.snapshots[row]),
    };
  }

  #see(seen: ArrayLike<number>, data: Float32Array, row: number): void {
    if (seen?.length !== this.obsSize) {
      throw new ShapeError(
        `EnvironmentModel: the environment's obs must have obsSize ${this.obsSize} entries, got ` +
          `${seen?.length}`,
      );
    }
    data.set(seen, row * this.obsSize);
  }
}
