import { nd } from '../nd.js';
import { Network } from '../runtime/network.js';
import type { Ort } from '../runtime/ort.js';
import { SerialQueue } from '../runtime/queue.js';
import {
  type Engine,
  firstResets,
  type SsmForm,
  type StackOptions,
  withoutRows,
} from './engine.js';
import type { Family } from './family.js';
import { KernelForm } from './kernel-form.js';
import { KernelMemory, type KernelMemoryOptions } from './kernel-memory.js';
import { newArrays, SsmState, type StateHome } from './state.js';
import { StateGraph } from './state-graph.js';

const MEMORY_BYTES = 512 * 2 ** 20;
const TILE = 256;
/**
 * Up to how many tokens, rows times steps, one graph is the faster form: where the two meet in
 * `npm run bench:ssm -- --width 64` and so on. Below, the kernels' form pays for its further calls and for
 * tiles of at least 16 tokens; the wider the stack, the more a token of those costs.
 */
function graphTokens(dModel: number): number {
  return dModel <= 256 ? 4 : 8;
}

/** A stack on a CPU: one graph where that is faster, else projections around the kernels. */
export class HostEngine implements Engine {
  readonly dModel: number;
  readonly nLayers: number;
  readonly device: string;
  readonly home: StateHome;
  readonly #ort: Ort;
  readonly #family: Family;
  readonly #options: StackOptions;
  /** Made with the kernels: before, states that filled it could keep them out. */
  #memory: KernelMemory | undefined;
  /** The kernels' scratch serves one run at a time. */
  readonly #queue = new SerialQueue();
  readonly #networks: Network[] = [];
  #graph: Promise<StateGraph> | undefined;
  #kernels: Promise<KernelForm> | undefined;

  private constructor(ort: Ort, device: string, family: Family, options: StackOptions) {
    this.#ort = ort;
    this.device = device;
    this.#family = family;
    this.#options = options;
    this.dModel = family.dModel;
    this.nLayers = family.nLayers;
    const memory = (): KernelMemory | undefined => this.#memory;
    this.home = {
      parts: family.parts,
      get memory() {
        return memory();
      },
      held: new Set(),
    };
  }

  /** @throws ModelLoadError when the runtime does not take the stack's graphs */
  static async load(
    ort: Ort,
    device: string,
    family: Family,
    options: StackOptions,
  ): Promise<HostEngine> {
    const engine = new HostEngine(ort, device, family, options);
    // The other form, if any batch needs it, is loaded then.
    if (engine.#form() === 'kernels') await engine.#kernelForm();
    else await engine.#graphForm();
    return engine;
  }

  run(
    x: Float32Array,
    batch: number,
    steps: number,
    state: SsmState,
    reset: Uint8Array | undefined,
  ): Promise<{ y: Float32Array; state: SsmState }> {
    return this.#queue.add(async () => {
      const arrays = state.arrays as readonly Float32Array[];
      const first = firstResets(reset, batch, steps);
      // The graph cannot overwrite a state inside a sequence.
      const inside = reset !== undefined && countOf(reset) > countOf(first);
      const graphFits = !inside && (steps === 1 || this.#family.graphTakesSequences);
      if (graphFits && this.#prefersGraph(batch, steps)) {
        const from = first === undefined ? arrays : withoutRows(arrays, batch, first);
        const graph = await this.#graphForm();
        const out = await graph.run(nd(x, [batch, steps, this.dModel]), batch, from);
        return { y: out.y, state: new SsmState(this.home, batch, out.arrays) };
      }
      const kernels = await this.#kernelForm();
      const after = newArrays(this.home, batch);
      const next = new SsmState(this.home, batch, after);
      try {
        return { y: await kernels.run(x, batch, steps, arrays, after, reset), state: next };
      } catch (error) {
        next.release();
        throw error;
      }
    });
  }

  dispose(): Promise<void> {
    return this.#queue.add(async () => {
      for (const network of this.#networks) await network.dispose();
    });
  }

  #form(): SsmForm {
    return this.#options.form ?? 'auto';
  }

  #prefersGraph(batch: number, steps: number): boolean {
    const form = this.#form();
    return form === 'auto' ? batch * steps <= graphTokens(this.dModel) : form === 'graph';
  }

  #graphForm(): Promise<StateGraph> {
    this.#graph ??= this.#load(this.#family.graph()).then(
      (network) => new StateGraph(this.#ort, network, this.#family.parts),
      (error) => {
        // Not for good: the next batch tries again.
        this.#graph = undefined;
        throw error;
      },
    );
    return this.#graph;
  }

  #kernelForm(): Promise<KernelForm> {
    this.#kernels ??= this.#loadKernels().catch((error) => {
      this.#kernels = undefined;
      throw error;
    });
    return this.#kernels;
  }

  async #loadKernels(): Promise<KernelForm> {
    const { dModel, parts, projections, mixer } = this.#family;
    const { session, tile = TILE } = this.#options;
    const memory = newMemory(this.#options.memory);
    const before = this.#networks.length;
    try {
      const graphs = projections();
      const enter: Network[] = [];
      for (const bytes of graphs.enter) enter.push(await this.#load(bytes));
      const leave = await this.#load(graphs.leave);
      const middle = await mixer({
        ort: this.#ort,
        device: this.device,
        session,
        memory,
        tile,
        networks: this.#networks,
      });
      const form = new KernelForm(memory, enter, leave, middle, dModel, parts, tile);
      this.#memory = memory;
      return form;
    } catch (error) {
      for (const network of this.#networks.splice(before)) await network.dispose();
      if (!(error instanceof RangeError)) throw error;
      throw new RangeError(
        `the kernels must fit in their memory, but ${error.message}; load the stack with ` +
          'memory: { bytes } of more, or a smaller tile',
      );
    }
  }

  async #load(bytes: Uint8Array): Promise<Network> {
    const { session } = this.#options;
    const network = await Network.load(this.#ort, bytes, { devices: this.device, session });
    this.#networks.push(network);
    return network;
  }
}

function countOf(flags: Uint8Array | undefined): number {
  let count = 0;
  if (flags !== undefined) for (const flag of flags) count += flag;
  return count;
}

/** As much memory as was asked for; by default as much as the engine gives. */
function newMemory(options: KernelMemoryOptions | undefined): KernelMemory {
  if (options?.bytes !== undefined) return new KernelMemory(options);
  for (let bytes = MEMORY_BYTES; ; bytes /= 2) {
    try {
      return new KernelMemory({ ...options, bytes });
    } catch (error) {
      if (!(error instanceof RangeError) || bytes <= 2 ** 24) throw error;
    }
  }
}
