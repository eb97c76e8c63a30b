/// <reference lib="esnext.disposable" preserve="true" />
import { expectMatrix, gatherRows, type NdView, nd, packed, rowMajorView, zeros } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
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
import { expectCount, paddedRows } from '../runtime/row-chunks.js';
import { type ModelSource, openFolder } from '../runtime/source.js';
import { Stream } from '../sampling/stream.js';
import type {
  ModelContext,
  RewardFunction,
  StepResult,
  TerminationFunction,
  WorldModel,
} from './contract.js';
import { checkEnsembleGraphs, checkEnsembleManifest, outputSize } from './ensemble-contract.js';
import { EnsemblePrediction } from './ensemble-prediction.js';
import { clampedVariance, LogVarianceForm } from './log-variance.js';
import { canBucket, membersOf, type RunMembers } from './members.js';
import { normalizeRow } from './normalizer.js';
import { Scratch } from './scratch.js';

/**
 * How uncertainty travels through a rollout (PETS names in brackets).
 *
 * - `random-model` (TS1): every row takes a fresh elite at every step, and noise is added.
 * - `fixed-model` (TS-infinity): every row keeps the elite drawn at its start, and noise is added.
 * - `expectation` (E): the mean of the elites' means, without noise.
 */
export type Propagation = 'random-model' | 'fixed-model' | 'expectation';

/** How to load and run an ensemble. */
export interface EnsembleOptions extends NetworkOptions {
  /** Default `random-model`. */
  propagation?: Propagation;
  /** Replaces the learned reward; required when the manifest's `rewardIndex` is null. */
  reward?: RewardFunction;
  /** Says which transitions end their episode; never by default. */
  terminate?: TerminationFunction;
  /**
   * Rows of each network call are filled up to a multiple of this. 16, the default, makes a row's bits
   * independent of the batch around it on Node's CPU; 1 saves time for a few rows.
   */
  padRows?: number;
  /** Most rows a member gets in one network call. Default 1024. */
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
  /** How members are chosen. */
  readonly propagation: Propagation;
  readonly #networks: readonly Network[];
  readonly #members: RunMembers;
  readonly #logVariance: LogVarianceForm | undefined;
  readonly #options: EnsembleOptions;
  readonly #padRows: number;
  readonly #chunkRows: number;
  /** Observation dimension of each output; -1 for the reward. */
  readonly #obsOf: Int32Array;
  /** 1 where the observation before the step is added. */
  readonly #isDelta: Uint8Array;

