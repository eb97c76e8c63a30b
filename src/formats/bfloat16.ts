/**
 * Widens bfloat16, the upper half of a float32; exact for every pattern, NaN payloads included.
 *
 * @param bits - bfloat16 patterns, `[N]`
 * @returns float32 `[N]`
 */
export function bfloat16ToFloat32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}
