import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as ort from 'onnxruntime-node';
import { type NdView, nd } from 'umwelt';
import { readSafetensors, writeSafetensors } from 'umwelt/formats';
import { DisposedError, type Ort } from 'umwelt/runtime';
import { type SsmStack, SsmState } from 'umwelt/ssm';
import { describe, expect, test } from 'vitest';
import { expectRefusal, expectThrow } from '../runtime/refusal.js';
import { elements, scattered, uniform, write } from './arrays.js';
import {
  autoForm,
  expectBits,
  expectClose,
  families,
  forms,
  inputs,
  kernelForms,
  loadStack,
  mapArrays,
  outcome,
  scan,
  startOf,
  type TinyStack,
  tiny,
  tinyStacks,
} from './stacks.js';

/** Bytes of kernel memory that no state and no kernel uses. */
function freeBytes(stack: SsmStack): number {
  const state = stack.initialState(0);
  state.release();
  return state.home.memory?.freeBytes ?? 0;
}

/** A stack whose kernel memory holds little more than the kernels need. */
function smallStack(weights: TinyStack, form: 'kernels' | 'auto'): Promise<SsmStack> {
  const { family, tensors, config } = weights;
  return loadStack(family, tensors, { ...config, form, memory: { bytes: 2 ** 19 }, tile: 64 });
}

const all = families.flatMap((family) =>
  tinyStacks[family].map((weights) => ({ family, name: weights.name, weights })),
);
const first = families.map((family) => ({ family, weights: tinyStacks[family][0] }));

describe("a state's arrays", () => {
  test('are named and shaped as in state-spaces/mamba, but for the width of the window', async () => {
    const shapesOf = async (weights: TinyStack, batch: number) => {
      const stack = await tiny(weights, kernelForms[0]);
      const arrays = await stack.initialState(batch).toArrays();
      return Object.entries(arrays).map(([name, { shape }]) => [name, ...shape]);
    };
    // [B, D, K - 1] and [B, D, N].
    expect(await shapesOf(tinyStacks.mamba[0], 3)).toEqual([
      ['layers.0.conv', 3, 16, 3],
      ['layers.0.ssm', 3, 16, 4],
      ['layers.1.conv', 3, 16, 3],
      ['layers.1.ssm', 3, 16, 4],
    ]);
    // [B, D + 2GN, K - 1] and [B, H, P, N].
    expect(await shapesOf(tinyStacks.mamba2[1], 0)).toEqual([
      ['layers.0.conv', 0, 32, 2],
      ['layers.0.ssm', 0, 4, 3, 5],
    ]);
    // One tap looks at no earlier input.
    expect(await shapesOf(tinyStacks.mamba2[3], 1)).toEqual([
      ['layers.0.conv', 1, 17, 0],
      ['layers.0.ssm', 1, 3, 5, 1],
    ]);
  });

  test.each(all)(
    'have the last inputs of the convolution, oldest first: $family of $name',
    async ({ weights }) => {
      // In the first layer they are what in_proj gives of the normed inputs, one column a step.
      const stack = await tiny(weights, kernelForms[0]);
      const x = inputs(2, 9, stack.dModel, 1);
      const whole = (await scan(stack, x)).state['layers.0.conv'];
      const [, channels, columns] = whole.shape;
      for (let column = 0; column < columns; column++) {
        const t = 9 - columns + column;
        const alone = await scan(stack, {
          ...x,
          shape: [2, 1, stack.dModel],
          offset: t * stack.dModel,
        });
        const newest = alone.state['layers.0.conv'];
        for (let c = 0; c < channels; c++) {
          const at = (view: NdView, i: number) => elements(view)[c * columns + i];
          expect(at(whole, column)).toBe(at(newest, columns - 1));
        }
      }
    },
  );

  test.each(all)('are copies: $family of $name', async ({ weights }) => {
    const stack = await tiny(weights, kernelForms[0]);
    const state = startOf(stack, 3, 1);
    const arrays = await state.toArrays();
    const before = mapArrays(arrays, (view) => nd(elements(view), view.shape));
    const restored = stack.restore(arrays);
    for (const { data } of Object.values(arrays)) data.fill(7);
    const y = nd(new Float32Array(0));
    expectBits({ y, state: await state.toArrays() }, { y, state: before });
    expectBits({ y, state: await restored.toArrays() }, { y, state: before });
    state.release();
    restored.release();
  });

  test.each(all)('come back from any layout: $family of $name', async ({ weights }) => {
    const stack = await tiny(weights, kernelForms[0]);
    const state = startOf(stack, 2, 1);
    const arrays = await state.toArrays();
    const random = uniform(5);
    const strided = mapArrays(arrays, (view) =>
      view.shape.includes(0)
        ? view
        : write(scattered(view.shape, random, Number.NaN), elements(view)),
    );
    const restored = stack.restore(strided);
    const y = nd(new Float32Array(0));
    expectBits({ y, state: await restored.toArrays() }, { y, state: arrays });
    state.release();
    restored.release();
  });

  test('come with windows as wide as upstream keeps them, too', async () => {
    const stack = await tiny(tinyStacks.mamba2[0], autoForm);
    const state = startOf(stack, 2, 1);
    const arrays = await state.toArrays();
    // The oldest column has had its time; whatever it holds must not matter.
    const wide = mapArrays(arrays, (view, name) => {
      if (!name.endsWith('.conv')) return view;
      const [batch, channels, before] = view.shape;
      const data = new Float32Array(batch * channels * (before + 1)).fill(Number.NaN);
      for (let row = 0; row < batch * channels; row++) {
        data.set(elements(view).subarray(row * before, (row + 1) * before), row * (before + 1) + 1);
      }
      return nd(data, [batch, channels, before + 1]);
    });
    const y = nd(new Float32Array(0));
    expectBits({ y, state: await stack.restore(wide).toArrays() }, { y, state: arrays });
  });

  test('are the contents of the safetensors file it is serialised to', async () => {
    const stack = await tiny(tinyStacks.mamba2[0], autoForm);
    const state = startOf(stack, 2, 1);
    const { tensors, metadata } = readSafetensors(await state.serialise());
    expect(metadata).toEqual({ kind: 'umwelt.ssm-state' });
    const y = nd(new Float32Array(0));
    const expected = await state.toArrays();
    const named = Object.keys(expected).map((name) => [name, tensors[name] as NdView]);
    expect(Object.keys(tensors).sort()).toEqual(Object.keys(expected).sort());
    expectBits({ y, state: Object.fromEntries(named) }, { y, state: expected });
    // A file of another program has neither the metadata nor the order.
    const foreign = stack.restore(writeSafetensors(Object.fromEntries(named.reverse())));
    expectBits({ y, state: await foreign.toArrays() }, { y, state: expected });
    state.release();
    foreign.release();
  });
});

