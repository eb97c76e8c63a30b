import { nd, packed } from 'umwelt';
import {
  affineControlLibrary,
  concatLibraries,
  customLibrary,
  differentiate,
  fourierLibrary,
  polynomialLibrary,
  type SindyLibrary,
  stlsq,
} from 'umwelt/dynamics/sindy';
import { describe, expect, test } from 'vitest';
import { readJson } from '../support/models.js';

interface Golden {
  stlsq: {
    cases: {
      name: string;
      options: Record<string, number | boolean>;
      theta: number[][];
      y: number[][];
      ridge: number[][];
      unbiased: number[][];
    }[];
  };
  derivatives: Record<
    | 'x'
    | 'finiteDifference'
    | 'finiteDifferenceUneven'
    | 'smoothed'
    | 'smoothedX'
    | 'smoothedShort',
    number[][]
  > & { dt: number; uneven: number[] };
  libraries: {
    x: number[][];
    polynomial: {
      name: string;
      options: { degree: number };
      names: string[];
      theta: number[][];
    }[];
    fourier: number[][];
  };
}

const golden = readJson<Golden>('test/fixtures/sindy.json');
const float64 = (rows: number[][]) =>
  nd(Float64Array.from(rows.flat()), [rows.length, rows[0].length]);
/** The option names of pysindy in ours. */
const NAMES: Record<string, string> = {
  max_iter: 'maxIterations',
  normalize_columns: 'normalizeColumns',
};
const ours = (options: Record<string, number | boolean>) =>
  Object.fromEntries(Object.entries(options).map(([name, value]) => [NAMES[name] ?? name, value]));

