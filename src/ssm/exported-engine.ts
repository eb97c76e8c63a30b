import { nd, sizeOf } from '../nd.js';
import { ModelContractError, ModelLoadError } from '../runtime/errors.js';
import { readGraph } from '../runtime/graph.js';
import { type Device, Network } from '../runtime/network.js';
import type { Ort } from '../runtime/ort.js';
import { SerialQueue } from '../runtime/queue.js';
import { openFolder } from '../runtime/source.js';
import { DeviceStates } from './device-arrays.js';
import { type Engine, firstResets, withoutRows } from './engine.js';
import {
  checkExportedOptions,
  type ExportedGraph,
  type ExportedOptions,
  type ExportedSource,
  readExportedGraph,
} from './exported-graph.js';
import { isHost, SsmState, type StateArray, type StateHome } from './state.js';
import { keptOutputs, StateGraph, staysOn } from './state-graph.js';
import { rowSize } from './state-layout.js';

/** A stack in a graph that somebody else exported: one graph, whatever the device. */
export class ExportedEngine implements Engine {
  readonly dModel: number;
  readonly nLayers: number;
  readonly device: string;
  readonly home: StateHome;
  readonly #graph: StateGraph;
  readonly #states: DeviceStates;
  readonly #facts: ExportedGraph;
  readonly #queue = new SerialQueue();

