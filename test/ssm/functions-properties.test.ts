import fc from 'fast-check';
import { type NdView, nd, type TypedArray } from 'umwelt';
import { causalConv1d, KernelMemory, type ScanResult } from 'umwelt/ssm';
import { describe, expect, test, vi } from 'vitest';
import {
  along,
  type Call,
  type CallSpec,
  callSpecs,
  cut,
  elements,
  exact,
  type FunctionName,
  functionNames,
  integer,
  makeCall,
  memoryOf,
  plainStore,
  positions,
  product,
  relativeRms,
  results,
  rowsOf,
  run,
  type Store,
  scattered,
  steps,
  uniform,
  variants,
  withArrays,
  write,
} from './arrays.js';

const RUNS = { numRuns: 1000, seed: 50 };

/** A word that stands in guards and gaps, and in no input. */
const GUARD = -7.25;

const none = fc.constant(0);

describe.each(variants)('with the %s kernels', (variant) => {
  const memory = memoryOf(variant);

  describe.each(functionNames)('%s', (name) => {
    /** One property of random calls. */
    function holds(
      specs: fc.Arbitrary<CallSpec>,
      check: (call: Call, random: () => number, batch: number, length: number) => void,
    ): void {
      fc.assert(
        fc.property(specs, (spec) => {
          const call = makeCall(name, spec);
          const { B, L } = spec.lengths;
          check(call, uniform(spec.seed + 1), B, L);
        }),
        RUNS,
      );
    }

    test('gives the same bits step by step, at once and in any split', () => {
      holds(callSpecs(name), (call, random, _, length) => {
        const whole = run(call, { memory });
        const single = Array.from({ length }, (_, t) => t + 1);
        const some = single.filter((end) => end === length || random() < 0.4);
        for (const ends of [single, some]) {
          const parts = inParts(call, ends, memory);
          expectBits(parts.y, elements(whole.y));
          expectBits(parts.state, elements(whole.lastState));
        }
      });
    });

    test('gives permuted results for a permuted batch', () => {
      holds(callSpecs(name), (call, random, batch) => {
        const order = Array.from({ length: batch }, () => integer(random, 0, batch - 1));
        const plain = run(call, { memory });
        const permuted = run(
          along(call, 'B', (view) => rowsOf(view, order)),
          { memory },
        );
        expectSame(permuted, rowsOf(plain.y, order), rowsOf(plain.lastState, order));
      });
    });

    test('goes on from a reset as from a fresh state', () => {
      holds(callSpecs(name, { without: ['reset'] }), (call, random, batch, length) => {
        const row = integer(random, 0, batch - 1);
        const t = integer(random, 0, length - 1);
        const flags = new Uint8Array(batch * length);
        flags[row * length + t] = 1;
        const reset = withArrays(withLetters(call, { reset: 'BL' }), {
          reset: nd(flags, [batch, length]),
        });
        const together = run(reset, { memory });
        const plain = run(call, { memory });
        const fresh = run(withArrays(steps(call, t, length), { state: undefined }), { memory });
        for (let i = 0; i < batch; i++) {
          const [y, lastState] = [rowsOf(together.y, [i]), rowsOf(together.lastState, [i])];
          const before = rowsOf(plain.y, [i]);
          if (i === row) {
            expectBits(elements(cut(y, 1, t, length)), elements(rowsOf(fresh.y, [i])));
            expectBits(elements(cut(y, 1, 0, t)), elements(cut(before, 1, 0, t)));
            expectBits(elements(lastState), elements(rowsOf(fresh.lastState, [i])));
          } else {
            expectBits(elements(y), elements(before));
            expectBits(elements(lastState), elements(rowsOf(plain.lastState, [i])));
          }
        }
      });
    });

    test('lets NaN and infinity of a row reach no other', () => {
      holds(callSpecs(name), (call, random, batch) => {
        const row = integer(random, 0, batch - 1);
        const others = Array.from({ length: batch }, (_, i) => i).filter((i) => i !== row);
        const poisoned = along(call, 'B', (view) => {
          if (view.data instanceof Uint8Array) return view;
          const copy = nd(elements(view), view.shape);
          const own = product(view.shape) / batch;
          const all = random() < 0.3;
          for (let i = row * own; i < (row + 1) * own; i++) {
            const poison = [Number.NaN, Infinity, -Infinity][integer(random, 0, 2)];
            if (all || random() < 0.3) copy.data[i] = poison;
          }
          return copy;
        });
        const clean = run(call, { memory });
        const result = run(poisoned, { memory });
        const rest = (view: NdView) => elements(rowsOf(view, others));
        expectBits(rest(result.y), rest(clean.y));
        expectBits(rest(result.lastState), rest(clean.lastState));
        // What was poisoned is gone from the memory of the kernels, too.
        expectSame(run(call, { memory }), clean.y, clean.lastState);
      });
    });

    test('returns a copy of the state for no steps', () => {
      holds(callSpecs(name, { lengths: { L: none } }), (call, _, batch) => {
        const { y, lastState } = run(call, { memory });
        expect(y.data).toHaveLength(0);
        expect(y.shape.slice(0, 2)).toEqual([batch, 0]);
        const { state } = call.arrays;
        const expected = state ? elements(state) : new Float32Array(product(lastState.shape));
        expectBits(elements(lastState), expected);
        lastState.data.fill(GUARD);
        if (state) expectBits(elements(state), expected);
      });
    });

    test('takes an empty batch', () => {
      holds(callSpecs(name, { lengths: { B: none } }), (call) => {
        const { y, lastState } = run(call, { memory });
        expect([y.shape[0], y.data.length]).toEqual([0, 0]);
        expect([lastState.shape[0], lastState.data.length]).toEqual([0, 0]);
      });
    });

    test('reads transposed, sliced, reversed, shifted and repeated arrays as packed ones', () => {
      holds(callSpecs(name), (call, random) => {
        const strided = relaid(call, random, () => plainStore);
        expectSame(run(strided, { memory }), ...pair(run(packedOf(strided), { memory })));
      });
    });

    test('reads arrays in kernel memory as plain ones', () => {
      holds(callSpecs(name), (call, random) => {
        const store = storeIn(memory);
        try {
          const inside = relaid(call, random, () => (random() < 0.8 ? store.take : plainStore));
          expectSame(run(inside, { memory }), ...pair(run(packedOf(inside), { memory })));
        } finally {
          store.release();
        }
      });
    });

    test('writes to no input', () => {
      holds(callSpecs(name), (call, random) => {
        const store = storeIn(memory);
        try {
          const strided = relaid(call, random, () => (random() < 0.5 ? store.take : plainStore));
          const before = Object.values(strided.arrays).map(({ data }) => data.slice());
          run(strided, { memory });
          for (const [i, { data }] of Object.values(strided.arrays).entries()) {
            expectBits(bytesOf(data), bytesOf(before[i]));
          }
        } finally {
          store.release();
        }
      });
    });

    test('writes to the arrays of `out`, wherever they lie, and to nothing beside them', () => {
      holds(callSpecs(name), (call, random) => {
        const expected = run(call, { memory });
        const free = memory.freeBytes;
        const store = storeIn(memory);
        const guards = [store.take(16).fill(GUARD)];
        const outOf = ({ shape }: NdView) => {
          if (random() < 0.1) return undefined;
          const take = random() < 0.6 ? store.take : plainStore;
          const view = scattered(shape, random, GUARD, take);
          guards.push(store.take(16).fill(GUARD));
          return view;
        };
        try {
          const out = { y: outOf(expected.y), lastState: outOf(expected.lastState) };
          const used = memory.freeBytes;
          const result = run(call, { memory, out });
          expect(memory.freeBytes).toBe(used);
          expectSame(result, expected.y, expected.lastState);
          if (out.y) expect(result.y).toBe(out.y);
          if (out.lastState) expect(result.lastState).toBe(out.lastState);
          for (const view of [out.y, out.lastState]) if (view) expectGaps(view);
          for (const guard of guards) expect(guard.every((word) => word === GUARD)).toBe(true);
        } finally {
          store.release();
        }
        expect(memory.freeBytes).toBe(free);
      });
    });

    test('updates a state in place', () => {
      const specs = callSpecs(name).filter(({ having }) => having.includes('state'));
      holds(specs, (call, random) => {
        const store = storeIn(memory);
        try {
          const { state } = call.arrays;
          const take = random() < 0.7 ? store.take : plainStore;
          const own = write(scattered(state.shape, random, GUARD, take), elements(state));
          const expected = run(call, { memory });
          const result = run(withArrays(call, { state: own }), { memory, out: { lastState: own } });
          expectSame(result, expected.y, expected.lastState);
          expectGaps(own);
        } finally {
          store.release();
        }
      });
    });

    test('gives results in memory of their own', () => {
      holds(callSpecs(name), (call) => {
        const first = run(call, { memory });
        const { y, state } = results(first);
        for (const { data } of [first.y, first.lastState]) {
          expect(memory.holds(data)).toBe(false);
        }
        run(call, { memory });
        expectBits(elements(first.y), y);
        expectBits(elements(first.lastState), state);
      });
    });

    test('agrees with float64 to 1e-6 of the sums of magnitudes', () => {
      // Few terms may cancel, so the measure is what the result would be if none could.
      holds(callSpecs(name), (call) => expectExact(call, run(call, { memory })));
    });

    test.each(longCalls(name))('takes a long sequence in pieces: %j', (spec) => {
      const call = makeCall(name, spec);
      const { L } = spec.lengths;
      const whole = run(call, { memory });
      const { y, state } = results(whole);
      expectExact(call, whole);
      const scalar = results(run(call, { memory: memoryOf('scalar') }));
      expect(relativeRms(y, scalar.y)).toBeLessThan(1e-6);
      expect(relativeRms(state, scalar.state)).toBeLessThan(1e-6);
      const parts = inParts(call, [1, Math.floor(L / 3), L - 1, L], memory);
      expectBits(parts.y, y);
      expectBits(parts.state, state);
      // The same with arrays that are not copied, and with ones that are copied number by number.
      const store = storeIn(memory);
      try {
        const random = uniform(9);
        for (const take of [store.take, plainStore]) {
          const out = {
            y: scattered(whole.y.shape, random, GUARD, take),
            lastState: scattered(whole.lastState.shape, random, GUARD, take),
          };
          const inputs = relaid(call, random, () => take, 0);
          expectSame(run(inputs, { memory, out }), whole.y, whole.lastState);
          expectGaps(out.y);
          expectGaps(out.lastState);
        }
      } finally {
        store.release();
      }
    });
  });

  describe.each(['selectiveScan', 'ssd'] as const)('%s', (name) => {
    test('leaves the state of a row whose step sizes are 0', () => {
      const having = (spec: CallSpec) => spec.having.includes('state');
      const specs = callSpecs(name, { without: ['softplus', 'bias', 'limit', 'reset'] });
      fc.assert(
        fc.property(specs.filter(having), (spec) => {
          const call = makeCall(name, spec);
          const { B, L } = spec.lengths;
          const random = uniform(spec.seed + 1);
          const row = integer(random, 0, B - 1);
          const argument = name === 'ssd' ? 'dt' : 'delta';
          const sizes = call.arrays[argument];
          const own = product(sizes.shape) / B;
          (sizes.data as Float32Array).fill(0, row * own, (row + 1) * own);
          const { lastState } = run(call, { memory });
          expectBits(
            elements(rowsOf(lastState, [row])),
            elements(rowsOf(call.arrays.state, [row])),
          );
          // Nor does a step of size 0 in the middle of others.
          const t = integer(random, 0, L - 1);
          const still = along(call, 'L', (view, axis) =>
            view === sizes ? nd(elements(sizes), sizes.shape) : cut(view, axis, 0, L),
          );
          const stopped = still.arrays[argument] as NdView;
          const step = { ...cut(stopped, 1, t, t + 1) };
          write(step, new Float32Array(product(step.shape)));
          const after = results(run(steps(still, 0, t + 1), { memory })).state;
          const before = results(run(steps(still, 0, t), { memory })).state;
          expectBits(after, before);
        }),
        RUNS,
      );
    });

    test('gives with equal groups what it gives with one', () => {
      const specs = callSpecs(name).filter(
        ({ having }) => name === 'ssd' || having.includes('grouped'),
      );
      fc.assert(
        fc.property(specs, (spec) => {
          const call = makeCall(name, spec);
          const first = along(call, 'G', (view, axis) => cut(view, axis, 0, 1));
          const repeated = along(first, 'G', (view, axis) => {
            const shape = view.shape.map((n, i) => (i === axis ? spec.lengths.G : n));
            const stride = view.stride.map((n, i) => (i === axis ? 0 : n));
            return { ...view, shape, stride };
          });
          const { y, lastState } = run(first, { memory });
          expectSame(run(packedOf(repeated), { memory }), y, lastState);
          expectSame(run(repeated, { memory }), y, lastState);
          if (name === 'selectiveScan') {
            const flat = withArrays(first, {
              B: withoutAxis(first.arrays.B, 2),
              C: withoutAxis(first.arrays.C, 2),
            });
            expectSame(run(flat, { memory }), y, lastState);
          }
        }),
        RUNS,
      );
    });
  });
});