describe('stlsq', () => {
  test.each(golden.stlsq.cases)('agrees with pysindy: $name', (example) => {
    const { theta, y, options, ridge, unbiased } = example;
    const close = { rtol: 1e-9, atol: 1e-9 };
    const biased = stlsq(float64(theta), float64(y), { ...ours(options), unbias: false });
    expect(packed(biased.coefficients)).toBeAllclose(ridge.flat(), close);
    const refitted = stlsq(float64(theta), float64(y), ours(options));
    expect(packed(refitted.coefficients)).toBeAllclose(unbiased.flat(), close);
    // Which terms are left is no matter of rounding.
    const left = Uint8Array.from(unbiased.flat(), (c) => (c === 0 ? 0 : 1));
    expect(packed(refitted.active)).toBeBitEqual(left);
  });

  test('gives the reference vector to 1e-9', () => {
    const x = Array.from({ length: 21 }, (_, i) => i / 10 - 1);
    const theta = float64(x.map((v) => [1, v, v ** 2, v ** 3]));
    const y = float64(x.map((v) => [0.5 * v - 2 * v ** 3]));
    const { coefficients } = stlsq(theta, y, { unbias: false });
    expect(packed(coefficients)).toBeAllclose([0, 0.3872553515, 0, -1.8324771986], { atol: 1e-9 });
    const refitted = stlsq(theta, y);
    expect(packed(refitted.coefficients)).toBeAllclose([0, 0.5, 0, -2], { atol: 1e-9 });
    expect(refitted).toMatchObject({ iterations: 2, converged: true, emptied: [] });
  });

  test('names the targets that lost all their terms', () => {
    const theta = float64([
      [1, 0],
      [0, 1],
      [1, 1],
    ]);
    const y = float64([
      [0.01, 2],
      [0, 3],
      [0.01, 5],
    ]);
    const { coefficients, emptied } = stlsq(theta, y, { alpha: 1e-9 });
    expect(emptied).toEqual([0]);
    expect(packed(coefficients)).toBeAllclose([0, 0, 2, 3]);
  });

  test('takes the shortest solution where terms depend on each other', () => {
    const theta = float64([
      [1, 1, 0],
      [2, 2, 0],
      [-1, -1, 0],
    ]);
    const y = float64([[2], [4], [-2]]);
    for (const alpha of [0, 0.05]) {
      const { coefficients } = stlsq(theta, y, { alpha });
      expect(packed(coefficients)).toBeAllclose([1, 1, 0], { rtol: 1e-12, atol: 1e-12 });
    }
  });

  test('takes it without a penalty where one term is the sum of two, to which rounding is blind', () => {
    const rows = Array.from({ length: 40 }, (_, i) => [Math.sin(i), Math.cos(3 * i)]);
    const theta = float64(rows.map(([a, b]) => [a, b, a + b]));
    const y = float64(rows.map(([a]) => [a]));
    // numpy.linalg.pinv([[1, 0, 1], [0, 1, 1]]) @ [1, 0]
    for (const unbias of [true, false]) {
      const { coefficients } = stlsq(theta, y, { alpha: 0, unbias });
      expect(packed(coefficients)).toBeAllclose([2 / 3, -1 / 3, 1 / 3], { rtol: 1e-12 });
    }
  });

  test('works through many rows block by block as numpy does at once', () => {
    // The last of the blocks is filled in part.
    const rows = Array.from({ length: 100 }, (_, i) => [1, Math.sin(i), Math.sin(i) ** 3]);
    const theta = float64(rows);
    const y = float64(rows.map(([, a], i) => [a + 0.1 * Math.cos(7 * i)]));
    const { coefficients } = stlsq(theta, y, { threshold: 0, alpha: 0 });
    // i = numpy.arange(100); s = numpy.sin(i); numpy.linalg.lstsq(
    //   numpy.stack([s**0, s, s**3], 1), s + 0.1 * numpy.cos(7 * i))[0]
    expect(packed(coefficients)).toBeAllclose(
      [0.001621082736845086, 1.0056763498022288, 0.0020226284858967936],
      { rtol: 1e-12, atol: 1e-14 },
    );
  });

  test('keeps digits that normal equations lose', () => {
    // Läuchli's matrix: the squares of 1e-9 vanish beside 1 in float64.
    const small = 1e-9;
    const theta = float64([
      [1, 1],
      [small, 0],
      [0, small],
    ]);
    const y = float64([[3], [small], [2 * small]]);
    const { coefficients } = stlsq(theta, y, { alpha: 0 });
    expect(packed(coefficients)).toBeAllclose([1, 2], { rtol: 1e-6 });
  });

  test('says when it stopped before the terms were settled', () => {
    const { theta, y, options } = golden.stlsq.cases.filter(({ name }) => name === 'one round')[0];
    expect(stlsq(float64(theta), float64(y), ours(options)).converged).toBe(false);
  });

  test('reads float32 and strided views', () => {
    const { theta, y } = golden.stlsq.cases[0];
    const plain = stlsq(nd(theta), nd(y)).coefficients;
    const [rows, P] = [theta.length, theta[0].length];
    const columns = Float32Array.from(
      { length: rows * P },
      (_, i) => theta[i % rows][(i / rows) | 0],
    );
    const turned = { data: columns, shape: [rows, P], stride: [1, rows], offset: 0 };
    expect(packed(stlsq(turned, nd(y)).coefficients)).toBeBitEqual(packed(plain));
  });

  test('refuses what it cannot fit', () => {
    const theta = float64([[1, 2]]);
    const y = float64([[1]]);
    expect(() => stlsq(theta, float64([[1], [2]]))).toThrow('stlsq: y must have shape [1, width]');
    expect(() => stlsq(float64([[1, Number.NaN]]), y)).toThrow(
      'stlsq: theta must be finite, got NaN in row 0, column 1',
    );
    expect(() => stlsq(theta, y, { threshold: -1 })).toThrow(
      'threshold must be a number of at least 0',
    );
    expect(() => stlsq(theta, y, { maxIterations: 0 })).toThrow('maxIterations must be an integer');
    expect(() => stlsq(theta, y, { max_iterations: 3 } as object)).toThrow(
      "did you mean 'maxIterations'",
    );
    expect(() => stlsq([[1]] as never, y)).toThrow(TypeError);
    expect(() => stlsq(nd(new Float64Array(0), [0, 2]), nd(new Float64Array(0), [0, 1]))).toThrow(
      'must not be empty',
    );
  });
});

