/**
 * The value transform `h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x` of MuZero and R2D2.
 *
 * Pohlen et al., "Observe and Look Further: Achieving Consistent Performance on Atari" (2018).
 *
 * @param epsilon - slope that remains for large values, at least 0. Default 0.001
 */
export function valueTransform(x: number, epsilon = 0.001): number {
  const size = Math.abs(x);
  if (size === Number.POSITIVE_INFINITY) return x;
  // sqrt(size + 1) - 1, without the cancellation near 0.
  return Math.sign(x) * (size / (Math.sqrt(size + 1) + 1)) + epsilon * x;
}

/**
 * The inverse of {@link valueTransform}.
 *
 * @param epsilon - as it was in `valueTransform`. Default 0.001
 */
export function inverseValueTransform(y: number, epsilon = 0.001): number {
  const size = Math.abs(y);
  if (size === Number.POSITIVE_INFINITY) return y;
  // d = sqrt(|x| + 1) - 1 solves epsilon d^2 + (1 + 2 epsilon) d = |y|, and |x| = d (d + 2).
  const b = 1 + 2 * epsilon;
  const d = (2 * size) / (b + Math.sqrt(b * b + 4 * epsilon * size));
  return Math.sign(y) * d * (d + 2);
}

/**
 * {@link valueTransform} of every number, float32.
 *
 * @param epsilon - as for numbers. Default 0.001
 */
export function valueTransformArray(x: Float32Array, epsilon = 0.001): Float32Array {
  const out = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) out[i] = valueTransform(x[i], epsilon);
  return out;
}

/**
 * {@link inverseValueTransform} of every number, float32.
 *
 * @param epsilon - as it was in `valueTransform`. Default 0.001
 */
export function inverseValueTransformArray(y: Float32Array, epsilon = 0.001): Float32Array {
  const out = new Float32Array(y.length);
  for (let i = 0; i < y.length; i++) out[i] = inverseValueTransform(y[i], epsilon);
  return out;
}
