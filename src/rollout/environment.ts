/**
 * What the library knows of a simulator: one instance that can be stepped, and whose state can be saved
 * and put back.
 */

/** What one step of a simulator led to. */
export interface EnvironmentStep {
  /** Observation of the new state, `[S]`. */
  readonly obs: ArrayLike<number>;
  /** Reward of the step. */
  readonly reward: number;
  /** Whether the episode ended in the new state. A time limit is no end: cutting is the caller's. */
  readonly terminated: boolean;
}

/**
 * One simulator, such as a physics engine.
 *
 * Everything that decides its future must be in a snapshot: where it draws noise, the state of its
 * generator too.
 *
 * @typeParam Snapshot - a saved state; once saved it is never written again
 */
export interface Environment<Snapshot = unknown> {
  /** Width of an observation, `S`. */
  readonly obsSize: number;
  /** Width of an action, `A`. */
  readonly actionSize: number;
  /** Begins an episode; `seed` is a uint32 and decides all of it. */
  reset?(seed: number): void;
  /** Observation of the present state, `[S]`. */
  observe(): ArrayLike<number>;
  /** One step; `action` is float32 `[A]` and only to be read. */
  step(action: Float32Array): EnvironmentStep;
  /** The present state, in memory of its own. */
  save(): Snapshot;
  /** Puts a saved state back. */
  restore(snapshot: Snapshot): void;
}
