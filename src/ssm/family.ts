import { Network } from '../runtime/network.js';
import type { Ort } from '../runtime/ort.js';
import type { Projections } from './graph-parts.js';
import type { Mixer } from './kernel-form.js';
import type { KernelMemory } from './kernel-memory.js';
import {
  mambaProjections,
  mambaSelections,
  mambaSequenceGraph,
  mambaStepGraph,
} from './mamba-graphs.js';
import { MambaMixer } from './mamba-mixer.js';
import type { MambaWeights } from './mamba-weights.js';
import { mamba2Projections, mamba2SequenceGraph } from './mamba2-graphs.js';
import { Mamba2Mixer } from './mamba2-mixer.js';
import type { Mamba2Weights } from './mamba2-weights.js';
import { partNames, type StatePart, straightPart, transposedPart } from './state-layout.js';

/** A stack's weights, and what the two families make of them differently. */
export interface Family {
  readonly dModel: number;
  readonly dState: number;
  readonly nLayers: number;
  /** How the state lies on a CPU: as the kernels have it, which the CPU's graph takes too. */
  readonly parts: readonly StatePart[];
  /** How the state lies on other devices. */
  readonly deviceParts: readonly StatePart[];
  /** The one-graph form for a CPU. */
  readonly graph: () => Uint8Array;
  /** Whether that graph takes sequences, or one step only. */
  readonly graphTakesSequences: boolean;
  /** The one-graph form for other devices, any number of steps. */
  readonly deviceGraph: (withReset: boolean) => Uint8Array;
  /** The graphs into each layer and out of the last, `kernel-form.ts`. */
  readonly projections: () => Projections;
  /** What lies between them. `networks` is given what must be disposed of. */
  readonly mixer: (context: MixerContext) => Promise<Mixer>;
}

/** What a mixer is made with. */
export interface MixerContext {
  readonly ort: Ort;
  readonly device: string;
  readonly session: Readonly<Record<string, unknown>> | undefined;
  readonly memory: KernelMemory;
  readonly tile: number;
  readonly networks: Network[];
}

export function mambaFamily(weights: MambaWeights): Family {
  const { dModel, dInner: D, dState: N, dConv: K, nLayers } = weights.sizes;
  const parts = partsOf(nLayers, [D, K - 1], (ssm) => transposedPart(ssm, [D, N]));
  return {
    dModel,
    dState: N,
    nLayers,
    parts,
    deviceParts: partsOf(nLayers, [D, K - 1], (ssm) => straightPart(ssm, [D, N], [D, N, 1])),
    graph: () => mambaStepGraph(weights),
    graphTakesSequences: false,
    deviceGraph: (withReset) => mambaSequenceGraph(weights, withReset),
    projections: () => mambaProjections(weights),
    mixer: async ({ ort, device, session, memory, tile, networks }) => {
      const select: Network[] = [];
      for (const bytes of mambaSelections(weights)) {
        const network = await Network.load(ort, bytes, { devices: device, session });
        select.push(network);
        networks.push(network);
      }
      return new MambaMixer(memory, weights, select, tile);
    },
  };
}

export function mamba2Family(weights: Mamba2Weights): Family {
  const {
    dModel,
    dInner,
    dState: N,
    dConv,
    nHeads: H,
    headDim: P,
    nGroups: G,
    nLayers,
  } = weights.sizes;
  const window = [dInner + 2 * G * N, dConv - 1];
  const parts = partsOf(nLayers, window, (ssm) => transposedPart(ssm, [H, P, N]));
  return {
    dModel,
    dState: N,
    nLayers,
    parts,
    deviceParts: parts,
    graph: () => mamba2SequenceGraph(weights, false),
    graphTakesSequences: true,
    deviceGraph: (withReset) => mamba2SequenceGraph(weights, withReset),
    projections: () => mamba2Projections(weights),
    mixer: async ({ memory, tile }) => new Mamba2Mixer(memory, weights, tile),
  };
}

function partsOf(
  nLayers: number,
  window: readonly number[],
  ssmPart: (name: string) => StatePart,
): StatePart[] {
  return Array.from({ length: nLayers }, (_, i) => {
    const [conv, ssm] = partNames(i);
    return [transposedPart(conv, window), ssmPart(ssm)];
  }).flat();
}
