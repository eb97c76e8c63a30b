import { type NdView, nd, packed } from 'umwelt';
import { readNpz } from 'umwelt/formats';
import {
  causalConv1d,
  KernelMemory,
  Mamba2Stack,
  MambaStack,
  SsmState,
  selectiveScan,
  ssd,
} from 'umwelt/ssm';
import { describe, expect, test } from 'vitest';
import { type Place, readJson } from './place.js';

const close = { rtol: 1e-4, atol: 1e-4 };
const FIXTURES = 'test/fixtures/ssm';
const STACKS = [
  ['mamba1-ssm', MambaStack],
  ['falcon-mamba-hf', MambaStack],
  ['mamba2-ssm', Mamba2Stack],
  ['mamba2-limit-ssm', Mamba2Stack],
  ['mamba2-mlp-ssm', Mamba2Stack],
] as const;
const EXPORTED = [
  ['mamba1-step-k1', MambaStack],
  ['mamba2-step-k', Mamba2Stack],
  ['mamba2-sequence-k1', Mamba2Stack],
] as const;

/** Stacks and scans, as they must come out on every device. */
export function ssmTests(place: Place): void {
  const options = { devices: [place.device] };

  async function arraysOf(path: string): Promise<Record<string, NdView>> {
    return readNpz(await place.read(`${FIXTURES}/${path}`)) as Record<string, NdView>;
  }

  describe.each(STACKS)('the stack %s', (name, Stack) => {
    const load = () => Stack.load(place.ort, place.locate(`${FIXTURES}/stacks/${name}`), options);

    test('gives what PyTorch gave, as a sequence, in steps and across a split', async () => {
      await using stack = await load();
      expect(stack.device).toBe(place.device);
      const { x, y } = await arraysOf(`stacks/${name}/golden.npz`);
      const steps = x.shape[1];

      const whole = await stack.scan(x);
      expect(packed(whole.y)).toBeAllclose(packed(y), close);

      const first = await stack.scan(stepsOf(x, 0, 4));
      const second = await stack.scan(stepsOf(x, 4, steps), first.state);
      expect(packed(second.y)).toBeAllclose(packed(stepsOf(y, 4, steps)), close);

      let state = stack.initialState(x.shape[0]);
      for (let t = 0; t < steps; t++) {
        const next = await stack.step(stepOf(x, t), state);
        expect(packed(next.y)).toBeAllclose(packed(stepOf(y, t)), close);
        state.release();
        state = next.state;
      }
      await expectSame(state, whole.state);
      await expectSame(second.state, whole.state);
    });

    test('starts anew where it is told to', async () => {
      await using stack = await load();
      const { x } = await arraysOf(`stacks/${name}/golden.npz`);
      const steps = x.shape[1];
      const dirty = await stack.scan(x);
      // Row 0 starts anew at once and in the middle, row 1 at 6 and 7.
      const reset = nd(new Uint8Array(2 * steps), [2, steps]);
      for (const at of [0, 4, steps + 6, steps + 7]) reset.data[at] = 1;
      const { y, state } = await stack.scan(x, dirty.state, { reset });

      const row = (b: number, from: number, to: number) => rowOf(stepsOf(x, from, to), b);
      const head = await stack.scan(row(0, 0, 4));
      const tail = await stack.scan(row(0, 4, steps));
      const before = await dirty.state.gather(Int32Array.of(1));
      const old = await stack.scan(row(1, 0, 6), before);
      const one = await stack.scan(row(1, 6, 7));
      const last = await stack.scan(row(1, 7, steps));
      const expected = [head, tail, old, one, last].flatMap((part) => [...packed(part.y)]);
      expect(packed(y)).toBeAllclose(expected, close);
      await expectSame(state, await SsmState.concat([tail.state, last.state]));
    });

    test('keeps states that can be gathered, joined, saved and restored', async () => {
      await using stack = await load();
      const { x } = await arraysOf(`stacks/${name}/golden.npz`);
      const { state } = await stack.scan(x);
      const turned = await state.gather(Int32Array.of(1, 0, 1));
      const joined = await SsmState.concat([state, turned]);
      expect(joined.batch).toBe(5);
      const restored = stack.restore(await joined.serialise());
      await expectSame(restored, joined);

      const [a, b] = [rowOf(stepOf(x, 0), 0), rowOf(stepOf(x, 0), 1)];
      const inputs = [a, b, b, a, b].flatMap((row) => [...packed(row)]);
      const five = nd(Float32Array.from(inputs), [5, stack.dModel]);
      const next = await stack.step(five, restored);
      const two = await stack.step(stepOf(x, 0), state);
      const [y0, y1] = [0, 1].map((row) => [...packed(rowOf(two.y, row))]);
      expect(packed(next.y)).toBeAllclose([y0, y1, y1, y0, y1].flat(), close);
      for (const used of [state, turned, joined, restored, next.state, two.state]) used.release();
    });

    test('takes its states with it when it is disposed', async () => {
      const stack = await load();
      const { x } = await arraysOf(`stacks/${name}/golden.npz`);
      const { state } = await stack.scan(x);
      await stack.dispose();
      state.release();
      await expect(stack.scan(x)).rejects.toThrow('disposed');
    });
  });

  describe.each(EXPORTED)('the exported graph %s', (name, Stack) => {
    test('gives what PyTorch gave, from a state that is not zero', async () => {
      const path = `${FIXTURES}/onnx/${name}.onnx`;
      await using stack = await Stack.load(place.ort, place.locate(path), options);
      expect(stack.device).toBe(place.device);
      const golden = await arraysOf(`onnx/${name}.npz`);
      const state = stack.restore(statesOf(golden, 'past'));
      const { y, state: last } = await stack.scan(golden.x, state);
      expect(packed(y)).toBeAllclose(packed(golden.y), close);
      const after = await last.toArrays();
      for (const [part, view] of Object.entries(statesOf(golden, 'present'))) {
        expect(packed(after[part])).toBeAllclose(packed(view), close);
      }
    });
  });

  if (place.device === 'webgpu') {
    test('leaves to the CPU what WebGPU cannot do: one tap, or more than 256 state elements', async () => {
      for (const [taps, dState] of [
        [1, 4],
        [4, 300],
      ]) {
        const zeros = (...shape: number[]) =>
          nd(new Float32Array(shape.reduce((a, b) => a * b)), shape);
        const weights = {
          'layers.0.norm.weight': zeros(4),
          'layers.0.mixer.in_proj.weight': zeros(2 * 4 + 2 * dState + 1, 4),
          'layers.0.mixer.conv1d.weight': zeros(4 + 2 * dState, 1, taps),
          'layers.0.mixer.dt_bias': zeros(1),
          'layers.0.mixer.A_log': zeros(1),
          'layers.0.mixer.D': zeros(1),
          'layers.0.mixer.norm.weight': zeros(4),
          'layers.0.mixer.out_proj.weight': zeros(4, 4),
          'norm_f.weight': zeros(4),
        };
        await using stack = await Mamba2Stack.load(place.ort, weights, {
          devices: ['webgpu', 'cpu'],
        });
        expect(stack.device).toBe('cpu');
        expect(stack.failures[0]?.reason).toContain('on webgpu');
      }
    });
  }

  test('the functions give what upstream gave, by every kernel there is here', async () => {
    const { cases } = await readJson<{ cases: FunctionCase[] }>(
      place,
      `${FIXTURES}/functions/index.json`,
    );
    const memories = (['relaxed', 'simd', 'scalar'] as const).flatMap((variant) => {
      try {
        return [new KernelMemory({ bytes: 1 << 22, variant })];
      } catch {
        return [];
      }
    });
    // SIMD itself is everywhere; its relaxed instructions are in this browser.
    const variants = memories.map(({ variant }) => variant);
    expect(variants).toContain('simd');
    if (place.name.includes('Chromium')) expect(variants).toContain('relaxed');
    for (const golden of cases) {
      const arrays = await arraysOf(`functions/${golden.file}`);
      for (const memory of memories) {
        const { y, lastState } = call(golden, arrays, memory);
        const message = `${golden.file}, ${memory.variant}`;
        expect(packed(y), message).toBeAllclose(Float32Array.from(packed(arrays.y64)), close);
        const state = Float32Array.from(packed(arrays.lastState64));
        expect(packed(lastState), message).toBeAllclose(state, close);
      }
    }
  });
}

