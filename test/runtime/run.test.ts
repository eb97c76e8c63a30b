import ndarray from 'ndarray';
import * as ort from 'onnxruntime-node';
import { type NdView, Network, nd, packed, type TypedArray } from 'umwelt';
import { type OnnxDtype, writeModel } from 'umwelt/onnx';
import { DisposedError, type Feed, ShapeError } from 'umwelt/runtime';
import { describe, expect, test } from 'vitest';
import { toyEnsemble } from '../support/models.js';
import { gemmModel, identityModel } from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';

type Shape = readonly (number | string)[];

/** What `y = x` gives for a feed, on a network of its own. */
async function identity(feed: unknown, dtype: OnnxDtype = 'float32', shape: Shape = ['B', 3]) {
  await using network = await Network.load(ort, identityModel(dtype, shape));
  return (await network.run({ x: feed as Feed })).y;
}

/** `y = a + b`, both `[B, 2]`. */
const sum = writeModel({
  graph: {
    inputs: [
      { name: 'a', shape: ['B', 2] },
      { name: 'b', shape: ['B', 2] },
    ],
    outputs: [{ name: 'y', shape: ['B', 2] }],
    nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['y'] }],
  },
});

describe('feeds', () => {
  test('must all be there, and no others', async () => {
    await using network = await Network.load(ort, sum);
    const a = nd([[1, 2]]);
    await expectRefusal(network.run({ a }), TypeError, "input 'b' must be fed, got nothing");
    await expectRefusal(
      network.run({ a, b: undefined as never }),
      TypeError,
      "input 'b' must be fed",
    );
    await expectRefusal(
      network.run({ a, b: a, c: a }),
      TypeError,
      'feeds must be among a, b',
      "got 'c'",
    );
    await expectRefusal(network.run(null as never), TypeError);
  });

  test('may not override a weight, which ONNX Runtime would ignore', async () => {
    const model = writeModel({
      graph: {
        inputs: [
          { name: 'x', shape: ['B', 1] },
          { name: 'w', shape: [1] },
        ],
        outputs: [{ name: 'y', shape: ['B', 1] }],
        initializers: [{ name: 'w', shape: [1], data: Float32Array.of(3) }],
        nodes: [{ op: 'Mul', inputs: ['x', 'w'], outputs: ['y'] }],
      },
    });
    await using network = await Network.load(ort, model);
    const run = network.run({ x: nd([[2]]), w: Float32Array.of(10) });
    await expectRefusal(run, TypeError, "got 'w'");
    expect(packed((await network.run({ x: nd([[2]]) })).y)).toEqual(Float32Array.of(6));
  });

  test.each([
    ['too low a rank', nd([1, 2, 3]), '[B, 3], got [3]'],
    ['too high a rank', nd([[[1, 2, 3]]]), '[B, 3], got [1, 1, 3]'],
    ['a wrong width', nd([[1, 2]]), '[B, 3], got [1, 2]'],
    ['a typed array, whose rank is 1', new Float32Array(3), '[B, 3], got [3]'],
  ])('of %s are a ShapeError with both shapes', async (_, feed, message) => {
    await expectRefusal(identity(feed), ShapeError, "input 'x'", message);
  });

  test('of a length fixed in the graph must have it', async () => {
    const run = identity(nd([[1, 2, 3]]), 'float32', [2, 3]);
    await expectRefusal(run, ShapeError, '[2, 3], got [1, 3]');
  });

  test('of an unnamed length may have any, shown as a question mark', async () => {
    expect((await identity(nd([[1], [2]]), 'float32', ['', 1])).shape).toEqual([2, 1]);
    await expectRefusal(identity(nd([[1, 2]]), 'float32', ['', 1]), ShapeError, '[?, 1]');
  });

  test('must give one symbolic length one value', async () => {
    await using network = await Network.load(ort, sum);
    const run = network.run({
      a: nd([[1, 2]]),
      b: nd([
        [1, 2],
        [3, 4],
      ]),
    });
    await expectRefusal(run, ShapeError, "'B' must have one value", 'got 1', "in 'b', 2");
    await expectRefusal(
      identity(nd([[1, 2]]), 'float32', ['N', 'N']),
      ShapeError,
      "'N' must have one value",
    );
  });

  test.each([
    ['plain numbers', [1, 2, 3]],
    ['a number', 1],
    ['a string', 'abc'],
    ['null', null],
    ['an object', {}],
    ['an ArrayBuffer', new ArrayBuffer(12)],
    ['an ndarray of plain numbers', ndarray([1, 2, 3], [1, 3])],
  ])('that are %s are a TypeError', async (_, feed) => {
    await expectRefusal(
      identity(feed),
      TypeError,
      "input 'x' must be a view, a typed array or a tensor",
    );
  });

  test('of another dtype are a TypeError that says how to convert', async () => {
    await expectRefusal(
      identity(nd(new Float64Array(3), [1, 3])),
      TypeError,
      "input 'x' is float32",
      'got a Float64Array',
      'Float32Array.from(data)',
    );
    await expectRefusal(
      identity(nd(new Int32Array(3), [1, 3]), 'int64'),
      TypeError,
      'BigInt64Array',
      'got a Int32Array',
    );
    await expectRefusal(identity(nd([[1, 0, 1]]), 'bool'), TypeError, 'bool', 'Uint8Array');
  });

  test('are views that stay within their data', async () => {
    const data = new Float32Array(3);
    const beyond: NdView[] = [
      { data, shape: [2, 3], stride: [3, 1], offset: 0 },
      { data, shape: [2, 3], stride: [1, 2], offset: 0 },
      { data, shape: [1, 3], stride: [3, 1], offset: 1 },
      { data, shape: [1, 3], stride: [3, -1], offset: 0 },
      { data, shape: [-1, 3], stride: [3, 1], offset: 0 },
      { data, shape: [1, 3], stride: [1], offset: 0 },
    ];
    for (const view of beyond) await expectRefusal(identity(view), ShapeError, "'x'");
  });
});

