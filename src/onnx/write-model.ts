/**
 * ONNX files from plain descriptions: the other direction of `readModel`.
 *
 * Field numbers are those of the published `onnx.proto`. Weights are written as little-endian
 * `raw_data`, repeated integers unpacked, as the schema's proto2 has them.
 */

import { ShapeError, sizeOf, type TypedArray } from '../nd.js';
import { DTYPES, type OnnxDtype } from './dtype.js';
import { WireWriter } from './wire-writer.js';

/** Written unless the description says otherwise. */
const IR_VERSION = 10;
const OPSET = 21;

/** Protobuf's limit of one message. */
const MAX_BYTES = 2 ** 31 - 1;

/** What each array may stand for, the first by default. */
const STORED: Readonly<Record<string, readonly OnnxDtype[]>> = {
  Float32Array: ['float32'],
  Float64Array: ['float64'],
  Int8Array: ['int8'],
  Int16Array: ['int16'],
  Int32Array: ['int32'],
  BigInt64Array: ['int64'],
  Uint8Array: [
    'uint8',
    'bool',
    'float8e4m3fn',
    'float8e4m3fnuz',
    'float8e5m2',
    'float8e5m2fnuz',
    'float8e8m0',
  ],
  Uint8ClampedArray: ['uint8'],
  Uint16Array: ['uint16', 'float16', 'bfloat16'],
  Uint32Array: ['uint32'],
  BigUint64Array: ['uint64'],
};

const LITTLE_ENDIAN: boolean = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** An input or output of a graph. */
export interface ValueSpec {
  /** Name to feed or fetch it by. */
  readonly name: string;
  /** Element type, float32 by default. */
  readonly dtype?: OnnxDtype;
  /**
   * A number for a fixed length, a name for a symbolic one, `''` for one with neither. `[]` is a
   * scalar; `null` leaves even the rank unknown.
   */
  readonly shape: readonly (number | string)[] | null;
}

/** A stored tensor: its elements inline (`data`) or in another file (`external`). */
export interface TensorSpec {
  /** Name the nodes use; an initializer must have one. */
  readonly name?: string;
  /**
   * Element type, by default that of `data`. To be given for bit patterns (float16 and bfloat16 in a
   * `Uint16Array`, 8-bit floats in a `Uint8Array`), for flags (bool in a `Uint8Array`) and for
   * external data.
   */
  readonly dtype?: OnnxDtype;
  /** Length of each axis; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** The elements, row-major. Not copied before the model is written. */
  readonly data?: TypedArray;
  /** The file with the elements. */
  readonly external?: {
    /** The file's path, relative to the model's. */
    readonly location: string;
    /** First byte; 0 by default. */
    readonly offset?: number;
    /** Number of bytes; by default all that follow. */
    readonly length?: number;
  };
}

/** A stored tensor of which most elements are zero. */
export interface SparseTensorSpec {
  /** `[count]`, the others; its name is the initializer's. */
  readonly values: TensorSpec;
  /** int64, `[count]` row-major positions or `[count, rank]` coordinates, ascending. */
  readonly indices: TensorSpec;
  /** Length of each axis of the whole. */
  readonly shape: readonly number[];
}

/** The value of a node's attribute, under the name of its kind. */
export type AttributeSpec =
  | {
      /** float32. */
      readonly float: number;
    }
  | {
      /** Within 64 bits; a flag is 0 or 1, an element type its number in `TensorProto.DataType`. */
      readonly int: number | bigint;
    }
  | {
      /** Text. */
      readonly string: string;
    }
  | {
      /** A constant. */
      readonly tensor: TensorSpec;
    }
  | {
      /** The body of an `If`, `Loop` or `Scan`, which may use names of the graphs around it. */
      readonly graph: GraphSpec;
    }
  | {
      /** float32, any count. */
      readonly floats: readonly number[];
    }
  | {
      /** Within 64 bits, any count. */
      readonly ints: readonly (number | bigint)[];
    }
  | {
      /** Text, any count. */
      readonly strings: readonly string[];
    }
  | {
      /** Bodies, any count. */
      readonly graphs: readonly GraphSpec[];
    };

