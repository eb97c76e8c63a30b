import {
  describe,
  gatherRows,
  type NdView,
  nd,
  packed,
  sizeOf,
  type TypedArray,
  zeros,
} from '../nd.js';
import { mapValues } from './settle.js';

/**
 * The valid steps of a trajectory as rows, ordered by start and then by step; `N` in all.
 *
 * What was asked for by name is under `score.<name>` and `extra.<name>`.
 */
export type Transitions = {
  /** Float32 `[N, S]`. */
  obs: NdView;
  /** Float32 `[N, A]`. */
  action: NdView;
  /** `rawReward - penalty`, `[N]`. */
  reward: Float32Array;
  /** The model's reward, `[N]`. */
  rawReward: Float32Array;
  /** The score recorded as uncertainty, `[N]`; 0 when none was asked for. */
  uncertainty: Float32Array;
  /** The penalty's coefficient times its score, and what a halt costs, `[N]`. */
  penalty: Float32Array;
  /** Float32 `[N, S]`. */
  nextObs: NdView;
  /** 1 where the episode ended: do not bootstrap, `[N]`. */
  terminated: Uint8Array;
  /** 1 where the rollout was cut: bootstrap from `nextObs`, `[N]`. */
  truncated: Uint8Array;
  /** Row of the start, `[N]`. */
  startIndex: Int32Array;
  /** Step within the rollout, `[N]`. */
  stepIndex: Int32Array;
  /** Ensemble member, `[N]`; -1 where none was drawn. */
  member: Int32Array;
  /** Log-density of the actions, `[N]`; absent when the policy gave none. */
  logProb?: Float32Array;
  /** Value of `obs`, `[N]`; absent without a value function. */
  value?: Float32Array;
  /** Value of `nextObs`, `[N]`, where the episode ended too; absent without a value function. */
  nextValue?: Float32Array;
  /** A further score, `[N]`. */
  [score: `score.${string}`]: Float32Array;
  /** A recorded extra, `[N, ...]`. */
  [extra: `extra.${string}`]: NdView<TypedArray>;
};

/**
 * A batch of imagined trajectories in departure alignment: `reward[b, t]` belongs to the transition from
 * `obs[b, t]` by `action[b, t]` to `obs[b, t + 1]`.
 *
 * Every array has room for the whole horizon `T`; past a row's end it holds 0 with mask 0 (member -1),
 * never NaN, unless the rollout keeps what is not finite. All views are row-major from offset 0.
 */
export class Trajectory {
  /** What the policy saw, float32 `[B, T + 1, S]`. */
  readonly obs: NdView;
  /** Float32 `[B, T, A]`. */
  readonly action: NdView;
  /** `rawReward - penalty`, float32 `[B, T]`. */
  readonly reward: NdView;
  /** The model's reward, float32 `[B, T]`. */
  readonly rawReward: NdView;
  /** The score recorded as uncertainty, float32 `[B, T]`; 0 when none was asked for. */
  readonly uncertainty: NdView;
  /** The penalty's coefficient times its score, and what a halt costs, float32 `[B, T]`. */
  readonly penalty: NdView;
  /** 1 where the episode ended in `obs[b, t + 1]`, uint8 `[B, T]`. */
  readonly terminated: NdView<Uint8Array>;
  /** 1 where the rollout was cut short of an end: by the horizon, a halt or a non-finite result, uint8 `[B, T]`. */
  readonly truncated: NdView<Uint8Array>;
  /** `terminated` or `truncated`: 1 at the last step of a row, uint8 `[B, T]`. */
  readonly last: NdView<Uint8Array>;
  /** 1 for steps that happened, the terminating one included, uint8 `[B, T]`. */
  readonly mask: NdView<Uint8Array>;
  /** `1 - terminated`, float32 `[B, T]`; contains no discount factor. */
  readonly discount: NdView;
  /** Ensemble member, int32 `[B, T]`; -1 where none was drawn. */
  readonly member: NdView<Int32Array>;
  /** Log-density of the actions, float32 `[B, T]`; absent when the policy gave none. */
  logProb?: NdView;
  /**
   * Value of each observation as the value function gave it, where the episode ended too, float32
   * `[B, T + 1]`; absent without one.
   */
  value?: NdView;
  /**
   * What stands for the rewards after each row's last step: the value of its last observation, the start's
   * for a row of no steps; 0 where it terminated, or never began for a start that is not finite. `[B]`.
   */
  bootstrap?: Float32Array;
  /** Further scores by name, float32 `[B, T]` each; absent when none was asked for. */
  scores?: Readonly<Record<string, NdView>>;
  /** Recorded extras by name, `[B, T, ...]` each; absent when none was asked for, or before any step. */
  extras?: Readonly<Record<string, NdView<TypedArray>>>;
  /** Number of steps of each row, `[B]`. */
  readonly length: Int32Array;
  /** Number of results that were not finite; each ended its row, unless they are kept. */
  nonFinite = 0;

  /** An empty trajectory of `B` rows and horizon `T`, to be filled by a rollout. */
  constructor(rows: number, horizon: number, obsSize: number, actionSize: number) {
    const flags = () => nd(new Uint8Array(rows * horizon), [rows, horizon]);
    const scalars = () => zeros([rows, horizon]);
    this.obs = zeros([rows, horizon + 1, obsSize]);
    this.action = zeros([rows, horizon, actionSize]);
    this.reward = scalars();
    this.rawReward = scalars();
    this.uncertainty = scalars();
    this.penalty = scalars();
    this.terminated = flags();
    this.truncated = flags();
    this.last = flags();
    this.mask = flags();
    this.discount = scalars();
    this.member = nd(new Int32Array(rows * horizon).fill(-1), [rows, horizon]);
    this.length = new Int32Array(rows);
  }

