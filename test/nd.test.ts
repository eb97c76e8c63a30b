import ndarray from 'ndarray';
import { isNd, nd, packed, ShapeError } from 'umwelt';
import { toNdarray } from 'umwelt/ndarray';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { gatherRows, type NdView } from '../src/nd.js';

describe('nd', () => {
  test('shares a typed array and copies nested numbers into float32', () => {
    const data = new Float64Array(6);
    expect(nd(data, [2, 3]).data).toBe(data);
    const nested = nd([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    expect(nested).toEqual({
      data: Float32Array.of(1, 2, 3, 4, 5, 6),
      shape: [3, 2],
      stride: [2, 1],
      offset: 0,
    });
    expectTypeOf(nested.data).toExtend<Float32Array>();
    expectTypeOf(nd(data).data).toExtend<Float64Array>();
  });

  test('takes any rank, zero rows included', () => {
    expect(nd([[[1], [2]]]).shape).toEqual([1, 2, 1]);
    expect(nd(new Float32Array(0), [0, 4]).stride).toEqual([4, 1]);
    expect(nd([1, 2, 3]).shape).toEqual([3]);
    expect(nd([Float64Array.of(1, 2), [3, 4]])).toEqual(
      nd([
        [1, 2],
        [3, 4],
      ]),
    );
    expect(nd([1, 2, 3, 4], [2, 2]).stride).toEqual([2, 1]);
  });

  test('says which shape must hold', () => {
    expect(() => nd(new Float32Array(5), [2, 3])).toThrow(ShapeError);
    expect(() => nd(new Float32Array(5), [2, 3])).toThrow('[2,3] needs 6 elements, got 5');
    expect(() => nd(new Float32Array(4), [-2, -2])).toThrow(ShapeError);
    expect(() => nd([[1, 2], [3]])).toThrow('rows must have one length; axis 1 has 2, got 1');
    expect(() => nd([[1], ['2' as unknown as number]])).toThrow(TypeError);
    expect(() => nd('ab' as unknown as number[])).toThrow(TypeError);
  });
});

describe('an ndarray', () => {
  test('is a view as it is, strided ones too', () => {
    const array = ndarray(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
    expect(isNd(array)).toBe(true);
    expectTypeOf(array).toExtend<NdView<Float32Array>>();
    expect(packed(array.transpose(1, 0))).toEqual(Float32Array.of(1, 4, 2, 5, 3, 6));
    expect(packed(array.step(1, -1))).toEqual(Float32Array.of(3, 2, 1, 6, 5, 4));
  });

  test('wraps our views without a copy', () => {
    const view = nd([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const array = toNdarray(view);
    array.set(1, 2, 60);
    expect(view.data[5]).toBe(60);
    expect(array.get(0, 1)).toBe(2);
  });
});

describe('packed', () => {
  test('shares memory where the view is packed and copies where it is not', () => {
    const data = Float32Array.of(0, 1, 2, 3, 4, 5);
    expect(packed(nd(data, [2, 3]))).toBe(data);
    const row = { data, shape: [1, 3], stride: [99, 1], offset: 3 };
    expect(packed(row).buffer).toBe(data.buffer);
    expect(packed(row)).toEqual(Float32Array.of(3, 4, 5));
    const column = { data, shape: [2, 1], stride: [3, 1], offset: 1 };
    expect(packed(column)).toEqual(Float32Array.of(1, 4));
  });
});

describe('gatherRows', () => {
  test('copies rows in any order, of strided views and of rank 1', () => {
    const transposed = {
      data: Float32Array.of(1, 2, 3, 4),
      shape: [2, 2],
      stride: [1, 2],
      offset: 0,
    };
    expect(gatherRows(transposed, Int32Array.of(1, 0, 1))).toEqual(
      nd([
        [2, 4],
        [1, 3],
        [2, 4],
      ]),
    );
    expect(gatherRows(nd(Uint8Array.of(7, 8)), Int32Array.of(1)).data).toEqual(Uint8Array.of(8));
    expect(gatherRows(transposed, new Int32Array(0)).shape).toEqual([0, 2]);
  });

  test('refuses rows that are not there', () => {
    expect(() => gatherRows(nd([[1]]), Int32Array.of(1))).toThrow('must lie in 0..0, got 1 at 0');
    expect(() => gatherRows(nd([[1]]), Int32Array.of(-1))).toThrow(RangeError);
  });
});