/** One operation. */
export interface NodeSpec {
  /** Operator, for example `Gemm`. */
  readonly op: string;
  /** Operator set; the standard one by default. */
  readonly domain?: string;
  /** The node's own name. */
  readonly name?: string;
  /** Names of its inputs; `''` for an optional one left out. */
  readonly inputs: readonly string[];
  /** Names of its outputs; `''` for an optional one left out. */
  readonly outputs: readonly string[];
  /** Its attributes by name. */
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
}

/** A graph: a model's own, or one in an attribute. */
export interface GraphSpec {
  /** The graph's name, `graph` by default. */
  readonly name?: string;
  /** What is fed; one with the name of an initializer has that as its default. */
  readonly inputs: readonly ValueSpec[];
  /** What is computed. */
  readonly outputs: readonly ValueSpec[];
  /** Weights and constants. */
  readonly initializers?: readonly TensorSpec[];
  /** Weights and constants that are mostly zero. */
  readonly sparseInitializers?: readonly SparseTensorSpec[];
  /** Operations, each after those whose outputs it takes. */
  readonly nodes: readonly NodeSpec[];
}

/** A function local to the model, called like an operator. */
export interface FunctionSpec {
  /** Operator name of its calls. */
  readonly name: string;
  /** Operator set of its calls, which must be among the model's `opsets`. */
  readonly domain: string;
  /** Names of its inputs. */
  readonly inputs: readonly string[];
  /** Names of its outputs. */
  readonly outputs: readonly string[];
  /** Operations, each after those whose outputs it takes. */
  readonly nodes: readonly NodeSpec[];
}

/** A whole model. */
export interface ModelSpec {
  /** Version of the file format, 10 by default. */
  readonly irVersion?: number;
  /** Name of the exporter. */
  readonly producer?: string;
  /** Version of the exporter. */
  readonly producerVersion?: string;
  /** Operator set version by domain; 21 for the standard one, `''`, by default. */
  readonly opsets?: Readonly<Record<string, number>>;
  /** `metadata_props`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Functions local to the model. */
  readonly functions?: readonly FunctionSpec[];
  /** The main graph. */
  readonly graph: GraphSpec;
}

/**
 * Writes an ONNX model.
 *
 * Whether operators exist and their inputs fit is for a runtime to say; what is checked here is that
 * the file can be read as it was meant. {@link GraphBuilder} makes such descriptions in code.
 *
 * @param spec - the model; IR version 10 and operator set 21 unless it says otherwise. Its weights
 *   are copied once, into the result
 * @returns the bytes of an `.onnx` file, below 2 GiB
 * @throws ShapeError (a RangeError) when a shape does not fit the tensor's elements, or has a length
 *   that is no non-negative integer
 * @throws RangeError when a name is missing or made twice in one graph, an integer does not fit
 *   64 bits, or the file would have 2 GiB
 * @throws TypeError when a dtype is not known, a tensor has not the array its dtype is stored in, or
 *   an attribute has no kind
 *
 * @example
 * ```ts @import.meta.vitest
 * const { readModel, writeModel } = await import('umwelt/onnx');
 * const bytes = writeModel({
 *   graph: {
 *     inputs: [{ name: 'x', shape: ['B', 2] }],
 *     outputs: [{ name: 'y', shape: ['B', 1] }],
 *     initializers: [
 *       { name: 'weight', shape: [2, 1], data: new Float32Array([3, 4]) },
 *       { name: 'bias', shape: [1], data: new Float32Array([5]) },
 *     ],
 *     nodes: [{ op: 'Gemm', inputs: ['x', 'weight', 'bias'], outputs: ['y'] }],
 *   },
 * });
 * const { opsets, graph } = readModel(bytes);
 * expect(opsets).toEqual({ '': 21 });
 * expect(graph.inputs).toEqual([
 *   { name: 'x', dtype: 'float32', shape: ['B', 2], isTensor: true },
 * ]);
 * expect(graph.initializers[0]).toEqual({ name: 'weight', dtype: 'float32', shape: [2, 1] });
 * ```
 */
