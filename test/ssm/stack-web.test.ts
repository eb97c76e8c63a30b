// The WebAssembly build of browsers, which runs in Node too.
import * as web from 'onnxruntime-web/wasm';
import { type NdView, nd, packed } from 'umwelt';
import type { SsmStack } from 'umwelt/ssm';
import { beforeAll, describe, expect, test } from 'vitest';
import { relativeRms } from './arrays.js';
import {
  expectBits,
  expectClose,
  type Form,
  families,
  forms,
  goldenArrays,
  goldenStacks,
  graphForm,
  inputs,
  kernelForms,
  loadStack,
  mapArrays,
  type Outcome,
  resets,
  rowsOfOutcome,
  scan,
  scanPieces,
  startOf,
  type TinyStack,
  tinyStacks,
} from './stacks.js';

beforeAll(() => {
  // Its default count of threads asks Node for a module in a way that this build cannot.
  web.env.wasm.numThreads = 1;
  web.env.logLevel = 'error';
});

function onWasm(weights: TinyStack, form: Form, tile = 16): Promise<SsmStack> {
  const config = { ...weights.config, ...form.options, tile, devices: 'wasm' };
  return loadStack(weights.family, weights.tensors, config, web);
}

const everyStep = (steps: number) => Array.from({ length: steps }, (_, t) => t + 1);

const all = families.flatMap((family) =>
  tinyStacks[family].map((weights) => ({ family, name: weights.name, weights })),
);

describe.each(forms)('on the device wasm in the form $name', (form) => {
  test.each(goldenStacks)('$name agrees with the formulas in float64', async (stack) => {
    const { name, family, source, config } = stack;
    const golden = goldenArrays(name);
    const devices = ['webgpu', 'wasm'];
    await using loaded = await loadStack(
      family,
      source,
      { ...config, ...form.options, devices },
      web,
    );
    expect(loaded.device).toBe('wasm');
    expect(loaded.failures.map(({ device }) => device)).toEqual(['webgpu']);
    for (const ends of [[9], everyStep(9), [4, 9]]) {
      const { y } = await scanPieces(loaded, golden.x as NdView, ends);
      expect(relativeRms(packed(y), packed(golden.y64) as Float64Array)).toBeLessThan(1e-6);
    }
  });

  test.each(all)('a $family of $name keeps the contract', async ({ weights }) => {
    await using stack = await onWasm(weights, form);
    const same: (actual: Outcome, expected: Outcome) => void =
      form.options.form === 'kernels' ? expectBits : expectClose;
    for (const [batch, steps] of [
      [3, 1],
      [4, 7],
      [21, 1],
      [2, 35],
    ]) {
      const x = inputs(batch, steps, weights.dModel, batch);
      const reset = resets(batch, steps, steps);
      const start = startOf(stack, batch, 5);
      for (const flags of [undefined, reset]) {
        const whole = await scan(stack, x, start, flags && { reset: flags });
        same(await scanPieces(stack, x, everyStep(steps), start, flags), whole);
        same(await scanPieces(stack, x, [1, steps], start, flags), whole);
      }
      // A row that is poisoned leaves the others as they are, and is clean after a reset.
      const whole = await scan(stack, x, start);
      const arrays = await start.toArrays();
      const bad = stack.restore(
        mapArrays(arrays, (view) => {
          const data = Float32Array.from(packed(view));
          data.fill(Number.NaN, 0, data.length / batch);
          return nd(data, view.shape);
        }),
      );
      const others = Array.from({ length: batch - 1 }, (_, i) => 1 + i);
      const spoilt = await scan(stack, x, bad);
      expectBits(rowsOfOutcome(spoilt, others), rowsOfOutcome(whole, others));
      const first = new Uint8Array(batch * steps);
      for (let row = 0; row < batch; row++) first[row * steps] = 1;
      const cleaned = await scan(stack, x, bad, { reset: nd(first, [batch, steps]) });
      expectBits(cleaned, await scan(stack, x));
      start.release();
      bad.release();
    }
    const none = await stack.scan(nd(new Float32Array(0), [0, 3, weights.dModel]));
    expect([none.y.shape, none.state.batch]).toEqual([[0, 3, weights.dModel], 0]);
  });
});

describe.each(all)('a state of $family, $name', ({ weights }) => {
  test('goes from onnxruntime-node to onnxruntime-web and back', async () => {
    const x = inputs(3, 4, weights.dModel, 1);
    const later = inputs(3, 2, weights.dModel, 2);
    for (const [from, to] of [
      [graphForm, kernelForms[0]],
      [kernelForms[0], graphForm],
    ]) {
      await using here = await loadStack(weights.family, weights.tensors, {
        ...weights.config,
        ...from.options,
      });
      await using there = await onWasm(weights, to);
      const begun = await here.scan(x);
      const bytes = await begun.state.serialise();
      const moved = there.restore(bytes);
      expect(await moved.serialise()).toEqual(bytes);
      const expected = await scan(here, later, begun.state);
      const continued = await there.scan(later, moved);
      const back = here.restore(await continued.state.serialise());
      expectClose({ y: continued.y, state: await back.toArrays() }, expected);
    }
  });
});

test('stacks of one module may be loaded, run and disposed of at once', async () => {
  const [form] = kernelForms;
  const stacks = await Promise.all(all.map(({ weights }) => onWasm(weights, form)));
  const jobs = Array.from({ length: 24 }, (_, i) => {
    const stack = stacks[i % stacks.length];
    return { stack, x: inputs(1 + (i % 5), 1 + (i % 3), stack.dModel, i) };
  });
  const expected: Outcome[] = [];
  for (const { stack, x } of jobs) expected.push(await scan(stack, x));
  const together = jobs.map(({ stack, x }) => scan(stack, x));
  const disposed = Promise.all(stacks.map((stack) => stack.dispose()));
  for (const [i, actual] of (await Promise.all(together)).entries()) {
    expectBits(actual, expected[i]);
  }
  await disposed;
});
