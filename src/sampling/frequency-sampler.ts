import { ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import type { Seed } from './key.js';
import { drawTopK } from './permutation.js';
import type { WindowCross } from './replay-buffer.js';
import { Draws } from './replay-draws.js';
import {
  type EpisodeRows,
  expectDistinct,
  expectSlots,
  expectStamp,
  rowInSlot,
  type Sample,
  type SampleOptions,
  type Sampler,
} from './sampler.js';
import { expectWindow, WindowStarts } from './sequence-sampler.js';
import { expectArray, type SnapshotArrays } from './snapshot.js';
import { Stream } from './stream.js';

/** What a batch is for: to train the world model, or to start imagination from. */
export type FrequencyPurpose = 'model' | 'imagination';

/** Constants of dynamic frequency-based sampling. */
export interface FrequencyConstants {
  /** Temperature; 10 by default. */
  tau?: number;
  /** How much having been imagined counts against a start; 1 by default. */
  alpha?: number;
  /** How much training beyond imagination counts against it; 1 by default. */
  beta?: number;
  /** Imagined starts for each trained one, batch size by batch size; 64 by default. */
  ratio?: number;
}

/** Constants, and what the batch is for. */
export interface FrequencyProbabilityOptions extends FrequencyConstants {
  /** `'model'` or `'imagination'`. */
  purpose: FrequencyPurpose;
}

/**
 * Chances of Drama's dynamic frequency-based sampling.
 *
 * With `v` the times a start was used to train the world model, `b` those it was imagined from and
 * `b' = b / ratio`: for the model `p ~ exp(-v / tau)`; for imagination
 * `p ~ exp((v - alpha b' - beta max(0, v - b')) / tau)`. With alpha and beta 1 the latter is uniform over
 * all starts that were imagined no more than they were trained, and falls with the excess.
 *
 * Wang, Hu et al., "Drama: Mamba-enabled model-based reinforcement learning" (ICLR 2025). The largest
 * exponent is subtracted first, so that any counts give finite chances.
 *
 * @param modelCounts - `v`, finite and non-negative, `[N]`
 * @param imaginationCounts - `b`, finite and non-negative, `[N]`
 * @param options - purpose and constants
 * @returns float64 `[N]`, sum 1; empty for no starts
 * @throws TypeError when the purpose is unknown
 * @throws RangeError when a count is negative or not finite, or a constant is out of range
 * @throws `ShapeError` when the two counts differ in length
 *
 * @example
 * ```ts @import.meta.vitest
 * const { dynamicFrequencyProbabilities } = await import('umwelt/sampling');
 * const p = dynamicFrequencyProbabilities([0, 10], [0, 0], { purpose: 'model' });
 * expect(p[0] / p[1]).toBeCloseTo(Math.E, 12);
 * ```
 */
export function dynamicFrequencyProbabilities(
  modelCounts: ArrayLike<number>,
  imaginationCounts: ArrayLike<number>,
  options: FrequencyProbabilityOptions,
): Float64Array {
  const what = 'dynamicFrequencyProbabilities';
  const constants = expectConstants(what, options);
  expectPurpose(what, options.purpose);
  if (modelCounts.length !== imaginationCounts.length) {
    throw new ShapeError(
      `${what}: both counts must have one length, got ${modelCounts.length} and ` +
        `${imaginationCounts.length}`,
    );
  }
  for (const [name, counts] of Object.entries({ modelCounts, imaginationCounts })) {
    for (let i = 0; i < counts.length; i++) {
      if (!(counts[i] >= 0 && counts[i] < Infinity)) {
        throw new RangeError(
          `${what}: ${name} must be finite and not negative, got ${counts[i]} at ${i}`,
        );
      }
    }
  }
  const p = new Float64Array(modelCounts.length);
  let highest = -Infinity;
  for (let i = 0; i < p.length; i++) {
    p[i] = logit(options.purpose, modelCounts[i], imaginationCounts[i], constants);
    highest = Math.max(highest, p[i]);
  }
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    p[i] = Math.exp(p[i] - highest);
    sum += p[i];
  }
  for (let i = 0; i < p.length; i++) p[i] /= sum;
  return p;
}

/** How a {@link FrequencySampler} draws. */
export interface FrequencySamplerOptions extends FrequencyConstants {
  /** Rows of a window that trains the world model; 128 in Drama. */
  modelLength: number;
  /** Rows of a context that imagination starts from; 8 in Drama. */
  imaginationLength: number;
  /** Temperature for imagination; `tau` by default. */
  imaginationTau?: number;
  /**
   * What a window may span, as for `ReplayBuffer.windows`; `'none'`, one episode, by default. Drama
   * itself reads across episodes.
   */
  cross?: WindowCross;
}

/** Which batch, and what for. */
export interface FrequencySampleOptions extends SampleOptions {
  /** `'model'` or `'imagination'`. */
  purpose: FrequencyPurpose;
}

