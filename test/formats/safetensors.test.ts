import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/formats/format-error.js';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.js';
import { nd, ShapeError, sizeOf } from '../../src/nd.js';
import { expected, fixture, survive, told } from './fixtures.js';

/** A file of a given header and data, with the header's true length unless told otherwise. */
function file(header: string | object, data: number, stated?: bigint): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(stated ?? BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(data)]);
}

const u8 = (begin: number, end: number, shape = [end - begin]) => ({
  dtype: 'U8',
  shape,
  data_offsets: [begin, end],
});

function refusal(bytes: Uint8Array, options?: { maxHeaderBytes?: number }): string {
  try {
    readSafetensors(bytes, options);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).format).toBe('safetensors');
    return (error as FormatError).message;
  }
  throw new Error('it was read');
}

describe('readSafetensors', () => {
  it.each(['all.safetensors', 'plain.safetensors'])(
    'reads what the reference implementation wrote: %s',
    (name) => {
      const { tensors } = readSafetensors(fixture(name));
      expect(Object.keys(tensors).sort()).toEqual(Object.keys(expected[name]).sort());
      for (const [key, tensor] of Object.entries(tensors)) {
        expect(told(tensor), key).toEqual(expected[name][key]);
      }
    },
  );

  it('reads metadata as text', () => {
    expect(readSafetensors(fixture('all.safetensors')).metadata).toEqual({
      format: 'np',
      'quote"': 'a\n\x7f',
    });
    expect(readSafetensors(file({}, 0))).toEqual({ tensors: {}, metadata: {} });
  });

  it('shares the memory of aligned tensors and copies the others', () => {
    const aligned = writeSafetensors({ a: new Float32Array([1, 2]) });
    expect(readSafetensors(aligned).tensors.a.data.buffer).toBe(aligned.buffer);
    // Node's Buffer, at an odd address: its slice() copies nothing.
    const odd = Buffer.alloc(aligned.length + 1);
    odd.set(aligned, 1);
    const { a } = readSafetensors(odd.subarray(1)).tensors;
    expect([...a.data]).toEqual([1, 2]);
    expect(a.data.buffer).not.toBe(odd.buffer);
  });

  it('reads tensors in any order of the header, and empty ones at one place', () => {
    const { tensors } = readSafetensors(
      file({ b: u8(1, 3), e: u8(1, 1), a: u8(0, 1), __proto__: null, z: u8(3, 3, [0, 5]) }, 3),
    );
    expect(Object.keys(tensors)).toEqual(['a', 'e', 'b', 'z']);
    expect(tensors.z.shape).toEqual([0, 5]);
    const own = file('{"__proto__":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1);
    expect(Object.keys(readSafetensors(own).tensors)).toEqual(['__proto__']);
  });

  it('refuses a header over 100 MB by its length alone', () => {
    expect(refusal(file('{}', 0, 100_000_001n))).toBe(
      'readSafetensors: the header must have at most 100000000 bytes, got 100000001',
    );
    expect(refusal(file('{}', 0, 2n ** 64n - 1n))).toContain('got 18446744073709551615');
    expect(refusal(file('{}', 0), { maxHeaderBytes: 1 })).toContain('at most 1 bytes, got 2');
  });

  it('refuses a header longer than the file, and a file shorter than a length', () => {
    expect(refusal(file('{}', 0, 3n))).toBe(
      "readSafetensors: the header of 3 bytes must end within the file's 10; " +
        'check that the file is complete',
    );
    expect(refusal(new Uint8Array(7))).toContain('must have at least 8 bytes, got 7');
  });

  it('refuses every truncation', () => {
    const bytes = fixture('all.safetensors');
    for (let length = 0; length < bytes.length; length++) refusal(bytes.subarray(0, length));
  });

  it('refuses holes, overlaps and offsets outside the data', () => {
    const cases: [object, number, string][] = [
      [{ a: u8(0, 2), b: u8(3, 4) }, 4, 'no holes and no overlaps, got "b" at 3 after 2'],
      [{ a: u8(0, 3), b: u8(2, 4) }, 4, 'no holes and no overlaps, got "b" at 2 after 3'],
      [{ a: u8(0, 2), b: u8(0, 2) }, 2, 'no holes and no overlaps, got "b" at 0 after 2'],
      [{ a: u8(1, 2) }, 2, 'no holes and no overlaps, got "a" at 1 after 0'],
      [{ a: u8(0, 2) }, 3, 'tensors must fill the 3 bytes of data, got 2'],
      [{}, 1, 'tensors must fill the 1 bytes of data, got 0'],
      [{ a: u8(0, 3) }, 2, '"a" must lie within the 2 bytes of data, got 0 to 3'],
      [{ a: u8(2, 1, [1]) }, 2, '"a" must lie within the 2 bytes of data, got 2 to 1'],
      // An empty tensor inside another's bytes.
      [{ a: u8(0, 2), b: u8(1, 1) }, 2, 'no holes and no overlaps, got "b" at 1 after 2'],
    ];
    for (const [header, data, reason] of cases)
      expect(refusal(file(header, data))).toContain(reason);
  });

  it('refuses shapes that do not fill their bytes, without overflow', () => {
    expect(refusal(file({ a: u8(0, 4, [3]) }, 4))).toContain('must fill its 4 bytes, got 3');
    expect(refusal(file({ a: u8(0, 1, [2 ** 32, 2 ** 32]) }, 1))).toContain('can be counted');
    // The product wraps to 0 in 64 bits.
    expect(refusal(file({ a: u8(0, 0, [2 ** 33, 2 ** 33]) }, 0))).toContain('can be counted');
    const bits = { dtype: 'F32', shape: [2 ** 52], data_offsets: [0, 0] };
    expect(refusal(file({ a: bits }, 0))).toContain('must fill its 0 bytes, got 18014398509481984');
  });

  it('refuses other dtypes by name', () => {
    for (const dtype of ['F8_E4M3', 'C64', 'F4', 'toString', 'f32', '']) {
      expect(refusal(file({ a: { dtype, shape: [], data_offsets: [0, 1] } }, 1))).toContain(
        `got ${JSON.stringify(dtype)}; save it as one of these`,
      );
    }
  });

  it('refuses headers outside the grammar', () => {
    const info = '{"dtype":"U8","shape":[],"data_offsets":[0,1]}';
    const cases: [string, string][] = [
      [`{"a":${info},"a":${info}}`, 'have each key once, got "a" twice'],
      [`{"a":${info},"\\u0061":${info}}`, 'have each key once, got "a" twice'],
      ['{"__metadata__":{},"__metadata__":{}}', 'have each key once, got "__metadata__" twice'],
      ['{"__metadata__":{"k":"1","k":"2"}}', 'have each key once, got "k" twice'],
      ['{"__metadata__":{"k":1}}', 'have text as metadata'],
      ['{"__metadata__":null}', 'have {'],
      [` {"a":${info}}`, 'start with {'],
      ['[]', 'start with {'],
      ['', 'start with {'],
      [`{"a":${info}} x`, 'end after its object'],
      [`{"a":${info},}`, 'have keys in quotes'],
      [`{"a":${info}`, 'have }'],
      ['{"a', 'have keys in quotes'],
      ['{"a\\', 'have keys in quotes'],
      ['{"\\ud800":1}', 'have keys in quotes'],
      ['{"a\n":1}', 'have keys in quotes'],
      ['{"a":1}', 'have {'],
      ['{"a":{"dtype":"U8","shape":[]}}', 'have dtype, shape and two data_offsets for "a"'],
      ['{"a":{"dtype":"U8","dtype":"U8"}}', 'once each for "a"'],
      ['{"a":{"dtype":"U8","shape":[],"data_offsets":[0]}}', 'two data_offsets for "a"'],
      [`{"a":${info.replace('}', ',"x":1}')}}`, 'once each for "a"'],
      ['{"a":{"shape":[1.0]}}', 'have integers below 2^53'],
      ['{"a":{"shape":[1e3]}}', 'have integers below 2^53'],
      ['{"a":{"shape":[-1]}}', 'have integers below 2^53'],
      ['{"a":{"shape":[01]}}', 'have integers below 2^53'],
      ['{"a":{"shape":["1"]}}', 'have integers below 2^53'],
      ['{"a":{"shape":[9007199254740992]}}', 'have integers below 2^53'],
      ['{"a":{"shape":[99999999999999999999]}}', 'have integers below 2^53'],
      [`{"a":{"shape":[${'1,'.repeat(64)}1]}}`, 'have at most 64 axes'],
      ['{"a":{"shape":[[1]]}}', 'have integers below 2^53'],
      [`{"a":${'['.repeat(1e5)}`, 'have {'],
    ];
    for (const [header, reason] of cases)
      expect(refusal(file(header, 1)), header).toContain(reason);
    const bytes = file('{"a', 0, 4n);
    expect(refusal(Buffer.concat([bytes, Buffer.from([0xff])]))).toContain('must be UTF-8');
  });

  it('reads a header of many tensors and long names in time', () => {
    const many = Object.fromEntries(
      Array.from({ length: 20_000 }, (_, i) => [`${'x'.repeat(100)}${i}`, u8(i, i + 1)]),
    );
    const start = performance.now();
    expect(Object.keys(readSafetensors(file(many, 20_000)).tensors)).toHaveLength(20_000);
    const long = JSON.stringify('y'.repeat(10_000_000));
    expect(refusal(file(`{"__metadata__":{"k":${long},"k":""}}`, 0))).toContain('twice');
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  it('refuses arguments of the wrong kind', () => {
    // @ts-expect-error a buffer is not its bytes
    expect(() => readSafetensors(new ArrayBuffer(8))).toThrow(TypeError);
    expect(() => readSafetensors(file({}, 0), { maxHeaderBytes: -1 })).toThrow(RangeError);
  });

  it('survives mutants', async () => {
    const originals = [
      fixture('all.safetensors'),
      fixture('plain.safetensors'),
      file({ a: u8(0, 1), b: u8(1, 3, [2, 1]) }, 3),
    ];
    const outcome = await survive(originals, 6_000, FormatError, (bytes) => {
      let total = 0;
      for (const { data, shape } of Object.values(readSafetensors(bytes).tensors)) {
        expect(data.length).toBe(sizeOf(shape));
        total += data.byteLength;
      }
      expect(total).toBeLessThanOrEqual(2 * bytes.length);
    });
    expect(outcome.read).toBeGreaterThan(100);
    expect(outcome.refused).toBeGreaterThan(3_000);
    expect(outcome.slowest).toBeLessThan(1_000);
  });
});

describe('writeSafetensors', () => {
  it('writes the bytes that the reference implementation writes', () => {
    // safetensors.numpy.save(plain, {'format': 'np'}) with safetensors 0.8.0
    const bytes = fixture('plain.safetensors');
    const { tensors, metadata } = readSafetensors(bytes);
    const reversed = Object.fromEntries(Object.entries(tensors).reverse());
    expect(Buffer.from(writeSafetensors(reversed, { metadata }))).toEqual(Buffer.from(bytes));
  });

  it('writes an empty file, and names and metadata in the order of their bytes', () => {
    // safetensors.numpy.save({})
    expect(Buffer.from(writeSafetensors({})).toString('latin1')).toBe('\b\0\0\0\0\0\0\0{}      ');
    const bytes = writeSafetensors(
      { '\u{1f600}': new Uint8Array([2]), '\uff5e': new Uint8ClampedArray([1]), none: undefined },
      { metadata: { z: '1', a: 'ü\n"\u2028\x7f' } },
    );
    const header =
      '{"__metadata__":{"a":"ü\\n\\"\u2028\x7f","z":"1"},' +
      '"\uff5e":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' +
      '"\u{1f600}":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}';
    expect(Buffer.from(bytes.subarray(8, -2)).toString().trimEnd()).toBe(header);
    expect([...bytes.subarray(-2)]).toEqual([1, 2]);
    expect((bytes.length - 2) % 8).toBe(0);
  });

  it('keeps every bit of strided views', () => {
    const words = new Uint32Array([0x7fc00001, 0xffa00000, 0x80000000, 1, 0x7f800001, 6]);
    const data = new Float32Array(words.buffer);
    const { tensors } = readSafetensors(
      writeSafetensors({
        backwards: { data, shape: [6], stride: [-1], offset: 5 },
        transposed: { data, shape: [3, 2], stride: [1, 3], offset: 0 },
        double: new Float64Array(new BigUint64Array([0x7ff0000000000001n]).buffer),
        limits: new BigInt64Array([-(2n ** 63n), 2n ** 63n - 1n]),
        scalar: nd(new Float32Array([1]), []),
        buffer: Buffer.from([1, 2]),
      }),
    );
    const bits = (name: string): number[] => [
      ...new Uint32Array(tensors[name].data.slice().buffer),
    ];
    expect(bits('backwards')).toEqual([...words].reverse());
    expect(bits('transposed')).toEqual([0, 3, 1, 4, 2, 5].map((i) => words[i]));
    expect(told(tensors.double).hex).toBe('010000000000f07f');
    expect([...tensors.limits.data]).toEqual([-(2n ** 63n), 2n ** 63n - 1n]);
    expect(tensors.scalar.shape).toEqual([]);
    expect([...tensors.buffer.data]).toEqual([1, 2]);
  });

  it('refuses what the format cannot hold', () => {
    const a = new Float32Array(1);
    expect(() => writeSafetensors({ __metadata__: a })).toThrow(RangeError);
    expect(() => writeSafetensors({ '\ud800': a })).toThrow('must be well-formed text');
    // @ts-expect-error numbers have no type of their own
    expect(() => writeSafetensors({ a: [1] })).toThrow(TypeError);
    // @ts-expect-error nothing
    expect(() => writeSafetensors({ a: null })).toThrow(TypeError);
    expect(() => writeSafetensors({ a: { data: a, shape: [2], stride: [1], offset: 0 } })).toThrow(
      ShapeError,
    );
    // @ts-expect-error metadata is text
    expect(() => writeSafetensors({ a }, { metadata: { epoch: 3 } })).toThrow(
      'writeSafetensors: metadata must be text, got number for "epoch"',
    );
    expect(() => writeSafetensors({ a }, { metadata: { k: '\udc00' } })).toThrow(RangeError);
  });
});
