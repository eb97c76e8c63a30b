import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import {
  type GraphSpec,
  type NodeSpec,
  OnnxFormatError,
  type OnnxModel,
  readModel,
  type ValueSpec,
  writeModel,
} from 'umwelt/onnx';
import { describe, expect, it } from 'vitest';
import { WireWriter } from '../../src/onnx/wire-writer.js';
import {
  externalDataModel,
  gemmModel,
  identityModel,
  nestedRandomModel,
  unknownRankGruModel,
} from '../support/onnx-builder.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

const x: ValueSpec = { name: 'x', shape: ['B', 3] };
const y: ValueSpec = { name: 'y', shape: ['B', 3] };

function modelOf(graph: Partial<GraphSpec>): Uint8Array {
  return writeModel({ graph: { inputs: [x], outputs: [y], nodes: [], ...graph } });
}

/** A model with these bytes as its graph. */
function modelAround(graph: WireWriter): Uint8Array {
  return new WireWriter().message(7, graph).finish();
}

/** A graph with one input of this `TypeProto`. */
function modelWithType(type: WireWriter): Uint8Array {
  const value = new WireWriter().text(1, 'x').message(2, type);
  return modelAround(new WireWriter().message(11, value));
}

function thrownBy(read: () => OnnxModel): OnnxFormatError {
  try {
    read();
  } catch (error) {
    if (error instanceof OnnxFormatError) return error;
    throw error;
  }
  return expect.fail('expected an OnnxFormatError');
}

