import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readNpz } from 'umwelt/formats';
import type { KernelVariant } from 'umwelt/ssm';
import { describe, expect, test } from 'vitest';
import index from '../fixtures/ssm/functions/index.json' with { type: 'json' };
import {
  type Arrays,
  elements,
  type FunctionName,
  memoryOf,
  positional,
  positions,
  product,
  relativeRms,
  run,
  variants,
} from './arrays.js';

// Made by make_functions.py beside the folder: inputs, and the results of upstream's code.
const folder = fileURLToPath(new URL('../fixtures/ssm/functions', import.meta.url));

const optional: Readonly<Record<FunctionName, readonly string[]>> = {
  selectiveScan: ['D', 'z', 'deltaBias', 'state', 'reset'],
  ssd: ['D', 'z', 'dtBias', 'state', 'reset'],
  causalConv1d: ['bias', 'state', 'reset'],
};

const RESULTS = ['y32', 'lastState32', 'y64', 'lastState64'];

interface GoldenCase {
  readonly function: FunctionName;
  readonly file: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly by32: string;
}

const cases = index.cases as readonly GoldenCase[];

function load({ function: name, file }: GoldenCase): { inputs: Arrays; expected: Arrays } {
  const arrays = readNpz(readFileSync(`${folder}/${file}`));
  const required = [...positional[name], ...RESULTS];
  const missing = required.filter((argument) => !(argument in arrays));
  const known = [...required, ...optional[name]];
  const strangers = Object.keys(arrays).filter((argument) => !known.includes(argument));
  expect({ missing, strangers }).toEqual({ missing: [], strangers: [] });
  const entries = Object.entries(arrays);
  const isResult = ([argument]: [string, unknown]) => RESULTS.includes(argument);
  return {
    inputs: Object.fromEntries(entries.filter((entry) => !isResult(entry))),
    expected: Object.fromEntries(entries.filter(isResult)),
  };
}

/** The tolerances by which upstream's own tests compare its float32 kernels with these functions. */
function toleranceOf(by: string): { rtol: number; atol: number } {
  const [, name] = /^(\w+)/.exec(by) ?? [];
  switch (name) {
    case 'selective_scan_ref':
      return { rtol: 6e-4, atol: 2e-3 };
    case 'selective_state_update_ref':
      return { rtol: 3e-4, atol: 1e-3 };
    case 'ssd_minimal_discrete':
      return { rtol: 1e-2, atol: 3e-3 };
    case 'causal_conv1d_ref':
      return { rtol: 3e-4, atol: 1e-3 };
    default:
      throw new Error(`no tolerance of upstream's for ${by}`);
  }
}

test('every golden file belongs to one case, and every case has its file', () => {
  const files = readdirSync(folder).filter((file) => file.endsWith('.npz'));
  expect(cases.map(({ file }) => file).sort()).toEqual(files.sort());
});

test('the cases cover each function, length, state size and option that was promised', () => {
  const shapes = cases.map((golden) => ({ ...golden, inputs: load(golden).inputs }));
  for (const name of ['selectiveScan', 'ssd', 'causalConv1d'] as const) {
    const own = shapes.filter((golden) => golden.function === name);
    const lengths = own.map(({ inputs }) => inputs[positional[name][0]].shape[1]);
    expect([...new Set(lengths)].sort((a, b) => a - b)).toEqual([1, 2, 7, 64, 257]);
    for (const option of optional[name]) {
      const having = own.filter(({ inputs }) => option in inputs).length;
      expect([option, having > 0 && having < own.length]).toEqual([option, true]);
    }
    if (name === 'causalConv1d') continue;
    const stateSizes = own.map(({ inputs }) => inputs.B.shape[inputs.B.shape.length - 1]);
    expect([...new Set(stateSizes)].sort((a, b) => a - b)).toEqual([1, 16, 64, 128]);
    const groups = own.map(({ inputs }) => (inputs.B.shape.length === 4 ? inputs.B.shape[2] : 1));
    expect(Math.max(...groups)).toBeGreaterThan(1);
  }
});

describe.each(variants)('the %s kernels', (variant) => {
  test.each(cases)('agree with float64 on $file to a relative RMS of 1e-6', (golden) => {
    const { actual, expected } = evaluate(golden, variant);
    expect(relativeRms(elements(actual.y), elements64(expected.y64))).toBeLessThan(1e-6);
    expect(relativeRms(elements(actual.lastState), elements64(expected.lastState64))).toBeLessThan(
      1e-6,
    );
  });

  test.each(cases)('agree with $by32 on $file as closely as upstream asks', (golden) => {
    const { actual, expected } = evaluate(golden, variant);
    const tolerance = toleranceOf(golden.by32);
    expect(elements(actual.y)).toBeAllclose(elements(expected.y32), tolerance);
    expect(elements(actual.lastState)).toBeAllclose(elements(expected.lastState32), tolerance);
  });
});

function evaluate(golden: GoldenCase, variant: KernelVariant) {
  const { inputs, expected } = load(golden);
  const call = { name: golden.function, arrays: inputs, letters: {}, options: golden.options };
  return { actual: run(call, { memory: memoryOf(variant) }), expected };
}

/** The elements of a float64 array, row-major. */
function elements64(view: Arrays[string]): Float64Array {
  expect(view.data).toBeInstanceOf(Float64Array);
  const out = new Float64Array(product(view.shape));
  positions(view, (at, index) => {
    out[index] = Number(view.data[at]);
  });
  return out;
}
