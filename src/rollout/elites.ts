/** Which sequences were the best, and what they have in common. */

/**
 * The indices of the `k` greatest of `count` values, best first; of equal ones the earlier goes first, and
 * minus infinity is never among them. Each is put into its place, so that the time grows with `count k`
 * where values come in rising order, and with `count` where they come in falling.
 *
 * @param values - values of many starts, of which those from `from` on are looked at
 * @param out - receives the indices, relative to `from`
 * @returns how many there are: `k`, or fewer where fewer are finite
 */
export function topSequences(
  values: Float32Array,
  from: number,
  count: number,
  k: number,
  out: Int32Array,
): number {
  let found = 0;
  for (let n = 0; n < count; n++) {
    const value = values[from + n];
    if (value === Number.NEGATIVE_INFINITY) continue;
    if (found === k && value <= values[from + out[k - 1]]) continue;
    let low = 0;
    let high = found;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[from + out[middle]] >= value) low = middle + 1;
      else high = middle;
    }
    if (found < k) found++;
    out.copyWithin(low + 1, low, found - 1);
    out[low] = n;
  }
  return found;
}
