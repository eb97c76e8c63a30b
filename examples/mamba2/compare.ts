/** Holds the world model here against PyTorch's, and its dreams against the simulator. */

import { realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type NdView, nd, packed, type TypedArray } from 'umwelt';
import { openLoopError } from 'umwelt/evaluation';
import { readSafetensors } from 'umwelt/formats';
import type { SsmState } from 'umwelt/ssm';
import { at, cut, join } from './sequences.js';
import { WorldModel } from './world-model.js';

/** Where `train.py` writes. */
export const FOLDER: URL = new URL('model/', import.meta.url);

/** Steps that a dream is given before it imagines. */
const SEEN = 8;

type Views = Readonly<Record<string, NdView>>;

/** Throws that the model was not trained on, and what PyTorch makes of them in float64. */
export interface Golden {
  /** 1 where a throw begins, `[B, L]`. */
  readonly reset: NdView<TypedArray>;
  /** Rows of several throws: `obs`, `action` and `next`; the core's `x` and `y`; `predicted`. */
  readonly rows: Views;
  /** The core's state after the rows, `layers.{i}.conv` and `layers.{i}.ssm`. */
  readonly state: Views;
  /** Throws as long as a dream: `obs` and `action`, and the dream, `predicted`. */
  readonly dream: Views;
}

/** The rows here beside PyTorch's: differences are relative root mean squares. */
export interface RowComparison {
  /** Outputs of the core, all steps at once. */
  readonly scan: number;
  /** Outputs of the core, step by step. */
  readonly steps: number;
  /** The state after all steps at once, of the array that differs most. */
  readonly scanState: number;
  /** The state after all steps one by one. */
  readonly stepsState: number;
  /** The next observations. */
  readonly predicted: number;
  /** Outputs of the core when nobody says where throws begin. */
  readonly withoutResets: number;
  /** Root mean square error of the next observation, in units of its usual change. */
  readonly error: number;
  /** The same when the memory is emptied before every step. */
  readonly errorWithoutMemory: number;
}

/** Dreams beside the simulator: errors by horizon, in standard deviations of the observations. */
export interface DreamComparison {
  readonly here: Float64Array;
  readonly pytorch: Float64Array;
  /** Of the guess that nothing moves after the last observation that was seen. */
  readonly still: Float64Array;
  /** Of the guess that everything goes on as between the last two. */
  readonly straight: Float64Array;
  /** Between the dreams here and PyTorch's. */
  readonly gap: Float64Array;
}

/** Reads what PyTorch computed. */
export async function readGolden(folder: URL = FOLDER): Promise<Golden> {
  const { tensors } = readSafetensors(await readFile(new URL('golden.safetensors', folder)));
  const part = (prefix: string): Views => {
    const keys = Object.keys(tensors).filter((key) => key.startsWith(prefix));
    const entries = keys.map((key) => [key.slice(prefix.length), tensors[key] as NdView] as const);
    return Object.fromEntries(entries);
  };
  const { reset } = tensors;
  return { reset, rows: part('rows.'), state: part('state.'), dream: part('dream.') };
}

/** Runs the rows, at once and step by step. */
export async function compareRows(model: WorldModel, golden: Golden): Promise<RowComparison> {
  const { core } = model;
  const { reset } = golden;
  const { obs, action, x, y, next, predicted } = golden.rows;
  const [batch, steps] = x.shape;

  const scanned = await core.scan(x, undefined, { reset });
  let state = core.initialState(batch);
  const outputs: NdView[] = [];
  for (let step = 0; step < steps; step++) {
    const flags = Uint8Array.from(packed(at(reset, step)), Number);
    const result = await core.step(at(x, step), state, { reset: flags });
    state.release();
    state = result.state;
    outputs.push(result.y);
  }
  const unaware = await core.scan(x);

  const predict = async (reset: NdView<TypedArray>): Promise<NdView> => {
    const result = await core.scan(model.embed(obs, action), undefined, { reset });
    result.state.release();
    return model.advance(obs, result.y);
  };
  const remembering = await predict(reset);
  const forgetting = await predict(nd(new Uint8Array(batch * steps).fill(1), [batch, steps]));
  const scale = packed(model.weights.delta_std);

  const comparison = {
    scan: relativeRms(scanned.y, y),
    steps: relativeRms(join(outputs), y),
    scanState: await stateGap(scanned.state, golden.state),
    stepsState: await stateGap(state, golden.state),
    predicted: relativeRms(remembering, predicted),
    withoutResets: relativeRms(unaware.y, y),
    error: rms(differences(remembering, next, scale)),
    errorWithoutMemory: rms(differences(forgetting, next, scale)),
  };
  for (const used of [scanned.state, unaware.state, state]) used.release();
  return comparison;
}

