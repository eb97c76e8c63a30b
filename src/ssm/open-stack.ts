import { ModelLoadError } from '../runtime/errors.js';
import { expectOptions } from '../runtime/options.js';
import { expectOrt, type Ort } from '../runtime/ort.js';
import { asUrl } from '../runtime/source.js';
import {
  configFromJson,
  describesStack,
  MAMBA_CONFIG_KEYS,
  MAMBA2_CONFIG_KEYS,
  type Mamba2Config,
  type MambaConfig,
} from './config.js';
import { type LoadedEngine, STACK_OPTIONS, type StackOptions } from './engine.js';
import { ExportedEngine } from './exported-engine.js';
import { EXPORTED_OPTIONS, type ExportedOptions, type ExportedSource } from './exported-graph.js';
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
  const [others, owner]: [readonly string[], string] =
    family === 'mamba' ? [MAMBA2_CONFIG_KEYS, 'Mamba2Stack'] : [MAMBA_CONFIG_KEYS, 'MambaStack'];
  const foreign = Object.keys(config ?? {}).find(
    (name) => others.includes(name) && !keys.includes(name as never),
  );
  if (foreign !== undefined) {
    throw new TypeError(`${what}: '${foreign}' is an option of ${owner}; is this the right class?`);
  }
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

/** Whether a source is an ONNX file and not weights. */
function isOnnx(source: WeightsSource | ExportedSource): source is ExportedSource {
  if (source instanceof Uint8Array) {
    // A zip archive is what torch.save writes.
    if (source[0] === 0x50 && source[1] === 0x4b) {
      throw new ModelLoadError(
        'load: source must be the bytes of a safetensors or ONNX file, got a zip archive, as torch.save ' +
          'writes; save with safetensors.torch.save_file(model.state_dict(), path)',
      );
    }
    return !isSafetensors(source);
  }
  if (typeof source !== 'string' && !(source instanceof URL)) return false;
  return (asUrl(source)?.pathname ?? String(source)).endsWith('.onnx');
}

/** Whether bytes begin as safetensors do: the length of a header within them, and its brace. */
function isSafetensors(bytes: Uint8Array): boolean {
  if (bytes.length < 9) return true;
  const header = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  return header <= BigInt(bytes.length - 8) && bytes[8] === 0x7b;
}
