/** Where the weights of a stack come from: safetensors files, or arrays in memory. */

import { FormatError } from '../formats/format-error.js';
import { readSafetensors } from '../formats/safetensors.js';
import { describe, isNd, isTypedArray, type NdView, nd, packed, type TypedArray } from '../nd.js';
import { ModelLoadError, reasonOf } from '../runtime/errors.js';
import { type FileFolder, folderAt } from '../runtime/source.js';
import { parsePythonJson } from './config.js';

/**
 * Where weights come from: a path or URL of a `.safetensors` file, or of a folder that holds
 * `model.safetensors` (or `model.safetensors.index.json` and its shards) and maybe `config.json`; the
 * bytes of a safetensors file; or tensors by key, as views or, for vectors, typed arrays.
 */
export type WeightsSource =
  | string
  | URL
  | Uint8Array
  | Readonly<Record<string, NdView<TypedArray> | TypedArray>>;

/** The tensors of a source, not yet those of any model. */
export interface OpenedWeights {
  /** By key, as the checkpoint has them; float16 and bfloat16 are widened to float32. */
  readonly tensors: Record<string, NdView<TypedArray>>;
  /** The parsed `config.json` of the folder, where it has one. */
  readonly json?: unknown;
  /** Whether `config.json` merely lies beside the file that was named, and may be another model's. */
  readonly isBeside?: boolean;
  /** What to call the source in messages. */
  readonly where: string;
}

const FILE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const CONFIG = 'config.json';

/**
 * Reads the tensors of a source.
 *
 * @throws {@link ModelLoadError} when files are absent, unreadable or damaged, or shards do not hold
 *   what their index says
 * @throws TypeError when the source is none of its kinds
 */
export async function openWeights(source: WeightsSource): Promise<OpenedWeights> {
  if (source instanceof Uint8Array) {
    const where = 'the given bytes';
    // A copy: graphs are made of the weights later too, when the first batch needs them.
    return { tensors: parse(source.slice(), where), where };
  }
  if (typeof source !== 'string' && !(source instanceof URL)) return fromMemory(source);
  const folder = folderAt(source, '.safetensors');
  if (folder.file !== undefined) {
    const where = `'${folder.file}' of ${folder.where}`;
    const tensors = parse(await folder.read(folder.file), where);
    const json = folder.file === FILE ? await besideOf(folder) : undefined;
    return json === undefined ? { tensors, where } : { tensors, json, isBeside: true, where };
  }
  const tensors = await readFolder(folder);
  const config = await folder.readIfPresent(CONFIG);
  if (config === undefined) return { tensors, where: folder.where };
  return { tensors, json: parseJson(config, CONFIG, folder), where: folder.where };
}

function fromMemory(source: Exclude<WeightsSource, string | URL | Uint8Array>): OpenedWeights {
  const isBuffer = ArrayBuffer.isView(source) || (source as unknown) instanceof ArrayBuffer;
  const isPlain = typeof source === 'object' && source !== null && !isBuffer;
  if (!isPlain || Array.isArray(source) || isNd(source)) {
    throw new TypeError(
      'load: source must be a path, a URL, the bytes of a safetensors file or tensors by key, ' +
        `got ${describe(source)}`,
    );
  }
  if ('tensors' in source && 'metadata' in source) {
    throw new TypeError(
      'load: source must be tensors by key, got the contents of a file; pass their `tensors`',
    );
  }
  if (Object.keys(source).length === 0) {
    throw new TypeError(
      `load: source must have tensors by key, got ${describe(source)} without any`,
    );
  }
  const tensors = Object.entries(source).map(([key, value]): [string, NdView<TypedArray>] => {
    if (isTypedArray(value)) return [key, nd(value.slice())];
    if (isNd(value)) return [key, nd(packed(value).slice(), value.shape)];
    throw new TypeError(`load: ${key} must be a view, got ${describe(value)}; make one with nd()`);
  });
  return { tensors: Object.fromEntries(tensors), where: 'the given tensors' };
}

/**
 * The configuration beside a file that has the name it has in a folder of its own. It was not asked for, so
 * whatever else a server answers counts as none.
 */
async function besideOf(folder: FileFolder): Promise<unknown> {
  try {
    const bytes = await folder.readIfPresent(CONFIG);
    return bytes && parseJson(bytes, CONFIG, folder);
  } catch {
    return undefined;
  }
}

async function readFolder(folder: FileFolder): Promise<Record<string, NdView<TypedArray>>> {
  const whole = await folder.readIfPresent(FILE);
  if (whole !== undefined) return parse(whole, `'${FILE}' of ${folder.where}`);
  const index = await folder.readIfPresent(INDEX);
  if (index !== undefined) return readShards(folder, parseJson(index, INDEX, folder));
  throw new ModelLoadError(
    `load: ${folder.where} must be a .safetensors or .onnx file or a folder with ${FILE} or ${INDEX}; ` +
      'write one in Python with safetensors.torch.save_file(model.state_dict(), path)',
  );
}

async function readShards(
  folder: FileFolder,
  index: unknown,
): Promise<Record<string, NdView<TypedArray>>> {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  const entries = typeof map === 'object' && map !== null ? Object.entries(map) : [];
  if (entries.length === 0 || !entries.every(([, file]) => typeof file === 'string')) {
    throw new ModelLoadError(
      `load: weight_map of ${INDEX} in ${folder.where} must name the file of each tensor`,
    );
  }
  const tensors = new Map<string, NdView<TypedArray>>();
  for (const file of new Set(entries.map(([, file]) => file as string))) {
    const shard = parse(await folder.read(file), `'${file}' of ${folder.where}`);
    for (const [key, tensor] of Object.entries(shard)) {
      if (tensors.has(key)) {
        throw new ModelLoadError(
          `load: each tensor must be in one shard of ${folder.where}, got ${key} twice`,
        );
      }
      tensors.set(key, tensor);
    }
    const absent = entries.filter(([key, named]) => named === file && !Object.hasOwn(shard, key));
    if (absent.length > 0) {
      throw new ModelLoadError(
        `load: '${file}' of ${folder.where} must hold the tensors ${INDEX} says, got none of ` +
          absent.map(([key]) => key).join(', '),
      );
    }
  }
  return Object.fromEntries(tensors);
}

function parse(bytes: Uint8Array, where: string): Record<string, NdView<TypedArray>> {
  try {
    return readSafetensors(bytes).tensors;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new ModelLoadError(`load: ${where} must be a safetensors file: ${error.message}`);
  }
}

function parseJson(bytes: Uint8Array, name: string, folder: FileFolder): unknown {
  try {
    return parsePythonJson(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new ModelLoadError(`load: ${name} in ${folder.where} is not JSON: ${reasonOf(error)}`);
  }
}
