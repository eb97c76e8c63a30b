import * as ort from 'onnxruntime-node';
import { type NdView, nd, ShapeError } from 'umwelt';
import { FormatError } from 'umwelt/formats';
import { DisposedError, ModelContractError, ModelLoadError } from 'umwelt/runtime';
import { Mamba2Stack, MambaStack, type SsmStack, SsmState } from 'umwelt/ssm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal, expectThrow } from '../runtime/refusal.js';
import { cut } from './arrays.js';
import { autoForm, graphForm, inputs, loadStack, STACKS, tiny, tinyStacks } from './stacks.js';

// biome-ignore lint/suspicious/noExplicitAny: what is refused here is what the types do not allow
type Any = any;

const [weights] = tinyStacks.mamba2;
const x = inputs(2, 3, 8, 1);
const flat = nd(new Float32Array(16), [2, 8]);
const flags = (...shape: number[]) => nd(new Uint8Array(shape.reduce((a, b) => a * b, 1)), shape);

let stack: SsmStack;
let other: SsmStack;
let state: SsmState;

beforeAll(async () => {
  stack = await tiny(weights, autoForm);
  other = await tiny(weights, graphForm);
  state = stack.initialState(2);
});

afterAll(() => state.release());

const notOurs = 'state must be one that this stack gave, got ';

describe('scan refuses', () => {
  test.each<[string, unknown[] | (() => unknown[]), typeof TypeError | typeof ShapeError, string]>([
    ['no inputs', [], TypeError, 'x must be a view [B, L, M], got undefined; make one with nd()'],
    ['an array', [[1, 2]], TypeError, 'x must be a view [B, L, M], got an array'],
    ['a typed array', [new Float32Array(48)], TypeError, 'got a Float32Array; make one with nd()'],
    [
      'float64',
      [nd(new Float64Array(48), [2, 3, 8])],
      TypeError,
      'x must be float32, got a [2,3,8] view of Float64Array; convert it',
    ],
    [
      'the inputs of a step',
      [flat],
      ShapeError,
      'x must have shape [B, L, M] = [B, L, 8], got [2, 8]',
    ],
    ['another width', [inputs(2, 3, 7, 1)], ShapeError, '= [B, L, 8], got [2, 3, 7]'],
    ['a view beyond its data', [{ ...x, offset: 5 }], ShapeError, 'a view within its 48 elements'],
    ['null for a state', [x, null], TypeError, `${notOurs}null; start with initialState(batch)`],
    ['options for a state', [x, { reset: flags(2, 3) }], TypeError, `${notOurs}an Object`],
    [
      "another stack's state",
      () => [x, other.initialState(2)],
      TypeError,
      `${notOurs}another stack's; start with initialState(batch), or bring a state over by ` +
        'restore(await state.serialise())',
    ],
    [
      'a state of more rows',
      () => [x, stack.initialState(3)],
      ShapeError,
      'state must have 2 rows as x has, got 3',
    ],
    ['null for options', () => [x, state, null], TypeError, 'options must be an object, got null'],
    [
      'misspelt options',
      () => [x, state, { resets: flags(2, 3) }],
      TypeError,
      "options must be among reset, got 'resets'",
    ],
    [
      'a typed array for resets',
      () => [x, state, { reset: new Uint8Array(6) }],
      TypeError,
      'reset must be a view [B, L] of 0 and 1, got a Uint8Array',
    ],
    ['null for resets', () => [x, state, { reset: null }], TypeError, 'of 0 and 1, got null'],
    [
      'turned resets',
      () => [x, state, { reset: flags(3, 2) }],
      ShapeError,
      'reset must have shape [B, L] = [2, 3], got [3, 2]',
    ],
    [
      'resets without steps',
      () => [x, state, { reset: flags(2) }],
      ShapeError,
      'reset must have shape [B, L] = [2, 3], got [2]',
    ],
    [
      'resets beyond their data',
      () => [x, state, { reset: { ...flags(2, 3), offset: 1 } }],
      ShapeError,
      'reset must be a view within its 6 elements',
    ],
  ])('%s', async (_, given, errorClass, message) => {
    const values = typeof given === 'function' ? given() : given;
    await expectRefusal((stack as Any).scan(...values), errorClass, 'scan: ', message);
  });

  test.each([2, 255, Number.NaN, 0.5])('resets of %d', async (flag) => {
    const reset = nd(Float32Array.of(0, 0, 0, flag, 0, 0), [2, 3]);
    const message = `scan: reset must hold 0 and 1, got ${flag} at [1, 0]`;
    await expectRefusal(stack.scan(x, state, { reset }), RangeError, message);
  });
});

