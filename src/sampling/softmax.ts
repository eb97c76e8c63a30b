/**
 * Softmax of `n` consecutive numbers, with the largest subtracted first; in float64.
 *
 * A NaN, an infinite largest entry, or no finite entry at all makes every result NaN.
 *
 * @param x - read from `x[at]` to `x[at + n - 1]`
 * @param out - written from 0 to `n - 1`
 */
export function softmax(x: Float32Array, at: number, n: number, out: Float64Array): void {
  const max = maxOf(x, at, n);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const e = Math.exp(x[at + i] - max);
    out[i] = e;
    sum += e;
  }
  for (let i = 0; i < n; i++) out[i] /= sum;
}

/** Logarithm of {@link softmax}, exact where the probability underflows. */
export function logSoftmax(x: Float32Array, at: number, n: number, out: Float64Array): void {
  const max = maxOf(x, at, n);
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.exp(x[at + i] - max);
  const logSum = Math.log(sum);
  for (let i = 0; i < n; i++) out[i] = x[at + i] - max - logSum;
}

/** The largest entry; a NaN among them may be passed over, as it comes back through the sum. */
function maxOf(x: Float32Array, at: number, n: number): number {
  let max = x[at];
  for (let i = 1; i < n; i++) if (x[at + i] > max) max = x[at + i];
  return max;
}
