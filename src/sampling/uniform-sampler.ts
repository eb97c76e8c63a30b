import { expectOptions } from '../runtime/options.js';
import type { Seed } from './key.js';
import { drawPermutation } from './permutation.js';
import { Draws } from './replay-draws.js';
import {
  expectBatch,
  expectDistinct,
  type ReplayRows,
  type Sample,
  type SampleOptions,
  type Sampler,
} from './sampler.js';
import { Stream } from './stream.js';

/** How a {@link UniformSampler} draws. */
export interface UniformSamplerOptions {
  /** Whether a row may come more than once in a batch; true by default. */
  replacement?: boolean;
}

/**
 * Draws every stored row with the same chance.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { ReplayBuffer, UniformSampler } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({ capacity: 100, schema: { reward: 'float32' } });
 * buffer.addBatch({ reward: Float32Array.of(1, 2, 3) });
 * const sampler = new UniformSampler(buffer);
 * const { index } = sampler.sample(8, 7, { step: 0 });
 * expect(buffer.get(index).reward).toHaveLength(8);
 * ```
 */
export class UniformSampler implements Sampler {
  readonly #rows: ReplayRows;
  readonly #replacement: boolean;

  /**
   * @param rows - the buffer
   * @param options - with or without replacement
   */
  constructor(rows: ReplayRows, options: UniformSamplerOptions = {}) {
    expectOptions('UniformSampler', options, ['replacement']);
    this.#rows = rows;
    this.#replacement = options.replacement ?? true;
  }

  /** Number of stored rows. */
  get size(): number {
    return this.#rows.size;
  }

  /**
   * Draws `n` slots.
   *
   * @param n - how many
   * @param seed - the seed or key
   * @param options - which batch
   * @returns slots `[n]`, without weights
   * @throws {@link NotEnoughRowsError} when the buffer is empty, or smaller than a batch without
   *   replacement
   */
  sample(n: number, seed: Seed, options: SampleOptions = {}): Sample {
    const what = 'UniformSampler.sample';
    expectOptions(what, options, ['step']);
    const { size, added } = this.#rows;
    expectBatch(what, n, size);
    const draws = new Draws(what, seed, Stream.replay, options.step);
    if (!this.#replacement) {
      expectDistinct(what, n, size);
      return { index: drawPermutation(draws, size, n), added };
    }
    const index = new Int32Array(n);
    draws.integers(size, index);
    return { index, added };
  }

  /** Does nothing: uniform sampling has nothing to learn. */
  update(): void {}
}
