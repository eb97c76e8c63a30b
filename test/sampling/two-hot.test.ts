import fc from 'fast-check';
import { SymexpTwoHot, SymlogDisc } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { nd, ShapeError, zeros } from '../../src/nd.js';

const runs = { numRuns: 1000, seed: 6 };

/** The bins of a row that hold weight. */
function weights(codec: SymexpTwoHot | SymlogDisc, value: number): Record<number, number> {
  const { data } = codec.encode([value]);
  return Object.fromEntries([...data.entries()].filter(([, weight]) => weight !== 0));
}

/** Bins and weights as the golden vectors give them: to six digits. */
function rounded(codec: SymexpTwoHot | SymlogDisc, value: number): Record<number, string> {
  const entries = Object.entries(weights(codec, value));
  return Object.fromEntries(entries.map(([bin, weight]) => [bin, weight.toFixed(6)]));
}

describe('SymexpTwoHot', () => {
  const codec = new SymexpTwoHot();

  // x = np.linspace(-20, 20, 255); b = np.sign(x) * np.expm1(abs(x)); b[126:129], b[254]
  test('spaces bins at symexp of equal steps: b[126..128] = -+0.170558, 0; b[254] = 485165194.41', () => {
    expect(codec.size).toBe(255);
    expect(codec.bins[126]).toBeCloseTo(-0.170558, 6);
    expect(codec.bins[127]).toBe(0);
    expect(codec.bins[128]).toBeCloseTo(0.170558, 6);
    expect(codec.bins[254]).toBeCloseTo(485165194.41, 2);
    for (let i = 0; i < 255; i++) expect(codec.bins[254 - i] + codec.bins[i]).toBe(0);
  });

  // i = np.searchsorted(b, v, 'right') - 1; upper = (v - b[i]) / (b[i + 1] - b[i])
  test('shares a value by its distance in raw units', () => {
    // two-hot(10): idx 142/143, 0.786963/0.213037
    expect(rounded(codec, 10)).toEqual({ 142: '0.786963', 143: '0.213037' });
    // two-hot(-1): 122/123, 0.382671/0.617329
    expect(rounded(codec, -1)).toEqual({ 122: '0.382671', 123: '0.617329' });
  });

  test('predicts the plain mean of its bins', () => {
    const evenly = new SymexpTwoHot({ low: 0, high: Math.log1p(100), size: 2 });
    expect(evenly.bins[1]).toBeCloseTo(100, 12);
    // "A 50/50 belief over {0, 100} decodes to 50.0."
    expect(evenly.decodeProbs(nd([[0.5, 0.5]]))[0]).toBeCloseTo(50, 5);
    expect(evenly.decode(nd([[3, 3]]))[0]).toBeCloseTo(50, 5);
  });

  test('predicts exactly 0 for equal logits, with an odd and an even number of bins', () => {
    for (const size of [2, 3, 41, 254, 255, 256]) {
      const other = new SymexpTwoHot({ size });
      for (const logit of [0, -3.7, 1e4]) {
        const logits = nd(new Float32Array(size).fill(logit), [1, size]);
        expect(other.decode(logits)[0]).toBe(0);
      }
    }
  });
});

describe('SymlogDisc', () => {
  const codec = new SymlogDisc();
  const tdmpc2 = new SymlogDisc({ low: -10, high: 10, size: 101 });

  test('spaces bins at equal steps of symlog', () => {
    expect(codec.size).toBe(255);
    expect(codec.bins[0]).toBe(-20);
    expect(codec.bins[127]).toBe(0);
    expect(codec.bins[254]).toBe(20);
    expect(tdmpc2.bins[51]).toBeCloseTo(0.2, 15);
  });

  // s = np.sign(v) * np.log1p(abs(v)); i = np.searchsorted(x, s, 'right') - 1;
  // upper = (s - x[i]) / (x[i + 1] - x[i])
  test('shares a value by its distance in symlog units', () => {
    // two-hot(10): same idx, 0.773365/0.226635
    expect(rounded(codec, 10)).toEqual({ 142: '0.773365', 143: '0.226635' });
    // two-hot(-1): 0.401485/0.598515
    expect(rounded(codec, -1)).toEqual({ 122: '0.401485', 123: '0.598515' });
    // TD-MPC2 two-hot(1): idx 53, upper weight 0.465736
    expect(rounded(tdmpc2, 1)).toEqual({ 53: '0.534264', 54: '0.465736' });
    // TD-MPC2 two-hot(-5): 41, 0.041203
    expect(rounded(tdmpc2, -5)).toEqual({ 41: '0.958797', 42: '0.041203' });
  });

  test('predicts symexp of the mean of its bins', () => {
    const evenly = new SymlogDisc({ low: 0, high: Math.log1p(100), size: 2 });
    // "A 50/50 belief over {0, 100} decodes to 9.05": math.sqrt(101) - 1 == 9.04987562112089
    expect(evenly.decodeProbs(nd([[0.5, 0.5]]))[0]).toBeCloseTo(9.04987562112089, 5);
    expect(evenly.decode(nd([[-1, -1]]))[0]).toBeCloseTo(9.04987562112089, 5);
  });

  test('predicts exactly 0 for equal logits', () => {
    expect(codec.decode(zeros([1, 255]))[0]).toBe(0);
    expect(tdmpc2.decode(nd(new Float32Array(101).fill(2.3), [1, 101]))[0]).toBe(0);
  });
});