  private constructor(
    ort: Ort,
    network: Network,
    facts: ExportedGraph,
    session: Readonly<Record<string, unknown>> | undefined,
  ) {
    this.device = network.device;
    this.#facts = facts;
    this.dModel = facts.dModel;
    this.nLayers = facts.parts.length / 2;
    this.#states = new DeviceStates(ort, facts.parts, this.device, session, this.#queue);
    this.home = { parts: facts.parts, device: this.#states, held: new Set() };
    this.#graph = new StateGraph(ort, network, facts.parts, facts.names);
  }

  /**
   * @throws ModelLoadError when the file cannot be read or the device does not take it
   * @throws ModelContractError when it is no stack with conv and scan states as inputs and outputs
   * @throws TypeError when names are unknown or of the wrong kind
   * @throws RangeError when `dConv` is no number of taps
   */
  static async load(
    ort: Ort,
    device: Device,
    what: string,
    source: ExportedSource,
    family: 'mamba' | 'mamba2',
    options: ExportedOptions,
  ): Promise<ExportedEngine> {
    checkExportedOptions(what, options);
    const folder = await openFolder(source);
    const file = folder.file ?? '';
    const bytes = await folder.read(file);
    const model = readGraph(bytes, `${file} of ${folder.where}`);
    const facts = readExportedGraph(what, model, family, options);
    if (source instanceof Uint8Array && model.externalData.length > 0) {
      throw new ModelLoadError(
        `the bytes must hold the whole graph, got one with weights in '${model.externalData[0].location}'; ` +
          'load it by its path or URL, or export it without external data',
      );
    }
    // What is read already is not fetched again.
    const read = async (name: string) => (name === file ? bytes : folder.read(name));
    const network = await Network.loadFile(ort, { ...folder, read }, file, undefined, {
      devices: device,
      session: { ...options.session, ...keptOutputs(device, facts.names.after, [facts.names.y]) },
    });
    return new ExportedEngine(ort, network, facts, options.session);
  }

  run(
    x: Float32Array,
    batch: number,
    steps: number,
    state: SsmState,
    reset: Uint8Array | undefined,
  ): Promise<{ y: Float32Array; state: SsmState }> {
    return this.#queue.add(async () => {
      const y = new Float32Array(x.length);
      const width = this.dModel;
      let current = state.share();
      for (let from = 0; from < steps; ) {
        const to = this.#facts.takesSequences ? nextReset(reset, batch, steps, from) : from + 1;
        const count = to - from;
        const flags = reset && firstResets(columnsOf(reset, 1, batch, steps, from, 1), batch, 1);
        const piece = columnsOf(x, width, batch, steps, from, count) as Float32Array;
        try {
          const next = await this.#runPiece(piece, batch, count, current, flags);
          putColumns(next.y, y, width, batch, steps, from, count);
          current.release();
          current = next.state;
        } catch (error) {
          current.release();
          throw error;
        }
        from = to;
      }
      return { y, state: current };
    });
  }

  /** Some steps, all of whose resets are at the first. */
  async #runPiece(
    x: Float32Array,
    batch: number,
    steps: number,
    state: SsmState,
    flags: Uint8Array | undefined,
  ): Promise<{ y: Float32Array; state: SsmState }> {
    const fresh = await this.#fresh(state.arrays, batch, flags);
    try {
      const shape = this.#facts.xShape(batch, steps);
      const out = await this.#graph.run(nd(x, shape), batch, fresh);
      const next = new SsmState(this.home, batch, out.arrays);
      try {
        this.#checkSizes(out, x.length, batch);
      } catch (error) {
        next.release();
        throw error;
      }
      return { y: out.y, state: next };
    } finally {
      // Copies of this piece alone; without resets they are the state's own.
      if (flags !== undefined) for (const array of fresh) if (!isHost(array)) array.dispose();
    }
  }

  dispose(): Promise<void> {
    return this.#queue.add(async () => {
      // Tensors must not outlive their sessions; arrays in memory may.
      if (staysOn(this.device)) for (const shared of this.home.held) shared.free();
      await this.#graph.network.dispose();
      await this.#states.dispose();
    });
  }

  /** What a graph does not say of its outputs' shapes shows when it runs. */
  #checkSizes(out: { y: Float32Array; arrays: StateArray[] }, size: number, batch: number): void {
    const { names, parts } = this.#facts;
    const check = (name: string, got: number, expected: number): void => {
      if (got === expected) return;
      throw new ModelContractError(
        `scan: the graph must give '${name}' ${expected} elements for a batch of ${batch}, got ${got}; ` +
          'y is shaped as x is, and each state afterwards as before; export it so',
      );
    };
    check(names.y, out.y.length, size);
    out.arrays.forEach((array, p) => {
      const got = isHost(array) ? array.length : sizeOf(array.dims);
      check(names.after[p], got, batch * rowSize(parts[p]));
    });
  }

  async #fresh(
    arrays: readonly StateArray[],
    batch: number,
    rows: Uint8Array | undefined,
  ): Promise<readonly StateArray[]> {
    if (rows === undefined) return arrays;
    if (arrays.every(isHost)) return withoutRows(arrays, batch, rows);
    return this.#states.withoutRows(arrays, rows);
  }
}

/** The next step after `from` at which any row is reset. */
function nextReset(
  reset: Uint8Array | undefined,
  batch: number,
  steps: number,
  from: number,
): number {
  if (reset === undefined) return steps;
  for (let t = from + 1; t < steps; t++) {
    for (let row = 0; row < batch; row++) if (reset[row * steps + t] === 1) return t;
  }
  return steps;
}

/** The steps `from .. from + count - 1` of `[batch, steps, width]`. */
function columnsOf<T extends Float32Array | Uint8Array>(
  x: T,
  width: number,
  batch: number,
  steps: number,
  from: number,
  count: number,
): T {
  if (count === steps) return x;
  const out = new (x.constructor as new (length: number) => T)(batch * count * width);
  for (let row = 0; row < batch; row++) {
    const at = (row * steps + from) * width;
    out.set(x.subarray(at, at + count * width), row * count * width);
  }
  return out;
}

function putColumns(
  piece: Float32Array,
  y: Float32Array,
  width: number,
  batch: number,
  steps: number,
  from: number,
  count: number,
): void {
  for (let row = 0; row < batch; row++) {
    const at = row * count * width;
    y.set(piece.subarray(at, at + count * width), (row * steps + from) * width);
  }
}
