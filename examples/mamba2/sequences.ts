/** Arrays along time: `[B, T, ...]`, rows first as everywhere in umwelt. */

import { type NdView, nd, packed, type TypedArray } from 'umwelt';

/** One step, `[B, ...]`, as a view. */
export function at<T extends TypedArray>(sequences: NdView<T>, step: number): NdView<T> {
  const { data, shape, stride, offset } = sequences;
  const others = (axes: readonly number[]): number[] => axes.filter((_, axis) => axis !== 1);
  return {
    data,
    shape: others(shape),
    stride: others(stride),
    offset: offset + step * stride[1],
  };
}

/** Steps from `from` to before `to`, as a view. */
export function cut<T extends TypedArray>(
  sequences: NdView<T>,
  from: number,
  to: number = sequences.shape[1],
): NdView<T> {
  const { data, shape, stride, offset } = sequences;
  return {
    data,
    shape: shape.map((length, axis) => (axis === 1 ? to - from : length)),
    stride,
    offset: offset + from * stride[1],
  };
}

/** Steps `[B, S]`, at least one, to sequences `[B, T, S]`. */
export function join(steps: readonly NdView[]): NdView {
  const [rows, size] = steps[0].shape;
  const data = new Float32Array(rows * steps.length * size);
  steps.forEach((step, t) => {
    const values = packed(step);
    for (let row = 0; row < rows; row++) {
      const value = values.subarray(row * size, (row + 1) * size);
      data.set(value, (row * steps.length + t) * size);
    }
  });
  return nd(data, [rows, steps.length, size]);
}
