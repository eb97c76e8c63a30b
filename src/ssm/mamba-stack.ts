import type { Ort } from '../runtime/ort.js';
import { MAMBA_CONFIG_KEYS, type MambaConfig } from './config.js';
import type { StackOptions } from './engine.js';
import { mambaFamily } from './family.js';
import { loadEngine } from './load-engine.js';
import { readMambaWeights } from './mamba-weights.js';
import { openStack } from './open-stack.js';
import { SsmStack } from './stack.js';
import type { WeightsSource } from './weights-source.js';

/** A stack of Mamba layers. */
export class MambaStack extends SsmStack {
  static async load(
    ort: Ort,
    source: WeightsSource,
    config: MambaConfig & StackOptions = {},
  ): Promise<MambaStack> {
    const what = 'MambaStack.load';
    const { tensors, given, options } = await openStack(
      what,
      source,
      config,
      'mamba',
      MAMBA_CONFIG_KEYS,
    );
    const weights = readMambaWeights(what, tensors, given);
    return new MambaStack(await loadEngine(ort, what, mambaFamily(weights), options));
  }
}
