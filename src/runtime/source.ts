import { ModelLoadError, reasonOf } from './errors.js';

/**
 * Where a model comes from: a path or URL of a folder with `manifest.json`, or of one `.onnx` file;
 * the bytes of an ONNX file; or a manifest with its files as bytes, keyed by their names.
 */
export type ModelSource =
  | string
  | URL
  | Uint8Array
  | {
      /** The manifest, as an object. */
      readonly manifest: unknown;
      /** Every file the manifest and its graphs name. */
      readonly files: Readonly<Record<string, Uint8Array>>;
    };

/** A model's folder, wherever it lies. */
export interface ModelFolder {
  /** What to call it in messages. */
  readonly where: string;
  /** The ONNX file, where the source names one itself. */
  readonly file?: string;
  /** The manifest as it was given or parsed, not yet validated. */
  readonly manifest?: unknown;
  /** The bytes of a file inside the folder; refuses any name that leads out of it. */
  read(name: string): Promise<Uint8Array>;
}

/** A folder of files on disk or on the web, where some may be absent. */
export interface FileFolder extends ModelFolder {
  /** The bytes of a file inside the folder, or undefined where there is no such file. */
  readIfPresent(name: string): Promise<Uint8Array | undefined>;
}

/** What the caller may add to a source that lacks it. */
export interface SourceOptions {
  /** A manifest given in code; wins over the folder's `manifest.json`. */
  manifest?: unknown;
  /** Files that belong to a model given as bytes, such as its external data, keyed by name. */
  files?: Readonly<Record<string, Uint8Array>>;
}

const MANIFEST = 'manifest.json';
const BYTES = 'model.onnx';

/**
 * Opens a model's folder and reads its manifest, where it has one.
 *
 * @throws {@link ModelLoadError} when the manifest cannot be read or is not JSON
 * @throws TypeError when the source is none of its kinds
 */
export async function openFolder(
  source: ModelSource,
  options: SourceOptions = {},
): Promise<ModelFolder> {
  const { files = {} } = options;
  if (source instanceof Uint8Array) {
    const folder = folderOfBytes('the model bytes', { ...files, [BYTES]: source });
    return { ...folder, file: BYTES, manifest: options.manifest };
  }
  if (typeof source === 'object' && source !== null && 'files' in source) {
    const folder = folderOfBytes('the given files', { ...source.files, ...files });
    return { ...folder, manifest: options.manifest ?? source.manifest };
  }
  if (typeof source !== 'string' && !(source instanceof URL)) {
    throw new TypeError(
      'load: source must be a path, a URL, a Uint8Array or { manifest, files }, ' +
        `got ${source === null ? 'null' : typeof source}`,
    );
  }
  const folder = folderAt(source, '.onnx');
  if (folder.file !== undefined) return { ...folder, manifest: options.manifest };
  if (options.manifest !== undefined) return { ...folder, manifest: options.manifest };
  return { ...folder, manifest: await readManifest(folder) };
}

/**
 * The folder at a path or URL; where that ends in `ending` it is a file, named by `file`, in its folder.
 *
 * @throws {@link ModelLoadError} when the place is a file and this is not Node, or the URL is malformed
 */
export function folderAt(source: string | URL, ending: string): FileFolder {
  const [place, file] = splitFile(source, ending);
  const folder =
    place instanceof URL && place.protocol !== 'file:' ? webFolder(place) : nodeFolder(place);
  return file === undefined ? folder : { ...folder, file };
}

async function readManifest(folder: ModelFolder): Promise<unknown> {
  const text = new TextDecoder().decode(await folder.read(MANIFEST));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ModelLoadError(
      `load: ${MANIFEST} in ${folder.where} is not JSON: ${reasonOf(error)}`,
    );
  }
}

function folderOfBytes(where: string, files: Readonly<Record<string, Uint8Array>>): ModelFolder {
  return {
    where,
    read: async (name) => {
      checkName(name, where);
      if (!Object.hasOwn(files, name)) {
        throw new ModelLoadError(
          `load: ${where} must include '${name}', got ${Object.keys(files).join(', ')}; ` +
            'pass its bytes under that name in files',
        );
      }
      return files[name];
    },
  };
}

