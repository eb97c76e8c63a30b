import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { philox4x32 } from '../../src/kernels/philox.js';
import { foldIn, key } from '../../src/sampling/key.js';
import { choice, gumbelTopK, permutation } from '../../src/sampling/permutation.js';
import { Draws, gumbel } from '../../src/sampling/replay-draws.js';
import { NotEnoughRowsError } from '../../src/sampling/sampler.js';
import { Stream } from '../../src/sampling/stream.js';

const RUNS = { numRuns: 1000, seed: 20 };
const seeds = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

describe('Stream', () => {
  test('gives no number twice', () => {
    const numbers = Object.values(Stream);
    expect(new Set(numbers).size).toBe(numbers.length);
  });
});

describe('foldIn', () => {
  test('is the first two words of the documented block', () => {
    const parent = key(0x123456789abcdefn);
    const words = philox4x32(
      Uint32Array.of(77, 0, 0, Stream.fold),
      Uint32Array.of(parent.k0, parent.k1),
    );
    expect(foldIn(parent, 77)).toEqual({ k0: words[0], k1: words[1] });
  });

  test('gives each number and each order of folding a key of its own', () => {
    const keys = new Set<string>();
    const name = ({ k0, k1 }: { k0: number; k1: number }) => `${k0},${k1}`;
    for (let a = 0; a < 30; a++) {
      keys.add(name(foldIn(1, a)));
      for (let b = 0; b < 30; b++) keys.add(name(foldIn(foldIn(1, a), b)));
    }
    expect(keys.size).toBe(930);
  });

  test('refuses what is no uint32', () => {
    for (const data of [-1, 0.5, 2 ** 32, Number.NaN]) {
      expect(() => foldIn(1, data)).toThrow(RangeError);
    }
    expect(() => foldIn(1, -1)).toThrow('foldIn: data must be an integer in 0..2^32-1, got -1');
  });
});

describe('Draws', () => {
  test('takes integers from the words of the documented block', () => {
    const { k0, k1 } = key(9);
    const out = new Int32Array(6);
    new Draws('test', 9, Stream.replay, 4).integers(1000, out, 2);
    const share = Math.floor(2 ** 32 / 1000);
    for (let i = 0; i < 6; i++) {
      const counter = Uint32Array.of(i >> 2, 4, 2 << 16, Stream.replay);
      const words = philox4x32(counter, Uint32Array.of(k0, k1));
      expect(out[i]).toBe(Math.floor(words[i & 3] / share));
    }
  });

  test('draws each integer equally often where many words must be drawn again', () => {
    // Two words a value leave a quarter of the 2^32 over; those are rejected.
    const bound = 3 * 2 ** 29;
    const out = new Int32Array(40_000);
    new Draws('test', 1, Stream.replay).integers(bound, out);
    const thirds = [0, 0, 0];
    for (const value of out) thirds[Math.floor(value / 2 ** 29)]++;
    // Standard deviation of a third: sqrt(40000 * 2 / 9) = 94; the bound is five of them.
    for (const count of thirds) expect(Math.abs(count - 40_000 / 3)).toBeLessThan(471);
    expect(Math.max(...out)).toBeLessThan(bound);
  });

  test('gives a longer draw the same beginning', () => {
    const long = new Int32Array(101);
    const short = new Int32Array(42);
    new Draws('test', 1, Stream.replay, 8).integers(3 * 2 ** 29, long);
    new Draws('test', 1, Stream.replay, 8).integers(3 * 2 ** 29, short);
    expect(short).toEqual(long.slice(0, 42));
  });

  test('never draws a uniform of 0 or 1, and gives them mean 1/2', () => {
    const out = new Float64Array(100_000);
    new Draws('test', 3, Stream.replay).uniforms(out);
    expect(out.every((u) => u > 0 && u < 1)).toBe(true);
    const mean = out.reduce((sum, u) => sum + u) / out.length;
    // Standard error sqrt(1 / 12 / 100000) = 0.0009; the bound is five of them.
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.0046);
  });
});

