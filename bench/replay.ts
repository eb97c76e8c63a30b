/**
 * Batches from a full replay buffer, against a plain loop that copies the same fields from typed arrays
 * at random rows that were drawn beforehand: what memory allows.
 *
 * Run: npx tsx bench/replay.ts [--seconds 20] [--rows 1000000] [--batch 256]
 */

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { nd } from '../src/nd.js';
import { FrequencySampler } from '../src/sampling/frequency-sampler.js';
import { PrioritizedSampler } from '../src/sampling/prioritized-sampler.js';
import { ReplayBuffer } from '../src/sampling/replay-buffer.js';
import { SequenceSampler } from '../src/sampling/sequence-sampler.js';
import { UniformSampler } from '../src/sampling/uniform-sampler.js';
import { interleaved } from './interleaved.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    rows: { type: 'string', default: '1000000' },
    batch: { type: 'string', default: '256' },
  },
});
const rows = Number(values.rows);
const batch = Number(values.batch);
const OBS = 17;
const ACT = 6;
const EPISODE = 1000;
/** Batches a timed task: enough that a clock tick does not matter, few enough to take turns often. */
const BATCHES = 200;

const schema = {
  obs: { dtype: 'float32', shape: [OBS] },
  action: { dtype: 'float32', shape: [ACT] },
  reward: 'float32',
  nextObs: { dtype: 'float32', shape: [OBS] },
  terminated: 'uint8',
  truncated: 'uint8',
} as const;

const megabytes = () => Math.round(process.memoryUsage().rss / 2 ** 20);
const before = megabytes();
const buffer = new ReplayBuffer({ capacity: rows, schema });
const reserved = megabytes();
let began = performance.now();
for (let from = 0; from < rows; from += EPISODE) {
  const n = Math.min(EPISODE, rows - from);
  const values = (width: number) => Float32Array.from({ length: n * width }, (_, i) => from + i);
  buffer.addBatch({
    obs: nd(values(OBS), [n, OBS]),
    action: nd(values(ACT), [n, ACT]),
    reward: values(1),
    nextObs: nd(values(OBS), [n, OBS]),
    terminated: new Uint8Array(n),
    truncated: Uint8Array.from({ length: n }, (_, i) => (i === n - 1 ? 1 : 0)),
  });
}
const filled = performance.now() - began;

const uniform = new UniformSampler(buffer);
const distinct = new UniformSampler(buffer, { replacement: false });
const sequence = new SequenceSampler(buffer, { length: 16 });
const prioritized = new PrioritizedSampler(buffer);
const frequency = new FrequencySampler(buffer, { modelLength: 64, imaginationLength: 8 });
{
  // Priorities of many sizes, as after a while of training.
  const index = Int32Array.from({ length: rows }, (_, i) => i);
  began = performance.now();
  prioritized.update({
    index,
    priority: Float32Array.from(index, (i) => ((i * 7919) % 1000) / 100),
  });
}
const updated = performance.now() - began;

const source = {
  obs: buffer.columns.obs.data.slice(),
  action: buffer.columns.action.data.slice(),
  reward: buffer.columns.reward.slice(),
  nextObs: buffer.columns.nextObs.data.slice(),
  terminated: buffer.columns.terminated.slice(),
  truncated: buffer.columns.truncated.slice(),
};
const target = {
  obs: new Float32Array(batch * OBS),
  action: new Float32Array(batch * ACT),
  reward: new Float32Array(batch),
  nextObs: new Float32Array(batch * OBS),
  terminated: new Uint8Array(batch),
  truncated: new Uint8Array(batch),
};
const drawn = Int32Array.from({ length: BATCHES * batch * 16 }, () =>
  Math.floor(Math.random() * rows),
);

function copyLoop(first: number): void {
  const { obs, action, reward, nextObs, terminated, truncated } = source;
  const to = target;
  for (let i = 0; i < batch; i++) {
    const row = drawn[first + i];
    for (let j = 0; j < OBS; j++) to.obs[i * OBS + j] = obs[row * OBS + j];
    for (let j = 0; j < ACT; j++) to.action[i * ACT + j] = action[row * ACT + j];
    to.reward[i] = reward[row];
    for (let j = 0; j < OBS; j++) to.nextObs[i * OBS + j] = nextObs[row * OBS + j];
    to.terminated[i] = terminated[row];
    to.truncated[i] = truncated[row];
  }
}

