import { type NdView, rowMajor, sizeOf } from '../nd.js';
import { transposedStrides } from './operands.js';

/**
 * One array of a stack's state: how its rows are named and shaped for everybody, and how they lie.
 *
 * Element `[b, ...i]` of the public array is `data[b * rowSize + offset + i . stride]`.
 */
export interface StatePart {
  /** `layers.{i}.conv` or `layers.{i}.ssm`. */
  readonly name: string;
  /** Of a row as everybody sees it: conv `[C, K - 1]`, ssm `[D, N]` or `[H, P, N]`. */
  readonly shape: readonly number[];
  readonly stride: readonly number[];
  readonly offset: number;
  /** Of a row as it lies. */
  readonly dims: readonly number[];
}

/** The names of a layer's two parts. */
export function partNames(layer: number): [conv: string, ssm: string] {
  return [`layers.${layer}.conv`, `layers.${layer}.ssm`];
}

/** The name of a graph's output that is a part's new value. */
export function nextName(part: string): string {
  return `next.${part}`;
}

/** A part of which the last two axes lie transposed. */
export function transposedPart(name: string, shape: readonly number[]): StatePart {
  const rank = shape.length;
  const dims = [...shape.slice(0, rank - 2), shape[rank - 1], shape[rank - 2]];
  return { name, shape, stride: transposedStrides(shape), offset: 0, dims };
}

/**
 * A part that lies as everybody sees it.
 *
 * @param dims - where the runtime's tensor has axes of length 1 more
 */
export function straightPart(
  name: string,
  shape: readonly number[],
  dims: readonly number[] = shape,
): StatePart {
  return { name, shape, stride: rowMajor(shape), offset: 0, dims };
}

/** A window `[C, K]`, whose first column has had its time. */
export function widePart(name: string, shape: readonly number[]): StatePart {
  const [channels, before] = shape;
  return { name, shape, stride: [before + 1, 1], offset: 1, dims: [channels, before + 1] };
}

/** Elements of a row as it lies. */
export function rowSize(part: StatePart): number {
  return sizeOf(part.dims);
}

/** A part's array as everybody sees it, without a copy. */
export function publicView(part: StatePart, data: Float32Array, batch: number): NdView {
  return {
    data,
    shape: [batch, ...part.shape],
    stride: [rowSize(part), ...part.stride],
    offset: part.offset,
  };
}

/** The way in: writes a public array into rows as they lie. */
export function fillPart(part: StatePart, data: Float32Array, from: NdView): void {
  const to = publicView(part, data, from.shape[0]);
  const copy = (axis: number, a: number, b: number): void => {
    if (axis === to.shape.length) {
      data[b] = from.data[a];
      return;
    }
    for (let i = 0; i < to.shape[axis]; i++) {
      copy(axis + 1, a + i * from.stride[axis], b + i * to.stride[axis]);
    }
  };
  copy(0, from.offset, to.offset);
}
