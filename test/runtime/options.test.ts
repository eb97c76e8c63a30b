import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, Network, NetworkPolicy } from 'umwelt';
import { readNpz, writeNpz } from 'umwelt/formats';
import {
  FrequencySampler,
  MixtureSampler,
  PrioritizedSampler,
  ReplayBuffer,
  UniformSampler,
} from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { HOPPER_POLICY, toyEnsemble } from '../support/models.js';
import { identityModel } from '../support/onnx-builder.js';
import { expectRefusal, expectThrow } from './refusal.js';

describe('an option nobody reads is refused, for a misspelt one would be a default', () => {
  test('by everything that loads', async () => {
    const typo = { propogation: 'expectation' } as never;
    for (const attempt of [
      EnsembleDynamics.load(ort, toyEnsemble('shared'), typo),
      NetworkPolicy.load(ort, HOPPER_POLICY, typo),
      Network.load(ort, identityModel(), typo),
    ]) {
      await expectRefusal(attempt, TypeError, "got 'propogation'", 'devices');
    }
  });

  test('by buffers and samplers', () => {
    const field = { dtype: 'float32', shpae: [3] } as never;
    const make = () => new ReplayBuffer({ capacity: 4, schema: { x: field } });
    expectThrow(make, TypeError, 'field x', "got 'shpae'");
    const buffer = new ReplayBuffer({ capacity: 4, schema: { x: 'float32' } });
    expectThrow(() => new PrioritizedSampler(buffer, { aplha: 1 } as never), TypeError, 'aplha');
    expectThrow(() => new UniformSampler(buffer, { replacment: true } as never), TypeError);
    // A misspelt step would draw the same batch for ever.
    buffer.addBatch({ x: new Float32Array(4) });
    for (const sampler of [new UniformSampler(buffer), new PrioritizedSampler(buffer)]) {
      expectThrow(() => sampler.sample(2, 1, { stpe: 3 } as never), TypeError, "got 'stpe'");
    }
  });
});

describe('something other than ONNX Runtime', () => {
  test.each([undefined, null, {}, { default: ort }])('is refused by name: %o', async (other) => {
    await expectRefusal(
      EnsembleDynamics.load(other as never, toyEnsemble('shared')),
      TypeError,
      'ort must be the ONNX Runtime module',
      "import * as ort from 'onnxruntime-node'",
    );
  });
});

describe('the devices that failed', () => {
  test('are told by every kind of model', async () => {
    const devices = ['nonsense', 'cpu'];
    await using model = await EnsembleDynamics.load(ort, toyEnsemble('files'), { devices });
    await using policy = await NetworkPolicy.load(ort, HOPPER_POLICY, { devices });
    for (const { failures } of [model, policy]) {
      expect(failures.map(({ device }) => device)).toEqual(['nonsense']);
    }
  });
});

describe('a mixture', () => {
  test('gives each source the options it needs', () => {
    const buffer = new ReplayBuffer({ capacity: 40, schema: { x: 'float32' } });
    buffer.addBatch({ x: new Float32Array(40) });
    const frequency = new FrequencySampler(buffer, { modelLength: 4, imaginationLength: 2 });
    const sampler = new MixtureSampler([
      { sampler: frequency, ratio: 0.5, options: { purpose: 'model' } },
      { sampler: new UniformSampler(buffer) },
    ]);
    expect([...sampler.sample(8, 1).counts]).toEqual([4, 4]);
  });
});

describe('transitions of several starts', () => {
  test('are refused as one run of rows', () => {
    const buffer = new ReplayBuffer({ capacity: 9, schema: { x: 'float32' } });
    const rows = { x: new Float32Array(2), startIndex: Int32Array.of(0, 1) };
    expectThrow(() => buffer.addBatch(rows), TypeError, 'use addTrajectory');
    expect(buffer.size).toBe(0);
  });
});

describe('snapshots of samplers', () => {
  test('come back from views, as a file reader gives them', () => {
    const buffer = new ReplayBuffer({ capacity: 9, schema: { x: 'float32' } });
    buffer.addBatch({ x: new Float32Array(9) });
    const sampler = new PrioritizedSampler(buffer);
    sampler.update({ index: Int32Array.of(3), priority: [5] });
    const views = readNpz(writeNpz(sampler.snapshot()));
    const again = PrioritizedSampler.restore(buffer, views);
    expect(again.sample(5, 1)).toEqual(sampler.sample(5, 1));
    expectThrow(
      () => PrioritizedSampler.restore(buffer, {}),
      TypeError,
      'prioritizedState must be a Float64Array',
    );
  });
});
