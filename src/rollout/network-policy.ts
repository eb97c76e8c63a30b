/// <reference lib="esnext.disposable" preserve="true" />
import { normalizeRow } from '../dynamics/normalizer.js';
import { Scratch } from '../dynamics/scratch.js';
import { expectMatrix, type NdView, nd, packed, zeros } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
import { type PolicyManifest, parseManifestOf } from '../runtime/manifest.js';
import { checkAction, expectLength } from '../runtime/manifest-checks.js';
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
import { TanhGaussian } from '../sampling/tanh-gaussian.js';
import type { PolicyContext, PolicyResult } from './policy.js';

/** How to load and run a policy network. */
export interface NetworkPolicyOptions extends NetworkOptions {
  /** Take the squashed mean instead of a sample. Default false. */
  deterministic?: boolean;
  /** Rows of each network call are filled up to a multiple of this. Default 16; 1 for least latency. */
  padRows?: number;
  /** Most rows of one network call. Default 1024. */
  chunkRows?: number;
}

/**
 * A policy exported as an ONNX network that outputs the parameters of its actions; the library
 * normalises, samples and rescales.
 */
export class NetworkPolicy implements AsyncDisposable {
  /** Width of an observation, `S`. */
  readonly obsSize: number;
  /** Width of an action, `A`. */
  readonly actionSize: number;
  /** The validated manifest. */
  readonly manifest: PolicyManifest;
  readonly #network: Network;
  readonly #deterministic: boolean;
  readonly #padRows: number;
  readonly #chunkRows: number;

  private constructor(
    manifest: PolicyManifest,
    network: Network,
    { deterministic = false, padRows = 16, chunkRows = 1024 }: NetworkPolicyOptions,
  ) {
    expectCount('NetworkPolicy: padRows', padRows);
    expectCount('NetworkPolicy: chunkRows', chunkRows);
    this.obsSize = manifest.obsSize;
    this.actionSize = manifest.actionSize;
    this.manifest = manifest;
    this.#network = network;
    this.#deterministic = deterministic;
    this.#padRows = padRows;
    this.#chunkRows = paddedRows(chunkRows, padRows);
  }

  /**
   * Loads a policy with its manifest.
   *
   * @param ort - the ONNX Runtime module
   * @param source - folder path, URL, or `{ manifest, files }`
   * @throws {@link ModelLoadError} when a file is missing or damaged, or no device takes the graph
   * @throws {@link ModelContractError} when the manifest is invalid or disagrees with the graph, or golden
   *   vectors do not come out
   */
  static async load(
    ort: Ort,
    source: ModelSource,
    options: NetworkPolicyOptions = {},
  ): Promise<NetworkPolicy> {
    expectOptions('NetworkPolicy.load', options, OPTIONS);
    const folder = await openFolder(source, options);
    const manifest = parseManifestOf('policy', folder.manifest);
    checkPolicyManifest(manifest);
    const network = await Network.loadFile(ort, folder, manifest.file, manifest.golden, options);
    try {
      checkPolicyGraph(manifest, network);
      return new NetworkPolicy(manifest, network, options);
    } catch (error) {
      await network.dispose();
      throw error;
    }
  }

  /** The device the network runs on. */
  get device(): Device {
    return this.#network.device;
  }

  /** Devices preferred to it that failed, with the reasons. */
  get failures(): readonly DeviceFailure[] {
    return this.#network.failures;
  }

  /**
   * Chooses actions: the `Policy` function of this network.
   *
   * @param obs - float32 `[B, S]`, in the environment's units
   * @returns actions `[B, A]` within the action space and, for samples, their log-densities `[B]`
   * @throws TypeError or {@link ShapeError} when `obs` is not that
   */
  async act(obs: NdView, context: PolicyContext): Promise<PolicyResult> {
    expectMatrix('NetworkPolicy: obs', obs, null, this.obsSize);
    const { head } = this.manifest;
    const rows = obs.shape[0];
    const scratch = context.scratch ?? new Scratch();
    if (head.type === 'deterministic') {
      const [action] = await this.#run(obs, [head.action], scratch);
      return { action };
    }
    const [mean, logStd] = await this.#run(obs, [head.mean, head.logStd], scratch);
    const values = logStd.data;
    for (let i = 0; i < values.length; i++) {
      values[i] = Math.min(Math.max(values[i], head.logStdMin), head.logStdMax);
    }
    const distribution = new TanhGaussian(mean, { logStd });
    if (this.#deterministic) return { action: this.#rescale(distribution.mode()).action };
    const out = scratch.float32('noise', rows * this.actionSize);
    const noise = context.noise.normal(this.actionSize, { out });
    const { action, logProb } = distribution.sampleWithLogProb(noise);
    const { logScale } = this.#rescale(action);
    for (let row = 0; row < rows; row++) logProb[row] -= logScale;
    return { action, logProb };
  }

  /** Frees the network; a second call does nothing more. */
  dispose(): Promise<void> {
    return this.#network.dispose();
  }

  /** `dispose()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** The named outputs for all rows, `[B, A]` each, in padded chunks. */
  async #run(obs: NdView, names: readonly string[], scratch: Scratch): Promise<NdView[]> {
    const { obsSize, actionSize } = this;
    const rows = obs.shape[0];
    const x = packed(obs);
    const results = names.map(() => zeros([rows, actionSize]));
    const padded = paddedRows(rows, this.#padRows);
    const input = scratch.float32('input', padded * obsSize);
    const { obsNormalizer } = this.manifest;
    for (let row = 0; row < rows; row++) {
      normalizeRow(x, row * obsSize, obsSize, obsNormalizer, 0, input, row * obsSize);
    }
    input.fill(0, rows * obsSize);
    for (let first = 0; first < padded; first += this.#chunkRows) {
      const count = Math.min(this.#chunkRows, padded - first);
      const chunk = input.subarray(first * obsSize, (first + count) * obsSize);
      const outputs = await this.#network.run({
        [this.manifest.input]: nd(chunk, [count, obsSize]),
      });
      const kept = Math.min(count, rows - first) * actionSize;
      names.forEach((name, i) => {
        const { shape } = outputs[name];
        if (shape.length !== 2 || shape[0] !== count || shape[1] !== actionSize) {
          fail(`output '${name}'`, `must be [${count}, ${actionSize}], got [${shape}]`);
        }
        const values = packed(outputs[name] as NdView);
        results[i].data.set(values.subarray(0, kept), first * actionSize);
      });
    }
    return results;
  }

