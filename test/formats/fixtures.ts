import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { type NdView, packed, type TypedArray } from '../../src/nd.js';

const FOLDER = new URL('../fixtures/formats/', import.meta.url);

/** A file that Python wrote; test/fixtures/formats/make_formats.py says how. */
export function fixture(name: string): Uint8Array {
  return readFileSync(new URL(name, FOLDER));
}

export interface ExpectedArray {
  dtype: string;
  shape: number[];
  /** Elements in bytes, little-endian, row-major. */
  hex: string;
}

/** What Python says is in its files: by file, by array. */
export const expected = JSON.parse(fixture('expected.json').toString()) as Record<
  string,
  Record<string, ExpectedArray>
>;

/** NumPy's name of a typed array's elements. */
const NAMES: Record<string, string> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Int8Array: 'int8',
  Int16Array: 'int16',
  Int32Array: 'int32',
  BigInt64Array: 'int64',
  Uint8Array: 'uint8',
  Uint16Array: 'uint16',
  Uint32Array: 'uint32',
  BigUint64Array: 'uint64',
};

/** A view as expected.json tells arrays. */
export function told(view: NdView<TypedArray>): ExpectedArray {
  const { data, shape } = view;
  const { buffer, byteOffset, length } = data;
  // Floats are packed as integers, so that no NaN changes on the way.
  const words =
    data instanceof Float32Array
      ? new Uint32Array(buffer, byteOffset, length)
      : data instanceof Float64Array
        ? new BigUint64Array(buffer, byteOffset, length)
        : data;
  const row: TypedArray = packed({ ...view, data: words });
  return {
    dtype: NAMES[data[Symbol.toStringTag]],
    shape: [...shape],
    hex: Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('hex'),
  };
}

/** Random numbers in 0..1 from a seed: mulberry32. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A copy with up to eight changes: bytes, 32-bit extremes, cuts, repeats. */
export function mutant(bytes: Uint8Array, next: () => number): Uint8Array {
  const below = (n: number): number => Math.floor(next() * n);
  let out = Uint8Array.from(bytes);
  for (let i = 1 + below(8); i > 0 && out.length > 8; i--) {
    const at = below(out.length);
    const kind = below(10);
    if (kind === 0) out = out.slice(0, at);
    else if (kind === 1) out.copyWithin(at, below(out.length), below(out.length));
    else if (kind === 2 && at + 4 <= out.length) out.fill(next() < 0.5 ? 0xff : 0, at, at + 4);
    else if (kind < 6) out[at] ^= 1 << below(8);
    else out[at] = below(256);
  }
  return out;
}

/** What a reader made of many mutants. */
export interface Outcome {
  read: number;
  refused: number;
  /** The longest one took, in milliseconds. */
  slowest: number;
}

/** Runs a reader over mutants: each must be read or refused with the given error class. */
export async function survive(
  originals: readonly Uint8Array[],
  count: number,
  ErrorClass: new (...args: never[]) => Error,
  read: (bytes: Uint8Array) => unknown,
): Promise<Outcome> {
  const next = random(3);
  const outcome: Outcome = { read: 0, refused: 0, slowest: 0 };
  for (let i = 0; i < count; i++) {
    const bytes = mutant(originals[i % originals.length], next);
    const start = performance.now();
    try {
      await read(bytes);
      outcome.read++;
    } catch (error) {
      expect(error, `mutant ${i}: ${String(error)}`).toBeInstanceOf(ErrorClass);
      outcome.refused++;
    }
    outcome.slowest = Math.max(outcome.slowest, performance.now() - start);
  }
  return outcome;
}
