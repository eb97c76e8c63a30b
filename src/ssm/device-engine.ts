import { nd } from '../nd.js';
import { ModelLoadError } from '../runtime/errors.js';
import { Network } from '../runtime/network.js';
import type { Ort } from '../runtime/ort.js';
import { SerialQueue } from '../runtime/queue.js';
import { DeviceStates } from './device-arrays.js';
import type { Engine, StackOptions } from './engine.js';
import type { Family } from './family.js';
import { SsmState, type StateHome } from './state.js';
import { keptOutputs, ownNames, StateGraph, staysOn } from './state-graph.js';

/** A stack on a GPU or another accelerator: one graph, whose state stays on the device. */
export class DeviceEngine implements Engine {
  readonly dModel: number;
  readonly nLayers: number;
  readonly device: string;
  readonly home: StateHome;
  readonly #ort: Ort;
  readonly #family: Family;
  readonly #session: Readonly<Record<string, unknown>> | undefined;
  readonly #states: DeviceStates;
  readonly #queue = new SerialQueue();
  readonly #plain: StateGraph;
  /** The graph that takes resets, loaded when the first comes. */
  #resetting: Promise<StateGraph> | undefined;

  private constructor(
    ort: Ort,
    device: string,
    family: Family,
    { session }: StackOptions,
    plain: StateGraph,
  ) {
    this.#ort = ort;
    this.device = device;
    this.#family = family;
    this.#session = session;
    this.#plain = plain;
    this.dModel = family.dModel;
    this.nLayers = family.nLayers;
    this.#states = new DeviceStates(ort, family.deviceParts, device, session, this.#queue);
    this.home = { parts: family.deviceParts, device: this.#states, held: new Set() };
  }

  /** @throws ModelLoadError when the device does not take the stack's graph */
  static async load(
    ort: Ort,
    device: string,
    family: Family,
    options: StackOptions,
  ): Promise<DeviceEngine> {
    refuse(device, family);
    const plain = await loadGraph(ort, device, family, options.session, false);
    return new DeviceEngine(ort, device, family, options, plain);
  }

  run(
    x: Float32Array,
    batch: number,
    steps: number,
    state: SsmState,
    reset: Uint8Array | undefined,
  ): Promise<{ y: Float32Array; state: SsmState }> {
    return this.#queue.add(async () => {
      const graph = reset === undefined ? this.#plain : await this.#resettingGraph();
      const flags = reset && nd(Float32Array.from(reset), [batch, steps]);
      const input = nd(x, [batch, steps, this.dModel]);
      const { y, arrays } = await graph.run(input, batch, state.arrays, flags);
      return { y, state: new SsmState(this.home, batch, arrays) };
    });
  }

  dispose(): Promise<void> {
    return this.#queue.add(async () => {
      // Tensors must not outlive their sessions; arrays in memory may.
      if (staysOn(this.device)) for (const shared of this.home.held) shared.free();
      await this.#states.dispose();
      if (this.#resetting !== undefined) await (await this.#resetting).network.dispose();
      await this.#plain.network.dispose();
    });
  }

  #resettingGraph(): Promise<StateGraph> {
    this.#resetting ??= loadGraph(this.#ort, this.device, this.#family, this.#session, true).catch(
      (error) => {
        // Not for good: the next reset tries again.
        this.#resetting = undefined;
        throw error;
      },
    );
    return this.#resetting;
  }
}

/** What ONNX Runtime's WebGPU kernels cannot do, and say so only when they run, if at all. */
function refuse(device: string, { deviceParts, dState }: Family): void {
  if (device !== 'webgpu') return;
  if (dState > 256) {
    throw new ModelLoadError(`the state size must be at most 256 on webgpu, got ${dState}`);
  }
  if (deviceParts[0].shape[1] === 0) {
    throw new ModelLoadError('the convolution must have at least 2 taps on webgpu, got 1');
  }
}

async function loadGraph(
  ort: Ort,
  device: string,
  { deviceGraph, deviceParts }: Family,
  session: Readonly<Record<string, unknown>> | undefined,
  withReset: boolean,
): Promise<StateGraph> {
  const { y, after } = ownNames(deviceParts);
  const network = await Network.load(ort, deviceGraph(withReset), {
    devices: device,
    session: { ...session, ...keptOutputs(device, after, [y]) },
  });
  return new StateGraph(ort, network, deviceParts);
}
