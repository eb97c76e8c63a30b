import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BootstrapSampler, bootstrapIndices } from '../../src/sampling/bootstrap.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';

describe('bootstrapIndices', () => {
  test('permutes all rows anew for each member', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 50 }),
        (seed, E, rows) => {
          const { data, shape } = bootstrapIndices(seed, E, rows, { replacement: false });
          expect(shape).toEqual([E, rows]);
          const all = Array.from({ length: rows }, (_, i) => i);
          for (let e = 0; e < E; e++) {
            const member = data.slice(e * rows, (e + 1) * rows);
            expect([...member].sort((a, b) => a - b)).toEqual(all);
          }
        },
      ),
      { numRuns: 1000, seed: 29 },
    );
    const { data } = bootstrapIndices(1, 2, 50, { replacement: false });
    expect(data.slice(0, 50)).not.toEqual(data.slice(50));
  });

  test('with replacement leaves out about 1/e of the rows of each member', () => {
    const rows = 20_000;
    const { data } = bootstrapIndices(2, 3, rows);
    for (let e = 0; e < 3; e++) {
      const share = new Set(data.subarray(e * rows, (e + 1) * rows)).size / rows;
      // Standard deviation sqrt((1/e - 2/e^2) / N) = 0.0022; the bound is five of them.
      expect(Math.abs(share - (1 - 1 / Math.E))).toBeLessThan(0.011);
    }
  });

  test('gives a member the same rows beside any number of others', () => {
    const few = bootstrapIndices(3, 2, 30).data;
    expect(bootstrapIndices(3, 5, 30).data.slice(0, 60)).toEqual(few);
  });

  test('refuses no rows, no members and more than a permutation holds', () => {
    expect(() => bootstrapIndices(1, 0, 5)).toThrow('members must be a positive integer, got 0');
    expect(() => bootstrapIndices(1, 2, 0, { count: 1 })).toThrow(NotEnoughRowsError);
    expect(() => bootstrapIndices(1, 2, 5, { count: 6, replacement: false })).toThrow(
      NotEnoughRowsError,
    );
  });
});

describe('BootstrapSampler', () => {
  test('draws a batch for each member from the stored rows', () => {
    const buffer = new ReplayBuffer({ capacity: 10, schema: { x: 'float32' } });
    buffer.addBatch({ x: Float32Array.of(0, 1, 2, 3, 4, 5) });
    const sampler = new BootstrapSampler(buffer, 3, { replacement: false });
    const { index, members } = sampler.sample(4, 1, { step: 2 });
    expect(members.shape).toEqual([3, 4]);
    expect(members.data).toBe(index);
    expect(buffer.get(index).x).toEqual(Float32Array.from(index));
    expect(sampler.sample(4, 1, { step: 3 }).index).not.toEqual(index);
    expect(() => sampler.sample(7, 1)).toThrow(NotEnoughRowsError);
    expect(() => new BootstrapSampler(buffer, 1.5)).toThrow(RangeError);
  });
});
