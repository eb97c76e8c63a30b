import fc from 'fast-check';
import { gatherRows } from 'umwelt';
import { key, permutation, philox4x32, RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/noise.json' with { type: 'json' };

const ids = (length: number) => Uint32Array.from({ length }, (_, i) => i);

/** The block the documentation promises for a row's columns `4 * block .. 4 * block + 3`. */
function blockOf(
  seed: bigint,
  stream: number,
  step: number,
  row: number,
  draw: number,
  block: number,
) {
  const { k0, k1 } = key(seed);
  return philox4x32(
    Uint32Array.of((draw << 16) | block, step, row, stream),
    Uint32Array.of(k0, k1),
  );
}

describe('RowNoise', () => {
  test('draws uniforms from the words of the documented block', () => {
    const noise = new RowNoise(0x123456789abcdefn, 70000, 5, Uint32Array.of(9, 4000000000));
    const { data, shape } = noise.uniform(6, { draw: 3 });
    expect(shape).toEqual([2, 6]);
    for (const [row, id] of [9, 4000000000].entries()) {
      for (let column = 0; column < 6; column++) {
        const words = blockOf(0x123456789abcdefn, 70000, 5, id, 3, column >> 2);
        expect(data[row * 6 + column]).toBe((words[column & 3] >>> 8) / 2 ** 24);
      }
    }
  });

  test('draws normals by Box-Muller on those words, within float32 rounding', () => {
    const rows = 2000;
    const { data } = new RowNoise(11, Stream.model, 2, ids(rows)).normal(4);
    let worst = 0;
    for (let row = 0; row < rows; row++) {
      const words = blockOf(11n, Stream.model, 2, row, 0, 0);
      for (let pair = 0; pair < 4; pair += 2) {
        const radius = Math.sqrt(-2 * Math.log(Math.max(words[pair] * 2 ** -32, 2 ** -33)));
        const quadrant = words[pair + 1] >>> 30;
        const within = ((words[pair + 1] & 0x3fffffff) - 2 ** 29) * 2 ** -30;
        const angle = (Math.PI / 2) * (quadrant + within);
        worst = Math.max(
          worst,
          Math.abs(data[row * 4 + pair] - radius * Math.cos(angle)),
          Math.abs(data[row * 4 + pair + 1] - radius * Math.sin(angle)),
        );
      }
    }
    // Values reach 4 or so, where a float32 step is 4.8e-7; a few roundings make 1e-6.
    expect(worst).toBeLessThan(1.5e-6);
  });

  // The bits are promised to stored seeds; made by NumPy in float32, see make_noise.py.
  test.each(golden.cases)(
    'keeps its stream for seed $seed, stream $stream, step $step',
    (names) => {
      const { seed, stream, step, trajectory, width, draw } = { draw: 0, ...names };
      const noise = new RowNoise(BigInt(seed), stream, step, Uint32Array.of(trajectory));
      expect(noise.uniform(width, { draw }).data).toBeBitEqual(Float32Array.from(names.uniform));
      expect(noise.normal(width, { draw }).data).toBeBitEqual(Float32Array.from(names.normal));
      expect(noise.gumbel(width, { draw }).data).toBeBitEqual(Float32Array.from(names.gumbel));
      for (const { low, high, normal } of names.truncated) {
        const cut = { draw, low: Number(low), high: Number(high) };
        expect(noise.truncatedNormal(width, cut).data).toBeBitEqual(Float32Array.from(normal));
      }
    },
  );

  test('has the moments and tails of its distributions', () => {
    const width = 16;
    const n = 20000 * width;
    const uniform = new RowNoise(5, Stream.model, 0, ids(20000)).uniform(width).data;
    const normal = new RowNoise(5, Stream.model, 0, ids(20000)).normal(width).data;
    const moment = (data: Float32Array, order: number) =>
      data.reduce((sum, x) => sum + x ** order, 0) / n;
    // Standard errors at n = 320,000: 0.0005 for a uniform mean, 0.0018 for a normal one; the bounds
    // are five of them.
    expect(Math.abs(moment(uniform, 1) - 0.5)).toBeLessThan(0.0026);
    expect(Math.abs(moment(uniform, 2) - 1 / 3)).toBeLessThan(0.0027);
    expect(Math.abs(moment(normal, 1))).toBeLessThan(0.009);
    expect(Math.abs(moment(normal, 2) - 1)).toBeLessThan(0.0125);
    expect(Math.abs(moment(normal, 4) - 3)).toBeLessThan(0.087);
    const beyond = normal.filter((x) => Math.abs(x) > 3).length / n;
    expect(Math.abs(beyond - 0.0026998)).toBeLessThan(0.0005);
    expect(uniform.every((x) => x >= 0 && x < 1)).toBe(true);
  });

  test('gives a row the same numbers alone, in any order, and beside any rows', () => {
    const all = new RowNoise(1, 0, 3, ids(50)).normal(7).data;
    const some = Uint32Array.of(41, 0, 17);
    const few = new RowNoise(1, 0, 3, some).normal(7).data;
    for (const [i, row] of some.entries()) {
      expect(few.subarray(i * 7, i * 7 + 7)).toBeBitEqual(all.subarray(row * 7, row * 7 + 7));
    }
  });

  test('permuting the rows permutes the noise, of every kind', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom('uniform' as const, 'normal' as const, 'gumbel' as const),
        fc.nat(),
        (names, width, kind, seed) => {
          const order = permutation(seed, names.length);
          const noise = (trajectory: Uint32Array) => new RowNoise(3, 1, 4, trajectory)[kind](width);
          const straight = noise(Uint32Array.from(names));
          const permuted = noise(Uint32Array.from(order, (i) => names[i]));
          expect(permuted.data).toBeBitEqual(gatherRows(straight, order).data);
        },
      ),
      { numRuns: 1000, seed: 40 },
    );
  });

  test('gives wider rows the same first columns', () => {
    const wide = new RowNoise(1, 0, 0, ids(1)).normal(9).data;
    for (let width = 0; width < 9; width++) {
      expect(new RowNoise(1, 0, 0, ids(1)).normal(width).data).toBeBitEqual(wide.slice(0, width));
    }
  });

  test('never gives two names the same numbers', () => {
    const seen = new Set<string>();
    let names = 0;
    for (const seed of [0, 1, -1, 1n << 32n]) {
      for (const stream of [0, 1, 2, 65536]) {
        for (const step of [0, 1, 2]) {
          for (const draw of [0, 1]) {
            const noise = new RowNoise(seed, stream, step, ids(3));
            const { data } = noise.uniform(4, { draw });
            for (let row = 0; row < 3; row++, names++) {
              seen.add(data.subarray(row * 4, row * 4 + 4).join());
            }
          }
        }
      }
    }
    expect(seen.size).toBe(names);
  });

  test('writes into memory it is given', () => {
    const out = new Float32Array(10).fill(-1);
    const { data } = new RowNoise(1, 0, 0, ids(2)).normal(3, { out });
    expect(data.buffer).toBe(out.buffer);
    expect(data.length).toBe(6);
    expect([...out.subarray(6)]).toEqual([-1, -1, -1, -1]);
  });

  test('keeps truncated normals within their bounds, as float32', () => {
    const noise = new RowNoise(3, Stream.policy, 0, ids(1000));
    for (const [low, high] of [
      [-2, 2],
      [0.1, 0.3],
      [0, Infinity],
      [-Infinity, -7.9],
      [8, 8.1],
      [-1e-6, 3e-6],
      [-1e30, 1e30],
    ]) {
      const { data } = noise.truncatedNormal(4, { low, high });
      expect(Math.min(...data)).toBeGreaterThanOrEqual(Math.fround(low));
      expect(Math.max(...data)).toBeLessThanOrEqual(Math.fround(high));
      expect(new Set(data).size).toBeGreaterThan(3500);
    }
  });

  test('refuses bounds that float32 cannot serve', () => {
    const cut = (low: number, high: number) => () =>
      new RowNoise(1, 0, 0, ids(2)).truncatedNormal(1, { low, high });
    expect(cut(1, 1)).toThrow('RowNoise: low < high must hold in float32, got 1 and 1');
    expect(cut(1, 1 + 1e-9)).toThrow(RangeError);
    expect(cut(Number.NaN, 1)).toThrow(RangeError);
    expect(cut(3, undefined as unknown as number)).toThrow('got 3 and 2');
    expect(cut(8.5, Infinity)).toThrow(
      'a bound must be within -8..8, got 8.5 and Infinity; for far tails draw from TruncatedNormal',
    );
    expect(cut(-10, -9)).toThrow(RangeError);
    expect(cut(5, 5.001)).toThrow('must be at least 1/1024 of the larger bound, got 5 and 5.001');
    expect(cut(8, Infinity)).not.toThrow();
  });

  test('refuses names outside their ranges', () => {
    const noise = new RowNoise(1, 0, 0, ids(2));
    expect(() => new RowNoise(1, -1, 0, ids(1))).toThrow(RangeError);
    expect(() => new RowNoise(1, 0, 2 ** 32, ids(1))).toThrow(RangeError);
    expect(() => noise.normal(-1)).toThrow(RangeError);
    expect(() => noise.normal(1.5)).toThrow(RangeError);
    expect(() => noise.normal(262145)).toThrow(RangeError);
    expect(() => noise.normal(1, { draw: 65536 })).toThrow(RangeError);
    expect(() => noise.normal(4, { out: new Float32Array(7) })).toThrow(
      'must hold 8 numbers, got 7',
    );
  });
});

describe('key', () => {
  test('is the same for a number and the bigint of its value, and passes keys through', () => {
    expect(key(7)).toEqual({ k0: 7, k1: 0 });
    expect(key(7n)).toEqual(key(7));
    expect(key(-1)).toEqual({ k0: 0xffffffff, k1: 0xffffffff });
    expect(key(2 ** 40 + 3)).toEqual({ k0: 3, k1: 256 });
    const made = key((1n << 64n) - 1n);
    expect(key(made)).toBe(made);
  });

  test('refuses what is no 64-bit integer', () => {
    expect(() => key(0.5)).toThrow(RangeError);
    expect(() => key(2 ** 53)).toThrow(RangeError);
    expect(() => key(Number.NaN)).toThrow(RangeError);
    expect(() => key(1n << 64n)).toThrow(RangeError);
    expect(() => key('7' as unknown as number)).toThrow(TypeError);
    expect(() => key(null as unknown as number)).toThrow(TypeError);
    expect(() => key({ k0: -1, k1: 0 })).toThrow(TypeError);
  });
});
