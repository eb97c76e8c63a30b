/** The trained hopper ensemble beside the true simulator. */

import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, imagine, maxAleatoric, type NdView, NetworkPolicy, nd } from 'umwelt';
import { modelContext, outputTargets, type Prediction } from 'umwelt/dynamics';
import {
  imagineRecorded,
  modelCalibrationReport,
  openLoopReport,
  type RecordedSequences,
  reportTable,
  sampleRecorded,
  sampleReport,
  uncertaintyErrorCorrelation,
} from 'umwelt/evaluation';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { simulate } from '../../examples/demo/compare.js';
import { Hopper } from '../../examples/hopper/simulator.js';
import { recordedStarts } from '../../examples/hopper/starts.js';
import { HOPPER_ENSEMBLE, HOPPER_POLICY, hopperStarts, ids } from '../support/models.js';

const ROWS = 128;
const HORIZON = 10;
const S = 11;
let model: EnsembleDynamics;
let recorded: RecordedSequences & { readonly reward: NdView<Float64Array> };
let scale: number[];

beforeAll(async () => {
  model = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE);
  scale = (model.manifest.inputNormalizer as { std: number[] }).std.slice(0, S);
  await using policy = await NetworkPolicy.load(ort, HOPPER_POLICY);
  using hopper = await Hopper.load();
  // The actions are those of a dream; what they lead to is the simulator's.
  const start = nd(hopperStarts().data.slice(0, ROWS * S), [ROWS, S]);
  const dream = await imagine(model, policy, { start, horizon: HORIZON, seed: 3 }).collect();
  recorded = { ...simulate(hopper, recordedStarts(), dream), action: dream.action };
});

afterAll(() => model.dispose());

test('its dreams beat standing still at every horizon to 10, and drift as they go', async () => {
  const { imagined, actual, nonFinite } = await imagineRecorded(model, recorded, { seed: 1 });
  const { states, reward } = openLoopReport(imagined, actual, { scale });
  expect(nonFinite).toBe(0);
  expect([...states.count]).toEqual(new Array(HORIZON).fill(ROWS));
  for (let step = 0; step < HORIZON; step++) {
    expect(states.skill[step]).toBeGreaterThan(0.8);
    expect(states.rmse[step]).toBeLessThan(0.5 * states.persistence[step]);
    expect(states.median[step]).toBeLessThan(states.p90[step]);
  }
  expect(states.rmse[0]).toBeLessThan(0.2);
  expect(states.rmse[9]).toBeGreaterThan(states.rmse[0]);
  expect(Math.abs(reward?.bias[0] ?? 9)).toBeLessThan(0.01);
});

test('its uncertainty ranks the steps of its dreams as their errors do', async () => {
  const score = maxAleatoric();
  const { imagined, actual } = await imagineRecorded(model, recorded, { seed: 1, score });
  const { mask, perRow } = openLoopReport(imagined, actual, { scale });
  const options = { seed: 0, resamples: 200, mask };
  const report = uncertaintyErrorCorrelation(imagined.uncertainty, perRow, options);
  expect(report).toMatchObject({ count: ROWS * HORIZON, starts: ROWS });
  expect(report.low).toBeGreaterThan(0.3);
  expect(report.low).toBeLessThan(report.spearman);
  expect(report.high).toBeGreaterThan(report.spearman);
  expect(Math.min(...(report.byHorizon?.low ?? []))).toBeGreaterThan(0);
});

test('the mean of several dreams is nearer to the truth than one, and the nearest nearer still', async () => {
  const { obs, actual } = await sampleRecorded(model, recorded, { seed: 1, samples: 8 });
  const report = sampleReport(obs, actual, { scale });
  for (let step = 0; step < HORIZON; step++) {
    expect(report.rmseOfMean[step]).toBeLessThan(report.rmseOfOne[step]);
    expect(report.rmseOfBest[step]).toBeLessThan(report.rmseOfMean[step]);
    expect(report.energyScore[step]).toBeLessThan(report.rmseOfOne[step]);
  }
});

test('its one-step predictions are near, ranked well by their uncertainty, and wider than they need be', async () => {
  const obs = column(recorded.obs, 0);
  const nextObs = column(recorded.obs, 1);
  const action = column(recorded.action, 0);
  const { prediction } = await model.step({ obs }, action, modelContext(1, ids(ROWS)));
  const reward = Float32Array.from(ids(ROWS), (row) => recorded.reward.data[row * HORIZON]);
  const members = prediction as Prediction;
  const target = outputTargets(model.manifest, { obs, nextObs, reward });
  const report = modelCalibrationReport(members, target, {
    members: 'elite',
    scale: [...scale, 1],
    uncertainty: await maxAleatoric()(members),
  });
  expect(report).toMatchObject({ count: ROWS, members: 5 });
  expect(report.mse).toBeLessThan(0.02);
  expect(report.spearman).toBeGreaterThan(0.7);
  // Its log-variances end at their lower bound: it is less sure than it could be.
  expect(report.coverage.share[0]).toBeGreaterThan(0.7);
  expect(report.coverage.share[1]).toBeGreaterThan(0.9);
  expect(report.recalibration).toBeLessThan(1);
  expect(report.ece).toBeGreaterThan(0.1);
  expect(report.crps).toBeLessThan(Math.sqrt(report.mse));
  expect(reportTable(report)).toContain('byOutput:');
});

/** One time of `[B, T, ...]`, float32 `[B, width]`. */
function column({ data, shape }: RecordedSequences['obs'], time: number): NdView {
  const [rows, times, width] = shape;
  const out = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let d = 0; d < width; d++) out[row * width + d] = data[(row * times + time) * width + d];
  }
  return nd(out, [rows, width]);
}
