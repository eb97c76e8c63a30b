import type {
  ModelContext,
  StepResult,
  TerminationFunction,
  WorldModel,
} from '../dynamics/contract.js';
import { expectPerRow } from '../dynamics/per-row.js';
import { needs, scoreTransitions } from '../dynamics/score.js';
import { Scratch } from '../dynamics/scratch.js';
import { isFiniteRow } from '../dynamics/termination-rules.js';
import { turns } from '../formats/turns.js';
import { expectMatrix, type NdView, nd, packed, rowMajorView, zeros } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { expectFunctions } from './imagine-checks.js';
import type { Actions, Objective, ObjectiveContext } from './planner.js';
import { copyIds, repeatStart } from './repeat-start.js';
import { type ValueFunction, valuesOf } from './value.js';
import { expectDiscounted, type WeighedUncertainty } from './weighed-uncertainty.js';

/** How a model values action sequences. */
export interface ModelObjectiveOptions {
  /** Discount factor of a step, in [0, 1]. Default 1. */
  gamma?: number;
  /** What the last state is worth; counts `gamma^H`, and nothing where the episode ended. Default 0. */
  value?: ValueFunction;
  /** Imagined futures of each sequence, over which values are averaged. Default 1. */
  particles?: number;
  /**
   * Adds this many standard deviations of a sequence's value over its particles: negative to avoid what
   * could go either way, positive to seek it. Default 0.
   */
  spread?: number;
  /**
   * `independent`, the default: each sequence meets noise of its own. `common`: the particles of all
   * sequences of a start meet the same noise, so that values differ by the actions alone.
   */
  noise?: 'independent' | 'common';
  /** Adds `weight * gamma^t * score` at every step. */
  uncertainty?: WeighedUncertainty;
  /** Ends episodes, besides the model's own ends. */
  terminate?: TerminationFunction;
  /** Steps of the model that each action is held for. Default 1. */
  actionRepeat?: number;
}

/**
 * The value of action sequences by a model's account: the discounted sum of rewards, until the episode
 * ends, and what the last state is worth.
 *
 * The reward of the step that ends an episode counts, nothing after it does. A sequence with a state or
 * a reward that is not finite has the value NaN, unless it came after the end. Of int32 indices the model
 * is fed one-hot rows, `actionSize` wide.
 *
 * @param model - any {@link WorldModel}; its states are released
 * @returns an objective for plans that start from observations `[B, S]` or from a state of the model,
 *   which stays the caller's; of observations, each particle gets a state of its own by `initial`
 * @throws TypeError or RangeError for options of another kind or outside their range
 *
 * @example
 * ```ts @import.meta.vitest
 * const { modelObjective, RandomShooting } = await import('umwelt/rollout');
 * const { ClosedFormDynamics } = await import('umwelt/dynamics');
 * const { nd } = await import('umwelt');
 * const model = new ClosedFormDynamics({
 *   obsSize: 1,
 *   actionSize: 1,
 *   next: ({ obs, action, nextObs }) => nextObs.data.set(obs.data.map((x, b) => x + action.data[b])),
 *   reward: ({ nextObs }) => nextObs.data.map((x) => -Math.abs(x)),
 * });
 * const objective = modelObjective(model, { gamma: 0.9 });
 * const actionSpace = { type: 'box', low: [-1], high: [1] } as const;
 * const planner = new RandomShooting({ horizon: 1, actionSpace, population: 100 });
 * const { actions } = await planner.plan({ objective, start: nd([[0.5]]), seed: 0 });
 * expect(Math.abs(0.5 + actions.data[0])).toBeLessThan(0.1);
 * ```
 */
export function modelObjective<State>(
  model: WorldModel<State>,
  options: ModelObjectiveOptions = {},
): Objective<NdView | State> {
  const settings = expectSettings(options);
  // Memory for each valuation under way: those at the same time must not write over each other.
  const free: Scratch[] = [];
  return async (actions, context) => {
    const scratch = free.pop() ?? new Scratch();
    try {
      return await evaluate(model, settings, actions, context, scratch);
    } finally {
      free.push(scratch);
    }
  };
}

interface Settings extends ModelObjectiveOptions {
  readonly gamma: number;
  readonly particles: number;
  readonly spread: number;
  readonly actionRepeat: number;
}

/** Imagined futures in the making: row `(b * N + n) * P + p` is particle `p` of sequence `n` of start `b`. */
interface Futures {
  readonly trajectory: Uint32Array;
  /** Values so far, `[R]`. */
  readonly values: Float64Array;
  /** 1 for rows whose episode goes on, `[R]`. */
  readonly alive: Uint8Array;
}

