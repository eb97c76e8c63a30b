import { type NdView, nd } from 'umwelt';
import { colouredNoise } from 'umwelt/rollout';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { correlation } from '../support/statistics.js';

/** Rows whose normal numbers are given. */
class Known extends RowNoise {
  readonly #numbers: readonly number[];

  constructor(numbers: readonly number[]) {
    super(0, Stream.policy, 0, Uint32Array.of(0));
    this.#numbers = numbers;
  }

  override normal(width: number): NdView {
    return nd(Float32Array.from(this.#numbers), [1, width]);
  }
}

const rows = (count: number): RowNoise =>
  new RowNoise(
    11,
    Stream.policy,
    3,
    Uint32Array.from({ length: count }, (_, b) => b),
  );

describe('colouredNoise', () => {
  // z = np.round(np.random.default_rng(0).normal(size=H), 2); K = H // 2 + 1; im = np.zeros(K)
  // im[1:1 + H - K] = z[K:]; parts = iter([z[:K], im])
  // colorednoise._get_normal_distribution = lambda _: lambda scale, size: scale * next(parts)
  // colorednoise.powerlaw_psd_gaussian(beta, H)   (colorednoise 2.0.0)
  const z = [0.13, -0.13, 0.64, 0.1, -0.54, 0.36];
  test.each([
    [3, 4, [0.0474021245, -0.1458753173, 0.3034324257, 0.0510710683]],
    [2, 5, [0.2280789337, -0.1524652047, -0.0415963536, 0.5229013053, -0.2662298436]],
    [1, 6, [0.3309337631, -0.0063116952, 0.4932832451, 0.491677664, -0.6004220023, -0.3992204033]],
  ])(
    'of exponent %d over %d steps is the reference of the same numbers',
    (beta, horizon, golden) => {
      const { data } = colouredNoise(new Known(z.slice(0, horizon)), { beta, horizon, width: 1 });
      golden.forEach((value, t) => {
        expect(data[t]).toBeCloseTo(value, 6);
      });
    },
  );

  // s = np.fft.rfftfreq(H)[1:]**-1; s[-1] *= (1 + H % 2) / 2; 2 * np.sqrt((s**2).sum()) / H
  test.each([
    [10, 2.39467],
    [5, 2.236068],
  ])('is scaled by the deviation of its %d steps', (horizon, sigma) => {
    // A real part of 1 at the lowest frequency 1 / H is a cosine of height 2 / sigma.
    const numbers = Array.from({ length: horizon }, (_, k) => (k === 1 ? 1 : 0));
    const { data } = colouredNoise(new Known(numbers), { beta: 2, horizon, width: 1 });
    expect(2 / data[0]).toBeCloseTo(sigma, 5);
  });

  // f = np.fft.rfftfreq(10); f[0] = f[1]; v = 4 * f**-beta; v[[0, -1]] /= 4
  // (v * np.cos(2 * np.pi * np.arange(6) / 10)).sum() / v.sum()
  test.each([
    [0, 0, 0.02],
    [2, 0.619, 0.02],
    [3, 0.75, 0.02],
  ])('of exponent %d has neighbours that correlate by %d at 10 steps', (beta, lag, near) => {
    const { data } = colouredNoise(rows(2000), { beta, horizon: 10, width: 2 });
    const now: number[] = [];
    const next: number[] = [];
    data.forEach((value, i) => {
      // Steps are two numbers apart, and the last of a sequence has no next.
      if (i % 20 >= 18) return;
      now.push(value);
      next.push(data[i + 2]);
    });
    expect(Math.abs(correlation(now, next) - lag)).toBeLessThan(near);
  });

  test('has columns that know nothing of each other', () => {
    const { data } = colouredNoise(rows(2000), { beta: 2, horizon: 10, width: 2 });
    const first = data.filter((_, i) => i % 2 === 0);
    const second = data.filter((_, i) => i % 2 === 1);
    expect(Math.abs(correlation(first, second))).toBeLessThan(0.03);
  });

  test('is white where beta is 0, and over a single step', () => {
    expect(colouredNoise(rows(3), { beta: 0, horizon: 4, width: 2 }).data).toEqual(
      rows(3).normal(8).data,
    );
    expect(colouredNoise(rows(3), { beta: 2, horizon: 1, width: 2 }).data).toEqual(
      rows(3).normal(2).data,
    );
  });

  test('of a row does not depend on the rows around it', () => {
    const options = { beta: 2, horizon: 7, width: 3, draw: 1 };
    const all = colouredNoise(rows(5), options);
    const alone = colouredNoise(new RowNoise(11, Stream.policy, 3, Uint32Array.of(4)), options);
    expect(all.shape).toEqual([5, 7, 3]);
    expect(alone.data).toEqual(all.data.subarray(4 * 21));
  });

  test('is written where the caller wants it', () => {
    const out = new Float32Array(100).fill(9);
    const options = { beta: 1, horizon: 5, width: 2 };
    const { data } = colouredNoise(rows(2), { ...options, out });
    expect(data.buffer).toBe(out.buffer);
    expect(data).toEqual(colouredNoise(rows(2), options).data);
    expect(out[20]).toBe(9);
  });

  test('refuses exponents and sizes that make no sense', () => {
    const good = { beta: 1, horizon: 5, width: 2 };
    expect(() => colouredNoise(rows(1), { ...good, beta: -1 })).toThrow(
      'colouredNoise: beta must be a finite number of at least 0, got -1',
    );
    expect(() => colouredNoise(rows(1), { ...good, horizon: 0 })).toThrow(RangeError);
    expect(() => colouredNoise(rows(1), { ...good, width: 1.5 })).toThrow(RangeError);
    expect(() => colouredNoise(rows(1), { ...good, Beta: 1 } as never)).toThrow(
      "did you mean 'beta'?",
    );
  });
});
