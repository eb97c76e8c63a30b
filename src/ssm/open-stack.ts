import { expectOptions } from '../runtime/options.js';
import { expectOrt, type Ort } from '../runtime/ort.js';
import {
  configFromJson,
  describesStack,
  MAMBA_CONFIG_KEYS,
  MAMBA2_CONFIG_KEYS,
  type Mamba2Config,
  type MambaConfig,
} from './config.js';
import { type LoadedEngine, STACK_OPTIONS, type StackOptions } from './engine.js';
import {
  EXPORTED_OPTIONS,
  ExportedEngine,
  type ExportedOptions,
  type ExportedSource,
} from './exported-engine.js';
import { mamba2Family, mambaFamily } from './family.js';
import { firstDevice, loadEngine } from './load-engine.js';
import { readMambaWeights } from './mamba-weights.js';
import { readMamba2Weights } from './mamba2-weights.js';
import { openWeights, type WeightsSource } from './weights-source.js';

/** Everything that can be said of a stack of either family. */
type AnyConfig = MambaConfig & Mamba2Config & StackOptions & ExportedOptions;

/**
 * Loads a stack from its weights, or from a graph that was exported with its states.
 *
 * @throws TypeError when the configuration has an unknown name
 */
export async function openStack(
  what: string,
  ort: Ort,
  source: WeightsSource | ExportedSource,
  config: AnyConfig,
  family: 'mamba' | 'mamba2',
): Promise<LoadedEngine> {
  expectOrt(ort);
  if (isOnnx(source)) {
    expectOptions(`${what}: exported graph`, config, EXPORTED_OPTIONS);
    return firstDevice(what, config, (device) =>
      ExportedEngine.load(ort, device, what, source, family, config),
    );
  }
  const keys = family === 'mamba' ? MAMBA_CONFIG_KEYS : MAMBA2_CONFIG_KEYS;
  expectOptions(what, config, [...keys, ...STACK_OPTIONS]);
  const { tensors, json, isBeside } = await openWeights(source);
  // What code leaves undefined does not hide what the folder's config.json says.
  const said = Object.fromEntries(
    Object.entries(config).filter(([, value]) => value !== undefined),
  );
  // Beside a single file there may be the configuration of whatever the stack is a part of.
  const isForeign = isBeside && (config.prefix !== undefined || !describesStack(json));
  const read = json === undefined || isForeign ? {} : configFromJson(json, family as 'mamba2');
  const given = { ...read, ...said };
  const made =
    family === 'mamba'
      ? mambaFamily(readMambaWeights(what, tensors, given))
      : mamba2Family(readMamba2Weights(what, tensors, given));
  return loadEngine(ort, what, made, config);
}

/** Whether a source is an ONNX file; else it is safetensors, which says so in its ninth byte. */
function isOnnx(source: WeightsSource | ExportedSource): source is ExportedSource {
  if (source instanceof Uint8Array) return source.length > 8 && source[8] !== 0x7b;
  if (source instanceof URL) return source.pathname.endsWith('.onnx');
  return typeof source === 'string' && source.replace(/[?#].*$/, '').endsWith('.onnx');
}