  /** From [-1, 1] to the bounds, in place; `logScale` is the log-volume of the change. */
  #rescale(action: NdView): { action: NdView; logScale: number } {
    const space = this.manifest.action;
    if (space.type !== 'box') return { action, logScale: 0 };
    const { low, high } = space;
    const { data } = action;
    let logScale = 0;
    for (let i = 0; i < low.length; i++) {
      const scale = (high[i] - low[i]) / 2;
      const centre = (high[i] + low[i]) / 2;
      logScale += Math.log(scale);
      if (scale === 1 && centre === 0) continue;
      for (let at = i; at < data.length; at += low.length) data[at] = centre + scale * data[at];
    }
    return { action, logScale };
  }
}

const OPTIONS = [...NETWORK_OPTIONS, 'deterministic', 'padRows', 'chunkRows'];

function checkPolicyManifest({
  action,
  actionSize,
  head,
  obsSize,
  obsNormalizer,
}: PolicyManifest): void {
  if (action.type === 'discrete' && head.type === 'tanh-gaussian') {
    fail('action', "must be of type 'box' for a tanh-gaussian head");
  }
  checkAction(fail, action, actionSize);
  if (head.type === 'tanh-gaussian' && !(head.logStdMin <= head.logStdMax)) {
    fail('head.logStdMin', `must not exceed logStdMax ${head.logStdMax}, got ${head.logStdMin}`);
  }
  if (obsNormalizer !== undefined) {
    expectLength(fail, 'obsNormalizer.mean', obsNormalizer.mean, obsSize, 'obsSize');
    expectLength(fail, 'obsNormalizer.std', obsNormalizer.std, obsSize, 'obsSize');
  }
}

function checkPolicyGraph(manifest: PolicyManifest, network: Network): void {
  const { actionSize, head, input, obsSize } = manifest;
  const [only, ...more] = network.inputs;
  if (only?.name !== input || more.length > 0) {
    const names = network.inputs.map(({ name }) => name).join(', ');
    fail('input', `must be the graph's one input, got '${input}' for ${names}`);
  }
  const [batch, width] = only.shape;
  if (
    only.shape.length !== 2 ||
    typeof batch === 'number' ||
    (typeof width === 'number' && width !== obsSize)
  ) {
    fail(
      `input '${input}'`,
      `must have shape [batch, ${obsSize}] in the graph, got [${only.shape}]`,
    );
  }
  const outputs = head.type === 'deterministic' ? [head.action] : [head.mean, head.logStd];
  for (const name of outputs) {
    const output = network.outputs.find((candidate) => candidate.name === name);
    if (output === undefined) {
      const names = network.outputs.map((candidate) => candidate.name).join(', ');
      fail('head', `must name outputs of the graph (${names}), got '${name}'`);
    }
    if (output.dtype !== 'float32' && output.dtype !== 'float16') {
      fail(`output '${name}'`, `must be float32 or float16 in the graph, got ${output.dtype}`);
    }
    const { shape } = output;
    // An exporter may leave the shape of an output open; what is stated must agree.
    if (
      shape !== null &&
      (shape.length !== 2 || (typeof shape[1] === 'number' && shape[1] !== actionSize))
    ) {
      fail(
        `output '${name}'`,
        `must have shape [batch, ${actionSize}] in the graph, got [${shape}]`,
      );
    }
  }
}

function fail(field: string, problem: string): never {
  throw new ModelContractError(`policy manifest: ${field} ${problem}`);
}