  /**
   * Some rows, in the order given, with everything that is known of them; `nonFinite` stays that of the whole.
   *
   * @param rows - row numbers within `B`; repeats are allowed
   * @returns a trajectory `[rows.length, T]` with arrays of its own
   * @throws RangeError when a row number is outside the trajectory
   */
  gather(rows: Int32Array): Trajectory {
    const [, horizon, actionSize] = this.action.shape;
    const some = new Trajectory(rows.length, horizon, this.obs.shape[2], actionSize);
    for (const name of TRAJECTORY_FIELDS) {
      const view: NdView<Float32Array | Int32Array | Uint8Array> = this[name];
      some[name].data.set(gatherRows(view, rows).data);
    }
    some.length.set(gatherRows(nd(this.length), rows).data);
    const { bootstrap, extras, logProb, scores, value } = this;
    if (logProb !== undefined) some.logProb = gatherRows(logProb, rows);
    if (value !== undefined) some.value = gatherRows(value, rows);
    if (bootstrap !== undefined) some.bootstrap = gatherRows(nd(bootstrap), rows).data;
    if (scores !== undefined) some.scores = mapValues(scores, (score) => gatherRows(score, rows));
    if (extras !== undefined) some.extras = mapValues(extras, (extra) => gatherRows(extra, rows));
    some.nonFinite = this.nonFinite;
    return some;
  }

  /**
   * The valid steps as flat rows, for a replay buffer or a file.
   *
   * @returns packed copies; `writeNpz` of `umwelt/formats` takes them as they are
   */
  transitions(): Transitions {
    const [rows, horizon, actionSize] = this.action.shape;
    const obsSize = this.obs.shape[2];
    let count = 0;
    for (let row = 0; row < rows; row++) count += this.length[row];
    const startIndex = new Int32Array(count);
    const stepIndex = new Int32Array(count);
    for (let row = 0, i = 0; row < rows; row++) {
      for (let t = 0; t < this.length[row]; t++, i++) {
        startIndex[i] = row;
        stepIndex[i] = t;
      }
    }
    /** Row `(b, t + shift)` of a `[B, steps, width]` array for each transition. */
    const take = <T extends TypedArray>(
      view: NdView<T>,
      steps: number,
      shift: number,
      out: T,
    ): T => {
      const data = packed(view);
      const width = sizeOf(view.shape.slice(2));
      for (let i = 0; i < count; i++) {
        const from = (startIndex[i] * steps + stepIndex[i] + shift) * width;
        for (let d = 0; d < width; d++) out[i * width + d] = data[from + d];
      }
      return out;
    };
    const floats = (view: NdView) => take(view, horizon, 0, new Float32Array(count));
    const flags = (view: NdView<Uint8Array>) => take(view, horizon, 0, new Uint8Array(count));
    const values = (view: NdView, shift: number) =>
      take(view, horizon + 1, shift, new Float32Array(count));
    const observations = (shift: number) =>
      nd(take(this.obs, horizon + 1, shift, new Float32Array(count * obsSize)), [count, obsSize]);
    const actions = take(this.action, horizon, 0, new Float32Array(count * actionSize));
    return {
      obs: observations(0),
      action: nd(actions, [count, actionSize]),
      reward: floats(this.reward),
      rawReward: floats(this.rawReward),
      uncertainty: floats(this.uncertainty),
      penalty: floats(this.penalty),
      nextObs: observations(1),
      terminated: flags(this.terminated),
      truncated: flags(this.truncated),
      startIndex,
      stepIndex,
      member: take(this.member, horizon, 0, new Int32Array(count)),
      ...(this.logProb && { logProb: floats(this.logProb) }),
      ...(this.value && { value: values(this.value, 0), nextValue: values(this.value, 1) }),
      ...named('score', this.scores, floats),
      ...named('extra', this.extras, (extra) => {
        const inner = extra.shape.slice(2);
        const store = extra.data.constructor as new (length: number) => TypedArray;
        const out = take(extra, horizon, 0, new store(count * sizeOf(inner)));
        return nd(out, [count, ...inner]);
      }),
    };
  }
}

/** Names of the views that every trajectory has. */
export const TRAJECTORY_FIELDS = [
  'obs',
  'action',
  'reward',
  'rawReward',
  'uncertainty',
  'penalty',
  'terminated',
  'truncated',
  'last',
  'mask',
  'discount',
  'member',
] as const;

/** The entries of a record under a family's name, such as `score.disagreement`. */
function named<A, B, Family extends string>(
  family: Family,
  record: Readonly<Record<string, A>> = {},
  turn: (value: A) => B,
): Record<`${Family}.${string}`, B> {
  const entries = Object.entries(record).map(([name, value]) => [`${family}.${name}`, turn(value)]);
  return Object.fromEntries(entries);
}

/**
 * Checks that a value is a trajectory.
 *
 * @throws TypeError when it is none, such as the promise of one
 */
export function expectTrajectory(what: string, value: unknown): void {
  if (value instanceof Trajectory) return;
  const remedy = value instanceof Promise ? 'await it' : 'collect() of a rollout gives one';
  throw new TypeError(
    `${what}: trajectory must be a Trajectory, got ${describe(value)}; ${remedy}`,
  );
}
