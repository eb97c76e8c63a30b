/**
 * IEEE 754 half precision, for runtimes that have no `Float16Array`: 1 sign bit, 5 exponent bits
 * with bias 15, 10 fraction bits.
 *
 * Everything is done on bits: moving a NaN through a JavaScript number may change its payload.
 */

import { describe } from '../nd.js';

/**
 * Widens half-precision numbers; exact for every pattern, NaN payloads included.
 *
 * @param bits - half-precision patterns, `[N]`
 * @param out - where to write, `[N]`; a new array when not given
 * @returns `out`, float32 `[N]`
 * @throws TypeError when an argument has another kind
 * @throws RangeError when `out` has another length
 *
 * @example
 * ```ts
 * float16ToFloat32(new Uint16Array([0x3c00, 0xc000])); // [1, -2]
 * ```
 */
export function float16ToFloat32(bits: Uint16Array, out?: Float32Array): Float32Array {
  if (!(bits instanceof Uint16Array)) {
    throw new TypeError(`float16ToFloat32: bits must be a Uint16Array, got ${describe(bits)}`);
  }
  const result = out ?? new Float32Array(bits.length);
  if (!(result instanceof Float32Array)) {
    throw new TypeError(`float16ToFloat32: out must be a Float32Array, got ${describe(result)}`);
  }
  if (result.length !== bits.length) {
    throw new RangeError(
      `float16ToFloat32: out must have ${bits.length} elements, got ${result.length}`,
    );
  }
  const words = new Uint32Array(result.buffer, result.byteOffset, result.length);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i];
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0x1f) {
      words[i] = sign | 0x7f800000 | (fraction << 13);
    } else if (exponent !== 0) {
      // 112 is the difference of the biases, 127 - 15.
      words[i] = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else if (fraction === 0) {
      words[i] = sign;
    } else {
      // A subnormal half is a normal float: shift its leading one to the hidden position, bit 10.
      const shift = Math.clz32(fraction) - 21;
      words[i] = sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
    }
  }
  return result;
}

/**
 * Narrows to half precision, rounding to nearest with ties to even.
 *
 * Values of magnitude 65520 and above become infinite, those of 2^-25 and below zero (of the same
 * sign); a NaN stays a NaN and keeps the upper ten bits of its payload.
 *
 * @param values - float32 numbers, `[N]`
 * @param out - where to write, `[N]`; a new array when not given
 * @returns `out`, half-precision patterns `[N]`
 * @throws TypeError when an argument has another kind
 * @throws RangeError when `out` has another length
 *
 * @example
 * ```ts
 * float32ToFloat16(new Float32Array([1, -2])); // [0x3c00, 0xc000]
 * ```
 */
export function float32ToFloat16(values: Float32Array, out?: Uint16Array): Uint16Array {
  if (!(values instanceof Float32Array)) {
    throw new TypeError(`float32ToFloat16: values must be a Float32Array, got ${describe(values)}`);
  }
  const result = out ?? new Uint16Array(values.length);
  if (!(result instanceof Uint16Array)) {
    throw new TypeError(`float32ToFloat16: out must be a Uint16Array, got ${describe(result)}`);
  }
  if (result.length !== values.length) {
    throw new RangeError(
      `float32ToFloat16: out must have ${values.length} elements, got ${result.length}`,
    );
  }
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      const payload = (magnitude >>> 13) & 0x3ff;
      // Were the kept bits all zero, the pattern would be that of infinity.
      result[i] = sign | 0x7c00 | (payload === 0 ? 1 : payload);
    } else if (magnitude >= 0x477ff000) {
      // 65520 is halfway between the largest half, 65504, and the step after it.
      result[i] = sign | 0x7c00;
    } else if (magnitude >= 0x38800000) {
      // A carry out of the fraction moves into the exponent, which is the right next number.
      const odd = (magnitude >>> 13) & 1;
      result[i] = sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
    } else if (magnitude > 0x33000000) {
      // Subnormal: count in units of 2^-24. The float is (2^23 + fraction) * 2^(exponent - 150).
      const drop = 126 - (magnitude >>> 23);
      const significand = 0x800000 | (magnitude & 0x7fffff);
      const kept = significand >>> drop;
      const rest = significand & ((1 << drop) - 1);
      const halfway = 1 << (drop - 1);
      result[i] =
        sign | (kept + (rest > halfway || (rest === halfway && (kept & 1) === 1) ? 1 : 0));
    } else {
      // Exactly 2^-25 is a tie with zero, which is even.
      result[i] = sign;
    }
  }
  return result;
}
