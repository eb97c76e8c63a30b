/**
 * HDF5 files through h5wasm, the one module that knows it. h5wasm is an optional peer and is loaded on
 * first use; its browser build runs in Node too, and keeps to its own file system in memory, so that no
 * file can lead to another by external links.
 */

import { describe, type NdView, nd, sizeOf, type TypedArray } from '../nd.js';
import { checkedSize, type ElementKind, quoted } from './elements.js';
import { FormatError } from './format-error.js';

/** A file that is read in parts, for files too large to hold. */
export interface RandomAccess {
  /** Length in bytes. */
  readonly size: number;
  /** Fills `target` with the bytes from `position` on; returns how many there were. */
  read(target: Uint8Array, position: number): number;
}

/** Where an HDF5 file comes from: its bytes, a path (in Node), or parts of it on demand. */
export type Hdf5Source = Uint8Array | string | RandomAccess;

/** A dataset of a file: its shape and how to hold its elements. */
export interface DatasetInfo {
  readonly path: string;
  readonly shape: readonly number[];
  readonly kind: ElementKind;
}

/** The parts of Emscripten's file system that are used here. */
interface FileSystem {
  writeFile(path: string, bytes: Uint8Array): void;
  readFile(path: string): Uint8Array;
  unlink(path: string): void;
  lookupPath(path: string): { node: FileNode };
  getStream(descriptor: number): { stream_ops: StreamOperations };
}

interface StreamOperations {
  read?: unknown;
  write?: unknown;
}

interface FileNode {
  usedBytes: number;
  stream_ops: StreamOperations;
}

/** Numbers of HDF5's type classes. */
const INTEGER = 0;
const FLOAT = 1;
const ENUM = 8;

/** Descriptor of the error stream. */
const STDERR = 2;

/** Element stores by class and bytes. */
const KINDS: Readonly<Record<string, ElementKind>> = {
  f4: Float32Array,
  f8: Float64Array,
  i1: Int8Array,
  i2: Int16Array,
  i4: Int32Array,
  i8: BigInt64Array,
  u1: Uint8Array,
  u2: Uint16Array,
  u4: Uint32Array,
  u8: BigUint64Array,
};

type H5wasm = typeof import('h5wasm');
type Module = Awaited<H5wasm['ready']>;

interface Library {
  readonly h5wasm: H5wasm;
  readonly module: Module;
  readonly files: FileSystem;
}

let library: Promise<Library> | undefined;
let opened = 0;

/** Loads h5wasm once. */
function load(): Promise<Library> {
  library ??= (async () => {
    const h5wasm = await import('h5wasm').catch((error: unknown) => {
      library = undefined;
      throw new Error(
        'umwelt/formats/hdf5: the package h5wasm must be installed; run `npm install h5wasm`',
        { cause: error },
      );
    });
    const module = await h5wasm.ready;
    return { h5wasm, module, files: module.FS as unknown as FileSystem };
  })();
  return library;
}

/**
 * Runs a piece of work in HDF5, which reports most failures on its error stream alone: whatever appears
 * there is thrown.
 */
function guarded<T>(files: FileSystem, work: () => T): T {
  const stderr = files.getStream(STDERR);
  const original = stderr.stream_ops;
  const lines: string[] = [];
  const decoder = new TextDecoder();
  stderr.stream_ops = {
    ...original,
    write: (_: unknown, buffer: Uint8Array, offset: number, length: number): number => {
      lines.push(decoder.decode(buffer.slice(offset, offset + length)));
      return length;
    },
  };
  let result: T;
  try {
    result = work();
  } catch (error) {
    throw new Error(reasonIn(lines) ?? (error instanceof Error ? error.message : String(error)), {
      cause: error,
    });
  } finally {
    stderr.stream_ops = original;
  }
  const reason = reasonIn(lines);
  if (reason !== undefined) throw new Error(reason);
  return result;
}

