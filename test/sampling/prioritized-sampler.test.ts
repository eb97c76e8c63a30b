import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ShapeError } from '../../src/nd.js';
import { PrioritizedSampler } from '../../src/sampling/prioritized-sampler.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';

function bufferOf(rows: number, capacity = Math.max(rows, 1)) {
  const buffer = new ReplayBuffer({ capacity, schema: { x: 'float32' } });
  buffer.addBatch({ x: new Float32Array(rows) });
  return buffer;
}

const slots = (n: number) => Int32Array.from({ length: n }, (_, i) => i);

function withPriorities(priority: number[], options = {}) {
  const sampler = new PrioritizedSampler(bufferOf(priority.length), options);
  sampler.update({ index: slots(priority.length), priority });
  return sampler;
}

function countsOf(index: Int32Array, n: number): number[] {
  const counts = new Array<number>(n).fill(0);
  for (const slot of index) counts[slot]++;
  return counts;
}

describe('PrioritizedSampler', () => {
  // python -c "import numpy as np; p = np.arange(1, 5.)**.6; P = p / p.sum(); w = (4 * P)**-.4;
  //   print(P, w / w.max())"
  const P = [0.1482295026, 0.2246739128, 0.286554613, 0.3405419716];
  const W = [1, 0.8467453124, 0.7682293564, 0.716977624];

  test('draws with chances p^alpha / sum and weighs with (N P)^-beta / max', () => {
    const N = 100_000;
    const { index, weight } = withPriorities([1, 2, 3, 4], { epsilon: 0 }).sample(N, 1);
    for (const [i, count] of countsOf(index, 4).entries()) {
      // Strata leave at most one draw at either border to chance.
      expect(Math.abs(count - N * P[i])).toBeLessThanOrEqual(2);
    }
    const seen = new Float32Array(4);
    index.forEach((slot, i) => {
      seen[slot] = weight[i];
    });
    expect(seen).toBeAllclose(W, { rtol: 1e-7 });
  });

  test('takes beta of a batch, and without correction gives weights of 1', () => {
    const sampler = withPriorities([1, 2], { alpha: 1, epsilon: 0 });
    const { index, weight } = sampler.sample(10, 1, { beta: 1 });
    index.forEach((slot, i) => {
      expect(weight[i]).toBe(slot === 0 ? 1 : 0.5);
    });
    expect(sampler.sample(10, 1, { beta: 0 }).weight).toEqual(new Float32Array(10).fill(1));
  });

  test('meets the frequencies of any weights to a draw at either border', () => {
    const priorities = fc.array(
      fc.oneof(fc.constant(0), fc.double({ min: 1e-3, max: 1e3, noNaN: true })),
      {
        minLength: 1,
        maxLength: 20,
      },
    );
    fc.assert(
      fc.property(priorities, fc.integer({ min: 1, max: 300 }), fc.nat(), (list, n, seed) => {
        const total = list.reduce((sum, p) => sum + p, 0);
        fc.pre(total > 0);
        const sampler = withPriorities(list, { alpha: 1, epsilon: 0 });
        for (const [i, count] of countsOf(sampler.sample(n, seed).index, list.length).entries()) {
          expect(Math.abs(count - (n * list[i]) / total)).toBeLessThan(2 + 1e-9);
          if (list[i] === 0) expect(count).toBe(0);
        }
      }),
      { numRuns: 1000, seed: 25 },
    );
  });

  test('draws within a stratum as often as its weights say', () => {
    // One draw a batch is one stratum: nothing is left but chance.
    const sampler = withPriorities([1, 2, 3, 4], { epsilon: 0 });
    const N = 40_000;
    const counts = [0, 0, 0, 0];
    for (let step = 0; step < N; step++) counts[sampler.sample(1, 7, { step }).index[0]]++;
    for (const [i, count] of counts.entries()) {
      expect(Math.abs(count - N * P[i])).toBeLessThan(5 * Math.sqrt(N * P[i] * (1 - P[i])));
    }
  });

  test('never draws unwritten slots, where a point falls beyond the last row too', () => {
    const sampler = new PrioritizedSampler(bufferOf(5, 13));
    for (let step = 0; step < 2000; step++) {
      for (const slot of sampler.sample(7, 1, { step }).index) expect(slot).toBeLessThan(5);
    }
  });

  test('gives new rows the largest priority seen, 1 at first', () => {
    const buffer = bufferOf(2, 4);
    const sampler = new PrioritizedSampler(buffer, { alpha: 1, epsilon: 0 });
    expect([...sampler.snapshot().prioritizedWeight]).toEqual([1, 1]);
    sampler.update({ index: Int32Array.of(0, 1), priority: [0.5, 8] });
    sampler.update({ index: Int32Array.of(1), priority: [2] });
    buffer.addBatch({ x: new Float32Array(3) });
    sampler.update();
    expect([...sampler.snapshot().prioritizedWeight]).toEqual([8, 2, 8, 8]);
  });

  test('leaves out priorities of rows that were overwritten since the batch was drawn', () => {
    const buffer = bufferOf(4);
    const sampler = new PrioritizedSampler(buffer, { alpha: 1, epsilon: 0 });
    const { added } = sampler.sample(4, 1);
    buffer.addBatch({ x: new Float32Array(2) });
    sampler.update({ index: slots(4), priority: [5, 5, 5, 5], added });
    expect([...sampler.snapshot().prioritizedWeight]).toEqual([1, 1, 5, 5]);
  });

  test('is not changed by sampling', () => {
    const sampler = withPriorities([1, 2, 3, 4]);
    const before = sampler.snapshot();
    const first = sampler.sample(32, 1);
    sampler.sample(32, 2);
    expect(sampler.snapshot()).toEqual(before);
    expect(sampler.sample(32, 1)).toEqual(first);
  });

  test('asks for an update after rows were added', () => {
    const buffer = bufferOf(2, 4);
    const sampler = new PrioritizedSampler(buffer);
    buffer.add({ x: 0 });
    expect(() => sampler.sample(1, 1)).toThrow(
      'the sampler must know every row, got 1 rows added since its last update; call update()',
    );
    sampler.update();
    expect(sampler.sample(1, 1).index).toHaveLength(1);
  });

  test('restores a snapshot to a sampler that behaves the same ever after', () => {
    const updates = fc.array(fc.tuple(fc.nat(5), fc.array(fc.tuple(fc.nat(9), fc.nat(50)))), {
      maxLength: 6,
    });
    const apply = (
      buffer: ReturnType<typeof bufferOf>,
      sampler: PrioritizedSampler,
      list: [number, [number, number][]][],
    ) => {
      for (const [rows, pairs] of list) {
        buffer.addBatch({ x: new Float32Array(rows) });
        const known = pairs.filter(([slot]) => slot < buffer.size);
        const index = Int32Array.from(known, ([slot]) => slot);
        sampler.update({ index, priority: known.map(([, priority]) => priority) });
      }
    };
    fc.assert(
      fc.property(updates, updates, fc.nat(), (before, after, seed) => {
        const buffer = bufferOf(1, 10);
        const sampler = new PrioritizedSampler(buffer);
        apply(buffer, sampler, before);
        const twinBuffer = ReplayBuffer.restore(buffer.snapshot(), { x: 'float32' });
        const twin = PrioritizedSampler.restore(twinBuffer, structuredClone(sampler.snapshot()));
        apply(buffer, sampler, after);
        apply(twinBuffer, twin, after);
        expect(twin.snapshot()).toEqual(sampler.snapshot());
        expect(twin.sample(8, seed)).toEqual(sampler.sample(8, seed));
      }),
      { numRuns: 1000, seed: 26 },
    );
  });

  test.each<[string, object, new () => Error, string]>([
    [
      'NaN',
      { priority: [1, Number.NaN] },
      RangeError,
      'a priority must be finite and not negative, got NaN at 1',
    ],
    ['a negative priority', { priority: [-1, 1] }, RangeError, 'got -1 at 0; give absolute errors'],
    ['an infinite priority', { priority: [1, Infinity] }, RangeError, 'got Infinity at 1'],
    [
      'too few priorities',
      { priority: [1] },
      ShapeError as never,
      'priority must have shape [2], got [1]',
    ],
    [
      'no priorities',
      { priority: undefined },
      TypeError,
      'priority must be numbers [n], got undefined',
    ],
    [
      'an unwritten slot',
      { index: Int32Array.of(0, 3) },
      RangeError,
      'index must lie in the 3 slots that hold rows, got 3 at 1',
    ],
    [
      'plain numbers as slots',
      { index: [0, 1] },
      TypeError,
      'index must be an Int32Array, got Array',
    ],
    ['a stamp of the future', { added: 4 }, RangeError, 'added must be an integer in 0..3, got 4'],
  ])('update refuses %s and is as before', (_, change, type, message) => {
    for (const alpha of [0, 0.6]) {
      const sampler = new PrioritizedSampler(bufferOf(3, 5), { alpha });
      const before = sampler.snapshot();
      const feedback = { index: Int32Array.of(0, 1), priority: [1, 2], ...change };
      expect(() => sampler.update(feedback as never)).toThrow(type);
      expect(() => sampler.update(feedback as never)).toThrow(message);
      expect(sampler.snapshot()).toEqual(before);
    }
  });

  test('refuses an empty buffer, priorities of 0 alone and constants out of range', () => {
    expect(() => new PrioritizedSampler(bufferOf(0)).sample(1, 1)).toThrow(NotEnoughRowsError);
    expect(new PrioritizedSampler(bufferOf(0)).sample(0, 1).index).toHaveLength(0);
    expect(() => withPriorities([0, 0], { epsilon: 0 }).sample(1, 1)).toThrow(
      'at least one priority must be positive, got 0 for all 2 rows; set an epsilon above 0',
    );
    for (const options of [{ alpha: -1 }, { beta: Number.NaN }, { epsilon: Infinity }]) {
      expect(() => new PrioritizedSampler(bufferOf(1), options)).toThrow(RangeError);
    }
    const good = withPriorities([1, 2]).snapshot();
    const restore = (change: object) => () =>
      PrioritizedSampler.restore(bufferOf(2), { ...good, ...change });
    expect(restore({ prioritizedWeight: new Float64Array(3) })).toThrow(RangeError);
    expect(restore({ prioritizedWeight: [1, 2] })).toThrow(TypeError);
    expect(restore({ prioritizedState: Float64Array.of(1, 0.6, 0.4, 0, 1, 9) })).toThrow(
      RangeError,
    );
  });
});