/** Dreams the throws. */
export async function compareDreams(model: WorldModel, golden: Golden): Promise<DreamComparison> {
  const { obs, action, predicted } = golden.dream;
  const [last, before] = [at(obs, SEEN - 1), at(obs, SEEN - 2)].map(packed);
  const truth = cut(obs, SEEN - 1);
  const guess = (speed: number): NdView => {
    const steps = Array.from({ length: truth.shape[1] }, (_, step) =>
      last.map((v, i) => v + step * speed * (v - before[i])),
    );
    return join(steps.map((step) => nd(step, [obs.shape[0], obs.shape[2]])));
  };
  const scale = packed(model.weights.obs_std);
  const error = (imagined: NdView, actual: NdView): Float64Array =>
    openLoopError(imagined, actual, { scale }).rmse;
  const here = await model.dream(cut(obs, 0, SEEN), action);
  return {
    here: error(here, truth),
    pytorch: error(predicted, truth),
    still: error(guess(0), truth),
    straight: error(guess(1), truth),
    gap: error(here, predicted),
  };
}

async function stateGap(state: SsmState, expected: Views): Promise<number> {
  const arrays = await state.toArrays();
  return Math.max(...Object.keys(arrays).map((name) => relativeRms(arrays[name], expected[name])));
}

function relativeRms(actual: NdView, expected: NdView): number {
  return rms(differences(actual, expected, [1])) / rms(packed(expected));
}

/** Differences of arrays, those of dimension `i` of the last axis in units of `scale[i]`. */
function differences(a: NdView, b: NdView, scale: ArrayLike<number>): Float32Array {
  const from = packed(b);
  return packed(a).map((value, i) => (value - from[i]) / scale[i % scale.length]);
}

function rms(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

/** The comparison as text. */
export function report(rows: RowComparison, dreams: DreamComparison): string {
  const difference = (label: string, value: number): string =>
    `  ${label.padEnd(42)}${value.toExponential(1)}`;
  const cells = (texts: readonly string[]): string =>
    texts.map((text) => text.padStart(13)).join('');
  const { here, pytorch, still, straight } = dreams;
  const horizons = [1, 2, 5, 10, 15, 20].map((steps) => {
    const errors = [here, pytorch, still, straight].map((error) => error[steps - 1].toFixed(3));
    return cells([`${steps}`, ...errors]);
  });
  return [
    'Relative RMS difference from PyTorch in float64',
    difference('outputs of the core, all steps at once', rows.scan),
    difference('outputs of the core, step by step', rows.steps),
    difference('outputs of the core, resets left out', rows.withoutResets),
    difference('state after all steps at once', rows.scanState),
    difference('state after all steps one by one', rows.stepsState),
    difference('next observations', rows.predicted),
    '',
    'RMS error of the next observation, in units of its usual change',
    `  ${'as trained'.padEnd(42)}${rows.error.toFixed(2)}`,
    `  ${'memory emptied before every step'.padEnd(42)}${rows.errorWithoutMemory.toFixed(2)}`,
    '',
    `RMS error of dreams after ${SEEN} steps seen, in standard deviations of the observations`,
    cells(['steps', 'here', 'PyTorch', 'still', 'straight on']),
    ...horizons,
  ].join('\n');
}

async function main(): Promise<void> {
  await using model = await WorldModel.load(FOLDER);
  const golden = await readGolden();
  console.log(report(await compareRows(model, golden), await compareDreams(model, golden)));
}

// Run as a program, and not imported by a test.
const [, program] = process.argv;
if (program && realpathSync(program) === fileURLToPath(import.meta.url)) await main();
