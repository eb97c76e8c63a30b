import fc from 'fast-check';
import { simNorm } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { nd, ShapeError } from '../../src/nd.js';

describe('simNorm', () => {
  test('is a softmax within each group of consecutive numbers', () => {
    // import torch; torch.softmax(torch.tensor([1., 2, 3, 4, 0, 0, 0, 8]).view(2, 4), -1).flatten()
    const { data, shape } = simNorm(nd([[1, 2, 3, 4, 0, 0, 0, 8]]), 4);
    expect(shape).toEqual([1, 8]);
    expect(data).toBeAllclose(
      [0.032059, 0.087144, 0.236883, 0.643914, 0.000335, 0.000335, 0.000335, 0.998995],
      { rtol: 0, atol: 5e-7 },
    );
  });

  test('makes groups of eight, as TD-MPC2, unless told otherwise', () => {
    const x = nd(
      Float32Array.from({ length: 32 }, (_, i) => Math.sin(i)),
      [2, 16],
    );
    expect(simNorm(x).data).toBeBitEqual(simNorm(x, 8).data);
    expect(simNorm(x).data).not.toBeBitEqual(simNorm(x, 16).data);
  });

  test('makes non-negative groups that sum to 1 of any finite numbers', () => {
    const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), {
      minLength: 6,
      maxLength: 6,
    });
    fc.assert(
      fc.property(values, (row) => {
        const { data } = simNorm(nd([row]), 3);
        for (const at of [0, 3]) {
          const group = data.subarray(at, at + 3);
          expect(Math.abs(group[0] + group[1] + group[2] - 1)).toBeLessThan(2e-7);
          expect(Math.min(...group)).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 1000, seed: 5 },
    );
  });

  test('keeps NaN within its group', () => {
    const { data } = simNorm(nd([[Number.NaN, 1, 1, 1]]), 2);
    expect([...data]).toEqual([Number.NaN, Number.NaN, 0.5, 0.5]);
  });

  test('takes any rank and any strides, and leaves its input alone', () => {
    const x = Float32Array.from({ length: 24 }, (_, i) => Math.cos(i));
    const kept = x.slice();
    const flat = simNorm(nd(x, [6, 4]), 2);
    const deep = simNorm(nd(x, [2, 3, 4]), 2);
    expect(deep.shape).toEqual([2, 3, 4]);
    expect(deep.data).toBeBitEqual(flat.data);
    const reversed = { data: x, shape: [6, 4], stride: [-4, 1], offset: 20 };
    expect(simNorm(reversed, 2).data.subarray(0, 4)).toBeBitEqual(flat.data.subarray(20));
    expect(x).toBeBitEqual(kept);
  });

  test('refuses groups that do not fill the last axis', () => {
    for (const size of [3, 0, -2, 1.5, Number.NaN]) {
      expect(() => simNorm(nd([[1, 2, 3, 4]]), size)).toThrow(ShapeError);
    }
    expect(() => simNorm(nd([[1, 2, 3, 4]]), 3)).toThrow(
      'simNorm: groupSize must divide the last axis of length 4, got 3',
    );
    expect(() => simNorm([[1, 2]] as never)).toThrow(TypeError);
  });
});