async function evaluate<State>(
  model: WorldModel<State>,
  settings: Settings,
  actions: Actions,
  context: ObjectiveContext<NdView | State>,
  scratch: Scratch,
): Promise<NdView> {
  const [starts, count, horizon] = actions.shape;
  const { actionRepeat, gamma, particles, uncertainty, value } = settings;
  const rows = starts * count * particles;
  if (rows === 0) return zeros([starts, count]);
  const futures: Futures = {
    trajectory: idsOf(settings, count, context.trajectory),
    values: new Float64Array(rows),
    alive: new Uint8Array(rows).fill(1),
  };
  const steps = horizon * actionRepeat;
  const turn = turns();
  const modelContext = (step: number): ModelContext => ({
    step: context.step + step,
    trajectory: futures.trajectory,
    noise: new RowNoise(context.key, Stream.model, context.step + step, futures.trajectory),
    prediction: uncertainty !== undefined && needs(uncertainty.score, 'prediction'),
    scratch,
  });
  let { state, obs } = await repeatStart(
    'modelObjective',
    model,
    context.start,
    count * particles,
    modelContext(0),
  );
  try {
    let factor = 1;
    let doubtFactor = uncertainty?.weight ?? 0;
    for (let step = 0; step < steps && futures.alive.includes(1); step++) {
      const others = turn();
      if (others !== undefined) await others;
      context.signal?.throwIfAborted();
      const action = actionsAt(model, settings, actions, Math.floor(step / actionRepeat), scratch);
      const about = modelContext(step);
      const result = await model.step(state, action, about);
      const before = state;
      state = result.state;
      try {
        const judged = { obs, action, before, about };
        await addStep(model, settings, futures, result, judged, factor, doubtFactor);
      } finally {
        model.release?.(before);
      }
      factor *= gamma;
      doubtFactor *= uncertainty?.gamma ?? gamma;
      // A copy where it is looked at again, for a model may write its next answer into the same memory.
      obs = looksBack(settings) ? nd(packed(result.obs).slice(), result.obs.shape) : result.obs;
    }
    if (value !== undefined && futures.alive.includes(1)) {
      context.signal?.throwIfAborted();
      await addValue(value, futures, obs, factor, modelContext(steps));
    }
  } finally {
    model.release?.(state);
  }
  return overParticles(futures.values, starts, count, settings);
}

/** Whether the observations before a step are read. */
function looksBack({ terminate, uncertainty }: Settings): boolean {
  return terminate !== undefined || uncertainty !== undefined;
}

/** The action of each future at one place of its sequence, float32 `[R, A]`. */
function actionsAt(
  { actionSize: size }: { actionSize: number },
  { particles }: Settings,
  actions: Actions,
  place: number,
  scratch: Scratch,
): NdView {
  const [starts, count, horizon, width] = actions.shape;
  const { data } = actions;
  const rows = starts * count * particles;
  const discrete = data instanceof Int32Array;
  if (!discrete && width !== size) {
    throw new RangeError(
      `modelObjective: actions must be actionSize ${size} wide, got ${width}; plan within the model's action space`,
    );
  }
  const out = scratch.float32('modelObjective.action', rows * size);
  if (discrete) out.fill(0);
  for (let sequence = 0, to = 0; sequence < starts * count; sequence++) {
    const from = (sequence * horizon + place) * width;
    for (let p = 0; p < particles; p++, to += size) {
      if (!discrete) for (let d = 0; d < size; d++) out[to + d] = data[from + d];
      else if (data[from] >= 0 && data[from] < size) out[to + data[from]] = 1;
      else {
        throw new RangeError(
          `modelObjective: an index of an action must lie in 0..${size - 1}, got ${data[from]}`,
        );
      }
    }
  }
  return nd(out, [rows, size]);
}

/** What a step is judged by, besides its result. */
interface Judged<State> {
  readonly obs: NdView;
  readonly action: NdView;
  readonly before: State;
  readonly about: ModelContext;
}

