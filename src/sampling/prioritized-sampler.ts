import { describe, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import type { Seed } from './key.js';
import { Draws } from './replay-draws.js';
import {
  expectBatch,
  expectSlots,
  expectStamp,
  type ReplayRows,
  rowInSlot,
  type Sample,
  type SampleOptions,
  type Sampler,
} from './sampler.js';
import { expectArray, type SnapshotArrays } from './snapshot.js';
import { Stream } from './stream.js';
import { SumTree } from './sum-tree.js';

/** How a {@link PrioritizedSampler} weighs rows. */
export interface PrioritizedSamplerOptions {
  /** How much priorities count: 0 is uniform, 1 proportional; 0.6 by default. */
  alpha?: number;
  /** How much the importance weights correct: 0 not at all, 1 in full; 0.4 by default. */
  beta?: number;
  /** Added to each priority, so that no row is lost for good; 1e-6 by default. */
  epsilon?: number;
}

/** Which batch, and how much its weights correct. */
export interface PrioritizedSampleOptions extends SampleOptions {
  /** In place of the sampler's own `beta`, which usually rises to 1 in the course of training. */
  beta?: number;
}

/** A prioritized batch. */
export interface PrioritizedSample extends Sample {
  /** `(p_i / min p)^-beta`, in `(0, 1]`, `[n]`. */
  weight: Float32Array;
  /** Rows ever added when this was drawn. */
  added: number;
}

/** What was learned about a batch. */
export interface PriorityFeedback {
  /** Slots, `[n]`; of a slot that comes more than once, the last priority holds. */
  index: Int32Array;
  /** New priorities, usually absolute temporal-difference errors, finite and non-negative, `[n]`. */
  priority: Float32Array | Float64Array | readonly number[];
  /** The sample's `added`: rows overwritten since are left out. By default none were. */
  added?: number;
}

/** A {@link PrioritizedSampler}'s whole state, for a file or a worker. */
export type PrioritizedSnapshot = {
  /** Version, alpha, beta, epsilon, largest priority seen, rows taken note of. */
  prioritizedState: Float64Array;
  /** `(priority + epsilon)^alpha` of each slot, `[size]`. */
  prioritizedWeight: Float64Array;
};

const SNAPSHOT_VERSION = 1;

/**
 * Prioritized experience replay: rows come with chance `P_i = p_i / sum p`, `p_i = (priority_i +
 * epsilon)^alpha`, and weights `(N P_i)^-beta / max_j (N P_j)^-beta` undo the bias.
 *
 * Schaul, Quan, Antonoglou, Silver, "Prioritized experience replay" (ICLR 2016). The batch is
 * stratified: one draw from each of `n` segments of equal mass. The largest weight is taken over all
 * rows and not over the batch, so that a row's weight does not depend on its neighbours. New rows get
 * the largest priority seen so far, 1 at first.
 *
 * Call `update()` after rows were added and `update({ ...sample, priority })` after learning.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { PrioritizedSampler, ReplayBuffer } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({ capacity: 100, schema: { reward: 'float32' } });
 * const sampler = new PrioritizedSampler(buffer);
 * buffer.addBatch({ reward: Float32Array.of(1, 2, 3) });
 * sampler.update();
 * const sample = sampler.sample(32, 7, { step: 0 });
 * sampler.update({ ...sample, priority: new Float32Array(32).fill(0.5) });
 * expect(sample.weight).toHaveLength(32);
 * ```
 */
export class PrioritizedSampler
  implements Sampler<PrioritizedSample, PrioritizedSampleOptions, PriorityFeedback>
{
  #rows: ReplayRows;
  readonly #tree: SumTree;
  readonly #alpha: number;
  readonly #beta: number;
  readonly #epsilon: number;
  #highest = 1;
  #known = 0;

  /**
   * Takes note of the rows there are.
   *
   * @param rows - the buffer
   * @param options - exponents and offset
   * @throws RangeError when an exponent or the offset is negative or not finite
   */
  constructor(rows: ReplayRows, options: PrioritizedSamplerOptions = {}) {
    expectOptions('PrioritizedSampler', options, ['alpha', 'beta', 'epsilon']);
    const { alpha = 0.6, beta = 0.4, epsilon = 1e-6 } = options;
    for (const [name, value] of Object.entries({ alpha, beta, epsilon })) {
      expectExponent('PrioritizedSampler', name, value);
    }
    this.#rows = rows;
    this.#alpha = alpha;
    this.#beta = beta;
    this.#epsilon = epsilon;
    this.#tree = new SumTree(rows.capacity);
    this.update();
  }

  /** Number of rows taken note of. */
  get size(): number {
    return Math.min(this.#known, this.#rows.capacity);
  }

  /**
   * Draws `n` slots.
   *
   * @param n - how many
   * @param seed - the seed or key
   * @param options - which batch, and `beta`
   * @returns slots and weights, `[n]`, by segment: in rising order of slots
   * @throws `NotEnoughRowsError` when there is no row
   * @throws RangeError when all priorities are 0
   * @throws Error when rows were added and `update` was not called since
   */
  sample(n: number, seed: Seed, options: PrioritizedSampleOptions = {}): PrioritizedSample {
    const what = 'PrioritizedSampler.sample';
    expectOptions(what, options, ['step', 'beta']);
    const { added } = this.#rows;
    const { step, beta = this.#beta } = options;
    expectExponent(what, 'beta', beta);
    if (added !== this.#known) {
      throw new Error(
        `${what}: the sampler must know every row, got ${added - this.#known} rows added since ` +
          'its last update; call update()',
      );
    }
    expectBatch(what, n, this.size);
    const draws = new Draws(what, seed, Stream.priority, step);
    const index = new Int32Array(n);
    const weight = new Float32Array(n);
    if (n === 0) return { index, weight, added };
    const tree = this.#tree;
    const { total, least } = tree;
    if (total === 0) {
      throw new RangeError(
        `${what}: at least one priority must be positive, got 0 for all ${this.size} rows; ` +
          'set an epsilon above 0',
      );
    }
    const mass = new Float64Array(n);
    draws.uniforms(mass);
    const segment = total / n;
    for (let i = 0; i < n; i++) mass[i] = (i + mass[i]) * segment;
    tree.find(mass, index);
    for (let i = 0; i < n; i++) weight[i] = (tree.get(index[i]) / least) ** -beta;
    return { index, weight, added };
  }

  /**
   * Takes note of rows added since the last call, and of new priorities.
   *
   * @param feedback - slots and their priorities; by default none
   * @throws TypeError when slots or priorities are of the wrong kind
   * @throws RangeError when a slot holds no row, or a priority is negative, NaN or not finite; all
   *   priorities are then as before
   * @throws `ShapeError` when there are not as many priorities as slots; they are then as before
   */
  update(feedback?: PriorityFeedback): void {
    const checked = feedback && this.#expectFeedback(feedback);
    this.#takeNote();
    if (checked) {
      this.#tree.set(checked.index, checked.weight);
      this.#highest = Math.max(this.#highest, checked.highest);
    }
  }

  /** The whole state but for the rows, copied. */
  snapshot(): PrioritizedSnapshot {
    return {
      prioritizedState: Float64Array.of(
        SNAPSHOT_VERSION,
        this.#alpha,
        this.#beta,
        this.#epsilon,
        this.#highest,
        this.#known,
      ),
      prioritizedWeight: Float64Array.from({ length: this.size }, (_, slot) =>
        this.#tree.get(slot),
      ),
    };
  }

  /**
   * A sampler in the state of a snapshot, over a buffer with the same rows.
   *
   * @param rows - the buffer
   * @param snapshot - from {@link PrioritizedSampler.snapshot}, or the arrays of a file it was written to
   * @throws TypeError when an array of the snapshot is missing
   * @throws RangeError when the snapshot's numbers are out of range or it knows more rows than there are
   */
  static restore(rows: ReplayRows, snapshot: SnapshotArrays): PrioritizedSampler {
    const what = 'PrioritizedSampler.restore';
    const state = expectArray(what, snapshot, 'prioritizedState', Float64Array);
    const weight = expectArray(what, snapshot, 'prioritizedWeight', Float64Array);
    const [version, alpha, beta, epsilon, highest, known] = state;
    const size = Math.min(known, rows.capacity);
    if (
      version !== SNAPSHOT_VERSION ||
      !(highest >= 1 && highest < Infinity) ||
      !Number.isInteger(known) ||
      known < 0 ||
      known > rows.added ||
      weight.length !== size
    ) {
      throw new RangeError(
        `${what}: state must fit a buffer of ${rows.added} rows added, got [${state}] and ` +
          `${weight.length} weights`,
      );
    }
    const sampler = new PrioritizedSampler(
      { capacity: rows.capacity, size: 0, added: 0 },
      { alpha, beta, epsilon },
    );
    sampler.#tree.set(
      Int32Array.from({ length: size }, (_, slot) => slot),
      weight,
    );
    sampler.#rows = rows;
    sampler.#highest = highest;
    sampler.#known = known;
    return sampler;
  }

  /** Gives rows that came since the last call the largest priority seen. */
  #takeNote(): void {
    const { added, capacity } = this.#rows;
    const fresh = Math.min(added - this.#known, capacity);
    const weight = this.#weigh(this.#highest);
    const first = (added - fresh) % capacity;
    const before = Math.min(fresh, capacity - first);
    this.#tree.fill(first, first + before, weight);
    this.#tree.fill(0, fresh - before, weight);
    this.#known = added;
  }

  #expectFeedback({ index, priority, added }: PriorityFeedback): {
    index: Int32Array;
    weight: Float64Array;
    highest: number;
  } {
    const what = 'PrioritizedSampler.update';
    expectSlots(what, index, this.#rows.size);
    if (!Array.isArray(priority) && !ArrayBuffer.isView(priority)) {
      throw new TypeError(`${what}: priority must be numbers [n], got ${describe(priority)}`);
    }
    if (priority.length !== index.length) {
      throw new ShapeError(
        `${what}: priority must have shape [${index.length}], got [${priority.length}]`,
      );
    }
    const stamp = expectStamp(what, added, this.#rows.added);
    const kept = new Int32Array(index.length);
    const weight = new Float64Array(index.length);
    let count = 0;
    let highest = 0;
    for (let i = 0; i < index.length; i++) {
      const value = priority[i];
      const w = this.#weigh(value);
      if (!(value >= 0 && value < Infinity && w <= this.#tree.limit)) {
        throw new RangeError(
          `${what}: a priority must be finite and not negative, got ${value} at ${i}; ` +
            'give absolute errors',
        );
      }
      if (rowInSlot(this.#rows, index[i]) >= stamp) continue;
      kept[count] = index[i];
      weight[count++] = w;
      highest = Math.max(highest, value);
    }
    return { index: kept.subarray(0, count), weight: weight.subarray(0, count), highest };
  }

  #weigh(priority: number): number {
    const p = priority + this.#epsilon;
    // A row without priority stays out of the draw even where alpha is 0.
    return p === 0 ? 0 : p ** this.#alpha;
  }
}

function expectExponent(what: string, name: string, value: number): void {
  if (!(value >= 0 && value < Infinity)) {
    throw new RangeError(`${what}: ${name} must be finite and not negative, got ${value}`);
  }
}
