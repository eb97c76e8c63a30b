import { expectOptions } from '../runtime/options.js';
import { foldIn, type Seed } from './key.js';
import type { ReplayBuffer } from './replay-buffer.js';
import { Draws } from './replay-draws.js';
import type { ReplayColumns, ReplaySchema } from './replay-schema.js';
import { expectBatch, type Sample, type SampleOptions, type Sampler } from './sampler.js';
import { Stream } from './stream.js';

/** One source of a mixture: real, imagined or demonstrated rows. */
export interface MixtureSource {
  /** Draws this source's rows. */
  sampler: Sampler<Sample, SampleOptions, object>;
  /** Share of the batch, in [0, 1]. The last source has none: it takes the rest. */
  ratio?: number;
  /** Further options of its `sample`, such as the `purpose` of a `FrequencySampler`. */
  options?: Readonly<Record<string, unknown>>;
}

/** How a {@link MixtureSampler} divides batches. */
export interface MixtureSamplerOptions {
  /**
   * `'floor'`, the default: every batch has `floor(n * ratio)` rows of a source and the rest of the
   * last one. `'bernoulli'`: every batch comes from one source, chosen with the ratios as chances.
   */
  rule?: 'floor' | 'bernoulli';
  /**
   * Whether weights undo the mixing: a row then counts as if drawn uniformly from all sources'
   * candidates together. False by default.
   */
  reweigh?: boolean;
}

/** A mixed batch: rows of the first source first. */
export interface MixtureSample extends Sample {
  /** Slots, each within its own source, `[n]`. */
  index: Int32Array;
  /** Which source each row is from, `[n]`. */
  source: Uint8Array;
  /** Number of rows from each source, `[K]`. */
  counts: Int32Array;
  /** What each source's sampler drew, `[K]`; null where it was not asked. */
  parts: (Sample | null)[];
}

/** What was learned about a mixed batch: its `parts` and whatever the samplers take, row by row. */
export interface MixtureFeedback {
  /** The sample's `parts`. */
  parts: readonly (Sample | null)[];
  /** New priorities, `[n]`, for the sources that take them. */
  priority?: Float32Array | Float64Array;
}

/**
 * Mixes real, imagined and demonstrated rows in fixed shares.
 *
 * `floor` is the rule of MBPO and of the offline libraries (a real ratio of 0.05 gives 12 rows of 256),
 * `bernoulli` that of mbrl-lib. A source without candidates gives its share to the first source that has
 * some: as long as nothing is imagined, all rows are real.
 *
 * Weights are the product of a source's own and, with `reweigh`, of
 * `(size_k / sum of sizes) / (share of source k)`, where the share is `count_k / n` or the chance of the
 * batch. A source whose share is 0 cannot be made up for.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { gatherMixture, MixtureSampler, ReplayBuffer, UniformSampler } = await import(
 *   'umwelt/sampling'
 * );
 * const schema = { reward: 'float32' } as const;
 * const real = new ReplayBuffer({ capacity: 100, schema });
 * const model = new ReplayBuffer({ capacity: 100, schema });
 * real.addBatch({ reward: new Float32Array(50) });
 * model.addBatch({ reward: new Float32Array(80).fill(1) });
 * const sampler = new MixtureSampler([
 *   { sampler: new UniformSampler(real), ratio: 0.05 },
 *   { sampler: new UniformSampler(model) },
 * ]);
 * const sample = sampler.sample(256, 7);
 * expect([...sample.counts]).toEqual([12, 244]);
 * const out = { reward: new Float32Array(256) };
 * gatherMixture([real, model], sample, out);
 * expect(out.reward.reduce((sum, x) => sum + x)).toBe(244);
 * ```
 */
export class MixtureSampler implements Sampler<MixtureSample, SampleOptions, MixtureFeedback> {
  readonly #samplers: readonly Sampler<Sample, SampleOptions, object>[];
  readonly #options: readonly (MixtureSource['options'] | undefined)[];
  readonly #ratios: readonly number[];
  readonly #rule: 'floor' | 'bernoulli';
  readonly #reweigh: boolean;