describe('step refuses', () => {
  test.each<[string, unknown[] | (() => unknown[]), typeof TypeError | typeof ShapeError, string]>([
    ['no inputs', [], TypeError, 'x must be a view [B, M], got undefined; make one with nd()'],
    ['a sequence', [x], ShapeError, 'x must have shape [B, M] = [B, 8], got [2, 3, 8]'],
    ['another width', [inputs(1, 2, 7, 1)], ShapeError, 'x must have shape [B, M]'],
    ["another stack's state", () => [flat, other.initialState(2)], TypeError, notOurs],
    ['a state of fewer rows', () => [flat, stack.initialState(1)], ShapeError, 'have 2 rows as x'],
    [
      'misspelt options',
      () => [flat, state, { resetAll: 1 }],
      TypeError,
      "options must be among reset, got 'resetAll'",
    ],
    [
      'resets of too many rows',
      () => [flat, state, { reset: new Uint8Array(3) }],
      ShapeError,
      'reset must have shape [B] = [2], got [3]',
    ],
    [
      'the resets of a scan',
      () => [flat, state, { reset: flags(2, 1) }],
      ShapeError,
      'reset must have shape [B] = [2], got [2,1]',
    ],
    ['an array', () => [flat, state, { reset: [0, 1] }], TypeError, 'got an array'],
    [
      'halves',
      () => [flat, state, { reset: Float32Array.of(0, 0.5) }],
      RangeError,
      'got 0.5 at [1',
    ],
    ['null for resets', () => [flat, state, { reset: null }], TypeError, 'got null'],
    ['one flag for all', () => [flat, state, { reset: true }], TypeError, 'got boolean'],
  ])('%s', async (_, given, errorClass, message) => {
    const values = typeof given === 'function' ? given() : given;
    await expectRefusal((stack as Any).step(...values), errorClass, 'step: ', message);
  });

  test('resets of 3', async () => {
    const attempt = stack.step(flat, state, { reset: Uint8Array.of(0, 3) });
    await expectRefusal(attempt, RangeError, 'step: reset must hold 0 and 1, got 3');
  });
});

describe('initialState refuses', () => {
  test.each([-1, 1.5, Number.NaN, Infinity, '2', null, undefined])('a batch of %s', (batch) => {
    const message = `initialState: batch must be a non-negative integer, got ${batch}`;
    expectThrow(() => stack.initialState(batch as number), RangeError, message);
  });
});

