import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as ort from 'onnxruntime-node';
// The WebAssembly build of browsers, which runs in Node too.
import * as web from 'onnxruntime-web/wasm';
import { type NdView, nd, packed, ShapeError } from 'umwelt';
import { readNpz } from 'umwelt/formats';
import { GraphBuilder, type ModelSpec, type OnnxDtype, writeModel } from 'umwelt/onnx';
import { DisposedError, ModelContractError, ModelLoadError, type Ort } from 'umwelt/runtime';
import { type ExportedOptions, Mamba2Stack, MambaStack, type SsmStack, SsmState } from 'umwelt/ssm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal } from '../runtime/refusal.js';
import { serve } from '../runtime/serve.js';
import { cut, elements, relativeRms, rowsOf } from './arrays.js';
import {
  expectBits,
  expectClose,
  type FamilyName,
  families,
  forms,
  inputs,
  loadStack,
  mapArrays,
  type Outcome,
  outcome,
  resets,
  rowsOfOutcome,
  STACKS,
  scan,
  scanPieces,
  startOf,
  tinyStacks,
} from './stacks.js';

const ONNX = fileURLToPath(new URL('../fixtures/ssm/onnx', import.meta.url));

/** Graphs that make_onnx.py exported, and the weights it exported them from. */
interface Fixture {
  readonly name: string;
  readonly family: FamilyName;
  readonly weights: string;
}

const fixtures: readonly Fixture[] = [
  { name: 'mamba1-step-k1', family: 'mamba', weights: 'mamba1-ssm' },
  { name: 'mamba2-step-k', family: 'mamba2', weights: 'mamba2-ssm' },
  { name: 'mamba2-sequence-k1', family: 'mamba2', weights: 'mamba2-ssm' },
];

/** The taps of the fixtures' convolutions, K. */
const TAPS = 4;

type Source = string | URL | Uint8Array;

function loadExported(
  family: FamilyName,
  source: Source,
  options: ExportedOptions = {},
  runtime: Ort = ort,
): Promise<SsmStack> {
  return (family === 'mamba' ? MambaStack : Mamba2Stack).load(runtime, source, options);
}

const pathOf = ({ name }: Fixture): string => join(ONNX, `${name}.onnx`);

const stacks = new Map<string, Promise<SsmStack>>();

/** A fixture's stack, loaded once. */
function stackOf(fixture: Fixture): Promise<SsmStack> {
  let stack = stacks.get(fixture.name);
  if (stack === undefined) {
    stack = loadExported(fixture.family, pathOf(fixture));
    stacks.set(fixture.name, stack);
  }
  return stack;
}

afterAll(async () => {
  for (const stack of stacks.values()) await (await stack).dispose();
});

interface Golden {
  /** `[B, L, M]`. */
  readonly x: NdView;
  /** `[B, L, M]`, of the formulas in float64. */
  readonly y64: Float64Array;
  /** By the names of a state's arrays; windows as wide as the graph has them. */
  readonly before: Record<string, NdView>;
  /** The same after the last step, windows of K - 1 columns. */
  readonly after: Record<string, NdView>;
}

function goldenOf({ name }: Fixture): Golden {
  const arrays = readNpz(readFileSync(join(ONNX, `${name}.npz`)));
  const named = (when: string) =>
    Object.entries(arrays)
      .filter(([key]) => key.startsWith(when))
      .map(([key, view]): [string, NdView] => {
        const part = key.includes('conv') ? 'conv' : 'ssm';
        return [`layers.${key.match(/\d+/)?.[0]}.${part}`, view as NdView];
      });
  return {
    x: arrays.x as NdView,
    y64: arrays.y64.data as Float64Array,
    before: Object.fromEntries(named('past')),
    after: mapNamed(Object.fromEntries(named('present')), (view, key) =>
      key.endsWith('.conv') ? cut(view, 2, view.shape[2] - (TAPS - 1), view.shape[2]) : view,
    ),
  };
}

function mapNamed(
  arrays: Readonly<Record<string, NdView>>,
  change: (view: NdView, name: string) => NdView,
): Record<string, NdView> {
  return Object.fromEntries(
    Object.entries(arrays).map(([name, view]) => [name, change(view, name)]),
  );
}

function expectGolden({ y, state }: Outcome, { y64, after }: Golden): void {
  expect(relativeRms(packed(y), y64)).toBeLessThan(1e-6);
  expect(Object.keys(state).sort()).toEqual(Object.keys(after).sort());
  for (const [name, view] of Object.entries(after)) {
    expect(state[name].shape).toEqual(view.shape);
    expect(relativeRms(elements(state[name]), elements(view)), name).toBeLessThan(1e-6);
  }
}

const everyStep = (steps: number) => Array.from({ length: steps }, (_, t) => t + 1);

/** Every way to cut a sequence, as the ends of the pieces. */
function allCuts(steps: number): number[][] {
  return Array.from({ length: 2 ** (steps - 1) }, (_, bits) =>
    everyStep(steps).filter((end) => end === steps || (bits >> (end - 1)) & 1),
  );
}

/** A state's arrays with NaN and infinities all over some rows. */
function poisoned(view: NdView, rows: readonly number[]): NdView {
  const data = elements(view);
  const width = data.length / view.shape[0];
  const poison = [Number.NaN, Infinity, -Infinity];
  for (const row of rows) {
    for (let i = 0; i < width; i++) data[row * width + i] = poison[i % 3];
  }
  return nd(data, view.shape);
}

/** `[B, L]` with ones at some places. */
function flags(batch: number, steps: number, ...at: (readonly [number, number])[]) {
  const reset = nd(new Uint8Array(batch * steps), [batch, steps]);
  for (const [row, t] of at) reset.data[row * steps + t] = 1;
  return reset;
}

/** One after another, each from the state before in which the rows of that step's resets are zeros. */
async function scanByHand(
  stack: SsmStack,
  x: NdView,
  start: SsmState,
  reset: NdView<Uint8Array>,
): Promise<Outcome> {
  const [batch, steps, width] = x.shape;
  const y = nd(new Float32Array(batch * steps * width), x.shape);
  const zero = stack.initialState(1);
  let state = await start.clone();
  for (let t = 0; t < steps; t++) {
    const rows: SsmState[] = [];
    for (let row = 0; row < batch; row++) {
      const starts = reset.data[row * steps + t] === 1;
      rows.push(starts ? await zero.clone() : await state.gather(Int32Array.of(row)));
    }
    const fresh = await SsmState.concat(rows);
    const next = await stack.scan(cut(x, 1, t, t + 1), fresh);
    for (const each of [...rows, fresh, state]) each.release();
    state = next.state;
    const column = elements(next.y);
    for (let row = 0; row < batch; row++) {
      y.data.set(column.subarray(row * width, (row + 1) * width), (row * steps + t) * width);
    }
  }
  zero.release();
  return outcome({ y, state });
}