export function writeModel(spec: ModelSpec): Uint8Array {
  const given = Object.entries(spec.opsets ?? {});
  const standard = given.some(([domain]) => domain === '' || domain === 'ai.onnx');
  const opsets: typeof given = standard ? given : [['', OPSET], ...given];

  const model = new WireWriter().int(1, integer(spec.irVersion ?? IR_VERSION, 'irVersion'));
  if (spec.producer !== undefined) model.text(2, spec.producer);
  if (spec.producerVersion !== undefined) model.text(3, spec.producerVersion);
  model.message(7, graphProto(spec.graph, ''));
  for (const [domain, version] of opsets) model.message(8, opsetProto(domain, version));
  for (const [key, value] of Object.entries(spec.metadata ?? {})) {
    model.message(14, entryProto(key, value));
  }
  for (const local of spec.functions ?? []) model.message(25, functionProto(local, opsets));
  if (model.length > MAX_BYTES) {
    throw new RangeError(
      `writeModel: a model must have at most ${MAX_BYTES} bytes, got ${model.length}; ` +
        'keep its large weights in external data',
    );
  }
  return model.finish();
}

/** @param path - where the graph stands, ending in ` > `; `''` for the main one */
function graphProto(spec: GraphSpec, path: string): WireWriter {
  const { initializers = [], sparseInitializers = [] } = spec;
  checkNames(spec, path);
  const graph = new WireWriter();
  writeNodes(graph, 1, spec.nodes, path);
  graph.text(2, spec.name ?? 'graph');
  for (const tensor of initializers) {
    graph.message(5, tensorProto(tensor, `${path}initializer ${quoted(tensor.name)}`));
  }
  for (const value of spec.inputs) {
    graph.message(11, valueProto(value, `${path}input ${quoted(value.name)}`));
  }
  for (const value of spec.outputs) {
    graph.message(12, valueProto(value, `${path}output ${quoted(value.name)}`));
  }
  for (const { values, indices, shape } of sparseInitializers) {
    const where = `${path}sparse initializer ${quoted(values.name)}`;
    checkShape(shape, where);
    const sparse = new WireWriter()
      .message(1, tensorProto(values, where))
      .message(2, tensorProto(indices, `${where} > indices`));
    for (const length of shape) sparse.int(3, length);
    graph.message(15, sparse);
  }
  return graph;
}

/** Every value of a graph is made once, by an input, an initializer or an operation. */
function checkNames(spec: GraphSpec, path: string): void {
  const { inputs, initializers = [], sparseInitializers = [], nodes, outputs } = spec;
  const fed = new Set<string>();
  for (const { name } of inputs) claim(fed, name, `${path}input`);
  const stored = new Set<string>();
  for (const { name } of initializers) claim(stored, name, `${path}initializer`);
  for (const { values } of sparseInitializers) {
    claim(stored, values.name, `${path}sparse initializer`);
  }
  // An input may share its name with an initializer, which is then its default.
  const made = new Set([...fed, ...stored]);
  nodes.forEach((node, index) => {
    for (const name of node.outputs) {
      if (name !== '') claim(made, name, `${path}node ${index} ${node.op} > output`);
    }
  });
  const given = new Set<string>();
  for (const { name } of outputs) claim(given, name, `${path}output`);
}

function claim(taken: Set<string>, name: string | undefined, where: string): void {
  if (name === undefined || name === '') {
    throw new RangeError(`writeModel: ${where}: name must be given, got ${quoted(name)}`);
  }
  if (taken.has(name)) {
    throw new RangeError(
      `writeModel: ${where}: each name must be made once in a graph, got ${quoted(name)} twice; ` +
        'rename one',
    );
  }
  taken.add(name);
}