describe('without a memory', () => {
  test.each(functionNames)('%s gives what the fastest variant gives', (name) => {
    fc.assert(
      fc.property(callSpecs(name), (spec) => {
        const call = makeCall(name, spec);
        expectSame(run(call), ...pair(run(call, { memory: memoryOf(variants[0]) })));
      }),
      RUNS,
    );
  });

  test.each([
    ['selectiveScan', { B: 2, L: 2, G: 1, E: 1040, N: 1030 }, ['D', 'z', 'bias', 'state']],
    ['ssd', { B: 2, L: 2, G: 1, E: 3, P: 700, N: 700 }, ['D', 'z', 'bias', 'state']],
    ['causalConv1d', { B: 2, L: 2, C: 9000, K: 120 }, ['bias', 'state']],
  ] as const)('%s makes room for a state of megabytes', async (name, lengths, having) => {
    const call = makeCall(name, { seed: 3, lengths, having });
    const expected = run(call, { memory: new KernelMemory({ bytes: 2 ** 26 }) });
    // A memory that an earlier call made would be as large as that one needed.
    vi.resetModules();
    const fresh = await import('./arrays.js');
    expectSame(fresh.run(call), expected.y, expected.lastState);
  });
});

/** Sequences that come in two to seven pieces; channels that fill chunks of 16, and that do not. */
function longCalls(name: FunctionName): CallSpec[] {
  const all = ['D', 'z', 'bias', 'softplus', 'limit', 'state', 'reset', 'silu'];
  switch (name) {
    case 'selectiveScan':
      return [
        { seed: 1, lengths: { B: 2, L: 1500, G: 1, E: 64, N: 4 }, having: all },
        { seed: 2, lengths: { B: 1, L: 6000, G: 2, E: 21, N: 3 }, having: ['grouped', ...all] },
      ];
    case 'ssd':
      return [
        { seed: 3, lengths: { B: 2, L: 1800, G: 1, E: 2, P: 32, N: 3 }, having: all },
        { seed: 4, lengths: { B: 1, L: 5000, G: 2, E: 3, P: 7, N: 2 }, having: all },
      ];
    case 'causalConv1d':
      return [
        { seed: 5, lengths: { B: 2, L: 5000, C: 48, K: 4 }, having: all },
        { seed: 6, lengths: { B: 1, L: 40_000, C: 7, K: 3 }, having: all },
      ];
  }
}