describe('an input takes', () => {
  const rows = [
    [1, 2, 3],
    [4, 5, 6],
  ];

  test('a view, also a strided one', async () => {
    expect(packed(await identity(nd(rows)))).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    const transposed = { data: Float32Array.of(1, 4, 2, 5, 3, 6), shape: [2, 3], stride: [1, 2] };
    expect(packed(await identity({ ...transposed, offset: 0 }))).toEqual(
      Float32Array.of(1, 2, 3, 4, 5, 6),
    );
    const middle = { data: Float32Array.of(9, 1, 2, 3, 9), shape: [1, 3], stride: [3, 1] };
    expect(packed(await identity({ ...middle, offset: 1 }))).toEqual(Float32Array.of(1, 2, 3));
  });

  test('an ndarray, as it is, transposed, sliced or reversed', async () => {
    const array = ndarray(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
    expect(packed(await identity(array))).toEqual(array.data);
    const tall = ndarray(Float32Array.of(1, 4, 2, 5, 3, 6), [3, 2]);
    expect(packed(await identity(tall.transpose(1, 0)))).toEqual(array.data);
    expect(packed(await identity(array.lo(1, 0)))).toEqual(Float32Array.of(4, 5, 6));
    expect(packed(await identity(array.step(1, -1)))).toEqual(Float32Array.of(3, 2, 1, 6, 5, 4));
  });

  test('a typed array where its rank is 1', async () => {
    const y = await identity(Float32Array.of(1, 2), 'float32', ['N']);
    expect(y.shape).toEqual([2]);
    expect(y.data).toEqual(Float32Array.of(1, 2));
  });

  test('a view of rank 0', async () => {
    const y = await identity(nd(Float32Array.of(7), []), 'float32', []);
    expect(y.shape).toEqual([]);
    expect([...y.data]).toEqual([7]);
  });

  test('a tensor of ONNX Runtime, checked as any feed', async () => {
    const tensor = new ort.Tensor('float32', Float32Array.of(1, 2, 3), [1, 3]);
    expect(packed(await identity(tensor))).toEqual(Float32Array.of(1, 2, 3));
    const wide = new ort.Tensor('float32', new Float32Array(4), [1, 4]);
    await expectRefusal(identity(wide), ShapeError, '[B, 3], got [1, 4]');
    const whole = new ort.Tensor('int32', new Int32Array(3), [1, 3]);
    await expectRefusal(identity(whole), TypeError, 'must be float32, got a int32 tensor');
  });

  test('no tensor that lies on another device, which would be read as garbage', async () => {
    for (const location of ['gpu-buffer', 'texture', 'ml-tensor', 'none']) {
      const tensor = { type: 'float32', dims: [1, 3], location, data: undefined, dispose() {} };
      await expectRefusal(identity(tensor), TypeError, "'x' must lie on the CPU", `'${location}'`);
    }
  });

  test('every dtype in its own typed array, and gives it back', async () => {
    const feeds: [OnnxDtype, TypedArray][] = [
      ['float32', Float32Array.of(1.5, -2, 0)],
      ['float64', Float64Array.of(1 / 3, -2, 0)],
      ['int8', Int8Array.of(-128, 0, 127)],
      ['int16', Int16Array.of(-32768, 0, 32767)],
      ['int32', Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1)],
      ['int64', BigInt64Array.of(-(2n ** 63n), 0n, 2n ** 63n - 1n)],
      ['uint8', Uint8Array.of(0, 1, 255)],
      ['uint16', Uint16Array.of(0, 1, 65535)],
      ['uint32', Uint32Array.of(0, 1, 2 ** 32 - 1)],
      ['uint64', BigUint64Array.of(0n, 1n, 2n ** 64n - 1n)],
      ['bool', Uint8Array.of(1, 0, 1)],
    ];
    for (const [dtype, data] of feeds) {
      const y = await identity({ data, shape: [1, 3], stride: [3, 1], offset: 0 }, dtype);
      expect(y.data, dtype).toEqual(data);
    }
  });

  test('bytes that are a Buffer, which is a Uint8Array', async () => {
    const y = await identity(nd(Buffer.from([1, 2, 255]), [1, 3]), 'uint8');
    expect([...y.data]).toEqual([1, 2, 255]);
  });
});

