import fc from 'fast-check';
import { type NdView, nd, ShapeError, zeros } from 'umwelt';
import { KernelMemory, type KernelMemoryOptions, type KernelVariant } from 'umwelt/ssm';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { elements, functionNames, makeCall, run, steps, variants } from './arrays.js';

const RUNS = { numRuns: 1000, seed: 51 };

describe.each(variants)('a memory of the %s kernels', (variant) => {
  test('is of the variant that it was made with', () => {
    expect(new KernelMemory({ bytes: 1, variant }).variant).toBe(variant);
  });

  test.each([1, 64, 65, 4096, 100_000, 2 ** 20])('has room for an array of %i bytes', (bytes) => {
    const memory = new KernelMemory({ bytes, variant });
    const array = memory.array([Math.ceil(bytes / 4)]);
    expect(memory.holds(array.data)).toBe(true);
    expect(memory.freeBytes).toBeLessThan(memory.buffer.byteLength);
  });

  test('has 64 MiB unless told otherwise', () => {
    expect(new KernelMemory({ variant }).freeBytes).toBeGreaterThanOrEqual(64 * 2 ** 20);
  });

  test('gives zeros, row-major, aligned to 64 bytes', () => {
    const memory = new KernelMemory({ bytes: 4096, variant });
    for (const shape of [[1], [2, 3], [3, 1, 5], [7, 2, 2, 3]]) {
      const array = memory.array(shape);
      expect(array).toMatchObject({ shape, stride: zeros(shape).stride, offset: 0 });
      expect(array.data).toBeInstanceOf(Float32Array);
      expect(array.data.buffer).toBe(memory.buffer);
      expect(array.data).toEqual(zeros(shape).data);
      expect(array.data.byteOffset % 64).toBe(0);
    }
  });

  test('gives zeros where another array was', () => {
    const memory = new KernelMemory({ bytes: 4096, variant });
    const first = memory.array([1000]);
    first.data.fill(7);
    memory.release(first);
    const second = memory.array([10, 100]);
    expect(second.data.byteOffset).toBe(first.data.byteOffset);
    expect(second.data.every((x) => x === 0)).toBe(true);
  });

  test('gives empty arrays, each to be released', () => {
    const memory = new KernelMemory({ bytes: 4096, variant });
    const free = memory.freeBytes;
    const empty = [memory.array([0]), memory.array([3, 0, 2])];
    expect(empty.map(({ data }) => data.length)).toEqual([0, 0]);
    for (const array of empty) memory.release(array);
    expect(memory.freeBytes).toBe(free);
  });

  test('never overlaps, loses or leaks arrays, whatever the order', () => {
    const memory = new KernelMemory({ bytes: 2 ** 16, variant });
    const { buffer, freeBytes } = memory;
    const probe = memory.array([1]);
    const first = probe.data.byteOffset;
    memory.release(probe);
    const action = fc.record({ take: fc.boolean(), number: fc.integer({ min: 0, max: 3000 }) });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const alive = new Map<number, NdView>();
        for (const [i, { take, number }] of actions.entries()) {
          if (take) {
            const id = i + 1;
            const before = memory.freeBytes;
            try {
              const array = memory.array([number]);
              expect(array.data.every((x) => x === 0)).toBe(true);
              array.data.fill(id);
              alive.set(id, array);
            } catch (error) {
              expect(error).toBeInstanceOf(RangeError);
              expect(longestGap(alive.values(), first, freeBytes)).toBeLessThan(4 * number);
              expect(memory.freeBytes).toBe(before);
            }
          } else if (alive.size > 0) {
            const [key, array] = [...alive][number % alive.size];
            expect(array.data.every((x) => x === key)).toBe(true);
            memory.release(array);
            expect(() => memory.release(array)).toThrow(RangeError);
            alive.delete(key);
          }
          const used = [...alive.values()].reduce((sum, array) => sum + roomOf(array), 0);
          expect(memory.freeBytes).toBe(freeBytes - used);
        }
        for (const [id, array] of alive) {
          expect(array.data.every((x) => x === id)).toBe(true);
          memory.release(array);
        }
        // The pieces have become one again.
        const whole = memory.array([freeBytes / 4]);
        expect(memory.freeBytes).toBe(0);
        memory.release(whole);
        expect(memory.buffer).toBe(buffer);
        expect(buffer.byteLength).toBeGreaterThan(freeBytes);
      }),
      RUNS,
    );
  });

  test('keeps its size and its buffer when it is full', () => {
    const memory = new KernelMemory({ bytes: 2 ** 16, variant });
    const { buffer } = memory;
    const { byteLength } = buffer;
    const array = memory.array([100]);
    array.data.fill(3);
    const free = memory.freeBytes;
    expect(() => memory.array([2 ** 20])).toThrow(
      new RangeError(
        `KernelMemory: 4194304 bytes must fit, got ${free} in one piece of ${byteLength}; ` +
          'release arrays, or make the memory with more bytes',
      ),
    );
    const lengths = { B: 1, L: 9000, G: 1, E: 9, P: 1, N: 3, C: 9, K: 3 };
    for (const name of functionNames) {
      const large = makeCall(name, { seed: 1, lengths, having: [] });
      expect(() => run(large, { memory })).toThrow(/must fit/);
    }
    expect(memory.buffer).toBe(buffer);
    expect(buffer.byteLength).toBe(byteLength);
    expect(array.data.every((x) => x === 3)).toBe(true);
    expect(memory.freeBytes).toBe(free);
  });

  test('is given back by the functions all that they took', () => {
    const memory = new KernelMemory({ bytes: 2 ** 18, variant });
    const free = memory.freeBytes;
    for (const name of functionNames) {
      const having = ['grouped', 'D', 'z', 'bias', 'softplus', 'silu', 'state', 'reset'];
      const lengths = { B: 2, L: 5, G: 2, E: 3, P: 17, N: 4, C: 19, K: 3 };
      const call = makeCall(name, { seed: 1, lengths, having });
      for (const part of [call, steps(call, 0, 1), steps(call, 0, 0)]) {
        run(part, { memory });
        expect(memory.freeBytes).toBe(free);
      }
    }
  });

  test('is apart from other memories', () => {
    const [one, other] = [1, 2].map(() => new KernelMemory({ bytes: 4096, variant }));
    const array = one.array([900]);
    other.array([900]).data.fill(5);
    expect(array.data.every((x) => x === 0)).toBe(true);
    expect(one.holds(array.data)).toBe(true);
    expect(other.holds(array.data)).toBe(false);
  });

  test('releases what it made, once', () => {
    const memory = new KernelMemory({ bytes: 4096, variant });
    const array = memory.array([10]);
    const foreign = [zeros([10]), new KernelMemory({ bytes: 1, variant }).array([1])];
    for (const view of foreign) {
      expect(() => memory.release(view)).toThrow(
        new RangeError('release: the array must lie in this memory, got one that lies elsewhere'),
      );
    }
    const made = /^release: the array must have been made by this memory and not released before/;
    expect(() => memory.release(nd(array.data.subarray(1)))).toThrow(made);
    expect(() => memory.release(nd(new Float32Array(memory.buffer, 0, 1)))).toThrow(made);
    memory.release(array);
    expect(() => memory.release(array)).toThrow(made);
    expect(() => memory.release(array)).toThrow(RangeError);
  });

  test('releases an array by any view of all of it', () => {
    const memory = new KernelMemory({ bytes: 4096, variant });
    const free = memory.freeBytes;
    const { data } = memory.array([6]);
    memory.release({ data, shape: [3, 2], stride: [1, 3], offset: 0 });
    expect(memory.freeBytes).toBe(free);
  });

  test.each([[[-1]], [[2, -3]], [[1.5]], [[Number.NaN]], [[Infinity]], [['3']], [5], [undefined]])(
    'gives no array of shape %j, and takes nothing for it',
    (shape) => {
      const memory = new KernelMemory({ bytes: 4096, variant });
      const free = memory.freeBytes;
      const wrong = () => memory.array(shape as unknown as number[]);
      expect(wrong).toThrow(ShapeError);
      expect(wrong).toThrow(/^array: shape must be non-negative integers, got /);
      expect(memory.freeBytes).toBe(free);
    },
  );

  test.each([undefined, null, new Float32Array(3), 64])('releases no %o', (value) => {
    const memory = new KernelMemory({ bytes: 4096, variant });
    const wrong = () => memory.release(value as unknown as NdView);
    expect(wrong).toThrow(TypeError);
    expect(wrong).toThrow(/^release: the array must be a view, got /);
  });
});