/** The folder, and the file within it where the source ends as files do. */
function splitFile(source: string | URL, ending: string): [place: string | URL, file?: string] {
  const url = asUrl(source);
  const path = url === undefined ? String(source) : url.pathname;
  const isFile = path.endsWith(ending);
  if (url !== undefined) {
    const folder = new URL(url);
    folder.hash = '';
    const cut = path.lastIndexOf('/') + 1;
    if (isFile) folder.pathname = path.slice(0, cut);
    else if (!path.endsWith('/')) folder.pathname += '/';
    return isFile ? [folder, decoded(path.slice(cut))] : [folder];
  }
  if (!isFile) return [path];
  const cut = Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1;
  return [path.slice(0, cut) || '.', path.slice(cut)];
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ModelLoadError(`load: a URL must be percent-encoded UTF-8, got '${part}'`);
  }
}

/** A string is a URL when it says so; elsewhere than in Node every string is one. */
export function asUrl(source: string | URL): URL | undefined {
  if (source instanceof URL) return source;
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(source)) return new URL(source);
  if (nodeModule('node:fs') !== undefined) return undefined;
  return new URL(source, globalThis.location?.href);
}

/** There is no such file: what tells absence from a file that cannot be read. */
class Absence extends Error {}

/** A folder of files that `open` reads, throwing {@link Absence} for one that is not there. */
function folderOfFiles(
  where: string,
  open: (name: string) => Promise<Uint8Array>,
  failure: (name: string, reason: string) => string,
): FileFolder {
  const attempt = async (name: string): Promise<Uint8Array | Absence> => {
    checkName(name, where);
    try {
      return await open(name);
    } catch (error) {
      if (error instanceof Absence) return error;
      throw new ModelLoadError(failure(name, reasonOf(error)));
    }
  };
  return {
    where,
    read: async (name) => {
      const bytes = await attempt(name);
      if (bytes instanceof Absence) throw new ModelLoadError(failure(name, bytes.message));
      return bytes;
    },
    readIfPresent: async (name) => {
      const bytes = await attempt(name);
      return bytes instanceof Absence ? undefined : bytes;
    },
  };
}

function webFolder(base: URL): FileFolder {
  const where = base.origin + base.pathname;
  const open = async (name: string): Promise<Uint8Array> => {
    const url = new URL(name.split('/').map(encodeURIComponent).join('/'), base);
    // A query, such as an access token, holds for every file of the folder.
    url.search = base.search;
    const response = await fetch(url);
    if (response.status === 404) throw new Absence('HTTP 404');
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
  return folderOfFiles(
    where,
    open,
    (name, reason) => `load: cannot fetch ${where}${name}: ${reason}`,
  );
}

function nodeFolder(place: string | URL): FileFolder {
  // Node's own modules are taken from the process, never imported, so that bundlers see none.
  const fs = nodeModule('node:fs');
  const path = nodeModule('node:path');
  const url = nodeModule('node:url');
  if (fs === undefined || path === undefined || url === undefined) {
    throw new ModelLoadError(
      `load: ${place} is a file, which only Node can read; serve it by HTTP`,
    );
  }
  const folder = path.resolve(place instanceof URL ? url.fileURLToPath(place) : place);
  const open = async (name: string): Promise<Uint8Array> => {
    // A link inside the folder must not lead out of it either.
    const root = await fs.promises.realpath(folder);
    const file = await fs.promises.realpath(path.join(folder, name)).catch((error) => {
      throw ['ENOENT', 'ENOTDIR'].includes(error.code) ? new Absence(error.message) : error;
    });
    if (!file.startsWith(root.endsWith(path.sep) ? root : root + path.sep)) {
      throw new Error('the link leads out of the folder');
    }
    const { buffer, byteOffset, byteLength } = await fs.promises.readFile(file);
    return new Uint8Array(buffer, byteOffset, byteLength);
  };
  return folderOfFiles(
    folder,
    open,
    (name, reason) => `load: cannot read '${name}' in ${folder}: ${reason}`,
  );
}

function checkName(name: string, where: string): void {
  const parts = name.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..') || /[\\:\0]/.test(name)) {
    throw new ModelLoadError(
      `load: a file of ${where} must be named by a relative path inside the folder, got '${name}'`,
    );
  }
}

interface NodeModules {
  'node:fs': typeof import('node:fs');
  'node:path': typeof import('node:path');
  'node:url': typeof import('node:url');
}

function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] | undefined {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } };
  return process?.getBuiltinModule?.(name) as NodeModules[Name] | undefined;
}
