import type { Seed } from './key.js';

/** The rows a sampler draws from; a {@link ReplayBuffer} is one. */
export interface ReplayRows {
  /** Number of slots of the ring. */
  readonly capacity: number;
  /** Number of slots that hold a row: `min(added, capacity)`. */
  readonly size: number;
  /** Number of rows ever added; row `r` lies in slot `r % capacity`. */
  readonly added: number;
}

/** Rows that know their episodes; a {@link ReplayBuffer} is one. */
export interface EpisodeRows extends ReplayRows {
  /** First slot and number of stored rows of each episode, oldest first. */
  episodes(): EpisodeSpans;
}

/** How far a slot's episode reaches. */
export interface EpisodePlace {
  /** Stored rows of the episode before the slot. */
  before: number;
  /** Stored rows of the episode from the slot on, itself included. */
  from: number;
}

/** Where the stored episodes lie, oldest first; `K` of them. */
export interface EpisodeSpans {
  /** Slot of the first stored row, `[K]`. */
  start: Int32Array;
  /** Number of stored rows, `[K]`; they follow the start, around the ring's end where need be. */
  length: Int32Array;
}

/** Which batch to draw. */
export interface SampleOptions {
  /** Number of the batch, uint32, 0 by default: one seed gives a fresh batch for each step. */
  step?: number;
}

/** What was drawn. */
export interface Sample {
  /** Slots, `[n]`. */
  index: Int32Array;
  /** Importance weights, `[n]`; absent where all rows count alike. */
  weight?: Float32Array;
  /**
   * Rows ever added when this was drawn. Hand it to `update` with the rest, and rows that were
   * overwritten since are left out.
   */
  added?: number;
}

/**
 * The one shape of all samplers.
 *
 * A sample is a function of the rows, the sampler and (seed, step): `sample` changes nothing, and
 * whatever a sampler learns it learns in `update`.
 */
export interface Sampler<
  Drawn extends Sample = Sample,
  Options extends SampleOptions = SampleOptions,
  Feedback = never,
> {
  /** Number of candidates to draw from now. */
  readonly size: number;
  /**
   * Draws a batch.
   *
   * @param n - how many
   * @param seed - the seed or key
   */
  sample(n: number, seed: Seed, options?: Options): Drawn;
  /** Takes note of rows that were added and of what was learned about a batch. */
  update(feedback?: Feedback): void;
}

/** There are fewer rows to draw from than the batch needs: add more, or draw fewer. */
export class NotEnoughRowsError extends RangeError {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'NotEnoughRowsError';
  /** Rows the batch needs. */
  readonly needed: number;
  /** Rows there are. */
  readonly available: number;

  /**
   * @param message - what must hold, what came and the remedy
   * @param needed - rows the batch needs
   * @param available - rows there are
   */
  constructor(message: string, needed: number, available: number) {
    super(message);
    this.needed = needed;
    this.available = available;
  }
}

/**
 * Checks the size of a batch and that there is anything to draw.
 *
 * @throws RangeError when `n` is no count
 * @throws {@link NotEnoughRowsError} when `n` is positive and there are no candidates
 */
export function expectBatch(what: string, n: number, candidates: number): void {
  if (!Number.isInteger(n) || n < 0 || n > 2 ** 31 - 1) {
    throw new RangeError(`${what}: n must be an integer in 0..2^31-1, got ${n}`);
  }
  if (n > 0 && candidates === 0) {
    throw new NotEnoughRowsError(
      `${what}: there must be at least 1 candidate, got 0; add rows first`,
      1,
      0,
    );
  }
}

/**
 * Checks that a batch without replacement fits its candidates.
 *
 * @throws {@link NotEnoughRowsError} when it does not
 */
export function expectDistinct(what: string, n: number, candidates: number): void {
  if (n > candidates) {
    throw new NotEnoughRowsError(
      `${what}: a batch without replacement must have at most as many rows as there are candidates, ` +
        `got ${n} of ${candidates}; draw fewer or add rows`,
      n,
      candidates,
    );
  }
}

/**
 * Checks slots that come back to a sampler.
 *
 * @throws TypeError when they are no Int32Array
 * @throws RangeError when one holds no row
 */
export function expectSlots(what: string, index: unknown, size: number): Int32Array {
  if (!(index instanceof Int32Array)) {
    throw new TypeError(`${what}: index must be an Int32Array, got ${typeName(index)}`);
  }
  for (let i = 0; i < index.length; i++) {
    if (index[i] < 0 || index[i] >= size) {
      throw new RangeError(
        `${what}: index must lie in the ${size} slots that hold rows, got ${index[i]} at ${i}`,
      );
    }
  }
  return index;
}

/**
 * The oldest row a piece of feedback may still speak of: rows of this number and above came after it.
 *
 * @throws RangeError when `added` is not a count of rows there have been
 */
export function expectStamp(what: string, stamp: number | undefined, added: number): number {
  if (stamp === undefined) return added;
  if (!Number.isInteger(stamp) || stamp < 0 || stamp > added) {
    throw new RangeError(`${what}: added must be an integer in 0..${added}, got ${stamp}`);
  }
  return stamp;
}

/** Number of the row that lies in a slot; the slot must hold one. */
export function rowInSlot({ capacity, added }: ReplayRows, slot: number): number {
  const newest = (added - 1) % capacity;
  return added - 1 - (newest - slot + (slot > newest ? capacity : 0));
}

/** Slot of the oldest row. */
export function oldestSlot({ capacity, size, added }: ReplayRows): number {
  return (added - size) % capacity;
}

function typeName(value: unknown): string {
  return typeof value === 'object' && value !== null ? value.constructor.name : typeof value;
}
