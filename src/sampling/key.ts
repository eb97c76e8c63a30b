import { philoxBlock } from '../kernels/philox.js';
import { Stream } from './stream.js';

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

/**
 * Derives a key for a numbered part of the work, such as one worker, member or epoch: the keys of two
 * numbers share no noise, and neither shares any with the seed they came from.
 *
 * The derived key is words 0 and 1 of the Philox block with counter `(data, 0, 0, Stream.fold)`.
 *
 * @param seed - the seed or key to derive from
 * @param data - the number, uint32
 * @throws RangeError when `data` is not a uint32
 *
 * @example
 * ```ts @import.meta.vitest
 * const { foldIn } = await import('umwelt/sampling');
 * const workers = [0, 1, 2].map((worker) => foldIn(7, worker));
 * expect(new Set(workers.map(({ k0 }) => k0)).size).toBe(3);
 * ```
 */
export function foldIn(seed: Seed, data: number): Key {
  if (!isWord(data)) {
    throw new RangeError(`foldIn: data must be an integer in 0..2^32-1, got ${data}`);
  }
  const { k0, k1 } = key(seed);
  const block = new Uint32Array(4);
  philoxBlock(data, 0, 0, Stream.fold, k0, k1, block);
  return Object.freeze({ k0: block[0], k1: block[1] });
}

function split(seed: bigint): Key {
  const bits = BigInt.asUintN(64, seed);
  return Object.freeze({ k0: Number(bits & 0xffffffffn), k1: Number(bits >> 32n) });
}

function isWord(value: unknown): value is number {
  return typeof value === 'number' && value >>> 0 === value;
}