describe.each(fixtures)('the exported graph $name', (fixture) => {
  const golden = goldenOf(fixture);
  const { x } = golden;
  const [batch, steps, width] = x.shape;
  /** Steps one by one are the same runs of a step's graph however they are asked for. */
  const expectSame = fixture.name.includes('step') ? expectBits : expectClose;
  let stack: SsmStack;
  let start: SsmState;

  beforeAll(async () => {
    stack = await stackOf(fixture);
    start = stack.restore(golden.before);
  });

  test('has the sizes it shows', () => {
    expect([stack.dModel, stack.nLayers, stack.device, stack.failures]).toEqual([
      width,
      2,
      'cpu',
      [],
    ]);
  });

  test('agrees with the formulas in float64, at once and in any pieces', async () => {
    expectGolden(await scan(stack, x, start), golden);
    for (const ends of allCuts(steps)) {
      expectGolden(await scanPieces(stack, x, ends, start), golden);
    }
  });

  test('agrees with the formulas in float64 step by step', async () => {
    const y = new Float32Array(batch * steps * width);
    let state = await start.clone();
    for (let t = 0; t < steps; t++) {
      const now = cut(x, 1, t, t + 1);
      const next = await stack.step(
        { ...now, shape: [batch, width], stride: [x.stride[0], 1] },
        state,
      );
      expect(next.y.shape).toEqual([batch, width]);
      state.release();
      state = next.state;
      for (let row = 0; row < batch; row++) {
        const part = packed(next.y).subarray(row * width, (row + 1) * width);
        y.set(part, (row * steps + t) * width);
      }
    }
    expectGolden(await outcome({ y: nd(y, x.shape), state }), golden);
  });

  test('gives the same in pieces, from its own zeros and for many rows', async () => {
    for (const rows of [1, 3, 17]) {
      const many = inputs(rows, 6, width, rows);
      const whole = await scan(stack, many);
      const zeros = stack.initialState(rows);
      expectBits(await scan(stack, many, zeros), whole);
      expectSame(await scanPieces(stack, many, everyStep(6), zeros), whole);
      expectSame(await scanPieces(stack, many, [2, 3, 6], zeros), whole);
      zeros.release();
    }
  });

  test('takes states whose windows are K or K - 1 wide', async () => {
    const expected = await scan(stack, x, start);
    for (const oldest of [0, 1e30, Number.NaN]) {
      const wide = mapNamed(golden.before, (view, name) => {
        if (!name.endsWith('.conv')) return view;
        const [, channels, columns] = view.shape;
        const newest = cut(view, 2, columns - (TAPS - 1), columns);
        const data = new Float32Array(batch * channels * TAPS).fill(oldest);
        elements(newest).forEach((value, i) => {
          data[Math.floor(i / (TAPS - 1)) * TAPS + 1 + (i % (TAPS - 1))] = value;
        });
        return nd(data, [batch, channels, TAPS]);
      });
      const state = stack.restore(wide);
      expectBits(await scan(stack, x, state), expected);
      state.release();
    }
    const narrow = stack.restore(await start.toArrays());
    expectBits(await scan(stack, x, narrow), expected);
    narrow.release();
  });

  test('keeps states that can be gathered, joined, serialised and restored', async () => {
    const transposed = await start.gather(Int32Array.of(1, 0, 1));
    const joined = await SsmState.concat([start, transposed]);
    const bytes = await joined.serialise();
    const restored = stack.restore(bytes);
    expect(await restored.serialise()).toEqual(bytes);
    const order = [0, 1, 1, 0, 1];
    const five = rowsOf(x, order);
    const whole = await scan(stack, x, start);
    const expected = rowsOfOutcome(whole, order);
    for (const state of [joined, restored]) {
      expect(state.batch).toBe(5);
      expectClose(await scan(stack, five, state), expected);
    }
    expectBits(await scan(stack, five, restored), await scan(stack, five, joined));
    const none = await start.gather(new Int32Array(0));
    expect((await scan(stack, cut(x, 0, 0, 0), none)).y.shape).toEqual([0, steps, width]);
    for (const state of [transposed, joined, restored, none]) state.release();
  });

  test('has states shaped as everybody knows them', async () => {
    const arrays = await start.toArrays();
    const shapes = Object.entries(arrays).map(([name, { shape }]) => [name, shape]);
    const ssm = fixture.family === 'mamba' ? [48, 16] : [6, 8, 16];
    const channels = fixture.family === 'mamba' ? 48 : 112;
    expect(shapes).toEqual([
      ['layers.0.conv', [batch, channels, TAPS - 1]],
      ['layers.0.ssm', [batch, ...ssm]],
      ['layers.1.conv', [batch, channels, TAPS - 1]],
      ['layers.1.ssm', [batch, ...ssm]],
    ]);
    // Element by element: the newest columns of the windows, and the scan states as they are.
    for (const [name, view] of Object.entries(golden.before)) {
      const columns = view.shape[2];
      const kept = name.endsWith('.conv') ? cut(view, 2, columns - (TAPS - 1), columns) : view;
      expect(elements(arrays[name])).toEqual(elements(kept));
    }
  });

  test.each(forms)(
    'hands states to and takes them from the stack of its weights, $name',
    async ({ options }) => {
      const other = await loadStack(fixture.family, `${STACKS}/${fixture.weights}`, options);
      const there = other.restore(await start.serialise());
      expectGolden(await scan(other, x, there), golden);
      for (const [from, to, begin] of [
        [stack, other, start],
        [other, stack, there],
      ] as const) {
        for (let at = 1; at < steps; at++) {
          const first = await from.scan(cut(x, 1, 0, at), begin);
          const bytes = await first.state.serialise();
          const moved = to.restore(bytes);
          expect(await moved.serialise()).toEqual(bytes);
          const { y, state } = await scan(to, cut(x, 1, at, steps), moved);
          const both = nd(new Float32Array(batch * steps * width), x.shape);
          const [a, b] = [elements(first.y), elements(y)];
          for (let row = 0; row < batch; row++) {
            const [n, m] = [at * width, (steps - at) * width];
            both.data.set(a.subarray(row * n, (row + 1) * n), row * steps * width);
            both.data.set(b.subarray(row * m, (row + 1) * m), row * steps * width + n);
          }
          expectGolden({ y: both, state }, golden);
          first.state.release();
          moved.release();
        }
      }
      await expectRefusal(other.scan(x, start), TypeError, "got another stack's");
      await other.dispose();
    },
  );

  test('starts rows anew wherever they are told to', async () => {
    const [rows, length] = [4, 5];
    const many = inputs(rows, length, width, 3);
    const dirty = startOf(stack, rows, 4);
    const all = [0, 1, 2, 3];
    const cases = {
      'at the first step': flags(rows, length, [0, 0], [2, 0]),
      inside: flags(rows, length, [1, 2]),
      'at the last step': flags(rows, length, [3, 4]),
      'several rows, apart and together': flags(rows, length, [0, 1], [1, 3], [2, 3], [0, 4]),
      'every row at the first step': flags(rows, length, ...all.map((row) => [row, 0] as const)),
      'every row at every step': nd(new Uint8Array(rows * length).fill(1), [rows, length]),
      never: flags(rows, length),
      'at random': resets(rows, length, 5),
    };
    for (const reset of Object.values(cases)) {
      const actual = await scan(stack, many, dirty, { reset });
      expectSame(actual, await scanByHand(stack, many, dirty, reset));
      for (const ends of [everyStep(length), [2, 5], [1, 4, 5]]) {
        expectSame(await scanPieces(stack, many, ends, dirty, reset), actual);
      }
      // After its last reset, a row is what it is alone from a fresh state.
      for (const row of all) {
        const at = reset.data.subarray(row * length, (row + 1) * length).lastIndexOf(1);
        if (at < 0) continue;
        const alone = await scan(stack, cut(cut(many, 0, row, row + 1), 1, at, length));
        const own = rowsOfOutcome(actual, [row]);
        expectClose({ ...own, y: cut(own.y, 1, at, length) }, alone);
      }
    }
    const first = cases['every row at the first step'];
    expectBits(await scan(stack, many, dirty, { reset: first }), await scan(stack, many));
    const never = await scan(stack, many, dirty, { reset: cases.never });
    expectBits(never, await scan(stack, many, dirty));
    dirty.release();
  });

  test('is clean of a poisoned state after a reset, and keeps poison to its row', async () => {
    const [rows, length] = [3, 5];
    const many = inputs(rows, length, width, 6);
    const sound = startOf(stack, rows, 7);
    const bad = stack.restore(mapArrays(await sound.toArrays(), (view) => poisoned(view, [1])));
    const spoilt = await scan(stack, many, bad);
    expect(elements(rowsOfOutcome(spoilt, [1]).y).every(Number.isFinite)).toBe(false);
    expectBits(
      rowsOfOutcome(spoilt, [0, 2]),
      rowsOfOutcome(await scan(stack, many, sound), [0, 2]),
    );
    for (const at of [0, 2, 4]) {
      const reset = flags(rows, length, [1, at]);
      const actual = await scan(stack, many, bad, { reset });
      const expected = await scan(stack, many, sound, { reset });
      expectBits(
        { ...actual, y: cut(actual.y, 1, at, length) },
        {
          ...expected,
          y: cut(expected.y, 1, at, length),
        },
      );
    }
    sound.release();
    bad.release();
  });

  test('takes nothing: no steps leave the state, no rows are no rows', async () => {
    const empty = await scan(stack, cut(x, 1, 0, 0), start);
    expect(empty.y.shape).toEqual([batch, 0, width]);
    expectBits(empty, { ...empty, state: await start.toArrays() });
    const none = await stack.scan(cut(x, 0, 0, 0));
    expect([none.y.shape, none.state.batch]).toEqual([[0, steps, width], 0]);
    const grown = await SsmState.concat([none.state, start]);
    expectBits(await scan(stack, x, grown), await scan(stack, x, start));
    const step = await stack.step(nd(new Float32Array(0), [0, width]), none.state);
    expect(step.y.shape).toEqual([0, width]);
    for (const state of [none.state, grown, step.state]) state.release();
  });

  test('never consumes a state, nor writes to it or to the inputs', async () => {
    const bytes = await start.serialise();
    const given = nd(elements(x), x.shape);
    const reset = flags(batch, steps, [0, 0], [1, 1]);
    const expected = await scan(stack, given, start, { reset });
    for (let i = 0; i < 3; i++) {
      expectBits(await scan(stack, given, start, { reset }), expected);
      await scan(stack, given, start);
    }
    expect(await start.serialise()).toEqual(bytes);
    expect(elements(given)).toEqual(elements(x));
    // Nor is one result another's memory.
    const one = await stack.scan(given, start);
    const before = elements(one.y);
    const kept = await one.state.serialise();
    const two = await stack.scan(inputs(batch, steps, width, 8), one.state, { reset });
    expect(elements(one.y)).toEqual(before);
    expect(await one.state.serialise()).toEqual(kept);
    one.state.release();
    two.state.release();
  });

  test('may be asked for many things at once', async () => {
    const jobs = Array.from({ length: 12 }, (_, i) => ({
      x: inputs(1 + (i % 3), 1 + (i % 4), width, i),
      start: startOf(stack, 1 + (i % 3), 100 + i),
      reset: i % 2 === 0 ? { reset: resets(1 + (i % 3), 1 + (i % 4), i) } : {},
    }));
    const expected: Outcome[] = [];
    for (const job of jobs) expected.push(await scan(stack, job.x, job.start, job.reset));
    const attempts = jobs.map((job) => scan(stack, job.x, job.start, job.reset));
    // What is under way holds a state of its own.
    for (const { start: used } of jobs) used.release();
    for (const [i, actual] of (await Promise.all(attempts)).entries()) {
      expectBits(actual, expected[i]);
    }
  });

  test('ends what was asked for before it is disposed of, and refuses what comes after', async () => {
    const other = await loadExported(fixture.family, pathOf(fixture));
    const expected = await scan(stack, x, start);
    const state = other.restore(await start.serialise());
    const attempts = [1, 2, 3].map(() => scan(other, x, state));
    const disposal = other.dispose();
    await expectRefusal(other.scan(x, state), DisposedError, 'scan: the stack must be alive');
    for (const attempt of attempts) expectBits(await attempt, expected);
    await disposal;
    await turn();
    await other.dispose();
  });
});