describe('differentiate', () => {
  const { x, dt, uneven, ...wanted } = golden.derivatives;
  const close = { rtol: 1e-10, atol: 1e-11 };

  test('takes central differences as pysindy does, one-sided at the ends', () => {
    const even = differentiate(float64(x), dt);
    expect(packed(even.derivative)).toBeAllclose(wanted.finiteDifference.flat(), close);
    expect(packed(even.smoothed)).toBeAllclose(x.flat(), { rtol: 0, atol: 0 });
    const times = differentiate(float64(x), uneven);
    expect(packed(times.derivative)).toBeAllclose(wanted.finiteDifferenceUneven.flat(), close);
  });

  test('smooths as pysindy does, ends included', () => {
    const method = 'smoothed-finite-difference';
    const smoothed = differentiate(float64(x), dt, { method });
    expect(packed(smoothed.derivative)).toBeAllclose(wanted.smoothed.flat(), close);
    expect(packed(smoothed.smoothed)).toBeAllclose(wanted.smoothedX.flat(), close);
    const short = differentiate(float64(x), dt, { method, window: 5, order: 2 });
    expect(packed(short.derivative)).toBeAllclose(wanted.smoothedShort.flat(), close);
  });

  test('smooths uneven steps at the times there are: a cubic stays a cubic', () => {
    const cubic = uneven.map((t) => [1 - 2 * t + 0.5 * t ** 3]);
    const { smoothed } = differentiate(float64(cubic), uneven, {
      method: 'smoothed-finite-difference',
    });
    expect(packed(smoothed)).toBeAllclose(cubic.flat(), { rtol: 1e-10, atol: 1e-11 });
  });

  test('is exact for parabolas', () => {
    const parabola = uneven.map((t) => [3 - t + 2 * t ** 2]);
    const slope = uneven.map((t) => -1 + 4 * t);
    const { derivative } = differentiate(float64(parabola), uneven);
    expect(packed(derivative)).toBeAllclose(slope, { rtol: 1e-10, atol: 1e-10 });
  });

  test('refuses trajectories that are too short and times that do not increase', () => {
    const three = float64([[0], [1], [2]]);
    expect(() => differentiate(float64([[0], [1]]), 1)).toThrow('at least 3 samples');
    expect(() => differentiate(three, 1, { method: 'smoothed-finite-difference' })).toThrow(
      'at least 11 samples to fill the smoothing window, got 3',
    );
    expect(() => differentiate(three, [0, 1, 1])).toThrow('time must increase, got 1 and 1 at 1');
    expect(() => differentiate(three, [0, 1])).toThrow('time must have 3 entries');
    expect(() => differentiate(three, 0)).toThrow('dt must be a positive number');
    const method = 'smoothed-finite-difference';
    expect(() => differentiate(three, 1, { method, window: 4 })).toThrow(
      'window must be an odd integer',
    );
    expect(() => differentiate(three, 1, { method, window: 5, order: 5 })).toThrow('order must be');
    expect(() => differentiate(three, 1, { method: 'spectral' as never })).toThrow(
      'method must be',
    );
  });

  test('refuses a missing time, a time as a view, and a window that nothing is smoothed by', () => {
    const three = float64([[0], [1], [2]]);
    const given = (...rest: unknown[]) => {
      try {
        (differentiate as (...all: unknown[]) => unknown)(three, ...rest);
      } catch (error) {
        return `${(error as Error).name}: ${(error as Error).message}`;
      }
      return '';
    };
    const wanted =
      "TypeError: differentiate: time must be the duration of a step or a list of the samples' times, got";
    expect(given()).toBe(`${wanted} undefined`);
    expect(given({ window: 5 })).toBe(`${wanted} an Object`);
    expect(given(nd([0, 1, 2]))).toBe(
      `${wanted} a [3] view of Float32Array; give the numbers alone, packed(time)`,
    );
    for (const options of [
      { window: 5 },
      { order: 2 },
      { method: 'finite-difference', order: 2 },
    ]) {
      expect(given(1, options)).toMatch(
        /^TypeError: differentiate: (window|order) must be left out without smoothing, got \d; give method/,
      );
    }
  });
});

/** The terms of rows of variables. */
function termsOf(library: SindyLibrary, obs: string[], action: string[], rows: number[][]) {
  const bound = library.bind({ obs, action });
  const P = bound.names.length;
  const out = new Float64Array(rows.length * P);
  bound.evaluate(Float64Array.from(rows.flat()), rows.length, out, P, 0);
  return { names: bound.names, theta: out };
}