  private constructor(
    manifest: EnsembleManifest,
    networks: readonly Network[],
    options: EnsembleOptions,
  ) {
    const { padRows = 16, chunkRows = 1024, propagation = 'random-model' } = options;
    expectCount('EnsembleDynamics: padRows', padRows);
    expectCount('EnsembleDynamics: chunkRows', chunkRows);
    if (!['random-model', 'fixed-model', 'expectation'].includes(propagation)) {
      throw new RangeError(
        `EnsembleDynamics: propagation must be random-model, fixed-model or expectation, got ${propagation}`,
      );
    }
    if (manifest.rewardIndex === null && options.reward === undefined) {
      throw new ModelContractError(
        'EnsembleDynamics: the manifest has rewardIndex null, so options.reward must be given, got none',
      );
    }
    this.obsSize = manifest.obsSize;
    this.actionSize = manifest.actionSize;
    this.manifest = manifest;
    this.propagation = propagation;
    this.#networks = networks;
    this.#members = membersOf(manifest, networks);
    this.#options = options;
    this.#padRows = padRows;
    this.#chunkRows = paddedRows(chunkRows, padRows);
    const { logVar, noDelta = [], predictsDelta, rewardIndex } = manifest;
    const D = outputSize(manifest);
    this.#logVariance = logVar === null ? undefined : new LogVarianceForm(logVar, D);
    this.#obsOf = new Int32Array(D);
    this.#isDelta = new Uint8Array(D);
    for (let d = 0, i = 0; d < D; d++) {
      this.#obsOf[d] = d === rewardIndex ? -1 : i++;
      this.#isDelta[d] =
        predictsDelta && d !== rewardIndex && !noDelta.includes(this.#obsOf[d]) ? 1 : 0;
    }
  }

  /**
   * Loads an ensemble with its manifest.
   *
   * @param ort - the ONNX Runtime module
   * @param source - folder path, URL, or `{ manifest, files }`
   * @throws {@link ModelLoadError} when a file is missing or damaged, or no device takes a graph
   * @throws {@link ModelContractError} when the manifest is invalid, the graphs do not have the tensors
   *   it names, or golden vectors do not come out
   * @throws RangeError for options outside their range
   */
  static async load(
    ort: Ort,
    source: ModelSource,
    options: EnsembleOptions = {},
  ): Promise<EnsembleDynamics> {
    expectOptions('EnsembleDynamics.load', options, OPTIONS);
    const folder = await openFolder(source, options);
    const manifest = parseManifestOf('ensemble', folder.manifest);
    checkEnsembleManifest(manifest);
    const files = Array.isArray(manifest.file) ? manifest.file : [manifest.file];
    const networks: Network[] = [];
    try {
      for (const [i, file] of files.entries()) {
        const golden = Array.isArray(manifest.golden) ? manifest.golden[i] : manifest.golden;
        networks.push(await Network.loadFile(ort, folder, file, golden, options));
      }
      checkEnsembleGraphs(manifest, networks);
      return new EnsembleDynamics(manifest, networks, options);
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
    if (this.propagation !== 'fixed-model') return { obs };
    return { obs, member: this.#drawMembers(context) };
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
    given: ModelContext,
  ): Promise<StepResult<EnsembleState>> {
    const rows = state.obs.shape[0];
    expectMatrix('EnsembleDynamics: action', action, rows, this.actionSize);
    const { prediction = true, scratch = new Scratch() } = given;
    const context = { ...given, prediction, scratch };
    const member = this.#chooseMembers(state, context);
    const bucketed = !prediction && this.propagation !== 'expectation' && canBucket(this.manifest);
    const raw = bucketed
      ? await this.#runBucketed(state.obs, action, member, context)
      : await this.#runAll(state.obs, action, context);
    const outputs = this.#draw(raw, bucketed, member, context);
    const { nextObs, reward: learned } = this.#arrive(state.obs, outputs);
    const transitions = {
      obs: rowMajorView(state.obs),
      action: rowMajorView(action),
      nextObs,
    };
    const reward = (await this.#options.reward?.(transitions)) ?? learned;
    const terminated = await this.#options.terminate?.(transitions);
    const { ensembleSize, elites, rewardIndex } = this.manifest;
    const shape = [ensembleSize, rows, this.#obsOf.length];
    return {
      state: { obs: nextObs, ...(state.member && { member }) },
      obs: nextObs,
      reward,
      ...(terminated && { terminated }),
      ...(prediction && {
        prediction: new EnsemblePrediction(
          {
            mean: nd(raw.mean, shape),
            sample: nd(outputs, shape.slice(1)),
            member,
            elites,
            rewardIndex,
          },
          raw.logVar,
          this.#logVariance,
        ),
      }),
      extras: { member },
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

  #chooseMembers(state: EnsembleState, context: ModelContext): Int32Array {
    if (this.propagation === 'expectation') return new Int32Array(state.obs.shape[0]).fill(-1);
    return state.member ?? this.#drawMembers(context);
  }

  #drawMembers({ noise }: ModelContext): Int32Array {
    const { elites } = this.manifest;
    const uniform = noise.in(Stream.member).uniform(1).data;
    const member = new Int32Array(uniform.length);
    for (let row = 0; row < member.length; row++) {
      member[row] = elites[Math.floor(uniform[row] * elites.length)];
    }
    return member;
  }

  /** Every row on every member: `[E, B, D]`. */
  async #runAll(obs: NdView, action: NdView, context: FullContext): Promise<RawOutputs> {
    const { ensembleSize } = this.manifest;
    const rows = obs.shape[0];
    const D = this.#obsOf.length;
    const width = this.obsSize + this.actionSize;
    const padded = paddedRows(rows, this.#padRows);
    const input = context.scratch.float32('input', padded * width);
    this.#writeInput(obs, action, null, input, padded);
    // A prediction is the caller's to keep; otherwise the outputs are read once and may be reused.
    const size = ensembleSize * rows * D;
    const make = (name: string) =>
      context.prediction ? new Float32Array(size) : context.scratch.float32(name, size);
    const mean = make('mean');
    const logVar = this.#logVariance && make('logVar');
    for (let first = 0; first < padded; first += this.#chunkRows) {
      const count = Math.min(this.#chunkRows, padded - first);
      const chunk = input.subarray(first * width, (first + count) * width);
      const outputs = await this.#members(
        new Array<Float32Array>(ensembleSize).fill(chunk),
        new Array<number>(ensembleSize).fill(count),
      );
      const kept = Math.min(count, rows - first) * D;
      for (let e = 0; e < ensembleSize; e++) {
        const to = (e * rows + first) * D;
        mean.set(outputs.mean[e].subarray(0, kept), to);
        if (outputs.logVar) logVar?.set(outputs.logVar[e].subarray(0, kept), to);
      }
    }
    return { mean, logVar };
  }

  /** Every row on its own member: `[B, D]`. */
  async #runBucketed(
    obs: NdView,
    action: NdView,
    member: Int32Array,
    { scratch }: FullContext,
  ): Promise<RawOutputs> {
    const { ensembleSize } = this.manifest;
    const rows = obs.shape[0];
    const D = this.#obsOf.length;
    const width = this.obsSize + this.actionSize;

    // Rows are laid out member by member, each member's share filled up to whole paddings.
    const size = new Int32Array(ensembleSize);
    for (let row = 0; row < rows; row++) size[member[row]]++;
    const start = new Int32Array(ensembleSize + 1);
    for (let e = 0; e < ensembleSize; e++)
      start[e + 1] = start[e] + paddedRows(size[e], this.#padRows);
    const slots = start[ensembleSize];
    const rowOf = scratch.int32('rowOf', slots).fill(-1);
    const next = start.slice();
    for (let row = 0; row < rows; row++) rowOf[next[member[row]]++] = row;

    const input = scratch.float32('input', slots * width);
    this.#writeInput(obs, action, rowOf, input, slots);
    const mean = scratch.float32('mean', rows * D);
    const logVar = this.#logVariance && scratch.float32('logVar', rows * D);
    const longest = Math.max(...size);
    const inputs = new Array<Float32Array>(ensembleSize);
    const counts = new Array<number>(ensembleSize);
    for (let first = 0; first < longest; first += this.#chunkRows) {
      for (let e = 0; e < ensembleSize; e++) {
        const from = Math.min(start[e] + first, start[e + 1]);
        const to = Math.min(from + this.#chunkRows, start[e + 1]);
        inputs[e] = input.subarray(from * width, to * width);
        counts[e] = to - from;
      }
      const outputs = await this.#members(inputs, counts);
      for (let e = 0; e < ensembleSize; e++) {
        for (let i = 0; i < counts[e]; i++) {
          const row = rowOf[start[e] + first + i];
          if (row < 0) continue;
          copyRow(outputs.mean[e], i, mean, row, D);
          if (outputs.logVar && logVar) copyRow(outputs.logVar[e], i, logVar, row, D);
        }
      }
    }
    return { mean, logVar };
  }

  /** Normalised `concat(obs, action)` for each slot; `rowOf` null takes rows in order, -1 is padding. */
  #writeInput(
    obs: NdView,
    action: NdView,
    rowOf: Int32Array | null,
    out: Float32Array,
    slots: number,
  ): void {
    const { obsSize, actionSize } = this;
    const { inputNormalizer } = this.manifest;
    const rows = obs.shape[0];
    const o = packed(obs);
    const a = packed(action);
    const width = obsSize + actionSize;
    for (let slot = 0, to = 0; slot < slots; slot++, to += width) {
      const row = rowOf === null ? slot : rowOf[slot];
      if (row < 0 || row >= rows) {
        out.fill(0, to, to + width);
        continue;
      }
      normalizeRow(o, row * obsSize, obsSize, inputNormalizer, 0, out, to);
      normalizeRow(a, row * actionSize, actionSize, inputNormalizer, obsSize, out, to + obsSize);
    }
  }

  /** One output row for each row: a draw from its member, or the elites' mean; `[B, D]`. */
  #draw(
    { mean, logVar }: RawOutputs,
    bucketed: boolean,
    member: Int32Array,
    { noise, prediction, scratch }: FullContext,
  ): Float32Array {
    const rows = member.length;
    const D = this.#obsOf.length;
    const out = prediction ? new Float32Array(rows * D) : scratch.float32('sample', rows * D);
    if (this.propagation === 'expectation') {
      const { elites } = this.manifest;
      for (let i = 0; i < out.length; i++) {
        let sum = 0;
        for (const e of elites) sum += mean[e * out.length + i];
        out[i] = sum / elites.length;
      }
      return out;
    }
    for (let row = 0, to = 0; row < rows; row++) {
      let from = (bucketed ? row : member[row] * rows + row) * D;
      for (let d = 0; d < D; d++) out[to++] = mean[from++];
    }
    if (this.#logVariance === undefined || logVar === undefined) return out;
    const { floor, inverseCeiling } = this.#logVariance;
    const normal = noise.normal(D, { out: scratch.float32('noise', rows * D) }).data;
    for (let row = 0, to = 0; row < rows; row++) {
      let from = (bucketed ? row : member[row] * rows + row) * D;
      for (let d = 0; d < D; d++, to++) {
        const variance = clampedVariance(logVar[from++], floor[d], inverseCeiling[d]);
        out[to] += Math.sqrt(variance) * normal[to];
      }
    }
    return out;
  }

  /** Output rows as observations and rewards. */
  #arrive(before: NdView, outputs: Float32Array): { nextObs: NdView; reward: Float32Array } {
    const [rows, width] = before.shape;
    const D = this.#obsOf.length;
    const obs = packed(before);
    const nextObs = zeros([rows, width]);
    const reward = new Float32Array(rows);
    for (let row = 0, from = 0; row < rows; row++) {
      for (let d = 0; d < D; d++, from++) {
        const i = this.#obsOf[d];
        const at = row * width + i;
        if (i < 0) reward[row] = outputs[from];
        else nextObs.data[at] = this.#isDelta[d] ? obs[at] + outputs[from] : outputs[from];
      }
    }
    return { nextObs, reward };
  }
}

const OPTIONS = [...NETWORK_OPTIONS, 'propagation', 'reward', 'terminate', 'padRows', 'chunkRows'];

/** A context with nothing left out. */
type FullContext = Required<ModelContext>;

/** Outputs as the networks gave them, `[B, D]` when bucketed and `[E, B, D]` when not. */
interface RawOutputs {
  mean: Float32Array;
  logVar: Float32Array | undefined;
}

function copyRow(
  from: Float32Array,
  i: number,
  to: Float32Array,
  row: number,
  width: number,
): void {
  for (let d = 0; d < width; d++) to[row * width + d] = from[i * width + d];
}