describe.each(all)('a state of $family, $name', ({ weights }) => {
  const x = inputs(3, 2, weights.dModel, 2);

  test.each(forms)('goes on where it was serialised, in every form, from $name', async (form) => {
    const here = await tiny(weights, form);
    const begun = await here.scan(inputs(3, 4, weights.dModel, 1));
    const bytes = await begun.state.serialise();
    const expected = await scan(here, x, begun.state);
    begun.state.release();
    const config = { ...weights.config, ...form.options };
    await using second = await loadStack(weights.family, weights.tensors, config);
    for (const stack of [here, second]) {
      const state = stack.restore(bytes);
      expectBits(await scan(stack, x, state), expected);
      state.release();
    }
    for (const other of forms.filter(({ name }) => name !== form.name)) {
      const there = await tiny(weights, other);
      const state = there.restore(bytes);
      expectClose(await scan(there, x, state), expected);
      expect(await state.serialise()).toEqual(bytes);
      state.release();
    }
  });
});

describe.each(first)('kernel memory of a stack of $family', ({ weights }) => {
  const x = (seed: number) => inputs(40, 2, weights.dModel, seed);

  test.each(['kernels', 'auto'] as const)('may be full of states, %s', async (form) => {
    await using small = await smallStack(weights, form);
    await using large = await loadStack(weights.family, weights.tensors, { form });
    await scan(small, x(0));
    const free = freeBytes(small);
    const held: SsmState[] = [];
    const expected: SsmState[] = [];
    for (let i = 0; i < 40; i++) {
      // Each goes on from the one before, some of which lie in the memory, and others do not.
      held.push((await small.scan(x(i), held.at(-1))).state);
      expected.push((await large.scan(x(i), expected.at(-1))).state);
    }
    expect(freeBytes(small)).toBeLessThan(free / 10);
    for (const i of [39, 0, 20, 7]) {
      const last = x(100 + i);
      expectBits(await scan(small, last, held[i]), await scan(large, last, expected[i]));
    }
    for (const [i, state] of held.entries()) if (i % 2 === 0) state.release();
    for (const i of [39, 1, 21, 7]) {
      const last = x(200 + i);
      expectBits(await scan(small, last, held[i]), await scan(large, last, expected[i]));
    }
    for (const state of [...held, ...expected]) state.release();
    expect(freeBytes(small)).toBe(free);
  });

  test.each(['kernels', 'auto'] as const)('is given back, cycle after cycle, %s', async (form) => {
    await using stack = await smallStack(weights, form);
    const start = startOf(stack, 40, 1);
    const expected = await scan(stack, x(1), start);
    const free = freeBytes(stack);
    let last: SsmState | undefined;
    for (let i = 0; i < 1000; i++) {
      const some = await start.gather(Int32Array.of(i % 40, 3));
      const pair = await SsmState.concat([some, some]);
      const step = await stack.scan(inputs(4, 1 + (i % 3), weights.dModel, i), pair);
      const copy = await step.state.clone();
      for (const state of [some, step.state, pair, copy, last]) state?.release();
      last = stack.initialState(i % 5);
    }
    last?.release();
    expect(freeBytes(stack)).toBe(free);
    expectBits(await scan(stack, x(1), start), expected);
    start.release();
  });

  test('full of states does not keep the other form from being loaded', async () => {
    await using stack = await smallStack(weights, 'auto');
    const held = Array.from({ length: 40 }, () => stack.initialState(40));
    // A batch as large as this wants the kernels, which no earlier batch did.
    expectClose(await scan(stack, x(1)), await scan(await tiny(weights, kernelForms[0]), x(1)));
    for (const state of held) state.release();
  });

  test('is given back by runs that fail, after which others succeed', async () => {
    let failing = -1;
    const broken = {
      ...ort,
      InferenceSession: {
        create: async (...rest: Parameters<typeof ort.InferenceSession.create>) => {
          const session = await ort.InferenceSession.create(...rest);
          return {
            run: async (...feeds: Parameters<typeof session.run>) => {
              if (failing-- === 0) throw new Error('out of order');
              return session.run(...feeds);
            },
            release: () => session.release(),
          };
        },
      },
    } as unknown as Ort;
    for (const { options } of forms) {
      const config = { ...weights.config, ...options };
      await using stack = await loadStack(weights.family, weights.tensors, config, broken);
      const start = startOf(stack, 40, 1);
      const step = inputs(40, 1, weights.dModel, 1);
      const expected = await scan(stack, step, start);
      const free = freeBytes(stack);
      for (failing = 0; failing < 8; ) {
        const at = failing;
        const [attempt] = await Promise.allSettled([stack.scan(step, start)]);
        // There are as many runs in a step as the form has graphs.
        if (attempt.status === 'fulfilled') {
          attempt.value.state.release();
          expect(at).toBeGreaterThan(0);
          break;
        }
        expect(String(attempt.reason)).toContain('out of order');
        failing = at + 1;
      }
      failing = -1;
      expect(freeBytes(stack)).toBe(free);
      expectBits(await scan(stack, step, start), expected);
      start.release();
    }
  });

  test('is given back by states that are forgotten, too, in time', async () => {
    setFlagsFromString('--expose-gc');
    const collect: () => void = runInNewContext('gc');
    await using stack = await smallStack(weights, 'kernels');
    const free = freeBytes(stack);
    const forget = async () => {
      for (let i = 0; i < 5; i++) await stack.scan(x(i));
    };
    await forget();
    expect(freeBytes(stack)).toBeLessThan(free);
    for (let i = 0; i < 100 && freeBytes(stack) < free; i++) {
      collect();
      await turn();
    }
    expect(freeBytes(stack)).toBe(free);
  });
});

