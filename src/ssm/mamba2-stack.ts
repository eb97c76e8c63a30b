import type { Ort } from '../runtime/ort.js';
import { MAMBA2_CONFIG_KEYS, type Mamba2Config } from './config.js';
import type { StackOptions } from './engine.js';
import { mamba2Family } from './family.js';
import { loadEngine } from './load-engine.js';
import { readMamba2Weights } from './mamba2-weights.js';
import { openStack } from './open-stack.js';
import { SsmStack } from './stack.js';
import type { WeightsSource } from './weights-source.js';

/** A stack of Mamba-2 layers. */
export class Mamba2Stack extends SsmStack {
  static async load(
    ort: Ort,
    source: WeightsSource,
    config: Mamba2Config & StackOptions = {},
  ): Promise<Mamba2Stack> {
    const what = 'Mamba2Stack.load';
    const { tensors, given, options } = await openStack(
      what,
      source,
      config,
      'mamba2',
      MAMBA2_CONFIG_KEYS,
    );
    const weights = readMamba2Weights(what, tensors, given);
    return new Mamba2Stack(await loadEngine(ort, what, mamba2Family(weights), options));
  }
}