/** Runs a call in parts that end where `ends` says, and puts the results together. */
function inParts(
  call: Call,
  ends: readonly number[],
  memory: KernelMemory,
): { y: Float32Array; state: Float32Array } {
  const { B, L } = lengthsOf(call);
  const ys: Float32Array[] = [];
  let part = call;
  let result: ScanResult | undefined;
  for (const [i, end] of ends.entries()) {
    const state = result?.lastState ?? call.arrays.state;
    const lettered = withLetters(call, { state: call.letters.lastState });
    part = withArrays(steps(lettered, ends[i - 1] ?? 0, end), { state });
    result = run(part, { memory });
    ys.push(elements(result.y));
  }
  if (result === undefined) throw new Error('inParts: there must be a part');
  const width = ys.reduce((sum, y) => sum + y.length, 0) / (B * L);
  const y = new Float32Array(B * L * width);
  for (let row = 0, to = 0; row < B; row++) {
    for (const [i, end] of ends.entries()) {
      const size = (end - (ends[i - 1] ?? 0)) * width;
      y.set(ys[i].subarray(row * size, (row + 1) * size), to);
      to += size;
    }
  }
  return { y, state: elements(result.lastState) };
}

/** The call with the magnitudes of all numbers that are summed. */
function ofMagnitudes(call: Call): Call {
  const signed = ['u', 'x', 'B', 'C', 'D', 'z', 'state', 'weight', 'bias'];
  const entries = Object.entries(call.arrays).map(([name, view]) => [
    name,
    signed.includes(name) ? nd(elements(view).map(Math.abs), view.shape) : view,
  ]);
  return { ...call, arrays: Object.fromEntries(entries) };
}

