/** Tests of fit. Each states what a true sample exceeds with probability 0.01. */

/** Kolmogorov-Smirnov: the largest distance of the sample's distribution function from `cdf`. */
export function ksStatistic(sample: ArrayLike<number>, cdf: (x: number) => number): number {
  const sorted = Float64Array.from(sample).sort();
  const n = sorted.length;
  let worst = 0;
  for (let i = 0; i < n; i++) {
    const p = cdf(sorted[i]);
    worst = Math.max(worst, (i + 1) / n - p, p - i / n);
  }
  return worst;
}

/**
 * `sqrt(ln(2 / 0.01) / 2) / (sqrt(n) + 0.12 + 0.11 / sqrt(n))`: the limit of the distribution with
 * Stephens' correction for a finite n ("Use of the Kolmogorov-Smirnov, Cramer-von Mises and related
 * statistics without extensive tables", 1970).
 */
export function ksCritical(n: number): number {
  return Math.sqrt(Math.log(2 / 0.01) / 2) / (Math.sqrt(n) + 0.12 + 0.11 / Math.sqrt(n));
}

/** Pearson's chi-squared of counts against the numbers expected. */
export function chiSquared(counts: ArrayLike<number>, expected: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < counts.length; i++) sum += (counts[i] - expected[i]) ** 2 / expected[i];
  return sum;
}

/** Pearson's correlation of two samples of equal length. */
export function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = a.length;
  let [meanA, meanB] = [0, 0];
  for (let i = 0; i < n; i++) {
    meanA += a[i] / n;
    meanB += b[i] / n;
  }
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    ab += (a[i] - meanA) * (b[i] - meanB);
    aa += (a[i] - meanA) ** 2;
    bb += (b[i] - meanB) ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}
