import { type NdView, nd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { foldIn, type Seed } from './key.js';
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

/** How each member's rows are drawn. */
export interface BootstrapOptions {
  /**
   * True, the default: with replacement, so that a member sees about 63 % of the rows, some of them
   * more than once. False: each member sees all rows, in an order of its own.
   */
  replacement?: boolean;
}

/** A batch for an ensemble. */
export interface BootstrapSample extends Sample {
  /** Slots, `[E * n]`, row-major: those of member `e` are `index.subarray(e * n, (e + 1) * n)`. */
  index: Int32Array;
  /** The same memory as a view `[E, n]`. */
  members: NdView<Int32Array>;
}

/**
 * An index set for each member of an ensemble, drawn on its own: Efron's bootstrap, or one permutation a
 * member.
 *
 * @param seed - the seed or key
 * @param members - number of members, `E`
 * @param rows - number of rows there are
 * @param options - with replacement or permuted, how many to draw a member (`rows` by default) and
 *   which draw
 * @returns row numbers in `0 .. rows - 1`, int32 `[E, N]`
 * @throws RangeError when a count is out of range
 * @throws `NotEnoughRowsError` when there are no rows, or fewer than a permutation must give
 *
 * @example
 * ```ts @import.meta.vitest
 * const { bootstrapIndices } = await import('umwelt/sampling');
 * const sets = bootstrapIndices(7, 5, 1000, { replacement: false });
 * expect(sets.shape).toEqual([5, 1000]);
 * ```
 */
export function bootstrapIndices(
  seed: Seed,
  members: number,
  rows: number,
  options: BootstrapOptions & SampleOptions & { count?: number } = {},
): NdView<Int32Array> {
  return draw('bootstrapIndices', seed, members, rows, options.count ?? rows, options);
}

/**
 * Draws a batch for each member of an ensemble, independently of the other members'.
 *
 * For sets that stay fixed while an ensemble trains, draw them once with {@link bootstrapIndices}.
 */
export class BootstrapSampler implements Sampler<BootstrapSample> {
  readonly #rows: ReplayRows;
  readonly #members: number;
  readonly #options: BootstrapOptions;

  /**
   * @param rows - the buffer
   * @param members - number of members, `E`
   * @param options - with replacement or permuted
   * @throws RangeError when `members` is no positive integer
   */
  constructor(rows: ReplayRows, members: number, options: BootstrapOptions = {}) {
    expectOptions('BootstrapSampler', options, ['replacement']);
    expectMembers('BootstrapSampler', members);
    this.#rows = rows;
    this.#members = members;
    this.#options = { ...options };
  }

  /** Number of stored rows. */
  get size(): number {
    return this.#rows.size;
  }

  /**
   * Draws `n` slots for each member.
   *
   * @param n - how many a member
   * @param seed - the seed or key
   * @param options - which batch
   * @returns slots `[E * n]` and a view of them `[E, n]`, without weights
   * @throws `NotEnoughRowsError` when the buffer is empty, or smaller than a permuted batch
   */
  sample(n: number, seed: Seed, options: SampleOptions = {}): BootstrapSample {
    expectOptions('BootstrapSampler.sample', options, ['step']);
    const { size, added } = this.#rows;
    const members = draw('BootstrapSampler.sample', seed, this.#members, size, n, {
      ...this.#options,
      ...options,
    });
    return { index: members.data, members, added };
  }

  /** Does nothing: there is nothing to learn. */
  update(): void {}
}

function draw(
  what: string,
  seed: Seed,
  members: number,
  rows: number,
  n: number,
  { replacement = true, step }: BootstrapOptions & SampleOptions,
): NdView<Int32Array> {
  expectMembers(what, members);
  expectBatch(what, n, rows);
  if (!replacement) expectDistinct(what, n, rows);
  const index = new Int32Array(members * n);
  for (let member = 0; member < members; member++) {
    const draws = new Draws(what, foldIn(seed, member), Stream.bootstrap, step);
    const set = index.subarray(member * n, (member + 1) * n);
    if (!replacement) set.set(drawPermutation(draws, rows, n));
    else if (n > 0) draws.integers(rows, set);
  }
  return nd(index, [members, n]);
}

function expectMembers(what: string, members: number): void {
  if (!Number.isInteger(members) || members < 1) {
    throw new RangeError(`${what}: members must be a positive integer, got ${members}`);
  }
}
