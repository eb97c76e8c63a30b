import fc from 'fast-check';
import { key, philox4x32 } from 'umwelt/sampling';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { FillRows, RowNoiseKernel } from '../../src/kernels/row-noise-scalar.js';
import * as scalar from '../../src/kernels/row-noise-scalar.js';
import { startRowNoise } from '../../src/kernels/row-noise-simd.js';
import { truncation } from '../../src/kernels/truncation.js';
import { normalCdf } from '../../src/sampling/special-functions.js';
import golden from '../fixtures/noise.json' with { type: 'json' };

const simd = startRowNoise() as RowNoiseKernel;

interface Names {
  step: number;
  stream: number;
  draw: number;
  k0: number;
  k1: number;
}

const names: Names = { step: 3, stream: 70000, draw: 65535, k0: 0xdeadbeef, k1: 77 };

function truncated(low: number, high: number) {
  const cut = truncation(low, high);
  return ({ truncatedNormalRows }: RowNoiseKernel): FillRows =>
    (out, width, names) =>
      truncatedNormalRows(out, width, names, cut);
}

const fills = {
  uniform: ({ uniformRows }: RowNoiseKernel) => uniformRows,
  normal: ({ normalRows }: RowNoiseKernel) => normalRows,
  gumbel: ({ gumbelRows }: RowNoiseKernel) => gumbelRows,
  'normal in -2..2': truncated(-2, 2),
  'unbounded normal': truncated(-Infinity, Infinity),
  'half normal': truncated(0, Infinity),
  'normal in 1..1.001': truncated(1, Math.fround(1.001)),
  'normal in -5.25..-5': truncated(-5.25, -5),
  'normal above 8': truncated(8, Infinity),
};

type Distribution = keyof typeof fills;

function draw(
  kernel: RowNoiseKernel,
  distribution: Distribution,
  width: number,
  trajectory: Uint32Array,
  own: Names = names,
): Float32Array {
  const out = new Float32Array(trajectory.length * width).fill(Number.NaN);
  fills[distribution](kernel)(out, width, { ...own, trajectory });
  return out;
}

const scattered = (rows: number) =>
  Uint32Array.from({ length: rows }, (_, i) => Math.imul(i + 1, 0x9e3779b1));

/** The counter whose block is `words`: Philox run backwards, in exact integers. */
function counterOf(words: readonly number[], k0: number, k1: number): Uint32Array {
  const mask = 0xffffffffn;
  let [c0, c1, c2, c3] = words.map(BigInt);
  for (let round = 9n; round >= 0n; round--) {
    const roundKey0 = (BigInt(k0) + round * 0x9e3779b9n) & mask;
    const roundKey1 = (BigInt(k1) + round * 0xbb67ae85n) & mask;
    // The multipliers are odd, so they have inverses modulo 2^32.
    const before0 = (c3 * 0x991a7cdbn) & mask;
    const before2 = (c1 * 0x6d7cae67n) & mask;
    const before1 = ((0xcd9e8d57n * before2) >> 32n) ^ c0 ^ roundKey0;
    const before3 = ((0xd2511f53n * before0) >> 32n) ^ c2 ^ roundKey1;
    [c0, c1, c2, c3] = [before0, before1, before2, before3];
  }
  return Uint32Array.from([c0, c1, c2, c3], Number);
}

/** A row that ends with the numbers made of these four words. */
function drawFromWords(
  kernel: RowNoiseKernel,
  distribution: Distribution,
  words: readonly number[],
): Float32Array {
  const counter = counterOf(words, names.k0, names.k1);
  const block = philox4x32(counter, Uint32Array.of(names.k0, names.k1));
  expect([...block]).toEqual(words);
  const [c0, step, trajectory, stream] = counter;
  const width = 4 * (c0 & 0xffff) + 4;
  const counted = { ...names, draw: c0 >>> 16, step, stream };
  return draw(kernel, distribution, width, Uint32Array.of(trajectory), counted);
}

const distributions = Object.keys(fills) as Distribution[];

