/**
 * A small ONNX writer, so that tests can make real models without files or Python.
 *
 * Writes the protobuf wire format directly: IR version 10 and opset 21 unless told otherwise,
 * weights as little-endian `raw_data`, repeated integers unpacked (as ONNX's own proto2 schema does).
 */

/** Element types the writer can declare, by their number in `TensorProto.DataType`. */
const DTYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
} as const;

/** Element type of a value or tensor. */
export type BuilderDtype = keyof typeof DTYPES;

/** An input or output; float32 by default. A shape of `null` leaves the rank unknown. */
export interface ValueSpec {
  name: string;
  dtype?: BuilderDtype;
  /** A number is a fixed length, a name a symbolic one, `''` one with neither. */
  shape: readonly (number | string)[] | null;
}

/** A stored tensor: its elements inline, or in another file. */
export interface TensorSpec {
  name?: string;
  /** By default that of `data`; needed for float16 (`Uint16Array`) and bool (`Uint8Array`). */
  dtype?: BuilderDtype;
  shape: readonly number[];
  data?: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array | Uint16Array;
  external?: { location: string; offset?: number | string; length?: number | string };
}

/** The value of a node's attribute. */
export type AttributeSpec =
  | { float: number }
  | { int: number | bigint }
  | { string: string }
  | { floats: readonly number[] }
  | { ints: readonly (number | bigint)[] }
  | { strings: readonly string[] }
  | { tensor: TensorSpec }
  | { graph: GraphSpec }
  | { graphs: readonly GraphSpec[] };

/** One operation. */
export interface NodeSpec {
  op: string;
  domain?: string;
  name?: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes?: Readonly<Record<string, AttributeSpec>>;
}

/** A graph, main or nested. */
export interface GraphSpec {
  name?: string;
  inputs: readonly ValueSpec[];
  outputs: readonly ValueSpec[];
  initializers?: readonly TensorSpec[];
  sparseInitializers?: readonly { values: TensorSpec; indices: TensorSpec; shape: number[] }[];
  nodes: readonly NodeSpec[];
}

/** A function local to the model. */
export interface FunctionSpec {
  name: string;
  domain: string;
  inputs: readonly string[];
  outputs: readonly string[];
  nodes: readonly NodeSpec[];
}

/** A whole model. */
export interface ModelSpec {
  irVersion?: number;
  producer?: string;
  producerVersion?: string;
  opsets?: Readonly<Record<string, number>>;
  metadata?: Readonly<Record<string, string>>;
  functions?: readonly FunctionSpec[];
  graph: GraphSpec;
}

/** Bytes of one protobuf message, grown field by field. */
export class WireWriter {
  private readonly parts: number[] = [];

  /** A varint field; negative numbers take ten bytes, as protobuf writes them. */
  int(field: number, value: number | bigint): this {
    return this.varint(field << 3).varint(value);
  }

  /** A 32-bit float field. */
  float(field: number, value: number): this {
    this.varint((field << 3) | 5);
    return this.raw(new Uint8Array(new Float32Array([value]).buffer));
  }

  /** A length-delimited field of raw bytes. */
  bytes(field: number, value: Uint8Array): this {
    return this.varint((field << 3) | 2)
      .varint(value.length)
      .raw(value);
  }

  /** A text field. */
  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  /** A nested message. */
  message(field: number, value: WireWriter): this {
    return this.bytes(field, value.finish());
  }

