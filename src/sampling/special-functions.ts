/** Scalar functions in float64 that the distributions share. */

/** `ln sqrt(2 pi)`. */
export const HALF_LOG_TWO_PI: number = 0.5 * Math.log(2 * Math.PI);

/** `1 / (1 + e^-x)`. */
export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** `ln(1 + e^x)`, without overflow and exact in both tails. */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/**
 * `e^(x^2) erfc(x)` for `x >= 0`: the complementary error function without its underflow. Relative
 * error below 1e-15.
 *
 * `(1 + 2x) e^(x^2) erfc(x)` is smooth from 0 to infinity, where one Chebyshev series in
 * `(x - 3.75) / (x + 3.75)` holds it. Shepherd and Laframboise, "Chebyshev Approximation of
 * (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity" (1981); the coefficients are by
 * test/fixtures/make_distributions.py.
 */
export function scaledErfc(x: number): number {
  const t = 1 - 7.5 / (x + 3.75);
  let next = 0;
  let sum = 0;
  // Clenshaw's recurrence.
  for (let i = SERIES.length - 1; i > 0; i--) {
    const previous = next;
    next = sum;
    sum = 2 * t * sum - previous + SERIES[i];
  }
  return (t * sum - next + SERIES[0]) / (1 + 2 * x);
}

/** Standard normal distribution function, exact in its lower tail. */
export function normalCdf(x: number): number {
  return x > 0 ? 1 - upperTail(x) : upperTail(-x);
}

/** Logarithm of the standard normal distribution function. */
export function logNormalCdf(x: number): number {
  if (x > 0) return Math.log1p(-upperTail(x));
  // Where the tail itself underflows its logarithm is still a common number.
  return Math.log(0.5 * scaledErfc(-x * Math.SQRT1_2)) - 0.5 * x * x;
}

/**
 * The lower half of the standard normal quantile function, from the logarithm of the probability: the
 * `x <= 0` with `logNormalCdf(x) = logP`.
 *
 * Starts from the rational approximation of Hastings (Abramowitz and Stegun 26.2.23, error 4.5e-4)
 * and takes two of Halley's steps.
 *
 * @param logP - at most `ln 0.5`; `-Infinity` gives `-Infinity`
 */
export function lowerNormalQuantile(logP: number): number {
  if (logP === Number.NEGATIVE_INFINITY) return logP;
  const t = Math.sqrt(-2 * logP);
  const start =
    t -
    (2.515517 + t * (0.802853 + t * 0.010328)) /
      (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  let x = Math.min(-start, 0);
  for (let step = 0; step < 2; step++) {
    const scaled = scaledErfc(-x * Math.SQRT1_2);
    const gap = Math.log(0.5 * scaled) - 0.5 * x * x - logP;
    // The slope of logNormalCdf; its second derivative is -slope * (x + slope).
    const slope = SQRT_TWO_OVER_PI / scaled;
    const newton = gap / slope;
    x = Math.min(x - newton / (1 + 0.5 * newton * (x + slope)), 0);
  }
  return x;
}

/** `P(X > x)` of a standard normal, for `x >= 0`. */
function upperTail(x: number): number {
  return 0.5 * Math.exp(-0.5 * x * x) * scaledErfc(x * Math.SQRT1_2);
}

const SQRT_TWO_OVER_PI = Math.sqrt(2 / Math.PI);

const SERIES = Float64Array.of(
  1.1775789345674017,
  -0.004590054580646478,
  -0.08424913336651792,
  0.05920993999819189,
  -0.026658668435305753,
  0.009074997670705265,
  -0.002413163540417608,
  0.0004907758365258086,
  -6.916973302501207e-5,
  4.13902798607301e-6,
  7.74038306619849e-7,
  -2.1886401049234397e-7,
  1.076499946567091e-8,
  4.521959811218287e-9,
  -7.754400208831351e-10,
  -6.318088340886684e-11,
  2.86879501093067e-11,
  1.9455868545777347e-13,
  -9.65469674843344e-13,
  3.25254814814874e-14,
  3.3478119482868056e-14,
  -1.864562880419313e-15,
  -1.2507950530688648e-15,
  7.418235256624043e-17,
  5.068148904796111e-17,
);
