import { nd } from '../nd.js';
import type { Network } from '../runtime/network.js';
import { feeds, type LayerState, type Mixer, type Tile } from './kernel-form.js';
import type { KernelMemory } from './kernel-memory.js';
import type { MambaWeights } from './mamba-weights.js';
import { Scratch, Transposed } from './operands.js';

/** A layer's constants in kernel memory. */
interface LayerConstants {
  readonly taps: number;
  readonly convBias: number;
  readonly dtBias: number;
  readonly A: number;
  readonly D: number;
}

/**
 * Mamba-1 between its projections: the convolution, the projection to dt, B and C in ONNX Runtime, and
 * the selective scan.
 */
export class MambaMixer implements Mixer {
  readonly #memory: KernelMemory;
  readonly #weights: MambaWeights;
  readonly #select: readonly Network[];
  readonly #layers: readonly LayerConstants[];
  /** Addresses of `[tile, 2D]`, `[tile, D]`, `[tile, D]`, `[tile, 2N]` and `[tile, D]`. */
  readonly #projected: number;
  readonly #convolved: number;
  readonly #dt: number;
  readonly #bc: number;
  readonly #scanned: number;
  readonly #scratch: number;

  /** @param select - each layer's projection to dt, B and C */
  constructor(
    memory: KernelMemory,
    weights: MambaWeights,
    select: readonly Network[],
    tile: number,
  ) {
    const { dInner: D, dState: N, dConv: K } = weights.sizes;
    this.#memory = memory;
    this.#weights = weights;
    this.#select = select;
    const kept = new Scratch(memory);
    this.#layers = weights.layers.map((layer) => ({
      taps: new Transposed(kept, nd(layer.convWeight, [1, D, K]), [D, K]).load(0),
      convBias: kept.hold(layer.convBias),
      dtBias: kept.hold(layer.dtBias),
      A: new Transposed(kept, nd(layer.A, [1, D, N]), [D, N]).load(0),
      D: kept.hold(layer.D),
    }));
    this.#projected = kept.take(4 * tile * 2 * D);
    this.#convolved = kept.take(4 * tile * D);
    this.#dt = kept.take(4 * tile * D);
    this.#bc = kept.take(4 * tile * 2 * N);
    this.#scanned = kept.take(4 * tile * D);
    this.#scratch = kept.take(Math.max(128 * N + 64, 12 * D, 4 * ((K + 3) & ~3) + 64));
  }

  async mix(
    layer: number,
    projected: Float32Array,
    tile: Tile,
    { conv, ssm }: LayerState,
  ): Promise<Record<string, Float32Array>> {
    const { dInner: D, dState: N, dConv: K } = this.#weights.sizes;
    const { buffer, f32, kernels } = this.#memory;
    const { taps, convBias, dtBias, A, D: skip } = this.#layers[layer];
    const { rows, steps, firstRow, paddedTokens, reset } = tile;
    const tokens = rows * steps;
    f32.set(projected.subarray(0, 2 * tokens * D), this.#projected >> 2);
    for (let row = 0; row < rows; row++) {
      const token = row * steps;
      kernels.conv(
        steps,
        D,
        K,
        this.#projected + 8 * token * D,
        8 * D,
        taps,
        convBias,
        1,
        reset === 0 ? 0 : reset + token,
        conv.before.load(firstRow + row),
        conv.after.place(firstRow + row),
        this.#convolved + 4 * token * D,
        4 * D,
        this.#scratch,
      );
      conv.after.store(firstRow + row);
    }
    const x = new Float32Array(buffer, this.#convolved, paddedTokens * D);
    const { dt, BC } = await this.#select[layer].run(feeds({ x }, paddedTokens));
    f32.set((dt.data as Float32Array).subarray(0, tokens * D), this.#dt >> 2);
    f32.set((BC.data as Float32Array).subarray(0, 2 * tokens * N), this.#bc >> 2);
    // One step without a reset streams the state, sixteen channels at a time.
    const streamed = steps === 1 && reset === 0 ? D & ~15 : 0;
    for (let row = 0; row < rows; row++) {
      const token = row * steps;
      const u = this.#convolved + 4 * token * D;
      const delta = this.#dt + 4 * token * D;
      const z = this.#projected + 8 * token * D + 4 * D;
      const B = this.#bc + 8 * token * N;
      const y = this.#scanned + 4 * token * D;
      const from = ssm.before.load(firstRow + row);
      const to = ssm.after.place(firstRow + row);
      if (streamed > 0) {
        kernels.scanStep(
          streamed,
          N,
          u,
          delta,
          A,
          B,
          B + 4 * N,
          skip,
          z,
          dtBias,
          1,
          from,
          to,
          4 * D,
          y,
          this.#scratch,
        );
      }
      if (streamed < D) {
        const rest = 4 * streamed;
        kernels.scan(
          steps,
          D - streamed,
          N,
          u + rest,
          4 * D,
          delta + rest,
          4 * D,
          A + rest,
          B,
          8 * N,
          B + 4 * N,
          8 * N,
          skip + rest,
          z + rest,
          8 * D,
          dtBias + rest,
          1,
          reset === 0 ? 0 : reset + token,
          from + rest,
          to + rest,
          4 * D,
          y + rest,
          4 * D,
          this.#scratch,
        );
      }
      ssm.after.store(firstRow + row);
    }
    return { scanned: new Float32Array(buffer, this.#scanned, paddedTokens * D) };
  }
}
