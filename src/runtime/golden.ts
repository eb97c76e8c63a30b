import { type NdView, nd, packed, sizeOf, type TypedArray } from '../nd.js';
import { STORES } from './dtypes.js';
import { ModelContractError } from './errors.js';
import type { TensorInfo } from './graph.js';
import type { Golden, GoldenTensor } from './manifest.js';

interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

const TOLERANCE: Tolerance = { atol: 1e-5, rtol: 1e-3 };
/** Half precision has 11 bits, and each runtime rounds after other steps. */
const TOLERANCE_FLOAT16: Tolerance = { atol: 1e-3, rtol: 1e-2 };

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
  infos: readonly TensorInfo[],
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
    if (expected.data.length !== sizeOf(expected.shape)) {
      throw new ModelContractError(
        `load: golden output '${name}' of ${where} must have ${sizeOf(expected.shape)} elements for ` +
          `its shape [${expected.shape}], got ${expected.data.length}`,
      );
    }
    const half = infos.find((info) => info.name === name)?.dtype === 'float16';
    const { atol, rtol } = half ? TOLERANCE_FLOAT16 : TOLERANCE;
    const got = packed(output);
    for (let i = 0; i < got.length; i++) {
      const want = expected.data[i];
      // Written so that NaN fails.
      if (!(Math.abs(Number(got[i]) - want) <= atol + rtol * Math.abs(want))) {
        throw new ModelContractError(
          `load: ${where} does not reproduce its golden outputs: '${name}' element ${i} must be ` +
            `${want}, got ${got[i]}; export the model again, or load with golden: false to accept it`,
        );
      }
    }
  }
}

function elements({ data }: GoldenTensor, dtype = 'float32'): TypedArray {
  // Feeds round float32 to half precision themselves.
  const store = dtype === 'float16' ? Float32Array : STORES[dtype];
  const out = new store(data.length);
  const big = out instanceof BigInt64Array || out instanceof BigUint64Array;
  for (let i = 0; i < data.length; i++) out[i] = big ? BigInt(data[i]) : data[i];
  return out;
}