/** A batch drawn by use. */
export interface FrequencySample extends Sample {
  /** What it was drawn for. */
  purpose: FrequencyPurpose;
  /** Rows ever added when this was drawn. */
  added: number;
}

/** Starts that were used. */
export interface FrequencyFeedback {
  /** Slots, `[n]`; each mention counts one. */
  index: Int32Array;
  /** What they were used for. */
  purpose: FrequencyPurpose;
  /** The sample's `added`: rows overwritten since are left out. By default none were. */
  added?: number;
}

/** A {@link FrequencySampler}'s counters, for a file or a worker. */
export type FrequencySnapshot = {
  /** Version, rows taken note of. */
  frequencyState: Float64Array;
  /** Times each slot started a window that trained the model, `[size]`. */
  modelCounts: Int32Array;
  /** Times each slot started imagination, `[size]`. */
  imaginationCounts: Int32Array;
};

const SNAPSHOT_VERSION = 1;

const OPTIONS = [
  'modelLength',
  'imaginationLength',
  'imaginationTau',
  'cross',
  'tau',
  'alpha',
  'beta',
  'ratio',
];

/**
 * Drama's dynamic frequency-based sampling: the world model trains on what it saw least, and imagination
 * starts where the model was trained enough.
 *
 * Each slot has two counters, by first row of a window; an overwritten slot begins at 0 again. Batches
 * come without replacement, with the chances of {@link dynamicFrequencyProbabilities}. Counters rise in
 * `update(sample)` alone.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { FrequencySampler, ReplayBuffer } = await import('umwelt/sampling');
 * const buffer = new ReplayBuffer({ capacity: 100, schema: { reward: 'float32' } });
 * buffer.addBatch({ reward: new Float32Array(50) });
 * const sampler = new FrequencySampler(buffer, { modelLength: 16, imaginationLength: 8 });
 * const sample = sampler.sample(4, 7, { purpose: 'model' });
 * sampler.update(sample);
 * expect(buffer.windows(sample.index, 16).reward.shape).toEqual([4, 16]);
 * ```
 */