/** Checks the results against the formulas in float64. */
function expectExact(call: Call, result: ScanResult): void {
  const expected = exact(call);
  const largest = exact(ofMagnitudes(call));
  const actual = results(result);
  // What is 0 for want of any input may be so exactly.
  expect(gap(actual.y, expected.y)).toBeLessThanOrEqual(1e-6 * rms(largest.y));
  expect(gap(actual.state, expected.state)).toBeLessThanOrEqual(1e-6 * rms(largest.state));
}

function rms(numbers: Float64Array): number {
  return Math.sqrt(numbers.reduce((sum, x) => sum + x ** 2, 0) / Math.max(1, numbers.length));
}

function gap(actual: Float32Array, expected: Float64Array): number {
  return rms(expected.map((x, i) => actual[i] - x));
}

function lengthsOf({ arrays, letters }: Call): { B: number; L: number } {
  const [argument] = Object.keys(arrays);
  const at = (letter: string) => arrays[argument].shape[letters[argument].indexOf(letter)];
  return { B: at('B'), L: at('L') };
}

function withLetters(call: Call, letters: Record<string, string>): Call {
  return { ...call, letters: { ...call.letters, ...letters } };
}

/** The call with its float arrays laid out at random, some axes repeated by a stride of 0. */
function relaid(
  call: Call,
  random: () => number,
  storeOf: () => Store,
  repeats: number = 0.15,
): Call {
  const entries = Object.entries(call.arrays).map(([name, view]) => {
    const store = storeOf();
    if (view.data instanceof Uint8Array) return [name, relaidFlags(view, random)];
    // A misread element shows as NaN.
    const laid = write(scattered(view.shape, random, Number.NaN, store), elements(view));
    const stride = laid.stride.map((step) => (random() < repeats ? 0 : step));
    return [name, { ...laid, stride }];
  });
  return { ...call, arrays: Object.fromEntries(entries) };
}

