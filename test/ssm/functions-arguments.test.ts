import { type NdView, nd, ShapeError, type TypedArray, zeros } from 'umwelt';
import { causalConv1d, KernelMemory, selectiveScan, ssd } from 'umwelt/ssm';
import { describe, expect, test } from 'vitest';
import {
  type Call,
  type CallSpec,
  elements,
  type FunctionName,
  functionNames,
  integer,
  makeCall,
  memoryOf,
  positional,
  product,
  run,
  uniform,
  variants,
  withArrays,
} from './arrays.js';

/** Calls with every argument; all axes that could be taken for one another differ in length. */
const everything: Readonly<Record<FunctionName, CallSpec>> = {
  selectiveScan: {
    seed: 21,
    lengths: { B: 2, L: 3, G: 2, E: 4, N: 5 },
    having: ['grouped', 'D', 'z', 'bias', 'softplus', 'state', 'reset'],
  },
  ssd: {
    seed: 22,
    lengths: { B: 2, L: 3, G: 2, E: 2, P: 7, N: 5 },
    having: ['D', 'z', 'bias', 'softplus', 'limit', 'state', 'reset'],
  },
  causalConv1d: {
    seed: 23,
    lengths: { B: 2, L: 3, C: 6, K: 5 },
    having: ['bias', 'silu', 'state', 'reset'],
  },
};

/** The axis as messages call it. */
const nameOf = (letter: string) => (letter === 'W' ? 'K - 1' : letter);

/** Calls with one argument replaced, whatever it is. */
function runWith(call: Call, argument: string, value: unknown): unknown {
  const out = { y: 'out.y', lastState: 'out.lastState' };
  if (argument in out) return run(call, { out: { [argument]: value } });
  return run({ ...call, arrays: { ...call.arrays, [argument]: value as NdView } });
}

/** What a call throws: the class and the message. */
function failure(call: () => unknown): { kind: unknown; message: string } {
  try {
    call();
  } catch (error) {
    return { kind: (error as Error).constructor, message: (error as Error).message };
  }
  return { kind: undefined, message: 'nothing was thrown' };
}

const cases = functionNames.flatMap((name) => {
  const call = makeCall(name, everything[name]);
  const { y, lastState } = run(call);
  const shapeOf = (argument: string) =>
    ({ y, lastState })[argument]?.shape ?? call.arrays[argument].shape;
  return Object.keys(call.letters).map((argument) => ({
    name,
    call,
    argument,
    // In messages the arrays of `out` are named by their place.
    label: argument in { y, lastState } ? `out.${argument}` : argument,
    shape: shapeOf(argument),
    letters: call.letters[argument],
    optional: !positional[name].includes(argument),
  }));
});

