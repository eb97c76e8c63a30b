import { nd } from '../nd.js';
import type { LayerState, Mixer, Tile } from './kernel-form.js';
import type { KernelMemory } from './kernel-memory.js';
import type { Mamba2Weights } from './mamba2-weights.js';
import { Scratch, Transposed } from './operands.js';

/** A layer's constants in kernel memory. */
interface LayerConstants {
  readonly taps: number;
  readonly convBias: number;
  readonly dtBias: number;
  readonly A: number;
  readonly D: number;
}

/** Mamba-2 between its projections: the convolution of x, B and C, and the state-space dual. */
export class Mamba2Mixer implements Mixer {
  readonly #projectedWidth: number;
  readonly #memory: KernelMemory;
  readonly #weights: Mamba2Weights;
  readonly #layers: readonly LayerConstants[];
  /** Addresses of `[tile, projectedWidth]`, `[tile, D + 2GN]` and `[tile, D]`. */
  readonly #projected: number;
  readonly #convolved: number;
  readonly #scanned: number;
  readonly #scratch: number;

  constructor(memory: KernelMemory, weights: Mamba2Weights, tile: number) {
    const { dInner: D, dState: N, dConv: K, nHeads: H, nGroups: G } = weights.sizes;
    const channels = D + 2 * G * N;
    this.#projectedWidth = D + channels + H;
    this.#memory = memory;
    this.#weights = weights;
    const kept = new Scratch(memory);
    this.#layers = weights.layers.map((layer) => ({
      taps: new Transposed(kept, nd(layer.convWeight, [1, channels, K]), [channels, K]).load(0),
      convBias: kept.hold(layer.convBias),
      dtBias: kept.hold(layer.dtBias),
      A: kept.hold(layer.A),
      D: kept.hold(layer.D),
    }));
    this.#projected = kept.take(4 * tile * this.#projectedWidth);
    this.#convolved = kept.take(4 * tile * channels);
    this.#scanned = kept.take(4 * tile * D);
    const paddedHeads = (H + 3) & ~3;
    this.#scratch = kept.take(8 * tile * paddedHeads + 64 * (N + 1) + 4 * ((K + 3) & ~3) + 64);
  }

  async mix(
    layer: number,
    projected: Float32Array,
    tile: Tile,
    { conv, ssm }: LayerState,
  ): Promise<Record<string, Float32Array>> {
    const { sizes, dtLimit, normBeforeGate } = this.#weights;
    const { dInner: D, dState: N, dConv: K, nHeads: H, headDim: P, nGroups: G } = sizes;
    const { buffer, f32, kernels } = this.#memory;
    const { taps, convBias, dtBias, A, D: skip } = this.#layers[layer];
    const channels = D + 2 * G * N;
    const width = this.#projectedWidth;
    const { rows, steps, firstRow, reset } = tile;
    f32.set(projected.subarray(0, rows * steps * width), this.#projected >> 2);
    for (let row = 0; row < rows; row++) {
      const token = row * steps;
      const z = this.#projected + 4 * token * width;
      const convolved = this.#convolved + 4 * token * channels;
      const flags = reset === 0 ? 0 : reset + token;
      kernels.conv(
        steps,
        channels,
        K,
        z + 4 * D,
        4 * width,
        taps,
        convBias,
        1,
        flags,
        conv.before.load(firstRow + row),
        conv.after.place(firstRow + row),
        convolved,
        4 * channels,
        this.#scratch,
      );
      conv.after.store(firstRow + row);
      kernels.ssd(
        steps,
        H,
        P,
        N,
        H / G,
        convolved,
        4 * channels,
        z + 4 * (D + channels),
        4 * width,
        A,
        convolved + 4 * D,
        4 * channels,
        convolved + 4 * (D + G * N),
        4 * channels,
        skip,
        normBeforeGate ? 0 : z,
        4 * width,
        dtBias,
        1,
        dtLimit[0],
        dtLimit[1],
        flags,
        ssm.before.load(firstRow + row),
        ssm.after.place(firstRow + row),
        this.#scanned + 4 * token * D,
        4 * D,
        this.#scratch,
      );
      ssm.after.store(firstRow + row);
    }
    const scanned = new Float32Array(buffer, this.#scanned, tile.paddedTokens * D);
    if (!normBeforeGate) return { scanned };
    const z = new Float32Array(tile.paddedTokens * D);
    for (let token = 0; token < rows * steps; token++) {
      z.set(projected.subarray(token * width, token * width + D), token * D);
    }
    return { scanned, z };
  }
}
