/// <reference lib="esnext.disposable" preserve="true" />
import {
  describe,
  expectMatrix,
  gatherRows,
  type NdView,
  nd,
  packed,
  rowMajorView,
  ShapeError,
  zeros,
} from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
import { checkGolden } from '../runtime/golden.js';
import { type EnsembleManifest, parseManifestOf } from '../runtime/manifest.js';
import {
  type Device,
  type DeviceFailure,
  NETWORK_OPTIONS,
  Network,
  type NetworkOptions,
} from '../runtime/network.js';
import { expectOptions } from '../runtime/options.js';
import type { Ort } from '../runtime/ort.js';
import { expectCount } from '../runtime/row-chunks.js';
import { type ModelFolder, type ModelSource, openFolder } from '../runtime/source.js';
import type { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import type {
  ModelContext,
  Observed,
  StepResult,
  TerminationFunction,
  WorldModel,
} from './contract.js';
import { checkEnsembleGraphs, checkEnsembleManifest } from './ensemble-contract.js';
import { type EnsembleLayout, layoutOf } from './ensemble-layout.js';
import { EnsemblePrediction } from './ensemble-prediction.js';
import { EnsembleRunner, type RawOutputs } from './ensemble-runner.js';
import { decideEnds, endProbabilities } from './learned-termination.js';
import { drawMembers, keepMembers } from './member-draw.js';
import { canBucket, membersOf } from './members.js';
import { OutputUnits } from './output-units.js';
import { eitherFlag, expectPerRow } from './per-row.js';
import { Scratch } from './scratch.js';
import { terminationRules } from './termination-rules.js';
import {
  expectTransitionOptions,
  finishTransitions,
  keepWithin,
  TRANSITION_OPTIONS,
  type TransitionOptions,
} from './transition.js';
import type { TransitionFilter } from './transition-filter.js';

/**
 * How uncertainty travels through a rollout (PETS names in brackets).
 *
 * - `random-model` (TS1): every row takes a fresh elite at every step, and noise is added.
 * - `fixed-model` (TS-infinity): every row keeps the elite drawn at its start, and noise is added.
 * - `expectation` (E): the mean of the elites' means, without noise.
 *
 * All members' predictions without a choice among them (DS) are what `predict` gives.
 */
export type Propagation = 'random-model' | 'fixed-model' | 'expectation';

/**
 * How to load and run an ensemble. `reward` replaces the learned one and is required when the manifest's
 * `rewardIndex` is null; `terminate` ends episodes besides the manifest's `termination`; `support` replaces
 * the manifest's.
 */
export interface EnsembleOptions extends NetworkOptions, TransitionOptions {
  /** Default `random-model`. */
  propagation?: Propagation;
  /** Take the mean of a row's member, without noise. Default false. */
  deterministic?: boolean;
  /** Chooses among several candidates for each transition; by default the one drawn is taken. */
  filter?: TransitionFilter;
  /**
   * Rows of each network call are filled up to a multiple of this. 16, the default, makes a row's bits
   * independent of the batch around it on Node's CPU; 1 saves time for a few rows.
   */
  padRows?: number;
  /** Most rows a member gets in one network call, rounded up to whole paddings. Default 1024. */
  chunkRows?: number;
}

/** Rows of an ensemble rollout. */
export interface EnsembleState {
  /** Observations, float32 `[B, S]`. */
  readonly obs: NdView;
  /** The elite each row keeps, `[B]`; only for `fixed-model`. */
  readonly member?: Int32Array;
}

/**
 * A dynamics ensemble: members that each predict the change of the observation, the reward and how
 * uncertain both are.
 *
 * Chua et al., "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models"
 * (2018); the vocabulary is mbrl-lib's.
 */
export class EnsembleDynamics implements WorldModel<EnsembleState>, AsyncDisposable {
  /** Width of an observation, `S`. */
  readonly obsSize: number;
  /** Width of an action, `A`. */
  readonly actionSize: number;
  /** The validated manifest. */
  readonly manifest: EnsembleManifest;
  /** Members that are sampled from, by number. */
  readonly elites: readonly number[];
  /** How members are chosen. */
  readonly propagation: Propagation;
  readonly #networks: readonly Network[];
  readonly #layout: EnsembleLayout;
  readonly #runner: EnsembleRunner;
  readonly #units: OutputUnits;
  readonly #finish: TransitionOptions;
  readonly #filter: TransitionFilter | undefined;
  readonly #deterministic: boolean;

  private constructor(
    manifest: EnsembleManifest,
    layout: EnsembleLayout,
    networks: readonly Network[],
    runner: EnsembleRunner,
    options: EnsembleOptions,
  ) {
    this.obsSize = manifest.obsSize;
    this.actionSize = manifest.actionSize;
    this.manifest = manifest;
    this.elites = layout.elites;
    this.propagation = options.propagation ?? 'random-model';
    this.#networks = networks;
    this.#layout = layout;
    this.#runner = runner;
    this.#units = new OutputUnits(manifest);
    this.#finish = {
      reward: options.reward,
      terminate: endsOf(manifest, options.terminate),
      support: options.support ?? manifest.support,
    };
    this.#filter = options.filter;
    this.#deterministic = options.deterministic ?? false;
  }

  /**
   * Loads an ensemble with its manifest.
   *
   * @param ort - the ONNX Runtime module
   * @param source - folder path, URL, or `{ manifest, files }`
   * @throws {@link ModelLoadError} when a file is missing or damaged, or no device takes a graph
   * @throws {@link ModelContractError} when the manifest is invalid, the graphs do not have the tensors
   *   it names, or golden vectors do not come out
   * @throws TypeError or RangeError for options of another kind or outside their range
   */
  static async load(
    ort: Ort,
    source: ModelSource,
    options: EnsembleOptions = {},
  ): Promise<EnsembleDynamics> {
    expectOptions('EnsembleDynamics.load', options, OPTIONS);
    const { padRows = 16, chunkRows = 1024 } = options;
    expectCount('EnsembleDynamics: padRows', padRows);
    expectCount('EnsembleDynamics: chunkRows', chunkRows);
    const folder = await openFolder(source, options);
    const manifest = parseManifestOf('ensemble', folder.manifest);
    checkEnsembleManifest(manifest);
    checkOptions(manifest, options);
    const networks: Network[] = [];
    try {
      const layout = await loadNetworks(ort, folder, manifest, options, networks);
      checkEnsembleGraphs(layout, networks);
      const runner = new EnsembleRunner(layout, membersOf(layout, networks), padRows, chunkRows);
      const model = new EnsembleDynamics(manifest, layout, networks, runner, options);
      if (manifest.weights !== undefined && options.golden !== false) await model.#checkWeights();
      return model;
    } catch (error) {
      await Promise.all(networks.map((network) => network.dispose()));
      throw error;
    }
  }

  /** The device the networks run on. */
  get device(): Device {
    return this.#networks[0].device;
  }

  /** Devices preferred to it that failed, with the reasons. */
  get failures(): readonly DeviceFailure[] {
    return this.#networks[0].failures;
  }

  /**
   * The state of newly observed rows.
   *
   * @param obs - float32 `[B, S]`
   * @throws TypeError or {@link ShapeError} when `obs` is not that
   */
  initial(obs: NdView, context: ModelContext): EnsembleState {
    expectMatrix('EnsembleDynamics: obs', obs, null, this.obsSize);
    expectRows(context, obs.shape[0]);
    if (this.propagation !== 'fixed-model') return { obs };
    return { obs, member: drawMembers(context.noise, this.elites) };
  }

  /**
   * The state is what was seen; rows keep their member unless an episode begins.
   *
   * @throws TypeError or {@link ShapeError} when the observations are not float32 `[B, S]`
   */
  observe(state: EnsembleState, { obs, first }: Observed, context: ModelContext): EnsembleState {
    expectMatrix('EnsembleDynamics: obs', obs, state.obs.shape[0], this.obsSize);
    const fresh = this.initial(obs, context);
    const kept = state.member;
    if (fresh.member === undefined || kept === undefined) return fresh;
    return { obs, member: keepMembers(kept, fresh.member, first) };
  }

  /**
   * What every member predicts, without a draw or a choice among them.
   *
   * @param obs - float32 `[B, S]`
   * @param action - float32 `[B, A]`
   * @returns means and variances `[E, B, D]` in output units; `member` is -1 everywhere
   * @throws TypeError or {@link ShapeError} when an argument is not that
   * @throws {@link DisposedError} after `dispose()`
   */
  async predict(obs: NdView, action: NdView): Promise<EnsemblePrediction> {
    expectMatrix('EnsembleDynamics: obs', obs, null, this.obsSize);
    expectMatrix('EnsembleDynamics: action', action, obs.shape[0], this.actionSize);
    const raw = await this.#runner.runAll(obs, action, { keep: true, scratch: new Scratch() });
    this.#units.denormalize(raw.mean);
    const nobody = new Int32Array(obs.shape[0]).fill(-1);
    return this.#predictionOf(raw, rowMajorView(obs), rowMajorView(action), nobody);
  }

  /**
   * One transition of every row.
   *
   * When the context asks for no prediction, each row runs on its own member alone where the form of
   * the graph allows it.
   *
   * @param action - float32 `[B, A]`
   * @throws TypeError or {@link ShapeError} when `action` is not that
   * @throws {@link DisposedError} after `dispose()`
   */
  async step(
    state: EnsembleState,
    action: NdView,
    context: ModelContext,
  ): Promise<StepResult<EnsembleState>> {
    const { noise, step, prediction = true, scratch = new Scratch() } = context;
    const rows = state.obs.shape[0];
    expectRows(context, rows);
    expectMatrix('EnsembleDynamics: action', action, rows, this.actionSize);
    const obs = rowMajorView(state.obs);
    const taken = rowMajorView(action);
    const member = this.#chooseMembers(state, noise);
    const raw = await this.#run(obs, taken, member, prediction, scratch);
    const units = this.#units;
    units.denormalize(raw.mean);
    let drawn: Drawn;
    if (this.#filter === undefined) {
      const outputs = this.#draw(raw, member, noise, prediction, scratch);
      drawn = { outputs, member, ...units.arrive(obs, outputs) };
    } else drawn = await this.#drawFiltered(this.#filter, raw, obs, taken, { step, noise });
    const { outputs, nextObs, reward } = drawn;
    const head = this.#learnedEnds(raw, drawn.member, noise);
    const ends = head === undefined ? drawn.terminated : eitherFlag(drawn.terminated, head);
    const { clipped, ...finished } = await finishTransitions(
      'EnsembleDynamics',
      {
        obs,
        action: taken,
        nextObs,
        noise,
        ...(this.manifest.rewardIndex !== null && { reward }),
        ...(ends && { terminated: ends }),
      },
      this.#finish,
    );
    return {
      ...finished,
      // Rows that came without a member keep the one they were given here.
      state: { obs: nextObs, ...(this.propagation === 'fixed-model' && { member }) },
      obs: nextObs,
      ...(prediction && {
        prediction: this.#predictionOf(raw, obs, taken, drawn.member, outputs),
      }),
      extras: { member: drawn.member, ...(clipped && { clipped: drawn.clipped ?? clipped }) },
    };
  }

  /** The state of some rows, in the order given. */
  gather(state: EnsembleState, rows: Int32Array): EnsembleState {
    const obs = gatherRows(state.obs, rows);
    if (state.member === undefined) return { obs };
    return { obs, member: gatherRows(nd(state.member), rows).data };
  }

  /** Frees the networks; a second call does nothing more. */
  async dispose(): Promise<void> {
    await Promise.all(this.#networks.map((network) => network.dispose()));
  }

  /** `dispose()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #chooseMembers(state: EnsembleState, noise: RowNoise): Int32Array {
    if (this.propagation === 'expectation') return new Int32Array(state.obs.shape[0]).fill(-1);
    const kept = this.propagation === 'fixed-model' ? state.member : undefined;
    return kept ?? drawMembers(noise, this.elites);
  }

  /** The outputs of all members or, where nothing else is needed, of each row's own. */
  #run(
    obs: NdView,
    action: NdView,
    member: Int32Array,
    prediction: boolean,
    scratch: Scratch,
  ): Promise<RawOutputs> {
    const own = !prediction && this.propagation !== 'expectation' && this.#filter === undefined;
    if (own && canBucket(this.#layout)) {
      return this.#runner.runBucketed(obs, action, member, scratch);
    }
    // A prediction is the caller's to keep; otherwise the outputs are read once.
    return this.#runner.runAll(obs, action, { keep: prediction, scratch });
  }

  /** One output row for each row: a draw from its member, or the elites' mean; `[B, D]`. */
  #draw(
    { mean, logVar, bucketed }: RawOutputs,
    member: Int32Array,
    noise: RowNoise,
    keep: boolean,
    scratch: Scratch,
  ): Float32Array {
    const rows = member.length;
    const D = this.#units.width;
    const out = keep ? new Float32Array(rows * D) : scratch.float32('sample', rows * D);
    if (this.propagation === 'expectation') {
      const { elites } = this;
      for (let i = 0; i < out.length; i++) {
        let sum = 0;
        for (const e of elites) sum += mean[e * out.length + i];
        out[i] = sum / elites.length;
      }
      return out;
    }
    if (bucketed) out.set(mean);
    else takeOwn(mean, member, D, out);
    const form = this.#units.logVariance;
    if (this.#deterministic || form === undefined || logVar === undefined) return out;
    const normal = noise.normal(D, { out: scratch.float32('noise', rows * D) }).data;
    let raw = logVar;
    if (!bucketed) {
      raw = scratch.float32('ownLogVar', rows * D);
      takeOwn(logVar, member, D, raw);
    }
    form.draw(raw, normal, out);
    return out;
  }

  /** Several draws from every elite for each row, of which the filter chooses one. */
  async #drawFiltered(
    filter: TransitionFilter,
    { mean, logVar }: RawOutputs,
    obs: NdView,
    action: NdView,
    context: { step: number; noise: RowNoise },
  ): Promise<Drawn> {
    const { elites, obsSize } = this;
    const units = this.#units;
    const form = units.logVariance;
    const rows = obs.shape[0];
    const D = units.width;
    const size = rows * D;
    const M = elites.length * filter.samples;
    const outputs = new Float32Array(M * size);
    const nextObs = new Float32Array(M * rows * obsSize);
    const reward = new Float32Array(M * rows);
    const noise = context.noise.in(Stream.candidate);
    for (let m = 0; m < M; m++) {
      const own = elites[Math.floor(m / filter.samples)] * size;
      const candidate = outputs.subarray(m * size, (m + 1) * size);
      noise.normal(D, { draw: m, out: candidate });
      for (let i = 0, d = 0; i < size; i++) {
        const variance =
          form === undefined || logVar === undefined ? 0 : form.variance(logVar[own + i], d);
        candidate[i] = mean[own + i] + Math.sqrt(variance) * candidate[i];
        if (++d === D) d = 0;
      }
      const there = units.arrive(obs, candidate);
      nextObs.set(packed(there.nextObs), m * rows * obsSize);
      reward.set(there.reward, m * rows);
    }
    const { support } = this.#finish;
    const clipped = support && keepWithin(support, nd(nextObs, [M * rows, obsSize]));
    if (filter.clip !== undefined) {
      clampTo(filter.clip, nextObs);
      clampTo(filter.clip, reward);
    }
    const { index, terminated } = await filter.choose(
      {
        outputs: nd(outputs, [M, rows, D]),
        obs,
        action,
        nextObs: nd(nextObs, [M, rows, obsSize]),
      },
      context,
    );
    // Row `index[row] * rows + row` of the candidates is the row's own.
    const chosen = index.map((m, row) => m * rows + row);
    return {
      outputs: gatherRows(nd(outputs, [M * rows, D]), chosen).data,
      member: index.map((m) => elites[Math.floor(m / filter.samples)]),
      nextObs: gatherRows(nd(nextObs, [M * rows, obsSize]), chosen),
      reward: gatherRows(nd(reward), chosen).data,
      terminated,
      ...(clipped && { clipped: chosen.map((from) => clipped[from]) }),
    };
  }

  /** Ends that the networks predict, by the row's own member or by the elites' mean. */
  #learnedEnds(raw: RawOutputs, member: Int32Array, noise: RowNoise): Uint8Array | undefined {
    const { termination } = this.manifest;
    const answer = raw.termination;
    if (answer === undefined || termination === undefined || !('output' in termination)) {
      return undefined;
    }
    const rows = member.length;
    let asked: NdView;
    if (this.propagation === 'expectation') {
      const { elites } = this;
      asked = zeros([rows, elites.length]);
      for (let row = 0, to = 0; row < rows; row++) {
        for (const e of elites) asked.data[to++] = answer[e * rows + row];
      }
    } else {
      asked = zeros([rows, 1]);
      for (let row = 0; row < rows; row++) {
        asked.data[row] = answer[raw.bucketed ? row : member[row] * rows + row];
      }
    }
    const what = 'EnsembleDynamics: termination';
    const probability = endProbabilities(what, asked, termination.form ?? 'logit');
    return decideEnds(what, probability, termination, noise.in(Stream.head));
  }

  #predictionOf(
    raw: RawOutputs,
    obs: NdView,
    action: NdView,
    member: Int32Array,
    outputs?: Float32Array,
  ): EnsemblePrediction {
    const rows = member.length;
    const D = this.#units.width;
    return new EnsemblePrediction(
      {
        mean: nd(raw.mean, [this.#layout.ensembleSize, rows, D]),
        sample: outputs && nd(outputs, [rows, D]),
        member,
        elites: this.elites,
        rewardIndex: this.manifest.rewardIndex,
        obs,
        action,
      },
      raw.logVar,
      this.#units,
      this.#finish.support,
    );
  }

  /** Compares golden outputs of weights, which name no graph, with what the written graph gives. */
  async #checkWeights(): Promise<void> {
    const { file, golden } = this.manifest;
    if (golden === undefined || Array.isArray(golden)) return;
    const { ensembleSize, inputSize, outputSize } = this.#layout;
    const { x, ...others } = golden.inputs;
    const [rows, width] = x?.shape ?? [];
    const fits = width === inputSize && x.data.length === rows * width;
    if (!fits || x.shape.length !== 2 || Object.keys(others).length > 0) {
      const got = Object.entries(golden.inputs).map(
        ([name, { shape, data }]) => `${name} [${shape}] of ${data.length} numbers`,
      );
      throw new ModelContractError(
        `ensemble manifest: golden.inputs must be x of shape [B, ${inputSize}] alone where weights is given, got ${got.join(', ') || 'none'}`,
      );
    }
    const given = nd(Float32Array.from(x.data), x.shape);
    const { mean, logVar } = await this.#runner.runNormalized(given);
    const shape = [ensembleSize, rows, outputSize];
    const outputs = { mean: nd(mean, shape), ...(logVar && { logVar: nd(logVar, shape) }) };
    checkGolden(golden, outputs, [], String(file));
  }
}

