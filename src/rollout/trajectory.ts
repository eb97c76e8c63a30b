import { type NdView, nd, packed, sizeOf, type TypedArray, zeros } from '../nd.js';

/** The valid steps of a trajectory as rows, ordered by start and then by step; `N` in all. */
export type Transitions = {
  /** Float32 `[N, S]`. */
  obs: NdView;
  /** Float32 `[N, A]`. */
  action: NdView;
  /** `rawReward - penalty`, `[N]`. */
  reward: Float32Array;
  /** The model's reward, `[N]`. */
  rawReward: Float32Array;
  /** The score of the prediction, `[N]`; 0 when none was asked for. */
  uncertainty: Float32Array;
  /** `coefficient * uncertainty`, and what a halt costs, `[N]`. */
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
  /** The score of the prediction, float32 `[B, T]`; 0 when none was asked for. */
  readonly uncertainty: NdView;
  /** `coefficient * uncertainty`, and what a halt costs, float32 `[B, T]`. */
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
  /** Value of each observation, float32 `[B, T + 1]`; absent without a value function. */
  value?: NdView;
  /** What stands for the rewards after each row's last step: its value, 0 where it terminated, `[B]`. */
  bootstrap?: Float32Array;
  /** Further scores by name, float32 `[B, T]` each; absent when none was asked for. */
  scores?: Readonly<Record<string, NdView>>;
  /** Recorded extras by name, `[B, T, ...]` each; absent when none was asked for. */
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
    };
  }
}