/** Adds the rewards and scores of one step to the futures that had not ended, and ends those that do. */
async function addStep<State>(
  model: WorldModel<State>,
  { terminate, uncertainty }: Settings,
  { values, alive, trajectory }: Futures,
  result: StepResult<State>,
  { obs, action, before, about }: Judged<State>,
  factor: number,
  doubtFactor: number,
): Promise<void> {
  const rows = trajectory.length;
  const width = model.obsSize;
  const nextObs = rowMajorView(
    expectMatrix("modelObjective: the model's obs", result.obs, rows, width),
  );
  const { reward, terminated } = result;
  expectPerRow("modelObjective: the model's reward", reward, Float32Array, rows);
  if (terminated !== undefined) {
    expectPerRow("modelObjective: the model's terminated", terminated, Uint8Array, rows);
  }
  const transitions = { obs, action, nextObs };
  let ends: Uint8Array | undefined;
  if (terminate !== undefined) {
    ends = await terminate({ ...transitions, noise: about.noise.in(Stream.end) });
    expectPerRow("modelObjective: terminate's answer", ends, Uint8Array, rows);
  }
  let doubt: Float32Array | undefined;
  if (uncertainty !== undefined) {
    doubt = await scoreTransitions('modelObjective', uncertainty.score, result.prediction, {
      ...transitions,
      reward,
      step: about.step,
      trajectory,
      noise: about.noise.in(Stream.score),
      state: before,
      nextState: result.state,
    });
  }
  const { data } = nextObs;
  for (let row = 0; row < rows; row++) {
    if (alive[row] === 0) continue;
    values[row] += factor * reward[row];
    if (doubt !== undefined) values[row] += doubtFactor * doubt[row];
    // An end by a rule must not pass off a state that is no state as a good one.
    if (!Number.isFinite(values[row]) || !isFiniteRow(data, row * width, width)) {
      values[row] = Number.NaN;
    }
    if (terminated?.[row] || ends?.[row] || Number.isNaN(values[row])) alive[row] = 0;
  }
}

/** Adds what the last states are worth to the futures that have not ended. */
async function addValue(
  value: ValueFunction,
  { values, alive, trajectory }: Futures,
  obs: NdView,
  factor: number,
  { step, noise }: ModelContext,
): Promise<void> {
  const context = { step, trajectory, noise: noise.in(Stream.policy) };
  const worth = await valuesOf('modelObjective', value, rowMajorView(obs), context);
  for (let row = 0; row < values.length; row++) {
    if (alive[row] !== 0) values[row] += factor * worth[row];
  }
}

/** Means over neighbouring particles and so many standard deviations, float32 `[B, N]`. */
function overParticles(
  values: Float64Array,
  starts: number,
  count: number,
  { particles, spread }: Settings,
): NdView {
  const out = zeros([starts, count]);
  for (let i = 0, row = 0; i < out.data.length; i++, row += particles) {
    let sum = 0;
    for (let p = 0; p < particles; p++) sum += values[row + p];
    const mean = sum / particles;
    let squares = 0;
    for (let p = 0; p < particles; p++) squares += (values[row + p] - mean) ** 2;
    out.data[i] = spread === 0 ? mean : mean + spread * Math.sqrt(squares / particles);
  }
  return out;
}

/** The ids of all futures: they differ among all of them, or among the particles of a start alone. */
function idsOf(
  { noise, particles }: Settings,
  count: number,
  trajectory: Uint32Array,
): Uint32Array {
  if (noise !== 'common') return copyIds(trajectory, count * particles);
  const own = copyIds(trajectory, particles);
  const ids = new Uint32Array(trajectory.length * count * particles);
  for (let b = 0, row = 0; b < trajectory.length; b++) {
    for (let n = 0; n < count; n++) {
      for (let p = 0; p < particles; p++) ids[row++] = own[b * particles + p];
    }
  }
  return ids;
}

const OPTIONS = [
  'gamma',
  'value',
  'particles',
  'spread',
  'noise',
  'uncertainty',
  'terminate',
  'actionRepeat',
];

function expectSettings(options: ModelObjectiveOptions): Settings {
  expectOptions('modelObjective', options, OPTIONS);
  const { gamma = 1, particles = 1, actionRepeat = 1, noise = 'independent' } = options;
  const { uncertainty, value, terminate, spread = 0 } = options;
  expectFunctions('modelObjective', { value, terminate });
  expectDiscounted('modelObjective', gamma, uncertainty);
  expectCount('modelObjective: particles', particles);
  expectCount('modelObjective: actionRepeat', actionRepeat);
  if (!Number.isFinite(spread)) {
    throw new RangeError(`modelObjective: spread must be a finite number, got ${spread}`);
  }
  if (spread !== 0 && particles === 1) {
    throw new RangeError(
      `modelObjective: particles must be more than 1 where spread is given, got 1 and ${spread}`,
    );
  }
  if (noise !== 'independent' && noise !== 'common') {
    throw new RangeError(`modelObjective: noise must be independent or common, got ${noise}`);
  }
  return { ...options, gamma, particles, spread, actionRepeat, noise };
}