test.each(fixtures)('$name runs no more often than it must', async (fixture) => {
  let runs = 0;
  const counting = {
    ...ort,
    InferenceSession: {
      create: async (...rest: Parameters<typeof ort.InferenceSession.create>) => {
        const session = await ort.InferenceSession.create(...rest);
        return {
          run: (...feeds: Parameters<typeof session.run>) => {
            runs++;
            return session.run(...feeds);
          },
          release: () => session.release(),
        };
      },
    },
  } as unknown as Ort;
  await using stack = await loadExported(fixture.family, pathOf(fixture), {}, counting);
  const isStep = fixture.name.includes('step');
  const x = inputs(2, 6, stack.dModel, 1);
  const reset = flags(2, 6, [0, 0], [0, 2], [1, 2], [1, 5]);
  await scan(stack, x);
  expect(runs).toBe(isStep ? 6 : 1);
  await scan(stack, x, undefined, { reset });
  expect(runs).toBe(isStep ? 12 : 1 + 3);
});

test('the oldest column of a window K wide has had its time, whatever it holds', async () => {
  const [, fixture] = fixtures;
  const stack = await stackOf(fixture);
  const { x, before } = goldenOf(fixture);
  const start = stack.restore(before);
  const expected = await scan(stack, x, start);
  const spoilt = stack.restore(before);
  stack.initialState(0).home.parts.forEach((part, p) => {
    if (!part.name.endsWith('.conv')) return;
    // The graph's own array, [B, C, K], which no public array shows.
    const data = spoilt.arrays[p] as Float32Array;
    expect(part.dims).toEqual([112, TAPS]);
    for (let i = 0; i < data.length; i += TAPS) data[i] = Number.NaN;
  });
  expectBits(await scan(stack, x, spoilt), expected);
  expect(await spoilt.serialise()).toEqual(await start.serialise());
  const rows = await spoilt.gather(Int32Array.of(0, 1));
  expectBits(await scan(stack, x, rows), expected);
  for (const state of [start, spoilt, rows]) state.release();
});

// Graphs written here: a recurrence that is stepped by hand beside them.

interface Toy {
  readonly family: FamilyName;
  readonly names?: {
    readonly x?: string;
    readonly y?: string;
    readonly conv?: readonly [string, string];
    readonly ssm?: readonly [string, string];
  };
  readonly layers?: number;
  /** Taps. */
  readonly K?: number;
  /** Whether windows have K columns. */
  readonly isWide?: boolean;
  readonly isTransposed?: boolean;
  /** Whether x and y are [B, 1, M]. */
  readonly isRank3?: boolean;
  /** Whether the weights of the convolution show K. */
  readonly showsTaps?: boolean;
  /** Names of outputs beside y and the states, each twice y. */
  readonly extra?: readonly string[];
  /** Whether outputs come without a shape, and those of the states this many times as long. */
  readonly isVague?: boolean;
  /** The length of the batch. */
  readonly batch?: number | string;
}

