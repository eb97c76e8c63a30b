/**
 * ONNX files as data: what a model takes, gives, contains and needs beside it, read from its bytes;
 * and models written from descriptions or built operation by operation.
 *
 * Knows no runtime and has no dependency.
 *
 * @module
 */

export type { OnnxDtype } from './dtype.js';
export { OnnxFormatError } from './format-error.js';
export { GraphBuilder, type GraphBuilderOptions, type OpOptions } from './graph-builder.js';
export {
  type OnnxExternalData,
  type OnnxGraph,
  type OnnxInitializer,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  readModel,
} from './model.js';
export {
  type AttributeSpec,
  type FunctionSpec,
  type GraphSpec,
  type ModelSpec,
  type NodeSpec,
  type SparseTensorSpec,
  type TensorSpec,
  type ValueSpec,
  writeModel,
} from './write-model.js';
