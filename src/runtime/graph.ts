import { type OnnxModel, type OnnxNode, readModel } from '../onnx/model.js';
import { STORES } from './dtypes.js';
import { ModelContractError, ModelLoadError, reasonOf } from './errors.js';

/** An input or output of a network. */
export interface TensorInfo {
  /** Name to feed or read it by. */
  readonly name: string;
  /** Element type, as ONNX Runtime names it: `float32`, `float16`, `int64`, `bool`, ... */
  readonly dtype: string;
  /**
   * Length of each axis; a string is a symbolic length, `''` an unnamed one. Null where the graph does
   * not say, which only outputs may.
   */
  readonly shape: readonly (number | string)[] | null;
}

/** An input of a network, whose rank is known. */
export interface InputInfo extends TensorInfo {
  readonly shape: readonly (number | string)[];
}

const RANDOM_OPS: ReadonlySet<string> = new Set([
  'Bernoulli',
  'Multinomial',
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
]);

/**
 * Reads an ONNX file's facts and refuses graphs that cannot be run safely or repeatably.
 *
 * @param bytes - the ONNX file
 * @param where - what to call it in messages
 * @throws {@link ModelLoadError} when the bytes are no ONNX model
 * @throws {@link ModelContractError} for random operators, inputs of unknown rank, and inputs or
 *   outputs that are no tensors
 */
export function readGraph(bytes: Uint8Array, where: string): OnnxModel {
  let model: OnnxModel;
  try {
    model = readModel(bytes);
  } catch (error) {
    throw new ModelLoadError(
      `load: ${where} is not a complete ONNX model: ${reasonOf(error)}; copy or export it again`,
    );
  }
  const random = model.graph.nodes.find(
    (node) => RANDOM_OPS.has(node.opType) || isTrainingDropout(node),
  );
  if (random !== undefined) {
    throw new ModelContractError(
      `load: ${where} draws random numbers (${random.opType} at ${random.where}), which ONNX Runtime ` +
        'cannot seed; export the distribution parameters and let the library sample, make the ' +
        'noise an input, or, for Dropout, export in evaluation mode',
    );
  }
  const odd = [...model.graph.inputs, ...model.graph.outputs].find((value) => !value.isTensor);
  if (odd !== undefined) {
    throw new ModelContractError(
      `load: '${odd.name}' of ${where} must be a tensor; sequences, maps and optionals are not supported`,
    );
  }
  const unreadable = [...model.graph.inputs, ...model.graph.outputs].find(
    (value) => !Object.hasOwn(STORES, value.dtype),
  );
  if (unreadable !== undefined) {
    throw new ModelContractError(
      `load: '${unreadable.name}' of ${where} must be of a type that a typed array can hold, got ` +
        `${unreadable.dtype}; cast it inside the graph, as to float32 or int64`,
    );
  }
  for (const input of model.graph.inputs) {
    if (input.shape === null) {
      throw new ModelContractError(
        `load: input '${input.name}' of ${where} must have a known rank, got no shape at all, with ` +
          'which ONNX Runtime may abort the process; export it with a shape (symbolic lengths are fine)',
      );
    }
  }
  return model;
}

/** Dropout is the identity unless its third input, `training_mode`, switches it on. */
function isTrainingDropout({ opType, inputs }: OnnxNode): boolean {
  return opType === 'Dropout' && inputs[2] !== undefined && inputs[2] !== '';
}
