/**
 * Philox4x32-10, the counter-based generator behind all noise, in plain TypeScript.
 *
 * A block is a pure function of a 128-bit counter and a 64-bit key, so any row's noise can be computed
 * alone, in any order and on any worker. Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy
 * as 1, 2, 3" (SC 2011); constants and known answers of the Random123 library.
 *
 * Only 32-bit integer arithmetic is used: every engine gives the same bits.
 */

/** One Philox4x32-10 block. Counter `[4]`, key `[2]`, result `[4]`, all uint32. */
export function philox4x32(counter: Uint32Array, key: Uint32Array): Uint32Array {
  if (counter.length !== 4 || key.length !== 2) {
    throw new RangeError(
      `philox4x32: counter must have 4 words and key 2, got ${counter.length} and ${key.length}`,
    );
  }
  const out = new Uint32Array(4);
  philoxBlock(counter[0], counter[1], counter[2], counter[3], key[0], key[1], out);
  return out;
}

/** Writes one block to `out[0..3]`; the allocation-free form of {@link philox4x32}. */
export function philoxBlock(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  out: Uint32Array,
): void {
  for (let round = 0; round < 10; round++) {
    const hi0 = multiplyHigh(0xd251, 0x1f53, c0);
    const lo0 = Math.imul(0xd2511f53, c0);
    const hi1 = multiplyHigh(0xcd9e, 0x8d57, c2);
    const lo1 = Math.imul(0xcd9e8d57, c2);
    c0 = hi1 ^ c1 ^ k0;
    c2 = hi0 ^ c3 ^ k1;
    c1 = lo1;
    c3 = lo0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** Upper 32 bits of a 32x32-bit product; the first factor comes as two 16-bit halves. */
function multiplyHigh(aHigh: number, aLow: number, b: number): number {
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // aLow * bLow may pass 2^31, so the shift must be the unsigned one.
  const cross = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = Math.imul(aLow, bHigh) >>> 0;
  // cross < 2^32 and carry < 2^32: their sum is exact in a double but may pass 32 bits.
  const middle = (cross & 0xffff) + (carry & 0xffff);
  return (Math.imul(aHigh, bHigh) + (cross >>> 16) + (carry >>> 16) + (middle >>> 16)) | 0;
}
