import type { Seed } from './key.js';
import { Draws, gumbel } from './replay-draws.js';
import { NotEnoughRowsError } from './sampler.js';
import { Stream } from './stream.js';

/** Which of a seed's independent draws. */
export interface ChoiceOptions {
  /** Number of the draw, uint32, 0 by default. */
  step?: number;
}

/**
 * The numbers `0 .. n - 1` in random order, each order equally likely (Fisher-Yates).
 *
 * @param seed - the seed or key
 * @param n - how many, at most 2^31 - 1
 * @returns int32 `[n]`
 * @throws RangeError when `n` is no count
 */
export function permutation(seed: Seed, n: number, options: ChoiceOptions = {}): Int32Array {
  return choice(seed, n, n, options);
}

/**
 * `k` different numbers out of `0 .. n - 1`, each choice and order equally likely: the first `k` of
 * {@link permutation} with the same seed, found in O(k).
 *
 * @param seed - the seed or key
 * @param n - how many there are, at most 2^31 - 1
 * @param k - how many to take
 * @returns int32 `[k]`
 * @throws RangeError when `n` or `k` is no count
 * @throws {@link NotEnoughRowsError} when `k` is above `n`
 */
export function choice(seed: Seed, n: number, k: number, options: ChoiceOptions = {}): Int32Array {
  expectCount('choice', 'n', n);
  expectCount('choice', 'k', k);
  expectEnough('choice', k, n);
  return drawPermutation(new Draws('choice', seed, Stream.permutation, options.step), n, k);
}

/**
 * `k` different numbers out of `0 .. n - 1`, drawn one after the other with chances
 * `softmax(logits)` of those that are left: the `k` largest of `logits + Gumbel noise`.
 *
 * Kool, van Hoof, Welling, "Stochastic beams and where to find them" (ICML 2019). Works on logits of
 * any size: nothing is exponentiated, so nothing under- or overflows.
 *
 * @param seed - the seed or key
 * @param logits - unnormalised log-probabilities `[n]`; `-Infinity` is never drawn
 * @param k - how many to take
 * @returns int32 `[k]` in the order drawn: the first `j` are a choice of `j`
 * @throws RangeError when a logit is NaN or `Infinity`, or `k` is no count
 * @throws {@link NotEnoughRowsError} when fewer than `k` logits are finite
 */
export function gumbelTopK(
  seed: Seed,
  logits: Float32Array | Float64Array | readonly number[],
  k: number,
  options: ChoiceOptions = {},
): Int32Array {
  expectCount('gumbelTopK', 'k', k);
  let candidates = 0;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i];
    if (!(logit < Infinity)) {
      throw new RangeError(
        `gumbelTopK: each logit must be finite or -Infinity, got ${logit} at ${i}`,
      );
    }
    if (logit > -Infinity) candidates++;
  }
  expectEnough('gumbelTopK', k, candidates);
  const draws = new Draws('gumbelTopK', seed, Stream.choice, options.step);
  return drawTopK(draws, Float64Array.from(logits), k);
}

/** The first `k` numbers of a shuffle of `0 .. n - 1`. */
export function drawPermutation(draws: Draws, n: number, k: number): Int32Array {
  const steps = new Int32Array(k);
  draws.shuffle(n, steps);
  // Where few are taken, only the places that were swapped are kept.
  if (8 * k < n) {
    const moved = new Map<number, number>();
    for (let i = 0; i < k; i++) {
      const j = i + steps[i];
      const taken = moved.get(j) ?? j;
      moved.set(j, moved.get(i) ?? i);
      steps[i] = taken;
    }
    return steps;
  }
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  for (let i = 0; i < k; i++) {
    const j = i + steps[i];
    const taken = order[j];
    order[j] = order[i];
    order[i] = taken;
  }
  return k === n ? order : order.slice(0, k);
}

/**
 * The places of the `k` largest of `logits + Gumbel noise`, largest first; equal ones by place.
 *
 * @param logits - `[n]`, overwritten by the sums
 * @param draw - which of the independent draws
 */
export function drawTopK(draws: Draws, logits: Float64Array, k: number, draw = 0): Int32Array {
  const n = logits.length;
  const noise = new Float64Array(n);
  draws.uniforms(noise, draw);
  for (let i = 0; i < n; i++) logits[i] += gumbel(noise[i]);
  // A heap of the best so far, the worst of them on top.
  const heap = new Int32Array(k);
  const worse = (a: number, b: number): boolean =>
    logits[a] < logits[b] || (logits[a] === logits[b] && a > b);
  const sink = (place: number, at: number, length: number): void => {
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && worse(heap[child + 1], heap[child])) child++;
      if (!worse(heap[child], place)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = place;
  };
  if (k === 0) return heap;
  for (let i = 0; i < k; i++) heap[i] = i;
  for (let at = (k >> 1) - 1; at >= 0; at--) sink(heap[at], at, k);
  for (let i = k; i < n; i++) if (worse(heap[0], i)) sink(i, 0, k);
  for (let length = k - 1; length > 0; length--) {
    const worst = heap[0];
    sink(heap[length], 0, length);
    heap[length] = worst;
  }
  return heap;
}

function expectCount(what: string, name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > 2 ** 31 - 1) {
    throw new RangeError(`${what}: ${name} must be an integer in 0..2^31-1, got ${value}`);
  }
}

function expectEnough(what: string, k: number, n: number): void {
  if (k > n) {
    throw new NotEnoughRowsError(
      `${what}: k must be at most the number of candidates, got ${k} of ${n}; take fewer`,
      k,
      n,
    );
  }
}
