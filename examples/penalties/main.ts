/**
 * The penalties of the field on one model: which of them knows where the model is wrong?
 *
 * Run it by `npm run penalties`; `npm run penalties -- --help` lists the options.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import CliTable from 'cli-table3';
import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, imagine, NetworkPolicy, nd } from 'umwelt';
import { type DemoOptions, parseOptions, UsageError, usage } from '../demo/options.js';
import { runAsProgram } from '../demo/program.js';
import { Hopper } from '../hopper/simulator.js';
import { recordedStarts } from '../hopper/starts.js';
import { type JudgedTransitions, judge, type Phase, type Ranking, rank } from './measure.js';
import { cells, headings, renderReport } from './report.js';

const MODELS = new URL('../models/', import.meta.url);

/** Draws of the starts for the intervals. */
const RESAMPLES = 100;

/** What was found, and the page that shows it. */
export interface PenaltyReport {
  readonly rankings: readonly Ranking[];
  readonly judged: JudgedTransitions;
  readonly page: string;
}

/** Dreams, judges every transition, ranks the penalties and writes the page. */
export async function runPenalties(
  options: DemoOptions,
  print: (text: string) => void = console.log,
): Promise<PenaltyReport> {
  const { seed, rows, horizon, out } = options;
  await mkdir(out, { recursive: true });
  await using model = await EnsembleDynamics.load(ort, new URL('hopper-ensemble', MODELS));
  await using policy = await NetworkPolicy.load(ort, new URL('hopper-policy', MODELS));
  using hopper = await Hopper.load();
  const starts = recordedStarts().slice(0, rows);
  if (starts.length < rows) {
    throw new UsageError(
      `--rows must be at most ${starts.length}, the recorded starts, got ${rows}`,
    );
  }
  const dream = await imagine(model, policy, {
    start: nd(starts.map(({ qpos, qvel }) => hopper.reset(qpos, qvel))),
    horizon,
    seed,
    terminate: ({ nextObs }) => {
      const [count, width] = nextObs.shape;
      return Uint8Array.from({ length: count }, (_, row) =>
        hopper.isHealthy(nextObs.data.subarray(row * width, (row + 1) * width)) ? 0 : 1,
      );
    },
  }).collect();
  const scale = model.manifest.inputNormalizer?.std.slice(0, model.obsSize);
  if (scale === undefined) throw new Error('penalties: the ensemble must have an inputNormalizer');
  const judged = await judge(model, hopper, dream, scale, seed);
  const phases = thirds(horizon);
  const rankings = rank(judged, phases, { resamples: RESAMPLES, seed });

  print(`Rank correlation of penalty and true error on ${judged.error.length} dreamt transitions:`);
  print(textTable(rankings, phases));
  const page = join(out, 'penalties.html');
  await writeFile(
    page,
    renderReport({
      options,
      model: model.manifest.name ?? 'ensemble',
      policy: policy.manifest.name ?? 'policy',
      phases,
      rankings,
      judged,
      resamples: RESAMPLES,
    }),
  );
  print(`Pictures: ${relative(process.cwd(), page)}`);
  return { rankings, judged, page };
}

/** Early, middle and late steps of a dream. */
function thirds(horizon: number): Phase[] {
  const edges = [0, Math.ceil(horizon / 6), Math.ceil(horizon / 2), horizon];
  return edges
    .slice(1)
    .map((to, i) => ({ name: `steps ${edges[i] + 1} to ${to}`, from: edges[i] + 1, to }))
    .filter(({ from, to }) => from <= to);
}

function textTable(rankings: readonly Ranking[], phases: readonly Phase[]): string {
  const table = new CliTable({
    head: headings(phases),
    colAligns: headings(phases).map((_, i) => (i === 0 ? 'left' : 'right')),
    // No colours: the table may go to a file.
    style: { head: [], border: [], compact: true },
  });
  table.push(...rankings.map(cells));
  return table.toString();
}

const USAGE = usage(
  'Ranks every penalty by its rank correlation with the true error of the hopper ensemble.',
  'penalties',
  'penalties.html',
  'examples/penalties/out',
);

await runAsProgram(
  import.meta.url,
  USAGE,
  (args) => parseOptions(args, new URL('out', import.meta.url)),
  runPenalties,
);
