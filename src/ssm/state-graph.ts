import { type NdView, nd } from '../nd.js';
import type { Network } from '../runtime/network.js';
import { makeTensor, type Ort, type OrtTensor } from '../runtime/ort.js';
import { isHost, type StateArray } from './state.js';
import { nextName, type StatePart } from './state-layout.js';

/** How a graph calls its inputs and outputs. */
export interface StateGraphNames {
  readonly x: string;
  readonly y: string;
  /** Of the state's arrays, in their order. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** The names of the graphs this library writes. */
export function ownNames(parts: readonly StatePart[]): StateGraphNames {
  const before = parts.map(({ name }) => name);
  return { x: 'x', y: 'y', before, after: before.map(nextName) };
}

/** Whether states on a device stay there; elsewhere they come back as arrays in memory. */
export function staysOn(device: string): boolean {
  return device === 'webgpu';
}

/** The session option that keeps outputs on the device. */
export function keptOutputs(
  device: string,
  outputs: readonly string[],
  returned: readonly string[] = [],
): Readonly<Record<string, unknown>> {
  if (!staysOn(device)) return {};
  const kept = outputs.map((name) => [name, 'gpu-buffer']);
  const read = returned.map((name) => [name, 'cpu']);
  return { preferredOutputLocation: Object.fromEntries([...kept, ...read]) };
}

/** A graph that takes x and a state and gives y and the next state. */
export class StateGraph {
  readonly network: Network;
  readonly #ort: Ort;
  readonly #names: StateGraphNames;
  readonly #parts: readonly StatePart[];

  constructor(
    ort: Ort,
    network: Network,
    parts: readonly StatePart[],
    names: StateGraphNames = ownNames(parts),
  ) {
    this.#ort = ort;
    this.network = network;
    this.#parts = parts;
    this.#names = names;
  }

  /**
   * Runs the graph once.
   *
   * @param x - in the shape the graph takes
   * @param arrays - the state's, `[batch, ...]`
   * @param reset - `[batch, T]` float32, for graphs that take it
   */
  async run(
    x: NdView,
    batch: number,
    arrays: readonly StateArray[],
    reset?: NdView,
  ): Promise<{ y: Float32Array; arrays: StateArray[] }> {
    const { x: xName, y: yName, before, after } = this.#names;
    const inputs = { [xName]: x, ...(reset === undefined ? {} : { reset }) };
    if (!staysOn(this.network.device)) {
      const views = before.map((name, p): [string, NdView] => {
        const data = arrays[p] as Float32Array;
        return [name, nd(data, [batch, ...this.#parts[p].dims])];
      });
      const feeds = { ...inputs, ...Object.fromEntries(views) };
      const out = await this.network.run(feeds, [yName, ...after]);
      return {
        y: out[yName].data as Float32Array,
        arrays: after.map((name) => out[name].data as Float32Array),
      };
    }
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, view]) => [name, this.#tensor(view)]),
    );
    before.forEach((name, p) => {
      feeds[name] = tensorOf(this.#ort, this.#parts[p], arrays[p], batch);
    });
    const out = await this.network.runTensors(feeds);
    return {
      y: out[yName].data as Float32Array,
      arrays: after.map((name) => arrayOf(out[name])),
    };
  }

  #tensor(view: NdView): OrtTensor {
    return makeTensor(this.#ort, 'float32', view.data, view.shape);
  }
}

/** A state's array as the runtime takes it. */
export function tensorOf(ort: Ort, part: StatePart, array: StateArray, batch: number): OrtTensor {
  return isHost(array) ? makeTensor(ort, 'float32', array, [batch, ...part.dims]) : array;
}

/** A tensor as a state keeps it: in memory, its elements. */
export function arrayOf(tensor: OrtTensor): StateArray {
  return tensor.location === 'cpu' ? (tensor.data as Float32Array) : tensor;
}
