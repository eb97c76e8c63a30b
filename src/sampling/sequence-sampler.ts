import { expectOptions } from '../runtime/options.js';
import type { Seed } from './key.js';
import { expectCross, type WindowCross } from './replay-buffer.js';
import { Draws } from './replay-draws.js';
import {
  type EpisodeRows,
  type EpisodeSpans,
  expectBatch,
  NotEnoughRowsError,
  oldestSlot,
  type Sample,
  type SampleOptions,
  type Sampler,
} from './sampler.js';
import { Stream } from './stream.js';

/** Which windows a {@link SequenceSampler} draws. */
export interface SequenceSamplerOptions {
  /** Rows a window, `L`. */
  length: number;
  /** What a window may span, as for `ReplayBuffer.windows`; `'none'`, one episode, by default. */
  cross?: WindowCross;
}

/**
 * Draws the first rows of windows, each valid start with the same chance: every row that is followed by
 * `L - 1` rows of the same episode.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { ReplayBuffer, SequenceSampler } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({
 *   capacity: 100,
 *   schema: { reward: 'float32', terminated: 'uint8' },
 * });
 * buffer.addBatch({
 *   reward: Float32Array.of(0, 1, 2, 3, 4),
 *   terminated: Uint8Array.of(0, 0, 1, 0, 0),
 * });
 * const { index } = new SequenceSampler(buffer, { length: 2 }).sample(16, 7);
 * expect(index).not.toContain(2); // the row after it belongs to another episode
 * expect(buffer.windows(index, 2).reward.shape).toEqual([16, 2]);
 * ```
 */
export class SequenceSampler implements Sampler {
  readonly #rows: EpisodeRows;
  readonly #length: number;
  readonly #cross: WindowCross;

  /**
   * @param rows - the buffer
   * @param options - length and reach of the windows
   * @throws RangeError when the length is not within 1 and the buffer's capacity
   */
  constructor(rows: EpisodeRows, options: SequenceSamplerOptions) {
    expectOptions('SequenceSampler', options, ['length', 'cross']);
    const { length, cross = 'none' } = options;
    expectWindow('SequenceSampler', rows, length, cross);
    this.#rows = rows;
    this.#length = length;
    this.#cross = cross;
  }

  /** Number of valid starts, found in O(episodes). */
  get size(): number {
    return new WindowStarts(this.#rows, this.#length, this.#cross).count;
  }

  /**
   * Draws `n` starts with replacement.
   *
   * @param n - how many
   * @param seed - the seed or key
   * @param options - which batch
   * @returns slots of first rows, `[n]`, without weights
   * @throws `NotEnoughRowsError` when no episode is long enough
   */
  sample(n: number, seed: Seed, options: SampleOptions = {}): Sample {
    const what = 'SequenceSampler.sample';
    expectOptions(what, options, ['step']);
    const { added } = this.#rows;
    const starts = new WindowStarts(this.#rows, this.#length, this.#cross);
    starts.expectAny(what, n);
    const draws = new Draws(what, seed, Stream.sequence, options.step);
    const index = new Int32Array(n);
    if (n > 0) draws.integers(starts.count, index);
    for (let i = 0; i < n; i++) index[i] = starts.slot(index[i]);
    return { index, added };
  }

  /** Does nothing: starts follow from the rows. */
  update(): void {}
}

/** The valid starts of windows of one length, numbered from the oldest. */
export class WindowStarts {
  /** How many there are. */
  readonly count: number;
  readonly #spans: EpisodeSpans;
  /** Number of starts in all spans up to and with each, `[K]`. */
  readonly #until: Int32Array;
  readonly #length: number;
  readonly #capacity: number;

  /** Counts the starts, in O(episodes). */
  constructor(rows: EpisodeRows, length: number, cross: WindowCross) {
    const { capacity, size } = rows;
    this.#capacity = capacity;
    this.#length = length;
    if (cross === 'none') {
      this.#spans = rows.episodes();
    } else {
      // Around the head every row of a full ring is a start: as if the oldest rows came once more.
      const more = cross === 'head' && size === capacity ? length - 1 : 0;
      this.#spans = {
        start: Int32Array.of(oldestSlot(rows)),
        length: Int32Array.of(size + more),
      };
    }
    const lengths = this.#spans.length;
    const until = new Int32Array(lengths.length);
    let count = 0;
    for (let k = 0; k < lengths.length; k++) {
      count += Math.max(lengths[k] - length + 1, 0);
      until[k] = count;
    }
    this.#until = until;
    this.count = count;
  }

  /** Slot of a start by its number. */
  slot(number: number): number {
    const until = this.#until;
    let low = 0;
    let high = until.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (until[middle] > number) high = middle;
      else low = middle + 1;
    }
    const within = number - (low === 0 ? 0 : until[low - 1]);
    return (this.#spans.start[low] + within) % this.#capacity;
  }

  /** Slots of all starts, oldest first, `[count]`. */
  slots(): Int32Array {
    const slots = new Int32Array(this.count);
    const until = this.#until;
    for (let k = 0, at = 0; k < until.length; k++) {
      let slot = this.#spans.start[k];
      for (; at < until[k]; at++) {
        slots[at] = slot;
        if (++slot === this.#capacity) slot = 0;
      }
    }
    return slots;
  }

  /**
   * Checks the size of a batch and that there is a start.
   *
   * @throws `NotEnoughRowsError` when there is none
   */
  expectAny(what: string, n: number): void {
    if (n > 0 && this.count === 0) {
      const longest = this.#spans.length.reduce((most, length) => Math.max(most, length), 0);
      throw new NotEnoughRowsError(
        `${what}: a window of ${this.#length} rows must fit, got at most ${longest} consecutive rows; ` +
          'draw shorter windows or add rows',
        this.#length,
        longest,
      );
    }
    expectBatch(what, n, this.count);
  }
}

/**
 * Checks the length and reach of windows.
 *
 * @throws RangeError when the length is not within 1 and the buffer's capacity, or the reach unknown
 */
export function expectWindow(
  what: string,
  rows: EpisodeRows,
  length: number,
  cross: WindowCross,
): void {
  if (!Number.isInteger(length) || length < 1 || length > rows.capacity) {
    throw new RangeError(
      `${what}: length must be an integer in 1..${rows.capacity}, the capacity, got ${length}`,
    );
  }
  expectCross(what, cross);
}
