import * as ort from 'onnxruntime-node';
import { packed } from 'umwelt';
import { Mamba2Stack } from 'umwelt/ssm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  compareDreams,
  compareRows,
  type DreamComparison,
  FOLDER,
  type Golden,
  type RowComparison,
  readGolden,
  report,
} from '../../examples/mamba2/compare.js';
import { cut } from '../../examples/mamba2/sequences.js';
import { WorldModel } from '../../examples/mamba2/world-model.js';
import { relativeRms } from '../ssm/arrays.js';

let golden: Golden;
beforeAll(async () => {
  golden = await readGolden();
});

describe.each(['auto', 'graph', 'kernels'] as const)('the trained core in the form %s', (form) => {
  let model: WorldModel;
  let rows: RowComparison;
  let dreams: DreamComparison;
  beforeAll(async () => {
    model = await WorldModel.load(FOLDER, { form });
    rows = await compareRows(model, golden);
    dreams = await compareDreams(model, golden);
  });
  afterAll(() => model.core.dispose());

  test('has the outputs of PyTorch, all steps at once and step by step', () => {
    expect(rows.scan).toBeLessThan(1e-5);
    expect(rows.steps).toBeLessThan(1e-5);
  });

  test('has the states of PyTorch after them', () => {
    expect(rows.scanState).toBeLessThan(1e-5);
    expect(rows.stepsState).toBeLessThan(1e-5);
  });

  test('has the outputs of PyTorch when the rows come in pieces', async () => {
    const { x, y } = golden.rows;
    let state = model.core.initialState(x.shape[0]);
    for (const [from, to] of [
      [0, 1],
      [1, 24],
      [24, 24],
      [24, 64],
    ]) {
      const result = await model.core.scan(cut(x, from, to), state, {
        reset: cut(golden.reset, from, to),
      });
      expect(relativeRms(packed(result.y), packed(cut(y, from, to)))).toBeLessThan(1e-5);
      state.release();
      state = result.state;
    }
    state.release();
  });

  test('has other outputs without the resets, of which there are some inside the rows', () => {
    const inside = packed(cut(golden.reset, 1)).filter((flag) => flag === 1);
    expect(inside.length).toBeGreaterThan(golden.reset.shape[0]);
    expect(rows.withoutResets).toBeGreaterThan(0.1);
  });

  test('predicts the observations that PyTorch predicts', () => {
    expect(rows.predicted).toBeLessThan(1e-6);
  });

  test('predicts several times worse when its memory is emptied', () => {
    expect(rows.error).toBeLessThan(rows.errorWithoutMemory / 4);
  });

  test('dreams what PyTorch dreams', () => {
    expect(dreams.here).toHaveLength(20);
    for (const gap of dreams.gap) expect(gap).toBeLessThan(1e-5);
    expect(dreams.here).toBeAllclose(dreams.pytorch, { rtol: 1e-5, atol: 0 });
  });

  test('errs less than half as much as standing still or going straight on would', () => {
    dreams.here.forEach((error, step) => {
      expect(error).toBeLessThan(dreams.still[step] / 2);
      expect(error).toBeLessThan(dreams.straight[step] / 2);
    });
  });

  test('is reported with every number', () => {
    const text = report(rows, dreams);
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    expect(text.split('\n').at(-1)?.trim()).toMatch(/^20( +\d\.\d{3}){4}$/);
  });
});

test('the layer before the core must be left out by name', async () => {
  await expect(Mamba2Stack.load(ort, FOLDER, { prefix: 'backbone.' })).rejects.toThrow(
    'backbone.stem.weight',
  );
});