describe('dictionaries', () => {
  const { x, polynomial, fourier } = golden.libraries;
  const names = ['x0', 'x1', 'x2'];

  test.each(polynomial)('monomials are in pysindy’s order: $name', (example) => {
    const library = polynomialLibrary(example.options);
    const { names: found, theta } = termsOf(library, names, [], x);
    expect(found).toEqual(example.names);
    expect(theta).toBeAllclose(example.theta.flat(), { rtol: 1e-14 });
  });

  test('harmonics are in pysindy’s order', () => {
    const { names: found, theta } = termsOf(fourierLibrary({ frequencies: 2 }), names, [], x);
    expect(found.slice(4, 8)).toEqual(['sin(x2)', 'cos(x2)', 'sin(2 x0)', 'cos(2 x0)']);
    expect(theta).toBeAllclose(fourier.flat(), { rtol: 1e-14 });
  });

  test('actions come after observations', () => {
    const library = polynomialLibrary({ degree: 2 });
    expect(library.bind({ obs: ['x'], action: ['u'] }).names).toEqual([
      '1',
      'x',
      'u',
      'x^2',
      'x u',
      'u^2',
    ]);
  });

  test('affine terms are p1(x), u and p2(x) u', () => {
    const rows = [
      [2, 3, 5, 7],
      [1, -1, 2, 0.5],
    ];
    const obs = ['x', 'y'];
    const { names: found, theta } = termsOf(affineControlLibrary(), obs, ['u', 'w'], rows);
    expect(found.join(', ')).toBe('x, y, x^2, x y, y^2, u, w, x u, x w, y u, y w');
    expect([...theta]).toEqual(
      [
        [2, 3, 4, 6, 9, 5, 7, 10, 14, 15, 21],
        [1, -1, 1, -1, 1, 2, 0.5, 2, 0.5, -2, -0.5],
      ].flat(),
    );
    const steep = affineControlLibrary({ degree: 1, controlDegree: 2 });
    expect(termsOf(steep, ['x'], ['u'], [[3, 5]])).toEqual({
      names: ['x', 'u', 'x u', 'x^2 u'],
      theta: Float64Array.of(3, 5, 15, 45),
    });
    expect(() => affineControlLibrary().bind({ obs: ['x'], action: [] })).toThrow('got none');
  });

  test('may look at some variables only', () => {
    const library = concatLibraries(
      polynomialLibrary({ degree: 1, variables: 'action' }),
      fourierLibrary({ variables: ['y'], includeCos: false }),
      customLibrary([{ name: (v) => `|${v}|`, evaluate: (v) => Math.abs(v), variables: 'obs' }]),
    );
    const { names: found, theta } = termsOf(library, ['x', 'y'], ['u'], [[-2, 0, 3]]);
    expect(found).toEqual(['1', 'u', 'sin(y)', '|x|', '|y|']);
    expect([...theta]).toEqual([1, 3, 0, 2, 0]);
    expect(() => library.bind({ obs: ['x'], action: ['u'] })).toThrow(
      "variables must be among x, u, got 'y'",
    );
  });

  test('functions of several parameters take every choice of variables', () => {
    const library = customLibrary([
      { name: (a, b) => `${a}/${b}`, evaluate: (a, b) => a / b },
      { name: (a, b, c) => `${a}+${b}+${c}`, evaluate: (a, b, c) => a + b + c },
    ]);
    const { names: found, theta } = termsOf(library, ['x', 'y', 'z'], [], [[1, 2, 4]]);
    expect(found).toEqual(['x/y', 'x/z', 'y/z', 'x+y+z']);
    expect([...theta]).toEqual([0.5, 0.25, 0.5, 7]);
  });

  test('options out of range are refused', () => {
    expect(() => polynomialLibrary({ degree: 0 })).toThrow(
      'degree must be an integer of at least 1',
    );
    expect(() => polynomialLibrary({ degree: 2, include_bias: false } as never)).toThrow(
      "did you mean 'includeBias'",
    );
    expect(() => fourierLibrary({ frequencies: 1.5 })).toThrow('frequencies must be an integer');
    expect(() => fourierLibrary({ includeSin: false, includeCos: false })).toThrow('must be true');
    expect(() => customLibrary([])).toThrow('terms must be a list of one or more');
    expect(() => customLibrary([{ name: () => '', evaluate: () => 1 }])).toThrow(
      'must have 1 to 3 parameters',
    );
    expect(() => concatLibraries()).toThrow('at least one library');
    expect(() => concatLibraries({} as never)).toThrow('must be a library');
  });
});
