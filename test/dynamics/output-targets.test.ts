import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, nd, ShapeError } from 'umwelt';
import { modelContext, outputTargets } from 'umwelt/dynamics';
import { describe, expect, test } from 'vitest';
import { HOPPER_ENSEMBLE, hopperStarts, ids } from '../support/models.js';

const transitions = {
  obs: nd([
    [1, 10],
    [2, 20],
  ]),
  nextObs: nd([
    [1.5, 11],
    [4, 18],
  ]),
  reward: Float32Array.of(7, 8),
};

describe('outputTargets', () => {
  test('are the changes of the observation, and the reward where it is', () => {
    const ask = (rewardIndex: number | null) => {
      const target = outputTargets({ obsSize: 2, predictsDelta: true, rewardIndex }, transitions);
      expect(target.shape).toEqual([2, rewardIndex === null ? 2 : 3]);
      return [...target.data];
    };
    expect(ask(2)).toEqual([0.5, 1, 7, 2, -2, 8]);
    expect(ask(0)).toEqual([7, 0.5, 1, 8, 2, -2]);
    expect(ask(1)).toEqual([0.5, 7, 1, 2, 8, -2]);
    expect(ask(null)).toEqual([0.5, 1, 2, -2]);
  });

  test('are observations themselves where those are predicted', () => {
    const whole = outputTargets(
      { obsSize: 2, predictsDelta: false, rewardIndex: null },
      transitions,
    );
    expect([...whole.data]).toEqual([1.5, 11, 4, 18]);
    const some = outputTargets(
      { obsSize: 2, predictsDelta: true, noDelta: [1], rewardIndex: 2 },
      transitions,
    );
    expect([...some.data]).toEqual([0.5, 11, 7, 2, 18, 8]);
  });

  test('lead an ensemble to the observations and rewards they are made of', async () => {
    await using model = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE);
    const obs = hopperStarts();
    const [rows] = obs.shape;
    const action = nd(new Float32Array(rows * model.actionSize), [rows, model.actionSize]);
    const step = await model.step({ obs }, action, modelContext(3, ids(rows)));
    const target = outputTargets(model.manifest, {
      obs,
      nextObs: step.obs,
      reward: step.reward,
    });
    const { sample, arrive } = step.prediction ?? {};
    // What was drawn, but for the rounding of adding it to the observation and taking that away again.
    expect(target.data).toBeAllclose(sample?.data ?? [], { rtol: 1e-4, atol: 1e-5 });
    const arrival = arrive?.(target);
    expect(arrival?.nextObs.data).toBeAllclose(step.obs.data, { rtol: 1e-6, atol: 1e-6 });
    expect(arrival?.reward).toEqual(step.reward);
  });

  test('take rewards before a penalty where there are such', () => {
    const rawReward = Float64Array.of(70, 80);
    const meanings = { obsSize: 2, predictsDelta: true, rewardIndex: 2 };
    const { data } = outputTargets(meanings, { ...transitions, rawReward });
    expect([data[2], data[5]]).toEqual([70, 80]);
  });

  test('read strided and float64 views', () => {
    const turned = {
      data: Float64Array.of(1, 2, 10, 20),
      shape: [2, 2],
      stride: [1, 2],
      offset: 0,
    };
    const meanings = { obsSize: 2, predictsDelta: true, rewardIndex: 2 };
    expect(outputTargets(meanings, { ...transitions, obs: turned })).toEqual(
      outputTargets(meanings, transitions),
    );
  });

  test('refuse transitions that do not fit, and a missing reward', () => {
    const meanings = { obsSize: 2, predictsDelta: true, rewardIndex: 2 };
    const { obs, nextObs } = transitions;
    expect(() => outputTargets(meanings, { obs, nextObs })).toThrow(
      'reward must be a Float32Array or Float64Array, for the model predicts one, got undefined',
    );
    expect(() => outputTargets(meanings, { obs, nextObs, reward: new Float32Array(3) })).toThrow(
      ShapeError,
    );
    expect(() => outputTargets(meanings, { ...transitions, nextObs: nd([[1, 2]]) })).toThrow(
      ShapeError,
    );
    expect(() => outputTargets({ ...meanings, obsSize: 3 }, transitions)).toThrow(ShapeError);
    // @ts-expect-error a model and not its manifest
    expect(() => outputTargets({ obsSize: 2 }, transitions)).toThrow(
      'give the manifest of a model',
    );
  });
});
