/**
 * The hopper task in MuJoCo's WebAssembly build: the true system that the hopper models learned.
 *
 * The body is `hopper.xml`, the constants are `hopper.json`, and the rules are those of
 * `HopperEnv` in `examples/train/hopper_env.py`, in the same double precision.
 */

import { readFile } from 'node:fs/promises';
import loadMujoco, {
  type DoubleBuffer,
  type MainModule,
  type MjData,
  type MjModel,
} from '@mujoco/mujoco';

/** The constants of the task, as `hopper.json` holds them. */
export interface HopperConfig {
  readonly model: string;
  /** Physics steps of one control step. */
  readonly frameSkip: number;
  readonly maxEpisodeSteps: number;
  readonly velocityClip: number;
  readonly resetNoise: number;
  readonly reward: {
    readonly forwardVelocity: number;
    readonly healthyBonus: number;
    readonly controlCost: number;
  };
  readonly healthy: {
    readonly stateLimit: number;
    readonly minHeight: number;
    readonly maxPitch: number;
  };
  readonly obsNames: readonly string[];
  readonly actionNames: readonly string[];
}

/** What one control step led to. */
export interface HopperStep {
  /** Observation of the new state, `[11]`. */
  readonly obs: Float64Array;
  readonly reward: number;
  /** Whether the new state is one in which the hopper has fallen. */
  readonly terminated: boolean;
}

/** One hopper in MuJoCo. */
export class Hopper implements Disposable {
  readonly config: HopperConfig;
  /** Seconds of one control step. */
  readonly dt: number;
  readonly #mujoco: MainModule;
  readonly #model: MjModel;
  readonly #data: MjData;
  /** Memory of MuJoCo's own that a state is read through. */
  readonly #state: DoubleBuffer;
  /** Which of MuJoCo's numbers are the state: all that an integration starts from. */
  readonly #stateParts: number;

  private constructor(config: HopperConfig, mujoco: MainModule, model: MjModel, data: MjData) {
    this.config = config;
    this.dt = config.frameSkip * model.opt.timestep;
    this.#mujoco = mujoco;
    this.#model = model;
    this.#data = data;
    this.#stateParts = mujoco.mjtState.mjSTATE_INTEGRATION.value;
    this.#state = new mujoco.DoubleBuffer(mujoco.mj_stateSize(model, this.#stateParts));
  }

  /** Loads MuJoCo and the hopper's body, in its standing pose. */
  static async load(): Promise<Hopper> {
    const config: HopperConfig = JSON.parse(await readText('hopper.json'));
    const xml = await readText(config.model);
    const mujoco = await loadMujoco();
    const model = mujoco.MjModel.from_xml_string(xml);
    const hopper = new Hopper(config, mujoco, model, new mujoco.MjData(model));
    hopper.#mujoco.mj_forward(model, hopper.#data);
    return hopper;
  }

  /** Positions `[x, z, pitch, hip, knee, ankle]` in metres and radians, a copy. */
  get qpos(): Float64Array {
    return this.#data.qpos.slice();
  }

  /** The rates of {@link qpos} in units a second, a copy. */
  get qvel(): Float64Array {
    return this.#data.qvel.slice();
  }

  /**
   * Starts an episode in a given state, `qpos [6]` and `qvel [6]`.
   *
   * @returns the observation, `[11]`
   */
  reset(qpos: ArrayLike<number>, qvel: ArrayLike<number>): Float64Array {
    expectLength('reset: qpos', qpos, this.#model.nq);
    expectLength('reset: qvel', qvel, this.#model.nv);
    this.#mujoco.mj_resetData(this.#model, this.#data);
    this.#data.qpos.set(qpos);
    this.#data.qvel.set(qvel);
    this.#mujoco.mj_forward(this.#model, this.#data);
    return this.obs();
  }

  /** The observation of the present state: positions without x, then clipped velocities, `[11]`. */
  obs(): Float64Array {
    const limit = this.config.velocityClip;
    const { nq, nv } = this.#model;
    const obs = new Float64Array(nq - 1 + nv);
    obs.set(this.#data.qpos.subarray(1));
    const velocity: Float64Array = this.#data.qvel;
    for (let i = 0; i < nv; i++) obs[nq - 1 + i] = clip(velocity[i], -limit, limit);
    return obs;
  }

  /** Applies torques `[hip, knee, ankle]`, clipped to [-1, 1], for one control step. */
  step(action: ArrayLike<number>): HopperStep {
    expectLength('step: action', action, this.#model.nu);
    const { frameSkip, reward } = this.config;
    const control = Float64Array.from(action, (torque) => clip(torque, -1, 1));
    const before = this.#data.qpos[0];
    this.#data.ctrl.set(control);
    for (let i = 0; i < frameSkip; i++) this.#mujoco.mj_step(this.#model, this.#data);
    const velocity = (this.#data.qpos[0] - before) / this.dt;
    const effort = control.reduce((sum, torque) => sum + torque * torque, 0);
    const obs = this.obs();
    return {
      obs,
      reward: reward.forwardVelocity * velocity + reward.healthyBonus - reward.controlCost * effort,
      terminated: !this.isHealthy(obs),
    };
  }

  /** Everything that decides what follows, a copy: positions, velocities, warm start and the rest. */
  save(): Float64Array {
    this.#mujoco.mj_getState(this.#model, this.#data, this.#state, this.#stateParts);
    return this.#state.GetView().slice();
  }

  /** Puts back what {@link save} gave: the steps that follow have the same bits. */
  restore(state: Float64Array): void {
    expectLength('restore: state', state, this.#state.GetElementCount());
    // A typed array is taken as well as the declared plain one, and needs no copy.
    this.#mujoco.mj_setState(
      this.#model,
      this.#data,
      state as unknown as number[],
      this.#stateParts,
    );
  }

  /** Whether an observation, `[11]`, is one of a hopper that still stands or flies. */
  isHealthy(obs: ArrayLike<number>): boolean {
    const { stateLimit, minHeight, maxPitch } = this.config.healthy;
    for (let i = 1; i < obs.length; i++) {
      // Written so that NaN is not healthy.
      if (!(Math.abs(obs[i]) < stateLimit)) return false;
    }
    return Number.isFinite(obs[0]) && obs[0] > minHeight && Math.abs(obs[1]) < maxPitch;
  }

  /** Frees MuJoCo's memory; the hopper is of no use afterwards. */
  dispose(): void {
    this.#state.delete();
    this.#data.delete();
    this.#model.delete();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** As `numpy.clip`: NaN stays NaN. */
function clip(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

function expectLength(what: string, values: ArrayLike<number>, length: number): void {
  if (values.length !== length) {
    throw new RangeError(`Hopper.${what} must have ${length} entries, got ${values.length}`);
  }
}

function readText(file: string): Promise<string> {
  return readFile(new URL(file, import.meta.url), 'utf8');
}