/** One outcome for each row. */
interface Drawn {
  outputs: Float32Array;
  member: Int32Array;
  nextObs: NdView;
  reward: Float32Array;
  terminated?: Uint8Array;
  /** Dimensions of each row that were moved into the support. */
  clipped?: Int32Array;
}

/** Each row's own outputs out of those of all members: `[E, B, D]` to `[B, D]`. */
function takeOwn(all: Float32Array, member: Int32Array, width: number, out: Float32Array): void {
  const rows = member.length;
  for (let row = 0, to = 0; row < rows; row++) {
    let from = (member[row] * rows + row) * width;
    for (let d = 0; d < width; d++) out[to++] = all[from++];
  }
}

/** Bounds magnitudes, in place; keeps NaN. */
function clampTo(bound: number, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    if (values[i] > bound) values[i] = bound;
    else if (values[i] < -bound) values[i] = -bound;
  }
}

const OPTIONS = [
  ...NETWORK_OPTIONS,
  ...TRANSITION_OPTIONS,
  'propagation',
  'deterministic',
  'filter',
  'padRows',
  'chunkRows',
];

/** Loads what the manifest names into `networks`, which the caller disposes of when something fails. */
async function loadNetworks(
  ort: Ort,
  folder: ModelFolder,
  manifest: EnsembleManifest,
  options: EnsembleOptions,
  networks: Network[],
): Promise<EnsembleLayout> {
  if (manifest.weights !== undefined) {
    const file = manifest.file as string;
    const { devices = 'cpu' } = options;
    const first = typeof devices === 'string' ? devices : devices[0];
    const form = first === 'cpu' || first === 'wasm' ? 'separate' : 'stacked';
    // Loaded when asked for: nobody else needs the safetensors reader and the graph writer.
    const { writeEnsembleGraph } = await import('./ensemble-weights.js');
    const written = writeEnsembleGraph(manifest, await folder.read(file), form);
    const graph = { where: folder.where, read: async () => written.bytes };
    networks.push(await Network.loadFile(ort, graph, file, undefined, options));
    return layoutOf(written.manifest);
  }
  const { file, golden } = manifest;
  for (const [i, name] of (Array.isArray(file) ? file : [file]).entries()) {
    const recorded = Array.isArray(golden) ? golden[i] : golden;
    networks.push(await Network.loadFile(ort, folder, name, recorded, options));
  }
  return layoutOf(manifest);
}