describe('readModel', () => {
  it('reads what a model takes, gives and contains', () => {
    const bytes = writeModel({
      irVersion: 9,
      producer: 'trainer',
      producerVersion: '2.1',
      opsets: { '': 20, 'com.microsoft': 1 },
      metadata: { task: 'hopper', größe: 'ü', __proto__x: '' },
      graph: {
        name: 'policy',
        inputs: [{ name: 'obs', shape: ['B', 11] }],
        outputs: [{ name: 'action', dtype: 'float64', shape: ['B', 3] }],
        initializers: [{ name: 'w', shape: [11, 3], data: new Float32Array(33) }],
        nodes: [
          { op: 'MatMul', inputs: ['obs', 'w'], outputs: ['h'] },
          { op: 'Gelu', domain: 'com.microsoft', name: 'act', inputs: ['h'], outputs: ['action'] },
        ],
      },
    });
    expect(readModel(bytes)).toEqual({
      irVersion: 9,
      producer: 'trainer 2.1',
      opsets: { '': 20, 'com.microsoft': 1 },
      metadata: { task: 'hopper', größe: 'ü', __proto__x: '' },
      graph: {
        name: 'policy',
        inputs: [{ name: 'obs', dtype: 'float32', shape: ['B', 11], isTensor: true }],
        overridable: [],
        outputs: [{ name: 'action', dtype: 'float64', shape: ['B', 3], isTensor: true }],
        initializers: [{ name: 'w', dtype: 'float32', shape: [11, 3] }],
        nodes: [
          {
            name: '',
            opType: 'MatMul',
            domain: '',
            inputs: ['obs', 'w'],
            outputs: ['h'],
            where: 'node 0 MatMul',
          },
          {
            name: 'act',
            opType: 'Gelu',
            domain: 'com.microsoft',
            inputs: ['h'],
            outputs: ['action'],
            where: 'node 1 Gelu "act"',
          },
        ],
      },
      externalData: [],
    });
  });

  it('tells a scalar, an unknown rank, and lengths with and without a name apart', () => {
    const shapes: ValueSpec['shape'][] = [[], null, ['B', 3], ['', 3], [0]];
    const bytes = modelOf({ inputs: shapes.map((shape, i) => ({ name: `x${i}`, shape })) });
    expect(readModel(bytes).graph.inputs.map((input) => input.shape)).toEqual(shapes);
  });

  it('takes a negative length, as some exporters write it, for an unknown one', () => {
    const length = (value: number): WireWriter => new WireWriter().int(1, value);
    const shape = new WireWriter().message(1, length(-1)).message(1, length(3));
    const type = new WireWriter().message(1, new WireWriter().int(1, 1).message(2, shape));
    expect(readModel(modelWithType(type)).graph.inputs[0].shape).toEqual(['', 3]);
  });

  it('names every element type, and unknown where there is none', () => {
    const dtypes = ['uint8', 'int32', 'int64', 'bool', 'float16', 'float64', 'string'] as const;
    const bytes = modelOf({ inputs: dtypes.map((dtype) => ({ name: dtype, dtype, shape: [1] })) });
    expect(readModel(bytes).graph.inputs.map((input) => input.dtype)).toEqual(dtypes);
    for (const number of [0, 99, -1]) {
      const type = new WireWriter().message(1, new WireWriter().int(1, number));
      expect(readModel(modelWithType(type)).graph.inputs[0]).toEqual({
        name: 'x',
        dtype: 'unknown',
        shape: null,
        isTensor: true,
      });
    }
  });

  it('says of a sequence, a map, an optional, a sparse tensor and no type that it is no tensor', () => {
    const tensor = new WireWriter().message(1, new WireWriter().int(1, 1));
    const noTensor = { name: 'x', dtype: 'unknown', shape: null, isTensor: false };
    for (const kind of [4, 5, 7, 8, 9]) {
      const type = new WireWriter().message(kind, new WireWriter().message(1, tensor));
      expect(readModel(modelWithType(type)).graph.inputs).toEqual([noTensor]);
    }
    expect(readModel(modelWithType(new WireWriter())).graph.inputs).toEqual([noTensor]);
    const untyped = new WireWriter().message(11, new WireWriter().text(1, 'x'));
    expect(readModel(modelAround(untyped)).graph.inputs).toEqual([noTensor]);
  });

  it('lists inputs that have an initializer apart', () => {
    const model = readModel(
      modelOf({
        inputs: [{ name: 'w', shape: [3] }, x, { name: 's', shape: [4] }],
        initializers: [{ name: 'w', shape: [3], data: new Float32Array(3) }],
        sparseInitializers: [
          {
            values: { name: 's', shape: [1], data: new Float32Array(1) },
            indices: { shape: [1], data: new BigInt64Array(1) },
            shape: [4],
          },
        ],
      }),
    );
    expect(model.graph.inputs.map((input) => input.name)).toEqual(['x']);
    expect(model.graph.overridable.map((input) => input.name)).toEqual(['w', 's']);
    expect(model.graph.initializers).toEqual([
      { name: 'w', dtype: 'float32', shape: [3] },
      { name: 's', dtype: 'float32', shape: [4] },
    ]);
  });

  it('finds operations in nested graphs and in functions, and says where they are', () => {
    const leaf: NodeSpec = { op: 'RandomNormal', inputs: [], outputs: ['z'] };
    const inner: GraphSpec = { inputs: [], outputs: [], nodes: [leaf] };
    const loop: NodeSpec = {
      op: 'Loop',
      name: 'steps',
      inputs: ['', ''],
      outputs: ['z'],
      attributes: { body: { graph: inner } },
    };
    const gate: NodeSpec = {
      op: 'If',
      inputs: ['c'],
      outputs: ['y'],
      attributes: {
        axis: { int: -1 },
        then_branch: { graph: { inputs: [], outputs: [], nodes: [loop] } },
        many: { graphs: [inner, inner] },
      },
    };
    const { graph } = readModel(
      writeModel({
        graph: { inputs: [x], outputs: [y], nodes: [leaf, gate] },
        functions: [{ name: 'Noise', domain: 'my.ops', inputs: [], outputs: ['z'], nodes: [loop] }],
      }),
    );
    expect(graph.nodes.map((node) => node.where)).toEqual([
      'node 0 RandomNormal',
      'node 1 If',
      'node 1 If > then_branch > node 0 Loop "steps"',
      'node 1 If > then_branch > node 0 Loop "steps" > body > node 0 RandomNormal',
      'node 1 If > many > node 0 RandomNormal',
      'node 1 If > many > node 0 RandomNormal',
      'function my.ops.Noise > node 0 Loop "steps"',
      'function my.ops.Noise > node 0 Loop "steps" > body > node 0 RandomNormal',
    ]);
    expect(graph.nodes[2].inputs).toEqual(['', '']);
  });

  it('takes ai.onnx for the standard domain', () => {
    const model = readModel(
      writeModel({
        opsets: { 'ai.onnx': 19 },
        graph: {
          inputs: [x],
          outputs: [y],
          nodes: [{ op: 'Identity', domain: 'ai.onnx', inputs: ['x'], outputs: ['y'] }],
        },
      }),
    );
    expect(model.opsets).toEqual({ '': 19 });
    expect(model.graph.nodes[0].domain).toBe('');
  });

  it('finds external data wherever a tensor can stand', () => {
    const external = (location: string, offset?: number, length?: number) => ({
      dtype: 'float32' as const,
      shape: [2],
      external: {
        location,
        ...(offset === undefined ? {} : { offset }),
        ...(length === undefined ? {} : { length }),
      },
    });
    const constant = (location: string): NodeSpec => ({
      op: 'Constant',
      inputs: [],
      outputs: ['k'],
      attributes: { value: { tensor: external(location) } },
    });
    const branch: GraphSpec = {
      inputs: [],
      outputs: [],
      initializers: [{ ...external('branch.bin', 64), name: 'v' }],
      nodes: [constant('constant.bin')],
    };
    const model = readModel(
      writeModel({
        functions: [
          { name: 'F', domain: 'd', inputs: [], outputs: [], nodes: [constant('function.bin')] },
        ],
        graph: {
          inputs: [x],
          outputs: [y],
          initializers: [
            { ...external('weights.bin', 0, 8), name: 'w' },
            { name: 'inline', shape: [1], data: new Float32Array(1) },
          ],
          sparseInitializers: [
            {
              values: { ...external('values.bin'), name: 's' },
              indices: external('indices.bin'),
              shape: [9],
            },
          ],
          nodes: [
            { op: 'If', inputs: ['c'], outputs: ['y'], attributes: { a: { graph: branch } } },
          ],
        },
      }),
    );
    // In the order of the file, where the operations of a graph come before its weights.
    expect(model.externalData).toEqual([
      { tensor: 'node 0 If > a > node 0 Constant > value', location: 'constant.bin' },
      { tensor: 'v', location: 'branch.bin', offset: 64 },
      { tensor: 'w', location: 'weights.bin', offset: 0, length: 8 },
      { tensor: 'sparse initializer > indices', location: 'indices.bin' },
      { tensor: 's', location: 'values.bin' },
      { tensor: 'function d.F > node 0 Constant > value', location: 'function.bin' },
    ]);
  });

  it('refuses external data that could be read in two ways', () => {
    const entry = (key: string, value: string): WireWriter =>
      new WireWriter().text(1, key).text(2, value);
    const read = (...entries: [string, string][]): (() => OnnxModel) => {
      const tensor = new WireWriter().int(1, 2).int(2, 1).text(8, 'w').int(14, 1);
      for (const [key, value] of entries) tensor.message(13, entry(key, value));
      return () => readModel(modelAround(new WireWriter().message(5, tensor)));
    };
    const file: [string, string] = ['location', 'w.bin'];
    expect(read(file)().externalData).toEqual([{ tensor: 'w', location: 'w.bin' }]);
    expect(read()).toThrow('external data of "w" must give a location, got none');
    expect(read(['location', ''])).toThrow('must give a location');
    expect(read(file, ['location', 'v.bin'])).toThrow('must give "location" once, got it twice');
    for (const count of ['-16', '1e3', '0x10', ' 8', '8 ', '', '1.5', '9007199254740993']) {
      expect(read(file, ['offset', count]), count).toThrow(OnnxFormatError);
      expect(read(file, ['length', count]), count).toThrow('must give its length as a count');
    }
  });

  it('ignores external data of a tensor that is not marked as external, as runtimes do', () => {
    const entry = new WireWriter().text(1, 'location').text(2, 'w.bin');
    const tensor = new WireWriter().int(1, 0).int(2, 1).text(8, 'w').message(13, entry);
    expect(readModel(modelAround(new WireWriter().message(5, tensor))).externalData).toEqual([]);
  });

  it('reads repeated integers packed and unpacked', () => {
    const unpacked = new WireWriter().int(1, 2).int(1, 300);
    const packed = new WireWriter().bytes(1, new WireWriter().varint(2).varint(300).finish());
    const both = new WireWriter()
      .int(1, 2)
      .bytes(1, new WireWriter().varint(300).finish())
      .bytes(1, new Uint8Array(0));
    for (const tensor of [unpacked, packed, both]) {
      const { graph } = readModel(modelAround(new WireWriter().message(5, tensor)));
      expect(graph.initializers).toEqual([{ name: '', dtype: 'unknown', shape: [2, 300] }]);
    }
  });

  it('merges a singular message that comes twice, as protobuf does', () => {
    const node = (op: string): WireWriter => new WireWriter().text(4, op);
    const half = (op: string): WireWriter => new WireWriter().message(1, node(op));
    const entry = new WireWriter().text(1, 'location').text(2, 'w.bin');
    // One attribute whose graph and whose tensor come in two parts: only together are they external.
    const attribute = new WireWriter()
      .text(1, 'a')
      .message(6, half('Inner1'))
      .message(5, new WireWriter().message(13, entry))
      .message(6, half('Inner2'))
      .message(5, new WireWriter().int(14, 1));
    const model = readModel(
      new WireWriter()
        .message(7, half('First'))
        .message(7, new WireWriter().message(1, node('Second').message(5, attribute)))
        .finish(),
    );
    expect(model.graph.nodes.map((one) => one.where)).toEqual([
      'node 0 First',
      'node 1 Second',
      'node 1 Second > a > node 0 Inner1',
      'node 1 Second > a > node 1 Inner2',
    ]);
    expect(model.externalData).toEqual([{ tensor: 'node 1 Second > a', location: 'w.bin' }]);
  });

  it('takes the last of two things that exclude each other, as protobuf does', () => {
    const float = new WireWriter().message(1, new WireWriter().int(1, 1));
    const sequence = new WireWriter().message(4, new WireWriter());
    const typed = (...types: WireWriter[]): OnnxModel => {
      const value = new WireWriter().text(1, 'x');
      for (const type of types) value.message(2, type);
      return readModel(modelAround(new WireWriter().message(11, value)));
    };
    expect(typed(float, sequence).graph.inputs[0].isTensor).toBe(false);
    expect(typed(sequence, float).graph.inputs[0].isTensor).toBe(true);
    // What an earlier tensor said is gone with it, unlike when two tensors follow each other.
    const scalar = new WireWriter().message(1, new WireWriter().message(2, new WireWriter()));
    expect(typed(scalar, sequence, float).graph.inputs[0].shape).toBeNull();
    expect(typed(scalar, float).graph.inputs[0].shape).toEqual([]);
    const long = (length: number): WireWriter => {
      const shape = new WireWriter().message(1, new WireWriter().int(1, length));
      return new WireWriter().message(1, new WireWriter().message(2, shape));
    };
    expect(typed(long(2), long(3)).graph.inputs[0].shape).toEqual([2, 3]);
    const dimension = (part: WireWriter): OnnxModel => {
      const shape = new WireWriter().message(1, part);
      return typed(new WireWriter().message(1, new WireWriter().int(1, 1).message(2, shape)));
    };
    const last = (part: WireWriter) => dimension(part).graph.inputs[0].shape;
    expect(last(new WireWriter().int(1, 4).text(2, 'B'))).toEqual(['B']);
    expect(last(new WireWriter().text(2, 'B').int(1, 4))).toEqual([4]);
  });

  it('passes over fields it does not know', () => {
    const future = new WireWriter().int(1000, 5).float(1001, 1).text(1002, 'later');
    const plain = gemmModel({ weight: [1], bias: [1] });
    expect(readModel(Uint8Array.from([...future.finish(), ...plain]))).toEqual(readModel(plain));
  });

  it('reads from a view into a larger buffer, and keeps nothing of it', () => {
    const bytes = gemmModel({ weight: [1, 2], bias: [3], metadata: { key: 'value' } });
    const larger = new Uint8Array(bytes.length + 20).fill(0xff);
    larger.set(bytes, 10);
    const view = larger.subarray(10, 10 + bytes.length);
    const model = readModel(view);
    expect(model).toEqual(readModel(bytes));
    larger.fill(0);
    expect(model.metadata).toEqual({ key: 'value' });
    expect(model.graph.inputs[0].name).toBe('x');
  });

  it('does not copy weights', () => {
    const size = 64 * 2 ** 20;
    // The headers around `size` bytes of raw_data, from the inside out.
    const header = (field: number, length: number): Uint8Array =>
      new WireWriter()
        .varint((field << 3) | 2)
        .varint(length)
        .finish();
    const raw = header(9, size);
    const tensor = header(5, raw.length + size);
    const graph = header(7, tensor.length + raw.length + size);
    const front = [...graph, ...tensor, ...raw];
    const bytes = new Uint8Array(front.length + size);
    bytes.set(front);
    const before = process.memoryUsage().arrayBuffers;
    expect(readModel(bytes).graph.initializers.length).toBe(1);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });
});

