/// <reference lib="esnext.disposable" preserve="true" />
import type { NdView, TypedArray } from '../nd.js';
import type { OnnxModel } from '../onnx/model.js';
import { DisposedError, ModelContractError, ModelLoadError, reasonOf } from './errors.js';
import { type Feed, toTensors, toView } from './feeds.js';
import { checkGolden, goldenFeeds } from './golden.js';
import { type InputInfo, readGraph, type TensorInfo } from './graph.js';
import { type Golden, parseManifest } from './manifest.js';
import { expectOptions } from './options.js';
import { expectOrt, type Ort, type OrtSession, type OrtTensor } from './ort.js';
import { queueFor, type SerialQueue } from './queue.js';
import { type ModelFolder, type ModelSource, openFolder, type SourceOptions } from './source.js';

/** Where a network may run; ONNX Runtime's names of execution providers, and `cpu` everywhere. */
export type Device =
  | 'cpu'
  | 'wasm'
  | 'webgpu'
  | 'webnn'
  | 'cuda'
  | 'tensorrt'
  | 'coreml'
  | 'dml'
  | (string & {});

/** How to load a network. */
export interface NetworkOptions extends SourceOptions {
  /** Devices in order of preference; the first that loads the graph is taken. Default `cpu`. */
  devices?: Device | readonly Device[];
  /** Whether the manifest's golden vectors are checked at load. Default true. */
  golden?: boolean;
  /** Further session options of ONNX Runtime, such as `intraOpNumThreads` (1 by default). */
  session?: Readonly<Record<string, unknown>>;
}

/** The names of {@link NetworkOptions}, for kinds of models that add their own. */
export const NETWORK_OPTIONS: readonly string[] = [
  'devices',
  'golden',
  'session',
  'manifest',
  'files',
];

/** A device that was tried and could not load the graph. */
export interface DeviceFailure {
  /** The device. */
  readonly device: Device;
  /** What ONNX Runtime said. */
  readonly reason: string;
}

/**
 * An ONNX graph loaded on a device, its inputs checked before every run.
 *
 * Runs of one network are serialised, and on the web those of all networks of one ONNX Runtime module.
 * In Node a run blocks the event loop.
 */
export class Network implements AsyncDisposable {
  /** The device the graph runs on. */
  readonly device: Device;
  /** Devices preferred to it that failed, with the reasons. */
  readonly failures: readonly DeviceFailure[];
  /** What must be fed. */
  readonly inputs: readonly InputInfo[];
  /** What a run gives. */
  readonly outputs: readonly TensorInfo[];
  readonly #outputNames: readonly string[];
  readonly #ort: Ort;
  readonly #session: OrtSession;
  readonly #queue: SerialQueue;
  #disposal: Promise<void> | undefined;

  private constructor(ort: Ort, loaded: LoadedSession, model: OnnxModel, queue: SerialQueue) {
    this.device = loaded.device;
    this.failures = loaded.failures;
    this.inputs = model.graph.inputs as readonly InputInfo[];
    this.outputs = model.graph.outputs;
    this.#outputNames = this.outputs.map(({ name }) => name);
    this.#ort = ort;
    this.#session = loaded.session;
    this.#queue = queue;
  }

  /**
   * Loads a graph, with its external data, on the first device that takes it.
   *
   * @param ort - the ONNX Runtime module, `import * as ort from 'onnxruntime-node'` or `-web`
   * @param source - path, URL, bytes, or `{ manifest, files }`
   * @throws {@link ModelLoadError} when a file is missing or damaged, or no device takes the graph
   * @throws {@link ModelContractError} when the manifest is invalid, the golden vectors do not come
   *   out, or the graph draws random numbers or has inputs of unknown rank
   */
  static async load(ort: Ort, source: ModelSource, options: NetworkOptions = {}): Promise<Network> {
    expectOptions('Network.load', options, NETWORK_OPTIONS);
    const folder = await openFolder(source, options);
    if (folder.manifest === undefined) {
      return Network.loadFile(ort, folder, fileOf(folder), undefined, options);
    }
    const { file, golden } = parseManifest(folder.manifest);
    if (Array.isArray(file) || Array.isArray(golden)) {
      throw new ModelContractError(
        `load: ${folder.where} must have one ONNX file to be one network, got ${file}; ` +
          'load an ensemble with EnsembleDynamics.load',
      );
    }
    return Network.loadFile(ort, folder, folder.file ?? file, golden, options);
  }

  /**
   * Loads one file of an opened folder; for kinds of models made of several graphs.
   *
   * @internal
   */
  static async loadFile(
    ort: Ort,
    folder: ModelFolder,
    file: string,
    golden: Golden | undefined,
    options: NetworkOptions = {},
  ): Promise<Network> {
    expectOrt(ort);
    const where = `${file} of ${folder.where}`;
    const bytes = await folder.read(file);
    const model = readGraph(bytes, where);
    const externalData = await readExternalData(model, folder, file);
    const queue = queueFor(ort);
    const loaded = await createSession(ort, bytes, externalData, where, options, queue);
    const network = new Network(ort, loaded, model, queue);
    if (golden !== undefined && options.golden !== false) {
      try {
        const outputs = await network.run(goldenFeeds(golden, network.inputs));
        checkGolden(golden, outputs, network.outputs, where);
      } catch (error) {
        await network.dispose();
        if (error instanceof ModelContractError) throw error;
        throw new ModelContractError(
          `load: ${where} cannot run its golden inputs: ${reasonOf(error)}`,
        );
      }
    }
    return network;
  }

