import type { NdView, TypedArray } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { configFromJson, type Mamba2Config, type MambaConfig } from './config.js';
import { STACK_OPTIONS, type StackOptions } from './engine.js';
import { openWeights, type WeightsSource } from './weights-source.js';

/** A source of weights, opened, and what was said of it. */
export interface OpenedStack {
  readonly tensors: Record<string, NdView<TypedArray>>;
  /** The configuration, of code and of the folder's `config.json`; code wins. */
  readonly given: MambaConfig & Mamba2Config;
  readonly options: StackOptions;
}

/**
 * Opens the weights of a stack and parts its configuration from its options.
 *
 * @throws TypeError when the configuration has an unknown name
 */
export async function openStack(
  what: string,
  source: WeightsSource,
  config: MambaConfig & Mamba2Config & StackOptions,
  family: 'mamba' | 'mamba2',
  keys: readonly string[],
): Promise<OpenedStack> {
  expectOptions(what, config, [...keys, ...STACK_OPTIONS]);
  const { tensors, json } = await openWeights(source);
  const pick = (names: readonly string[]): Record<string, unknown> =>
    Object.fromEntries(Object.entries(config).filter(([name]) => names.includes(name)));
  const read = json === undefined ? {} : configFromJson(json, family as 'mamba2');
  return { tensors, given: { ...read, ...pick(keys) }, options: pick(STACK_OPTIONS) };
}
