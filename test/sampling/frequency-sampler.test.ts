import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ShapeError } from '../../src/nd.js';
import {
  dynamicFrequencyProbabilities,
  FrequencySampler,
} from '../../src/sampling/frequency-sampler.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';

describe('dynamicFrequencyProbabilities', () => {
  // v = np.array([0, 3, 20, 5.]); b = np.array([0, 640, 128, 576]); t = b / 64
  const v = [0, 3, 20, 5];
  const b = [0, 640, 128, 576];

  test('favours what the model saw least', () => {
    // s = -v / 10; e = np.exp(s - s.max()); print((e / e.sum()).tolist())
    expect(dynamicFrequencyProbabilities(v, b, { purpose: 'model' })).toBeAllclose(
      [0.4027898573040739, 0.2983940653966471, 0.05451167942308166, 0.24430439787619743],
      { rtol: 1e-13 },
    );
  });

  test('penalises starts imagined more than they were trained', () => {
    // s = v - t - np.maximum(0, v - t); e = np.exp((s - s.max()) / 10); print((e / e.sum()).tolist())
    expect(dynamicFrequencyProbabilities(v, b, { purpose: 'imagination' })).toBeAllclose(
      [0.31576567327931415, 0.15680459279230718, 0.31576567327931415, 0.2116640606490645],
      { rtol: 1e-13 },
    );
    // s = v - .5 * t; e = np.exp((s - s.max()) / 20); print((e / e.sum()).tolist())
    const options = { purpose: 'imagination', alpha: 0.5, beta: 0, tau: 20 } as const;
    expect(dynamicFrequencyProbabilities(v, b, options)).toBeAllclose(
      [0.18129531959392112, 0.16404278888336768, 0.46877705906275524, 0.18588483245995607],
      { rtol: 1e-13 },
    );
  });

  test('is a distribution for any counts, however high', () => {
    const counts = fc.array(fc.tuple(fc.nat(1e9), fc.nat(1e9)), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(
        counts,
        fc.constantFrom('model' as const, 'imagination' as const),
        (pairs, purpose) => {
          const p = dynamicFrequencyProbabilities(
            Int32Array.from(pairs, ([x]) => x),
            Int32Array.from(pairs, ([, y]) => y),
            { purpose },
          );
          expect(p).toBeInstanceOf(Float64Array);
          expect(p.every((x) => x >= 0 && x <= 1)).toBe(true);
          expect(Math.abs(p.reduce((sum, x) => sum + x) - 1)).toBeLessThan(1e-12);
        },
      ),
      { numRuns: 1000, seed: 32 },
    );
    // Where v / tau passes 745 all exponentials vanish unless the largest is taken out.
    const high = dynamicFrequencyProbabilities([1e6, 1e6], [0, 0], { purpose: 'model' });
    expect([...high]).toEqual([0.5, 0.5]);
  });

  test('is uniform for imagination over all that was imagined no more than trained', () => {
    const p = dynamicFrequencyProbabilities([1, 7, 100], [64, 0, 6400], { purpose: 'imagination' });
    expect(p).toBeAllclose([1 / 3, 1 / 3, 1 / 3], { rtol: 1e-15 });
  });

  test('gives nothing for no starts', () => {
    expect(dynamicFrequencyProbabilities([], [], { purpose: 'model' })).toEqual(
      new Float64Array(0),
    );
  });

  test('refuses counts and constants that are none', () => {
    const purpose = 'model' as const;
    expect(() => dynamicFrequencyProbabilities([1], [], { purpose })).toThrow(ShapeError);
    expect(() => dynamicFrequencyProbabilities([-1], [0], { purpose })).toThrow(
      'modelCounts must be finite and not negative, got -1 at 0',
    );
    expect(() => dynamicFrequencyProbabilities([0], [Number.NaN], { purpose })).toThrow(RangeError);
    for (const bad of [{ tau: 0 }, { ratio: -1 }, { alpha: Number.NaN }, { beta: Infinity }]) {
      expect(() => dynamicFrequencyProbabilities([0], [0], { purpose, ...bad })).toThrow(
        RangeError,
      );
    }
    expect(() => dynamicFrequencyProbabilities([0], [0], { purpose: 'both' as 'model' })).toThrow(
      "purpose must be 'model' or 'imagination', got both",
    );
  });
});