describe('a released state', () => {
  const [weights] = tinyStacks.mamba2;
  const x = inputs(2, 3, weights.dModel, 1);

  test('is what leaving the scope of using makes of it', async () => {
    const stack = await tiny(tinyStacks.mamba2[0], autoForm);
    const outer = stack.initialState(2);
    {
      using inner = outer;
      expect(inner.batch).toBe(2);
    }
    await expect(outer.clone()).rejects.toThrow(DisposedError);
  });

  test('is refused wherever it is used', async () => {
    const stack = await tiny(weights, autoForm);
    const state = stack.initialState(2);
    const other = stack.initialState(2);
    state.release();
    const attempts = [
      () => stack.scan(x, state),
      () => stack.scan({ ...x, shape: [2, 0, stack.dModel] }, state),
      () => stack.step({ ...x, shape: [2, stack.dModel], stride: [24, 1] }, state),
      () => state.gather(Int32Array.of(0)),
      () => state.clone(),
      () => state.toArrays(),
      () => state.serialise(),
      () => SsmState.concat([other, state]),
    ];
    for (const attempt of attempts) {
      await expectRefusal(attempt(), DisposedError, 'the state must be alive, got one that was');
    }
    other.release();
  });

  test('may be released again, which takes nothing from others', async () => {
    const stack = await tiny(weights, kernelForms[0]);
    const free = freeBytes(stack);
    const state = startOf(stack, 2, 1);
    const copy = await state.clone();
    const expected = await scan(stack, x, state);
    state.release();
    const other = startOf(stack, 2, 2);
    state.release();
    state.release();
    expectBits(await scan(stack, x, copy), expected);
    expect(freeBytes(stack)).toBeLessThan(free);
    copy.release();
    other.release();
    expect(freeBytes(stack)).toBe(free);
  });

  test.each(forms)('is still good for what was asked for before, $name', async (form) => {
    const stack = await tiny(weights, form, 16);
    const many = inputs(64, 3, weights.dModel, 1);
    const start = startOf(stack, 64, 2);
    const expected = await scan(stack, many, start);
    // Released at once, and when the run is under way; its memory then goes to somebody else.
    for (const turns of [0, 1, 2, 3]) {
      const state = await start.gather(Int32Array.from({ length: 64 }, (_, i) => i));
      const attempt = stack.scan(many, state);
      for (let i = 0; i < turns; i++) await turn();
      state.release();
      const others = [3, 4].map((seed) => startOf(stack, 64, seed));
      expectBits(await outcome(await attempt), expected);
      for (const other of others) other.release();
    }
    start.release();
  });
});

