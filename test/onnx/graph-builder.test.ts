import * as ort from 'onnxruntime-node';
import { GraphBuilder, type GraphBuilderOptions, readModel, writeModel } from 'umwelt/onnx';
import { describe, expect, it } from 'vitest';

const { InferenceSession, Tensor } = ort;

async function run(model: Uint8Array, feeds: Record<string, ort.Tensor>) {
  const session = await InferenceSession.create(model);
  const outputs = await session.run(feeds);
  await session.release();
  return outputs;
}

const rows = (...values: number[]): ort.Tensor => new Tensor('float32', values, [1, values.length]);

describe('GraphBuilder', () => {
  it('builds a network that ONNX Runtime computes', async () => {
    const g = new GraphBuilder();
    const x = g.input('x', ['B', 2]);
    const hidden = g.op('Gemm', [
      x,
      g.constant(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]),
      g.constant(Float32Array.of(10, -20, 30), [3]),
    ]);
    g.op('Relu', [hidden], {}, { output: 'y' });
    g.output('y', ['B', 3]);
    // [1, 2] times [[1, 2, 3], [4, 5, 6]] is [9, 12, 15].
    const { y } = await run(g.build(), { x: rows(1, 2) });
    expect(y.data).toEqual(Float32Array.of(19, 0, 45));
  });

  it('gives each of several outputs a name', async () => {
    const g = new GraphBuilder();
    const [a, b, c] = g.ops('Split', [g.input('x', ['B', 3])], 3, {
      axis: { int: 1 },
      num_outputs: { int: 3 },
    });
    g.ops('Sub', [g.op('Mul', [a, b]), c], 1, {}, { outputs: ['y'] });
    g.output('y', ['B', 1]);
    const { y } = await run(g.build(), { x: rows(3, 5, 4) });
    expect(y.data).toEqual(Float32Array.of(11));
  });

  it('takes an empty name for an optional input or output left out', async () => {
    const g = new GraphBuilder();
    const x = g.input('x', ['B', 3]);
    g.op('Clip', [x, '', g.constant(Float32Array.of(2), [])], {}, { output: 'y' });
    g.ops('Unique', [x], 4, {}, { outputs: ['distinct', '', '', 'counts'] });
    g.output('y', ['B', 3]);
    g.output('counts', ['N'], 'int64');
    const { y, counts } = await run(g.build(), { x: rows(9, -5, 9) });
    expect(y.data).toEqual(Float32Array.of(2, -5, 2));
    expect(counts.data).toEqual(BigInt64Array.of(1n, 2n));
  });

  it('stores flags and half floats where the type is given', async () => {
    const g = new GraphBuilder();
    const half = g.constant(Uint16Array.of(0x3c00, 0xc000), [2], 'half', 'float16');
    const flags = g.constant(Uint8Array.of(1, 0), [2], 'flags', 'bool');
    const zero = g.constant(Uint16Array.of(0), [], undefined, 'float16');
    const chosen = g.op('Where', [flags, half, zero]);
    // 1 is TensorProto.FLOAT.
    g.op('Cast', [chosen], { to: { int: 1 } }, { output: 'y' });
    g.output('y', [2]);
    const { y } = await run(g.build(), {});
    expect(y.data).toEqual(Float32Array.of(1, 0));
  });

  it('writes operations of other domains, with their names and versions', async () => {
    const g = new GraphBuilder({ opsets: { '': 20, 'com.microsoft': 1 } });
    const x = g.input('x', ['B', 2]);
    const weight = g.constant(Float32Array.of(1, 2), [1, 2]);
    const scaled = { alpha: { float: 0.5 }, transB: { int: 1 } };
    const options = { domain: 'com.microsoft', name: 'half', output: 'y' };
    expect(g.op('FusedMatMul', [x, weight], scaled, options)).toBe('y');
    g.output('y', ['B', 1]);
    const model = readModel(g.build());
    expect(model.opsets).toEqual({ '': 20, 'com.microsoft': 1 });
    expect(model.graph.nodes[0]).toMatchObject({ domain: 'com.microsoft', name: 'half' });
    const { y } = await run(g.build(), { x: rows(3, 4) });
    expect(y.data).toEqual(Float32Array.of(5.5));
  });

  it('nests graphs, whose names a prefix keeps apart', async () => {
    const g = new GraphBuilder();
    const x = g.input('x', ['B', 2]);
    const gate = g.input('gate', [], 'bool');
    const positive = g.op('Abs', [x]);
    const branch = (prefix: string, op: string) => {
      const body = new GraphBuilder({ name: prefix, prefix: `${prefix}.` });
      body.output(body.op(op, [body.op('Abs', [positive])]), ['B', 2]);
      return { graph: body.spec().graph };
    };
    const branches = {
      then_branch: branch('then', 'Neg'),
      else_branch: branch('else', 'Identity'),
    };
    g.op('If', [gate], branches, { output: 'y' });
    g.output('y', ['B', 2]);
    const model = g.build();
    expect(readModel(model).graph.nodes.flatMap((node) => node.outputs)).toEqual([
      'Abs_0',
      'y',
      'then.Abs_0',
      'then.Neg_1',
      'else.Abs_0',
      'else.Identity_1',
    ]);
    const feed = (on: number) => ({ x: rows(1, -2), gate: new Tensor('bool', [on], []) });
    expect((await run(model, feed(1))).y.data).toEqual(Float32Array.of(-1, -2));
    expect((await run(model, feed(0))).y.data).toEqual(Float32Array.of(1, 2));
  });

  it('makes up names that nobody has taken', () => {
    const g = new GraphBuilder();
    g.input('Relu_0', [1]);
    g.input('constant_2', [1]);
    expect(g.op('Relu', ['Relu_0'])).toBe('Relu_1');
    expect(g.constant(new Float32Array(1), [1])).toBe('constant_3');
    expect(g.ops('Split', ['Relu_0'], 2)).toEqual(['Split_4', 'Split_5']);
  });

  it('stores an array given twice once, unless its shape, type or name differs', () => {
    const g = new GraphBuilder();
    const data = new Uint8Array(4);
    const name = g.constant(data, [4]);
    expect(g.constant(data, [4])).toBe(name);
    const others = [
      g.constant(data, [2, 2]),
      g.constant(data, [4], undefined, 'bool'),
      g.constant(data, [4], 'named'),
      g.constant(new Uint8Array(4), [4]),
    ];
    expect(new Set([name, ...others]).size).toBe(5);
    expect(g.spec().graph.initializers?.map((tensor) => tensor.name)).toEqual([name, ...others]);
  });

  it('passes on what else a model has', () => {
    const options: GraphBuilderOptions = {
      irVersion: 9,
      producer: 'umwelt',
      producerVersion: '1',
      metadata: { kind: 'test' },
      name: 'net',
      functions: [
        {
          name: 'Twice',
          domain: 'my.ops',
          inputs: ['a'],
          outputs: ['b'],
          nodes: [{ op: 'Add', inputs: ['a', 'a'], outputs: ['b'] }],
        },
      ],
      opsets: { 'my.ops': 1 },
    };
    const g = new GraphBuilder(options);
    g.op('Twice', [g.input('x', [1])], {}, { domain: 'my.ops', output: 'y' });
    g.output('y', [1]);
    expect(g.build()).toEqual(writeModel(g.spec()));
    expect(readModel(g.build())).toMatchObject({
      irVersion: 9,
      producer: 'umwelt 1',
      metadata: { kind: 'test' },
      opsets: { '': 21, 'my.ops': 1 },
      graph: { name: 'net', nodes: [{ opType: 'Twice' }, { opType: 'Add' }] },
    });
  });

  it('gives a description that later operations do not change', () => {
    const g = new GraphBuilder();
    const x = g.input('x', [1]);
    const before = g.spec();
    g.output(g.op('Relu', [x]), [1]);
    expect(before.graph.nodes).toEqual([]);
    expect(before.graph.outputs).toEqual([]);
    expect(g.spec().graph.nodes.length).toBe(1);
  });

  it('refuses what it would else misread', () => {
    const g = new GraphBuilder();
    const x = g.input('x', [1]);
    const bad = (values: unknown): never => values as never;
    expect(() => g.op('Relu', bad('x'))).toThrow(/inputs must be an array of names, got x/);
    expect(() => g.op('Split', [x], { axis: bad(-1) })).toThrow(
      /say its type, as in \{ int: -1 \}/,
    );
    expect(() => g.op('Relu', [x], {}, bad({ outputs: ['y'] }))).toThrow(/must name one output/);
    expect(() => g.ops('Split', [x], 2, {}, bad({ output: 'y' }))).toThrow(/got 'output'/);
    expect(() => g.build()).toThrow(/a graph must have an output, got none/);
  });

  it('takes no name of an operation that it refuses', () => {
    const g = new GraphBuilder();
    const x = g.input('x', [1]);
    expect(() => g.ops('Split', [x], 2, {}, { outputs: ['a', 'x'] })).toThrow(/must be new/);
    expect(() => g.ops('Split', [x], 2, {}, { outputs: ['a', 'a'] })).toThrow(/must be new/);
    expect(g.op('Relu', [x], {}, { output: 'a' })).toBe('a');
  });

  it('refuses a name taken before, and an empty one', () => {
    const g = new GraphBuilder();
    const x = g.input('x', [1]);
    const data = new Float32Array(1);
    expect(() => g.input('x', [1])).toThrow(RangeError);
    expect(() => g.input('', [1])).toThrow('input: a name must be new and not empty, got ""');
    expect(() => g.constant(data, [1], 'x')).toThrow('constant: a name must be new');
    expect(() => g.op('Relu', [x], {}, { output: 'x' })).toThrow('Relu: a name must be new');
    expect(() => g.ops('Split', [x], 2, {}, { outputs: ['a', 'a'] })).toThrow('got "a"');
  });

  it('refuses a domain without a version, outputs not counted right, and outputs nobody makes', () => {
    const g = new GraphBuilder();
    const x = g.input('x', [1]);
    expect(() => g.op('Gelu', [x], {}, { domain: 'com.microsoft' })).toThrow(
      'Gelu: the domain of an operation must have a version, got "com.microsoft" without',
    );
    expect(() => g.ops('Split', [x], 2, {}, { outputs: ['a'] })).toThrow(
      'Split: outputs must be 2 names, got 1',
    );
    g.output('y', [1]);
    expect(() => g.build()).toThrow('an output must be made in the graph, got "y"');
    g.op('Relu', [x], {}, { output: 'y' });
    expect(readModel(g.build()).graph.outputs[0].name).toBe('y');
  });
});
