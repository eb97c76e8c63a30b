import { philox4x32 } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';

const hex = (words: Uint32Array) => [...words].map((word) => word.toString(16).padStart(8, '0'));

/** Ten rounds in exact integers, straight from the definition. */
function philoxReference(counter: Uint32Array, key: Uint32Array): Uint32Array {
  let [c0, c1, c2, c3] = [...counter].map(BigInt);
  let [k0, k1] = [...key].map(BigInt);
  const mask = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return Uint32Array.from([c0, c1, c2, c3], Number);
}

describe('philox4x32', () => {
  // Random123 1.14, tests/kat_vectors, the three lines `philox4x32 10`: counter, key, result.
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      ['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd'],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      ['d16cfe09', '94fdcceb', '5001e420', '24126ea1'],
    ],
  ])('gives the known answer for counter %j', (counter, key, answer) => {
    expect(hex(philox4x32(Uint32Array.from(counter), Uint32Array.from(key)))).toEqual(answer);
  });

  test('agrees with exact integer arithmetic at carries and random places', () => {
    let state: Uint32Array = Uint32Array.of(1, 2, 3, 4);
    for (let i = 0; i < 2000; i++) {
      const counter = i % 5 === 0 ? state.map((word) => word | 0xffff0000) : state;
      const key = Uint32Array.of(counter[1], ~counter[2]);
      expect(philox4x32(counter, key)).toEqual(philoxReference(counter, key));
      state = philox4x32(state, Uint32Array.of(i, 7));
    }
  });

  test('refuses counters and keys of another length', () => {
    expect(() => philox4x32(new Uint32Array(3), new Uint32Array(2))).toThrow(RangeError);
    expect(() => philox4x32(new Uint32Array(4), new Uint32Array(4))).toThrow(RangeError);
  });
});