  /**
   * @param sources - 1 to 256 of them, all but the last with a ratio
   * @param options - rule and weights
   * @throws RangeError when there is no source, a ratio is out of range, they add up to more than 1, or
   *   the rule is unknown
   * @throws TypeError when a ratio is missing or the last source has one
   */
  constructor(sources: readonly MixtureSource[], options: MixtureSamplerOptions = {}) {
    expectOptions('MixtureSampler', options, ['rule', 'reweigh']);
    const { rule = 'floor', reweigh = false } = options;
    if (sources.length < 1 || sources.length > 256) {
      throw new RangeError(`MixtureSampler: there must be 1 to 256 sources, got ${sources.length}`);
    }
    if (rule !== 'floor' && rule !== 'bernoulli') {
      throw new RangeError(`MixtureSampler: rule must be 'floor' or 'bernoulli', got ${rule}`);
    }
    const last = sources.length - 1;
    const ratios: number[] = [];
    let sum = 0;
    for (const [k, source] of sources.entries()) {
      expectOptions(`MixtureSampler: source ${k}`, source, ['sampler', 'ratio', 'options']);
      const { ratio } = source;
      if (k === last) {
        if (ratio !== undefined) {
          throw new TypeError(
            `MixtureSampler: the last source takes the rest and must have no ratio, got ${ratio}`,
          );
        }
        break;
      }
      if (typeof ratio !== 'number') {
        throw new TypeError(
          `MixtureSampler: source ${k} must have a ratio, got ${typeof ratio}; only the last has none`,
        );
      }
      if (!(ratio >= 0 && ratio <= 1)) {
        throw new RangeError(`MixtureSampler: a ratio must lie in [0, 1], got ${ratio}`);
      }
      ratios.push(ratio);
      sum += ratio;
    }
    // Shares such as 0.7 + 0.2 + 0.1 may pass 1 by a rounding.
    if (sum > 1 + 1e-12) {
      throw new RangeError(`MixtureSampler: ratios must add up to at most 1, got ${sum}`);
    }
    ratios.push(Math.max(1 - sum, 0));
    this.#samplers = sources.map(({ sampler }) => sampler);
    this.#options = sources.map((source) => source.options);
    this.#ratios = ratios;
    this.#rule = rule;
    this.#reweigh = reweigh;
  }