describe('gumbel', () => {
  test('is -ln(-ln u) to the last digits', () => {
    fc.assert(
      fc.property(fc.double({ min: 2 ** -53, max: 1 - 2 ** -53, noNaN: true }), (u) => {
        const exact = -Math.log(-Math.log(u));
        expect(Math.abs(gumbel(u) - exact)).toBeLessThanOrEqual(1e-14 * (1 + Math.abs(exact)));
      }),
      RUNS,
    );
  });
});

describe('permutation and choice', () => {
  test('hold every number once, and a choice begins a permutation', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 200 }), fc.nat(200), (seed, n, take) => {
        const order = permutation(seed, n);
        expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
        const k = Math.min(take, n);
        expect(choice(seed, n, k)).toEqual(order.slice(0, k));
        // Few of many are drawn by another road.
        const few = Math.max(Math.ceil(n / 8) - 1, 0);
        expect(choice(seed, n, few)).toEqual(order.slice(0, few));
      }),
      RUNS,
    );
  });

  test('find all orders of three equally often', () => {
    const counts = new Map<string, number>();
    const N = 60_000;
    for (let step = 0; step < N; step++) {
      const order = permutation(5, 3, { step }).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    const expected = N / 6;
    let chiSquared = 0;
    for (const count of counts.values()) chiSquared += (count - expected) ** 2 / expected;
    expect(counts.size).toBe(6);
    // python -c "from scipy.stats import chi2; print(chi2.ppf(1 - 1e-6, 5))" -> 35.9
    expect(chiSquared).toBeLessThan(35.9);
  });

  test('refuse counts out of range and more than there is', () => {
    expect(() => permutation(1, -1)).toThrow(RangeError);
    expect(() => choice(1, 3, 1.5)).toThrow(RangeError);
    expect(() => choice(1, 3, 4)).toThrow(NotEnoughRowsError);
    expect(() => choice(1, 3, 4)).toThrow(
      'choice: k must be at most the number of candidates, got 4 of 3; take fewer',
    );
    expect(() => permutation(1, 3, { step: -1 })).toThrow(RangeError);
  });
});

describe('gumbelTopK', () => {
  test('gives different places, never one of -Infinity, and the first j are the choice of j', () => {
    const logits = fc.array(
      fc.oneof(fc.double({ min: -1e3, max: 1e3, noNaN: true }), fc.constant(-Infinity)),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(seeds, logits, fc.nat(60), (seed, list, take) => {
        const k = Math.min(take, list.filter((x) => x > -Infinity).length);
        const chosen = gumbelTopK(seed, list, k);
        expect(new Set(chosen).size).toBe(k);
        for (const place of chosen) expect(list[place]).toBeGreaterThan(-Infinity);
        const j = k >> 1;
        expect(gumbelTopK(seed, list, j)).toEqual(chosen.slice(0, j));
      }),
      RUNS,
    );
  });

  test('draws in turn with the chances of those that are left', () => {
    const p = [0.5, 0.3, 0.2];
    const counts = new Map<string, number>();
    const N = 40_000;
    for (let step = 0; step < N; step++) {
      const pair = gumbelTopK(3, p.map(Math.log), 2, { step }).join();
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
    for (const a of [0, 1, 2]) {
      for (const b of [0, 1, 2]) {
        if (a === b) continue;
        const chance = (p[a] * p[b]) / (1 - p[a]);
        const deviation = Math.sqrt(N * chance * (1 - chance));
        expect(Math.abs((counts.get(`${a},${b}`) ?? 0) - N * chance)).toBeLessThan(5 * deviation);
      }
    }
  });

  test('needs no exponentials: logits of any size work', () => {
    expect([...gumbelTopK(1, [-1e300, 1e300, 0], 3)]).toEqual([1, 2, 0]);
    // Where the noise is lost in rounding, equal logits come by place.
    expect([...gumbelTopK(1, [1e300, 0, 1e300, 1e300], 3)]).toEqual([0, 2, 3]);
  });

  test('refuses logits that are no log-chances, and more than are finite', () => {
    expect(() => gumbelTopK(1, [0, Number.NaN], 1)).toThrow(
      'gumbelTopK: each logit must be finite or -Infinity, got NaN at 1',
    );
    expect(() => gumbelTopK(1, [Infinity], 1)).toThrow(RangeError);
    expect(() => gumbelTopK(1, [0, -Infinity], 2)).toThrow(NotEnoughRowsError);
  });
});