const community = {
  x: 'inputs_embeds',
  y: 'last_hidden_state',
  conv: ['past_conv.{i}', 'present_conv.{i}'],
  ssm: ['past_ssm.{i}', 'present_ssm.{i}'],
} as const;

const HEADS = 2;
const CHANNELS = 6; // D, and M
const STATE_SIZE = 5; // N
const DECAY = 0.75;

const tapsOf = (taps: number) => inputs(1, CHANNELS, taps, 70 + taps).data.slice() as Float32Array;
const entries = inputs(1, 1, STATE_SIZE, 71).data as Float32Array;

/**
 * For each layer: c = sum of the last K inputs with weights, h = DECAY h + c entries, y = x + sum of h
 * over N.
 */
function toySpec(toy: Toy): ModelSpec {
  const { family, layers = 2, K = TAPS, isWide = false, isTransposed = false } = toy;
  const { isRank3 = false, showsTaps = true, extra = [], isVague = false, batch = 'B' } = toy;
  const names = { ...community, ...toy.names };
  const shaped = (shape: (number | string)[]) => (isVague ? null : shape);
  const g = new GraphBuilder();
  const ints = (...values: number[]) =>
    g.constant(BigInt64Array.from(values, BigInt), [values.length]);
  const [C, N] = [CHANNELS, STATE_SIZE];
  const [M, P] = [C, C / HEADS];
  const xShape = isRank3 ? [batch, 1, M] : [batch, M];
  let u = g.input(names.x, xShape);
  if (isRank3) u = g.op('Squeeze', [u, ints(1)]);
  const inner = family === 'mamba' ? [C] : [HEADS, P];
  const axes = inner.length;
  // What one number of c is multiplied by lies along N, before or after the channels.
  const spread = isTransposed ? [...inner.slice(0, -1), 1, inner[axes - 1]] : [...inner, 1];
  const rowShape = isTransposed ? [...inner.slice(0, -1), N, inner[axes - 1]] : [...inner, N];
  const width = isWide ? K : K - 1;
  for (let i = 0; i < layers; i++) {
    const at = (pattern: string) => pattern.replaceAll('{i}', String(i));
    let window = g.input(at(names.conv[0]), [batch, C, width]);
    const state = g.input(at(names.ssm[0]), [batch, ...rowShape]);
    if (isWide) window = g.op('Slice', [window, ints(1), ints(K), ints(2)]);
    window = g.op('Concat', [window, g.op('Unsqueeze', [u, ints(2)])], { axis: { int: 2 } });
    const weights = showsTaps
      ? g.op('Squeeze', [g.constant(tapsOf(K), [C, 1, K], `taps.${i}`), ints(1)])
      : g.constant(tapsOf(K), [C, K]);
    const c = g.op('ReduceSum', [g.op('Mul', [window, weights]), ints(2)], {
      keepdims: { int: 0 },
    });
    if (isWide) g.op('Identity', [window], {}, { output: at(names.conv[1]) });
    else g.op('Slice', [window, ints(1), ints(K), ints(2)], {}, { output: at(names.conv[1]) });
    g.output(at(names.conv[1]), shaped([batch, C, width]));
    const along = g.constant(entries, isTransposed ? [N, 1] : [N]);
    const entry = g.op('Mul', [g.op('Reshape', [c, ints(-1, ...spread)]), along]);
    const decayed = g.op('Mul', [state, g.constant(Float32Array.of(DECAY), [])]);
    const next = g.op('Add', [decayed, entry], {}, { output: at(names.ssm[1]) });
    g.output(at(names.ssm[1]), shaped([batch, ...rowShape]));
    const sum = g.op('ReduceSum', [next, ints(isTransposed ? -2 : -1)], { keepdims: { int: 0 } });
    u = g.op('Add', [u, g.op('Reshape', [sum, ints(-1, C)])]);
  }
  for (const name of extra) {
    g.op('Add', [u, u], {}, { output: name });
    g.output(name, [batch, M]);
  }
  if (isRank3) g.op('Unsqueeze', [u, ints(1)], {}, { output: names.y });
  else g.op('Identity', [u], {}, { output: names.y });
  g.output(names.y, shaped(xShape));
  return g.spec();
}

/** The same in float64 from zeros: y `[B, L, M]`, windows `[B, C, K - 1]`, states `[B, C, N]`. */
function toyByHand(x: NdView, layers: number, K: number) {
  const [batch, steps] = x.shape;
  const [C, N] = [CHANNELS, STATE_SIZE];
  const u = Float64Array.from(packed(x));
  const taps = tapsOf(K);
  const windows: Float64Array[] = [];
  const states: Float64Array[] = [];
  for (let i = 0; i < layers; i++) {
    const window = new Float64Array(batch * C * (K - 1));
    const state = new Float64Array(batch * C * N);
    for (let row = 0; row < batch * C; row++) {
      const [b, c] = [Math.floor(row / C), row % C];
      const own = new Array<number>(K).fill(0);
      for (let t = 0; t < steps; t++) {
        own.shift();
        own.push(u[(b * steps + t) * C + c]);
        const conv = own.reduce((sum, value, k) => sum + value * taps[c * K + k], 0);
        for (let n = 0; n < N; n++) {
          state[row * N + n] = DECAY * state[row * N + n] + conv * entries[n];
          u[(b * steps + t) * C + c] += state[row * N + n];
        }
      }
      window.set(own.slice(1), row * (K - 1));
    }
    windows.push(window);
    states.push(state);
  }
  return { y: u, windows, states };
}

async function expectToy(stack: SsmStack, toy: Toy, batch = 3): Promise<void> {
  const { layers = 2, K = TAPS } = toy;
  const x = inputs(batch, 6, CHANNELS, 5);
  const exact = toyByHand(x, layers, K);
  expect([stack.nLayers, stack.dModel]).toEqual([layers, CHANNELS]);
  const ssm = toy.family === 'mamba' ? [CHANNELS] : [HEADS, CHANNELS / HEADS];
  const zero = stack.initialState(batch);
  // At once, and through states as everybody sees them.
  const whole = await scan(stack, x);
  let state = zero;
  const ys: Outcome[] = [];
  for (const [from, to] of [
    [0, 1],
    [1, 4],
    [4, 6],
  ]) {
    const piece = await outcome(await stack.scan(cut(x, 1, from, to), state));
    ys.push(piece);
    state = stack.restore(piece.state);
  }
  const last = ys[ys.length - 1];
  expectBits({ y: last.y, state: last.state }, { y: cut(whole.y, 1, 4, 6), state: whole.state });
  expect(relativeRms(packed(whole.y), exact.y)).toBeLessThan(1e-6);
  for (let i = 0; i < layers; i++) {
    const [conv, scanned] = [whole.state[`layers.${i}.conv`], whole.state[`layers.${i}.ssm`]];
    expect(conv.shape).toEqual([batch, CHANNELS, K - 1]);
    expect(scanned.shape).toEqual([batch, ...ssm, STATE_SIZE]);
    expect(relativeRms(elements(conv), exact.windows[i])).toBeLessThan(1e-6);
    expect(relativeRms(elements(scanned), exact.states[i])).toBeLessThan(1e-6);
  }
}

