import fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import {
  type AttributeSpec,
  type GraphSpec,
  type NodeSpec,
  type OnnxDtype,
  readModel,
  type TensorSpec,
  type ValueSpec,
  writeModel,
} from 'umwelt/onnx';
import { ShapeError } from 'umwelt/runtime';
import { describe, expect, it } from 'vitest';
import {
  externalDataModel,
  gemmModel,
  identityModel,
  nestedRandomModel,
  randomNormalLikeModel,
  unknownRankGruModel,
} from '../support/onnx-builder.js';

const { InferenceSession, Tensor } = ort;

/** The element type a tensor has when only its array tells. */
function dtypeOf({ dtype, data }: TensorSpec): OnnxDtype {
  if (dtype !== undefined) return dtype;
  const name = `${data?.[Symbol.toStringTag]}`.replace(/Array|Big|Clamped/g, '').toLowerCase();
  return name as OnnxDtype;
}

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

describe('written models, in ONNX Runtime', () => {
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
    const model = writeModel({
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
    const apply = (op: string, attributes: NodeSpec['attributes'], dtype: OnnxDtype = 'float32') =>
      run(
        writeModel({
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

  it('hold integers of 64 bits exactly', async () => {
    const constant = (int: number | bigint): Uint8Array =>
      writeModel({
        graph: {
          inputs: [],
          outputs: [{ name: 'y', dtype: 'int64', shape: [] }],
          nodes: [
            { op: 'Constant', inputs: [], outputs: ['y'], attributes: { value_int: { int } } },
          ],
        },
      });
    const cases = [
      0,
      127,
      128,
      2 ** 31,
      2 ** 53 - 1,
      -1,
      -(2 ** 53 - 1),
      2n ** 63n - 1n,
      -(2n ** 63n),
    ];
    for (const value of cases) {
      expect((await run(constant(value), {})).data, `${value}`).toEqual(
        BigInt64Array.of(BigInt(value)),
      );
    }
  });

  it('may have thousands of operations', async () => {
    const count = 3000;
    const nodes: NodeSpec[] = Array.from({ length: count }, (_, i) => ({
      op: 'Add',
      inputs: [i === 0 ? 'x' : `h${i - 1}`, 'one'],
      outputs: [i === count - 1 ? 'y' : `h${i}`],
    }));
    const model = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: [1] }],
        outputs: [{ name: 'y', shape: [1] }],
        initializers: [{ name: 'one', shape: [1], data: Float32Array.of(1) }],
        nodes,
      },
    });
    const output = await run(model, { x: new Tensor('float32', [0.5], [1]) });
    expect(output.data).toEqual(Float32Array.of(count + 0.5));
  });

  it('hold every kind of stored tensor', async () => {
    const tensors: [TensorSpec, ort.Tensor['data']][] = [
      [{ shape: [2], data: Int8Array.of(-1, 2) }, Int8Array.of(-1, 2)],
      [{ shape: [2], data: Int16Array.of(-300, 2) }, Int16Array.of(-300, 2)],
      [{ shape: [2], data: Int32Array.of(-70000, 2) }, Int32Array.of(-70000, 2)],
      [{ shape: [2], data: Uint8Array.of(255, 2) }, Uint8Array.of(255, 2)],
      [{ shape: [2], data: Uint8ClampedArray.of(255, 2) }, Uint8Array.of(255, 2)],
      [{ shape: [2], data: Uint16Array.of(65535, 2) }, Uint16Array.of(65535, 2)],
      [{ shape: [2], data: Uint32Array.of(2 ** 32 - 1, 2) }, Uint32Array.of(2 ** 32 - 1, 2)],
      [{ shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) }, BigUint64Array.of(2n ** 64n - 1n)],
      [{ shape: [2], dtype: 'bool', data: Uint8Array.of(1, 0) }, Uint8Array.of(1, 0)],
      // A view into a larger buffer.
      [{ shape: [2], data: Float32Array.of(7, 8, 9, 10).subarray(1, 3) }, Float32Array.of(8, 9)],
    ];
    for (const [tensor, expected] of tensors) {
      const model = writeModel({
        graph: {
          inputs: [],
          outputs: [{ name: 'y', dtype: dtypeOf(tensor), shape: tensor.shape }],
          initializers: [{ ...tensor, name: 'w' }],
          nodes: [{ op: 'Identity', inputs: ['w'], outputs: ['y'] }],
        },
      });
      expect((await run(model, {})).data, dtypeOf(tensor)).toEqual(expected);
    }
  });
});

