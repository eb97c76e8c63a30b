/**
 * Numbers of noise per second, one thread: the WASM kernel against its scalar twin. Beside the normal
 * ones belongs what PyTorch gives on the same machine: python bench/normal.py
 *
 * Run: npm run bench:noise [-- --seconds 50]
 */

import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import type { FillRows, RowNoiseKernel } from '../src/kernels/row-noise-scalar.js';
import * as scalar from '../src/kernels/row-noise-scalar.js';
import { startRowNoise } from '../src/kernels/row-noise-simd.js';
import { truncation } from '../src/kernels/truncation.js';
import { interleaved } from './interleaved.js';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '50' } } });
const WIDE = [1 << 20, 4];
const SHAPES = [WIDE, [10_000, 12], [400, 12], [400, 3]];
/** Small requests are repeated, for the clock's sake. */
const NUMBERS_A_RUN = 120_000;

function truncated(low: number, high: number) {
  const cut = truncation(low, high);
  return ({ truncatedNormalRows }: RowNoiseKernel): FillRows =>
    (out, width, names) =>
      truncatedNormalRows(out, width, names, cut);
}

type Case = [name: string, fill: (kernel: RowNoiseKernel) => FillRows, shape: number[]];
const cases: Case[] = [
  ...SHAPES.map((shape): Case => ['normal', ({ normalRows }) => normalRows, shape]),
  ['uniform', ({ uniformRows }) => uniformRows, WIDE],
  ...SHAPES.map((shape): Case => ['Gumbel', ({ gumbelRows }) => gumbelRows, shape]),
  ...SHAPES.map((shape): Case => ['normal in -2..2', truncated(-2, 2), shape]),
  ['normal above 3', truncated(3, Infinity), WIDE],
];

const kernel = startRowNoise();
if (kernel === undefined) throw new Error('noise: the WASM kernel does not start here');

const table = new Table({
  head: ['noise', 'rows x width', 'by', 'M/s, median', 'p25', 'p75', 'times the scalar'],
});
for (const [noise, fill, [rows, width]] of cases) {
  const out = new Float32Array(rows * width);
  const trajectory = Uint32Array.from({ length: rows }, (_, i) => i);
  const repeats = Math.max(1, Math.round(NUMBERS_A_RUN / out.length));
  const task = (fillRows: FillRows) => async () => {
    for (let step = 0; step < repeats; step++) {
      fillRows(out, width, { trajectory, step, stream: 0, draw: 0, k0: 1, k1: 2 });
    }
  };
  const tasks = { scalar: task(fill(scalar)), kernel: task(fill(kernel)) };
  const timings = await interleaved(tasks, Number(values.seconds) / cases.length);
  for (const { name, median, p25, p75 } of timings) {
    const perSecond = (ms: number) => ((repeats * out.length) / ms / 1000).toFixed(1);
    const ratio = (timings[0].median / median).toFixed(1);
    const shape = `${rows} x ${width}`;
    table.push([noise, shape, name, perSecond(median), perSecond(p75), perSecond(p25), ratio]);
  }
}
console.log(table.toString());
