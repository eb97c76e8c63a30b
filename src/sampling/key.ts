/** The 64-bit key of a noise generator, as two uint32 words; made by {@link key}. */
export interface Key {
  /** Low 32 bits. */
  readonly k0: number;
  /** High 32 bits. */
  readonly k1: number;
}

/** Whatever names a source of noise: an integer, a 64-bit bigint, or a {@link Key} made before. */
export type Seed = number | bigint | Key;

/**
 * Turns a seed into a key; a key passes through.
 *
 * Integers of either kind give the same key for the same value (two's complement, 64 bits).
 *
 * @throws TypeError when the seed is none of the three kinds
 * @throws RangeError for a number that is not a safe integer, or a bigint beyond 64 bits
 */
export function key(seed: Seed): Key {
  if (typeof seed === 'number') {
    if (!Number.isSafeInteger(seed)) {
      throw new RangeError(
        `key: a number seed must be a safe integer, got ${seed}; use a bigint for 64 bits`,
      );
    }
    return split(BigInt(seed));
  }
  if (typeof seed === 'bigint') {
    if (seed < -(1n << 63n) || seed >= 1n << 64n) {
      throw new RangeError(`key: a bigint seed must fit 64 bits, got ${seed}`);
    }
    return split(seed);
  }
  if (typeof seed !== 'object' || seed === null || !isWord(seed.k0) || !isWord(seed.k1)) {
    throw new TypeError(
      `key: seed must be an integer, a bigint or a key from key(), got ${seed === null ? 'null' : typeof seed}`,
    );
  }
  return seed;
}

function split(seed: bigint): Key {
  const bits = BigInt.asUintN(64, seed);
  return Object.freeze({ k0: Number(bits & 0xffffffffn), k1: Number(bits >> 32n) });
}

function isWord(value: unknown): value is number {
  return typeof value === 'number' && value >>> 0 === value;
}
