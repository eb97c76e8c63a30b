import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';
import { UniformSampler } from '../../src/sampling/uniform-sampler.js';

function bufferOf(rows: number, capacity = 10) {
  const buffer = new ReplayBuffer({ capacity, schema: { x: 'float32' } });
  buffer.addBatch({ x: new Float32Array(rows) });
  return buffer;
}

describe('UniformSampler', () => {
  test('draws every stored row equally often and never an unwritten slot', () => {
    const N = 90_000;
    const { index } = new UniformSampler(bufferOf(9)).sample(N, 1);
    const counts = new Array<number>(10).fill(0);
    for (const slot of index) counts[slot]++;
    expect(counts[9]).toBe(0);
    let chiSquared = 0;
    for (const count of counts.slice(0, 9)) chiSquared += (count - N / 9) ** 2 / (N / 9);
    // python -c "from scipy.stats import chi2; print(chi2.ppf(1 - 1e-6, 8))" -> 42.7
    expect(chiSquared).toBeLessThan(42.7);
  });

  test('draws slots within the stored rows, different ones without replacement', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.nat(40),
        fc.nat(2 ** 32 - 1),
        fc.nat(2 ** 32 - 1),
        (rows, n, seed, step) => {
          const buffer = bufferOf(rows, 30);
          const { index, weight } = new UniformSampler(buffer).sample(n, seed, { step });
          expect(index).toHaveLength(n);
          expect(weight).toBeUndefined();
          expect(index.every((slot) => slot >= 0 && slot < buffer.size)).toBe(true);
          const take = Math.min(n, buffer.size);
          const distinct = new UniformSampler(buffer, { replacement: false });
          expect(new Set(distinct.sample(take, seed, { step }).index).size).toBe(take);
        },
      ),
      { numRuns: 1000, seed: 24 },
    );
  });

  test('repeats itself for a seed and step, and for no other', () => {
    const sampler = new UniformSampler(bufferOf(10));
    const draw = (seed: number, step?: number) => sampler.sample(20, seed, { step }).index.join();
    expect(draw(1)).toBe(draw(1, 0));
    expect(new Set([draw(1), draw(1, 1), draw(2), draw(2, 1)]).size).toBe(4);
  });

  test('draws nothing from an empty buffer when nothing is asked', () => {
    expect(new UniformSampler(bufferOf(0)).sample(0, 1).index).toHaveLength(0);
  });

  test('refuses an empty buffer, more than there is, and what is no count', () => {
    const message = 'there must be at least 1 candidate, got 0; add rows first';
    expect(() => new UniformSampler(bufferOf(0)).sample(1, 1)).toThrow(NotEnoughRowsError);
    expect(() => new UniformSampler(bufferOf(0)).sample(1, 1)).toThrow(message);
    const distinct = new UniformSampler(bufferOf(3), { replacement: false });
    expect(() => distinct.sample(4, 1)).toThrow(NotEnoughRowsError);
    expect(() => distinct.sample(4, 1)).toThrow('got 4 of 3; draw fewer or add rows');
    expect(() => distinct.sample(-1, 1)).toThrow(RangeError);
    expect(() => distinct.sample(1.5, 1)).toThrow(RangeError);
    expect(() => distinct.sample(1, 1, { step: -1 })).toThrow(RangeError);
  });
});
