/**
 * ONNX files as data: what a model takes, gives, contains and needs beside it, read from its bytes.
 *
 * Knows no runtime and has no dependency.
 *
 * @module
 */

export { OnnxFormatError } from './format-error.js';
export {
  type OnnxDtype,
  type OnnxExternalData,
  type OnnxGraph,
  type OnnxInitializer,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  readModel,
} from './model.js';