function checkOptions(manifest: EnsembleManifest, options: EnsembleOptions): void {
  const { propagation = 'random-model', reward, filter } = options;
  const isFilter = typeof filter?.choose === 'function' && typeof filter.samples === 'number';
  if (filter !== undefined && !isFilter) {
    throw new TypeError(
      `EnsembleDynamics: filter must be a TransitionFilter, got ${describe(filter)}; make one by new TransitionFilter({ score })`,
    );
  }
  if (!['random-model', 'fixed-model', 'expectation'].includes(propagation)) {
    throw new RangeError(
      `EnsembleDynamics: propagation must be random-model, fixed-model or expectation, got ${propagation}`,
    );
  }
  if (filter !== undefined && propagation !== 'random-model') {
    throw new RangeError(
      `EnsembleDynamics: propagation must be random-model with a filter, which takes candidates of every elite, got ${propagation}`,
    );
  }
  if (filter !== undefined && options.deterministic === true) {
    throw new RangeError(
      'EnsembleDynamics: deterministic must be left out with a filter, which chooses among draws, got true',
    );
  }
  if (manifest.rewardIndex === null && reward === undefined) {
    throw new ModelContractError(
      'EnsembleDynamics: the manifest has rewardIndex null, so options.reward must be given, got none',
    );
  }
  expectTransitionOptions('EnsembleDynamics', options, manifest.obsSize);
}

/** The manifest's rule and the caller's ends as one function. */
function endsOf(
  { termination }: EnsembleManifest,
  injected: TerminationFunction | undefined,
): TerminationFunction | undefined {
  if (termination === undefined || !('rule' in termination)) return injected;
  const rule = terminationRules[termination.rule];
  if (injected === undefined) return rule;
  return async (transitions) => {
    const ends = await injected(transitions);
    expectPerRow(
      "EnsembleDynamics: terminate's answer",
      ends,
      Uint8Array,
      transitions.obs.shape[0],
    );
    return eitherFlag(ends, rule(transitions));
  };
}

function expectRows({ trajectory }: ModelContext, rows: number): void {
  if (trajectory.length !== rows) {
    throw new ShapeError(
      `EnsembleDynamics: context must have an id for each of the ${rows} rows, got ${trajectory.length}`,
    );
  }
}
