import type { Ort } from '../runtime/ort.js';
import type { MambaConfig } from './config.js';
import type { StackOptions } from './engine.js';
import type { ExportedOptions, ExportedSource } from './exported-graph.js';
import { openStack } from './open-stack.js';
import { SsmStack } from './stack.js';
import type { WeightsSource } from './weights-source.js';

/**
 * A stack of Mamba layers.
 *
 * On a CPU steps of small batches run as one ONNX graph; larger ones and sequences as projections in
 * ONNX Runtime around the scan's WASM kernel. On a GPU everything is one graph, and states stay there.
 */
export class MambaStack extends SsmStack {
  /**
   * Loads a stack from a checkpoint, with the keys of state-spaces/mamba or of Hugging Face
   * transformers, or from an exported ONNX graph.
   *
   * @param ort - the ONNX Runtime module, `import * as ort from 'onnxruntime-node'` or `-web`
   * @param source - path or URL of a `.safetensors` file or of a folder with `model.safetensors` and
   *   `config.json`; the bytes of such a file; tensors by key; or path, URL or bytes of an ONNX file
   *   with conv and scan states as inputs and outputs
   * @param config - what the weights do not tell, which is nothing for plain Mamba, and where to run
   * @throws `ModelLoadError` when a file is missing or damaged, or no device takes the stack
   * @throws `ModelContractError` naming every key that is missing, left over or of the wrong shape
   * @throws TypeError when an option is unknown or of the wrong kind
   * @throws RangeError when a number is out of range
   *
   * Source: Gu and Dao, "Mamba" (2023); `Mamba` and `MixerModel` of state-spaces/mamba,
   * `MambaModel`, `FalconMambaModel` and the mixer of Jamba in transformers.
   *
   * @example
   * ```ts
   * import * as ort from 'onnxruntime-node';
   * const stack = await MambaStack.load(ort, 'mamba-130m'); // a folder as save_pretrained leaves it
   * const { y, state } = await stack.scan(embeddings); // [B, L, M]
   * const next = await stack.step(embedding, state); // [B, M]
   * state.release();
   * ```
   */
  static async load(
    ort: Ort,
    source: WeightsSource | ExportedSource,
    config: (MambaConfig & StackOptions) | ExportedOptions = {},
  ): Promise<MambaStack> {
    return new MambaStack(await openStack('MambaStack.load', ort, source, config, 'mamba'));
  }
}
