import fc from 'fast-check';
import { ReplayBuffer, SequenceSampler } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';

const RUNS = { numRuns: 500, seed: 29 };

const schema = {
  number: 'int32',
  pair: { dtype: 'float32', shape: [2] },
  terminated: 'uint8',
} as const;

type Numbered = ReplayBuffer<typeof schema>;

/** Adds rows that know their number; a 1 ends an episode. */
function fill(buffer: Numbered, ends: readonly number[]): Numbered {
  for (const terminated of ends) {
    const number = buffer.added;
    buffer.add({ number, pair: Float32Array.of(number, -number), terminated });
  }
  return buffer;
}

/** Rows from oldest to newest, with what is known of their episodes. */
function told(buffer: Numbered) {
  const { size, capacity, added } = buffer;
  const slots = Int32Array.from({ length: size }, (_, i) => (added - size + i) % capacity);
  return {
    ...buffer.get(slots),
    first: buffer.isFirst(slots),
    spans: [...slots].map((slot) => buffer.span(slot)),
    lengths: buffer.episodes().length,
  };
}

/** The newest `count` rows of what a buffer tells. */
function newest(buffer: Numbered, count: number) {
  const all = told(buffer);
  const kept = Math.min(count, buffer.size);
  const from = buffer.size - kept;
  const numbers = all.number.slice(from);
  const spans = all.spans.slice(from).map(({ before, from: ahead }, i) => ({
    before: Math.min(before, i),
    from: ahead,
  }));
  return { numbers, first: all.first.slice(from), spans };
}

const ends = fc.array(fc.integer({ min: 0, max: 1 }), { maxLength: 40 });
const capacities = fc.integer({ min: 1, max: 24 });

describe('resized', () => {
  test('keeps the newest rows in their order, and which episodes they are of', () => {
    fc.assert(
      fc.property(ends, capacities, capacities, (flags, before, after) => {
        const buffer = fill(new ReplayBuffer({ capacity: before, schema }), flags);
        const expected = newest(buffer, after);
        const untouched = buffer.snapshot();
        const other = buffer.resized(after);
        expect(other.capacity).toBe(after);
        const { number, pair, first, spans } = told(other);
        expect(number).toEqual(expected.numbers);
        expect([...pair.data]).toEqual([...number].flatMap((n) => [n, -n]));
        expect(first).toEqual(expected.first);
        expect(spans).toEqual(expected.spans);
        expect(buffer.snapshot()).toEqual(untouched);
      }),
      RUNS,
    );
  });

  test('the running episode goes on', () => {
    fc.assert(
      fc.property(ends, capacities, capacities, ends, (flags, before, after, more) => {
        const buffer = fill(new ReplayBuffer({ capacity: before, schema }), flags);
        const other = buffer.resized(after);
        const roomy = fill(new ReplayBuffer({ capacity: 1000, schema }), flags);
        for (const terminated of more) {
          const row = { number: roomy.added, pair: Float32Array.of(0, 0), terminated };
          other.add(row);
          roomy.add(row);
        }
        const stored = told(roomy);
        const { number, first } = told(other);
        expect(first).toEqual(Uint8Array.from(number, (n) => stored.first[n]));
      }),
      RUNS,
    );
  });

  test('survives a snapshot', () => {
    fc.assert(
      fc.property(ends, capacities, capacities, (flags, before, after) => {
        const other = fill(new ReplayBuffer({ capacity: before, schema }), flags).resized(after);
        const again = ReplayBuffer.restore(other.snapshot(), schema);
        expect(told(again)).toEqual(told(other));
        expect(again.added).toBe(other.added);
      }),
      RUNS,
    );
  });

  test('what is left of an overwritten episode can be sampled, but does not begin it', () => {
    const buffer = fill(new ReplayBuffer({ capacity: 4, schema }), [0, 0, 0, 0, 0, 0]).resized(8);
    expect([...buffer.isFirst(Int32Array.of(0, 1))]).toEqual([0, 0]);
    const { index } = new SequenceSampler(buffer, { length: 4 }).sample(3, 0);
    expect([...buffer.windows(index, 4).number.data.subarray(0, 4)]).toEqual([2, 3, 4, 5]);
  });

  test('is the buffer itself where nothing changes', () => {
    const buffer = fill(new ReplayBuffer({ capacity: 4, schema }), [0, 1]);
    expect(buffer.resized(4)).toBe(buffer);
  });

  test('refuses what is no capacity', () => {
    const buffer = new ReplayBuffer({ capacity: 4, schema });
    expect(() => buffer.resized(0)).toThrow('capacity must be an integer in 1..2^30, got 0');
  });
});
