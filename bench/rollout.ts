/**
 * Imagined transitions per second of the hopper ensemble: each row on its own member ("bucketed", what a
 * rollout without a penalty does) against all members on every row (what a penalty needs).
 *
 * Run: npm run bench [-- --seconds 20]
 */

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import * as ort from 'onnxruntime-node';
import {
  EnsembleDynamics,
  imagine,
  maxAleatoric,
  maxPairwiseDifference,
  NetworkPolicy,
  nd,
} from 'umwelt';
import { recordedObservations } from '../examples/hopper/starts.js';
import { interleaved } from './interleaved.js';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '20' } } });
const HORIZON = 5;
const PENALTIES = {
  bucketed: undefined,
  'all members, maxPairwiseDifference': { score: maxPairwiseDifference(), coefficient: 1 },
  'all members, maxAleatoric': { score: maxAleatoric(), coefficient: 1 },
};

const folder = new URL('../examples/models/', import.meta.url);
const model = await EnsembleDynamics.load(ort, new URL('hopper-ensemble', folder));
const policy = await NetworkPolicy.load(ort, new URL('hopper-policy', folder));
const known = recordedObservations();

const table = new Table({
  head: ['rows', 'variant', 'ms, median', 'p25', 'p75', 'transitions/s', 'bucketed takes'],
});
for (const rows of [400, 10_000]) {
  const start = nd(Array.from({ length: rows }, (_, i) => known[i % known.length]));
  const tasks = Object.fromEntries(
    Object.entries(PENALTIES).map(([name, penalty]) => [
      name,
      () => imagine(model, policy, { start, horizon: HORIZON, seed: 1, penalty }).collect(),
    ]),
  );
  const timings = await interleaved(tasks, Number(values.seconds) / 2);
  for (const { name, median, p25, p75 } of timings) {
    table.push([
      rows,
      name,
      median.toFixed(1),
      p25.toFixed(1),
      p75.toFixed(1),
      Math.round((1000 * rows * HORIZON) / median).toLocaleString('en'),
      `1 / ${(median / timings[0].median).toFixed(2)}`,
    ]);
  }
}
const processor = `${cpus()[0].model}, ${cpus().length} cores`;
console.log(`${processor}, Node ${process.version}, one thread, horizon ${HORIZON}`);
console.log(table.toString());
await model.dispose();
await policy.dispose();