interface FunctionCase {
  readonly function: 'selectiveScan' | 'ssd' | 'causalConv1d';
  readonly file: string;
  readonly options: Readonly<Record<string, unknown>>;
}

function call(golden: FunctionCase, arrays: Record<string, NdView>, memory: KernelMemory) {
  const { u, delta, x, dt, A, B, C, weight, ...rest } = arrays;
  const results = /^(y|lastState)(32|64)$/;
  const given = Object.entries(rest).filter(([name]) => !results.test(name));
  const options = { ...golden.options, ...Object.fromEntries(given), memory };
  switch (golden.function) {
    case 'selectiveScan':
      return selectiveScan(u, delta, A, B, C, options);
    case 'ssd':
      return ssd(x, dt, A, B, C, options);
    case 'causalConv1d':
      return causalConv1d(x, weight, options);
  }
}

async function expectSame(state: SsmState, other: SsmState): Promise<void> {
  const [a, b] = [await state.toArrays(), await other.toArrays()];
  expect(Object.keys(a)).toEqual(Object.keys(b));
  for (const name of Object.keys(a)) {
    expect(a[name].shape).toEqual(b[name].shape);
    expect(packed(a[name])).toBeAllclose(packed(b[name]), close);
  }
}

/** A golden file's states under our names; of a window K wide the last K - 1 columns. */
function statesOf(golden: Record<string, NdView>, when: string): Record<string, NdView> {
  const states = Object.entries(golden).filter(([name]) => name.startsWith(when));
  return Object.fromEntries(
    states.map(([name, view]) => {
      const layer = name.match(/\d+/)?.[0];
      if (name.includes('ssm')) return [`layers.${layer}.ssm`, view];
      const [batch, channels, columns] = view.shape;
      const shape = [batch, channels, 3];
      return [`layers.${layer}.conv`, { ...view, shape, offset: view.offset + columns - 3 }];
    }),
  );
}

/** The steps `from .. to - 1`, without a copy. */
function stepsOf(x: NdView, from: number, to: number): NdView {
  const [batch, , ...inner] = x.shape;
  const offset = x.offset + from * x.stride[1];
  return { ...x, shape: [batch, to - from, ...inner], offset };
}

/** One step, `[B, M]`. */
function stepOf(x: NdView, t: number): NdView {
  const [batch, , width] = x.shape;
  const [perRow, perStep, one] = x.stride;
  return { ...x, shape: [batch, width], stride: [perRow, one], offset: x.offset + t * perStep };
}

/** One row, as a batch. */
function rowOf(x: NdView, row: number): NdView {
  return { ...x, shape: [1, ...x.shape.slice(1)], offset: x.offset + row * x.stride[0] };
}