function copyLoopByField(first: number): void {
  const { obs, action, reward, nextObs, terminated, truncated } = source;
  const to = target;
  for (let i = 0, at = 0; i < batch; i++) {
    const row = drawn[first + i] * OBS;
    for (let j = 0; j < OBS; j++) to.obs[at++] = obs[row + j];
  }
  for (let i = 0, at = 0; i < batch; i++) {
    const row = drawn[first + i] * ACT;
    for (let j = 0; j < ACT; j++) to.action[at++] = action[row + j];
  }
  for (let i = 0; i < batch; i++) to.reward[i] = reward[drawn[first + i]];
  for (let i = 0, at = 0; i < batch; i++) {
    const row = drawn[first + i] * OBS;
    for (let j = 0; j < OBS; j++) to.nextObs[at++] = nextObs[row + j];
  }
  for (let i = 0; i < batch; i++) to.terminated[i] = terminated[drawn[first + i]];
  for (let i = 0; i < batch; i++) to.truncated[i] = truncated[drawn[first + i]];
}

let step = 0;
let turn = 0;
const out = buffer.get(uniform.sample(batch, 1).index);
const windows = buffer.windows(sequence.sample(batch, 1).index, 16);
const errors = new Float32Array(batch).fill(0.5);
const many = (work: () => void) => async () => {
  for (let i = 0; i < BATCHES; i++) work();
};
const timings = await interleaved(
  {
    'plain copy loop, row by row': many(() => {
      turn = (turn + 1) % (16 * BATCHES);
      copyLoop(turn * batch);
    }),
    'plain copy loop, field by field': many(() => {
      turn = (turn + 1) % (16 * BATCHES);
      copyLoopByField(turn * batch);
    }),
    'uniform + get': many(() => {
      buffer.get(uniform.sample(batch, 1, { step: step++ }).index, { out });
    }),
    'uniform + get, new arrays': many(() => {
      buffer.get(uniform.sample(batch, 1, { step: step++ }).index);
    }),
    'uniform without replacement + get': many(() => {
      buffer.get(distinct.sample(batch, 1, { step: step++ }).index, { out });
    }),
    'prioritized + get': many(() => {
      buffer.get(prioritized.sample(batch, 1, { step: step++ }).index, { out });
    }),
    'prioritized + get + update': many(() => {
      const sample = prioritized.sample(batch, 1, { step: step++ });
      buffer.get(sample.index, { out });
      prioritized.update({ ...sample, priority: errors });
    }),
    'sequences of 16 + windows': many(() => {
      buffer.windows(sequence.sample(batch, 1, { step: step++ }).index, 16, { out: windows });
    }),
  },
  Number(values.seconds),
);
const table = new Table({
  head: [
    'task',
    'us a batch, median',
    'p25',
    'p75',
    'batches/s',
    'of row by row',
    'of field by field',
  ],
});
const us = (ms: number) => (1000 * ms) / BATCHES;
for (const { name, median, p25, p75 } of timings) {
  table.push([
    name,
    us(median).toFixed(1),
    us(p25).toFixed(1),
    us(p75).toFixed(1),
    Math.round(1e6 / us(median)).toLocaleString('en'),
    (median / timings[0].median).toFixed(2),
    (median / timings[1].median).toFixed(2),
  ]);
}
began = performance.now();
const ROUNDS = 5;
for (let i = 0; i < ROUNDS; i++) frequency.sample(batch, 1, { step: i, purpose: 'model' });
const scan = (performance.now() - began) / ROUNDS;

console.log(
  `${cpus()[0].model}, ${cpus().length} cores, Node ${process.version}, one thread; ` +
    `${rows.toLocaleString('en')} transitions of obs ${OBS}, action ${ACT}, batches of ${batch}`,
);
console.log(table.toString());
console.log(
  `reserve: ${reserved - before} MB resident of ${Math.round((rows * 166) / 2 ** 20)} MB; ` +
    `fill in episodes of ${EPISODE}: ${filled.toFixed(0)} ms; all priorities set: ${updated.toFixed(0)} ms; ` +
    `one frequency batch: ${scan.toFixed(0)} ms`,
);
