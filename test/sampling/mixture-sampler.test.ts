import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gatherMixture, MixtureSampler } from '../../src/sampling/mixture-sampler.js';
import { PrioritizedSampler } from '../../src/sampling/prioritized-sampler.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';
import { UniformSampler } from '../../src/sampling/uniform-sampler.js';

const schema = { source: 'int32' } as const;

function bufferOf(rows: number, source: number) {
  const buffer = new ReplayBuffer({ capacity: 1000, schema });
  buffer.addBatch({ source: new Int32Array(rows).fill(source) });
  return buffer;
}

/** Uniform sources of the given sizes; all but the last have a ratio. */
function mixtureOf(sizes: readonly number[], ratios: readonly number[], options = {}) {
  const buffers = sizes.map(bufferOf);
  const sources = buffers.map((buffer, k) => ({
    sampler: new UniformSampler(buffer),
    ratio: ratios[k],
  }));
  return { buffers, sampler: new MixtureSampler(sources, options) };
}

describe('MixtureSampler', () => {
  test('takes 12 real rows of 256 for a ratio of 0.05', () => {
    expect([...mixtureOf([50, 50], [0.05]).sampler.sample(256, 1).counts]).toEqual([12, 244]);
  });

  test('takes exactly floor(n ratio) rows of each source and the rest of the last', () => {
    fc.assert(
      fc.property(
        fc.nat(600),
        fc.double({ min: 0, max: 0.5, noNaN: true }),
        fc.double({ min: 0, max: 0.5, noNaN: true }),
        fc.nat(),
        (n, a, b, seed) => {
          const { buffers, sampler } = mixtureOf([9, 20, 30], [a, b]);
          const sample = sampler.sample(n, seed);
          const counts = [Math.floor(n * a), Math.floor(n * b)];
          counts.push(n - counts[0] - counts[1]);
          expect([...sample.counts]).toEqual(counts);
          const out = gatherMixture(buffers, sample, { source: new Int32Array(n) });
          expect([...out.source]).toEqual([...sample.source]);
          const found = [0, 1, 2].map((k) => sample.source.filter((s) => s === k).length);
          expect(found).toEqual(counts);
          expect(sample.weight).toBeUndefined();
        },
      ),
      { numRuns: 1000, seed: 30 },
    );
  });

  test('gives the share of an empty source to the first that has rows', () => {
    const counts = (sizes: number[], ratios: number[]) => [
      ...mixtureOf(sizes, ratios).sampler.sample(100, 1).counts,
    ];
    expect(counts([10, 0], [0.05])).toEqual([100, 0]);
    expect(counts([0, 10], [0.05])).toEqual([0, 100]);
    expect(counts([10, 0, 10], [0.25, 0.5])).toEqual([75, 0, 25]);
    expect(counts([0, 10, 0], [0.25, 0.5])).toEqual([0, 100, 0]);
  });

  test('chooses one source a batch with the ratios as chances under bernoulli', () => {
    const { sampler } = mixtureOf([10, 10, 10], [0.2, 0.3], { rule: 'bernoulli' });
    const chosen = [0, 0, 0];
    const N = 20_000;
    for (let step = 0; step < N; step++) {
      const { counts } = sampler.sample(2, 1, { step });
      expect(Math.max(...counts)).toBe(2);
      chosen[counts.indexOf(2)]++;
    }
    for (const [k, p] of [0.2, 0.3, 0.5].entries()) {
      expect(Math.abs(chosen[k] - N * p)).toBeLessThan(5 * Math.sqrt(N * p * (1 - p)));
    }
    const alone = mixtureOf([10, 0], [0.05], { rule: 'bernoulli' }).sampler;
    for (let step = 0; step < 100; step++) {
      expect([...alone.sample(3, 1, { step }).counts]).toEqual([3, 0]);
    }
  });

  test('reweighs rows as if drawn uniformly from all sources together', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 400 }),
        fc.integer({ min: 1, max: 400 }),
        fc.integer({ min: 1, max: 9 }),
        (a, b, tenths) => {
          const { sampler } = mixtureOf([a, b], [tenths / 10], { reweigh: true });
          const { weight = new Float32Array(), source, counts } = sampler.sample(200, 1);
          const mass = [0, 0];
          weight.forEach((w, i) => {
            mass[source[i]] += w;
          });
          expect(counts[0]).toBeGreaterThan(0);
          expect(mass).toBeAllclose([(200 * a) / (a + b), (200 * b) / (a + b)], { rtol: 1e-5 });
        },
      ),
      { numRuns: 1000, seed: 31 },
    );
    const { sampler } = mixtureOf([100, 300], [0.5], { reweigh: true, rule: 'bernoulli' });
    const { weight, counts } = sampler.sample(3, 1);
    expect([...(weight ?? [])]).toEqual(new Array(3).fill(counts[0] > 0 ? 0.5 : 1.5));
  });

  test('carries the weights of its sources and hands them their priorities', () => {
    const buffers = [bufferOf(4, 0), bufferOf(4, 1)];
    const prioritized = new PrioritizedSampler(buffers[1], { alpha: 1, beta: 1, epsilon: 0 });
    prioritized.update({ index: Int32Array.of(0, 1, 2, 3), priority: [1, 2, 4, 8] });
    const sampler = new MixtureSampler([
      { sampler: new UniformSampler(buffers[0]), ratio: 0.5 },
      { sampler: prioritized },
    ]);
    const sample = sampler.sample(8, 1);
    const { weight = new Float32Array() } = sample;
    expect([...weight.subarray(0, 4)]).toEqual([1, 1, 1, 1]);
    for (let i = 4; i < 8; i++) expect(weight[i]).toBe(2 ** -sample.index[i]);
    sampler.update({ ...sample, priority: Float32Array.of(9, 9, 9, 9, 0, 0, 0, 0) });
    const left = [...prioritized.snapshot().prioritizedWeight];
    for (let slot = 0; slot < 4; slot++) {
      const drawn = sample.index.subarray(4).includes(slot);
      expect(left[slot]).toBe(drawn ? 0 : 2 ** slot);
    }
    buffers[1].add({ source: 1 });
    expect(() => sampler.sample(8, 1)).toThrow('call update()');
    sampler.update();
    expect(sampler.sample(8, 1).index).toHaveLength(8);
  });

  test('draws apart in sources of one kind and size', () => {
    const { index } = mixtureOf([500, 500], [0.5]).sampler.sample(64, 1);
    expect(index.slice(0, 32)).not.toEqual(index.slice(32));
  });

  test('refuses ratios that are none, empty sources and feedback that does not fit', () => {
    const sampler = new UniformSampler(bufferOf(5, 0));
    expect(() => new MixtureSampler([])).toThrow('there must be 1 to 256 sources, got 0');
    expect(() => new MixtureSampler([{ sampler }, { sampler }])).toThrow(TypeError);
    expect(() => new MixtureSampler([{ sampler, ratio: 0.5 }])).toThrow(
      'the last source takes the rest and must have no ratio, got 0.5',
    );
    for (const ratio of [-0.1, 1.1, Number.NaN]) {
      expect(() => new MixtureSampler([{ sampler, ratio }, { sampler }])).toThrow(RangeError);
    }
    const heavy = { sampler, ratio: 0.6 };
    expect(() => new MixtureSampler([heavy, heavy, { sampler }])).toThrow('at most 1, got 1.2');
    expect(() => new MixtureSampler([{ sampler }], { rule: 'fair' as 'floor' })).toThrow(
      RangeError,
    );
    expect(() => mixtureOf([0, 0], [0.5]).sampler.sample(1, 1)).toThrow(NotEnoughRowsError);
    const mixture = new MixtureSampler([{ sampler }]);
    const { parts } = mixture.sample(3, 1);
    expect(() => mixture.update({ parts, priority: new Float32Array(2) })).toThrow(RangeError);
    expect(() => mixture.update({ parts: [] })).toThrow(RangeError);
    expect(() => gatherMixture([], mixture.sample(3, 1), {})).toThrow(RangeError);
  });
});