describe.each(distributions)('the %s kernel', (distribution) => {
  test('gives the bits of its scalar twin, whatever the names and the shape', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(
        fc.record({
          step: word,
          stream: word,
          draw: fc.integer({ min: 0, max: 65535 }),
          k0: word,
          k1: word,
        }),
        fc.integer({ min: 0, max: 40 }),
        fc.array(word, { maxLength: 20 }),
        (names, width, ids) => {
          const trajectory = Uint32Array.from(ids);
          expect(draw(simd, distribution, width, trajectory, names)).toBeBitEqual(
            draw(scalar, distribution, width, trajectory, names),
          );
        },
      ),
      { numRuns: 1000, seed: 1 },
    );
  });

  // More rows than the kernel's memory has ids, rows wider than its results, and both limits met.
  test.each([
    [2 ** 18, 4],
    [40_000, 3],
    [16_385, 1],
    [16_384, 4],
    [1000, 1021],
    [5, 65_537],
    [3, 65_536],
    [1, 262_144],
  ])('gives them in pieces too: %i rows of %i', (rows, width) => {
    const trajectory = scattered(rows);
    const expected = draw(scalar, distribution, width, trajectory);
    expect(draw(simd, distribution, width, trajectory)).toBeBitEqual(expected);
  });

  test('gives them for the words at which the arithmetic turns', () => {
    // u = 0, 1/2 and 1, the ends of the quadrants and of the angles, mantissas beside sqrt(1/2).
    const words = [
      0, 1, 2, 0x7f, 0x80, 0x1fffffff, 0x20000000, 0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000,
      0xb504f2ff, 0xb504f300, 0xb504f334, 0xb504f380, 0xc0000000, 0xffffff7f, 0xffffff80,
      0xfffffffe, 0xffffffff,
    ];
    const blocks: number[][] = [];
    if (distribution === 'normal') {
      // Its numbers are made of two words.
      for (const [i, a] of words.entries())
        for (const b of words.slice(i)) blocks.push([a, b, b, a]);
    } else {
      for (let i = 0; i < words.length; i += 4) blocks.push(words.slice(i, i + 4));
    }
    for (const words of blocks) {
      const expected = drawFromWords(scalar, distribution, words);
      expect(drawFromWords(simd, distribution, words)).toBeBitEqual(expected);
    }
  });

  test('writes its rows and nothing beside them', () => {
    for (const [rows, width] of [
      [1, 1],
      [3, 5],
      [4, 3],
      [9, 7],
      [1, 0],
      [0, 5],
    ]) {
      const size = rows * width;
      const memory = new Float32Array(size + 40).fill(-7);
      const out = memory.subarray(20, 20 + size);
      fills[distribution](simd)(out, width, { ...names, trajectory: scattered(rows) });
      expect([...memory.subarray(0, 20), ...memory.subarray(20 + size)]).toEqual(
        Array(40).fill(-7),
      );
      expect(out.includes(-7)).toBe(false);
    }
  });
});

describe('against float64', () => {
  // 20,000 words as they come, and both ends of their range.
  const rows = 5000;
  const ids = scattered(rows);
  const [common, ends]: number[][] = [[], []];
  for (const id of ids) {
    const counter = Uint32Array.of(names.draw << 16, names.step, id, names.stream);
    common.push(...philox4x32(counter, Uint32Array.of(names.k0, names.k1)));
  }
  for (let i = 0; i < 32; i++)
    ends.push(2 ** i, 2 ** 32 - 2 ** i, 2 ** i - 1, 2 ** 32 - 1 - 2 ** i);
  const words = [...common, ...ends];

  function numbersOf(distribution: Distribution): number[] {
    const numbers = [...draw(simd, distribution, 4, ids)];
    for (let i = 0; i < ends.length; i += 4) {
      numbers.push(...drawFromWords(simd, distribution, ends.slice(i, i + 4)).slice(-4));
    }
    return numbers;
  }

  /** u = (word + 1/2) / 2^32 and 1 - u. */
  const bothEnds = (word: number) => [(word + 0.5) / 2 ** 32, (2 ** 32 - word - 0.5) / 2 ** 32];

  test('Gumbel numbers are within 4e-7 + 1e-7 |g|, in both tails', () => {
    for (const [i, g] of numbersOf('gumbel').entries()) {
      const [u, rest] = bothEnds(words[i]);
      const exact = -Math.log(u < 0.5 ? -Math.log(u) : -Math.log1p(-rest));
      expect(Math.abs(g - exact)).toBeLessThan(4e-7 + 1e-7 * Math.abs(exact));
    }
  });

  test.each([
    ['normal in -2..2', -2, 2],
    ['unbounded normal', -Infinity, Infinity],
    ['half normal', 0, Infinity],
    ['normal in 1..1.001', 1, Math.fround(1.001)],
    ['normal in -5.25..-5', -5.25, -5],
    ['normal above 8', 8, Infinity],
  ] as const)('numbers of the %s are within 5e-7 max(1, |z|)', (distribution, low, high) => {
    for (const [i, z] of numbersOf(distribution).entries()) {
      const [u, rest] = bothEnds(words[i]);
      // Both sides of the number, so that the lesser has all its digits.
      const left = normalCdf(low) * rest + normalCdf(high) * u;
      const right = normalCdf(-low) * rest + normalCdf(-high) * u;
      const gap = left < 0.5 ? normalCdf(z) - left : right - normalCdf(-z);
      const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
      expect(Math.abs(gap / density)).toBeLessThan(5e-7 * Math.max(1, Math.abs(z)));
      expect(z >= low && z <= high).toBe(true);
    }
  });

  test('the ends of the range are as the documentation says', () => {
    const extremes = [0, 2 ** 32 - 1, 0, 2 ** 32 - 1];
    const ends = (distribution: Distribution) => [
      ...drawFromWords(simd, distribution, extremes).slice(-2),
    ];
    // math.log(-math.log(2**-33)), 33 * math.log(2) and scipy.special.ndtri(2**-33)
    expect(ends('gumbel')).toBeAllclose([-3.1299944, 22.873857], { rtol: 1e-7 });
    expect(ends('unbounded normal')).toBeAllclose([-6.3379579, 6.3379579], { rtol: 5e-7 });
    expect(ends('normal in -2..2')).toEqual([-2, 2]);
  });
});