/** The innermost message of HDF5's error stack, ` #003: file.c line 12 in function(): message`. */
function reasonIn(lines: readonly string[]): string | undefined {
  if (lines.length === 0) return undefined;
  const text = lines.join('');
  return [...text.matchAll(/^\s*#\d+: .*?\(\): (.*)$/gm)].at(-1)?.[1] ?? text.trim().split('\n')[0];
}

/** An HDF5 file open for reading. */
export class Hdf5Reader {
  readonly #what: string;
  readonly #library: Library;
  readonly #path: string;
  readonly #id: bigint;
  readonly #source: OpenSource;

  private constructor(
    what: string,
    library: Library,
    path: string,
    id: bigint,
    source: OpenSource,
  ) {
    this.#what = what;
    this.#library = library;
    this.#path = path;
    this.#id = id;
    this.#source = source;
  }

  /**
   * @param what - the reader's name in messages
   * @throws `FormatError` when it is not HDF5
   * @throws TypeError when the source is none of its kinds
   */
  static async open(what: string, source: Hdf5Source): Promise<Hdf5Reader> {
    const library = await load();
    const { files, module } = library;
    const opening = openSource(what, source);
    const path = `/umwelt-${opened++}.h5`;
    files.writeFile(path, new Uint8Array(0));
    const { node } = files.lookupPath(path);
    node.usedBytes = opening.size;
    node.stream_ops = {
      ...node.stream_ops,
      read: (_: unknown, to: Uint8Array, offset: number, length: number, position: number) =>
        opening.read(to.subarray(offset, offset + length), position),
    };
    try {
      const id = guarded(files, () => module.open(path, module.H5F_ACC_RDONLY, false, -1, -1));
      return new Hdf5Reader(what, library, path, id, opening);
    } catch (error) {
      files.unlink(path);
      opening.close();
      throw opening.failure ?? broken(what, `the file must be HDF5: ${messageOf(error)}`, error);
    }
  }

  /** Closes the file; further calls are an error. */
  close(): void {
    const { files, module } = this.#library;
    try {
      guarded(files, () => module.close_file(this.#id));
    } catch {
      // What was read has been checked; a file that does not close leaves nothing to do.
    }
    files.unlink(this.#path);
    this.#source.close();
  }

  /** An error in this file. */
  broken(problem: string, cause?: unknown): FormatError {
    return broken(this.#what, problem, cause);
  }

  /** Names in a group, `/` for the root. */
  names(group: string): string[] {
    const { module } = this.#library;
    return this.#call(group, () => module.get_names(this.#id, group, false));
  }

  /** Whether a path that exists is a group; links to other files are refused. */
  isGroup(path: string): boolean {
    const { module } = this.#library;
    const type = this.#call(path, () => module.get_type(this.#id, path));
    if (type === module.H5G_GROUP) return true;
    if (type === module.H5G_DATASET) return false;
    throw this.broken(`${quoted(path)} must be a group or a dataset of this file`);
  }

  /** A scalar integer attribute of an object; undefined where it has none of that name. */
  integer(path: string, name: string): number | undefined {
    const { module } = this.#library;
    return this.#call(path, () => {
      if (!module.get_attribute_names(this.#id, path).includes(name)) return undefined;
      const metadata = module.get_attribute_metadata(this.#id, path, name);
      const kind = kindOf(metadata);
      if (metadata.type !== INTEGER || kind === undefined || metadata.total_size !== 1) {
        throw new Error(`its attribute ${quoted(name)} must be one integer`);
      }
      const data = this.#fill(metadata.size, (to) =>
        module.get_attribute_data(this.#id, path, name, to),
      );
      const value = Number(new kind(data)[0]);
      if (!Number.isSafeInteger(value)) {
        throw new Error(`its attribute ${quoted(name)} must be below 2^53, got ${value}`);
      }
      return value;
    });
  }

  /** What a dataset holds. */
  dataset(path: string): DatasetInfo {
    if (this.isGroup(path)) throw this.broken(`${quoted(path)} must be a dataset, got a group`);
    const { module } = this.#library;
    const metadata = this.#call(path, () => module.get_dataset_metadata(this.#id, path));
    const kind = kindOf(metadata);
    if (kind === undefined) {
      const text = metadata.vlen || metadata.type === 9 || metadata.type === 3;
      throw this.broken(
        `${quoted(path)} must hold bool, integers, float32 or float64, got HDF5 type class ` +
          `${metadata.type} of ${metadata.size} bytes` +
          `${text ? '; text and JPEG images are not read' : ''}`,
      );
    }
    const { shape } = metadata;
    if (shape === null || metadata.virtual_sources !== undefined || checkedSize(shape) < 0) {
      throw this.broken(`${quoted(path)} must be an array of countable size, stored in this file`);
    }
    return { path, shape, kind };
  }

  /**
   * Rows `[start, end)` of a dataset, copied.
   *
   * @param limit - the most bytes they may have
   */
  rows(info: DatasetInfo, start: number, end: number, limit: number): NdView<TypedArray> {
    const { path, kind } = info;
    const shape = [end - start, ...info.shape.slice(1)];
    const bytes = sizeOf(shape) * kind.BYTES_PER_ELEMENT;
    if (!(bytes <= limit)) {
      throw this.broken(
        `${quoted(path)} must have at most ${limit} bytes at once, got ${bytes}; ` +
          'set maxBytes higher for a file you trust',
      );
    }
    if (bytes === 0) return nd(new kind(0), shape);
    const { module } = this.#library;
    const counts = shape.map(BigInt);
    const offsets = shape.map((_, axis) => BigInt(axis === 0 ? start : 0));
    const strides = shape.map(() => 1n);
    const data = this.#call(path, () =>
      this.#fill(bytes, (to) =>
        module.get_dataset_data(this.#id, path, counts, offsets, strides, to),
      ),
    );
    return nd(new kind(data), shape);
  }

  /** Memory that HDF5 fills. */
  #fill(bytes: number, work: (address: bigint) => number): ArrayBuffer {
    const { module } = this.#library;
    const address = bytes <= module.MAXIMUM_MEMORY ? module._malloc(bytes) : 0;
    if (address === 0) throw new Error(`h5wasm has no memory for ${bytes} bytes`);
    try {
      if (work(BigInt(address)) < 0) throw new Error('HDF5 cannot read it');
      // Memory may have grown meanwhile, so the heap is looked up now.
      return module.HEAPU8.slice(address, address + bytes).buffer as ArrayBuffer;
    } finally {
      module._free(address);
    }
  }

  #call<T>(path: string, work: () => T): T {
    try {
      return guarded(this.#library.files, work);
    } catch (error) {
      throw this.#source.failure ?? this.broken(`${quoted(path)}: ${messageOf(error)}`, error);
    }
  }
}

/** The element store of a type; undefined for what has none. h5py's booleans are enums of one byte. */
function kindOf({
  type,
  size,
  signed,
  enum_type,
}: {
  type: number;
  size: number;
  signed: boolean;
  enum_type?: { type: number };
}): ElementKind | undefined {
  if (type === ENUM) return size === 1 && enum_type?.type === INTEGER ? Uint8Array : undefined;
  if (type === FLOAT) return KINDS[`f${size}`];
  if (type === INTEGER) return KINDS[`${signed ? 'i' : 'u'}${size}`];
  return undefined;
}

function broken(what: string, problem: string, cause?: unknown): FormatError {
  return new FormatError('hdf5', `${what}: ${problem}`, { cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A source, open. A read that fails must not throw through HDF5: it is kept in `failure`. */
interface OpenSource {
  readonly size: number;
  readonly failure: unknown;
  read(target: Uint8Array, position: number): number;
  close(): void;
}

function openSource(what: string, source: Hdf5Source): OpenSource {
  if (source instanceof Uint8Array) {
    return {
      size: source.length,
      failure: undefined,
      read(target, position) {
        const part = source.subarray(position, position + target.length);
        target.set(part);
        return part.length;
      },
      close() {},
    };
  }
  const access = typeof source === 'string' ? openPath(source) : source;
  if (typeof access !== 'object' || typeof access?.read !== 'function') {
    throw new TypeError(
      `${what}: source must be a Uint8Array, a path or { size, read }, got ${describe(source)}`,
    );
  }
  let failure: unknown;
  return {
    size: access.size,
    get failure() {
      return failure;
    },
    read(target, position) {
      try {
        return access.read(target, position);
      } catch (error) {
        failure ??= error;
        return 0;
      }
    },
    close() {
      if ('close' in access && typeof source === 'string') (access.close as () => void)();
    },
  };
}

function openPath(path: string): RandomAccess & { close(): void } {
  const fs = globalThis.process?.getBuiltinModule?.('node:fs');
  if (fs === undefined) {
    throw new TypeError('umwelt/formats/hdf5: paths are read in Node alone; give a Uint8Array');
  }
  const descriptor = fs.openSync(path, 'r');
  return {
    size: fs.fstatSync(descriptor).size,
    read: (target, position) => fs.readSync(descriptor, target, 0, target.length, position),
    close: () => fs.closeSync(descriptor),
  };
}

/** Numpy's letters for the types that h5wasm writes. */
const WRITE_TYPES: Readonly<Record<string, string>> = {
  Float32Array: '<f',
  Float64Array: '<d',
  Int8Array: '<b',
  Int16Array: '<h',
  Int32Array: '<i',
  BigInt64Array: '<q',
  Uint8Array: '<B',
  Uint8ClampedArray: '<B',
  Uint16Array: '<H',
  Uint32Array: '<I',
  BigUint64Array: '<Q',
};

/** Bytes of a chunk: HDF5 reads and compresses chunk by chunk. */
const CHUNK_BYTES: number = 2 ** 20;

/** An HDF5 file being written, in memory. */
export class Hdf5Writer {
  readonly #library: Library;
  readonly #path: string;
  readonly #file: InstanceType<H5wasm['File']>;
  readonly #compress: boolean;

  private constructor(library: Library, path: string, compress: boolean) {
    this.#library = library;
    this.#path = path;
    this.#compress = compress;
    this.#file = guarded(library.files, () => new library.h5wasm.File(path, 'w'));
  }

  static async create(compress: boolean): Promise<Hdf5Writer> {
    return new Hdf5Writer(await load(), `/umwelt-${opened++}.h5`, compress);
  }

  group(path: string): void {
    guarded(this.#library.files, () => this.#file.create_group(path));
  }

  /** An int64 scalar, as h5py writes a Python integer. */
  attribute(path: string, name: string, value: number): void {
    guarded(this.#library.files, () => {
      const { Group } = this.#library.h5wasm;
      const group = new Group(this.#file.file_id, `/${path}`);
      group.create_attribute(name, new BigInt64Array([BigInt(value)]), [], '<q');
    });
  }

  /** A chunked dataset that can grow along its first axis, as h5py makes with `maxshape=(None, ...)`. */
  dataset(path: string, data: TypedArray, shape: readonly number[]): void {
    const rowBytes = sizeOf(shape.slice(1)) * data.BYTES_PER_ELEMENT;
    // HDF5 has no chunks of rows without elements.
    const chunked = rowBytes > 0;
    const rows = Math.max(1, Math.min(shape[0], Math.floor(CHUNK_BYTES / rowBytes)));
    guarded(this.#library.files, () =>
      this.#file.create_dataset({
        name: path,
        data,
        dtype: WRITE_TYPES[data[Symbol.toStringTag]],
        shape: [...shape],
        ...(chunked && { maxshape: [null, ...shape.slice(1)], chunks: [rows, ...shape.slice(1)] }),
        ...(chunked && this.#compress && { compression: 'gzip' as const }),
      }),
    );
  }

  /** Closes the file; gives its bytes. */
  finish(): Uint8Array {
    const { files } = this.#library;
    guarded(files, () => this.#file.close());
    const bytes = files.readFile(this.#path);
    files.unlink(this.#path);
    return bytes;
  }

  /** Drops the file, after an error. */
  abandon(): void {
    const { files } = this.#library;
    try {
      guarded(files, () => this.#file.close());
    } catch {
      // The error that led here is the one to tell.
    }
    files.unlink(this.#path);
  }
}
