import type { Ort } from '../runtime/ort.js';
import type { Mamba2Config } from './config.js';
import type { StackOptions } from './engine.js';
import type { ExportedOptions, ExportedSource } from './exported-graph.js';
import { openStack } from './open-stack.js';
import { SsmStack } from './stack.js';
import type { WeightsSource } from './weights-source.js';

/**
 * A stack of Mamba-2 layers.
 *
 * On a CPU small batches run as one ONNX graph, larger ones as projections in ONNX Runtime around the
 * WASM kernels. On a GPU everything is one graph, and states stay there.
 */
export class Mamba2Stack extends SsmStack {
  /**
   * Loads a stack from a checkpoint, with the keys of state-spaces/mamba or of Hugging Face
   * transformers, or from an exported ONNX graph.
   *
   * @param ort - the ONNX Runtime module, `import * as ort from 'onnxruntime-node'` or `-web`
   * @param source - path or URL of a `.safetensors` file or of a folder with `model.safetensors` and
   *   `config.json`; the bytes of such a file; tensors by key; or path, URL or bytes of an ONNX file
   *   with conv and scan states as inputs and outputs
   * @param config - what the weights do not tell, such as `nGroups` and `dtLimit`, and where to run
   * @throws `ModelLoadError` when a file is missing or damaged, or no device takes the stack
   * @throws `ModelContractError` naming every key that is missing, left over or of the wrong shape
   * @throws TypeError when an option is unknown or of the wrong kind
   * @throws RangeError when a number is out of range
   *
   * Source: Dao and Gu, "Transformers are SSMs" (2024); `Mamba2` and `MixerModel` of
   * state-spaces/mamba, `Mamba2Model` of transformers. Unlike their steps, these bound dt.
   *
   * @example
   * ```ts
   * import * as ort from 'onnxruntime-node';
   * // The sequence model inside a world model's checkpoint; its stem and heads run elsewhere.
   * const core = await Mamba2Stack.load(ort, 'world-model.safetensors', {
   *   prefix: 'sequence_model.backbone.',
   *   ignore: ['stem.'],
   * });
   * const { y, state } = await core.scan(context); // [B, L, M]
   * const next = await core.step(latent, state); // [B, M]
   * state.release();
   * ```
   */
  static async load(
    ort: Ort,
    source: WeightsSource | ExportedSource,
    config: (Mamba2Config & StackOptions) | ExportedOptions = {},
  ): Promise<Mamba2Stack> {
    return new Mamba2Stack(await openStack('Mamba2Stack.load', ort, source, config, 'mamba2'));
  }
}
