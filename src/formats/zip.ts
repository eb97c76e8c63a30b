/**
 * Reading zip files from bytes, trusting none of their numbers: every offset and size is checked
 * against the bytes that are there, and sizes against a limit, before anything is allocated.
 *
 * Glossary: a zip ends in an *end record* that locates the *directory*, a list of one *entry* a file;
 * each entry locates a *local header*, which the file's data follows. Zip64 adds 64-bit fields.
 */

import { Inflate } from 'fflate';
import { crc32 } from './crc32.js';
import { quoted } from './elements.js';
import { FormatError } from './format-error.js';

/** One file of a zip, not yet inflated. */
export interface ZipEntry {
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  /** The data as they lie in the zip. */
  readonly data: Uint8Array;
  /** Bytes after inflating, as the directory states. */
  readonly size: number;
  readonly crc: number;
}

const END_SIGNATURE = 0x06054b50;
const END_SIZE = 22;
const END64_SIGNATURE = 0x06064b50;
const END64_SIZE = 56;
const LOCATOR64_SIGNATURE = 0x07064b50;
const LOCATOR64_SIZE = 20;
const ENTRY_SIGNATURE = 0x02014b50;
const ENTRY_SIZE = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_SIZE = 30;
const EXTRA_ZIP64 = 1;

/** The value of a 16 or 32-bit field that zip64 replaces. */
const IN_ZIP64_16 = 0xffff;
const IN_ZIP64_32 = 0xffffffff;

const STORED = 0;
const DEFLATED = 8;
/** Encrypted, or with an encrypted directory. */
const FLAGS_ENCRYPTED = 0x2041;

/** Deflate's best case: 258 bytes for two bits. */
const MAX_INFLATION = 1032;
/** Compressed bytes inflated at once: what comes out is checked after each. */
const INFLATE_STEP = 2 ** 16;

function broken(problem: string): FormatError {
  return new FormatError(
    'npz',
    `readNpz: ${problem}; check that the file is a complete npz (not an error page)`,
  );
}

/**
 * Lists the files of a zip.
 *
 * @param bytes - the whole zip
 * @param maxBytes - the most bytes that all files together may have after inflating
 * @throws `FormatError` when the zip is not consistent, or holds more than allowed
 */
export function zipEntries(bytes: Uint8Array, maxBytes: number): ZipEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const directory = locateDirectory(view);
  const entries: ZipEntry[] = [];
  const ranges: { name: string; start: number; end: number }[] = [];
  const names = new Set<string>();
  let total = 0;
  let at = directory.start;
  for (let i = 0; i < directory.count; i++) {
    const { name, nameBytes, next, header, ...entry } = readEntry(view, at, directory.end);
    at = next;
    if (names.has(name)) throw broken(`names must be unique, got ${quoted(name)} twice`);
    names.add(name);
    total += entry.size;
    if (total > maxBytes) {
      throw new FormatError(
        'npz',
        `readNpz: the arrays must have at most ${maxBytes} bytes together, got ${total} with ` +
          `${quoted(name)}; set maxBytes higher for a file you trust`,
      );
    }
    const start = dataStart(view, header, name, nameBytes);
    const end = start + entry.stored;
    if (end > directory.start) {
      throw broken(`the data of ${quoted(name)} must end before the directory, got byte ${end}`);
    }
    ranges.push({ name, start: header, end });
    entries.push({ name, ...entry, data: bytes.subarray(start, end) });
  }
  if (at !== directory.end) {
    throw broken(`the directory must end at byte ${directory.end}, got ${at}`);
  }
  // Overlapping files let a small zip inflate to a huge one.
  ranges.sort((a, b) => a.start - b.start);
  for (let i = 1; i < ranges.length; i++) {
    if (ranges[i].start < ranges[i - 1].end) {
      throw broken(
        `files must not overlap, got ${quoted(ranges[i - 1].name)} and ${quoted(ranges[i].name)}`,
      );
    }
  }
  return entries;
}

/**
 * The bytes of one file.
 *
 * @returns the zip's own memory where the file is stored, new memory where it is deflated
 * @throws `FormatError` when they are not as many as stated, or their checksum differs
 */
export function extract({ name, method, data, size, crc }: ZipEntry): Uint8Array {
  const bytes = method === STORED ? data : inflate(name, data, size);
  if (crc32(bytes) !== crc) throw broken(`the bytes of ${quoted(name)} must match their checksum`);
  return bytes;
}

