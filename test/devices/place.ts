/** Where the device tests run. */

import type * as web from 'onnxruntime-web/webgpu';

/** The part of ONNX Runtime that its packages for Node and for the web have in common. */
export type OrtModule = Pick<typeof web, 'InferenceSession' | 'Tensor' | 'env'>;

/** One device of one ONNX Runtime, and the files of the repository as they are reached there. */
export interface Place {
  /** What its tests are listed under. */
  readonly name: string;
  /** The module to load networks with. */
  readonly ort: OrtModule;
  /** The device to load them on. */
  readonly device: 'cpu' | 'wasm' | 'webgpu';
  /** The path or URL of a file or folder of the repository, as the library's loaders take it. */
  locate(path: string): string;
  /** The bytes of a file of the repository. */
  read(path: string): Promise<Uint8Array>;
}

/** A JSON file of the repository. */
export async function readJson<T>(place: Place, path: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await place.read(path))) as T;
}