describe('restore refuses', () => {
  const conv = 'layers.0.conv';
  const ssm = 'layers.0.ssm';
  const wanted =
    'arrays must be layers.0.conv, layers.0.ssm, layers.1.conv, layers.1.ssm; missing ';
  const changed = async (change: Record<string, unknown>) => ({
    ...(await state.toArrays()),
    ...change,
  });

  test.each([undefined, null, 3, 'state', new ArrayBuffer(8)])('%s', (saved) => {
    const message = 'restore: saved must be the bytes or the arrays of a state, got ';
    expectThrow(() => stack.restore(saved as Any), TypeError, message);
  });

  test('bytes that are no safetensors file', () => {
    expectThrow(() => stack.restore(new Uint8Array(20)), FormatError, 'readSafetensors: ');
  });

  test('arrays that are missing or unknown, naming all of them', async () => {
    const empty = `${wanted}layers.0.conv, layers.0.ssm, layers.1.conv, layers.1.ssm, unknown none`;
    expectThrow(() => stack.restore({}), TypeError, empty);
    const strange = await changed({ [conv]: undefined, 'layers.2.conv': x, [`x.${ssm}`]: x });
    const message = `${wanted}layers.0.conv, unknown layers.2.conv, x.layers.0.ssm`;
    expectThrow(() => stack.restore(strange as Any), TypeError, message);
  });

  test.each([
    [conv, new Float32Array(192), TypeError, 'must be a view ['],
    [ssm, 3, TypeError, 'must be a view ['],
    [
      ssm,
      nd(new Float64Array(256), [2, 2, 8, 8]),
      TypeError,
      'must be float32, got a [2,2,8,8] view',
    ],
    [ssm, nd(new Float32Array(256), [2, 8, 2, 8]), ShapeError, '= [2, 2, 8, 8], got [2, 8, 2, 8]'],
    [ssm, nd(new Float32Array(128), [1, 2, 8, 8]), ShapeError, '= [2, 2, 8, 8], got [1, 2, 8, 8]'],
    // One column more is taken, and its oldest dropped; two are not.
    [conv, nd(new Float32Array(320), [2, 32, 5]), ShapeError, '= [B, 32, 3], got [2, 32, 5]'],
    // Nor is one more of anything but a window.
    [ssm, nd(new Float32Array(288), [2, 2, 8, 9]), ShapeError, '= [2, 2, 8, 8], got [2, 2, 8, 9]'],
    [
      conv,
      { ...nd(new Float32Array(192), [2, 32, 3]), offset: 1 },
      ShapeError,
      'a view within its',
    ],
  ])('%s of another kind or shape', async (name, array, errorClass, message) => {
    const arrays = await changed({ [name]: array });
    expectThrow(() => stack.restore(arrays as Any), errorClass, `restore: ${name} `, message);
  });
});

describe('a state refuses', () => {
  test.each([
    [Int32Array.of(0, 2), "gather: rows must be among the state's 2, counted from 0, got 2 at 1"],
    [Int32Array.of(-1), 'got -1 at 0'],
  ])('to gather rows it does not have', async (rows, message) => {
    await expectRefusal(state.gather(rows), RangeError, message);
  });

  test('to gather from no rows', async () => {
    await expectRefusal(stack.initialState(0).gather(Int32Array.of(0)), RangeError, "state's 0");
  });

  test.each([[[1, 0]], [[0.5]], [undefined], [1], [new Uint8Array(1)]])(
    'to gather %s',
    async (rows) => {
      const message = 'gather: rows must be an Int32Array, got ';
      await expectRefusal(state.gather(rows as Any), TypeError, message);
    },
  );

  test('to be joined with nothing, or with what is no state of its stack', async () => {
    const join = (states: unknown) => SsmState.concat(states as Any);
    await expectRefusal(join([]), RangeError, 'concat: states must be at least one, got none');
    const kind = 'concat: states must be an array of states, got ';
    for (const states of [undefined, state, [state, null], [null], [{ batch: 2 }]]) {
      await expectRefusal(join(states), TypeError, kind);
    }
    const stranger = other.initialState(1);
    await expectRefusal(join([state, stranger]), TypeError, 'concat: states must be of one stack');
    stranger.release();
  });
});