describe('FrequencySampler', () => {
  const schema = { x: 'float32', truncated: 'uint8' } as const;
  const lengths = { modelLength: 3, imaginationLength: 2 };

  function bufferOf(rows: number, capacity = 12) {
    const buffer = new ReplayBuffer({ capacity, schema });
    add(buffer, rows);
    return buffer;
  }
  function add(buffer: ReplayBuffer<typeof schema>, rows: number) {
    buffer.addBatch({ x: new Float32Array(rows), truncated: new Uint8Array(rows) });
  }

  test('draws different starts whose windows fit, longer ones for the model', () => {
    const buffer = bufferOf(10);
    const sampler = new FrequencySampler(buffer, lengths);
    const model = sampler.sample(8, 1, { purpose: 'model' }).index;
    expect([...model].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(sampler.size).toBe(8);
    const imagination = sampler.sample(9, 1, { purpose: 'imagination' }).index;
    expect(new Set(imagination).size).toBe(9);
    expect(() => sampler.sample(9, 1, { purpose: 'model' })).toThrow(NotEnoughRowsError);
    expect(() => sampler.sample(9, 1, { purpose: 'model' })).toThrow('got 9 of 8; draw fewer');
  });

  test('keeps away from episode ends and the write head unless asked', () => {
    const buffer = new ReplayBuffer({ capacity: 8, schema });
    buffer.addBatch({
      x: new Float32Array(10),
      truncated: Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 0, 0),
    });
    // Rows 2..4 and 5..9 are stored; row 9 lies in slot 1.
    const starts = (options: object) => {
      const sampler = new FrequencySampler(buffer, { ...lengths, ...options });
      return [...sampler.sample(sampler.size, 1, { purpose: 'model' }).index].sort((a, b) => a - b);
    };
    expect(starts({})).toEqual([2, 5, 6, 7]);
    expect(starts({ cross: 'episodes' })).toEqual([2, 3, 4, 5, 6, 7]);
  });

  test('draws with the chances of its counters', () => {
    const sampler = new FrequencySampler(bufferOf(5), lengths);
    const used = { index: Int32Array.of(...new Array(20).fill(0), ...new Array(7).fill(1)) };
    sampler.update({ ...used, purpose: 'model' });
    const p = dynamicFrequencyProbabilities([20, 7, 0], [0, 0, 0], { purpose: 'model' });
    const N = 30_000;
    const counts = [0, 0, 0];
    for (let step = 0; step < N; step++) {
      counts[sampler.sample(1, 5, { purpose: 'model', step }).index[0]]++;
    }
    for (const [i, count] of counts.entries()) {
      expect(Math.abs(count - N * p[i])).toBeLessThan(5 * Math.sqrt(N * p[i] * (1 - p[i])));
    }
  });

  test('counts in update alone, each purpose for itself', () => {
    const sampler = new FrequencySampler(bufferOf(6), lengths);
    const before = sampler.snapshot();
    const sample = sampler.sample(2, 1, { purpose: 'imagination' });
    expect(sampler.snapshot()).toEqual(before);
    sampler.update(sample);
    const { modelCounts, imaginationCounts } = sampler.snapshot();
    expect([...modelCounts]).toEqual([0, 0, 0, 0, 0, 0]);
    for (let slot = 0; slot < 6; slot++) {
      expect(imaginationCounts[slot]).toBe(sample.index.includes(slot) ? 1 : 0);
    }
  });

  test('begins at 0 again in overwritten slots, before update is called too', () => {
    const buffer = bufferOf(4, 4);
    const options = { modelLength: 1, imaginationLength: 1, tau: 0.01 };
    const sampler = new FrequencySampler(buffer, options);
    sampler.update({ index: Int32Array.of(0, 1, 2, 3), purpose: 'model' });
    const stale = sampler.sample(4, 1, { purpose: 'model' });
    add(buffer, 2);
    // At this temperature a start with one use less is all but certain.
    const fresh = sampler.sample(2, 1, { purpose: 'model' }).index;
    expect([...fresh].sort()).toEqual([0, 1]);
    sampler.update(stale);
    expect([...sampler.snapshot().modelCounts]).toEqual([0, 0, 2, 2]);
    add(buffer, 9);
    sampler.update();
    expect([...sampler.snapshot().modelCounts]).toEqual([0, 0, 0, 0]);
  });

  test('restores a snapshot to a sampler that behaves the same ever after', () => {
    const steps = fc.array(fc.tuple(fc.nat(9), fc.boolean(), fc.nat(3)), { maxLength: 8 });
    const apply = (
      buffer: ReplayBuffer<typeof schema>,
      sampler: FrequencySampler,
      list: [number, boolean, number][],
    ) => {
      for (const [rows, model, n] of list) {
        add(buffer, rows);
        sampler.update(sampler.sample(n, rows, { purpose: model ? 'model' : 'imagination' }));
      }
    };
    fc.assert(
      fc.property(steps, steps, (before, after) => {
        const buffer = bufferOf(6);
        const sampler = new FrequencySampler(buffer, lengths);
        apply(buffer, sampler, before);
        const twinBuffer = ReplayBuffer.restore(buffer.snapshot(), schema);
        const snapshot = structuredClone(sampler.snapshot());
        const twin = FrequencySampler.restore(twinBuffer, lengths, snapshot);
        apply(buffer, sampler, after);
        apply(twinBuffer, twin, after);
        expect(twin.snapshot()).toEqual(sampler.snapshot());
      }),
      { numRuns: 1000, seed: 33 },
    );
  });

  test('refuses windows that never fit, unknown purposes and slots without rows', () => {
    const buffer = bufferOf(2);
    const sampler = new FrequencySampler(buffer, lengths);
    expect(() => sampler.sample(1, 1, { purpose: 'model' })).toThrow(
      'a window of 3 rows must fit, got at most 2 consecutive rows',
    );
    expect(() => sampler.sample(1, 1, {} as never)).toThrow(TypeError);
    expect(() => sampler.sample(1, 1, undefined as never)).toThrow(
      "purpose must be 'model' or 'imagination', got undefined",
    );
    expect(() => new FrequencySampler(buffer, { ...lengths, modelLength: 13 })).toThrow(RangeError);
    expect(() => new FrequencySampler(buffer, { ...lengths, imaginationTau: 0 })).toThrow(
      RangeError,
    );
    const before = sampler.snapshot();
    const bad = { index: Int32Array.of(0, 2), purpose: 'model' as const };
    expect(() => sampler.update(bad)).toThrow(
      'index must lie in the 2 slots that hold rows, got 2',
    );
    expect(sampler.snapshot()).toEqual(before);
    const snapshot = { ...before, modelCounts: Int32Array.of(0, -1) };
    expect(() => FrequencySampler.restore(buffer, lengths, snapshot)).toThrow(RangeError);
    const floats = { ...before, modelCounts: new Float32Array(2) as never };
    expect(() => FrequencySampler.restore(buffer, lengths, floats)).toThrow(TypeError);
  });
});
