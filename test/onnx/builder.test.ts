import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { readModel } from '../../src/onnx/index.js';
import {
  type BuilderDtype,
  buildModel,
  externalDataModel,
  gemmModel,
  identityModel,
  type NodeSpec,
  nestedRandomModel,
  randomNormalLikeModel,
  unknownRankGruModel,
} from '../support/onnx-builder.js';

const { InferenceSession, Tensor } = ort;

/** Runs a model once and gives the named output. */
async function run(
  model: Uint8Array,
  feeds: Record<string, ort.Tensor>,
  options: ort.InferenceSession.SessionOptions = {},
): Promise<ort.Tensor> {
  const session = await InferenceSession.create(model, options);
  const outputs = await session.run(feeds);
  await session.release();
  return outputs.y;
}

describe('models made by the writer, in ONNX Runtime', () => {
  it('multiply and add as gemmModel says', async () => {
    // [1, 2] times [[1, 2, 3], [4, 5, 6]] plus [10, 20, 30].
    const model = gemmModel({ weight: [1, 2, 3, 4, 5, 6], bias: [10, 20, 30] });
    const output = await run(model, { x: new Tensor('float32', [1, 2], [1, 2]) });
    expect(output.dims).toEqual([1, 3]);
    expect(output.data).toEqual(new Float32Array([19, 32, 45]));
  });

  it('have the names and the batch that gemmModel was given', async () => {
    const model = gemmModel({ weight: [2], bias: [0], input: 'obs', output: 'action', batch: 4 });
    const session = await InferenceSession.create(model);
    expect(session.inputMetadata).toEqual([
      { name: 'obs', type: 'float32', shape: [4, 1], isTensor: true },
    ]);
    expect(session.outputNames).toEqual(['action']);
    await session.release();
  });

  it('give back float32 and float16 patterns through identityModel', async () => {
    const floats = new Tensor('float32', [1, 2, 3], [1, 3]);
    expect((await run(identityModel(), { x: floats })).data).toEqual(floats.data);
    const bits = Uint16Array.from([0x3c00, 0xc000, 0x0001]);
    const halves = await run(identityModel('float16'), { x: new Tensor('float16', bits, [1, 3]) });
    expect(halves.type).toBe('float16');
    // A runtime with Float16Array gives that; the bits are the same.
    const { data } = halves as { data: ArrayBufferView };
    expect(new Uint16Array(data.buffer, data.byteOffset, 3)).toEqual(bits);
  });

  it('give back 64-bit integers and flags through identityModel', async () => {
    const integers = new Tensor('int64', BigInt64Array.from([-1n, 2n, 3n]), [1, 3]);
    expect((await run(identityModel('int64'), { x: integers })).data).toEqual(integers.data);
    const flags = new Tensor('bool', Uint8Array.from([1, 0, 1]), [1, 3]);
    expect((await run(identityModel('bool'), { x: flags })).data).toEqual(flags.data);
  });

  it('add noise as randomNormalLikeModel says, the same in each session with the same seed', async () => {
    const feeds = { x: new Tensor('float32', new Float32Array(3), [1, 3]) };
    const first = await run(randomNormalLikeModel(7), feeds);
    const again = await run(randomNormalLikeModel(7), feeds);
    const other = await run(randomNormalLikeModel(8), feeds);
    expect([...(first.data as Float32Array)].every((value) => value !== 0)).toBe(true);
    expect(again.data).toEqual(first.data);
    expect(other.data).not.toEqual(first.data);
    expect((await run(randomNormalLikeModel(), feeds)).dims).toEqual([1, 3]);
  });

  it('hide their noise in a branch as nestedRandomModel says', async () => {
    const x = new Tensor('float32', new Float32Array(3), [1, 3]);
    const gate = (on: number): ort.Tensor => new Tensor('bool', Uint8Array.of(on), []);
    expect((await run(nestedRandomModel(), { x, gate: gate(0) })).data).toEqual(x.data);
    expect((await run(nestedRandomModel(), { x, gate: gate(1) })).data).not.toEqual(x.data);
  });

  it('load with an input of unknown rank, which ONNX Runtime shows like a scalar', async () => {
    // Loaded only: feeding it a wrong rank aborts the process.
    const session = await InferenceSession.create(unknownRankGruModel());
    expect(session.inputMetadata).toEqual([
      { name: 'x', type: 'float32', shape: [], isTensor: true },
    ]);
    await session.release();
    expect(readModel(unknownRankGruModel()).graph.inputs[0].shape).toBeNull();
  });

  it('load with the data that externalDataModel keeps apart, and not without', async () => {
    const { model, data } = externalDataModel([1, 2], 'weights.bin');
    const feeds = { x: new Tensor('float32', [10, 20], [1, 2]) };
    const output = await run(model, feeds, { externalData: [{ path: 'weights.bin', data }] });
    expect(output.data).toEqual(new Float32Array([11, 22]));
    await expect(InferenceSession.create(model)).rejects.toThrow();
    expect(readModel(model).externalData).toEqual([
      { tensor: 'offset', location: 'weights.bin', offset: 0, length: 8 },
    ]);
  });

  it('call functions local to the model', async () => {
    const model = buildModel({
      opsets: { 'my.ops': 1 },
      functions: [
        {
          name: 'Twice',
          domain: 'my.ops',
          inputs: ['a'],
          outputs: ['b'],
          nodes: [{ op: 'Add', inputs: ['a', 'a'], outputs: ['b'] }],
        },
      ],
      graph: {
        inputs: [{ name: 'x', shape: ['B'] }],
        outputs: [{ name: 'y', shape: ['B'] }],
        nodes: [{ op: 'Twice', domain: 'my.ops', inputs: ['x'], outputs: ['y'] }],
      },
    });
    const output = await run(model, { x: new Tensor('float32', [1, 2], [2]) });
    expect(output.data).toEqual(new Float32Array([2, 4]));
  });

  it('carry attributes of each kind', async () => {
    const x = new Tensor('float32', [-2, 4], [1, 2]);
    const apply = (
      op: string,
      attributes: NodeSpec['attributes'],
      dtype: BuilderDtype = 'float32',
    ) =>
      run(
        buildModel({
          graph: {
            inputs: [{ name: 'x', shape: [1, 2] }],
            outputs: [{ name: 'y', dtype, shape: null }],
            nodes: [{ op, inputs: op === 'Constant' ? [] : ['x'], outputs: ['y'], attributes }],
          },
        }),
        { x },
      );
    const leaky = await apply('LeakyRelu', { alpha: { float: 0.5 } });
    expect(leaky.data).toEqual(new Float32Array([-1, 4]));
    const largest = await apply('ArgMax', { axis: { int: -1 } }, 'int64');
    expect(largest.data).toEqual(BigInt64Array.of(1n));
    const transposed = await apply('Transpose', { perm: { ints: [1, 0] } });
    expect(transposed.dims).toEqual([2, 1]);
    const gelu = await apply('Gelu', { approximate: { string: 'tanh' } });
    const exact = await apply('Gelu', { approximate: { string: 'none' } });
    expect(gelu.data).not.toEqual(exact.data);
    const floats = await apply('Constant', { value_floats: { floats: [0.5, -1] } });
    expect(floats.data).toEqual(new Float32Array([0.5, -1]));
    const strings = await apply('Constant', { value_strings: { strings: ['a', 'ü'] } }, 'string');
    expect(strings.data).toEqual(['a', 'ü']);
    const tensor = { shape: [1], data: Float64Array.of(0.1) };
    expect((await apply('Constant', { value: { tensor } }, 'float64')).data).toEqual(tensor.data);
  });
});
