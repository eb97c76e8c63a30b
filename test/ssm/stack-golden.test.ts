import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type NdView, nd, packed } from 'umwelt';
import { readSafetensors } from 'umwelt/formats';
import type { SsmStack, WeightsSource } from 'umwelt/ssm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cut, relativeRms } from './arrays.js';
import {
  expectBits,
  forms,
  goldenArrays,
  goldenStacks,
  kernelForms,
  loadStack,
  STACKS,
  scan,
  scanPieces,
} from './stacks.js';

// What is agreed with was made by make_stacks.py and make_stacks_hf.py beside the fixtures: y64 by the
// formulas in float64, y, y_step and the states by the libraries themselves in float32.

/** Of the relative RMS against float64. */
const LIMIT = 1e-6;

/** Against float32 that is itself within that of float64, as the fixtures' makers checked. */
const LIMIT_OF_FLOAT32 = 2 * LIMIT;

const everyStep = (steps: number) => Array.from({ length: steps }, (_, t) => t + 1);

describe.each(goldenStacks)('$name', ({ name, family, source, config }) => {
  const golden = goldenArrays(name);
  const x = golden.x as NdView;
  const [rows, steps] = x.shape;

  /** The libraries' last states as this library names and cuts them: windows without the oldest column. */
  function expectStates(state: Readonly<Record<string, NdView>>): void {
    const names = Object.keys(golden).filter((key) => /^(conv|ssm)\.\d+$/.test(key));
    expect(Object.keys(state)).toHaveLength(names.length);
    for (const key of names) {
      const [kind, layer] = key.split('.');
      const actual = state[`layers.${layer}.${kind}`];
      const kept = golden[key] as NdView;
      const expected = kind === 'conv' ? cut(kept, 2, 1, kept.shape[2]) : kept;
      expect(actual.shape).toEqual(expected.shape);
      expect(relativeRms(packed(actual), packed(expected)), key).toBeLessThan(LIMIT_OF_FLOAT32);
    }
  }

  describe.each(forms)('in the form $name', ({ options }) => {
    let stack: SsmStack;

    beforeAll(async () => {
      stack = await loadStack(family, source, { ...config, ...options });
    });

    afterAll(() => stack.dispose());

    test('agrees with the formulas in float64, and with the library, over a sequence', async () => {
      const { y, state } = await scan(stack, x);
      expect(y.shape).toEqual([rows, steps, stack.dModel]);
      expect(relativeRms(packed(y), packed(golden.y64) as Float64Array)).toBeLessThan(LIMIT);
      expect(relativeRms(packed(y), packed(golden.y) as Float32Array)).toBeLessThan(
        LIMIT_OF_FLOAT32,
      );
      expectStates(state);
    });

    test.each([
      ['step by step', everyStep(steps)],
      ['in two pieces', [4, steps]],
      ['in uneven pieces', [1, 3, 8, steps]],
    ])('agrees with them %s', async (_, ends) => {
      const { y, state } = await scanPieces(stack, x, ends);
      expect(relativeRms(packed(y), packed(golden.y64) as Float64Array)).toBeLessThan(LIMIT);
      expect(relativeRms(packed(y), packed(golden.y_step) as Float32Array)).toBeLessThan(
        LIMIT_OF_FLOAT32,
      );
      expectStates(state);
    });
  });
});

test('a config.json beside the file that was named is read where it describes the stack', async () => {
  // Without it the groups of B and C would be taken for one, whose numbers are others.
  const { x, y64 } = goldenArrays('mamba2-hf');
  const file = `${STACKS}/mamba2-hf/model.safetensors`;
  await using stack = await loadStack('mamba2', file, {});
  const { y } = await scan(stack, x as NdView);
  expect(relativeRms(packed(y), packed(y64) as Float64Array)).toBeLessThan(LIMIT);
  await using wrong = await loadStack('mamba2', readFileSync(file), {});
  const other = await scan(wrong, x as NdView);
  expect(relativeRms(packed(other.y), packed(y64) as Float64Array)).toBeGreaterThan(0.1);
});

test('weights in bfloat16 are read as the library reads them', async () => {
  const { x, y, y_bf16: expected } = goldenArrays('mamba2-hf');
  for (const { options } of forms) {
    const file = `${STACKS}/mamba2-hf/model-bf16.safetensors`;
    await using stack = await loadStack('mamba2', file, { nGroups: 2, ...options });
    const result = await scan(stack, x as NdView);
    expect(relativeRms(packed(result.y), packed(expected) as Float32Array)).toBeLessThan(
      LIMIT_OF_FLOAT32,
    );
    // And not as though they had not been rounded.
    expect(relativeRms(packed(result.y), packed(y) as Float32Array)).toBeGreaterThan(1e-3);
  }
});

describe('the same bits come of the same weights', () => {
  // What the folders' config.json tell beyond the defaults.
  const untold = {
    'mamba1-ssm': {},
    'mamba1-hf': {},
    'falcon-mamba-hf': { mixerNorm: true },
    'jamba-mixer': { normEps: 1e-6 },
    'mamba2-ssm': { nGroups: 2 },
    'mamba2-limit-ssm': { dtLimit: [0.001, 0.1] as const },
    'mamba2-mlp-ssm': { nGroups: 2 },
    'mamba2-hf': { nGroups: 2 },
  };
  const scratch = mkdtempSync(join(tmpdir(), 'umwelt-stacks-'));
  afterAll(() => rmSync(scratch, { recursive: true }));

  test.each(goldenStacks)('$name: from a folder, a file, URLs, bytes and arrays', async (stack) => {
    const { name, family, source } = stack;
    const x = goldenArrays(name).x as NdView;
    const config = untold[name as keyof typeof untold];
    const form = kernelForms[0].options;
    const run = async (from: WeightsSource, more = config) => {
      await using loaded = await loadStack(family, from, { ...more, ...form });
      return scan(loaded, x);
    };
    const folder = `${STACKS}/${name}`;
    const file = `${folder}/model.safetensors`;
    const bytes = readFileSync(file);
    const { tensors } = readSafetensors(bytes);
    const vectors = Object.entries(tensors).map(
      ([key, view]) => [key, view.shape.length === 1 ? packed(view) : view] as const,
    );
    const bare = join(scratch, `${name}.safetensors`);
    copyFileSync(file, bare);

    const expected = await run(source, stack.config);
    expectBits(await run(file), expected);
    expectBits(await run(bare), expected);
    expectBits(await run(pathToFileURL(file)), expected);
    expectBits(await run(pathToFileURL(bare).href), expected);
    // The configuration of Jamba is not that of a stack.
    if (name !== 'jamba-mixer') expectBits(await run(pathToFileURL(`${folder}/`), {}), expected);
    expectBits(await run(new Uint8Array(bytes)), expected);
    expectBits(await run(tensors), expected);
    expectBits(await run(Object.fromEntries(vectors)), expected);
    const transposed = Object.entries(tensors).map(([key, view]) => [key, turned(view as NdView)]);
    expectBits(await run(Object.fromEntries(transposed)), expected);
  });

  /** The same matrix, stored column by column. */
  function turned(view: NdView): NdView {
    const [rows, columns] = view.shape;
    if (view.shape.length !== 2) return view;
    const from = packed(view);
    const data = Float32Array.from(
      from,
      (_, i) => from[(i % rows) * columns + Math.floor(i / rows)],
    );
    return { ...nd(data, view.shape), stride: [1, rows] };
  }
});