describe('float16', () => {
  test('is fed as bits, and widened when read', async () => {
    // 1, -2, 65504, the largest half
    const y = await identity(nd(Uint16Array.of(0x3c00, 0xc000, 0x7bff), [1, 3]), 'float16');
    expect(y.data).toEqual(Float32Array.of(1, -2, 65504));
  });

  test('is rounded from float32', async () => {
    // Halves near 1 are 2^-10 apart; 2^-11 is a tie and goes to the even neighbour.
    const y = await identity(nd([[1 + 2 ** -11, 1 + 3 * 2 ** -11, 70000]]), 'float16');
    expect(y.data).toEqual(Float32Array.of(1, 1 + 2 ** -9, Number.POSITIVE_INFINITY));
  });

  test('is rounded from a strided view too', async () => {
    const view = { data: Float32Array.of(1, 9, 2, 9, 3), shape: [1, 3], stride: [9, 2], offset: 0 };
    expect((await identity(view, 'float16')).data).toEqual(Float32Array.of(1, 2, 3));
  });

  test('is taken from a Float16Array', async () => {
    // Engines without one get a stand-in that carries its name and its bits.
    const { Float16Array } = globalThis as { Float16Array?: new (values: number[]) => Uint16Array };
    const values = Float16Array
      ? new Float16Array([1, -2, 0.5])
      : Object.defineProperty(Uint16Array.of(0x3c00, 0xc000, 0x3800), Symbol.toStringTag, {
          value: 'Float16Array',
        });
    const y = await identity(nd(values, [1, 3]), 'float16');
    expect(y.data).toEqual(Float32Array.of(1, -2, 0.5));
  });

  test('is not taken from float64', async () => {
    const feed = nd(new Float64Array(3), [1, 3]);
    await expectRefusal(identity(feed, 'float16'), TypeError, 'float16', 'Float64Array');
  });

  test('runs in a network exported in half precision', async () => {
    await using network = await Network.load(ort, toyEnsemble('float16'));
    expect(network.inputs[0].dtype).toBe('float16');
    const { y } = await network.run({ x: nd([[-0.97802734375, 0.2802734375, 0.2169189453125]]) });
    expect(y.data).toBeInstanceOf(Float32Array);
    expect(y.data).toBeAllclose([-0.224853515625, -0.12152099609375], { rtol: 1e-3, atol: 1e-4 });
  });
});