describe.each(cases)(
  '$name: $label',
  ({ name, call, argument, label, shape, letters, optional }) => {
    const wrong = (value: unknown) => failure(() => runWith(call, argument, value));
    const axes = [...letters].map(nameOf).join(', ');
    // Two arguments have two forms, which their rank tells apart.
    const formOf = (rank: number | undefined) => {
      if (name === 'selectiveScan' && argument === 'B' && rank !== 4) return 'B, L, N';
      if (name === 'ssd' && argument === 'D' && rank === 2) return 'H, P';
      return axes;
    };
    const isFlags = argument === 'reset';

    test.each([
      null,
      'numbers',
      3,
      true,
      [[1, 2]],
      {},
      new Float64Array(6),
      new DataView(new ArrayBuffer(8)),
      ...(letters.length === 1 ? [] : [new Float32Array(6)]),
      ...(optional ? [] : [undefined]),
    ])('must be a view, and is no %o', (value) => {
      const { kind, message } = wrong(value);
      expect(kind).toBe(TypeError);
      expect(message).toContain(`${name}: ${label} must be a view [${formOf(undefined)}]`);
    });

    test('must be float32', () => {
      if (isFlags) return expectFlagTypes(call);
      for (const kind of [Float64Array, Int32Array, Uint8Array]) {
        const { kind: error, message } = wrong(nd(new kind(product(shape)), shape));
        expect(error).toBe(TypeError);
        expect(message).toContain(`${name}: ${label} must be float32, got a [${shape}] view`);
        expect(message).toContain(`view of ${kind.name}; convert it`);
      }
    });

    test('must have as many axes as it has letters', () => {
      for (const other of [
        [...shape, 1],
        [1, ...shape],
        [product(shape), 1, 1, 1, 1],
      ]) {
        const { kind, message } = wrong(arrayOf(other, isFlags));
        expect(kind).toBe(ShapeError);
        expect(message).toContain(`${name}: ${label} must have shape [${formOf(other.length)}]`);
        expect(message).toContain(`got [${other.join(', ')}]`);
      }
    });

    // The first argument of each function says how long its axes are, and A and weight another.
    const said = Object.keys(call.letters).indexOf(argument);
    const before = Object.values(call.letters).slice(0, said).join('');
    const bound = [...letters].filter((letter) => before.includes(letter) || letter === 'W');

    test.skipIf(bound.length === 0).each(bound)(
      'must agree in %s with what came before',
      (letter) => {
        const axis = letters.indexOf(letter);
        for (const length of [0, shape[axis] - 1, shape[axis] + 1]) {
          const other = shape.map((n, i) => (i === axis ? length : n));
          const { kind, message } = wrong(arrayOf(other, isFlags));
          expect(kind).toBe(ShapeError);
          expect(message).toBe(
            `${name}: ${label} must have shape [${axes}] = [${wantedOf(letters, before, shape)}], ` +
              `got [${other.join(', ')}]`,
          );
        }
      },
    );

    test('must lie within its data', () => {
      const whole = arrayOf(shape, isFlags);
      const views = [
        { ...whole, offset: 1 },
        { ...whole, offset: -1 },
        { ...whole, offset: 0.5 },
        { ...whole, stride: whole.stride.map((step) => -step) },
        { ...whole, stride: whole.stride.map((step) => step + 0.5) },
        { ...whole, stride: [...whole.stride, 1] },
        { ...whole, data: whole.data.subarray(1) },
      ];
      for (const view of views) {
        const { kind, message } = wrong(view);
        expect(kind).toBe(ShapeError);
        expect(message).toContain(`${name}: ${label} must be a view within its`);
      }
    });
  },
);

/** What a message says of the lengths that are known, and the letters of those that are not. */
function wantedOf(letters: string, before: string, shape: readonly number[]): string {
  return [...letters]
    .map((letter, i) => (before.includes(letter) || letter === 'W' ? shape[i] : letter))
    .join(', ');
}

function arrayOf(shape: readonly number[], isFlags: boolean): NdView<TypedArray> {
  const size = product(shape);
  return nd(isFlags ? new Uint8Array(size) : new Float32Array(size), shape);
}

/** Flags may have any type. */
function expectFlagTypes(call: Call): void {
  const { reset } = call.arrays;
  const expected = run(call);
  const numbers = [...elements(reset)];
  for (const data of [
    Int8Array.from(numbers),
    Float64Array.from(numbers),
    Float32Array.from(numbers),
    BigUint64Array.from(numbers, BigInt),
  ]) {
    const { y } = runWith(call, 'reset', nd(data, reset.shape)) as typeof expected;
    expect(elements(y)).toBeBitEqual(elements(expected.y));
  }
}