/** Flags, laid out at random, of any type that they may have. */
function relaidFlags(view: NdView<TypedArray>, random: () => number): NdView<TypedArray> {
  const { data, ...layout } = write(scattered(view.shape, random, 9), elements(view));
  const kinds = [
    () => Uint8Array.from(data),
    () => Int32Array.from(data),
    () => BigInt64Array.from(data, BigInt),
    () => data,
  ];
  return { ...layout, data: kinds[integer(random, 0, 3)]() };
}

/** The same numbers in packed arrays. */
function packedOf(call: Call): Call {
  const entries = Object.entries(call.arrays).map(([name, view]) => [
    name,
    nd(elements(view), view.shape),
  ]);
  return { ...call, arrays: Object.fromEntries(entries) };
}

function withoutAxis(view: NdView<TypedArray>, axis: number): NdView<TypedArray> {
  const keep = (_: number, i: number) => i !== axis;
  return { ...view, shape: view.shape.filter(keep), stride: view.stride.filter(keep) };
}

/** Stores in kernel memory, released together. */
function storeIn(memory: KernelMemory): { take: Store; release: () => void } {
  const arrays: NdView[] = [];
  return {
    take: (length) => {
      const array = memory.array([length]);
      arrays.push(array);
      return array.data;
    },
    release: () => {
      for (const array of arrays) memory.release(array);
    },
  };
}

function pair({ y, lastState }: ScanResult): [NdView, NdView] {
  return [y, lastState];
}

function expectSame(result: ScanResult, y: NdView, lastState: NdView): void {
  expectBits(elements(result.y), elements(y));
  expectBits(elements(result.lastState), elements(lastState));
}

/** Checks that what lies beside and between a view's elements is as it was. */
function expectGaps(view: NdView): void {
  const words = view.data.slice();
  positions(view, (at) => {
    words[at] = GUARD;
  });
  expect(words.every((word) => word === GUARD)).toBe(true);
}

/** As the matcher, which takes its time to say what differs. */
function expectBits(actual: Float32Array | Uint8Array, expected: Float32Array | Uint8Array): void {
  if (Buffer.compare(bytesOf(actual), bytesOf(expected)) !== 0) {
    expect(actual).toBeBitEqual(expected);
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

test.each(variants)('the convolution may write over its inputs, by %s', (variant) => {
  const memory = memoryOf(variant);
  const x = memory.array([1, 40, 3]);
  x.data.set(Float32Array.from({ length: 120 }, (_, i) => Math.sin(i)));
  const weight = nd(
    Float32Array.from({ length: 12 }, (_, i) => 1 + i),
    [3, 4],
  );
  const { y } = causalConv1d(nd(x.data.slice(), [1, 40, 3]), weight, { memory });
  causalConv1d(x, weight, { memory, out: { y: x } });
  expect(x.data).toEqual(y.data);
  memory.release(x);
});