/** The longest run of bytes that no array takes, of those from `first` on. */
function longestGap(arrays: Iterable<NdView>, first: number, bytes: number): number {
  const ordered = [...arrays].sort((a, b) => a.data.byteOffset - b.data.byteOffset);
  let longest = 0;
  let from = first;
  for (const array of ordered) {
    longest = Math.max(longest, array.data.byteOffset - from);
    from = array.data.byteOffset + roomOf(array);
  }
  return Math.max(longest, first + bytes - from);
}

/** Bytes that an array takes: whole cache lines, one at least. */
function roomOf({ data }: NdView): number {
  return 64 * Math.max(1, Math.ceil(data.byteLength / 64));
}

test.each([0, -1, Number.NaN, Infinity, 2 ** 31, '4096', null])(
  'a memory has no %o bytes',
  (bytes) => {
    const make = () => new KernelMemory({ bytes } as KernelMemoryOptions);
    expect(make).toThrow(RangeError);
    expect(make).toThrow(`KernelMemory: bytes must be within 1..2147418112, got ${bytes}`);
  },
);

test('options of a memory are an object with known names', () => {
  expect(() => new KernelMemory({ size: 1 } as KernelMemoryOptions)).toThrow(
    new TypeError("KernelMemory: options must be among bytes, variant, got 'size'"),
  );
  expect(() => new KernelMemory(4096 as KernelMemoryOptions)).toThrow(
    new TypeError('KernelMemory: options must be an object, got 4096'),
  );
});

