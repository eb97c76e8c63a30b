import type { NdView } from '../nd.js';
import type { Key } from '../sampling/key.js';
import type { PolicyState } from './policy.js';

/**
 * Where a rollout stopped: the rows that can go on, with everything that decides their future.
 *
 * Given as `start` of another rollout, that one goes on with the same noise, as if it had never stopped.
 * The state is the caller's from here on; `release()` frees what it holds outside JavaScript's memory.
 */
export class Carry<State = unknown> {
  /** The model's state of these rows; undefined when there are none. */
  readonly state: State | undefined;
  /** Observations, float32 `[B, S]`. */
  readonly obs: NdView;
  /** Trajectory ids, `[B]`. */
  readonly trajectory: Uint32Array;
  /** Rows of the rollout's own start that these are, `[B]`. */
  readonly row: Int32Array;
  /** What the policy returned last. */
  readonly policyState: PolicyState;
  /** The next time step. */
  readonly step: number;
  /** Key of the noise. */
  readonly key: Key;
  #release: (() => void) | undefined;

  /** @internal */
  constructor(fields: Omit<Carry<State>, 'release'>, release: (() => void) | undefined) {
    this.state = fields.state;
    this.obs = fields.obs;
    this.trajectory = fields.trajectory;
    this.row = fields.row;
    this.policyState = fields.policyState;
    this.step = fields.step;
    this.key = fields.key;
    this.#release = release;
  }

  /** Frees the state; a second call does nothing more. */
  release(): void {
    this.#release?.();
    this.#release = undefined;
  }
}
