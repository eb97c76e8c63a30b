import { strToU8, zipSync } from 'fflate';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/formats/format-error.js';
import { writeNpz } from '../../src/formats/npz.js';
import { readNpz } from '../../src/formats/read-npz.js';
import { nd, sizeOf, type TypedArray } from '../../src/nd.js';
import { expected, fixture, survive, told } from './fixtures.js';

/** A zip of one array "a" with the given header text. */
function npy(header: string, elements = new Uint8Array(0), version = 1): Uint8Array {
  const text = strToU8(header, true);
  const size =
    version === 1
      ? [text.length & 0xff, text.length >> 8]
      : [text.length & 0xff, (text.length >> 8) & 0xff, text.length >> 16, 0];
  return Uint8Array.from([
    ...strToU8('\x93NUMPY', true),
    version,
    0,
    ...size,
    ...text,
    ...elements,
  ]);
}

const zip = (files: Record<string, Uint8Array>, level: 0 | 6 = 0): Uint8Array =>
  zipSync(files, { level });

const header = (shape: string, descr = '<f4'): string =>
  `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;

const small = (): Uint8Array => writeNpz({ a: new Float32Array([1, 2]), b: new Uint8Array(3) });

/** Where the central directory of a plain zip starts. */
function directoryOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(bytes.length - 6, true);
}

/** Changes one 32-bit field of the first directory entry. */
function withField(bytes: Uint8Array, offset: number, value: number): Uint8Array {
  const out = Uint8Array.from(bytes);
  new DataView(out.buffer).setUint32(directoryOf(out) + offset, value, true);
  return out;
}

function refusal(bytes: Uint8Array, options?: { maxBytes?: number }): string {
  try {
    readNpz(bytes, options);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).format).toBe('npz');
    return (error as FormatError).message;
  }
  throw new Error('it was read');
}

describe('readNpz', () => {
  it.each(['stored.npz', 'deflated.npz', 'versions.npz'])('reads what NumPy wrote: %s', (file) => {
    const arrays = readNpz(fixture(file));
    expect(Object.keys(arrays)).toEqual(Object.keys(expected[file]));
    for (const [name, array] of Object.entries(arrays)) {
      expect(told(array), name).toEqual(expected[file][name]);
    }
  });

  it('shows Fortran order as a strided view of the elements as they lie', () => {
    const { fortran, fortran3 } = readNpz(fixture('stored.npz'));
    expect(fortran.stride).toEqual([1, 2]);
    expect([...(fortran.data as Float32Array)]).toEqual([0, 3, 1, 4, 2, 5]);
    expect(fortran3.stride).toEqual([1, 2, 6]);
  });

  it('shares the memory of stored arrays that are aligned, and copies the others', () => {
    const bytes = small();
    const { b } = readNpz(bytes);
    expect(b.data.buffer).toBe(bytes.buffer);
    // Node's Buffer, at an odd address: its slice() copies nothing.
    const odd = Buffer.alloc(bytes.length + 2);
    odd.set(bytes, 2);
    const { a } = readNpz(odd.subarray(2));
    expect([...a.data]).toEqual([1, 2]);
    expect(a.data.buffer).not.toBe(odd.buffer);
  });

  it('reads what writeNpz wrote, stored and deflated', () => {
    const words = new Uint32Array([0x7fc00001, 0xffa00000, 0x80000000, 1, 0x7f800001]);
    const arrays = {
      bits: nd(new Float32Array(words.buffer), [5]),
      long: nd(new BigInt64Array([-(2n ** 63n), 2n ** 63n - 1n]), [2, 1]),
      none: nd(new Float64Array(0), [3, 0]),
      größe: nd(new Int16Array([5]), []),
      ['__proto__']: nd(new Uint8Array([1]), [1]),
    };
    for (const compress of [false, true]) {
      const back = readNpz(writeNpz(arrays, { compress }));
      expect(Object.keys(back)).toEqual(Object.keys(arrays));
      for (const [name, array] of Object.entries(arrays)) {
        expect(told(Object.entries(back).find(([key]) => key === name)?.[1] ?? array)).toEqual(
          told(array),
        );
      }
    }
  });

  it('widens every finite half-precision number to its value', () => {
    const halves = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const file = npy(header('(65536,)', '<f2'), new Uint8Array(halves.buffer));
    const { a } = readNpz(zip({ 'a.npy': file }));
    const values = Float64Array.from(halves, (half) => {
      const sign = half & 0x8000 ? -1 : 1;
      const exponent = (half >> 10) & 31;
      const fraction = half & 1023;
      if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
      return (
        sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
      );
    });
    expect(a.data).toBeInstanceOf(Float32Array);
    expect(Float64Array.from(a.data as Float32Array)).toEqual(values);
  });

  it.each([
    ['big-endian', 'its elements must be little-endian, got ">f4"; save array.astype("<f4")'],
    ['object', 'object arrays hold pickled Python, which is never run'],
    ['structured', 'its elements must be plain, got a structured type; save each field'],
    ['complex', 'save array.real and array.imag'],
    ['text', 'got "<U2": text has no typed array'],
    ['bytes', 'got "|S2": text has no typed array'],
    ['date', 'dates have no typed array; save array.astype("i8")'],
    ['raw', 'raw bytes have no element type'],
  ])('refuses %s arrays with the reason', (kind, reason) => {
    expect(refusal(fixture(`refused-${kind}.npz`))).toContain(reason);
  });

  it('refuses every truncation', () => {
    for (const file of [small(), fixture('deflated.npz')]) {
      for (let length = 0; length < file.length; length++) refusal(file.subarray(0, length));
    }
    expect(refusal(new Uint8Array(0))).toBe(
      'readNpz: the 0 bytes must end in a zip end record; ' +
        'check that the file is a complete npz (not an error page)',
    );
  });

  it('refuses any change of the elements by their checksum', () => {
    const bytes = small();
    bytes[30 + 5 + 128] ^= 1;
    expect(refusal(bytes)).toContain('the bytes of "a.npy" must match their checksum');
  });

  it('refuses more bytes than allowed before it inflates any', () => {
    const file = writeNpz({ a: new Float32Array(250_000) }, { compress: true });
    expect(file.length).toBeLessThan(2_000);
    expect(refusal(file, { maxBytes: 1_000_000 })).toBe(
      'readNpz: the arrays must have at most 1000000 bytes together, got 1000128 with "a.npy"; ' +
        'set maxBytes higher for a file you trust',
    );
    expect(readNpz(file, { maxBytes: 1_000_128 }).a.shape).toEqual([250_000]);
  });

  it('refuses a zip bomb that understates its size, as soon as it does', () => {
    const bomb = zip({ 'a.npy': new Uint8Array(20_000_000) }, 6);
    expect(refusal(withField(bomb, 24, 1_000))).toContain(
      '"a.npy" must inflate to the stated 1000 bytes, got more',
    );
  });

  it('refuses sizes that deflate cannot reach, before it takes the memory', () => {
    const file = zip({ 'a.npy': npy(header('(2,)'), new Uint8Array(8)) }, 6);
    expect(refusal(withField(file, 24, 2 ** 29))).toMatch(
      /must have at most \d+ bytes, as deflate/,
    );
    expect(refusal(withField(file, 24, 2 ** 32 - 2))).toContain('set maxBytes higher');
    expect(refusal(withField(file, 24, 70))).toContain('must inflate to the stated 70 bytes, got');
  });

  it('refuses files that overlap', () => {
    const bytes = small();
    const second = directoryOf(bytes) + 46 + 5;
    // Both entries name the first file's header; the names then disagree.
    const moved = Uint8Array.from(bytes);
    new DataView(moved.buffer).setUint32(second + 42, 0, true);
    expect(refusal(moved)).toContain('the local header at byte 0 must be that of "b.npy"');
    // A file whose stated size reaches into the next.
    const longer = withField(withField(bytes, 20, 200), 24, 200);
    expect(refusal(longer)).toContain('files must not overlap, got "a.npy" and "b.npy"');
  });

  it('refuses duplicate names', () => {
    const bytes = writeNpz({ a: new Uint8Array(1), b: new Uint8Array(2) });
    const text = Buffer.from(bytes).toString('latin1').replaceAll('b.npy', 'a.npy');
    expect(refusal(Buffer.from(text, 'latin1'))).toContain('must be unique, got "a.npy" twice');
  });

  it('refuses names that would lead elsewhere as file names', () => {
    const file = npy(header('()'), new Uint8Array(4));
    for (const name of [
      '../a',
      '/a',
      'a/../b',
      'C:/a',
      'a\\b',
      'a//b',
      './a',
      '..',
      '',
      'a/',
      'a\0',
    ]) {
      expect(refusal(zip({ [`${name}.npy`]: file })), name).toContain("an array's name must ");
    }
    expect(Object.keys(readNpz(zip({ 'layer/weight:0.npy': file })))).toEqual(['layer/weight:0']);
    expect(refusal(zip({ 'a.txt': file }))).toBe(
      'readNpz: the zip must hold .npy files alone, got "a.txt"',
    );
  });

  it('refuses encrypted files, other methods and parts', () => {
    const bytes = small();
    const at = directoryOf(bytes);
    const change = (offset: number, value: number): Uint8Array => {
      const out = Uint8Array.from(bytes);
      out[offset] = value;
      return out;
    };
    expect(refusal(change(at + 8, 1))).toContain('"a.npy" must not be encrypted');
    expect(refusal(change(at + 10, 14))).toContain('got method 14');
    expect(refusal(change(bytes.length - 18, 1))).toContain('the zip must be in one part');
    expect(refusal(change(at, 0))).toContain(`a directory entry must be at byte ${at}`);
    expect(refusal(change(bytes.length - 12, 1))).toContain('the directory must end at byte');
    expect(refusal(change(bytes.length - 12, 9))).toContain('must hold fewer files, got 9');
  });

  it('reads zip64, which NumPy writes for large files', () => {
    // Entries whose sizes and offset stand in zip64 fields, and a zip64 end record.
    const plain = writeNpz({ a: new Float32Array([1, 2]) });
    const at = directoryOf(plain);
    const local = plain.subarray(0, at);
    const entry = Buffer.from(plain.subarray(at, plain.length - 22));
    const sizes = Buffer.alloc(28);
    sizes.writeUInt16LE(1, 0);
    sizes.writeUInt16LE(24, 2);
    sizes.writeBigUInt64LE(BigInt(entry.readUInt32LE(24)), 4);
    sizes.writeBigUInt64LE(BigInt(entry.readUInt32LE(20)), 12);
    sizes.writeBigUInt64LE(0n, 20);
    for (const offset of [20, 24, 42]) entry.writeUInt32LE(0xffffffff, offset);
    entry.writeUInt16LE(28, 30);
    const end64 = Buffer.alloc(56);
    end64.writeUInt32LE(0x06064b50, 0);
    end64.writeBigUInt64LE(44n, 4);
    end64.writeBigUInt64LE(1n, 24);
    end64.writeBigUInt64LE(1n, 32);
    end64.writeBigUInt64LE(BigInt(entry.length + 28), 40);
    end64.writeBigUInt64LE(BigInt(at), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50, 0);
    locator.writeBigUInt64LE(BigInt(at + entry.length + 28), 8);
    locator.writeUInt32LE(1, 16);
    const end = Buffer.from(plain.subarray(plain.length - 22));
    end.fill(0xff, 8, 20);
    const file = Buffer.concat([local, entry, sizes, end64, locator, end]);
    expect([...readNpz(file).a.data]).toEqual([1, 2]);
    // A size of 2^63 in such a field.
    const huge = Buffer.from(file);
    huge.writeBigUInt64LE(2n ** 63n, at + entry.length + 4);
    expect(refusal(huge)).toContain('must be below 2^53, got 9223372036854775808');
  });

  it('refuses headers that lie', () => {
    const cases: [Uint8Array, string][] = [
      [npy(header('(2, 3)'), new Uint8Array(20)), 'its shape [2,3] of f4 must fill its 20 bytes'],
      [npy(header('(4294967296, 4294967296)')), 'got more elements than can be counted'],
      [npy(header('(99999999999999999999,)')), 'its lengths must be integers below 2^53'],
      [npy(header('(-1,)')), 'have a tuple of lengths as shape'],
      [npy(header(`(${'1, '.repeat(65)})`), new Uint8Array(4)), 'at most 64 axes, got 65'],
      [npy(header('(1,)', '<f16')), 'extended precision'],
      [npy(header('(1,)', '<constructor')), 'got "<constructor"'],
      [npy(`${header('()')}x`), 'and end, got "x"'],
      [npy("{'descr': __import__('os'), }"), 'have a type in quotes as descr'],
      [npy("{'shape': (), 'shape': (), }"), "have 'descr', 'fortran_order' and 'shape' once each"],
      [
        npy("{'descr': '<f4', 'shape': (), }"),
        "have 'descr', 'fortran_order' and 'shape', and end",
      ],
      [npy('[]'), 'be a Python dictionary'],
      [npy(header('()'), new Uint8Array(4), 4), 'an npy file of version 1.0, 2.0 or 3.0'],
      [npy(header('()').padEnd(70_000), new Uint8Array(4), 2), 'at most 65536 bytes, got 70000'],
      [npy(header('()'), new Uint8Array(4), 2).subarray(0, 40), 'must end within its 40 bytes'],
      [new Uint8Array(5), 'must start as an npy file'],
    ];
    for (const [file, reason] of cases) expect(refusal(zip({ 'a.npy': file }))).toContain(reason);
  });

  it('reads headers as older NumPy wrote them', () => {
    const file = npy("{'shape': (2L,), 'fortran_order': False, 'descr': '|u1'}", new Uint8Array(2));
    expect(readNpz(zip({ 'a.npy': file })).a.shape).toEqual([2]);
  });

  it('refuses arguments of the wrong kind', () => {
    // @ts-expect-error a buffer is not its bytes
    expect(() => readNpz(new ArrayBuffer(8))).toThrow(TypeError);
    // @ts-expect-error a path
    expect(() => readNpz('data.npz')).toThrow('bytes must be a Uint8Array, got string');
    expect(() => readNpz(small(), { maxBytes: -1 })).toThrow(RangeError);
    expect(() => readNpz(small(), { maxBytes: Number.NaN })).toThrow(RangeError);
  });

  it('survives mutants of zips and of arrays', async () => {
    const maxBytes = 2 ** 20;
    const read = (bytes: Uint8Array): void => {
      let total = 0;
      for (const { data, shape } of Object.values(readNpz(bytes, { maxBytes }))) {
        expect(data.length).toBe(sizeOf(shape));
        total += data.byteLength;
      }
      // Half precision doubles.
      expect(total).toBeLessThanOrEqual(2 * maxBytes);
    };
    const zips = ['stored.npz', 'deflated.npz', 'versions.npz'].map(fixture);
    const outer = await survive(zips, 6_000, FormatError, read);
    // Checksums refuse nearly all of these; mutants of arrays are zipped anew to pass them.
    const arrays = (['<f4', '<f2', '|b1', '<i8'] as const).map((descr, i) =>
      npy(header(`(${[4, 8, 16, 2][i]},)`, descr).padEnd(117), new Uint8Array(16), 1 + (i % 3)),
    );
    const inner = await survive(arrays, 6_000, FormatError, (file) => read(zip({ 'a.npy': file })));
    expect(outer.read + outer.refused).toBe(6_000);
    expect(outer.refused).toBeGreaterThan(3_000);
    expect(inner.read).toBeGreaterThan(100);
    expect(inner.refused).toBeGreaterThan(1_000);
    expect(Math.max(outer.slowest, inner.slowest)).toBeLessThan(1_000);
  });
});

describe('the checksum', () => {
  it('agrees with zlib for lengths around its step', async () => {
    const { crc32 } = await import('../../src/formats/crc32.js');
    // zlib.crc32(bytes(range(n))) in Python
    const crcs: [number, number][] = [
      [0, 0],
      [1, 3523407757],
      [7, 2908228089],
      [8, 2292869279],
      [9, 3168879362],
      [256, 688229491],
    ];
    for (const [length, crc] of crcs) {
      expect(crc32(Uint8Array.from({ length }, (_, i) => i))).toBe(crc);
    }
  });
});

// Keeps the type of readNpz's result: any element store.
readNpz satisfies (bytes: Uint8Array) => Record<string, { data: TypedArray }>;
