/** Graphs written down operation by operation, for `writeModel`. */

import type { TypedArray } from '../nd.js';
import type { OnnxDtype } from './dtype.js';
import {
  type AttributeSpec,
  type ModelSpec,
  type NodeSpec,
  type TensorSpec,
  type ValueSpec,
  writeModel,
} from './write-model.js';

/** What a {@link GraphBuilder} is made with: everything of a model but its graph. */
export interface GraphBuilderOptions extends Omit<ModelSpec, 'graph'> {
  /** The graph's name, `graph` by default. */
  readonly name?: string;
  /**
   * Put before every name that is made up, `''` by default. A graph in an attribute needs one that
   * the graph around it has not: names must differ across both.
   */
  readonly prefix?: string;
}

/** What an operation has beside its inputs and attributes. */
export interface OpOptions {
  /** Operator set; the standard one by default. Any other must be among the builder's `opsets`. */
  readonly domain?: string;
  /** The node's own name. */
  readonly name?: string;
}

const OP_OPTIONS: readonly string[] = ['domain', 'name', 'outputs'];

/**
 * Writes a graph down operation by operation. Values are their names: each method returns the name
 * of what it made, for use as an input of the next.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { GraphBuilder, readModel } = await import('umwelt/onnx');
 * const g = new GraphBuilder();
 * const x = g.input('x', ['B', 2]);
 * const weight = g.constant(new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
 * const bias = g.constant(new Float32Array([10, 20, 30]), [3]);
 * g.op('Add', [g.op('MatMul', [x, weight]), bias], {}, { output: 'y' });
 * g.output('y', ['B', 3]);
 * const { graph } = readModel(g.build()); // or writeFile('model.onnx', g.build())
 * expect(graph.nodes.map((node) => node.opType)).toEqual(['MatMul', 'Add']);
 * expect(graph.outputs).toEqual([
 *   { name: 'y', dtype: 'float32', shape: ['B', 3], isTensor: true },
 * ]);
 * ```
 */
export class GraphBuilder {
  private readonly options: GraphBuilderOptions;
  private readonly inputs: ValueSpec[] = [];
  private readonly outputs: ValueSpec[] = [];
  private readonly initializers: TensorSpec[] = [];
  private readonly nodes: NodeSpec[] = [];
  private readonly made: Set<string> = new Set();
  private count = 0;

  /** @param options - versions, metadata and local functions of the model */
  constructor(options: GraphBuilderOptions = {}) {
    this.options = options;
  }

  /**
   * Declares an input.
   *
   * @param name - what to feed it by
   * @param shape - a number for a fixed length, a name for a symbolic one; `null` for any rank
   * @param dtype - element type
   * @returns `name`
   * @throws RangeError when the name is empty or taken
   */
  input(name: string, shape: ValueSpec['shape'], dtype: OnnxDtype = 'float32'): string {
    this.claim('input', name);
    this.inputs.push({ name, dtype, shape });
    return name;
  }

  /**
   * Stores a weight or constant. The same array with the same shape, given twice without a name, is
   * stored once.
   *
   * @param data - the elements, row-major; not copied before {@link build}, so leave them unchanged
   * @param shape - length of each axis; `[]` is a scalar
   * @param name - by default one is made up
   * @param dtype - by default that of `data`: `BigInt64Array` is int64. To be given for float16
   *   patterns in a `Uint16Array` and for bool in a `Uint8Array`
   * @returns its name
   * @throws RangeError when the name is empty or taken
   */
  constant(data: TypedArray, shape: readonly number[], name?: string, dtype?: OnnxDtype): string {
    if (name === undefined) {
      const stored = this.initializers.find(
        (other) =>
          other.data === data && other.dtype === dtype && String(other.shape) === String(shape),
      );
      if (stored?.name !== undefined) return stored.name;
    }
    const unique = this.claim('constant', name ?? this.fresh('constant'));
    this.initializers.push({ name: unique, dtype, shape: [...shape], data });
    return unique;
  }

  /**
   * Adds an operation with one output.
   *
   * @param op - operator, for example `MatMul`
   * @param inputs - names; `''` for an optional input left out
   * @param attributes - by name, for example `{ axis: { int: -1 } }`
   * @param options - domain, node name, and `output`, the output's name; by default one is made up
   * @returns the output's name
   * @throws RangeError when the output's name is taken or the domain has no version in `opsets`
   */
  op(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeSpec>> = {},
    options: OpOptions & { readonly output?: string } = {},
  ): string {
    const { output, ...rest } = options;
    if ('outputs' in rest) {
      throw new TypeError(`GraphBuilder: ${op}: options of op must name one output, got 'outputs'`);
    }
    const outputs = output === undefined ? undefined : [output];
    return this.ops(op, inputs, 1, attributes, { ...rest, outputs })[0];
  }

