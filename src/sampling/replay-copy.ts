import type { TypedArray } from '../nd.js';
import type { FieldStore } from './replay-schema.js';

/** Bytes from which one block copy is faster than a loop over words. */
const BLOCK_BYTES = 256;

/** Words of a cache line of 64 bytes. */
const WORDS_PER_LINE = 16;
/** Rows brought into the cache at a time: at most 16 kB. */
const TOUCHED_ROWS = 64;
/** Takes a value made of the loads, which would else be left out as useless. */
const sink = new Uint32Array(1);

/**
 * Rows of a ring into an array of the same type: `to[at + i] = ring[index[i]]`, or, with a `run`, the
 * rows `index[i] .. index[i] + run - 1` one after the other.
 *
 * Elements move as 32-bit words where they can and as bytes where they cannot, never as numbers: NaN
 * keeps its bits, and each loop sees one array type, which keeps it fast.
 *
 * @param index - slots, `[n]`; runs must not reach around the ring's end
 * @param to - of the store's type, at least `(at + n * run) * width` long
 */
export function gatherInto(
  { data, width }: FieldStore,
  index: Int32Array,
  run: number,
  to: TypedArray,
  at: number,
): void {
  const rowBytes = width * data.BYTES_PER_ELEMENT;
  const bytes = rowBytes * run;
  const first = at * rowBytes;
  if (bytes >= BLOCK_BYTES) {
    gatherBlocks(bytesOf(data), rowBytes, bytes, index, bytesOf(to), first);
  } else if ((rowBytes & 3) === 0 && (to.byteOffset & 3) === 0) {
    gatherWords(wordsOf(data), rowBytes >>> 2, bytes >>> 2, index, wordsOf(to), first >>> 2);
  } else {
    gatherBytes(bytesOf(data), rowBytes, bytes, index, bytesOf(to), first);
  }
}

function gatherWords(
  from: Uint32Array,
  stride: number,
  width: number,
  index: Int32Array,
  to: Uint32Array,
  at: number,
): void {
  let touched = 0;
  for (let begin = 0; begin < index.length; begin += TOUCHED_ROWS) {
    const end = Math.min(begin + TOUCHED_ROWS, index.length);
    // One load a cache line first: such loads do not wait for each other, while those of the copying
    // loop do, at the branch that ends each row. On rows spread over memory this halves the time.
    for (let i = begin; i < end; i++) {
      const row = index[i] * stride;
      for (let j = 0; j < width; j += WORDS_PER_LINE) touched ^= from[row + j];
      touched ^= from[row + width - 1];
    }
    for (let i = begin; i < end; i++) {
      let word = index[i] * stride;
      const last = word + width;
      for (; word + 3 < last; word += 4, at += 4) {
        to[at] = from[word];
        to[at + 1] = from[word + 1];
        to[at + 2] = from[word + 2];
        to[at + 3] = from[word + 3];
      }
      while (word < last) to[at++] = from[word++];
    }
  }
  sink[0] = touched;
}

function gatherBytes(
  from: Uint8Array,
  stride: number,
  width: number,
  index: Int32Array,
  to: Uint8Array,
  at: number,
): void {
  for (let i = 0; i < index.length; i++) {
    const row = index[i] * stride;
    for (let j = 0; j < width; j++) to[at++] = from[row + j];
  }
}

function gatherBlocks(
  from: Uint8Array,
  stride: number,
  width: number,
  index: Int32Array,
  to: Uint8Array,
  at: number,
): void {
  for (let i = 0; i < index.length; i++, at += width) {
    const row = index[i] * stride;
    to.set(from.subarray(row, row + width), at);
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function wordsOf({ buffer, byteOffset, byteLength }: TypedArray): Uint32Array {
  return new Uint32Array(buffer, byteOffset, byteLength >>> 2);
}
