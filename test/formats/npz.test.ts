import { unzipSync } from 'fflate';
import { describe, expect, it } from 'vitest';
import { writeNpz } from '../../src/formats/npz.js';
import { nd, ShapeError, type TypedArray } from '../../src/nd.js';

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What `numpy.save` writes: header text padded to 128 bytes in all, then the elements. */
function golden(header: string, elements: string): string {
  const start = Buffer.from('934e554d505901007600', 'hex');
  const text = Buffer.from(`${header.padEnd(117)}\n`, 'latin1');
  return Buffer.concat([start, text]).toString('hex') + elements;
}

/** Header text and element bytes of one array of an npz file. */
function read(npz: Uint8Array, name: string): { header: string; elements: Uint8Array } {
  const file = unzipSync(npz)[`${name}.npy`];
  const size = 10 + file[8] + 256 * file[9];
  return { header: Buffer.from(file.subarray(10, size)).toString(), elements: file.slice(size) };
}

describe('writeNpz', () => {
  it('writes the bytes numpy.save writes', () => {
    // f = io.BytesIO(); np.save(f, array); f.getvalue(), with NumPy 2.4.6 and the arrays below
    const files = unzipSync(
      writeNpz({
        // np.array([[1.5, -2.0, 3.25], [0.1, np.inf, -0.0]], np.float32)
        obs: nd([
          [1.5, -2, 3.25],
          [0.1, Number.POSITIVE_INFINITY, -0],
        ]),
        // np.array(2.5, np.float64)
        gamma: nd(new Float64Array([2.5]), []),
        // np.array([-2**63, -1, 2**63 - 1], np.int64)
        seed: new BigInt64Array([-(2n ** 63n), -1n, 2n ** 63n - 1n]),
        // np.array([[0, 1], [1, 0]], np.uint8)
        terminated: nd(new Uint8Array([0, 1, 1, 0]), [2, 2]),
        // np.zeros((0, 17), np.float32)
        none: nd(new Float32Array(0), [0, 17]),
      }),
    );
    const hex = Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [name, hexOf(bytes)]),
    );
    expect(hex).toEqual({
      'obs.npy': golden(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        '0000c03f000000c000005040cdcccc3d0000807f00000080',
      ),
      'gamma.npy': golden(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (), }",
        '0000000000000440',
      ),
      'seed.npy': golden(
        "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }",
        '0000000000000080ffffffffffffffffffffffffffffff7f',
      ),
      'terminated.npy': golden(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }",
        '00010100',
      ),
      'none.npy': golden("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 17), }", ''),
    });
  });

  it('names the type of each array as NumPy does', () => {
    // np.dtype(np.float32).str and so on
    const types: [TypedArray, string][] = [
      [new Float32Array(1), '<f4'],
      [new Float64Array(1), '<f8'],
      [new Int8Array(1), '|i1'],
      [new Int16Array(1), '<i2'],
      [new Int32Array(1), '<i4'],
      [new BigInt64Array(1), '<i8'],
      [new Uint8Array(1), '|u1'],
      [new Uint8ClampedArray(1), '|u1'],
      [Buffer.alloc(1), '|u1'],
      [new Uint16Array(1), '<u2'],
      [new Uint32Array(1), '<u4'],
      [new BigUint64Array(1), '<u8'],
    ];
    for (const [array, descr] of types) {
      const { header, elements } = read(writeNpz({ array }), 'array');
      expect(header).toContain(`'descr': '${descr}'`);
      expect(elements.length).toBe(array.BYTES_PER_ELEMENT);
    }
  });

  it('keeps every bit: NaN payloads, signalling ones too, -0 and subnormals', () => {
    const words = new Uint32Array([0x7fc00001, 0xffa00000, 0x80000000, 0x00000001, 0x7f800001]);
    const float32 = new Float32Array(words.buffer);
    const longs = new BigUint64Array([0x7ff0000000000001n, 0xfff8000000000002n, 2n ** 63n, 1n]);
    const float64 = new Float64Array(longs.buffer);
    for (const compress of [false, true]) {
      const npz = writeNpz(
        {
          float32,
          backwards32: { data: float32, shape: [5], stride: [-1], offset: 4 },
          backwards64: { data: float64, shape: [4], stride: [-1], offset: 3 },
        },
        { compress },
      );
      expect(read(npz, 'float32').elements).toEqual(new Uint8Array(words.buffer));
      const { header, elements } = read(npz, 'backwards32');
      expect(header).toContain("'descr': '<f4'");
      expect(new Uint32Array(elements.buffer)).toEqual(words.slice().reverse());
      expect(new BigUint64Array(read(npz, 'backwards64').elements.buffer)).toEqual(
        longs.slice().reverse(),
      );
    }
  });

  it('packs strided views row-major', () => {
    // The transpose of [[1, 2, 3], [4, 5, 6]], and its second row backwards.
    const data = new Float32Array([1, 2, 3, 4, 5, 6]);
    const npz = writeNpz({
      transposed: { data, shape: [3, 2], stride: [1, 3], offset: 0 },
      backwards: { data, shape: [3], stride: [-1], offset: 5 },
      repeated: { data, shape: [2, 2], stride: [0, 1], offset: 1 },
    });
    const floats = (name: string): number[] => [
      ...new Float32Array(read(npz, name).elements.buffer),
    ];
    expect(floats('transposed')).toEqual([1, 4, 2, 5, 3, 6]);
    expect(floats('backwards')).toEqual([6, 5, 4]);
    expect(floats('repeated')).toEqual([2, 3, 2, 3]);
  });

  it('writes only the part of a buffer its view shows', () => {
    const whole = new Float32Array([9, 1, 2, 9]);
    const { elements } = read(writeNpz({ part: whole.subarray(1, 3) }), 'part');
    expect([...new Float32Array(elements.buffer)]).toEqual([1, 2]);
  });

  it('aligns the elements to 64 bytes for any shape', () => {
    for (const rank of [0, 1, 2, 3, 4, 8, 20, 21, 22, 32]) {
      const shape = new Array<number>(rank).fill(1);
      const file = unzipSync(writeNpz({ array: nd(new Uint8Array(1), shape) }))['array.npy'];
      const start = 10 + file[8] + 256 * file[9];
      expect(start % 64).toBe(0);
      expect(file.length).toBe(start + 1);
      expect(file[start - 1]).toBe(0x0a);
    }
  });

  it('gives equal bytes for equal arrays, at any time', () => {
    const make = (): Uint8Array => writeNpz({ a: new Float32Array(100), b: new Uint8Array(3) });
    const first = make();
    expect(make()).toEqual(first);
    // Zip's date field of the first file: 1980-01-01.
    expect(first[12] + 256 * first[13]).toBe(0b0000000_0001_00001);
  });

  it('stores by default and deflates when asked', () => {
    const array = new Float32Array(10_000);
    expect(writeNpz({ array }).length).toBeGreaterThan(40_000);
    expect(writeNpz({ array }, { compress: true }).length).toBeLessThan(1_000);
    expect(read(writeNpz({ array }, { compress: true }), 'array').elements).toEqual(
      new Uint8Array(40_000),
    );
  });

  it('keeps names outside ASCII and unusual keys', () => {
    const arrays = Object.fromEntries(
      ['größe', '__proto__', 'a b', '1', '.hidden', 'a..b'].map((key) => [key, new Uint8Array(1)]),
    );
    expect(Object.keys(unzipSync(writeNpz(arrays))).sort()).toEqual(
      Object.keys(arrays)
        .map((name) => `${name}.npy`)
        .sort(),
    );
  });

  it('writes a file without arrays', () => {
    expect(unzipSync(writeNpz({}))).toEqual({});
  });

  it('refuses names that are not plain file names', () => {
    const names = ['', '.', '..', 'a/b', '..\\b', '/a', 'C:a', 'a\0', 'a\n', 'x.npy', 'X.NPY'];
    for (const name of [...names, '\ud800', 'a'.repeat(256)]) {
      expect(() => writeNpz({ [name]: new Uint8Array(1) }), name).toThrow(RangeError);
    }
    expect(() => writeNpz({ 'a/b': new Uint8Array(1) })).toThrow(
      'writeNpz: an array\'s name must not contain path separators, got "a/b"',
    );
  });

  it('refuses what is neither a view nor a typed array', () => {
    // @ts-expect-error numbers have no type of their own
    expect(() => writeNpz({ a: [1, 2, 3] })).toThrow(TypeError);
    // @ts-expect-error text
    expect(() => writeNpz({ a: 'text' })).toThrow(TypeError);
    // @ts-expect-error nothing
    expect(() => writeNpz({ a: null })).toThrow(TypeError);
    // @ts-expect-error bytes without a type
    expect(() => writeNpz({ a: new DataView(new ArrayBuffer(4)) })).toThrow(TypeError);
  });

  it('refuses a view that reaches outside its data', () => {
    const data = new Float32Array(6);
    const views = [
      { data, shape: [2, 4], stride: [4, 1], offset: 0 },
      { data, shape: [2, 3], stride: [3, 1], offset: 1 },
      { data, shape: [2], stride: [-1], offset: 0 },
      { data, shape: [2, 3], stride: [3], offset: 0 },
      { data, shape: [1], stride: [1], offset: Number.NaN },
    ];
    for (const view of views) expect(() => writeNpz({ view })).toThrow(ShapeError);
  });

  it('refuses 4 GiB before it copies anything', () => {
    // One element seen 2^30 times.
    const huge = { data: new Float32Array(1), shape: [2 ** 30], stride: [0], offset: 0 };
    expect(() => writeNpz({ huge })).toThrow('must be smaller than 4 GiB');
  });

  it('refuses more arrays than zip can count', () => {
    const array = new Uint8Array(0);
    const arrays = Object.fromEntries(Array.from({ length: 65_535 }, (_, i) => [`a${i}`, array]));
    expect(() => writeNpz(arrays)).toThrow('must have at most 65534 arrays, got 65535');
  });
});
