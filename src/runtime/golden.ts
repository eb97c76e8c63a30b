import { type NdView, nd, packed, type TypedArray } from '../nd.js';
import { ModelContractError } from './errors.js';
import type { TensorInfo } from './graph.js';
import type { Golden, GoldenTensor } from './manifest.js';

const ATOL = 1e-5;
const RTOL = 1e-3;

/** Golden inputs as feeds, in each input's dtype. */
export function goldenFeeds(
  golden: Golden,
  inputs: readonly TensorInfo[],
): Record<string, NdView<TypedArray>> {
  const feeds: Record<string, NdView<TypedArray>> = {};
  for (const [name, tensor] of Object.entries(golden.inputs)) {
    const dtype = inputs.find((input) => input.name === name)?.dtype;
    feeds[name] = nd(elements(tensor, dtype), tensor.shape);
  }
  return feeds;
}

/**
 * Compares a network's outputs with the recorded ones: `|got - golden| <= 1e-5 + 1e-3 |golden|`.
 *
 * @throws {@link ModelContractError} naming the output, the place and both values
 */
export function checkGolden(
  golden: Golden,
  outputs: Readonly<Record<string, NdView<TypedArray>>>,
  where: string,
): void {
  for (const [name, expected] of Object.entries(golden.outputs)) {
    const output = outputs[name];
    if (output === undefined || String(output.shape) !== String(expected.shape)) {
      throw new ModelContractError(
        `load: ${where} must give output '${name}' of shape [${expected.shape}] for its golden ` +
          `inputs, got ${output === undefined ? 'none' : `[${output.shape}]`}`,
      );
    }
    const got = packed(output);
    for (let i = 0; i < got.length; i++) {
      const want = expected.data[i];
      // Written so that NaN fails.
      if (!(Math.abs(Number(got[i]) - want) <= ATOL + RTOL * Math.abs(want))) {
        throw new ModelContractError(
          `load: ${where} does not reproduce its golden outputs: '${name}' element ${i} must be ` +
            `${want}, got ${got[i]}; export the model again, or load with golden: false to accept it`,
        );
      }
    }
  }
}

function elements(tensor: GoldenTensor, dtype: string | undefined): TypedArray {
  const { data } = tensor;
  switch (dtype) {
    case 'int64':
      return BigInt64Array.from(data, BigInt);
    case 'int32':
      return Int32Array.from(data);
    case 'uint8':
    case 'bool':
      return Uint8Array.from(data);
    case 'float64':
      return Float64Array.from(data);
    default:
      return Float32Array.from(data);
  }
}