describe('load refuses', () => {
  const load = (options: unknown, source: unknown = weights.tensors): Promise<SsmStack> =>
    loadStack('mamba2', source as Any, options as Any);

  test.each<[unknown, new (message: string) => Error, string]>([
    [{ form: 'fast' }, TypeError, "form must be 'auto', 'graph' or 'kernels', got 'fast'"],
    [{ form: null }, TypeError, "form must be 'auto', 'graph' or 'kernels', got 'null'"],
    [{ tile: 8 }, RangeError, 'tile must be a multiple of 16, got 8'],
    [{ tile: 40 }, RangeError, 'tile must be a multiple of 16, got 40'],
    [{ tile: 0 }, RangeError, 'tile must be a multiple of 16, got 0'],
    [{ tile: Infinity }, RangeError, 'tile must be a multiple of 16, got Infinity'],
    [{ tile: '16' }, RangeError, 'tile must be a multiple of 16, got 16'],
    [{ devices: [] }, RangeError, "devices must name at least one, such as 'cpu'"],
    [{ device: 'cpu' }, TypeError, "got 'device'"],
    [{ dtLimits: [0, 1] }, TypeError, "got 'dtLimits'"],
    [{ dtLimit: [1, 0] }, RangeError, 'dtLimit must be two bounds'],
    [{ dtRank: 3 }, TypeError, "'dtRank' is an option of MambaStack"],
    [
      { nGroups: 3 },
      ModelContractError,
      'got nGroups 3; pass the ngroups or n_groups of the training',
    ],
    [{ dState: 5 }, ModelContractError, 'dState must be 8 as in the weights with nGroups 1, got 5'],
    [null, TypeError, 'options must be an object, got null'],
    [{ finalNorm: 'yes' }, TypeError, 'finalNorm must be true or false, got "yes"'],
  ])('%j', async (options, errorClass, message) => {
    await expectRefusal(load(options), errorClass, 'Mamba2Stack.load: ', message);
  });

  test.each<[unknown, new (message: string) => Error, string]>([
    [{ memory: { byte: 3 } }, TypeError, "options must be among bytes, variant, got 'byte'"],
    [{ memory: { bytes: -1 } }, RangeError, 'bytes must be within 1..2147418112, got -1'],
    [
      { memory: { variant: 'fast' } },
      TypeError,
      "variant must be 'relaxed', 'simd' or 'scalar', got 'fast'",
    ],
    [
      { memory: { bytes: 100 }, form: 'kernels' },
      RangeError,
      'load the stack with memory: { bytes }',
    ],
  ])('%j', async (options, errorClass, message) => {
    await expectRefusal(load(options), errorClass, 'emory', message);
  });

  test.each([{ memory: 4 }, { memory: null }, { session: 3 }, { devices: 3 }, { devices: [3] }])(
    '%j, which is of the wrong kind',
    async (options) => {
      const [name] = Object.keys(options);
      await expectRefusal(load(options), TypeError, `Mamba2Stack.load: ${name} must be `);
    },
  );

  test('options of the other family', async () => {
    const [mamba] = tinyStacks.mamba;
    const attempt = loadStack('mamba', mamba.tensors, { nGroups: 2 });
    await expectRefusal(
      attempt,
      TypeError,
      'MambaStack.load: ',
      "'nGroups' is an option of Mamba2Stack",
    );
  });

  test('weights of the other family', async () => {
    const [mamba] = tinyStacks.mamba;
    const toOther = 'these look like Mamba-1 weights; load them with MambaStack';
    await expectRefusal(load({}, mamba.tensors), ModelContractError, 'Mamba2Stack.load: ', toOther);
    const back = 'these look like Mamba-2 weights; load them with Mamba2Stack';
    const attempt = loadStack('mamba', weights.tensors);
    await expectRefusal(attempt, ModelContractError, 'MambaStack.load: ', back);
  });

  test('folders of the other family, or of another model', async () => {
    const mamba2 = loadStack('mamba', `${STACKS}/mamba2-ssm`);
    await expectRefusal(mamba2, ModelContractError, 'got "Mamba2"; load it with Mamba2Stack');
    const mamba = loadStack('mamba2', `${STACKS}/mamba1-hf`);
    await expectRefusal(mamba, ModelContractError, 'got "mamba"; load it with MambaStack');
    const jamba = loadStack('mamba', `${STACKS}/jamba-mixer`);
    await expectRefusal(jamba, ModelContractError, 'got "jamba"; other models are not supported');
  });

  test('weights with missing and extra keys and wrong shapes, naming all', async () => {
    const tensors: Record<string, NdView> = { ...weights.tensors };
    delete tensors['layers.1.mixer.out_proj.weight'];
    tensors['layers.0.mixer.extra'] = flat;
    tensors['layers.0.norm.weight'] = cut(tensors['layers.0.norm.weight'], 0, 0, 7);
    await expectRefusal(
      load({}, tensors),
      ModelContractError,
      'missing keys: layers.1.mixer.out_proj.weight',
      'extra keys: layers.0.mixer.extra',
      'layers.0.norm.weight: must be [8], got [7]',
    );
  });

  test('anything else in the place of the runtime or the source', async () => {
    const must = 'ort must be the ONNX Runtime module, got ';
    for (const stranger of [undefined, null, {}, weights.tensors]) {
      const attempt = (Mamba2Stack as Any).load(stranger, weights.tensors);
      await expectRefusal(attempt, TypeError, must);
    }
    const source =
      'source must be a path, a URL, the bytes of a safetensors file or tensors by key';
    await expectRefusal((MambaStack as Any).load(ort), TypeError, source);
  });

  test('a device that is not there, but for the next', async () => {
    const attempt = load({ devices: 'nonsense' });
    await expectRefusal(
      attempt,
      ModelLoadError,
      'Mamba2Stack.load: no device could load the stack (nonsense: ',
    );
    await using second = await load({ devices: ['nonsense', 'cpu'] });
    expect(second.device).toBe('cpu');
    expect(second.failures.map(({ device }) => device)).toEqual(['nonsense']);
    expect([stack.device, stack.failures]).toEqual(['cpu', []]);
  });
});