function writeNodes(
  into: WireWriter,
  field: number,
  nodes: readonly NodeSpec[],
  path: string,
): void {
  nodes.forEach((node, index) => {
    into.message(field, nodeProto(node, `${path}node ${index}`));
  });
}

function nodeProto(spec: NodeSpec, position: string): WireWriter {
  if (typeof spec.op !== 'string' || spec.op === '') {
    throw new RangeError(
      `writeModel: ${position}: op must name an operator, got ${quoted(spec.op)}`,
    );
  }
  const where = `${position} ${spec.op}`;
  const node = new WireWriter();
  for (const input of spec.inputs) node.text(1, input);
  for (const output of spec.outputs) node.text(2, output);
  if (spec.name !== undefined) node.text(3, spec.name);
  node.text(4, spec.op);
  for (const [name, value] of Object.entries(spec.attributes ?? {})) {
    node.message(5, attributeProto(name, value, `${where} > ${name}`));
  }
  if (spec.domain !== undefined) node.text(7, spec.domain);
  return node;
}

/** Each kind of value has a field of its own and a number in `AttributeProto.AttributeType`. */
function attributeProto(name: string, value: AttributeSpec, where: string): WireWriter {
  const proto = new WireWriter().text(1, name);
  if ('float' in value) return proto.float(2, value.float).int(20, 1);
  if ('int' in value) return proto.int(3, integer(value.int, where)).int(20, 2);
  if ('string' in value) return proto.text(4, value.string).int(20, 3);
  if ('tensor' in value) return proto.message(5, tensorProto(value.tensor, where)).int(20, 4);
  if ('graph' in value) return proto.message(6, graphProto(value.graph, `${where} > `)).int(20, 5);
  if ('floats' in value) {
    for (const float of value.floats) proto.float(7, float);
    return proto.int(20, 6);
  }
  if ('ints' in value) {
    for (const int of value.ints) proto.int(8, integer(int, where));
    return proto.int(20, 7);
  }
  if ('strings' in value) {
    for (const text of value.strings) proto.text(9, text);
    return proto.int(20, 8);
  }
  if ('graphs' in value) {
    for (const graph of value.graphs) proto.message(11, graphProto(graph, `${where} > `));
    return proto.int(20, 10);
  }
  throw new TypeError(
    `writeModel: ${where}: an attribute must have one of the keys float, int, string, tensor, graph, ` +
      `floats, ints, strings and graphs, got ${Object.keys(value).join(', ') || 'none'}`,
  );
}

function tensorProto(spec: TensorSpec, where: string): WireWriter {
  const { name, shape, data, external } = spec;
  checkShape(shape, where);
  if ((data === undefined) === (external === undefined)) {
    throw new TypeError(
      `writeModel: ${where}: a tensor must have either data or external, ` +
        `got ${data === undefined ? 'neither' : 'both'}`,
    );
  }
  const dtype = spec.dtype ?? (data && dtypesOf(data)?.[0]);
  const tensor = new WireWriter();
  for (const length of shape) tensor.int(1, length);
  tensor.int(2, dtypeNumber(dtype, where));
  if (name !== undefined) tensor.text(8, name);
  if (data !== undefined) return tensor.bytes(9, elementBytes(data, dtype, shape, where));
  const { location, offset, length } = external ?? {};
  if (!location || !isCount(offset ?? 0) || !isCount(length ?? 0)) {
    throw new RangeError(
      `writeModel: ${where}: external data must have a location and counts of bytes, ` +
        `got location ${quoted(location)}, offset ${offset}, length ${length}`,
    );
  }
  tensor.message(13, entryProto('location', location));
  if (offset !== undefined) tensor.message(13, entryProto('offset', String(offset)));
  if (length !== undefined) tensor.message(13, entryProto('length', String(length)));
  return tensor.int(14, 1);
}

