/** What is done to states that lie on a device, by small graphs that run there. */

import { GraphBuilder } from '../onnx/graph-builder.js';
import { DisposedError } from '../runtime/errors.js';
import { Network } from '../runtime/network.js';
import { makeTensor, type Ort, type OrtTensor } from '../runtime/ort.js';
import type { SerialQueue } from '../runtime/queue.js';
import type { DeviceArrays, StateArray } from './state.js';
import { keptOutputs, tensorOf } from './state-graph.js';
import { rowSize, type StatePart } from './state-layout.js';

/** Writes what a graph does to each array: from the names of its inputs to the value. */
type PerPart = (g: GraphBuilder, inputs: readonly string[], axes: number) => string;

export class DeviceStates implements DeviceArrays {
  readonly #ort: Ort;
  readonly #parts: readonly StatePart[];
  readonly #device: string;
  readonly #session: Readonly<Record<string, unknown>> | undefined;
  readonly #queue: SerialQueue;
  readonly #networks = new Map<string, Promise<Network>>();
  #isDisposed = false;

  /** @param queue - the engine's, in which a disposal comes after all that was asked for before it */
  constructor(
    ort: Ort,
    parts: readonly StatePart[],
    device: string,
    session: Readonly<Record<string, unknown>> | undefined,
    queue: SerialQueue,
  ) {
    this.#ort = ort;
    this.#parts = parts;
    this.#device = device;
    this.#session = session;
    this.#queue = queue;
  }

  gather(arrays: readonly OrtTensor[], rows: Int32Array): Promise<OrtTensor[]> {
    return this.#queue.add(async () => {
      const network = await this.#network('gather', 1, (g, [x]) => g.op('Gather', [x, 'rows']));
      const indices = makeTensor(this.#ort, 'int32', rows, [rows.length]);
      return this.#run(network, [arrays], { rows: indices });
    });
  }

  concat(first: readonly StateArray[], second: readonly StateArray[]): Promise<OrtTensor[]> {
    return this.#queue.add(async () => {
      const network = await this.#network('concat', 2, (g, [a, b]) =>
        g.op('Concat', [a, b], { axis: { int: 0 } }),
      );
      return this.#run(network, [first, second], {});
    });
  }

  read(arrays: readonly OrtTensor[]): Promise<Float32Array[]> {
    return this.#queue.add(async () => {
      // Asking a tensor itself for its data aborts the process in Node; a graph's CPU outputs do not.
      const network = await this.#network('read', 1, (g, [x]) => g.op('Identity', [x]));
      const out = await this.#run(network, [arrays], {});
      return out.map((tensor) => tensor.data as Float32Array);
    });
  }

  /**
   * Copies in which some rows are zeros: overwritten, whatever they held. Called from within a run, so
   * it does not wait for the queue.
   *
   * @param rows - a byte a row
   */
  async withoutRows(arrays: readonly StateArray[], rows: Uint8Array): Promise<OrtTensor[]> {
    const network = await this.#network('withoutRows', 1, (g, [x], axes) => {
      const ones = new Array<bigint>(axes - 1).fill(1n);
      const shape = g.constant(BigInt64Array.from([-1n, ...ones]), [axes]);
      const flags = g.op('Cast', [g.op('Reshape', ['rows', shape])], { to: { int: 9 } });
      return g.op('Where', [flags, g.constant(Float32Array.of(0), []), x]);
    });
    const flags = makeTensor(this.#ort, 'int32', Int32Array.from(rows), [rows.length]);
    return this.#run(network, [arrays], { rows: flags });
  }

  /** What comes after is refused: a session made then would be nobody's. */
  async dispose(): Promise<void> {
    this.#isDisposed = true;
    for (const network of this.#networks.values()) await (await network).dispose();
  }

  async #run(
    network: Network,
    arrays: readonly (readonly StateArray[])[],
    extra: Readonly<Record<string, OrtTensor>>,
  ): Promise<OrtTensor[]> {
    const feeds: Record<string, OrtTensor> = { ...extra };
    arrays.forEach((list, which) => {
      this.#parts.forEach((part, p) => {
        const array = list[p];
        const batch = array instanceof Float32Array ? array.length / rowSize(part) : array.dims[0];
        feeds[`${part.name}.${which}`] = tensorOf(this.#ort, part, array, batch);
      });
    });
    const out = await network.runTensors(feeds);
    return this.#parts.map(({ name }) => out[name]);
  }

  #network(
    kind: 'gather' | 'concat' | 'withoutRows' | 'read',
    lists: number,
    perPart: PerPart,
  ): Promise<Network> {
    if (this.#isDisposed) {
      throw new DisposedError('SsmState: its stack must be alive, got a disposed one');
    }
    let loaded = this.#networks.get(kind);
    if (loaded === undefined) {
      const g = new GraphBuilder({ name: kind });
      if (kind === 'gather' || kind === 'withoutRows') g.input('rows', ['R'], 'int32');
      for (const { name, dims } of this.#parts) {
        const inputs = Array.from({ length: lists }, (_, which) =>
          g.input(`${name}.${which}`, [`B${which}`, ...dims]),
        );
        g.op('Identity', [perPart(g, inputs, dims.length + 1)], {}, { output: name });
        g.output(name, ['', ...dims]);
      }
      const names = this.#parts.map(({ name }) => name);
      const kept = kind === 'read' ? {} : keptOutputs(this.#device, names);
      loaded = Network.load(this.#ort, g.build(), {
        devices: this.#device,
        session: { ...this.#session, ...kept },
      }).catch((error) => {
        this.#networks.delete(kind);
        throw error;
      });
      this.#networks.set(kind, loaded);
    }
    return loaded;
  }
}
