/**
 * A standard normal distribution cut at two bounds, as the kernels take it: float32 numbers that say
 * how much of it lies where. Twice a probability stands everywhere, for the error function gives that.
 *
 * The arithmetic is float64 with `+ - * /` alone, because `Math.exp` may differ between engines, and
 * these numbers decide bits.
 */

const SQRT_TWO_OVER_PI = 0.7978845608028654;

/** The bounds and the shares of the standard normal distribution around them, all float32. */
export interface Truncation {
  readonly low: number;
  readonly high: number;
  /** Twice the probability below `low`. */
  readonly below: number;
  /** Twice the probability above `high`. */
  readonly above: number;
  /** Twice the probability between 0 and `low`, negative for a negative `low`. */
  readonly start: number;
  /** Twice the probability between the bounds. */
  readonly mass: number;
}

/**
 * Makes the numbers for two bounds: `low < high`, either may be infinite.
 *
 * @param low - in standard deviations, float32
 * @param high - in standard deviations, float32
 */
export function truncation(low: number, high: number): Truncation {
  return {
    low,
    high,
    below: Math.fround(upperTail(-low)),
    above: Math.fround(upperTail(high)),
    start: Math.fround(centre(low)),
    mass: Math.fround(between(low, high)),
  };
}

/** Taken where no digits cancel: from the tails beside one, else from the centre. */
function between(low: number, high: number): number {
  if (low >= 3) return upperTail(low) - upperTail(high);
  if (high <= -3) return upperTail(-high) - upperTail(-low);
  return centre(high) - centre(low);
}

/** Twice the probability above `x`: `erfc(x / sqrt(2))`. */
function upperTail(x: number): number {
  if (x < 3) return 1 - centre(x);
  // Nothing that float64 has.
  if (x > 38) return 0;
  // Laplace's continued fraction; from 3 on, 100 terms are exact to 1e-15.
  let fraction = x;
  for (let n = 100; n > 0; n--) fraction = x + n / fraction;
  return (SQRT_TWO_OVER_PI * bell(x)) / fraction;
}

/** Twice the probability between 0 and `x`: `erf(x / sqrt(2))`. */
function centre(x: number): number {
  if (x < 0) return -centre(-x);
  if (x >= 3) return 1 - upperTail(x);
  // All terms are positive, so that no digits cancel.
  let term = x;
  let sum = x;
  for (let n = 3; term > 1e-17 * sum; n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return SQRT_TWO_OVER_PI * bell(x) * sum;
}

/** `exp(-x^2 / 2)`, by the reciprocal of a sum of positive terms. */
function bell(x: number): number {
  const exponent = 0.5 * x * x;
  let term = 1;
  let sum = 1;
  for (let n = 1; term > 1e-17 * sum; n++) {
    term *= exponent / n;
    sum += term;
  }
  return 1 / sum;
}