function inflate(name: string, data: Uint8Array, size: number): Uint8Array {
  if (size > data.length * MAX_INFLATION) {
    throw broken(
      `${quoted(name)} must have at most ${data.length * MAX_INFLATION} bytes, as deflate makes ` +
        `of ${data.length}, got ${size}`,
    );
  }
  const out = new Uint8Array(size);
  let length = 0;
  const stream = new Inflate((chunk) => {
    if (length + chunk.length > size) {
      throw broken(`${quoted(name)} must inflate to the stated ${size} bytes, got more`);
    }
    out.set(chunk, length);
    length += chunk.length;
  });
  try {
    for (let at = 0; at < data.length; at += INFLATE_STEP) {
      stream.push(data.subarray(at, at + INFLATE_STEP), at + INFLATE_STEP >= data.length);
    }
  } catch (error) {
    if (error instanceof FormatError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw broken(`the deflated bytes of ${quoted(name)} must be whole, got "${reason}"`);
  }
  if (length !== size) {
    throw broken(`${quoted(name)} must inflate to the stated ${size} bytes, got ${length}`);
  }
  return out;
}

/** Where the directory lies, `[start, end)`, and how many entries it has. */
function locateDirectory(view: DataView): { start: number; end: number; count: number } {
  const at = endRecord(view);
  if (view.getUint16(at + 4, true) !== 0 || view.getUint16(at + 6, true) !== 0) {
    throw broken('the zip must be in one part');
  }
  let count = view.getUint16(at + 10, true);
  let size = view.getUint32(at + 12, true);
  let start = view.getUint32(at + 16, true);
  let end = at;
  if (count === IN_ZIP64_16 || size === IN_ZIP64_32 || start === IN_ZIP64_32) {
    const locator = at - LOCATOR64_SIZE;
    if (locator >= 0 && view.getUint32(locator, true) === LOCATOR64_SIGNATURE) {
      end = uint64(view, locator + 8, 'the zip64 end record');
      if (end + END64_SIZE > locator || view.getUint32(end, true) !== END64_SIGNATURE) {
        throw broken(`the zip64 end record must be at byte ${end}`);
      }
      count = uint64(view, end + 32, 'the number of files');
      size = uint64(view, end + 40, 'the size of the directory');
      start = uint64(view, end + 48, 'the start of the directory');
    }
  }
  if (start + size !== end) {
    throw broken(
      `the directory must end at byte ${end}, got a start of ${start} and ${size} bytes`,
    );
  }
  if (count * ENTRY_SIZE > size) {
    throw broken(`a directory of ${size} bytes must hold fewer files, got ${count}`);
  }
  return { start, end, count };
}

/** The end record is last but for a comment, whose length it states. */
function endRecord(view: DataView): number {
  const last = view.byteLength - END_SIZE;
  for (let at = last; at >= 0 && at >= last - 0xffff; at--) {
    if (view.getUint32(at, true) === END_SIGNATURE && at + view.getUint16(at + 20, true) === last) {
      return at;
    }
  }
  throw broken(`the ${view.byteLength} bytes must end in a zip end record`);
}

function readEntry(
  view: DataView,
  at: number,
  end: number,
): Omit<ZipEntry, 'data'> & {
  nameBytes: Uint8Array;
  header: number;
  stored: number;
  next: number;
} {
  if (at + ENTRY_SIZE > end || view.getUint32(at, true) !== ENTRY_SIGNATURE) {
    throw broken(`a directory entry must be at byte ${at}`);
  }
  const nameAt = at + ENTRY_SIZE;
  const extraAt = nameAt + view.getUint16(at + 28, true);
  const extraEnd = extraAt + view.getUint16(at + 30, true);
  const next = extraEnd + view.getUint16(at + 32, true);
  if (next > end) throw broken(`the directory entry at byte ${at} must end by ${end}, got ${next}`);
  const nameBytes = slice(view, nameAt, extraAt);
  const name = decodeName(nameBytes);
  if (view.getUint16(at + 8, true) & FLAGS_ENCRYPTED) {
    throw broken(`${quoted(name)} must not be encrypted`);
  }
  const method = view.getUint16(at + 10, true);
  if (method !== STORED && method !== DEFLATED) {
    throw broken(`${quoted(name)} must be stored (0) or deflated (8), got method ${method}`);
  }
  const wide = zip64Fields(view, extraAt, extraEnd, name);
  const field = (offset: number): number => {
    const value = view.getUint32(offset, true);
    return value === IN_ZIP64_32 ? wide() : value;
  };
  // Zip64 fields come in this order, and only those that are needed.
  const size = field(at + 24);
  const stored = field(at + 20);
  const header = field(at + 42);
  if (method === STORED && size !== stored) {
    throw broken(`${quoted(name)} is stored and must have ${stored} bytes, got ${size}`);
  }
  return {
    name,
    nameBytes,
    method,
    size,
    stored,
    header,
    crc: view.getUint32(at + 16, true),
    next,
  };
}

/** Gives the entry's 64-bit fields one after another. */
function zip64Fields(view: DataView, from: number, end: number, name: string): () => number {
  let at = end;
  let fieldsEnd = end;
  for (let extra = from; extra + 4 <= end; ) {
    const dataEnd = extra + 4 + view.getUint16(extra + 2, true);
    if (view.getUint16(extra, true) === EXTRA_ZIP64 && dataEnd <= end) {
      at = extra + 4;
      fieldsEnd = dataEnd;
      break;
    }
    extra = dataEnd;
  }
  return () => {
    // Without the field, the 32-bit value would be meant as it is, which no array here can have.
    if (at + 8 > fieldsEnd) throw broken(`${quoted(name)} must have its zip64 fields`);
    at += 8;
    return uint64(view, at - 8, quoted(name));
  };
}

/** Where a file's data start, after its local header, which must be of the same name. */
function dataStart(view: DataView, at: number, name: string, nameBytes: Uint8Array): number {
  if (at + LOCAL_SIZE > view.byteLength || view.getUint32(at, true) !== LOCAL_SIGNATURE) {
    throw broken(`the local header of ${quoted(name)} must be at byte ${at}`);
  }
  const nameAt = at + LOCAL_SIZE;
  const nameEnd = nameAt + view.getUint16(at + 26, true);
  const local = nameEnd <= view.byteLength ? slice(view, nameAt, nameEnd) : new Uint8Array(0);
  if (local.length !== nameBytes.length || local.some((byte, i) => byte !== nameBytes[i])) {
    throw broken(`the local header at byte ${at} must be that of ${quoted(name)}`);
  }
  return nameEnd + view.getUint16(at + 28, true);
}

function slice(view: DataView, start: number, end: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + start, end - start);
}

function decodeName(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw broken('names must be UTF-8');
  }
}

function uint64(view: DataView, at: number, what: string): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw broken(`${what} must be below 2^53, got ${value}`);
  }
  return Number(value);
}