  /**
   * Adds an operation with several outputs.
   *
   * @param op - operator, for example `Split`
   * @param inputs - names; `''` for an optional input left out
   * @param count - number of outputs
   * @param attributes - by name, for example `{ axis: { int: -1 } }`
   * @param options - domain, node name, and `outputs`, their names, `''` for one left out; by
   *   default they are made up
   * @returns the outputs' names
   * @throws RangeError when the name of an output is taken, `outputs` are not `count`, or the domain
   *   has no version in `opsets`
   */
  ops(
    op: string,
    inputs: readonly string[],
    count: number,
    attributes: Readonly<Record<string, AttributeSpec>> = {},
    options: OpOptions & { readonly outputs?: readonly string[] } = {},
  ): string[] {
    if (!Array.isArray(inputs)) {
      throw new TypeError(`GraphBuilder: ${op}: inputs must be an array of names, got ${inputs}`);
    }
    for (const [attribute, value] of Object.entries(attributes)) {
      if (typeof value !== 'object' || value === null) {
        throw new TypeError(
          `GraphBuilder: ${op}: attribute ${attribute} must say its type, as in { int: -1 }, got ${value}`,
        );
      }
    }
    const stranger = Object.keys(options).find((key) => !OP_OPTIONS.includes(key));
    if (stranger !== undefined) {
      throw new TypeError(
        `GraphBuilder: ${op}: options must be among ${OP_OPTIONS.join(', ')}, got '${stranger}'`,
      );
    }
    const { domain = '', name, outputs } = options;
    if (domain !== '' && this.options.opsets?.[domain] === undefined) {
      throw new RangeError(
        `GraphBuilder: ${op}: the domain of an operation must have a version, got ` +
          `${JSON.stringify(domain)} without; name it in the builder's opsets`,
      );
    }
    if (outputs !== undefined && outputs.length !== count) {
      throw new RangeError(
        `GraphBuilder: ${op}: outputs must be ${count} names, got ${outputs.length}`,
      );
    }
    const made = outputs ?? Array.from({ length: count }, () => this.fresh(op));
    // All are looked at before any is taken, so that a refused operation leaves nothing behind.
    const named = made.filter((output) => output !== '');
    const taken = named.find((output, i) => this.made.has(output) || named.indexOf(output) < i);
    if (taken !== undefined) throw this.taken(op, taken);
    for (const output of named) this.made.add(output);
    this.nodes.push({
      op,
      inputs: [...inputs],
      outputs: [...made],
      attributes,
      ...(domain === '' ? {} : { domain }),
      ...(name === undefined ? {} : { name }),
    });
    return [...made];
  }

  /**
   * Declares an output: a value of this graph, made before or after.
   *
   * @param name - the value's name, under which it is fetched
   * @param shape - a number for a fixed length, a name for a symbolic one; `null` for any rank
   * @param dtype - element type
   */
  output(name: string, shape: ValueSpec['shape'], dtype: OnnxDtype = 'float32'): void {
    this.outputs.push({ name, dtype, shape });
  }

  /**
   * The model's description, whose `graph` can be another graph's attribute.
   *
   * @throws RangeError when nothing makes a declared output
   */
  spec(): ModelSpec {
    const { name = 'graph', prefix: _, ...model } = this.options;
    for (const output of this.outputs) {
      if (!this.made.has(output.name)) {
        throw new RangeError(
          `GraphBuilder: an output must be made in the graph, got ${JSON.stringify(output.name)}; ` +
            'give its name as output to the operation that makes it',
        );
      }
    }
    const { inputs, outputs, initializers, nodes } = this;
    return {
      ...model,
      graph: {
        name,
        inputs: [...inputs],
        outputs: [...outputs],
        initializers: [...initializers],
        nodes: [...nodes],
      },
    };
  }

  /**
   * Writes the model.
   *
   * @returns the bytes of an `.onnx` file
   * @throws RangeError when no output is declared or nothing makes one, and what {@link writeModel} throws
   */
  build(): Uint8Array {
    if (this.outputs.length === 0) {
      throw new RangeError(
        'GraphBuilder: a graph must have an output, got none; declare one with output(name, shape)',
      );
    }
    return writeModel(this.spec());
  }

  /** A name not yet taken. Claimed by the caller, after all its checks. */
  private fresh(stem: string): string {
    const { prefix = '' } = this.options;
    let name: string;
    do name = `${prefix}${stem}_${this.count++}`;
    while (this.made.has(name));
    return name;
  }

  private claim(what: string, name: string): string {
    if (name === '' || this.made.has(name)) throw this.taken(what, name);
    this.made.add(name);
    return name;
  }

  private taken(what: string, name: string): RangeError {
    return new RangeError(
      `GraphBuilder: ${what}: a name must be new and not empty, got ${JSON.stringify(name)}`,
    );
  }
}