/** The bytes of a tensor's elements, sharing their memory. */
function elementBytes(
  data: TypedArray,
  dtype: OnnxDtype | undefined,
  shape: readonly number[],
  where: string,
): Uint8Array {
  const fitting = dtypesOf(data);
  if (fitting === undefined || dtype === undefined || !fitting.includes(dtype)) {
    const arrays = Object.keys(STORED).filter((array) =>
      STORED[array].includes(dtype ?? 'unknown'),
    );
    throw new TypeError(
      `writeModel: ${where}: the data of a tensor of ${dtype} must be ` +
        `${arrays.join(' or ') || 'external'}, got ${data[Symbol.toStringTag] ?? typeof data}`,
    );
  }
  if (data.length !== sizeOf(shape)) {
    throw new ShapeError(
      `writeModel: ${where}: shape [${shape}] needs ${sizeOf(shape)} elements, got ${data.length}`,
    );
  }
  if (!LITTLE_ENDIAN && data.BYTES_PER_ELEMENT > 1) {
    throw new Error(
      `writeModel: ${where}: weights need a little-endian machine, got a big-endian one`,
    );
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** By tag, not instanceof: the array may come from another realm. */
function dtypesOf(data: TypedArray): readonly OnnxDtype[] | undefined {
  return STORED[data[Symbol.toStringTag]];
}

function valueProto(spec: ValueSpec, where: string): WireWriter {
  const type = new WireWriter().int(1, dtypeNumber(spec.dtype ?? 'float32', where));
  if (spec.shape !== null) {
    checkShape(
      spec.shape.filter((length) => typeof length === 'number'),
      where,
    );
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

function functionProto(
  spec: FunctionSpec,
  opsets: readonly (readonly [string, number])[],
): WireWriter {
  const where = `function ${spec.domain}.${spec.name}`;
  if (spec.name === '') throw new RangeError(`writeModel: ${where}: name must be given, got ""`);
  const made = new Set<string>();
  for (const input of spec.inputs) claim(made, input, `${where} > input`);
  const proto = new WireWriter().text(1, spec.name);
  for (const input of spec.inputs) proto.text(4, input);
  for (const output of spec.outputs) proto.text(5, output);
  writeNodes(proto, 7, spec.nodes, `${where} > `);
  for (const [domain, version] of opsets) proto.message(9, opsetProto(domain, version));
  return proto.text(10, spec.domain);
}

function opsetProto(domain: string, version: number): WireWriter {
  return new WireWriter().text(1, domain).int(2, integer(version, `opset ${quoted(domain)}`));
}

function entryProto(key: string, value: string): WireWriter {
  return new WireWriter().text(1, key).text(2, value);
}

function dtypeNumber(dtype: OnnxDtype | undefined, where: string): number {
  const number = dtype === undefined ? 0 : DTYPES.indexOf(dtype);
  // 0 stands for an unknown type, which no runtime takes.
  if (number > 0) return number;
  throw new TypeError(
    `writeModel: ${where}: dtype must be an element type such as float32, got ${quoted(dtype)}`,
  );
}

/** An integer that fits 64 bits. */
function integer(value: number | bigint, where: string): number | bigint {
  const fits =
    typeof value === 'bigint' ? BigInt.asIntN(64, value) === value : Number.isSafeInteger(value);
  if (fits) return value;
  throw new RangeError(
    `writeModel: ${where} must be an integer within 64 bits, got ${String(value)}; ` +
      'beyond 2^53 - 1 give a bigint',
  );
}

function checkShape(shape: readonly number[], where: string): void {
  if (shape.every(isCount)) return;
  throw new ShapeError(
    `writeModel: ${where}: each length must be a non-negative integer, got [${shape}]`,
  );
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function quoted(value: unknown): string {
  return JSON.stringify(value) ?? 'undefined';
}
