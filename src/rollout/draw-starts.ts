import { gatherRows, type NdView } from '../nd.js';
import type { Seed } from '../sampling/key.js';
import { expectSlots, type Sample, type SampleOptions } from '../sampling/sampler.js';
import { UniformSampler } from '../sampling/uniform-sampler.js';

/** Draws rows; every sampler of `umwelt/sampling` is one. */
export interface StartSampler {
  /**
   * Draws `n` rows by number.
   *
   * @param n - how many
   * @param seed - the seed or key
   */
  sample(n: number, seed: Seed, options?: SampleOptions): Sample;
}

/** Observations to draw from. */
export interface StartRows {
  /** Float32 `[N, S]`, of which the first `size` rows are drawn from. */
  readonly obs: NdView;
  /** Rows there are. */
  readonly size: number;
  /** Draws them; uniformly with replacement where absent. */
  readonly sampler: StartSampler | undefined;
}

/**
 * Observations to start from, drawn by key: copies, so that whatever happens to the source afterwards
 * changes nothing.
 *
 * @returns float32 `[rows, S]`
 */
export function drawStarts(
  what: string,
  { obs, size, sampler }: StartRows,
  rows: number,
  seed: Seed,
  step: number,
): NdView {
  const draw = sampler ?? new UniformSampler({ capacity: size, size, added: size });
  const { index } = draw.sample(rows, seed, { step });
  expectSlots(`${what}: the sampler's answer`, index, size);
  if (index.length !== rows) {
    throw new RangeError(
      `${what}: the sampler must draw the ${rows} rows it is asked for, got ${index.length}`,
    );
  }
  return gatherRows(obs, index);
}