describe('the shares of a truncated distribution', () => {
  // float(numpy.float32(...)) of mpmath's erfc(-low/sqrt(2)), erfc(high/sqrt(2)), erf(low/sqrt(2)) and
  // erf(high/sqrt(2)) - erf(low/sqrt(2)) with 60 digits, low and high as float32.
  test.each([
    [-2, 2, 0.0455002635717392, 0.0455002635717392, -0.9544997215270996, 1.9089994430541992],
    [-Infinity, 1.5, 0.0, 0.1336144059896469, -1.0, 1.866385579109192],
    [0, Infinity, 1.0, 0.0, 0.0, 1.0],
    [2.5, 3.5, 1.98758065700531, 0.00046525817015208304, 0.9875806570053101, 0.01195407286286354],
    [3, 4, 1.997300148010254, 6.3342486100737e-5, 0.9973002076148987, 0.002636453602463007],
    [-8.5, -8, 1.895906897522155e-17, 2.0, -1.0, 1.225233052324227e-15],
    [
      Math.fround(-0.001),
      Math.fround(0.002),
      0.9992021322250366,
      0.9984042048454285,
      -0.0007978844805620611,
      0.0023936526849865913,
    ],
  ])('are those of %d to %d to the last bit', (low, high, ...shares) => {
    const { below, above, start, mass } = truncation(low, high);
    expect([below, above, start, mass]).toEqual(shares);
  });
});

describe.each(golden.cases)('the stream of seed $seed, stream $stream, step $step', (names) => {
  const { seed, stream, step, trajectory, width, draw: which } = { draw: 0, ...names };

  function expectStream(fill: (kernel: RowNoiseKernel) => FillRows, numbers: number[]): void {
    const { k0, k1 } = key(BigInt(seed));
    for (const kernel of [simd, scalar]) {
      const out = new Float32Array(width);
      const ids = Uint32Array.of(trajectory);
      fill(kernel)(out, width, { trajectory: ids, step, stream, draw: which, k0, k1 });
      expect(out).toBeBitEqual(Float32Array.from(numbers));
    }
  }

  // The bits are promised to stored seeds; made by NumPy in float32, see make_noise.py.
  test('is kept by the kernel and its twin', () => {
    expectStream(fills.uniform, names.uniform);
    expectStream(fills.normal, names.normal);
    expectStream(fills.gumbel, names.gumbel);
    for (const { low, high, normal } of names.truncated) {
      expectStream(truncated(Number(low), Number(high)), normal);
    }
  });
});

describe('the choice of the kernel', () => {
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  const expected = draw(scalar, 'normal', 5, scattered(6));

  async function fresh(): Promise<RowNoiseKernel> {
    vi.resetModules();
    return import('../../src/kernels/row-noise.js');
  }

  test('starts WebAssembly once, at the first use', async () => {
    const compile = vi.spyOn(WebAssembly, 'Module');
    const noise = await fresh();
    expect(compile).not.toHaveBeenCalled();
    for (let i = 0; i < 2; i++) {
      expect(draw(noise, 'normal', 5, scattered(6))).toBeBitEqual(expected);
    }
    expect(compile).toHaveBeenCalledTimes(1);
  });

  test('falls back to the twin, trying once, where WebAssembly may not compile', async () => {
    function refuse(): never {
      throw new WebAssembly.CompileError('blocked by the content-security policy');
    }
    const compile = vi.spyOn(WebAssembly, 'Module').mockImplementation(refuse);
    const noise = await fresh();
    for (let i = 0; i < 2; i++) {
      expect(draw(noise, 'normal', 5, scattered(6))).toBeBitEqual(expected);
    }
    expect(compile).toHaveBeenCalledTimes(1);
    expect(startRowNoise()).toBeUndefined();
  });

  test('falls back to the twin where there is no WebAssembly', async () => {
    vi.stubGlobal('WebAssembly', undefined);
    const noise = await fresh();
    expect(draw(noise, 'normal', 5, scattered(6))).toBeBitEqual(expected);
    expect(startRowNoise()).toBeUndefined();
  });
});
