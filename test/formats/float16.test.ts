import { describe, expect, it } from 'vitest';
import { float16ToFloat32, float32ToFloat16 } from '../../src/formats/float16.js';

const EVERY_PATTERN = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits);

const wordsOf = (values: Float32Array): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, values.length);

const floatsOf = (...words: number[]): Float32Array =>
  new Float32Array(Uint32Array.from(words).buffer);

/** The value of a pattern by the definition of the format, without looking at float32 bits. */
function definition(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

describe('float16ToFloat32', () => {
  it('gives every one of the 65,536 patterns the value its definition gives', () => {
    const wide = float16ToFloat32(EVERY_PATTERN);
    for (let bits = 0; bits < 0x10000; bits++) {
      // Object.is tells -0 from 0 and takes NaN for NaN.
      if (!Object.is(wide[bits], definition(bits))) {
        expect.fail(`pattern ${bits.toString(16)}: ${wide[bits]}, expected ${definition(bits)}`);
      }
    }
  });

  it('agrees with NumPy bit for bit, NaN payloads included', () => {
    // b = np.array([...], np.uint16); b.view(np.float16).astype(np.float32).view(np.uint32)
    const bits = Uint16Array.from([
      0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3555, 0x3c00, 0x3c01, 0xc000, 0x7bff, 0x7c00,
      0xfc00, 0x83ff, 0x2e66, 0x7e00, 0xfe00, 0x7c01, 0x7fff, 0xfd55,
    ]);
    expect(wordsOf(float16ToFloat32(bits))).toEqual(
      Uint32Array.from([
        0x00000000, 0x80000000, 0x33800000, 0x387fc000, 0x38800000, 0x3eaaa000, 0x3f800000,
        0x3f802000, 0xc0000000, 0x477fe000, 0x7f800000, 0xff800000, 0xb87fc000, 0x3dccc000,
        0x7fc00000, 0xffc00000, 0x7f802000, 0x7fffe000, 0xffaaa000,
      ]),
    );
  });

  it('writes into the array it is given', () => {
    const out = new Float32Array(3).subarray(1);
    expect(float16ToFloat32(Uint16Array.from([0x3c00, 0xc000]), out)).toBe(out);
    expect(out).toBeBitEqual(new Float32Array([1, -2]));
  });
});

describe('float32ToFloat16', () => {
  it('gives every one of the 65,536 patterns back after widening, NaN payloads included', () => {
    expect(float32ToFloat16(float16ToFloat32(EVERY_PATTERN))).toBeBitEqual(EVERY_PATTERN);
  });

  it('rounds to the nearest half, and ties to the even one, between any two neighbours', () => {
    // The magnitude after the largest finite half, 2^16, stands for infinity.
    const magnitude = (bits: number): number => (bits === 0x7c00 ? 65536 : definition(bits));
    for (let lower = 0; lower < 0x7c00; lower++) {
      const upper = lower + 1;
      // Exact in float32: two neighbouring halves and their midpoint differ in 12 bits at most.
      const middle = (magnitude(lower) + magnitude(upper)) / 2;
      const values = new Float32Array([middle, middle, middle, -middle]);
      const words = wordsOf(values);
      words[0]--; // the float32 just below the middle
      words[2]++; // and just above
      const even = lower % 2 === 0 ? lower : upper;
      const expected = Uint16Array.from([lower, even, upper, even | 0x8000]);
      const got = float32ToFloat16(values);
      for (let i = 0; i < 4; i++) {
        if (got[i] !== expected[i]) {
          expect.fail(`between ${lower} and ${upper}, case ${i}: ${got[i]}, not ${expected[i]}`);
        }
      }
    }
  });

  it('agrees with NumPy on limits, ties, subnormals and NaN', () => {
    // x = np.array([...], np.float32); x.astype(np.float16).view(np.uint16)
    const values = new Float32Array([
      0,
      -0,
      1,
      -2,
      65504,
      65519.996,
      65520,
      1e30,
      -1e30,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      2 ** -24,
      2 ** -25,
      1.0000001 * 2 ** -25,
      3 * 2 ** -26,
      -3 * 2 ** -25,
      2 ** -14,
      2 ** -14 - 2 ** -25,
      2 ** -14 - 2 ** -26,
      0.1,
      1 / 3,
      Math.PI,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      1 + 2 ** -11 + 2 ** -23,
      2049,
      2051,
      1e-8,
      6e-8,
    ]);
    expect(float32ToFloat16(values)).toBeBitEqual(
      Uint16Array.from([
        0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0x7c00, 0xfc00,
        0x0001, 0x0000, 0x0001, 0x0001, 0x8002, 0x0400, 0x0400, 0x0400, 0x2e66, 0x3555, 0x4248,
        0x3c00, 0x3c02, 0x3c01, 0x6800, 0x6802, 0x0000, 0x0001,
      ]),
    );
    // n = np.array([...], np.uint32); n.view(np.float32).astype(np.float16).view(np.uint16)
    const nans = floatsOf(0x7fc00000, 0xffc00000, 0x7f800001, 0x7fffffff, 0x7f802000, 0x7fd55555);
    expect(float32ToFloat16(nans)).toBeBitEqual(
      Uint16Array.from([0x7e00, 0xfe00, 0x7c01, 0x7fff, 0x7c01, 0x7eaa]),
    );
  });

  it('makes zero of everything too small, with the sign kept', () => {
    // Float32 subnormals, and the tie at 2^-25.
    const values = floatsOf(0x00000001, 0x80000001, 0x007fffff, 0x33000000, 0xb3000000);
    expect(float32ToFloat16(values)).toBeBitEqual(Uint16Array.from([0, 0x8000, 0, 0, 0x8000]));
  });

  it('writes into the array it is given', () => {
    const out = new Uint16Array(3).subarray(1);
    expect(float32ToFloat16(new Float32Array([1, -2]), out)).toBe(out);
    expect(out).toBeBitEqual(Uint16Array.from([0x3c00, 0xc000]));
  });
});

describe('bad arguments', () => {
  it('of another length are refused with both lengths', () => {
    expect(() => float16ToFloat32(new Uint16Array(2), new Float32Array(3))).toThrow(RangeError);
    expect(() => float16ToFloat32(new Uint16Array(2), new Float32Array(3))).toThrow(
      'float16ToFloat32: out must have 2 elements, got 3',
    );
    expect(() => float32ToFloat16(new Float32Array(2), new Uint16Array(1))).toThrow(RangeError);
  });

  it('of another kind are refused', () => {
    // @ts-expect-error numbers are not half-precision patterns
    expect(() => float16ToFloat32(new Float32Array(2))).toThrow(TypeError);
    // @ts-expect-error a float64 output
    expect(() => float16ToFloat32(new Uint16Array(2), new Float64Array(2))).toThrow(TypeError);
    // @ts-expect-error float64 values
    expect(() => float32ToFloat16(new Float64Array(2))).toThrow(TypeError);
    // @ts-expect-error a signed output
    expect(() => float32ToFloat16(new Float32Array(2), new Int16Array(2))).toThrow(TypeError);
  });
});
