import fc from 'fast-check';
import { gatherRows, type NdView, nd, zeros } from 'umwelt';
import {
  Bernoulli,
  BoundedNormal,
  Categorical,
  DiagonalGaussian,
  TanhGaussian,
  TruncatedNormal,
} from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { ShapeError } from '../../src/nd.js';
import { noiseFor } from './noise-for.js';

/** Every class from one or two parameters of one shape `[B, 6]`, which each can read. */
const classes = {
  'Categorical [B, K]': (x: NdView) => new Categorical(x),
  'Categorical [B, S, K] with unimix': (x: NdView) =>
    new Categorical(nd(gatherRows(x, allRows(x)).data, [x.shape[0], 2, 3]), { unimix: 0.01 }),
  'DiagonalGaussian of std': (x: NdView, y: NdView) =>
    new DiagonalGaussian(x, { std: positive(y) }),
  'DiagonalGaussian of logStd': (x: NdView, y: NdView) => new DiagonalGaussian(x, { logStd: y }),
  TanhGaussian: (x: NdView, y: NdView) => new TanhGaussian(x, { logStd: y }),
  BoundedNormal: (x: NdView, y: NdView) => new BoundedNormal(x, y),
  TruncatedNormal: (x: NdView, y: NdView) => new TruncatedNormal(x, { std: positive(y) }),
  Bernoulli: (x: NdView) => new Bernoulli(x),
};

const allRows = (x: NdView) => Int32Array.from({ length: x.shape[0] }, (_, i) => i);
const positive = (x: NdView): NdView => nd(gatherRows(x, allRows(x)).data.map(Math.exp), x.shape);

/** Parameters `[rows, 6]` of common size. */
function parameters(rows: number, seed: number): NdView {
  const data = Float32Array.from({ length: rows * 6 }, (_, i) => 1.5 * Math.sin(seed + 7.1 * i));
  return nd(data, [rows, 6]);
}

/** A sample, the mode, log-densities, entropies where there are any, and divergences, `[rows, ...]` each. */
function answers(
  make: (x: NdView, y: NdView) => ReturnType<(typeof classes)[keyof typeof classes]>,
  x: NdView,
  y: NdView,
  trajectory: Uint32Array,
): NdView[] {
  const distribution = make(x, y);
  const rows = x.shape[0];
  const sample = distribution.sample(noiseFor(distribution, trajectory));
  const perRow = [distribution.logProb(sample)];
  if ('entropy' in distribution) perRow.push(distribution.entropy());
  perRow.push(distribution.kl(make(y, x) as never));
  return [sample, distribution.mode(), ...perRow.map((values) => nd(values, [rows, 1]))];
}

describe.each(Object.entries(classes))('%s', (_, make) => {
  test('permuting rows permutes samples and every other answer', () => {
    const ids = fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(ids, fc.integer({ min: 0, max: 1000 }), (order, seed) => {
        const [x, y] = [parameters(8, seed), parameters(8, seed + 0.5)];
        const rows = Int32Array.from(order);
        const all = answers(make, x, y, Uint32Array.from(allRows(x)));
        const some = answers(
          make,
          gatherRows(x, rows),
          gatherRows(y, rows),
          Uint32Array.from(rows),
        );
        all.forEach((answer, i) => {
          expect(some[i].data).toBeBitEqual(gatherRows(answer, rows).data);
        });
      }),
      { numRuns: 1000, seed: 7 },
    );
  });

  test('a NaN parameter makes its row NaN and leaves the others as they were', () => {
    const clean = [parameters(3, 1), parameters(3, 2)];
    const ids = Uint32Array.of(0, 1, 2);
    const expected = answers(make, clean[0], clean[1], ids);
    const others = Int32Array.of(0, 2);
    for (let parameter = 0; parameter < make.length; parameter++) {
      for (const at of [6, 8, 11]) {
        const broken = clean.map(({ data, shape }) => nd(data.slice(), shape));
        broken[parameter].data[at] = Number.NaN;
        const found = answers(make, broken[0], broken[1], ids);
        found.forEach((answer, i) => {
          expect(gatherRows(answer, others).data).toBeBitEqual(
            gatherRows(expected[i], others).data,
          );
        });
        // A mode does not depend on the scale, nor a Gaussian's entropy on the mean.
        const [sample, , logProb] = found;
        for (const answer of [sample, logProb, found[found.length - 1]]) {
          expect(gatherRows(answer, Int32Array.of(1)).data.some(Number.isNaN)).toBe(true);
        }
      }
    }
  });

  test('reads strided parameters, noise and values as it reads packed ones', () => {
    const [x, y] = [parameters(4, 3), parameters(4, 4)];
    const strided = (view: NdView): NdView => {
      const data = new Float32Array(100).fill(Number.NaN);
      const [stride, offset] = [[-14, 2], 50];
      for (let i = 0; i < 4; i++) {
        for (let j = 0; j < 6; j++) data[offset - 14 * i + 2 * j] = view.data[6 * i + j];
      }
      return { data, shape: [4, 6], stride, offset };
    };
    const packed = make(x, y);
    const noise = noiseFor(packed, Uint32Array.of(3, 1, 4, 1));
    const sample = packed.sample(noise);
    const other = make(strided(x), strided(y));
    expect(other.sample(strided(noise)).data).toBeBitEqual(sample.data);
    const value = { ...sample, shape: [4, 6] };
    expect(other.logProb(strided(value))).toBeBitEqual(packed.logProb(sample));
  });

  test('leaves its parameters alone, and hands out no memory of theirs', () => {
    const [x, y] = [parameters(2, 5), parameters(2, 6)];
    const kept = [x.data.slice(), y.data.slice()];
    const distribution = make(x, y);
    const noise = noiseFor(distribution, Uint32Array.of(0, 1));
    distribution.mode().data.fill(9);
    distribution.sample(noise).data.fill(9);
    expect(x.data).toBeBitEqual(kept[0]);
    expect(y.data).toBeBitEqual(kept[1]);
  });

  test('has no rows where its parameters have none', () => {
    const [sample, mode, ...perRow] = answers(
      make,
      zeros([0, 6]),
      zeros([0, 6]),
      new Uint32Array(0),
    );
    expect(sample.shape[0]).toBe(0);
    expect(mode.shape).toEqual(sample.shape);
    for (const values of perRow) expect(values.data.length).toBe(0);
  });

  test('refuses parameters, noise and values of another kind or shape', () => {
    const [x, y] = [parameters(2, 1), parameters(2, 2)];
    const distribution = make(x, y);
    expect(() => make([[1, 2]] as never, y)).toThrow(TypeError);
    expect(() => make(nd(new Float64Array(12), [2, 6]) as never, y)).toThrow(TypeError);
    const noise = noiseFor(distribution, Uint32Array.of(0, 1));
    for (const wrong of [zeros([2, 5]), zeros([1, 6]), zeros([12]), zeros([])]) {
      expect(() => distribution.sample(wrong)).toThrow(ShapeError);
      expect(() => distribution.logProb(wrong)).toThrow(ShapeError);
    }
    expect(() => distribution.sample({ ...noise, offset: 1 })).toThrow(ShapeError);
    expect(() => distribution.sample(noise.data as never)).toThrow(TypeError);
    expect(() => distribution.kl(make(zeros([1, 6]), zeros([1, 6])) as never)).toThrow(ShapeError);
  });
});
