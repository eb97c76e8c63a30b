/**
 * The demo: a trained ensemble dreams, and the true simulator says how well.
 *
 * Run it by `npm run demo`; `npm run demo -- --help` lists the options.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { SingleBar } from 'cli-progress';
import * as ort from 'onnxruntime-node';
import {
  EnsembleDynamics,
  imagine,
  maxAleatoric,
  maxPairwiseDifference,
  NetworkPolicy,
  nd,
  type TerminationFunction,
  type Trajectory,
} from 'umwelt';
import { writeNpz } from 'umwelt/formats';
import { Hopper } from '../hopper/simulator.js';
import { recordedStarts } from '../hopper/starts.js';
import { type Comparison, compare, simulate } from './compare.js';
import { dreamFan } from './fan.js';
import { type DemoOptions, parseOptions, USAGE, UsageError } from './options.js';
import { runAsProgram } from './program.js';
import { renderReport } from './report.js';
import { textTable } from './table.js';

const MODELS = new URL('../models/', import.meta.url);

/** Reward taken off for each unit of uncertainty. */
const COEFFICIENT = 1;

/** Dreams of the one start that the fan shows. */
const FAN_PATHS = 64;

/** What the demo made. */
export interface DemoResult {
  /** Scored by `maxPairwiseDifference`, and by `maxAleatoric` as `scores.aleatoric`. */
  readonly dream: Trajectory;
  readonly comparison: Comparison;
  /** Paths of the files. */
  readonly page: string;
  readonly transitions: string;
}

/** Dreams, compares, and writes the page and the transitions; `print` gets the story in text. */
export async function runDemo(
  options: DemoOptions,
  print: (text: string) => void = console.log,
): Promise<DemoResult> {
  const { seed, rows, horizon, out } = options;
  await mkdir(out, { recursive: true });

  // 1. Two models, each a folder with a manifest; loading checks their golden vectors.
  await using model = await EnsembleDynamics.load(ort, new URL('hopper-ensemble', MODELS));
  await using policy = await NetworkPolicy.load(ort, new URL('hopper-policy', MODELS));
  const { name, ensembleSize, inputNormalizer, obsNames = [] } = model.manifest;
  const { elites } = model;
  print(
    `Ensemble '${name}': ${ensembleSize} members, ${elites.length} elites, on ${model.device}.`,
  );

  // 2. Recorded states to start from. The model sees observations; the simulator takes full states.
  using hopper = await Hopper.load();
  const starts = recordedStarts().slice(0, rows);
  if (starts.length < rows) {
    throw new UsageError(
      `--rows must be at most ${starts.length}, the recorded starts, got ${rows}`,
    );
  }
  const start = nd(starts.map(({ qpos, qvel }) => hopper.reset(qpos, qvel)));

  // 3. The dream. The task's own rule says when the hopper has fallen.
  const terminate: TerminationFunction = ({ nextObs }) => {
    const [count, width] = nextObs.shape;
    return Uint8Array.from({ length: count }, (_, row) =>
      hopper.isHealthy(nextObs.data.subarray(row * width, (row + 1) * width)) ? 0 : 1,
    );
  };
  const bar = new SingleBar({ format: 'Dreaming {bar} step {value}/{total}, {rows} rows' });
  bar.start(horizon, 0, { rows });
  const began = performance.now();
  const dream = await imagine(model, policy, {
    start,
    horizon,
    seed,
    penalty: { score: maxPairwiseDifference(), coefficient: COEFFICIENT },
    // Another score of the same steps, which changes nothing.
    scores: { aleatoric: maxAleatoric() },
    terminate,
    onProgress: (progress) => bar.update(progress.step, { rows: progress.rows }),
  })
    .collect()
    .finally(() => bar.stop());
  const elapsed = (performance.now() - began) / 1000;

  // 4. The truth: the same starts and the same actions in MuJoCo.
  const reality = simulate(hopper, starts, dream);
  const scale = inputNormalizer?.std.slice(0, model.obsSize);
  if (scale === undefined) throw new Error('demo: the ensemble must have an inputNormalizer');
  const comparison = compare(dream, reality, scale);
  print(textTable(comparison.lines));
  print(TABLE_NOTE);

  // 5. What it left behind: transitions for a learner, pictures for us.
  const fan = await dreamFan(model, dream, comparison, { paths: FAN_PATHS, seed });
  const transitions = dream.transitions();
  const count = transitions.reward.length;
  const rate = count / elapsed;
  print(
    `Dreamt ${count} transitions in ${elapsed.toFixed(2)} s: ${Math.round(rate)} a second, ` +
      'with the penalty of all members.',
  );
  const page = join(out, 'dream.html');
  const npz = join(out, 'dream.npz');
  await writeFile(npz, writeNpz(transitions));
  await writeFile(
    page,
    renderReport({
      options,
      model: { name: name ?? 'ensemble', members: ensembleSize, elites: elites.length },
      policy: policy.manifest.name ?? 'policy',
      obsNames,
      stepMs: hopper.dt * 1000,
      dream,
      coefficient: COEFFICIENT,
      comparison,
      fan,
      transitions: count,
      rate,
    }),
  );
  print(`Pictures:    ${fromHere(page)}`);
  print(`Transitions: ${fromHere(npz)}, in Python: numpy.load('${fromHere(npz)}')['nextObs']`);
  return { dream, comparison, page, transitions: npz };
}

const TABLE_NOTE = `Means over rows. Returns and penalty add up over the steps that dream and simulator both took; a row
that has ended in either keeps what it had, and leaves rows, error and rank correlation. Error is in
standard deviations of the training data; the correlation is of uncertainty with it, at that step.
Persistence is to hold the start: its error is what a model must beat.`;

function fromHere(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

await runAsProgram(import.meta.url, USAGE, parseOptions, runDemo);
