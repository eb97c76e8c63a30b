import { nd, ShapeError } from 'umwelt';
import { ReturnNormalizer } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { flags, strided } from './return-cases.js';

const batches = [
  [0, 1, 5, 20, 3],
  [2, -40, 7, 9, 30],
  [0.1, 0.2, 0.3, 0.25, 0.15],
];
const float64 = { rtol: 1e-7 };

describe('ReturnNormalizer', () => {
  // x = 1000 * np.array([[0, 1, 5, 20, 3], [2, -40, 7, 9, 30], [.1, .2, .3, .25, .15]]); lo = hi = c = 0.
  // for b in x:
  //   p = np.percentile(b, [5, 95]); lo = .99 * lo + .01 * p[0]; hi = .99 * hi + .01 * p[1]
  //   c = .99 * c + .01; print([lo, hi, max(1, hi - lo), lo / c, (hi - lo) / c])
  const dreamer = [
    [2.0, 170.0, 168.0, 200.0, 16800.0],
    [-314.02, 426.3, 740.32, -15779.899497487435, 37202.01005025125],
    [-309.7798, 424.937, 734.7168, -10429.945119692939, 24737.106494730815],
  ];

  test('follows Dreamer’s averages of the percentiles', () => {
    const normalizer = new ReturnNormalizer();
    for (const [i, batch] of batches.entries()) {
      const scale = normalizer.update(Float32Array.from(batch, (x) => 1000 * x));
      const { low, high } = normalizer.state();
      expect([low, high, scale]).toBeAllclose(dreamer[i].slice(0, 3), float64);
      expect(normalizer.offset).toBe(low);
    }
  });

  test('debiases them on demand', () => {
    const normalizer = new ReturnNormalizer({ debias: true });
    expect([normalizer.offset, normalizer.scale]).toEqual([0, 1]);
    for (const [i, batch] of batches.entries()) {
      normalizer.update(Float64Array.from(batch, (x) => 1000 * x));
      expect([normalizer.offset, normalizer.scale]).toBeAllclose(dreamer[i].slice(3), float64);
    }
  });

  test('follows TD-MPC2’s average of the range', () => {
    // value = 1.
    // for b in x / 1000:
    //   p = np.percentile(b, [5, 95]); value += .01 * (max(p[1] - p[0], 1) - value); print(value)
    const normalizer = new ReturnNormalizer({ average: 'range' });
    const scales = batches.map((batch) => normalizer.update(Float64Array.from(batch)));
    expect(scales).toBeAllclose([1.158, 1.72042, 1.7132158], { rtol: 1e-12 });
  });

  test('never scales up what is small', () => {
    const normalizer = new ReturnNormalizer({ rate: 1 });
    normalizer.update(Float32Array.of(0, 0.5));
    expect(normalizer.scale).toBe(1);
    expect([...normalizer.normalize(Float32Array.of(0.25))]).toEqual([0.25]);
    const fine = new ReturnNormalizer({ rate: 1, limit: 0.25, low: 0, high: 100 });
    expect(fine.update(Float32Array.of(0, 0.5))).toBe(0.5);
    expect(fine.update(Float32Array.of(7, 7))).toBe(0.25);
  });

  test('divides and subtracts no offset unless asked to', () => {
    const normalizer = new ReturnNormalizer({ rate: 1, low: 0, high: 100 });
    normalizer.update(nd([[10, 14]]));
    const values = nd([
      [12, 4],
      [0, 10],
    ]);
    expect(normalizer.normalize(values)).toEqual(
      nd([
        [3, 1],
        [0, 2.5],
      ]),
    );
    expect(normalizer.normalize(strided(values))).toEqual(normalizer.normalize(values));
    expect(normalizer.normalize(Float64Array.of(12), { subtractOffset: true })).toEqual(
      Float32Array.of(0.5),
    );
    expect([...values.data]).toEqual([12, 4, 0, 10]);
  });

  test('does not read what is masked out', () => {
    const [plain, masked] = [new ReturnNormalizer(), new ReturnNormalizer()];
    plain.update(Float32Array.of(100, 900, 500));
    const returns = nd([
      [100, 900],
      [500, Number.NaN],
    ]);
    const mask = flags([
      [1, 1],
      [1, 0],
    ]);
    masked.update(strided(returns), strided(mask));
    expect(masked.state()).toEqual(plain.state());
    masked.update(Float32Array.of(1, Number.POSITIVE_INFINITY), Uint8Array.of(0, 0));
    masked.update(new Float32Array(0));
    expect(masked.state()).toEqual(plain.state());
  });

  test('does not depend on the order of the returns, and leaves them as they are', () => {
    const [forth, back] = [new ReturnNormalizer(), new ReturnNormalizer()];
    const returns = Float32Array.from(batches.flat());
    forth.update(returns);
    expect([...returns]).toEqual([...Float32Array.from(batches.flat())]);
    back.update(returns.slice().reverse());
    expect(back.state()).toEqual(forth.state());
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %s and stays as it was', (broken) => {
    const normalizer = new ReturnNormalizer();
    normalizer.update(Float32Array.of(1, 400));
    const before = normalizer.state();
    expect(() => normalizer.update(Float32Array.of(1, broken))).toThrow(
      `ReturnNormalizer.update: returns must be finite, got ${broken} at 1; leave such steps out`,
    );
    expect(normalizer.state()).toEqual(before);
  });

  test('goes on from a state as if it had never stopped, and forgets by reset', () => {
    for (const average of ['bounds', 'range'] as const) {
      const [whole, first, second] = [0, 1, 2].map(() => new ReturnNormalizer({ average }));
      for (const batch of batches) whole.update(Float32Array.from(batch));
      first.update(Float32Array.from(batches[0]));
      second.update(Float32Array.of(-7, 7000));
      second.restore(JSON.parse(JSON.stringify(first.state())));
      for (const batch of batches.slice(1)) second.update(Float32Array.from(batch));
      expect(second.state()).toEqual(whole.state());
      expect(second.scale).toBe(whole.scale);
      second.reset();
      expect(second.state()).toEqual(new ReturnNormalizer({ average }).state());
      expect([second.offset, second.scale]).toEqual([0, 1]);
    }
  });

  test('keeps its scale at least the limit, by updates and by restore', () => {
    const average = 'range' as const;
    for (const limit of [0.1, 0.3, 0.7, 1, 3]) {
      for (const rate of [0.01, 0.1, 0.3]) {
        const normalizer = new ReturnNormalizer({ average, limit, rate });
        for (let i = 0; i < 50; i++) normalizer.update(Float32Array.of(0, 0));
        expect(normalizer.scale).toBeGreaterThanOrEqual(limit);
        normalizer.restore(normalizer.state());
      }
    }
    const normalizer = new ReturnNormalizer({ average });
    const small = { low: 0, high: 0, range: 0.1, weight: 0.5 };
    expect(() => normalizer.restore(small)).toThrow(RangeError);
    expect(() => normalizer.restore(small)).toThrow('range must be at least the limit 1, got 0.1');
    expect(normalizer.scale).toBe(1);
  });

  test('gives a state that is the caller’s own', () => {
    const normalizer = new ReturnNormalizer();
    normalizer.state().low = 9;
    expect(normalizer.offset).toBe(0);
  });

  test.each([
    [{ rate: 0 }, 'rate must lie in (0, 1], got 0'],
    [{ limit: 0 }, 'limit must be a positive number, got 0'],
    [{ low: 95, high: 5 }, 'low and high must be percentiles with 0 <= low < high <= 100'],
    [{ high: 101 }, 'got 5 and 101'],
    [{ average: 'median' as never }, "average must be 'bounds' or 'range', got median"],
    [{ average: 'range', debias: true }, "debias must be false with average: 'range'"],
  ] as const)('refuses %o', (options, message) => {
    expect(() => new ReturnNormalizer(options)).toThrow(RangeError);
    expect(() => new ReturnNormalizer(options)).toThrow(message);
  });

  test('refuses arrays, options and states of another kind', () => {
    const normalizer = new ReturnNormalizer();
    expect(() => new ReturnNormalizer({ debais: true } as never)).toThrow(TypeError);
    expect(() => normalizer.update([1, 2] as never)).toThrow('returns must be a Float32Array');
    expect(() => normalizer.update(nd([[1, 2]]), Uint8Array.of(1, 1))).toThrow(ShapeError);
    expect(() => normalizer.update(nd([[1, 2]]), [1, 1] as never)).toThrow('mask must be');
    expect(() => normalizer.normalize(3 as never)).toThrow('values must be a Float32Array');
    expect(() => normalizer.normalize(Float32Array.of(1), { center: true } as never)).toThrow(
      TypeError,
    );
    const state = normalizer.state();
    expect(() => normalizer.restore({ ...state, low: Number.NaN })).toThrow('low must be a finite');
    expect(() => normalizer.restore({ ...state, range: 0 })).toThrow('a positive range');
    expect(() => normalizer.restore({ low: 0 } as never)).toThrow(RangeError);
  });
});