const toyBytes = (toy: Toy): Uint8Array => writeModel(toySpec(toy));

const ourNames = {
  conv: ['c_in_{i}', 'c_out_{i}'],
  ssm: ['h_{i}_before', 'h_{i}_after'],
} as const;

describe.each(families)('a graph of %s written by hand', (family) => {
  test.each<[string, Omit<Toy, 'family'>, ExportedOptions]>([
    ['with the names of onnx-community', {}, {}],
    [
      'with the names of mobius',
      {
        names: {
          conv: ['past_states.{i}.conv_state', 'present_states.{i}.conv_state'],
          ssm: ['past_states.{i}.ssm_state', 'present_states.{i}.ssm_state'],
        },
      },
      {},
    ],
    ['with names of its own', { names: ourNames }, { names: ourNames }],
    [
      'with all names its own',
      { names: { ...ourNames, x: 'emb', y: 'out' } },
      { names: { ...ourNames, x: 'emb', y: 'out' } },
    ],
    ['of twelve layers', { layers: 12, names: ourNames }, { names: ourNames }],
    [
      'of one layer, whose names have no number',
      { layers: 1, names: { conv: ['c', 'c_next'], ssm: ['h', 'h_next'] } },
      { names: { conv: ['c', 'c_next'], ssm: ['h', 'h_next'] } },
    ],
    ['with states that lie transposed', { isTransposed: true }, { names: { ssmTransposed: true } }],
    ['with wide windows', { isWide: true }, {}],
    ['with wide windows of 3 taps, as its weights show', { isWide: true, K: 3 }, {}],
    ['with narrow windows of 3 taps, as its weights show', { K: 3 }, {}],
    ['with narrow windows of 5 taps, as dConv says', { K: 5, showsTaps: false }, { dConv: 5 }],
    [
      'with wide windows of 3 taps, as dConv says',
      { isWide: true, K: 3, showsTaps: false },
      { dConv: 3 },
    ],
    ['with windows of 4 taps, which nothing shows', { showsTaps: false }, {}],
    ['with wide windows of 4 taps, which nothing shows', { isWide: true, showsTaps: false }, {}],
    ['with one tap and wide windows', { isWide: true, K: 1 }, {}],
    ['that takes [B, 1, M]', { isRank3: true }, {}],
    [
      'with wide windows and transposed states, of [B, 1, M]',
      { isRank3: true, isTransposed: true, isWide: true },
      { names: { ssmTransposed: true } },
    ],
    ['that gives more than y', { extra: ['logits', 'aux'] }, { names: { y: 'last_hidden_state' } }],
    ['whose outputs come without shapes', { isVague: true }, {}],
  ])('%s', async (_, rest, options) => {
    const toy = { family, ...rest };
    await using stack = await loadExported(family, toyBytes(toy), options);
    await expectToy(stack, toy);
  });

  test('goes on where a stack of another layout was', async () => {
    const plain = await loadExported(family, toyBytes({ family }));
    const other = await loadExported(
      family,
      toyBytes({ family, isTransposed: true, isWide: true, isRank3: true, names: ourNames }),
      { names: { ...ourNames, ssmTransposed: true } },
    );
    const x = inputs(3, 4, CHANNELS, 1);
    const later = inputs(3, 3, CHANNELS, 2);
    for (const [from, to] of [
      [plain, other],
      [other, plain],
    ]) {
      const { state } = await from.scan(x, undefined, { reset: resets(3, 4, 3) });
      const bytes = await state.serialise();
      const moved = to.restore(bytes);
      expect(await moved.serialise()).toEqual(bytes);
      expectClose(await scan(to, later, moved), await scan(from, later, state));
    }
    await plain.dispose();
    await other.dispose();
  });

  test('may be for one size of batch, and refuses others', async () => {
    const toy: Toy = { family, batch: 2 };
    await using stack = await loadExported(family, toyBytes(toy));
    await expectToy(stack, toy, 2);
    await expectRefusal(
      stack.scan(inputs(3, 1, CHANNELS, 1)),
      ShapeError,
      "'inputs_embeds' must have shape [2, 6], got [3, 6]",
    );
  });
});