  /**
   * Runs the graph.
   *
   * @param feeds - one array for each input, by name; not to be written to before the result is there
   * @param outputs - names of the outputs to read, each of which costs a copy; default all
   * @returns one view for each output, by name, over memory of its own; float16 comes as float32
   * @throws TypeError or {@link ShapeError} when a feed does not fit its input, or an output is unknown
   * @throws {@link DisposedError} after `dispose()`
   */
  async run(
    feeds: Readonly<Record<string, Feed>>,
    outputs: readonly string[] = this.#outputNames,
  ): Promise<Record<string, NdView<TypedArray>>> {
    if (this.#disposal !== undefined) {
      throw new DisposedError('run: the network must be alive, got a disposed one; load it again');
    }
    const tensors = toTensors(this.#ort, this.inputs, feeds);
    const stranger = outputs.find((name) => !this.#outputNames.includes(name));
    if (stranger !== undefined) {
      throw new TypeError(
        `run: outputs must be among ${this.#outputNames.join(', ')}, got '${stranger}'`,
      );
    }
    return this.#queue.add(async () => {
      const results = await this.#session.run(tensors as Record<string, never>, outputs);
      const views: Record<string, NdView<TypedArray>> = {};
      for (const name of Object.keys(results)) views[name] = toView(results[name] as OrtTensor);
      return views;
    });
  }

  /**
   * Runs the graph on tensors as they are, wherever they lie; the caller vouches for them.
   *
   * @returns the outputs, where the session's `preferredOutputLocation` says
   * @internal
   */
  async runTensors(feeds: Readonly<Record<string, OrtTensor>>): Promise<Record<string, OrtTensor>> {
    if (this.#disposal !== undefined) {
      throw new DisposedError('run: the network must be alive, got a disposed one; load it again');
    }
    return this.#queue.add(async () => {
      const results = await this.#session.run(feeds as Record<string, never>, this.#outputNames);
      return results as Record<string, OrtTensor>;
    });
  }

  /** Frees the session, after the runs asked for so far; a second call does nothing more. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#queue.add(() => this.#session.release());
    return this.#disposal;
  }

  /** `dispose()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** Adds what helps to what ONNX Runtime says, where that is known. */
function withRemedy(reason: string): string {
  if (!reason.includes('Dynamic require of "node:os"')) return reason;
  return `${reason}; in Node set ort.env.wasm.numThreads = 1 before the first load, in a new process`;
}

interface LoadedSession {
  session: OrtSession;
  device: Device;
  failures: readonly DeviceFailure[];
}

function fileOf(folder: ModelFolder): string {
  if (folder.file !== undefined) return folder.file;
  throw new ModelContractError(
    `load: ${folder.where} must have a manifest that names its ONNX file, got none`,
  );
}

async function readExternalData(
  model: OnnxModel,
  folder: ModelFolder,
  file: string,
): Promise<{ path: string; data: Uint8Array }[]> {
  const prefix = file.slice(0, file.lastIndexOf('/') + 1);
  const read = new Map<string, Uint8Array>();
  for (const { location, offset = 0, length, tensor } of model.externalData) {
    let data = read.get(location);
    if (data === undefined) {
      data = await folder.read(prefix + location);
      read.set(location, data);
    }
    const end = offset + (length ?? 0);
    if (end > data.byteLength) {
      throw new ModelLoadError(
        `load: '${location}' of ${folder.where} must hold ${end} bytes for tensor '${tensor}', ` +
          `got ${data.byteLength}; copy or export the model again`,
      );
    }
  }
  return [...read].map(([path, data]) => ({ path, data }));
}

/** Tries the devices one by one: given a list, ONNX Runtime would throw at the first that is missing. */
async function createSession(
  ort: Ort,
  bytes: Uint8Array,
  externalData: { path: string; data: Uint8Array }[],
  where: string,
  { devices: wanted = 'cpu', session: sessionOptions }: NetworkOptions,
  queue: SerialQueue,
): Promise<LoadedSession> {
  const devices = typeof wanted === 'string' ? [wanted] : wanted;
  if (devices.length === 0)
    throw new RangeError("load: devices must name at least one, such as 'cpu'");
  const failures: DeviceFailure[] = [];
  for (const device of devices) {
    const provider = device === 'cpu' && ort.env.versions.node === undefined ? 'wasm' : device;
    const options = {
      intraOpNumThreads: 1,
      ...sessionOptions,
      executionProviders: [provider],
      ...(externalData.length > 0 && { externalData }),
    };
    try {
      const session = await queue.add(() => ort.InferenceSession.create(bytes, options));
      return { session, device, failures };
    } catch (error) {
      failures.push({ device, reason: withRemedy(reasonOf(error)) });
    }
  }
  const reasons = failures.map(({ device, reason }) => `${device}: ${reason}`).join('; ');
  const remedy = devices.some((device) => device === 'cpu' || device === 'wasm')
    ? ''
    : "; add 'cpu' to devices";
  throw new ModelLoadError(`load: no device could load ${where} (${reasons})${remedy}`);
}
