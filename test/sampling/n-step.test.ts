import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NStepSampler, nStepTargets } from '../../src/sampling/n-step.js';
import { PrioritizedSampler } from '../../src/sampling/prioritized-sampler.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';

const schema = { reward: 'float32', terminated: 'uint8', truncated: 'uint8' } as const;

function bufferOf(reward: number[], ends: Record<number, 'terminated' | 'truncated'> = {}) {
  const flags = (kind: string) => Uint8Array.from(reward, (_, i) => (ends[i] === kind ? 1 : 0));
  const buffer = new ReplayBuffer({ capacity: 20, schema });
  buffer.addBatch({
    reward: Float32Array.from(reward),
    terminated: flags('terminated'),
    truncated: flags('truncated'),
  });
  return buffer;
}

describe('nStepTargets', () => {
  test('sums discounted rewards and gives the factor of the bootstrap', () => {
    const { reward, discount, last, length } = nStepTargets(
      bufferOf([1, 2, 3, 9]),
      Int32Array.of(0),
      {
        n: 3,
        gamma: 0.99,
      },
    );
    // python -c "print(1 + .99 * 2 + .99**2 * 3, .99**3)" -> 5.9203 0.970299
    expect(reward).toBeBitEqual(Float32Array.of(5.9203));
    expect(discount).toBeBitEqual(Float32Array.of(0.970299));
    expect([last[0], length[0]]).toEqual([2, 3]);
  });

  test('does not bootstrap from a terminated row, but from a truncated one', () => {
    for (const [kind, factor] of [
      ['terminated', 0],
      ['truncated', 0.25],
    ] as const) {
      const buffer = bufferOf([1, 2, 4, 8], { 1: kind });
      const targets = nStepTargets(buffer, Int32Array.of(0), { n: 3, gamma: 0.5 });
      expect([targets.reward[0], targets.discount[0], targets.last[0]]).toEqual([2, factor, 1]);
    }
  });

  test('bootstraps where endEpisode or the newest row cuts the sum short', () => {
    const buffer = bufferOf([1, 2]);
    const options = { n: 5, gamma: 0.5 };
    expect(nStepTargets(buffer, Int32Array.of(0), options).discount[0]).toBe(0.25);
    buffer.endEpisode();
    buffer.add({ reward: 100, terminated: 0, truncated: 0 });
    const { reward, discount } = nStepTargets(buffer, Int32Array.of(0), options);
    expect([reward[0], discount[0]]).toEqual([2, 0.25]);
  });

  test('equals a walk along the episode, around the end of the ring too', () => {
    const row = fc.record({ reward: fc.integer({ min: -9, max: 9 }), end: fc.nat(6) });
    fc.assert(
      fc.property(
        fc.array(row, { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 6 }),
        fc.constantFrom(0, 0.5, 1),
        (rows, n, gamma) => {
          const buffer = new ReplayBuffer({ capacity: 13, schema });
          for (const { reward, end } of rows) {
            buffer.add({ reward, terminated: end === 0 ? 1 : 0, truncated: end === 1 ? 1 : 0 });
          }
          const index = Int32Array.from({ length: buffer.size }, (_, slot) => slot);
          const targets = nStepTargets(buffer, index, { n, gamma });
          for (let number = rows.length - buffer.size; number < rows.length; number++) {
            let sum = 0;
            let m = 0;
            let bootstrap = 1;
            for (let at = number; m < n && at < rows.length; at++) {
              sum += gamma ** m * rows[at].reward;
              m++;
              if (rows[at].end === 0) bootstrap = 0;
              if (rows[at].end < 2) break;
            }
            const slot = number % 13;
            expect(targets.reward[slot]).toBe(sum);
            expect(targets.length[slot]).toBe(m);
            expect(targets.discount[slot]).toBe(bootstrap * gamma ** m);
            expect(targets.last[slot]).toBe((number + m - 1) % 13);
          }
        },
      ),
      { numRuns: 1000, seed: 22 },
    );
  });

  test('refuses options out of range and buffers without the fields', () => {
    const buffer = bufferOf([1]);
    const index = Int32Array.of(0);
    expect(() => nStepTargets(buffer, index, { n: 0, gamma: 1 })).toThrow(
      'nStepTargets: n must be a positive integer, got 0',
    );
    expect(() => nStepTargets(buffer, index, { n: 1, gamma: Number.NaN })).toThrow(RangeError);
    expect(() => nStepTargets(buffer, Int32Array.of(1), { n: 1, gamma: 1 })).toThrow(RangeError);
    expect(() => nStepTargets(buffer, index, { n: 1, gamma: 1, reward: 'return' })).toThrow(
      'nStepTargets: the schema must have a field return of one number a row, got none',
    );
    const bare = new ReplayBuffer({ capacity: 3, schema: { reward: 'float32' } });
    bare.add({ reward: 1 });
    expect(() => nStepTargets(bare, index, { n: 1, gamma: 1 })).toThrow(TypeError);
  });
});

describe('NStepSampler', () => {
  test('adds targets to the batch of another sampler and hands on what was learned', () => {
    const buffer = bufferOf([1, 2, 4, 8], { 1: 'terminated' });
    const inner = new PrioritizedSampler(buffer, { epsilon: 0, alpha: 1 });
    const options = { n: 2, gamma: 0.5 };
    const sampler = new NStepSampler(inner, buffer, options);
    const sample = sampler.sample(16, 3);
    expect(sampler.size).toBe(4);
    expect(sample.index).toEqual(inner.sample(16, 3).index);
    expect(sample.reward).toEqual(nStepTargets(buffer, sample.index, options).reward);
    sampler.update({ index: Int32Array.of(0, 1, 2), priority: [0, 0, 0] });
    expect(new Set(sampler.sample(16, 3).index)).toEqual(new Set([3]));
  });
});