test('a stack tells its sizes', async () => {
  expect([stack.dModel, stack.nLayers]).toEqual([8, 2]);
  const [, odd] = tinyStacks.mamba;
  const mamba = await tiny(odd, graphForm);
  expect([mamba.dModel, mamba.nLayers]).toEqual([5, 1]);
  expect(mamba).toBeInstanceOf(MambaStack);
});

describe('what is easily mistaken', () => {
  const load = (source: unknown) => loadStack('mamba2', source as Any);

  test.each<[string, unknown, string]>([
    ['an ArrayBuffer', new ArrayBuffer(64), 'got an ArrayBuffer'],
    ['a promise of the bytes', Promise.resolve(new Uint8Array(64)), 'got a Promise without any'],
    ['a Map', new Map([['a', x]]), 'got a Map without any'],
    ['the contents of a file', { tensors: weights.tensors, metadata: {} }, 'pass their `tensors`'],
  ])('for tensors by key: %s', async (_, source, message) => {
    await expectRefusal(load(source), TypeError, 'load: source must ', message);
  });

  test('what torch.save writes for safetensors', async () => {
    const zip = Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 0, 0, 0, 0);
    await expectRefusal(load(zip), ModelLoadError, 'got a zip archive', 'torch.save_file(');
  });

  test('new for load', () => {
    expectThrow(() => new (Mamba2Stack as Any)(), TypeError, 'must be loaded: await ');
  });

  test('a promise of a saved state for the state', () => {
    const promise = state.serialise();
    expectThrow(() => stack.restore(promise as Any), TypeError, 'got a Promise; await it first');
    return promise;
  });

  test('a view of resets for a typed array of them, which step takes too', async () => {
    const reset = Uint8Array.of(1, 0);
    const typed = await stack.step(flat, state, { reset });
    const strided = nd(Uint8Array.of(1, 9, 0, 9), [2, 2]);
    const view = { ...strided, shape: [2], stride: [2] };
    const viewed = await stack.step(flat, state, { reset: view });
    expect(viewed.y.data).toEqual(typed.y.data);
    typed.state.release();
    viewed.state.release();
  });

  test('a stack that was disposed of for one that is alive', async () => {
    const dead = await tiny(weights, graphForm);
    const saved = await dead.initialState(1).serialise();
    await dead.dispose();
    expectThrow(() => dead.initialState(1), DisposedError, 'initialState: the stack must be alive');
    expectThrow(() => dead.restore(saved), DisposedError, 'restore: the stack must be alive');
  });
});

test('weights may change after they were loaded, whichever form comes to be loaded later', async () => {
  const copies = Object.fromEntries(
    Object.entries(weights.tensors).map(([key, view]) => [key, nd(view.data.slice(), view.shape)]),
  );
  await using mine = await loadStack('mamba2', copies, weights.config);
  await using theirs = await loadStack('mamba2', weights.tensors, weights.config);
  for (const { data } of Object.values(copies)) data.fill(0);
  const many = inputs(20, 3, 8, 1);
  const [a, b] = [await mine.scan(many), await theirs.scan(many)];
  expect(a.y.data).toEqual(b.y.data);
  expect(a.y.data.some((value) => value !== 0)).toBe(true);
});