describe.each(functionNames)('%s', (name) => {
  const call = makeCall(name, everything[name]);
  const failing = (options: Record<string, unknown>) =>
    failure(() => run(withArrays({ ...call, options }, { reset: undefined })));

  test.each([
    [2, 2],
    [255, 255],
    [-1, 255],
  ])('takes no flag of %d', (value, stored) => {
    const data = Uint8Array.of(0, 0, 0, 0, value, 0);
    expect(failing({ reset: nd(data, [2, 3]) })).toEqual(
      failure(() => {
        throw new RangeError(`${name}: reset must hold 0 and 1, got ${stored} at [1, 1]`);
      }),
    );
  });

  test.each([NaN, Infinity, 0.5, -1])('takes no flag of %d in a float array', (value) => {
    const data = Float32Array.of(0, 0, value, 0, 1, 0);
    const { kind, message } = failing({ reset: nd(data, [2, 3]) });
    expect(kind).toBe(RangeError);
    expect(message).toBe(`${name}: reset must hold 0 and 1, got ${value} at [0, 2]`);
  });

  test('refuses options and outputs that it does not know, and lists those it does', () => {
    const misspelt = { deltaSoftPlus: true, dt_limit: [0, 1], initialState: 1, seqIdx: 1 };
    for (const [option, value] of Object.entries(misspelt)) {
      const { kind, message } = failing({ [option]: value });
      expect(kind).toBe(TypeError);
      expect(message).toMatch(
        new RegExp(
          `^${name}: options must be among .*state, .*'${option}'(; did you mean '\\w+'\\?)?$`,
        ),
      );
    }
    const { kind, message } = failing({ out: { last_state: 1 } });
    expect(kind).toBe(TypeError);
    expect(message).toBe(
      `${name}: out: options must be among y, lastState, got 'last_state'; did you mean 'lastState'?`,
    );
  });

  test('refuses what is no KernelMemory', () => {
    for (const memory of [{}, new WebAssembly.Memory({ initial: 1 }), 1024, null]) {
      const { kind, message } = failing({ memory });
      expect(kind).toBe(TypeError);
      expect(message).toContain(`${name}: memory must be a KernelMemory, got`);
    }
  });

  test('names the remedy where a memory is too small, and gives back what it took', () => {
    for (const variant of variants) {
      const memory = new KernelMemory({ bytes: 1, variant });
      const free = memory.freeBytes;
      const channels = { B: 1, L: 40, G: 1, E: 500, P: 8, N: 3, C: 2000, K: 3 };
      const steps = { B: 1, L: 60_000, G: 1, E: 1, P: 1, N: 1, C: 1, K: 2 };
      for (const lengths of [channels, steps]) {
        const large = makeCall(name, { seed: 1, lengths, having: [] });
        const { kind, message } = failure(() => run(large, { memory }));
        expect(kind).toBe(RangeError);
        expect(message).toMatch(/^KernelMemory: \d+ bytes must fit, got \d+ in one piece of \d+; /);
        expect(message).toContain('release arrays, or make the memory with more bytes');
        expect(memory.freeBytes).toBe(free);
      }
      // What is small enough still runs.
      const small = makeCall(name, { seed: 1, lengths: everything[name].lengths, having: [] });
      const { y } = run(small, { memory });
      expect(elements(y)).toBeBitEqual(elements(run(small, { memory: memoryOf(variant) }).y));
    }
  });

  test('writes to no output when an argument is wrong', () => {
    const { y, lastState } = run(call);
    const out = { y: zeros(y.shape), lastState: zeros(lastState.shape) };
    const random = uniform(1);
    const names = Object.keys(call.arrays);
    for (let i = 0; i < 20; i++) {
      const wrong = names[integer(random, 0, names.length - 1)];
      const arrays = { ...call.arrays, [wrong]: nd(new Float32Array(1), [1, 1, 1, 1, 1]) };
      expect(() => run({ ...call, arrays }, { out })).toThrow(ShapeError);
    }
    expect([...out.y.data, ...out.lastState.data].every((x) => x === 0)).toBe(true);
  });
});