describe('bytes that are no model', () => {
  const graph = 0x3a; // tag of field 7, length-delimited

  it('are refused with the byte and the problem', () => {
    const cases: [string, number[], number, string][] = [
      ['nothing', [], 0, 'a model must have a graph'],
      ['no graph', [0x08, 10], 2, 'a model must have a graph'],
      ['a truncated varint', [0x08, 0x80], 1, 'an integer must end inside its message'],
      ['a varint of 11 bytes', [0x08, ...Array(10).fill(0x80), 1], 1, 'at most 10 bytes'],
      ['a varint of 65 bits', [0x08, ...Array(9).fill(0x80), 2], 1, 'must fit 64 bits'],
      ['an integer above 2^53', [0x08, ...Array(8).fill(0xff), 0x7f], 1, 'within ±(2^53 - 1)'],
      ['a length past the end', [graph, 5, 0x12, 0], 1, 'got a length of 5 where 2 bytes are left'],
      ['a length of 2 GiB', [graph, 0xff, 0xff, 0xff, 0xff, 7], 1, 'a length of 2147483647'],
      ['a length of 2^63', [graph, ...Array(9).fill(0x80), 1], 1, 'must lie inside its message'],
      [
        'a nested length past its message',
        [graph, 2, 0x0a, 1, 0x08, 10],
        3,
        'in GraphProto: field 1',
      ],
      ['a group', [0x0b, 0x0c], 0, 'got group start'],
      ['the end of a group', [0x0c], 0, 'got group end'],
      ['wire type 6', [0x0e], 0, 'got wire type 6'],
      ['wire type 7', [0x0f], 0, 'got wire type 7'],
      ['field number 0', [0x02, 0], 0, 'a field number must be at least 1'],
      ['a tag of 33 bits', [0x80, 0x80, 0x80, 0x80, 0x10, 0], 0, 'a field tag must fit 32 bits'],
      ['a graph that is a number', [0x38, 1], 0, 'field 7 must be length-delimited, got varint'],
      ['a version that is text', [0x0a, 0], 0, 'field 1 must be varint, got length-delimited'],
      ['invalid UTF-8', [graph, 4, 0x12, 2, 0xc3, 0x28], 4, 'must be valid UTF-8 text'],
      ['a cut 64-bit value', [0x99, 0x06, 1, 2], 2, 'must have 8 bytes, got 2'],
      ['a cut 32-bit value', [0x9d, 0x06, 1, 2], 2, 'must have 4 bytes, got 2'],
      ['a packed integer cut off', [graph, 5, 0x2a, 3, 0x0a, 1, 0x80], 6, 'must end inside'],
      [
        'a negative length',
        [graph, 13, 0x2a, 11, 0x08, ...Array(9).fill(0xff), 1],
        4,
        'at least 0',
      ],
    ];
    for (const [what, bytes, offset, problem] of cases) {
      const error = thrownBy(() => readModel(Uint8Array.from(bytes)));
      expect(error.message, what).toContain(problem);
      expect(error.offset, what).toBe(offset);
      expect(error.message, what).toContain(`at byte ${offset}: in `);
      expect(error.name, what).toBe('OnnxFormatError');
    }
  });

  it('are refused when a packed integer runs over the end of its field', () => {
    // The last of the packed dims borrows its final byte from what follows the field.
    const bytes = Uint8Array.of(graph, 7, 0x2a, 5, 0x0a, 1, 0x80, 0x10, 1);
    expect(thrownBy(() => readModel(bytes)).message).toContain('must end with their field');
  });

  it('are refused beyond 100 nested messages and read up to there', () => {
    const nested = (levels: number, innermost: WireWriter = new WireWriter()): Uint8Array => {
      // The graph is the first message; node > attribute > graph are three more a level.
      let inner = innermost;
      for (let level = 0; level < levels; level++) {
        const attribute = new WireWriter().text(1, 'body').message(6, inner);
        inner = new WireWriter().message(1, new WireWriter().text(4, 'Loop').message(5, attribute));
      }
      return modelAround(inner);
    };
    expect(readModel(nested(33)).graph.nodes.length).toBe(33);
    const oneMore = nested(33, new WireWriter().message(1, new WireWriter()));
    expect(thrownBy(() => readModel(oneMore)).message).toContain('at most 100 deep');
    expect(thrownBy(() => readModel(nested(200))).message).toContain('at most 100 deep');
  });

  it('are refused when they are another kind of file', () => {
    const texts = [
      'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
      '<!DOCTYPE html><html></html>',
      '{"format": 1}',
      'PK\u0003\u0004',
    ];
    for (const text of texts) {
      const error = thrownBy(() => readModel(new TextEncoder().encode(text)));
      expect(error.message).toContain('not a Git LFS pointer or an error page');
    }
  });

  it('are refused at every length short of the whole, or read as a model that lost its tail', () => {
    const bytes = gemmModel({ weight: [1, 2, 3, 4], bias: [5, 6] });
    // After the graph comes the operator set: a message of 4 bytes with a tag, a length and two fields.
    const graphEnd = bytes.length - 6;
    for (let length = 0; length < graphEnd; length++) {
      expect(() => readModel(bytes.subarray(0, length)), `${length}`).toThrow(OnnxFormatError);
    }
    const model = readModel(bytes.subarray(0, graphEnd));
    expect(model).toEqual({ ...readModel(bytes), opsets: {} });
  });

  it('of another type are a TypeError', () => {
    // @ts-expect-error an ArrayBuffer
    expect(() => readModel(new ArrayBuffer(8))).toThrow(TypeError);
    // @ts-expect-error text
    expect(() => readModel('model.onnx')).toThrow(TypeError);
    // @ts-expect-error nothing
    expect(() => readModel(null)).toThrow(TypeError);
  });
});

