/**
 * A stack as projections in ONNX Runtime around the kernels: what wins from some dozens of rows on, and
 * for whole sequences of Mamba-1. States stay in kernel memory; tokens come in tiles that stay near
 * the cache, so that any batch and length fits.
 */

import { nd } from '../nd.js';
import type { Network } from '../runtime/network.js';
import { paddedRows } from '../runtime/row-chunks.js';
import type { KernelMemory } from './kernel-memory.js';
import { Scratch, Transposed, transposedView } from './operands.js';
import { rowSize, type StatePart } from './state-layout.js';

/** Tokens of a batch that go through the stack together: `steps` steps of each of `rows` rows. */
export interface Tile {
  readonly firstRow: number;
  readonly rows: number;
  readonly steps: number;
  /** Tokens rounded up to a multiple of 16, whose products have the same bits however a batch was split. */
  readonly paddedTokens: number;
  /** Address of a byte a token, or 0 where the tile has no reset. */
  readonly reset: number;
}

/** A layer's state arrays before and after, for the rows of a batch. */
export interface LayerState {
  readonly conv: { readonly before: Transposed; readonly after: Transposed };
  readonly ssm: { readonly before: Transposed; readonly after: Transposed };
}

/** What lies between a layer's projections, the part that differs between the families. */
export interface Mixer {
  /**
   * Convolves and scans a layer's tokens.
   *
   * @param projected - `[paddedTokens, ...]`, what the way in projects the tokens to
   * @returns what the layer's way out is fed, by name, `[paddedTokens, ...]`
   */
  mix(
    layer: number,
    projected: Float32Array,
    tile: Tile,
    state: LayerState,
  ): Promise<Record<string, Float32Array>>;
}

/** Multiple of tokens to which tiles are padded. */
const PAD = 16;

export class KernelForm {
  readonly #memory: KernelMemory;
  readonly #enter: readonly Network[];
  readonly #leave: Network;
  readonly #mixer: Mixer;
  readonly #dModel: number;
  readonly #parts: readonly StatePart[];
  readonly #tile: number;
  readonly #flags: number;
  /** Where a row's conv and ssm arrays go when they lie outside the kernel memory. */
  readonly #pieces: readonly [conv: number, ssm: number];

  /** @param tile - the most tokens at once, a multiple of 16 */
  constructor(
    memory: KernelMemory,
    enter: readonly Network[],
    leave: Network,
    mixer: Mixer,
    dModel: number,
    parts: readonly StatePart[],
    tile: number,
  ) {
    this.#memory = memory;
    this.#enter = enter;
    this.#leave = leave;
    this.#mixer = mixer;
    this.#dModel = dModel;
    this.#tile = tile;
    this.#flags = memory.allocate(tile);
    this.#parts = parts;
    this.#pieces = [memory.allocate(4 * rowSize(parts[0])), memory.allocate(4 * rowSize(parts[1]))];
  }

  /**
   * Runs a batch.
   *
   * @param x - `[batch, steps, M]`, row-major
   * @param before - the state's arrays
   * @param after - arrays for the new state, other than `before`
   * @param reset - a byte a token, or none
   * @returns y `[batch, steps, M]`
   */
  async run(
    x: Float32Array,
    batch: number,
    steps: number,
    before: readonly Float32Array[],
    after: readonly Float32Array[],
    reset: Uint8Array | undefined,
  ): Promise<Float32Array> {
    const y = new Float32Array(batch * steps * this.#dModel);
    // Whole rows at once, or pieces of one: either lies in one stretch of x.
    const rowsAtOnce = Math.max(1, Math.floor(this.#tile / steps));
    const stepsAtOnce = Math.min(steps, this.#tile);
    const scratch = new Scratch(this.#memory);
    const arrays = (data: readonly Float32Array[]): Transposed[] =>
      this.#parts.map((part, p) => {
        const view = transposedView(data[p], [batch, ...part.shape]);
        return new Transposed(scratch, view, part.shape, this.#pieces[p % 2]);
      });
    const first = arrays(before);
    const later = arrays(after);
    for (let row = 0; row < batch; row += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, batch - row);
      for (let t = 0; t < steps; t += stepsAtOnce) {
        const count = Math.min(stepsAtOnce, steps - t);
        const from = row * steps + t;
        const flags = reset?.subarray(from, from + rows * count);
        // A row's later pieces go on from what its first left in the new state.
        const start = t === 0 ? first : later;
        await this.#runTile(x, y, from, row, rows, count, start, later, flags);
      }
    }
    return y;
  }

  async #runTile(
    x: Float32Array,
    y: Float32Array,
    from: number,
    firstRow: number,
    rows: number,
    steps: number,
    before: readonly Transposed[],
    after: readonly Transposed[],
    reset: Uint8Array | undefined,
  ): Promise<void> {
    const tokens = rows * steps;
    const paddedTokens = paddedRows(tokens, PAD);
    const width = this.#dModel;
    const any = reset?.includes(1) === true;
    if (any && reset !== undefined) new Uint8Array(this.#memory.buffer).set(reset, this.#flags);
    const tile: Tile = { firstRow, rows, steps, paddedTokens, reset: any ? this.#flags : 0 };
    let h = x.subarray(from * width, (from + tokens) * width);
    if (paddedTokens > tokens) {
      const padded = new Float32Array(paddedTokens * width);
      padded.set(h);
      h = padded;
    }
    let mixed: Record<string, Float32Array> = {};
    for (let layer = 0; layer < this.#enter.length; layer++) {
      const out = await this.#enter[layer].run(feeds({ h, ...mixed }, paddedTokens));
      if (out.residual !== undefined) h = out.residual.data as Float32Array;
      const state: LayerState = {
        conv: { before: before[2 * layer], after: after[2 * layer] },
        ssm: { before: before[2 * layer + 1], after: after[2 * layer + 1] },
      };
      mixed = await this.#mixer.mix(layer, out.projected.data as Float32Array, tile, state);
    }
    const out = await this.#leave.run(feeds({ h, ...mixed }, paddedTokens));
    const result = out.y.data as Float32Array;
    y.set(result.subarray(0, tokens * width), from * width);
  }
}

/** Arrays `[rows, ...]` as the runtime takes them. */
export function feeds(
  arrays: Readonly<Record<string, Float32Array>>,
  rows: number,
): Record<string, ReturnType<typeof nd>> {
  return Object.fromEntries(
    Object.entries(arrays).map(([name, data]) => [name, nd(data, [rows, data.length / rows])]),
  );
}