describe('selectiveScan', () => {
  const [B, L, D, N] = [2, 3, 6, 5];
  const u = zeros([B, L, D]);
  const A = zeros([D, N]);
  const scan = (BC: NdView, C = BC, options = {}) =>
    failure(() => selectiveScan(u, u, A, BC, C, options));

  test('takes groups that divide the channels', () => {
    for (const G of [1, 2, 3, 6]) {
      expect(selectiveScan(u, u, A, zeros([B, L, G, N]), zeros([B, L, G, N])).y.shape).toEqual(
        u.shape,
      );
    }
    expect(scan(zeros([B, L, 4, N]))).toEqual({
      kind: ShapeError,
      message: 'selectiveScan: the groups of B and C must divide the channels, got G = 4 and D = 6',
    });
    expect(scan(zeros([B, L, 0, N])).message).toBe('selectiveScan: G must be at least 1, got 0');
  });

  test('takes B and C in the same form', () => {
    const [flat, grouped] = [zeros([B, L, N]), zeros([B, L, 2, N])];
    expect(scan(flat, grouped)).toEqual({
      kind: ShapeError,
      message: 'selectiveScan: C must have shape [B, L, N] = [2, 3, 5], got [2, 3, 2, 5]',
    });
    expect(scan(grouped, flat)).toEqual({
      kind: ShapeError,
      message: 'selectiveScan: C must have shape [B, L, G, N] = [2, 3, 2, 5], got [2, 3, 5]',
    });
    expect(scan(grouped, zeros([B, L, 3, N]))).toEqual({
      kind: ShapeError,
      message: 'selectiveScan: C must have shape [B, L, G, N] = [2, 3, 2, 5], got [2, 3, 3, 5]',
    });
  });

  test('has at least one channel and one state dimension', () => {
    const none = zeros([B, L, 0]);
    const without = () =>
      selectiveScan(none, none, zeros([0, N]), zeros([B, L, N]), zeros([B, L, N]));
    expect(failure(without).message).toBe('selectiveScan: D must be at least 1, got 0');
    const BC = zeros([B, L, 0]);
    expect(failure(() => selectiveScan(u, u, zeros([D, 0]), BC, BC)).message).toBe(
      'selectiveScan: N must be at least 1, got 0',
    );
  });

  test('takes true or false for deltaSoftplus', () => {
    const { kind, message } = scan(zeros([B, L, N]), zeros([B, L, N]), { deltaSoftplus: 1 });
    expect(kind).toBe(TypeError);
    expect(message).toBe('selectiveScan: deltaSoftplus must be true or false, got number');
  });

  test('takes vectors as typed arrays and as views of any stride', () => {
    const call = makeCall('selectiveScan', everything.selectiveScan);
    const expected = run(call);
    const [u, delta, A, B, C] = positional.selectiveScan.map((name) => call.arrays[name] as NdView);
    const [D, deltaBias] = [elements(call.arrays.D), elements(call.arrays.deltaBias)];
    const reversed = { ...nd(D.slice().reverse()), stride: [-1], offset: D.length - 1 };
    const { z, state, reset } = call.arrays as Record<string, NdView>;
    for (const skip of [D, nd(D), reversed]) {
      const options = { D: skip, deltaBias, z, state, reset, deltaSoftplus: true };
      expect(elements(selectiveScan(u, delta, A, B, C, options).y)).toBeBitEqual(
        elements(expected.y),
      );
    }
  });
});

