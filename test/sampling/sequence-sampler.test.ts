import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';
import { SequenceSampler, WindowStarts } from '../../src/sampling/sequence-sampler.js';

const schema = { number: 'int32', episode: 'int32', truncated: 'uint8' } as const;

/** A buffer to which episodes of the given lengths were added, the last one still running. */
function bufferOf(capacity: number, lengths: readonly number[]) {
  const buffer = new ReplayBuffer({ capacity, schema });
  let number = 0;
  for (const [episode, length] of lengths.entries()) {
    for (let t = 1; t <= length; t++) {
      const last = t === length && episode < lengths.length - 1;
      buffer.add({ number: number++, episode, truncated: last ? 1 : 0 });
    }
  }
  return buffer;
}

describe('SequenceSampler', () => {
  const histories = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9 });

  test('draws windows that never cross an episode or the write head', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        histories,
        fc.integer({ min: 1, max: 6 }),
        fc.nat(),
        (capacity, lengths, length, seed) => {
          fc.pre(length <= capacity);
          const buffer = bufferOf(capacity, lengths);
          const sampler = new SequenceSampler(buffer, { length });
          if (sampler.size === 0) {
            expect(() => sampler.sample(1, seed)).toThrow(NotEnoughRowsError);
            return;
          }
          const { index } = sampler.sample(12, seed);
          const { number, episode } = buffer.windows(index, length);
          for (let i = 0; i < number.data.length; i++) {
            if (i % length === 0) continue;
            expect(number.data[i]).toBe(number.data[i - 1] + 1);
            expect(episode.data[i]).toBe(episode.data[i - 1]);
          }
        },
      ),
      { numRuns: 1000, seed: 27 },
    );
  });

  test('knows exactly the starts whose windows may be read, for every reach', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16 }),
        histories,
        fc.integer({ min: 1, max: 6 }),
        fc.constantFrom('none' as const, 'episodes' as const, 'head' as const),
        (capacity, lengths, length, cross) => {
          fc.pre(length <= capacity);
          const buffer = bufferOf(capacity, lengths);
          const starts = new WindowStarts(buffer, length, cross);
          const readable: number[] = [];
          for (let slot = 0; slot < buffer.size; slot++) {
            try {
              buffer.windows(Int32Array.of(slot), length, { cross });
              readable.push(slot);
            } catch {}
          }
          expect(starts.count).toBe(readable.length);
          expect([...starts.slots()].sort((a, b) => a - b)).toEqual(readable);
          const numbered = Array.from({ length: starts.count }, (_, i) => starts.slot(i));
          expect(numbered).toEqual([...starts.slots()]);
        },
      ),
      { numRuns: 1000, seed: 28 },
    );
  });

  test('draws every start equally often', () => {
    // Episodes of 1, 4 and 3 rows have 0, 3 and 2 starts of windows of 2 rows.
    const sampler = new SequenceSampler(bufferOf(20, [1, 4, 3]), { length: 2 });
    const N = 50_000;
    const counts = new Map<number, number>();
    for (const slot of sampler.sample(N, 3).index) counts.set(slot, (counts.get(slot) ?? 0) + 1);
    expect([...counts.keys()].sort()).toEqual([1, 2, 3, 5, 6]);
    for (const count of counts.values()) {
      expect(Math.abs(count - N / 5)).toBeLessThan(5 * Math.sqrt(N * 0.16));
    }
  });

  test('refuses lengths that never fit, and says how long the longest episode is', () => {
    const buffer = bufferOf(20, [1, 4, 3]);
    expect(() => new SequenceSampler(buffer, { length: 5 }).sample(1, 1)).toThrow(
      'a window of 5 rows must fit, got at most 4 consecutive rows; draw shorter windows or add rows',
    );
    expect(new SequenceSampler(buffer, { length: 5, cross: 'episodes' }).size).toBe(4);
    expect(new SequenceSampler(buffer, { length: 5 }).sample(0, 1).index).toHaveLength(0);
    for (const length of [0, 1.5, 21]) {
      expect(() => new SequenceSampler(buffer, { length })).toThrow(RangeError);
    }
    const empty = new ReplayBuffer({ capacity: 5, schema });
    expect(() => new SequenceSampler(empty, { length: 1 }).sample(1, 1)).toThrow(
      NotEnoughRowsError,
    );
    expect(() => new SequenceSampler(buffer, { length: 1, cross: 'all' as 'head' })).toThrow(
      RangeError,
    );
  });
});
