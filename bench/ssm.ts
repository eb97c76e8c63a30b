/**
 * The state-space kernels and stacks, one thread, in turns.
 *
 * Functions: each WASM variant of `selectiveScan`, on ordinary arrays (copies included) and in place in kernel
 * memory, against the scalar reference, and against the eager scan of state-spaces/mamba in PyTorch where
 * a Python with it is given. Results go to arrays made beforehand, but for PyTorch, which has no such thing
 * (nor an initial state). A step goes on from the state of the step before.
 * Blocks: one layer of Drama's size with its norms, as projections around the kernels against one graph.
 *
 * Run: npm run bench:ssm [-- --seconds 60 --python PYTHON --mamba CHECKOUT --width 512]
 * Node 20 has relaxed SIMD behind a flag:
 * node --experimental-wasm-relaxed-simd --import tsx bench/ssm.ts
 */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import * as ort from 'onnxruntime-node';
import { type NdView, nd, sizeOf } from '../src/nd.js';
import { KernelMemory, type KernelVariant } from '../src/ssm/kernel-memory.js';
import { MambaStack } from '../src/ssm/mamba-stack.js';
import { Mamba2Stack } from '../src/ssm/mamba2-stack.js';
import { selectiveScan } from '../src/ssm/selective-scan.js';
import type { SsmStack } from '../src/ssm/stack.js';
import { interleaved } from './interleaved.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    python: { type: 'string', default: 'python3' },
    mamba: { type: 'string' },
    width: { type: 'string', default: '512' },
  },
});
type Task = () => Promise<unknown>;

const SCANS = [
  [16, 64, 1024, 16],
  [1, 1024, 1536, 16],
  [1024, 1, 1024, 16],
];
const BLOCKS = [
  [1, 1],
  [4, 1],
  [8, 1],
  [16, 1],
  [256, 1],
  [1024, 1],
  [16, 64],
];
const WIDTH = Number(values.width);

let seed = 1;
/** Numbers in `at - spread .. at + spread`, the same in every run. */
function random(shape: readonly number[], spread = 1, at = 0): NdView {
  const data = new Float32Array(sizeOf(shape));
  for (let i = 0; i < data.length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    data[i] = at + spread * (seed / 2 ** 31 - 1);
  }
  return nd(data, shape);
}

const variants = (['scalar', 'simd', 'relaxed'] as const).filter((variant) => {
  try {
    return new KernelMemory({ bytes: 1, variant });
  } catch {
    return false;
  }
});

/** @param inPlace - whether the arrays lie in kernel memory, so that nothing is copied */
function scanTask([batch, steps, D, N]: number[], variant: KernelVariant, inPlace: boolean): Task {
  const memory = new KernelMemory({ bytes: inPlace ? 2 ** 28 : 2 ** 24, variant });
  const array = (shape: number[], spread = 1, at = 0): NdView => {
    const values = random(shape, spread, at);
    if (!inPlace) return values;
    const placed = memory.array(shape);
    placed.data.set(values.data);
    return placed;
  };
  const u = array([batch, steps, D]);
  const delta = array([batch, steps, D]);
  const A = array([D, N], 1, -2);
  const B = array([batch, steps, N]);
  const C = array([batch, steps, N]);
  const z = array([batch, steps, D]);
  const options = { D: random([D]), z, deltaBias: random([D], 1, -4), deltaSoftplus: true, memory };
  const y = array([batch, steps, D]);
  // In the order that the kernels have states in.
  const states = [array([batch, N, D]), array([batch, N, D])].map(
    ({ data }): NdView => ({ data, shape: [batch, D, N], stride: [N * D, 1, D], offset: 0 }),
  );
  return async () => {
    const [state, lastState] = states;
    selectiveScan(u, delta, A, B, C, { ...options, state, out: { y, lastState } });
    if (steps === 1) states.reverse();
  };
}

/** PyTorch in a process of its own, a run a line. */
function pyTorch(checkout: string) {
  const script = fileURLToPath(new URL('selective_scan.py', import.meta.url));
  const child = spawn(values.python, [script, checkout], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    task:
      (sizes: number[]): Task =>
      async () => {
        child.stdin.write(`${sizes.join(' ')}\n`);
        const { done } = await lines.next();
        if (done) throw new Error('ssm: the Python process ended');
      },
    end: () => child.stdin.end(),
  };
}