describe('sources', () => {
  const toy: Toy = { family: 'mamba' };
  const folder = mkdtempSync(join(tmpdir(), 'umwelt-exported-'));
  /** The same graph with the convolution's weights in another file. */
  const outside = (): { model: Uint8Array; data: Uint8Array } => {
    const spec = toySpec(toy);
    const parts: Uint8Array[] = [];
    let at = 0;
    const initializers = spec.graph.initializers?.map((tensor) => {
      if (!tensor.name?.startsWith('taps.') || tensor.data === undefined) return tensor;
      const { buffer, byteOffset, byteLength } = tensor.data;
      const external = { location: 'step.onnx.data', offset: at, length: byteLength };
      parts.push(new Uint8Array(buffer, byteOffset, byteLength));
      at += byteLength;
      return { name: tensor.name, shape: tensor.shape, dtype: 'float32' as const, external };
    });
    expect(parts).toHaveLength(2);
    const data = new Uint8Array(at);
    parts.reduce((from, part) => {
      data.set(part, from);
      return from + part.length;
    }, 0);
    return { model: writeModel({ ...spec, graph: { ...spec.graph, initializers } }), data };
  };
  const whole = join(folder, 'whole.onnx');
  const split = join(folder, 'split', 'step.onnx');

  beforeAll(() => {
    writeFileSync(whole, toyBytes(toy));
    mkdirSync(join(folder, 'split'));
    const { model, data } = outside();
    writeFileSync(split, model);
    writeFileSync(`${split}.data`, data);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  test('may be a path, a URL, or bytes, which may be part of a larger buffer', async () => {
    const bytes = toyBytes(toy);
    const buffer = new Uint8Array(bytes.length + 20);
    buffer.set(bytes, 10);
    for (const source of [
      whole,
      pathToFileURL(whole),
      pathToFileURL(whole).href,
      bytes,
      readFileSync(whole),
      buffer.subarray(10, 10 + bytes.length),
    ]) {
      await using stack = await loadExported('mamba', source);
      await expectToy(stack, toy);
    }
  });

  test('may have their weights in a file beside them', async () => {
    for (const source of [split, pathToFileURL(split)]) {
      await using stack = await loadExported('mamba', source);
      await expectToy(stack, toy);
    }
  });

  test('may lie on the web, where each file is fetched once', async () => {
    const { model, data } = outside();
    await using server = await serve({ '/m/step.onnx': model, '/m/step.onnx.data': data });
    for (const source of [
      `${server.url}/m/step.onnx?key=1`,
      new URL(`${server.url}/m/step.onnx`),
    ]) {
      server.requests.length = 0;
      await using stack = await loadExported('mamba', source);
      await expectToy(stack, toy);
      expect(server.requests.map((path) => path.split('?')[0])).toEqual([
        '/m/step.onnx',
        '/m/step.onnx.data',
      ]);
    }
  });

  test.each(['run#3', 'what?', '50%25'])(
    'may lie in a folder called %s, in which URLs would see more than a name',
    async (name) => {
      mkdirSync(join(folder, name));
      const path = join(folder, name, 'step.onnx');
      copyFileSync(whole, path);
      for (const source of [pathToFileURL(path), path]) {
        await using stack = await loadExported('mamba', source);
        expect(stack.nLayers).toBe(2);
      }
    },
  );

  test('as bytes alone must be whole', async () => {
    const { model } = outside();
    await expectRefusal(
      loadExported('mamba', model),
      ModelLoadError,
      "the bytes must hold the whole graph, got one with weights in 'step.onnx.data'; load it by its path or URL",
    );
  });

  test('that are absent or damaged are refused', async () => {
    const absent = join(folder, 'absent.onnx');
    await expectRefusal(
      loadExported('mamba', absent),
      ModelLoadError,
      'MambaStack.load: ',
      "cannot read 'absent.onnx'",
    );
    const bytes = toyBytes(toy);
    for (const part of [bytes.subarray(0, 100), new TextEncoder().encode('<!DOCTYPE html>')]) {
      await expectRefusal(
        loadExported('mamba', part),
        ModelLoadError,
        'MambaStack.load: ',
        'is not a complete ONNX model',
      );
    }
  });

  test('that are folders are weights, and without them say what could be there', async () => {
    const attempt = loadExported('mamba', join(folder, 'split'));
    await expectRefusal(attempt, ModelLoadError, 'a folder with model.safetensors', '.onnx');
  });

  test.each(fixtures)(
    'that are the safetensors of $weights are not taken for ONNX',
    async (fixture) => {
      const bytes = readFileSync(`${STACKS}/${fixture.weights}/model.safetensors`);
      const config = fixture.family === 'mamba' ? {} : { nGroups: 2 };
      await using stack = await loadStack(fixture.family, bytes, config);
      const golden = goldenOf(fixture);
      const start = stack.restore(golden.before);
      expectGolden(await scan(stack, golden.x, start), golden);
      start.release();
    },
  );

  test('that are ONNX are not taken for safetensors, even with a brace for a ninth byte', async () => {
    // A file's second field is its producer, written from the fifth byte on.
    const bytes = writeModel({ ...toySpec(toy), producer: 'abcd{}' });
    expect(String.fromCharCode(...bytes.subarray(4, 10))).toBe('abcd{}');
    await using stack = await loadExported('mamba', bytes);
    await expectToy(stack, toy);
  });
});

// Graphs that are refused: only what they take and give matters.

type Declared = Readonly<Record<string, readonly [OnnxDtype, ...(number | string)[]]>>;

function declared(takes: Declared, gives: Declared): Uint8Array {
  const g = new GraphBuilder();
  for (const [name, [dtype, ...shape]] of Object.entries(takes)) g.input(name, shape, dtype);
  const [first] = Object.keys(takes);
  for (const [name, [dtype, ...shape]] of Object.entries(gives)) {
    g.op('Identity', [first], {}, { output: name });
    g.output(name, shape, dtype);
  }
  return g.build();
}

const taking: Record<FamilyName, Declared> = {
  mamba: {
    inputs_embeds: ['float32', 'B', 1, 8],
    'past_conv.0': ['float32', 'B', 16, 3],
    'past_ssm.0': ['float32', 'B', 16, 4],
    'past_conv.1': ['float32', 'B', 16, 3],
    'past_ssm.1': ['float32', 'B', 16, 4],
  },
  mamba2: {
    inputs_embeds: ['float32', 'B', 1, 8],
    'past_conv.0': ['float32', 'B', 24, 3],
    'past_ssm.0': ['float32', 'B', 2, 8, 4],
    'past_conv.1': ['float32', 'B', 24, 3],
    'past_ssm.1': ['float32', 'B', 2, 8, 4],
  },
};

function giving(takes: Declared): Declared {
  return Object.fromEntries(
    Object.entries(takes).map(([name, facts]) => [
      name.startsWith('past_') ? name.replace('past_', 'present_') : 'last_hidden_state',
      facts,
    ]),
  );
}

interface Refused {
  readonly family?: FamilyName;
  /** Inputs that differ, and with them their outputs; undefined for one left out. */
  readonly takes?: Readonly<Record<string, Declared[string] | undefined>>;
  /** Outputs that differ. */
  readonly gives?: Readonly<Record<string, Declared[string] | undefined>>;
  readonly options?: ExportedOptions;
}

function merge(declaredOnes: Declared, changes: Refused['takes'] = {}): Declared {
  const all = Object.entries({ ...declaredOnes, ...changes });
  return Object.fromEntries(all.filter(([, facts]) => facts !== undefined)) as Declared;
}

function attemptOf({ family = 'mamba', takes, gives, options }: Refused): Promise<SsmStack> {
  const all = merge(taking[family], takes);
  return loadExported(family, declared(all, merge(giving(all), gives)), options);
}

const present = (list: string) => list.replaceAll('past_', 'present_');
const allStates = 'past_conv.0, past_ssm.0, past_conv.1, past_ssm.1';
const noStates = Object.fromEntries(allStates.split(', ').map((name) => [name, undefined]));

describe('a graph is refused', () => {
  const names = { conv: ['c{i}', 'd{i}'], ssm: ['h{i}', 'g{i}'] } as const;

  test.each<[string, Refused, ...string[]]>([
    [
      'without states',
      { takes: noStates },
      'past_conv.0, past_ssm.0 and present_conv.0, present_ssm.0',
      "say names, such as { conv: ['conv_in.{i}', 'conv_out.{i}'], ssm: [",
      'The graph has inputs inputs_embeds and outputs last_hidden_state',
    ],
    [
      'without a layer of a given name',
      { options: { names } },
      "the graph must take 'c0', got no such input; say what it is called in names",
      `inputs inputs_embeds, ${allStates}`,
    ],
    [
      'without one scan state',
      { takes: { 'past_ssm.1': undefined } },
      "the graph must take 'past_ssm.1', got no such input",
    ],
    [
      'without a scan state afterwards',
      { gives: { 'present_ssm.1': undefined } },
      "the graph must give 'present_ssm.1', got no such output; say what it is called in names, or export it",
      present('and outputs last_hidden_state, past_conv.0, past_ssm.0, past_conv.1'),
    ],
    [
      'without a window afterwards',
      { gives: { 'present_conv.0': undefined } },
      "the graph must give 'present_conv.0', got no such output",
    ],
    [
      'for Mamba when it is Mamba-2',
      { takes: { 'past_ssm.0': ['float32', 'B', 2, 8, 4] } },
      "'past_ssm.0' must be [B, D, N], got [B, 2, 8, 4]; load it with Mamba2Stack",
    ],
    [
      'for Mamba-2 when it is Mamba',
      { family: 'mamba2', takes: { 'past_ssm.0': ['float32', 'B', 16, 4] } },
      "'past_ssm.0' must be [B, H, P, N], got [B, 16, 4]; load it with MambaStack",
    ],
    [
      'with a scan state of some other rank',
      { takes: { 'past_ssm.1': ['float32', 'B', 64] } },
      "'past_ssm.1' must be [B, D, N], got [B, 64]",
    ],
    [
      'with a window of some other rank',
      { takes: { 'past_conv.1': ['float32', 'B', 48] } },
      "'past_conv.1' must be [B, C, K] or [B, C, K - 1], got [B, 48]",
    ],
    [
      'with a state of Mamba that lies turned, unsaid',
      { takes: { 'past_ssm.0': ['float32', 'B', 4, 16] } },
      "'past_ssm.0' must be [B, D, N] with D = 16, the channels of 'past_conv.0', got [B, 4, 16]; say names.ssmTransposed: true",
    ],
    [
      'with a state of Mamba that does not lie transposed as said',
      { options: { names: { ssmTransposed: true } } },
      "'past_ssm.0' must be [B, N, D] with D = 16, the channels of 'past_conv.0', got [B, 16, 4]; leave out names.ssmTransposed",
    ],
    [
      'with states of another number of channels than the window',
      { takes: { 'past_ssm.1': ['float32', 'B', 15, 4] } },
      "'past_ssm.1' must be [B, D, N] with D = 16, the channels of 'past_conv.1', got [B, 15, 4]. The",
    ],
    [
      'with float16 states',
      { takes: { 'past_ssm.0': ['float16', 'B', 16, 4] } },
      "'past_ssm.0' must be float32, got float16; export the stack with float32 states",
    ],
    [
      'with float16 states afterwards',
      { gives: { 'present_conv.1': ['float16', 'B', 16, 3] } },
      "'present_conv.1' must be float32 [B, 16, 3] as 'past_conv.1' is, got float16 [B, 16, 3]",
    ],
    [
      'with a window that grows',
      { gives: { 'present_conv.1': ['float32', 'B', 16, 4] } },
      "'present_conv.1' must be float32 [B, 16, 3] as 'past_conv.1' is, got float32 [B, 16, 4]; export the state as it goes in again",
    ],
    [
      'with a symbolic number of channels',
      { takes: { 'past_conv.0': ['float32', 'B', 'channels', 3] } },
      "'past_conv.0' must be [B, C, K] or [B, C, K - 1] with fixed lengths but for B, got [B, channels, 3]; export it with no dynamic axis but the batch",
    ],
    [
      'with an unnamed number of channels',
      { takes: { 'past_ssm.0': ['float32', 'B', '', 4] } },
      "'past_ssm.0' must be [B, D, N] with fixed lengths but for B, got [B, ?, 4]",
    ],
    [
      'with windows that do not fit dConv',
      { options: { dConv: 6 } },
      "'past_conv.0' must be [B, C, K] or [B, C, K - 1], where K, the taps of the convolution, is 6 as dConv says, got [B, 16, 3]; say K in dConv",
    ],
    [
      'with windows that fit no default',
      { takes: { 'past_conv.0': ['float32', 'B', 16, 6] } },
      'is 4 as nothing says otherwise, got [B, 16, 6]; say K in dConv, or export windows of this shape',
    ],
    [
      'with windows that lie transposed',
      { takes: { 'past_conv.0': ['float32', 'B', 3, 16] } },
      'as nothing says otherwise, got [B, 3, 16]',
    ],
    [
      'with two inputs left for x',
      {
        takes: { position_ids: ['int64', 'B', 1] },
        gives: { last_hidden_state: ['float32', 'B', 1, 8] },
      },
      'the graph must have one input, x, besides the states of its layers, of which 2 were found, got inputs_embeds, position_ids; make constants of the rest',
    ],
    [
      'with two inputs left, one of them named x',
      {
        takes: { position_ids: ['int64', 'B', 1] },
        gives: { last_hidden_state: ['float32', 'B', 1, 8] },
        options: { names: { x: 'inputs_embeds' } },
      },
      'got inputs_embeds, position_ids; make constants of the rest',
    ],
    [
      'with nothing left for x',
      {
        takes: { inputs_embeds: undefined },
        gives: { last_hidden_state: ['float32', 'B', 1, 8] },
      },
      'must have one input, x, besides the states of its layers, of which 2 were found, got none; export the stack with embeddings as its input',
    ],
    [
      'without the x that names say',
      { options: { names: { x: 'embeds' } } },
      "the graph must take 'embeds', got no such input",
    ],
    [
      'with a state for x',
      { options: { names: { x: 'past_ssm.0' } } },
      "names.x must be the input besides the states, 'inputs_embeds', got 'past_ssm.0'",
    ],
    [
      'with two outputs left for y',
      { gives: { logits: ['float32', 'B', 1, 9] } },
      'the graph must have one output, y, besides the states, or names.y must say which of several it is, got last_hidden_state, logits',
    ],
    [
      'with nothing left for y',
      { gives: { last_hidden_state: undefined } },
      'the graph must have one output, y, besides the states, or names.y must say which of several it is, got none',
    ],
    [
      'without the y that names say',
      { options: { names: { y: 'features' } } },
      "the graph must give 'features', got no such output",
    ],
    [
      'with a state for y',
      { options: { names: { y: 'present_ssm.0' } } },
      'must have one output, y, besides the states, or names.y must say which of several it is, got last_hidden_state',
    ],
    [
      'of several layers, only the first of which has states',
      {
        takes: {
          'past_ssm.1': undefined,
          'past_conv.1': undefined,
          'past_conv.2': ['float32', 'B', 16, 3],
        },
      },
      'besides the states of its layers, of which 1 was found, got inputs_embeds, past_conv.2; make constants',
    ],
    [
      'with tokens for x',
      { takes: { inputs_embeds: ['int64', 'B', 1] } },
      "'inputs_embeds' must be float32, got int64; export the stack with embeddings as its input",
    ],
    [
      'with x of 5 steps',
      { takes: { inputs_embeds: ['float32', 'B', 5, 8] } },
      "'inputs_embeds' must take one step, [B, M] or [B, 1, M], or any number of them, [B, T, M], got [B, 5, 8]; export it with T = 1 or with T as a dynamic axis",
    ],
    [
      'with a symbolic width of x',
      { takes: { inputs_embeds: ['float32', 'B', 1, 'M'] } },
      "'inputs_embeds' must be [B, M] or [B, T, M] with a fixed M, got [B, 1, M]",
    ],
    [
      'with x of rank 4',
      { takes: { inputs_embeds: ['float32', 'B', 1, 1, 8] } },
      "'inputs_embeds' must be [B, M] or [B, T, M] with a fixed M, got [B, 1, 1, 8]",
    ],
    [
      'with logits for y',
      { gives: { last_hidden_state: ['float32', 'B', 1, 100] } },
      "'last_hidden_state', as y, must be float32 and shaped as x is, [B, 1, 8], got float32 [B, 1, 100]; say another output in names.y, or export the stack without its head",
    ],
    [
      'with float16 for y',
      { gives: { last_hidden_state: ['float16', 'B', 1, 8] } },
      "'last_hidden_state', as y, must be float32 and shaped as x is, [B, 1, 8], got float16 [B, 1, 8]",
    ],
    [
      'with the last step alone for y',
      {
        takes: { inputs_embeds: ['float32', 'B', 'T', 8] },
        gives: { last_hidden_state: ['float32', 'B', 8] },
      },
      "'last_hidden_state', as y, must be float32 and shaped as x is, [B, T, 8], got float32 [B, 8]",
    ],
  ])('%s', async (_, refused, ...parts) => {
    const what = refused.family === 'mamba2' ? 'Mamba2Stack' : 'MambaStack';
    await expectRefusal(attemptOf(refused), ModelContractError, `${what}.load: `, ...parts);
  });

  test('whose weights show other taps than its windows have', async () => {
    const spec = toySpec({ family: 'mamba', K: 3 });
    const inputsOf = spec.graph.inputs?.map((value) =>
      value.name === 'past_conv.0' ? { ...value, shape: ['B', CHANNELS, 5] } : value,
    );
    const outputsOf = spec.graph.outputs.map((value) =>
      value.name === 'present_conv.0' ? { ...value, shape: ['B', CHANNELS, 5] } : value,
    );
    const graph = { ...spec.graph, inputs: inputsOf, outputs: outputsOf };
    await expectRefusal(
      loadExported('mamba', writeModel({ ...spec, graph })),
      ModelContractError,
      'is 3 as its weights say, got [B, 6, 5]; say K in dConv',
    );
  });

  test('when it runs, if its outputs then have other sizes than it said nothing of', async () => {
    // A window that is not cut: K columns come back where K - 1 went in.
    const spec = toySpec({ family: 'mamba', layers: 1, isVague: true });
    const nodes = spec.graph.nodes?.map((node) =>
      node.outputs.includes('present_conv.0')
        ? { op: 'Identity', inputs: node.inputs.slice(0, 1), outputs: node.outputs }
        : node,
    );
    const graph = { ...spec.graph, nodes };
    await using stack = await loadExported('mamba', writeModel({ ...spec, graph }));
    await expectRefusal(
      stack.scan(inputs(2, 3, CHANNELS, 1)),
      ModelContractError,
      "scan: the graph must give 'present_conv.0' 36 elements for a batch of 2, got 48; y is shaped as x is",
    );
  });
});

describe('options of an exported graph', () => {
  // biome-ignore lint/suspicious/noExplicitAny: what is refused here is what the types do not allow
  type Any = any;
  const bytes = toyBytes({ family: 'mamba2' });
  const conv = ['past_conv.{i}', 'present_conv.{i}'];
  const ssm = ['past_ssm.{i}', 'present_ssm.{i}'];

  test.each<[string, Any, typeof TypeError | typeof RangeError, string]>([
    ['no object', null, TypeError, 'Mamba2Stack.load: exported graph: options must be an object'],
    [
      'misspelt',
      { device: 'cpu' },
      TypeError,
      "exported graph: options must be among devices, session, names, dConv, got 'device'",
    ],
    [
      'of weights',
      { nGroups: 2 },
      TypeError,
      "exported graph: options must be among devices, session, names, dConv, got 'nGroups'",
    ],
    ['of other forms', { form: 'kernels' }, TypeError, "got 'form'"],
    [
      'with misspelt names',
      { names: { scan: ssm } },
      TypeError,
      "Mamba2Stack.load: names: options must be among x, y, conv, ssm, ssmTransposed, got 'scan'",
    ],
    [
      'with null for names',
      { names: null },
      TypeError,
      'names: options must be an object, got null',
    ],
    [
      'with one name for a pair',
      { names: { conv: 'past_conv.{i}', ssm } },
      TypeError,
      "names.conv must be two names, before and after, such as ['conv_in.{i}', 'conv_out.{i}'], got string",
    ],
    [
      'with three names',
      { names: { conv, ssm: [...ssm, 'a'] } },
      TypeError,
      'names.ssm must be two',
    ],
    [
      'with half a scheme',
      { names: { conv } },
      TypeError,
      'names must have both conv and ssm or neither',
    ],
    [
      'with a layer in some names',
      { names: { conv, ssm: ['past_ssm.0', 'present_ssm.0'] } },
      TypeError,
      "must all have {i} for the layer's number, or none of them for a single layer, got past_conv.{i}, present_conv.{i}, past_ssm.0",
    ],
    ['with a number for x', { names: { x: 0 } }, TypeError, 'names.x must be a name, got number'],
    [
      'with a number for transposed',
      { names: { ssmTransposed: 1 } },
      TypeError,
      'names.ssmTransposed must be true or false',
    ],
    ['with no taps', { dConv: 0 }, RangeError, 'dConv must be a positive integer, got 0'],
    ['with half a tap', { dConv: 3.5 }, RangeError, 'dConv must be a positive integer, got 3.5'],
    ['with no devices', { devices: [] }, RangeError, 'devices must name at least one'],
  ])('%s are refused', async (_, options, errorClass, message) => {
    await expectRefusal(Mamba2Stack.load(ort, bytes, options), errorClass, message);
  });

  test('are no options of weights', async () => {
    const [weights] = tinyStacks.mamba2;
    const options: Any = { names: { conv, ssm } };
    const attempt = Mamba2Stack.load(ort, weights.tensors, options);
    await expectRefusal(
      attempt,
      TypeError,
      'Mamba2Stack.load: options must be among',
      "got 'names'",
    );
  });
});

test('an exported graph takes the first device that it can have', async () => {
  const [fixture] = fixtures;
  const devices = ['webnn', 'cpu'];
  await using stack = await loadExported(fixture.family, pathOf(fixture), { devices });
  expect([stack.device, stack.failures.map(({ device }) => device)]).toEqual(['cpu', ['webnn']]);
  await expectRefusal(
    loadExported(fixture.family, pathOf(fixture), { devices: 'webnn' }),
    ModelLoadError,
    `MambaStack.load: no device could load the stack (webnn: `,
    basename(pathOf(fixture)),
  );
});

describe('on the device wasm', () => {
  beforeAll(() => {
    // Its default count of threads asks Node for a module in a way that this build cannot.
    web.env.wasm.numThreads = 1;
    web.env.logLevel = 'error';
  });

  test.each(fixtures)('$name keeps the contract', async (fixture) => {
    const golden = goldenOf(fixture);
    const [batch, steps, width] = golden.x.shape;
    const options = { devices: ['webgpu', 'wasm'] };
    await using stack = await loadExported(
      fixture.family,
      readFileSync(pathOf(fixture)),
      options,
      web,
    );
    expect([stack.device, stack.failures.length]).toEqual(['wasm', 1]);
    const start = stack.restore(golden.before);
    expectGolden(await scan(stack, golden.x, start), golden);
    for (const ends of [everyStep(steps), [1, steps]]) {
      expectGolden(await scanPieces(stack, golden.x, ends, start), golden);
    }
    const reset = flags(batch, steps, [0, 1], [1, 0], [1, 2]);
    const bad = stack.restore(mapArrays(await start.toArrays(), (view) => poisoned(view, [1])));
    const expected = await scanByHand(stack, golden.x, start, reset);
    expectClose(await scan(stack, golden.x, bad, { reset }), expected);
    const there = await stackOf(fixture);
    const moved = there.restore(await start.serialise());
    expectClose(await scan(there, golden.x, moved, { reset }), expected);
    const none = await stack.scan(nd(new Float32Array(0), [0, 3, width]));
    expect([none.y.shape, none.state.batch]).toEqual([[0, 3, width], 0]);
    for (const state of [start, bad, moved]) state.release();
  });

  test.each(families)('a graph of %s written by hand', async (family) => {
    const toy: Toy = { family, isTransposed: true, isWide: true, isRank3: true, names: ourNames };
    await using stack = await loadExported(
      family,
      toyBytes(toy),
      { devices: 'wasm', names: { ...ourNames, ssmTransposed: true } },
      web,
    );
    await expectToy(stack, toy);
  });
});