describe('while a scan is under way', () => {
  test.each(first)('states can be made and joined, $family', async ({ weights }) => {
    const stack = await tiny(weights, kernelForms[0], 16);
    const x = inputs(64, 3, weights.dModel, 1);
    const start = startOf(stack, 64, 2);
    const expected = await scan(stack, x, start);
    const attempt = stack.scan(x, start);
    const made: SsmState[] = [];
    for (let i = 0; i < 4; i++) {
      await turn();
      made.push(
        stack.initialState(64),
        startOf(stack, 64, i),
        await start.gather(Int32Array.of(i)),
      );
      made.push(await SsmState.concat(made));
    }
    expectBits(await outcome(await attempt), expected);
    for (const state of [...made, start]) state.release();
  });
});

describe('a disposed stack', () => {
  const [weights] = tinyStacks.mamba;
  const x = inputs(20, 2, weights.dModel, 1);

  test.each(forms)(
    'ends what was asked for before, and refuses what comes after, $name',
    async ({ options }) => {
      const stack = await loadStack(weights.family, weights.tensors, options);
      const expected = await scan(stack, x);
      const attempts = [1, 2, 3].map(() => stack.scan(x));
      const disposal = stack.dispose();
      const late = [stack.scan(x), stack.scan({ ...x, shape: [20, 0, stack.dModel] })];
      for (const attempt of late) {
        await expectRefusal(attempt, DisposedError, 'scan: the stack must be alive');
      }
      await expectRefusal(
        stack.step({ ...x, shape: [20, stack.dModel], stride: [16, 1] }),
        DisposedError,
        'step: the stack must be alive, got a disposed one; load it again',
      );
      for (const attempt of attempts) expectBits(await outcome(await attempt), expected);
      await disposal;
      await stack.dispose();
    },
  );

  test('leaves its states on a CPU readable', async () => {
    const stack = await loadStack(weights.family, weights.tensors, kernelForms[0].options);
    const { y, state } = await stack.scan(x);
    const expected = { y, state: await state.toArrays() };
    await stack.dispose();
    const rows = await state.gather(Int32Array.from({ length: 20 }, (_, i) => i));
    expectBits({ y, state: await rows.toArrays() }, expected);
    const bytes = await state.serialise();
    state.release();
    const other = await tiny(weights, kernelForms[0]);
    const restored = other.restore(bytes);
    expectBits({ y, state: await restored.toArrays() }, expected);
    restored.release();
    rows.release();
  });
});

describe('bytes that are no state of the stack', () => {
  test('are refused, naming what they lack', async () => {
    const [weights, other] = tinyStacks.mamba2;
    const stack = await tiny(weights, autoForm);
    const there = await tiny(other, autoForm);
    const bytes = await there.initialState(1).serialise();
    expectThrow(() => stack.restore(bytes), TypeError, 'missing layers.1.conv, layers.1.ssm');
  });
});