describe('writeModel', () => {
  // from onnx import helper as h, TensorProto as t
  // g = h.make_graph([h.make_node('Gather', ['x', 'i'], ['y'], axis=1)], 'g',
  //   [h.make_tensor_value_info('x', t.FLOAT, ['B', 3])], [h.make_tensor_value_info('y', t.FLOAT, None)],
  //   [h.make_tensor('i', t.INT64, [1, 2], struct.pack('<2q', 2, -1), raw=True)])
  // h.make_model(g, ir_version=10, opset_imports=[h.make_opsetid('', 21)]).SerializeToString().hex()
  it('writes the bytes that protobuf writes', () => {
    const bytes = writeModel({
      graph: {
        name: 'g',
        inputs: [{ name: 'x', shape: ['B', 3] }],
        outputs: [{ name: 'y', shape: null }],
        initializers: [{ name: 'i', shape: [1, 2], data: BigInt64Array.of(2n, -1n) }],
        nodes: [
          { op: 'Gather', inputs: ['x', 'i'], outputs: ['y'], attributes: { axis: { int: 1 } } },
        ],
      },
    });
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '080a3a610a1e0a01780a016912017922064761746865722a0b0a04617869731801a001021201672a' +
        '1b0801080210074201694a100200000000000000ffffffffffffffff5a140a0178120f0a0d080112' +
        '090a031201420a02080362090a017912040a02080142040a001015',
    );
  });

  it('copies a weight of 20 million elements once, bit for bit', () => {
    const data = new Float32Array(20_000_000);
    const words = new Uint32Array(data.buffer);
    // Every pattern of bits, NaNs with payloads among them.
    for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 2654435761);
    const before = process.memoryUsage().arrayBuffers;
    const bytes = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: [1] }],
        outputs: [{ name: 'y', shape: [20_000_000] }],
        initializers: [{ name: 'w', shape: [20_000_000], data }],
        nodes: [{ op: 'Add', inputs: ['x', 'w'], outputs: ['y'] }],
      },
    });
    const extra = process.memoryUsage().arrayBuffers - before - data.byteLength;
    expect(extra).toBeLessThan(2 ** 20);
    expect(bytes.length - data.byteLength).toBeLessThan(200);
    const weight = Buffer.from(data.buffer);
    const start = Buffer.from(bytes.buffer).indexOf(weight.subarray(0, 64));
    expect(start).toBeGreaterThan(0);
    expect(weight.equals(bytes.subarray(start, start + weight.length))).toBe(true);
    expect(readModel(bytes).graph.initializers).toEqual([
      { name: 'w', dtype: 'float32', shape: [20_000_000] },
    ]);
  });

  it('loses nothing that readModel sees', () => {
    const dtype = fc.constantFrom(
      'float32',
      'float64',
      'float16',
      'int64',
      'bool',
      'string',
      'int4',
    );
    const length = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.string());
    const text = fc.oneof(fc.string(), fc.string({ minLength: 400, maxLength: 5000 }));
    const values = fc.uniqueArray(
      fc.record({ name: fc.string({ minLength: 1 }), dtype, shape: fc.option(fc.array(length)) }),
      { selector: ({ name }) => name, maxLength: 5 },
    );
    const stored = fc.record({
      name: fc.string({ minLength: 1 }),
      values: fc.oneof(
        fc.float32Array({ maxLength: 500 }),
        fc.bigInt64Array({ maxLength: 500 }),
        fc.uint8Array({ maxLength: 2000 }),
      ),
    });
    const weights = fc.uniqueArray(stored, { selector: ({ name }) => name, maxLength: 5 });
    const names = fc.array(fc.string(), { maxLength: 4 });
    const attribute: fc.Arbitrary<AttributeSpec> = fc.oneof(
      fc.record({ float: fc.float() }),
      fc.record({ int: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) }),
      fc.record({ string: text }),
      fc.record({ floats: fc.array(fc.float()) }),
      fc.record({ ints: fc.array(fc.maxSafeInteger()) }),
      fc.record({ strings: fc.array(fc.string()) }),
    );
    const node = fc.record({
      op: fc.string({ minLength: 1 }),
      domain: fc.string(),
      name: text,
      inputs: names,
      outputCount: fc.nat(3),
      attributes: fc.dictionary(fc.string(), attribute, { maxKeys: 4 }),
    });
    const spec = fc.record({
      irVersion: fc.nat(),
      producer: text,
      opsets: fc.dictionary(fc.string(), fc.nat(), { maxKeys: 4 }),
      metadata: fc.dictionary(fc.string(), text, { maxKeys: 4 }),
      name: text,
      inputs: values,
      outputs: values,
      weights,
      nodes: fc.array(node, { maxLength: 8 }),
    });
    fc.assert(
      fc.property(spec, ({ inputs, outputs, weights, nodes, name, opsets, ...rest }) => {
        const fed = inputs.map((value, i) => ({ ...value, name: `${value.name} in ${i}` }));
        const operations = nodes.map(({ outputCount, ...node }, index) => ({
          ...node,
          outputs: Array.from({ length: outputCount }, (_, i) => `made ${index} ${i}`),
        }));
        const model = readModel(
          writeModel({
            ...rest,
            opsets,
            graph: {
              name,
              inputs: fed,
              outputs,
              initializers: weights.map(({ name, values }) => ({
                name: `${name} stored`,
                shape: [values.length],
                data: values,
              })),
              nodes: operations,
            },
          }),
        );
        expect(model).toEqual({
          ...rest,
          opsets: '' in opsets ? opsets : { '': 21, ...opsets },
          graph: {
            name,
            inputs: fed.map((value) => ({ ...value, isTensor: true })),
            overridable: [],
            outputs: outputs.map((value) => ({ ...value, isTensor: true })),
            initializers: weights.map(({ name, values }) => ({
              name: `${name} stored`,
              dtype: dtypeOf({ shape: [], data: values }),
              shape: [values.length],
            })),
            nodes: operations.map(({ op, attributes: _, ...node }, index) => ({
              ...node,
              opType: op,
              where: `node ${index} ${op}${node.name === '' ? '' : ` "${node.name}"`}`,
            })),
          },
          externalData: [],
        });
      }),
      { numRuns: 300, seed: 4 },
    );
  });

  it('writes one operator set for the standard domain, however it is spelled', () => {
    const graph = { inputs: [], outputs: [], nodes: [] };
    const opsets = (spec: Record<string, number>) => {
      const bytes = writeModel({ opsets: spec, graph });
      return { read: readModel(bytes).opsets, length: bytes.length };
    };
    expect(opsets({ '': 20 })).toEqual({ read: { '': 20 }, length: opsets({}).length });
    const long = opsets({ 'ai.onnx': 20 });
    expect(long).toEqual({ read: { '': 20 }, length: opsets({}).length + 'ai.onnx'.length });
  });

  it('refuses what would be a broken file', () => {
    const x: ValueSpec = { name: 'x', shape: [1] };
    const w: TensorSpec = { name: 'w', shape: [1], data: new Float32Array(1) };
    const node = (...outputs: string[]): NodeSpec => ({ op: 'Relu', inputs: ['x'], outputs });
    const nested = (graph: Partial<GraphSpec>): NodeSpec => ({
      ...node('y'),
      op: 'If',
      attributes: { then_branch: { graph: { inputs: [], outputs: [], nodes: [], ...graph } } },
    });
    const constant = (value: unknown): Partial<GraphSpec> => ({
      nodes: [{ ...node('y'), attributes: { value: value as AttributeSpec } }],
    });
    const stored = (tensor: Partial<TensorSpec>): Partial<GraphSpec> => ({
      initializers: [{ ...w, ...tensor }],
    });
    const external = (data: object): Partial<GraphSpec> =>
      stored({ dtype: 'int4', data: undefined, external: { location: 'w.bin', ...data } });
    const cases: [Partial<GraphSpec>, new (...args: never[]) => Error, string][] = [
      [stored({ shape: [3] }), ShapeError, 'initializer "w": shape [3] needs 3 elements, got 1'],
      [stored({ shape: [-1] }), ShapeError, 'each length must be a non-negative integer, got [-1]'],
      [stored({ shape: [0.5] }), ShapeError, 'got [0.5]'],
      [stored({ dtype: 'int32' }), TypeError, 'int32 must be Int32Array, got Float32Array'],
      [stored({ dtype: 'bfloat16' }), TypeError, 'bfloat16 must be Uint16Array, got Float32Array'],
      [stored({ dtype: 'string' }), TypeError, 'of string must be external, got Float32Array'],
      [stored({ dtype: 'unknown' }), TypeError, 'such as float32, got "unknown"'],
      [stored({ data: undefined }), TypeError, 'either data or external, got neither'],
      [stored({ external: { location: 'w.bin' } }), TypeError, 'got both'],
      [stored({ data: undefined, external: { location: 'a' } }), TypeError, 'got undefined'],
      [external({ location: '' }), RangeError, 'must have a location'],
      [external({ offset: -1 }), RangeError, 'offset -1'],
      [external({ length: 1.5 }), RangeError, 'length 1.5'],
      [stored({ name: '' }), RangeError, 'initializer: name must be given, got ""'],
      [stored({ name: undefined }), RangeError, 'initializer: name must be given, got undefined'],
      [{ initializers: [w, w] }, RangeError, 'initializer: each name must be made once in a graph'],
      [
        { initializers: [w], sparseInitializers: [{ values: w, indices: w, shape: [9] }] },
        RangeError,
        'sparse initializer: each name must be made once in a graph, got "w" twice',
      ],
      [{ inputs: [x, x] }, RangeError, 'input: each name must be made once in a graph, got "x"'],
      [{ outputs: [x, x] }, RangeError, 'output: each name must be made once in a graph, got "x"'],
      [{ inputs: [{ ...x, name: '' }] }, RangeError, 'input: name must be given'],
      [{ inputs: [{ ...x, shape: [NaN] }] }, ShapeError, 'input "x": each length'],
      [{ nodes: [node('x')] }, RangeError, 'node 0 Relu > output: each name must be made once'],
      [{ nodes: [node('y'), node('y')] }, RangeError, 'node 1 Relu > output: each name'],
      [{ nodes: [node('w')], initializers: [w] }, RangeError, 'got "w" twice; rename one'],
      [{ nodes: [{ ...node('y'), op: '' }] }, RangeError, 'node 0: op must name an operator'],
      [constant({ int: 0.5 }), RangeError, 'node 0 Relu > value must be an integer within 64 bits'],
      [constant({ int: 2 ** 60 }), RangeError, 'give a bigint'],
      [constant({ ints: [2n ** 63n] }), RangeError, 'got 9223372036854775808'],
      [constant({}), TypeError, 'must have one of the keys float, int, string'],
      [constant({ text: 'x' }), TypeError, 'got text'],
      [
        { nodes: [nested({ initializers: [{ ...w, shape: [2] }] })] },
        ShapeError,
        'node 0 If > then_branch > initializer "w": shape [2] needs 2 elements, got 1',
      ],
      [
        { nodes: [nested({ nodes: [node('a'), node('a')] })] },
        RangeError,
        'node 0 If > then_branch > node 1 Relu > output',
      ],
    ];
    for (const [graph, kind, message] of cases) {
      const write = () => writeModel({ graph: { inputs: [x], outputs: [], nodes: [], ...graph } });
      expect(write, message).toThrow(kind);
      expect(write, message).toThrow(message);
      expect(write, message).toThrow(/^writeModel: /);
    }
    const graph = { inputs: [], outputs: [], nodes: [] };
    expect(() => writeModel({ irVersion: 1.5, graph })).toThrow('irVersion must be an integer');
    expect(() => writeModel({ opsets: { a: NaN }, graph })).toThrow('opset "a" must be an integer');
    const local = { name: 'F', domain: 'd', inputs: ['a', 'a'], outputs: [], nodes: [] };
    expect(() => writeModel({ functions: [local], graph })).toThrow('function d.F > input');
  });

  it('takes a name of an initializer for an input too, and the same names in nested graphs', () => {
    const branch: GraphSpec = {
      inputs: [],
      outputs: [{ name: 'z', shape: [1] }],
      nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['z'] }],
    };
    const { graph } = readModel(
      writeModel({
        graph: {
          inputs: [{ name: 'w', shape: [1] }],
          outputs: [{ name: 'y', shape: [1] }],
          initializers: [{ name: 'w', shape: [1], data: new Float32Array(1) }],
          nodes: [
            {
              op: 'If',
              inputs: ['c'],
              outputs: ['y', ''],
              attributes: { then_branch: { graph: branch }, else_branch: { graph: branch } },
            },
            { op: 'Neg', inputs: ['y'], outputs: ['', ''] },
          ],
        },
      }),
    );
    expect(graph.overridable.map((value) => value.name)).toEqual(['w']);
    expect(graph.nodes.length).toBe(4);
  });
});