describe('ssd', () => {
  const [B, L, H, P, N] = [2, 3, 4, 7, 5];
  const x = zeros([B, L, H, P]);
  const dt = zeros([B, L, H]);
  const A = new Float32Array(H);
  const BC = zeros([B, L, 1, N]);
  const failing = (options: object) => failure(() => ssd(x, dt, A, BC, BC, options));

  test('takes groups that divide the heads', () => {
    const three = zeros([B, L, 3, N]);
    expect(failure(() => ssd(x, dt, A, three, three))).toEqual({
      kind: ShapeError,
      message: 'ssd: the groups of B and C must divide the heads, got G = 3 and H = 4',
    });
  });

  test.each([
    ['H', [B, L, 0, P], [B, L, 0], 0, [B, L, 1, N]],
    ['P', [B, L, H, 0], [B, L, H], H, [B, L, 1, N]],
    ['G', [B, L, H, P], [B, L, H], H, [B, L, 0, N]],
    ['N', [B, L, H, P], [B, L, H], H, [B, L, 1, 0]],
  ] as const)('has at least one %s', (letter, ofX, ofDt, heads, ofB) => {
    const projection = zeros(ofB);
    const call = () =>
      ssd(zeros(ofX), zeros(ofDt), new Float32Array(heads), projection, projection);
    expect(failure(call)).toEqual({
      kind: ShapeError,
      message: `ssd: ${letter} must be at least 1, got 0`,
    });
  });

  test.each([[[1, 0]], [[NaN, 1]], [[0, NaN]], [[0, 1, 2]], [[0]], [[]]])(
    'takes no bounds %j of dt',
    (dtLimit) => {
      expect(failing({ dtLimit })).toEqual({
        kind: RangeError,
        message: `ssd: dtLimit must be [low, high] in order, got [${dtLimit.join(', ')}]`,
      });
    },
  );

  test.each([5, null, '01', ['0', '1'], { low: 0, high: 1 }, new Float32Array(2)])(
    'takes no bounds %o of dt',
    (dtLimit) => {
      const { kind, message } = failing({ dtLimit });
      expect(kind).toBe(TypeError);
      expect(message).toContain('ssd: dtLimit must be an array [low, high] of numbers, got');
    },
  );

  test('takes a skip of heads, as a typed array or a view, or of channels', () => {
    const call = makeCall('ssd', everything.ssd);
    const D = elements(call.arrays.D);
    const [heads, headDim] = [4, 7];
    const expected = elements(run(call).y);
    const ofChannels = Float32Array.from(
      { length: heads * headDim },
      (_, i) => D[Math.floor(i / 7)],
    );
    const transposed = { data: D, shape: [heads, headDim], stride: [1, 0], offset: 0 };
    for (const skip of [D, nd(D), nd(ofChannels, [heads, headDim]), transposed]) {
      const result = run({ ...call, arrays: { ...call.arrays, D: skip as NdView } });
      expect(elements(result.y)).toBeBitEqual(expected);
    }
    expect(failing({ D: zeros([H, P + 1]) })).toEqual({
      kind: ShapeError,
      message: 'ssd: D must have shape [H, P] = [4, 7], got [4, 8]',
    });
    expect(failing({ D: new Float32Array(P) })).toEqual({
      kind: ShapeError,
      message: 'ssd: D must have shape [H] = [4], got [7]',
    });
  });
});

describe('causalConv1d', () => {
  const x = zeros([2, 3, 6]);
  const weight = zeros([6, 4]);

  test('takes a window of the K - 1 last inputs, and no wider one', () => {
    expect(failure(() => causalConv1d(x, weight, { state: zeros([2, 6, 4]) }))).toEqual({
      kind: ShapeError,
      message: 'causalConv1d: state must have shape [B, C, K - 1] = [2, 6, 3], got [2, 6, 4]',
    });
  });

  test('takes the weight without the axis that PyTorch has in the middle', () => {
    expect(failure(() => causalConv1d(x, zeros([6, 1, 4])))).toEqual({
      kind: ShapeError,
      message: 'causalConv1d: weight must have shape [C, K] = [6, K], got [6, 1, 4]',
    });
  });

  test('has at least one tap and one channel; one tap has an empty window', () => {
    expect(failure(() => causalConv1d(x, zeros([6, 0]))).message).toBe(
      'causalConv1d: K must be at least 1, got 0',
    );
    expect(failure(() => causalConv1d(zeros([2, 3, 0]), zeros([0, 4]))).message).toBe(
      'causalConv1d: C must be at least 1, got 0',
    );
    expect(causalConv1d(x, zeros([6, 1])).lastState.shape).toEqual([2, 6, 0]);
  });

  test.each(['swish', 'SiLU', true, null])('takes no activation %o', (activation) => {
    const { kind, message } = failure(() =>
      causalConv1d(x, weight, { activation } as unknown as { activation: 'silu' }),
    );
    expect(kind).toBe(TypeError);
    expect(message).toBe(
      `causalConv1d: activation must be 'silu' or left out, got '${activation}'`,
    );
  });
});