describe('the variant of a memory', () => {
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  async function freshMemory(): Promise<typeof KernelMemory> {
    vi.resetModules();
    return (await import('umwelt/ssm')).KernelMemory;
  }

  function refuse(): never {
    throw new WebAssembly.CompileError('an instruction is not known');
  }

  test('is the fastest that this process has', () => {
    expect(new KernelMemory({ bytes: 1 }).variant).toBe(variants[0]);
  });

  test('is relaxed where the engine has relaxed SIMD, and only there', () => {
    // One function: (drop (f32x4.relaxed_madd (i8x16.splat 0) (i8x16.splat 0) (i8x16.splat 0)))
    const splat = [0x41, 0, 0xfd, 0x0f];
    const body = [0, ...splat, ...splat, ...splat, 0xfd, 0x85, 0x02, 0x1a, 0x0b];
    const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0];
    const code = [0x0a, body.length + 2, 1, body.length, ...body];
    const relaxed = WebAssembly.validate(Uint8Array.of(...header, ...code));
    expect(variants).toEqual(relaxed ? ['relaxed', 'simd', 'scalar'] : ['simd', 'scalar']);
  });

  test('is simd where relaxed SIMD is not known', async () => {
    const Memory = await freshMemory();
    const compile = vi.spyOn(WebAssembly, 'Module').mockImplementationOnce(refuse);
    expect(new Memory({ bytes: 1 }).variant).toBe('simd');
    expect(new Memory({ bytes: 1 }).variant).toBe('simd');
    // Each module is compiled once, or refused once.
    expect(compile).toHaveBeenCalledTimes(2);
    expect(() => new Memory({ bytes: 1, variant: 'relaxed' })).toThrow(
      new TypeError(
        "KernelMemory: variant must be one this platform has, got 'relaxed'; " +
          "leave it out for the fastest, or name 'simd' or 'scalar'",
      ),
    );
  });

  test('is scalar where WebAssembly may not compile, and where there is none', async () => {
    const withoutCompiler = await freshMemory();
    const compile = vi.spyOn(WebAssembly, 'Module').mockImplementation(refuse);
    expect(new withoutCompiler({ bytes: 1 }).variant).toBe('scalar');
    expect(() => new withoutCompiler({ bytes: 1, variant: 'simd' })).toThrow(TypeError);
    expect(compile).toHaveBeenCalledTimes(2);
    vi.restoreAllMocks();
    const without = await freshMemory();
    vi.stubGlobal('WebAssembly', undefined);
    expect(new without({ bytes: 1 }).variant).toBe('scalar');
  });

  test('lets the functions run where there is no WebAssembly', async () => {
    const calls = functionNames.map((name) =>
      makeCall(name, {
        seed: 2,
        lengths: { B: 2, L: 3, G: 1, E: 2, P: 3, N: 2, C: 5, K: 3 },
        having: ['state', 'reset'],
      }),
    );
    const memory = new KernelMemory({ bytes: 2 ** 16, variant: 'scalar' });
    const expected = calls.map((call) => elements(run(call, { memory }).y));
    vi.resetModules();
    vi.stubGlobal('WebAssembly', undefined);
    const fresh = await import('./arrays.js');
    expect(fresh.variants).toEqual(['scalar']);
    for (const [i, call] of calls.entries()) {
      expect(elements(fresh.run(call).y)).toBeBitEqual(expected[i]);
    }
  });

  test.each(['avx', 'SIMD', '', null, 1])('is none called %o', (variant) => {
    const make = () => new KernelMemory({ bytes: 1, variant: variant as KernelVariant });
    expect(make).toThrow(TypeError);
    expect(make).toThrow(
      `KernelMemory: variant must be 'relaxed', 'simd' or 'scalar', got '${variant}'`,
    );
  });
});