  /** A bare varint without a tag. */
  varint(value: number | bigint): this {
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 0x7fn) {
      this.parts.push(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.parts.push(Number(rest));
    return this;
  }

  /** Bytes as they are. */
  raw(bytes: Uint8Array): this {
    for (const byte of bytes) this.parts.push(byte);
    return this;
  }

  /** The message's bytes. */
  finish(): Uint8Array {
    return Uint8Array.from(this.parts);
  }
}

/** Writes a model. */
export function buildModel(spec: ModelSpec): Uint8Array {
  const model = new WireWriter().int(1, spec.irVersion ?? 10);
  if (spec.producer !== undefined) model.text(2, spec.producer);
  if (spec.producerVersion !== undefined) model.text(3, spec.producerVersion);
  model.message(7, graphProto(spec.graph));
  const opsets = { '': 21, ...spec.opsets };
  for (const [domain, version] of Object.entries(opsets)) model.message(8, opset(domain, version));
  for (const [key, value] of Object.entries(spec.metadata ?? {})) {
    model.message(14, entry(key, value));
  }
  for (const local of spec.functions ?? []) model.message(25, functionProto(local, opsets));
  return model.finish();
}

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
  return buildModel({
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
  dtype: BuilderDtype = 'float32',
  shape: readonly (number | string)[] | null = ['B', 3],
): Uint8Array {
  return buildModel({
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
  return buildModel({
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
  return buildModel({
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
  return buildModel({
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
  const model = buildModel({
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

function graphProto(spec: GraphSpec): WireWriter {
  const graph = new WireWriter();
  for (const node of spec.nodes) graph.message(1, nodeProto(node));
  graph.text(2, spec.name ?? 'graph');
  for (const tensor of spec.initializers ?? []) graph.message(5, tensorProto(tensor));
  for (const value of spec.inputs) graph.message(11, valueInfo(value));
  for (const value of spec.outputs) graph.message(12, valueInfo(value));
  for (const sparse of spec.sparseInitializers ?? []) {
    const proto = new WireWriter()
      .message(1, tensorProto(sparse.values))
      .message(2, tensorProto(sparse.indices));
    for (const length of sparse.shape) proto.int(3, length);
    graph.message(15, proto);
  }
  return graph;
}

function nodeProto(spec: NodeSpec): WireWriter {
  const node = new WireWriter();
  for (const input of spec.inputs) node.text(1, input);
  for (const output of spec.outputs) node.text(2, output);
  if (spec.name !== undefined) node.text(3, spec.name);
  node.text(4, spec.op);
  for (const [name, value] of Object.entries(spec.attributes ?? {})) {
    node.message(5, attributeProto(name, value));
  }
  if (spec.domain !== undefined) node.text(7, spec.domain);
  return node;
}

/** Each kind of value has a field of its own and a number in `AttributeProto.AttributeType`. */
function attributeProto(name: string, value: AttributeSpec): WireWriter {
  const proto = new WireWriter().text(1, name);
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  if ('float' in value) return proto.float(2, value.float).int(20, 1);
  if ('int' in value) return proto.int(3, value.int).int(20, 2);
  if ('string' in value) return proto.bytes(4, encode(value.string)).int(20, 3);
  if ('tensor' in value) return proto.message(5, tensorProto(value.tensor)).int(20, 4);
  if ('graph' in value) return proto.message(6, graphProto(value.graph)).int(20, 5);
  if ('floats' in value) {
    for (const float of value.floats) proto.float(7, float);
    return proto.int(20, 6);
  }
  if ('ints' in value) {
    for (const int of value.ints) proto.int(8, int);
    return proto.int(20, 7);
  }
  if ('strings' in value) {
    for (const text of value.strings) proto.bytes(9, encode(text));
    return proto.int(20, 8);
  }
  for (const graph of value.graphs) proto.message(11, graphProto(graph));
  return proto.int(20, 10);
}

function tensorProto(spec: TensorSpec): WireWriter {
  const tensor = new WireWriter();
  for (const length of spec.shape) tensor.int(1, length);
  tensor.int(2, DTYPES[spec.dtype ?? dtypeOf(spec.data)]);
  if (spec.name !== undefined) tensor.text(8, spec.name);
  if (spec.external !== undefined) {
    for (const [key, value] of Object.entries(spec.external)) {
      tensor.message(13, entry(key, String(value)));
    }
    return tensor.int(14, 1);
  }
  const { data } = spec;
  if (data === undefined) throw new TypeError('tensorProto: data or external must be given');
  return tensor.bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function dtypeOf(data: TensorSpec['data']): BuilderDtype {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Uint8Array) return 'uint8';
  if (data instanceof Uint16Array) return 'uint16';
  throw new TypeError('tensorProto: dtype must be given for a tensor without data');
}

function valueInfo(spec: ValueSpec): WireWriter {
  const type = new WireWriter().int(1, DTYPES[spec.dtype ?? 'float32']);
  if (spec.shape !== null) {
    const shape = new WireWriter();
    for (const length of spec.shape) {
      const dimension = new WireWriter();
      if (typeof length === 'number') dimension.int(1, length);
      else if (length !== '') dimension.text(2, length);
      shape.message(1, dimension);
    }
    type.message(2, shape);
  }
  return new WireWriter().text(1, spec.name).message(2, new WireWriter().message(1, type));
}

function functionProto(spec: FunctionSpec, opsets: Readonly<Record<string, number>>): WireWriter {
  const proto = new WireWriter().text(1, spec.name);
  for (const input of spec.inputs) proto.text(4, input);
  for (const output of spec.outputs) proto.text(5, output);
  for (const node of spec.nodes) proto.message(7, nodeProto(node));
  for (const [domain, version] of Object.entries(opsets)) proto.message(9, opset(domain, version));
  return proto.text(10, spec.domain);
}

function opset(domain: string, version: number): WireWriter {
  return new WireWriter().text(1, domain).int(2, version);
}

function entry(key: string, value: string): WireWriter {
  return new WireWriter().text(1, key).text(2, value);
}
