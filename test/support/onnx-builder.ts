/** Ready-made models for tests, written without files or Python. */

import { type GraphSpec, type OnnxDtype, type TensorSpec, writeModel } from 'umwelt/onnx';
import { WireWriter } from '../../src/onnx/wire-writer.js';

/** `y = x · weight + bias`: one Gemm with its weights inline. */
export interface GemmSpec {
  /** `[inSize, outSize]`, row-major. */
  weight: readonly number[];
  /** `[outSize]`. */
  bias: readonly number[];
  /** Names of the input and the output; by default `x` and `y`. */
  input?: string;
  output?: string;
  /** Batch dimension; by default the symbol `B`. */
  batch?: number | string;
  metadata?: Readonly<Record<string, string>>;
}

/** A model `y = x · weight + bias`, `x` `[B, inSize]`, `y` `[B, outSize]`, float32. */
export function gemmModel(spec: GemmSpec): Uint8Array {
  const { weight, bias, input = 'x', output = 'y', batch = 'B', metadata = {} } = spec;
  const outSize = bias.length;
  const inSize = weight.length / outSize;
  return writeModel({
    metadata,
    graph: {
      name: 'gemm',
      inputs: [{ name: input, shape: [batch, inSize] }],
      outputs: [{ name: output, shape: [batch, outSize] }],
      initializers: [
        { name: 'weight', shape: [inSize, outSize], data: Float32Array.from(weight) },
        { name: 'bias', shape: [outSize], data: Float32Array.from(bias) },
      ],
      nodes: [{ op: 'Gemm', inputs: [input, 'weight', 'bias'], outputs: [output] }],
    },
  });
}

/** A model `y = x` of any type; `[B, 3]` float32 by default. */
export function identityModel(
  dtype: OnnxDtype = 'float32',
  shape: readonly (number | string)[] | null = ['B', 3],
): Uint8Array {
  return writeModel({
    graph: {
      name: 'identity',
      inputs: [{ name: 'x', dtype, shape }],
      outputs: [{ name: 'y', dtype, shape }],
      nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    },
  });
}

/** A model `y = x + noise` with the noise drawn inside the graph. */
export function randomNormalLikeModel(seed?: number): Uint8Array {
  return writeModel({
    graph: {
      name: 'noisy',
      inputs: [{ name: 'x', shape: ['B', 3] }],
      outputs: [{ name: 'y', shape: ['B', 3] }],
      nodes: [
        {
          op: 'RandomNormalLike',
          name: 'draw',
          inputs: ['x'],
          outputs: ['noise'],
          attributes: seed === undefined ? {} : { seed: { float: seed } },
        },
        { op: 'Add', inputs: ['x', 'noise'], outputs: ['y'] },
      ],
    },
  });
}

/** A model whose random op is inside the branch of an `If`, where a flat look does not find it. */
export function nestedRandomModel(): Uint8Array {
  const branch = (op: string): GraphSpec => ({
    name: op,
    inputs: [],
    outputs: [{ name: `from${op}`, shape: ['B', 3] }],
    nodes: [{ op, inputs: ['x'], outputs: [`from${op}`] }],
  });
  return writeModel({
    graph: {
      name: 'gated',
      inputs: [
        { name: 'x', shape: ['B', 3] },
        { name: 'gate', dtype: 'bool', shape: [] },
      ],
      outputs: [{ name: 'y', shape: ['B', 3] }],
      nodes: [
        {
          op: 'If',
          name: 'choose',
          inputs: ['gate'],
          outputs: ['y'],
          attributes: {
            then_branch: { graph: branch('RandomNormalLike') },
            else_branch: { graph: branch('Identity') },
          },
        },
      ],
    },
  });
}

/**
 * A GRU whose input has no declared rank. It loads, but feeding it rank 0, 1 or 2 aborts the whole
 * process in ONNX Runtime 1.30: never run it in the process of a test.
 */
export function unknownRankGruModel(): Uint8Array {
  const inSize = 2;
  const hidden = 3;
  const zeros = (...shape: number[]): TensorSpec => ({
    shape,
    data: new Float32Array(shape.reduce((size, length) => size * length, 1)),
  });
  return writeModel({
    graph: {
      name: 'gru',
      inputs: [{ name: 'x', shape: null }],
      outputs: [{ name: 'last', shape: null }],
      initializers: [
        { ...zeros(1, 3 * hidden, inSize), name: 'w' },
        { ...zeros(1, 3 * hidden, hidden), name: 'r' },
      ],
      nodes: [
        {
          op: 'GRU',
          inputs: ['x', 'w', 'r'],
          outputs: ['', 'last'],
          attributes: { hidden_size: { int: hidden } },
        },
      ],
    },
  });
}

/** A model `y = x + offset` whose weight lies in another file, and the bytes of that file. */
export function externalDataModel(
  offset: readonly number[],
  location: string = 'model.onnx.data',
): { model: Uint8Array; data: Uint8Array } {
  const data = new Uint8Array(Float32Array.from(offset).buffer);
  const model = writeModel({
    graph: {
      name: 'external',
      inputs: [{ name: 'x', shape: ['B', offset.length] }],
      outputs: [{ name: 'y', shape: ['B', offset.length] }],
      initializers: [
        {
          name: 'offset',
          dtype: 'float32',
          shape: [offset.length],
          external: { location, offset: 0, length: data.length },
        },
      ],
      nodes: [{ op: 'Add', inputs: ['x', 'offset'], outputs: ['y'] }],
    },
  });
  return { model, data };
}

/**
 * A model `y = x + w` whose weight claims 2^66 elements and holds one. Byte by byte, since
 * `writeModel` refuses it.
 */
export function impossibleWeightModel(): Uint8Array {
  const weight = new WireWriter()
    .int(1, 2 ** 31)
    .int(1, 2 ** 31)
    .int(1, 16)
    .int(2, 1);
  weight.text(8, 'w').bytes(9, new Uint8Array(4));
  const shape = new WireWriter().message(1, new WireWriter().int(1, 1));
  const type = new WireWriter().message(1, new WireWriter().int(1, 1).message(2, shape));
  const graph = new WireWriter()
    .message(1, new WireWriter().text(1, 'x').text(1, 'w').text(2, 'y').text(4, 'Add'))
    .text(2, 'impossible')
    .message(5, weight)
    .message(11, new WireWriter().text(1, 'x').message(2, type))
    .message(12, new WireWriter().text(1, 'y').message(2, type));
  const opset = new WireWriter().text(1, '').int(2, 21);
  return new WireWriter().int(1, 10).message(7, graph).message(8, opset).finish();
}