describe('damaged models', () => {
  /** Mulberry32: a seed gives the same damage each time, so a failure can be replayed. */
  function random(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /**
   * Changed bits and bytes; in every other case also cuts, copies and insertions, which shift all
   * that follows and so rarely leave a readable file.
   */
  function damaged(bytes: Uint8Array, next: () => number): Uint8Array {
    let result = Array.from(bytes);
    const kinds = next() < 0.5 ? 3 : 7;
    const injuries = 1 + Math.floor(next() * 3);
    for (let i = 0; i < injuries; i++) {
      const at = Math.floor(next() * result.length);
      const to = Math.min(result.length, at + 1 + Math.floor(next() * 16));
      const kind = Math.floor(next() * kinds);
      if (kind === 0) result[at] ^= 1 << Math.floor(next() * 8);
      else if (kind === 1) result[at] = Math.floor(next() * 256);
      else if (kind === 2) result.fill(0xff, at, Math.min(to, at + 3));
      else if (kind === 3) result = result.slice(0, at);
      else if (kind === 4) result.splice(at, to - at);
      else if (kind === 5) result.splice(at, 0, ...result.slice(at, to));
      else result.splice(at, 0, Math.floor(next() * 256));
    }
    return Uint8Array.from(result);
  }

  const models = [
    gemmModel({ weight: [1, 2, 3, 4], bias: [5, 6], metadata: { key: 'value' } }),
    identityModel('float16', ['B', 2]),
    nestedRandomModel(),
    unknownRankGruModel(),
    externalDataModel([1, 2]).model,
    writeModel({
      functions: [{ name: 'F', domain: 'd', inputs: ['a'], outputs: ['b'], nodes: [] }],
      graph: {
        inputs: [x],
        outputs: [y],
        sparseInitializers: [
          {
            values: { name: 's', shape: [1], data: new Float32Array(1) },
            indices: { shape: [1], data: new BigInt64Array(1) },
            shape: [4],
          },
        ],
        nodes: [
          {
            op: 'F',
            domain: 'd',
            inputs: ['x'],
            outputs: ['y'],
            attributes: { i: { ints: [1, -1] }, f: { floats: [1] }, s: { strings: ['a'] } },
          },
        ],
      },
    }),
  ];

  it.each(models.map((_, index) => index))(
    'of kind %i are read or refused with OnnxFormatError, 5,000 times',
    (index) => {
      let read = 0;
      for (let seed = 0; seed < 5_000; seed++) {
        const bytes = damaged(models[index], random(seed));
        try {
          readModel(bytes);
          read++;
        } catch (error) {
          if (!(error instanceof OnnxFormatError)) throw new Error(`seed ${seed}: ${error}`);
          if (!(error.offset >= 0 && error.offset <= bytes.length)) {
            expect.fail(`seed ${seed}: offset ${error.offset} of ${bytes.length} bytes`);
          }
        }
      }
      // Both ends must have been reached, or the damage is too mild or too heavy to tell anything.
      expect(read).toBeGreaterThan(250);
      expect(read).toBeLessThan(4_750);
    },
  );

  it('of random bytes are refused, 5,000 times', () => {
    for (let seed = 0; seed < 5_000; seed++) {
      const next = random(seed);
      const bytes = Uint8Array.from({ length: 100 }, () => Math.floor(next() * 256));
      expect(() => readModel(bytes), `seed ${seed}`).toThrow(OnnxFormatError);
    }
  });
});

describe('models in this repository', () => {
  const files = ['test/fixtures', 'examples/models'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.onnx'))
      .map((name) => join(folder, name)),
  );

  it('are there', () => {
    expect(files.length).toBeGreaterThan(0);
  });

  it.each(files)('%s has the inputs and outputs that ONNX Runtime sees', async (file) => {
    const path = join(root, file);
    const { graph } = readModel(readFileSync(path));
    const session = await ort.InferenceSession.create(path);
    const facts = (values: typeof graph.inputs) =>
      values.map(({ name, dtype, shape, isTensor }) => ({ name, type: dtype, shape, isTensor }));
    expect(facts(graph.inputs)).toEqual(session.inputMetadata);
    expect(facts(graph.outputs)).toEqual(session.outputMetadata);
    await session.release();
  });
});
