/**
 * `sign(x) ln(1 + |x|)`: a logarithm for numbers of either sign, near the identity around 0.
 *
 * Hafner et al., "Mastering Diverse Domains through World Models" (2023).
 */
export function symlog(x: number): number {
  return Math.sign(x) * Math.log1p(Math.abs(x));
}

/** `sign(x) (e^|x| - 1)`, the inverse of {@link symlog}. */
export function symexp(x: number): number {
  return Math.sign(x) * Math.expm1(Math.abs(x));
}

/**
 * {@link symlog} of every number, float32.
 *
 * @param out - memory for the result, as long as `x`; `x` itself will do; by default new
 * @throws RangeError when `out` has another length
 */
export function symlogArray(
  x: Float32Array,
  out: Float32Array = new Float32Array(x.length),
): Float32Array {
  expectLength('symlogArray', x, out);
  for (let i = 0; i < x.length; i++) out[i] = symlog(x[i]);
  return out;
}

/**
 * {@link symexp} of every number, float32; beyond 88.7 float32 overflows to `Infinity`.
 *
 * @param out - memory for the result, as long as `x`; `x` itself will do; by default new
 * @throws RangeError when `out` has another length
 */
export function symexpArray(
  x: Float32Array,
  out: Float32Array = new Float32Array(x.length),
): Float32Array {
  expectLength('symexpArray', x, out);
  for (let i = 0; i < x.length; i++) out[i] = symexp(x[i]);
  return out;
}

function expectLength(name: string, x: Float32Array, out: Float32Array): void {
  if (out.length !== x.length) {
    throw new RangeError(`${name}: out must hold ${x.length} numbers, got ${out.length}`);
  }
}
