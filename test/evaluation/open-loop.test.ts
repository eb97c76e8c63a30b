import { describe, expect, it } from 'vitest';
import { openLoopError } from '../../src/evaluation/open-loop.js';
import { nd, ShapeError } from '../../src/nd.js';

const NaN32 = Number.NaN;

describe('openLoopError', () => {
  it('is the root of the mean squared error over rows and dimensions at each horizon', () => {
    // Two rows, two steps, two dimensions; the starts differ by 100 and must not count.
    const actual = nd(new Float32Array(2 * 3 * 2), [2, 3, 2]);
    const imagined = nd(new Float32Array([100, 100, 3, 4, 1, 1, 100, 100, 0, 0, 1, -5]), [2, 3, 2]);
    const { rmse, perRow, count } = openLoopError(imagined, actual);
    // Horizon 1: 9 + 16 + 0 + 0 over 4 values; horizon 2: 1 + 1 + 1 + 25 over 4.
    expect(rmse).toBeAllclose([2.5, Math.sqrt(7)], { rtol: 1e-15, atol: 0 });
    expect(perRow.shape).toEqual([2, 2]);
    expect(perRow.data).toBeBitEqual(Float32Array.from([Math.sqrt(12.5), 1, 0, Math.sqrt(13)]));
    expect(count).toEqual(Int32Array.from([2, 2]));
  });

  it('counts each dimension in units of its scale', () => {
    const actual = nd(new Float32Array(4), [1, 2, 2]);
    const imagined = nd(new Float32Array([0, 0, 2, 30]), [1, 2, 2]);
    const { rmse } = openLoopError(imagined, actual, { scale: [2, 10] });
    expect(rmse).toBeAllclose([Math.sqrt((1 + 9) / 2)], { rtol: 1e-15, atol: 0 });
  });

  it('leaves masked steps out, whatever they hold, and counts the rows that are left', () => {
    const actual = nd(new Float32Array(2 * 3), [2, 3, 1]);
    const imagined = nd(new Float32Array([0, 3, 4, 0, 1, NaN32]), [2, 3, 1]);
    const mask = nd(new Uint8Array([1, 1, 1, 0]), [2, 2]);
    const { rmse, perRow, count } = openLoopError(imagined, actual, { mask });
    expect(rmse).toBeAllclose([Math.sqrt(5), 4], { rtol: 1e-15, atol: 0 });
    expect(perRow.data).toBeBitEqual(Float32Array.from([3, 4, 1, NaN32]));
    expect(count).toEqual(Int32Array.from([2, 1]));
  });

  it('is NaN at a horizon no row reached, and for an empty batch', () => {
    const states = nd(new Float32Array(3), [1, 3, 1]);
    const mask = nd(new Uint8Array([1, 0]), [1, 2]);
    expect(openLoopError(states, states, { mask }).rmse).toEqual(Float64Array.from([0, NaN32]));
    const none = nd(new Float32Array(0), [0, 3, 4]);
    const { rmse, perRow, count } = openLoopError(none, none);
    expect(rmse).toEqual(Float64Array.from([NaN32, NaN32]));
    expect(perRow.shape).toEqual([0, 2]);
    expect(count).toEqual(Int32Array.from([0, 0]));
  });

  it('has no horizon when there is only the start', () => {
    const start = nd(new Float32Array(4), [2, 1, 2]);
    const { rmse, perRow } = openLoopError(start, start);
    expect(rmse.length).toBe(0);
    expect(perRow.shape).toEqual([2, 0]);
  });

  it('reads strided views and float64', () => {
    // [T+1, B, S] in memory, seen as [B, T+1, S].
    const data = new Float64Array([0, 10, 1, 12, 2, 14]);
    const imagined = { data, shape: [2, 3, 1], stride: [1, 2, 1], offset: 0 };
    const actual = nd(new Float32Array([0, 1, 2, 10, 10, 10]), [2, 3, 1]);
    const { perRow } = openLoopError(imagined, actual);
    expect(perRow.data).toBeBitEqual(Float32Array.from([0, 0, 2, 4]));
  });

  it('refuses a state that counts and is not finite', () => {
    const actual = nd(new Float32Array(3), [1, 3, 1]);
    const imagined = nd(new Float32Array([0, 0, NaN32]), [1, 3, 1]);
    expect(() => openLoopError(imagined, actual)).toThrow(RangeError);
    expect(() => openLoopError(actual, imagined)).toThrow('row 0, horizon 2');
  });

  it('refuses shapes that do not fit together', () => {
    const states = nd(new Float32Array(12), [2, 3, 2]);
    expect(() => openLoopError(states, nd(new Float32Array(12), [2, 2, 3]))).toThrow(ShapeError);
    const flat = nd(new Float32Array(12), [6, 2]);
    expect(() => openLoopError(flat, flat)).toThrow(ShapeError);
    const noPoint = nd(new Float32Array(0), [2, 0, 2]);
    expect(() => openLoopError(noPoint, noPoint)).toThrow(ShapeError);
    const noDimension = nd(new Float32Array(0), [2, 3, 0]);
    expect(() => openLoopError(noDimension, noDimension)).toThrow(ShapeError);
    const mask = nd(new Uint8Array(6), [2, 3]);
    expect(() => openLoopError(states, states, { mask })).toThrow(
      'mask must have shape [B, T] = [2, 2], got [2,3]',
    );
    expect(() => openLoopError(states, states, { scale: [1] })).toThrow(ShapeError);
  });

  it('refuses a scale of zero, a negative one and NaN', () => {
    const states = nd(new Float32Array(3), [1, 3, 1]);
    for (const scale of [0, -1, NaN32, Number.POSITIVE_INFINITY]) {
      expect(() => openLoopError(states, states, { scale: [scale] })).toThrow(RangeError);
    }
  });

  it('refuses a scale that is no list', () => {
    const states = nd(new Float32Array(3), [1, 3, 1]);
    for (const [scale, got] of [
      [2, 'number'],
      [nd([2]), 'a [1] view of Float32Array'],
      [null, 'null'],
      ['2', 'string'],
    ]) {
      expect(() => openLoopError(states, states, { scale: scale as unknown as number[] })).toThrow(
        `openLoopError: scale must be a list of numbers, one for each of the 1 dimensions, got ${got}`,
      );
    }
  });

  it('refuses options that nobody reads', () => {
    const states = nd(new Float32Array(3), [1, 3, 1]);
    // @ts-expect-error a misspelt option
    expect(() => openLoopError(states, states, { scales: [1] })).toThrow(TypeError);
    // @ts-expect-error no options
    expect(() => openLoopError(states, states, null)).toThrow('options must be an object');
  });

  it('refuses arguments of another kind', () => {
    const states = nd(new Float32Array(3), [1, 3, 1]);
    const integers = nd(new Int32Array(3), [1, 3, 1]);
    // @ts-expect-error integers are no states
    expect(() => openLoopError(integers, states)).toThrow(TypeError);
    // @ts-expect-error a bare array has no shape
    expect(() => openLoopError(states, states.data)).toThrow(TypeError);
    // @ts-expect-error flags are uint8
    expect(() => openLoopError(states, states, { mask: nd([[1, 1]]) })).toThrow(TypeError);
  });
});
