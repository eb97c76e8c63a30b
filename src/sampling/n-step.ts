import type { NdView, TypedArray } from '../nd.js';
import type { Seed } from './key.js';
import type { EpisodePlace, ReplayRows, Sample, SampleOptions, Sampler } from './sampler.js';

/** Rows with rewards and ends; a `ReplayBuffer` whose schema has the fields is one. */
export interface RewardedRows extends ReplayRows {
  /** The ring's arrays by field, `[capacity]` for one number a row. */
  readonly columns: Readonly<Record<string, TypedArray | NdView<TypedArray>>>;
  /** Stored rows of the same episode before and from a slot on. */
  span(slot: number): EpisodePlace;
}

/** How far targets look ahead. */
export interface NStepOptions {
  /** Most rewards summed, at least 1. */
  n: number;
  /** Discount factor, in [0, 1]. */
  gamma: number;
  /** Field of the reward; `'reward'` by default. */
  reward?: string;
}

/** What an n-step target is made of: `reward + discount * V(nextObs of row last)`. */
export interface NStepTargets {
  /** `sum_{i < m} gamma^i r_i`, float32 `[B]`. */
  reward: Float32Array;
  /** `gamma^m`, or 0 where the last row is terminated: the factor of the bootstrap, float32 `[B]`. */
  discount: Float32Array;
  /** Slot of the last row summed, whose next observation is the state to bootstrap from, `[B]`. */
  last: Int32Array;
  /** Number of rewards summed, `m`, 1 to `n`, `[B]`. */
  length: Int32Array;
}

/**
 * n-step returns of stored rows: `R = sum_{i < m} gamma^i r_i` and the bootstrap's factor `gamma^m`.
 *
 * `m` is `n`, or fewer where the episode ends or the newest row is reached. A terminated last row does
 * not bootstrap; a truncated one, one cut short by `endEpisode` and the newest row of a running episode
 * do. Sums are float64.
 *
 * @param rows - a buffer with a reward field and `terminated`
 * @param index - slots, `[B]`
 * @param options - `n`, `gamma` and the reward's field
 * @throws RangeError when `n` or `gamma` is out of range, or a slot holds no row
 * @throws TypeError when the reward or `terminated` is no field of one number a row
 *
 * @example
 * ```ts @import.meta.vitest
 * const { nStepTargets, ReplayBuffer } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({
 *   capacity: 10,
 *   schema: { reward: 'float32', terminated: 'uint8' },
 * });
 * buffer.addBatch({ reward: Float32Array.of(1, 2, 3), terminated: Uint8Array.of(0, 0, 0) });
 * const { reward, discount } = nStepTargets(buffer, Int32Array.of(0), { n: 3, gamma: 0.5 });
 * expect([reward[0], discount[0]]).toEqual([2.75, 0.125]);
 * ```
 */
export function nStepTargets(
  rows: RewardedRows,
  index: Int32Array,
  options: NStepOptions,
): NStepTargets {
  const { n, gamma, reward: name = 'reward' } = options;
  expectNStep('nStepTargets', rows, options);
  const rewards = numbersOf('nStepTargets', rows, name);
  const terminated = numbersOf('nStepTargets', rows, 'terminated');
  const size = index.length;
  const reward = new Float32Array(size);
  const discount = new Float32Array(size);
  const last = new Int32Array(size);
  const length = new Int32Array(size);
  for (let i = 0; i < size; i++) {
    const m = Math.min(n, rows.span(index[i]).from);
    let slot = index[i];
    let sum = 0;
    let factor = 1;
    for (let t = 0; t < m; t++) {
      slot = (index[i] + t) % rows.capacity;
      sum += factor * rewards[slot];
      factor *= gamma;
    }
    reward[i] = sum;
    discount[i] = terminated[slot] === 0 ? factor : 0;
    last[i] = slot;
    length[i] = m;
  }
  return { reward, discount, last, length };
}

/** A batch with its n-step targets. */
export type NStepSample<Drawn extends Sample> = Drawn & NStepTargets;

/**
 * Another sampler's batch with n-step targets beside it.
 *
 * Which rows come, with which weights, and what `update` learns is the other sampler's matter; the
 * targets are {@link nStepTargets} of its rows.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { NStepSampler, ReplayBuffer, UniformSampler } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({
 *   capacity: 10,
 *   schema: { reward: 'float32', terminated: 'uint8' },
 * });
 * buffer.addBatch({ reward: Float32Array.of(1, 2), terminated: Uint8Array.of(0, 1) });
 * const sampler = new NStepSampler(new UniformSampler(buffer), buffer, { n: 3, gamma: 0.99 });
 * const { index, discount } = sampler.sample(8, 7);
 * expect(discount).toEqual(new Float32Array(8)); // both rows reach the terminal one
 * ```
 */
export class NStepSampler<
  Drawn extends Sample = Sample,
  Options extends SampleOptions = SampleOptions,
  Feedback = never,
> implements Sampler<NStepSample<Drawn>, Options, Feedback>
{
  readonly #sampler: Sampler<Drawn, Options, Feedback>;
  readonly #rows: RewardedRows;
  readonly #options: NStepOptions;

  /**
   * @param sampler - draws the rows
   * @param rows - the buffer it draws from
   * @param options - `n`, `gamma` and the reward's field
   * @throws RangeError when `n` or `gamma` is out of range
   * @throws TypeError when the reward or `terminated` is no field of one number a row
   */
  constructor(
    sampler: Sampler<Drawn, Options, Feedback>,
    rows: RewardedRows,
    options: NStepOptions,
  ) {
    expectNStep('NStepSampler', rows, options);
    this.#sampler = sampler;
    this.#rows = rows;
    this.#options = { ...options };
  }

  /** The other sampler's number of candidates. */
  get size(): number {
    return this.#sampler.size;
  }

  /**
   * Draws a batch with the other sampler and computes its targets.
   *
   * @param n - how many rows
   * @param seed - the seed or key
   * @param options - the other sampler's
   */
  sample(n: number, seed: Seed, options?: Options): NStepSample<Drawn> {
    const drawn = this.#sampler.sample(n, seed, options);
    return { ...drawn, ...nStepTargets(this.#rows, drawn.index, this.#options) };
  }

  /** Hands on what was learned. */
  update(feedback?: Feedback): void {
    this.#sampler.update(feedback);
  }
}

function expectNStep(what: string, rows: RewardedRows, { n, gamma, reward }: NStepOptions): void {
  if (!Number.isInteger(n) || n < 1) {
    throw new RangeError(`${what}: n must be a positive integer, got ${n}`);
  }
  if (!(gamma >= 0 && gamma <= 1)) {
    throw new RangeError(`${what}: gamma must lie in [0, 1], got ${gamma}`);
  }
  numbersOf(what, rows, reward ?? 'reward');
  numbersOf(what, rows, 'terminated');
}

function numbersOf(what: string, rows: RewardedRows, name: string): ArrayLike<number> {
  const column = Object.hasOwn(rows.columns, name) ? rows.columns[name] : undefined;
  if (!ArrayBuffer.isView(column)) {
    throw new TypeError(
      `${what}: the schema must have a field ${name} of one number a row, got ` +
        `${column === undefined ? 'none' : 'another shape'}; add it to the schema`,
    );
  }
  return column as unknown as ArrayLike<number>;
}