describe.each([
  ['SymexpTwoHot', SymexpTwoHot],
  ['SymlogDisc', SymlogDisc],
])('%s', (name, Codec) => {
  test('decodes what it encoded', () => {
    const codec = new Codec();
    fc.assert(
      fc.property(fc.double({ min: -1e8, max: 1e8, noNaN: true }), (value) => {
        const [back] = codec.decodeProbs(codec.encode([value]));
        // Weights are float32, and neighbouring bins differ by 17 %, in symlog by 0.16 of up to 20.
        expect([back]).toBeAllclose([value], { rtol: 2e-6, atol: 1e-7 });
      }),
      runs,
    );
  });

  test('spreads each value over at most two neighbouring bins that sum to 1', () => {
    const codec = new Codec({ low: -3, high: 5, size: 12 });
    fc.assert(
      fc.property(fc.double({ min: -30, max: 200, noNaN: true }), (value) => {
        const held = weights(codec, value);
        const bins = Object.keys(held).map(Number);
        expect(bins.length).toBeLessThanOrEqual(2);
        expect(bins[bins.length - 1] - bins[0]).toBeLessThanOrEqual(1);
        const sum = Object.values(held).reduce((total, weight) => total + weight, 0);
        expect(Math.abs(sum - 1)).toBeLessThan(1e-7);
      }),
      runs,
    );
  });

  test('decodes logits as it decodes their softmax', () => {
    const codec = new Codec({ low: -2, high: 2, size: 5 });
    const logits = Float32Array.of(0.5, -1, 2, 0, 0.25);
    const e = logits.map(Math.exp);
    const sum = e.reduce((total, x) => total + x, 0);
    const [direct] = codec.decode(nd(logits, [1, 5]));
    const probs = nd(
      e.map((x) => x / sum),
      [1, 5],
    );
    expect([direct]).toBeAllclose(codec.decodeProbs(probs), { rtol: 1e-6, atol: 1e-7 });
    // Far from 0 the softmax is the same.
    const shifted = nd(
      logits.map((x) => x + 1024),
      [1, 5],
    );
    expect(codec.decode(shifted)[0]).toBe(direct);
  });

  test('counts what lies beyond the bins, infinities too, as the last one', () => {
    const codec = new Codec({ low: -1, high: 1, size: 5 });
    for (const value of [-1e9, Number.NEGATIVE_INFINITY, -Math.expm1(1)]) {
      expect(weights(codec, value)).toEqual({ 0: 1 });
    }
    for (const value of [1e9, Number.POSITIVE_INFINITY, Math.expm1(1)]) {
      expect(weights(codec, value)).toEqual({ 4: 1 });
    }
  });

  test('puts a value at a bin on that bin alone', () => {
    const codec = new Codec();
    expect(weights(codec, 0)).toEqual({ 127: 1 });
  });

  test('works row by row: NaN stays in its row', () => {
    const codec = new Codec({ size: 3 });
    const { data, shape } = codec.encode([0, Number.NaN, 0]);
    expect(shape).toEqual([3, 3]);
    expect([...data]).toEqual([0, 1, 0, Number.NaN, Number.NaN, Number.NaN, 0, 1, 0]);
    const logits = nd([
      [0, 0, 0],
      [0, Number.NaN, 0],
      [-99, 99, -99],
    ]);
    expect([...codec.decode(logits)]).toEqual([0, Number.NaN, 0]);
    expect([...codec.decodeProbs(nd(data, shape))]).toEqual([0, Number.NaN, 0]);
    expect(codec.decode(zeros([0, 3])).length).toBe(0);
  });

  test('refuses bins and logits that are none', () => {
    expect(() => new Codec({ low: 1, high: 1 })).toThrow(
      `${name}: low < high must hold, got 1 and 1`,
    );
    expect(() => new Codec({ low: Number.NaN })).toThrow(RangeError);
    expect(() => new Codec({ high: Number.POSITIVE_INFINITY })).toThrow(RangeError);
    expect(() => new Codec({ size: 1 })).toThrow(
      `${name}: size must be an integer of 2 or more, got 1`,
    );
    const codec = new Codec();
    expect(() => codec.decode(zeros([2, 101]))).toThrow(ShapeError);
    expect(() => codec.decode(zeros([2, 101]))).toThrow(
      `${name}: logits must have shape [B, 255], got [2,101]`,
    );
    expect(() => codec.decodeProbs(new Float32Array(255) as never)).toThrow(TypeError);
  });
});