describe('a run', () => {
  test('of no rows gives no rows', async () => {
    const y = await identity(nd(new Float32Array(0), [0, 3]));
    expect(y.shape).toEqual([0, 3]);
    expect(y.data).toHaveLength(0);
  });

  test('passes NaN and infinities through', async () => {
    const values = Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
    expect((await identity(nd(values, [1, 3]))).data).toEqual(values);
  });

  test('gives memory of its own: not the feed’s, nor another run’s', async () => {
    await using network = await Network.load(ort, identityModel());
    const x = nd([[1, 2, 3]]);
    const first = (await network.run({ x })).y;
    const second = (await network.run({ x })).y;
    expect(new Set([x.data.buffer, first.data.buffer, second.data.buffer]).size).toBe(3);
    (second.data as Float32Array).fill(9);
    x.data.fill(8);
    expect([...first.data]).toEqual([1, 2, 3]);
  });

  test('answers its own question, however many are asked at once', async () => {
    await using network = await Network.load(ort, gemmModel({ weight: [2], bias: [1] }));
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => network.run({ x: nd([[i], [-i]]) })),
    );
    expect(answers.map(({ y }) => [...y.data])).toEqual(
      Array.from({ length: 50 }, (_, i) => [2 * i + 1, -2 * i + 1]),
    );
  });

  test('that fails leaves the next ones alone', async () => {
    // The lengths of `a` and `b` have two names, so only ONNX Runtime sees that they differ.
    const model = writeModel({
      graph: {
        inputs: [
          { name: 'a', shape: ['M'] },
          { name: 'b', shape: ['N'] },
        ],
        outputs: [{ name: 'y', shape: ['L'] }],
        nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['y'] }],
      },
    });
    await using network = await Network.load(ort, model);
    const two = Float32Array.of(1, 2);
    const [bad, unfit, good] = await Promise.allSettled([
      network.run({ a: two, b: Float32Array.of(1, 2, 3) }),
      network.run({ a: two }),
      network.run({ a: two, b: two }),
    ]);
    expect([bad.status, unfit.status, good.status]).toEqual(['rejected', 'rejected', 'fulfilled']);
    expect((await network.run({ a: two, b: two })).y.data).toEqual(Float32Array.of(2, 4));
  });
});

describe('dispose', () => {
  test('makes further runs a DisposedError', async () => {
    const network = await Network.load(ort, identityModel());
    await network.dispose();
    await expectRefusal(network.run({ x: nd([[1, 2, 3]]) }), DisposedError, 'load it again');
  });

  test('a second time does nothing', async () => {
    const network = await Network.load(ort, identityModel());
    await Promise.all([network.dispose(), network.dispose()]);
    await expect(network.dispose()).resolves.toBeUndefined();
    await expect(network[Symbol.asyncDispose]()).resolves.toBeUndefined();
  });

  test('lets the runs asked for so far finish', async () => {
    const network = await Network.load(ort, gemmModel({ weight: [2], bias: [1] }));
    const runs = Array.from({ length: 5 }, (_, i) => network.run({ x: nd([[i]]) }));
    const disposal = network.dispose();
    await expectRefusal(network.run({ x: nd([[9]]) }), DisposedError);
    expect((await Promise.all(runs)).map(({ y }) => y.data[0])).toEqual([1, 3, 5, 7, 9]);
    await disposal;
  });

  test('leaves results readable', async () => {
    const network = await Network.load(ort, identityModel());
    const { y } = await network.run({ x: nd([[1, 2, 3]]) });
    await network.dispose();
    expect([...y.data]).toEqual([1, 2, 3]);
  });

  test('comes at the end of an `await using` block', async () => {
    let kept: Network;
    {
      await using network = await Network.load(ort, identityModel());
      kept = network;
      expect((await network.run({ x: nd([[1, 2, 3]]) })).y.shape).toEqual([1, 3]);
    }
    await expectRefusal(kept.run({ x: nd([[1, 2, 3]]) }), DisposedError);
  });

  test('of one network leaves another of the same file alone', async () => {
    const model = identityModel();
    const first = await Network.load(ort, model);
    await using second = await Network.load(ort, model);
    await first.dispose();
    expect((await second.run({ x: nd([[1, 2, 3]]) })).y.shape).toEqual([1, 3]);
  });
});

describe('the outputs of a run', () => {
  test('are all, or those that are named', async () => {
    await using network = await Network.load(ort, toyEnsemble('shared'), { golden: false });
    const feed = { x: nd(new Float32Array(10), [2, 5]) };
    const all = await network.run(feed);
    expect(Object.keys(all).sort()).toEqual(['logVar', 'mean']);
    const one = await network.run(feed, ['mean']);
    expect(one).toEqual({ mean: all.mean });
    await expectRefusal(network.run(feed, ['mu']), TypeError, 'among mean, logVar', "got 'mu'");
  });
});