  /** Number of candidates of all sources together. */
  get size(): number {
    return this.#samplers.reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * Draws a batch.
   *
   * Source `k` draws with `foldIn(seed, k)`: samplers of one kind do not draw alike.
   *
   * @param n - how many rows
   * @param seed - the seed or key
   * @param options - which batch
   * @returns slots by source, with weights where a source gives some or `reweigh` is set
   * @throws `NotEnoughRowsError` when all sources are empty
   */
  sample(n: number, seed: Seed, options: SampleOptions = {}): MixtureSample {
    const what = 'MixtureSampler.sample';
    expectOptions(what, options, ['step']);
    const sizes = this.#samplers.map(({ size }) => size);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    expectBatch(what, n, total);
    const { counts, shares } = this.#divide(what, n, sizes, seed, options.step);
    const parts = this.#samplers.map((sampler, k) =>
      counts[k] === 0
        ? null
        : sampler.sample(counts[k], foldIn(seed, k), { ...options, ...this.#options[k] }),
    );
    const index = new Int32Array(n);
    const source = new Uint8Array(n);
    const weighed = this.#reweigh || parts.some((part) => part?.weight !== undefined);
    const weight = weighed ? new Float32Array(n).fill(1) : undefined;
    for (let k = 0, at = 0; k < parts.length; at += counts[k++]) {
      const part = parts[k];
      if (part === null) continue;
      index.set(part.index, at);
      source.fill(k, at, at + counts[k]);
      if (weight === undefined) continue;
      const correction = this.#reweigh ? sizes[k] / total / shares[k] : 1;
      for (let i = 0; i < counts[k]; i++) weight[at + i] = correction * (part.weight?.[i] ?? 1);
    }
    return { index, ...(weight && { weight }), source, counts, parts };
  }

  /**
   * Updates every source.
   *
   * @param feedback - a batch's parts, and priorities for the sources that take them; by default the
   *   sources only take note of rows that were added
   * @throws RangeError when the priorities are not as many as the rows
   */
  update(feedback?: MixtureFeedback): void {
    if (feedback === undefined) {
      for (const sampler of this.#samplers) sampler.update();
      return;
    }
    const { parts, priority } = feedback;
    const rows = parts.reduce((sum, part) => sum + (part?.index.length ?? 0), 0);
    if (parts.length !== this.#samplers.length || (priority && priority.length !== rows)) {
      throw new RangeError(
        `MixtureSampler.update: feedback must have ${this.#samplers.length} parts and ${rows} ` +
          `priorities, got ${parts.length} and ${priority?.length ?? 'none'}`,
      );
    }
    let at = 0;
    for (const [k, sampler] of this.#samplers.entries()) {
      const part = parts[k];
      if (part === null) {
        sampler.update();
        continue;
      }
      const end = at + part.index.length;
      sampler.update(priority ? { ...part, priority: priority.subarray(at, end) } : undefined);
      at = end;
    }
  }

  /** Number of rows and share of each source, those of empty sources given to the first that has some. */
  #divide(
    what: string,
    n: number,
    sizes: readonly number[],
    seed: Seed,
    step: number | undefined,
  ): { counts: Int32Array; shares: number[] } {
    const { length } = sizes;
    const heir = sizes.findIndex((size) => size > 0);
    const owner = sizes.map((size, k) => (size > 0 || heir < 0 ? k : heir));
    const counts = new Int32Array(length);
    const shares = new Array<number>(length).fill(0);
    if (this.#rule === 'floor') {
      let rest = n;
      for (let k = 0; k < length; k++) {
        const count = k === length - 1 ? rest : Math.floor(n * this.#ratios[k]);
        counts[owner[k]] += count;
        rest -= count;
      }
      for (let k = 0; k < length; k++) shares[k] = counts[k] / n;
      return { counts, shares };
    }
    const u = new Float64Array(1);
    new Draws(what, seed, Stream.mixture, step).uniforms(u);
    let chosen = length - 1;
    let below = 0;
    for (let k = length - 1; k >= 0; k--) shares[owner[k]] += this.#ratios[k];
    for (let k = 0; k < length - 1; k++) {
      below += this.#ratios[k];
      if (u[0] < below) {
        chosen = k;
        break;
      }
    }
    counts[owner[chosen]] = n;
    return { counts, shares };
  }
}

/**
 * The rows of a mixed batch, from buffers with one schema, into one set of arrays.
 *
 * @param buffers - the sources' buffers, in the sampler's order, `[K]`
 * @param sample - from {@link MixtureSampler.sample}
 * @param out - arrays of at least `n` rows, as `ReplayBuffer.get` returns them
 * @returns `out`
 * @throws RangeError when there are not as many buffers as sources, or `out` is too short
 * @throws TypeError when a field of `out` has the wrong type
 */
export function gatherMixture<const S extends ReplaySchema>(
  buffers: readonly ReplayBuffer<S>[],
  { index, counts }: MixtureSample,
  out: ReplayColumns<S>,
): ReplayColumns<S> {
  if (buffers.length !== counts.length) {
    throw new RangeError(
      `gatherMixture: there must be ${counts.length} buffers, one a source, got ${buffers.length}`,
    );
  }
  for (let k = 0, at = 0; k < counts.length; at += counts[k++]) {
    if (counts[k] > 0) buffers[k].get(index.subarray(at, at + counts[k]), { out, at });
  }
  return out;
}
