import { float16ToFloat32, float32ToFloat16 } from '../formats/float16.js';
import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { STORES } from './dtypes.js';
import type { InputInfo } from './graph.js';
import { isOrtTensor, makeTensor, type Ort, type OrtTensor } from './ort.js';

/**
 * What an input takes: a view, a plain typed array for rank 1, or a tensor of ONNX Runtime.
 *
 * Inputs of type float16 take their bits as `Uint16Array`, a `Float16Array` where there is one, or
 * float32, which is rounded.
 */
export type Feed = NdView<TypedArray> | TypedArray | OrtTensor;

/**
 * Checks feeds against a graph's inputs and turns them into tensors.
 *
 * @throws TypeError for a missing or unknown name, a wrong dtype, or a tensor on another device
 * @throws {@link ShapeError} for a wrong rank or length, or one symbolic length with two values
 */
export function toTensors(
  ort: Ort,
  inputs: readonly InputInfo[],
  feeds: Readonly<Record<string, Feed>>,
): Record<string, OrtTensor> {
  for (const name of Object.keys(feeds)) {
    if (!inputs.some((input) => input.name === name)) {
      throw new TypeError(
        `run: feeds must be among ${inputs.map((input) => input.name).join(', ')}, got '${name}'`,
      );
    }
  }
  const symbols = new Map<string, number>();
  const tensors: Record<string, OrtTensor> = {};
  for (const input of inputs) {
    const feed = feeds[input.name];
    if (feed === undefined) {
      throw new TypeError(`run: input '${input.name}' must be fed, got nothing`);
    }
    if (isOrtTensor(feed)) {
      checkTensor(input, feed);
      checkShape(input, feed.dims, symbols);
      tensors[input.name] = feed;
      continue;
    }
    const view = isTypedArray(feed) ? nd(feed) : feed;
    if (!isNd(view)) {
      throw new TypeError(
        `run: input '${input.name}' must be a view, a typed array or a tensor, got ${describe(feed)}`,
      );
    }
    checkShape(input, view.shape, symbols);
    expectExtent(`run: input '${input.name}'`, view);
    tensors[input.name] = makeTensor(ort, input.dtype, elementsOf(input, view), view.shape);
  }
  return tensors;
}

/** A tensor's elements as a view over ONNX Runtime's memory; float16 is widened to float32. */
export function toView(tensor: OrtTensor): NdView<TypedArray> {
  const data = tensor.data as TypedArray;
  const elements = tensor.type === 'float16' ? float16ToFloat32(float16Bits(data)) : data;
  return nd(elements, tensor.dims);
}

function elementsOf(input: InputInfo, view: NdView<TypedArray>): TypedArray {
  const store = STORES[input.dtype].name;
  // The tag, not the constructor's name: Node's Buffer is a Uint8Array.
  const got: string = view.data[Symbol.toStringTag];
  if (input.dtype === 'float16' && got !== store) {
    if (got === 'Float16Array') return float16Bits(packed(view));
    if (view.data instanceof Float32Array) return float32ToFloat16(packed(view as NdView));
  }
  if (got !== store) {
    throw new TypeError(
      `run: input '${input.name}' is ${input.dtype} and must be fed a ${store}, got a ${got}; ` +
        `convert it, as in ${store}.from(data)`,
    );
  }
  return packed(view);
}

/** Float16 comes as `Float16Array` where the engine has one, else as its bits. */
function float16Bits(data: TypedArray): Uint16Array {
  if (data instanceof Uint16Array) return data;
  return new Uint16Array(data.buffer, data.byteOffset, data.length);
}

function checkTensor(input: InputInfo, tensor: OrtTensor): void {
  if (tensor.type !== input.dtype) {
    throw new TypeError(
      `run: input '${input.name}' must be ${input.dtype}, got a ${tensor.type} tensor`,
    );
  }
  if (tensor.location !== 'cpu' && tensor.location !== 'cpu-pinned') {
    throw new TypeError(
      `run: input '${input.name}' must lie on the CPU, got a tensor at '${tensor.location}', which ` +
        'this network would read as garbage; download it first',
    );
  }
}

function checkShape(input: InputInfo, dims: readonly number[], symbols: Map<string, number>): void {
  const { name, shape } = input;
  let fits = dims.length === shape.length;
  for (let axis = 0; fits && axis < shape.length; axis++) {
    const length = shape[axis];
    if (typeof length === 'number') fits = dims[axis] === length;
    else if (length !== '') {
      const bound = symbols.get(length);
      if (bound === undefined) symbols.set(length, dims[axis]);
      else if (bound !== dims[axis]) {
        throw new ShapeError(
          `run: '${length}' must have one value in all inputs, got ${bound} and, in '${name}', ${dims[axis]}`,
        );
      }
    }
  }
  if (!fits) {
    throw new ShapeError(
      `run: input '${name}' must have shape [${shape.map((d) => (d === '' ? '?' : d)).join(', ')}], ` +
        `got [${dims.join(', ')}]`,
    );
  }
}
