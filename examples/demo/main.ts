/**
 * The demo: a trained ensemble dreams, and the true simulator says how well.
 *
 * Run it by `npm run demo`; `npm run demo -- --help` lists the options.
 */

import { realpathSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SingleBar } from 'cli-progress';
import * as ort from 'onnxruntime-node';
import {
  EnsembleDynamics,
  imagine,
  ModelContractError,
  ModelLoadError,
  maxAleatoric,
  maxPairwiseDifference,
  NetworkPolicy,
  nd,
  type TerminationFunction,
  type Trajectory,
  type UncertaintyScore,
} from 'umwelt';
import { writeNpz } from 'umwelt/formats';
import { Hopper } from '../hopper/simulator.js';
import { recordedStarts } from '../hopper/starts.js';
import { type Comparison, compare, simulate } from './compare.js';
import { dreamFan } from './fan.js';
import { type DemoOptions, parseOptions, USAGE, UsageError } from './options.js';
import { renderReport } from './report.js';
import { textTable } from './table.js';

const MODELS = new URL('../models/', import.meta.url);

/** Reward taken off for each unit of uncertainty. */
const COEFFICIENT = 1;

/** Dreams of the one start that the fan shows. */
const FAN_PATHS = 64;

/** What the demo made. */
export interface DemoResult {
  /** The same dream, scored by `maxPairwiseDifference` and by `maxAleatoric`. */
  readonly dreams: readonly [Trajectory, Trajectory];
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
  const dreamWith = async (label: string, score: UncertaintyScore): Promise<Trajectory> => {
    const bar = new SingleBar({ format: `${label} {bar} step {value}/{total}, {rows} rows` });
    bar.start(horizon, 0, { rows });
    try {
      return await imagine(model, policy, {
        start,
        horizon,
        seed,
        penalty: { score, coefficient: COEFFICIENT },
        terminate,
        onProgress: (progress) => bar.update(progress.step, { rows: progress.rows }),
      }).collect();
    } finally {
      bar.stop();
    }
  };
  const began = performance.now();
  const dream = await dreamWith('Dreaming           ', maxPairwiseDifference());
  const elapsed = (performance.now() - began) / 1000;
  // The same seed gives the same dream, so a second score can be had by dreaming again.
  const again = await dreamWith('With another score ', maxAleatoric());
  const dreams = [dream, again] as const;

  // 4. The truth: the same starts and the same actions in MuJoCo.
  const reality = simulate(hopper, starts, dream);
  const scale = inputNormalizer?.std.slice(0, model.obsSize);
  if (scale === undefined) throw new Error('demo: the ensemble must have an inputNormalizer');
  const comparison = compare(dreams, reality, scale);
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
      dreams,
      coefficient: COEFFICIENT,
      comparison,
      fan,
      transitions: count,
      rate,
    }),
  );
  print(`Pictures:    ${fromHere(page)}`);
  print(`Transitions: ${fromHere(npz)}, in Python: numpy.load('${fromHere(npz)}')['nextObs']`);
  return { dreams, comparison, page, transitions: npz };
}

const TABLE_NOTE = `Means over rows. Returns and penalty add up over the steps that dream and simulator both took; a row
that has ended in either keeps what it had, and leaves rows, error and rank correlation. Error is in
standard deviations of the training data; the correlation is of uncertainty with it, at that step.
Persistence is to hold the start: its error is what a model must beat.`;

function fromHere(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

/** Whether the file system refused something, as for an `--out` that is no folder. */
function isFileError(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error;
}

async function main(): Promise<void> {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options === null) console.log(USAGE);
    else await runDemo(options);
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}\n\n${USAGE}`);
    } else if (
      error instanceof ModelLoadError ||
      error instanceof ModelContractError ||
      isFileError(error)
    ) {
      console.error(error.message);
    } else {
      throw error;
    }
    process.exitCode = 1;
  }
}

// Run as a program, and not imported by a test.
const [, program] = process.argv;
if (program && realpathSync(program) === fileURLToPath(import.meta.url)) await main();