function mambaWeights(): Record<string, NdView> {
  const [D, N, R] = [2 * WIDTH, 16, WIDTH / 16];
  return {
    'layers.0.norm.weight': random([WIDTH], 0.1, 1),
    'layers.0.mixer.in_proj.weight': random([2 * D, WIDTH], 0.04),
    'layers.0.mixer.conv1d.weight': random([D, 1, 4], 0.5),
    'layers.0.mixer.conv1d.bias': random([D], 0.1),
    'layers.0.mixer.x_proj.weight': random([R + 2 * N, D], 0.03),
    'layers.0.mixer.dt_proj.weight': random([D, R], 0.1),
    'layers.0.mixer.dt_proj.bias': random([D], 1, -4),
    'layers.0.mixer.A_log': random([D, N], 1, 1),
    'layers.0.mixer.D': random([D], 0.1, 1),
    'layers.0.mixer.out_proj.weight': random([WIDTH, D], 0.03),
    'norm_f.weight': random([WIDTH], 0.1, 1),
  };
}

function mamba2Weights(): Record<string, NdView> {
  const [D, N, H] = [2 * WIDTH, 16, (2 * WIDTH) / 64];
  return {
    'layers.0.norm.weight': random([WIDTH], 0.1, 1),
    'layers.0.mixer.in_proj.weight': random([2 * D + 2 * N + H, WIDTH], 0.04),
    'layers.0.mixer.conv1d.weight': random([D + 2 * N, 1, 4], 0.5),
    'layers.0.mixer.conv1d.bias': random([D + 2 * N], 0.1),
    'layers.0.mixer.dt_bias': random([H], 1, -4),
    'layers.0.mixer.A_log': random([H], 1, 1),
    'layers.0.mixer.D': random([H], 0.1, 1),
    'layers.0.mixer.norm.weight': random([D], 0.1, 1),
    'layers.0.mixer.out_proj.weight': random([WIDTH, D], 0.03),
    'norm_f.weight': random([WIDTH], 0.1, 1),
  };
}

/** Each run goes on from the state of the one before. */
function blockTask(stack: SsmStack, batch: number, steps: number): Task {
  const x = random([batch, steps, WIDTH]);
  let state = stack.initialState(batch);
  return async () => {
    const next = await stack.scan(x, state);
    state.release();
    state = next.state;
  };
}

const perCase = Number(values.seconds) / (SCANS.length + 2 * BLOCKS.length);
const ms = (time: number): string => time.toPrecision(3);

const python = values.mamba === undefined ? undefined : pyTorch(values.mamba);
const scans = new Table({
  head: ['selectiveScan B, L, D, N', 'by', 'ms', 'p25', 'p75', 'times the scalar', 'PyTorch'],
});
for (const sizes of SCANS) {
  const tasks: Record<string, Task> = {};
  if (python !== undefined) tasks.PyTorch = python.task(sizes);
  for (const variant of variants) tasks[variant] = scanTask(sizes, variant, false);
  for (const variant of variants.filter((name) => name !== 'scalar')) {
    tasks[`${variant}, in place`] = scanTask(sizes, variant, true);
  }
  const timings = await interleaved(tasks, perCase);
  const timeOf = (by: string) => timings.find(({ name }) => name === by)?.median ?? Number.NaN;
  for (const { name, median, p25, p75 } of timings) {
    const against = (by: string) => (timeOf(by) / median).toFixed(1);
    scans.push([
      sizes.join(', '),
      name,
      ms(median),
      ms(p25),
      ms(p75),
      against('scalar'),
      against('PyTorch'),
    ]);
  }
}
python?.end();
console.log(scans.toString());

const blocks = new Table({
  head: ['block', 'B x L', 'form', 'ms', 'p25', 'p75', 'times one graph'],
});
for (const [name, Stack, weights] of [
  ['Mamba-2', Mamba2Stack, mamba2Weights()],
  ['Mamba', MambaStack, mambaWeights()],
] as const) {
  const forms: [string, SsmStack][] = [
    ['graph', await Stack.load(ort, weights, { form: 'graph' })],
  ];
  for (const variant of variants.filter((variant) => variant !== 'scalar')) {
    const options = { form: 'kernels', memory: { variant } } as const;
    forms.push([`kernels, ${variant}`, await Stack.load(ort, weights, options)]);
  }
  for (const [batch, steps] of BLOCKS) {
    // One graph of Mamba takes no sequences on a CPU.
    const here = forms.filter(([form]) => steps === 1 || name === 'Mamba-2' || form !== 'graph');
    const tasks = Object.fromEntries(
      here.map(([form, stack]) => [form, blockTask(stack, batch, steps)]),
    );
    const timings = await interleaved(tasks, perCase);
    const graph = timings.find((timing) => timing.name === 'graph')?.median ?? Number.NaN;
    for (const { name: form, median, p25, p75 } of timings) {
      const ratio = (graph / median).toFixed(2);
      const times = [ms(median), ms(p25), ms(p75), Number.isNaN(graph) ? '' : ratio];
      blocks.push([name, `${batch} x ${steps}`, form, ...times]);
    }
  }
}
console.log(blocks.toString());