export class FrequencySampler
  implements Sampler<FrequencySample, FrequencySampleOptions, FrequencyFeedback>
{
  readonly #rows: EpisodeRows;
  readonly #length: Readonly<Record<FrequencyPurpose, number>>;
  readonly #constants: Readonly<Record<FrequencyPurpose, Required<FrequencyConstants>>>;
  readonly #cross: WindowCross;
  readonly #counts: Readonly<Record<FrequencyPurpose, Int32Array>>;
  #known = 0;

  /**
   * @param rows - the buffer
   * @param options - window lengths and constants
   * @throws RangeError when a length is not within 1 and the buffer's capacity, or a constant is out of
   *   range
   */
  constructor(rows: EpisodeRows, options: FrequencySamplerOptions) {
    const what = 'FrequencySampler';
    expectOptions(what, options, OPTIONS);
    const { modelLength, imaginationLength, cross = 'none' } = options;
    expectWindow(what, rows, modelLength, cross);
    expectWindow(what, rows, imaginationLength, cross);
    const model = expectConstants(what, options);
    const tau = options.imaginationTau ?? model.tau;
    this.#rows = rows;
    this.#length = { model: modelLength, imagination: imaginationLength };
    this.#constants = { model, imagination: expectConstants(what, { ...model, tau }) };
    this.#cross = cross;
    this.#counts = {
      model: new Int32Array(rows.capacity),
      imagination: new Int32Array(rows.capacity),
    };
    this.#known = rows.added;
  }

  /** Number of starts of windows that train the model. */
  get size(): number {
    return new WindowStarts(this.#rows, this.#length.model, this.#cross).count;
  }

  /**
   * Draws `n` different starts, in O(stored rows).
   *
   * @param n - how many
   * @param seed - the seed or key
   * @param options - which batch, and what for
   * @returns slots of first rows, `[n]`, without weights
   * @throws TypeError when the purpose is missing or unknown
   * @throws `NotEnoughRowsError` when there are fewer than `n` starts
   */
  sample(n: number, seed: Seed, options: FrequencySampleOptions): FrequencySample {
    const what = 'FrequencySampler.sample';
    const purpose = expectPurpose(what, options?.purpose);
    expectOptions(what, options, ['step', 'purpose']);
    const { added } = this.#rows;
    const starts = new WindowStarts(this.#rows, this.#length[purpose], this.#cross);
    starts.expectAny(what, n);
    expectDistinct(what, n, starts.count);
    // The model and imagination draw apart, though a training step does both.
    const draws = new Draws(what, seed, Stream.frequency, options.step);
    const slots = starts.slots();
    const { model, imagination } = this.#counts;
    const constants = this.#constants[purpose];
    const logits = new Float64Array(slots.length);
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i];
      // Rows that came since the last update were never used, whatever their slot's counters say.
      const fresh = rowInSlot(this.#rows, slot) >= this.#known;
      const v = fresh ? 0 : model[slot];
      const b = fresh ? 0 : imagination[slot];
      logits[i] = logit(purpose, v, b, constants);
    }
    const index = drawTopK(draws, logits, n, purpose === 'model' ? 0 : 1);
    for (let i = 0; i < n; i++) index[i] = slots[index[i]];
    return { index, purpose, added };
  }

  /**
   * Sets the counters of rows added since the last call to 0, and counts starts that were used.
   *
   * @param feedback - a sample; by default none
   * @throws TypeError when the slots are no Int32Array or the purpose is unknown
   * @throws RangeError when a slot holds no row; the counters are then as before
   */
  update(feedback?: FrequencyFeedback): void {
    const what = 'FrequencySampler.update';
    const { added, capacity, size } = this.#rows;
    let stamp = added;
    if (feedback) {
      expectPurpose(what, feedback.purpose);
      expectSlots(what, feedback.index, size);
      stamp = expectStamp(what, feedback.added, added);
    }
    for (let row = Math.max(this.#known, added - capacity); row < added; row++) {
      this.#counts.model[row % capacity] = 0;
      this.#counts.imagination[row % capacity] = 0;
    }
    this.#known = added;
    if (!feedback) return;
    const counts = this.#counts[feedback.purpose];
    for (const slot of feedback.index) if (rowInSlot(this.#rows, slot) < stamp) counts[slot]++;
  }

  /** The counters, copied. */
  snapshot(): FrequencySnapshot {
    const size = Math.min(this.#known, this.#rows.capacity);
    return {
      frequencyState: Float64Array.of(SNAPSHOT_VERSION, this.#known),
      modelCounts: this.#counts.model.slice(0, size),
      imaginationCounts: this.#counts.imagination.slice(0, size),
    };
  }

  /**
   * A sampler with a snapshot's counters, over a buffer with the same rows.
   *
   * @param rows - the buffer
   * @param options - window lengths and constants
   * @param snapshot - from {@link FrequencySampler.snapshot}, or the arrays of a file it was written to
   * @throws TypeError when an array of the snapshot is of the wrong type
   * @throws RangeError when the snapshot does not fit the buffer
   */
  static restore(
    rows: EpisodeRows,
    options: FrequencySamplerOptions,
    snapshot: SnapshotArrays,
  ): FrequencySampler {
    const what = 'FrequencySampler.restore';
    const frequencyState = expectArray(what, snapshot, 'frequencyState', Float64Array);
    const modelCounts = expectArray(what, snapshot, 'modelCounts', Int32Array);
    const imaginationCounts = expectArray(what, snapshot, 'imaginationCounts', Int32Array);
    const [version, known] = frequencyState;
    const size = Math.min(known, rows.capacity);
    for (const [name, counts] of Object.entries({ modelCounts, imaginationCounts })) {
      if (
        version !== SNAPSHOT_VERSION ||
        !Number.isInteger(known) ||
        known < 0 ||
        known > rows.added ||
        counts.length !== size ||
        counts.some((count) => count < 0)
      ) {
        throw new RangeError(
          `${what}: ${name} must be counters of a buffer of ${rows.added} rows added, got ` +
            `${counts.length} for ${known} rows`,
        );
      }
    }
    const sampler = new FrequencySampler(rows, options);
    sampler.#counts.model.set(modelCounts);
    sampler.#counts.imagination.set(imaginationCounts);
    sampler.#known = known;
    return sampler;
  }
}

/** Unnormalised log-chance of a start. */
function logit(
  purpose: FrequencyPurpose,
  v: number,
  b: number,
  { tau, alpha, beta, ratio }: Required<FrequencyConstants>,
): number {
  if (purpose === 'model') return -v / tau;
  const scaled = b / ratio;
  return (v - alpha * scaled - beta * Math.max(0, v - scaled)) / tau;
}

function expectConstants(
  what: string,
  { tau = 10, alpha = 1, beta = 1, ratio = 64 }: FrequencyConstants,
): Required<FrequencyConstants> {
  for (const [name, value] of Object.entries({ tau, ratio })) {
    if (!(value > 0 && value < Infinity)) {
      throw new RangeError(`${what}: ${name} must be finite and positive, got ${value}`);
    }
  }
  for (const [name, value] of Object.entries({ alpha, beta })) {
    if (!Number.isFinite(value)) {
      throw new RangeError(`${what}: ${name} must be finite, got ${value}`);
    }
  }
  return { tau, alpha, beta, ratio };
}

function expectPurpose(what: string, purpose: unknown): FrequencyPurpose {
  if (purpose !== 'model' && purpose !== 'imagination') {
    throw new TypeError(
      `${what}: purpose must be 'model' or 'imagination', got ${String(purpose)}`,
    );
  }
  return purpose;
}
