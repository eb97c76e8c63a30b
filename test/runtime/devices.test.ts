import * as ort from 'onnxruntime-node';
import { Network, nd } from 'umwelt';
import { ModelLoadError } from 'umwelt/runtime';
import { describe, expect, test } from 'vitest';
import { identityModel } from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';

const model = identityModel();

describe('devices', () => {
  test('may be one, by its name', async () => {
    await using network = await Network.load(ort, model, { devices: 'cpu' });
    expect(network.device).toBe('cpu');
  });

  test('are the CPU alone by default', async () => {
    await using network = await Network.load(ort, model);
    expect(network.device).toBe('cpu');
    expect(network.failures).toEqual([]);
  });

  // The CUDA libraries are not installed with the development dependencies.
  test('are tried in order, and the reason of each failure is kept', async () => {
    await using network = await Network.load(ort, model, { devices: ['cuda', 'nonsense', 'cpu'] });
    expect(network.device).toBe('cpu');
    expect(network.failures.map(({ device }) => device)).toEqual(['cuda', 'nonsense']);
    expect(network.failures[0].reason).toMatch(/cuda/i);
    expect(network.failures[1].reason).toContain('nonsense');
    const { y } = await network.run({ x: nd([[1, 2, 3]]) });
    expect([...y.data]).toEqual([1, 2, 3]);
  });

  test('after the first that works are not tried', async () => {
    await using network = await Network.load(ort, model, { devices: ['cpu', 'nonsense'] });
    expect(network.device).toBe('cpu');
    expect(network.failures).toEqual([]);
  });

  test('that all fail are a ModelLoadError with every reason and the remedy', async () => {
    await expectRefusal(
      Network.load(ort, model, { devices: ['cuda'] }),
      ModelLoadError,
      'no device could load',
      'cuda: ',
      "add 'cpu' to devices",
    );
    await expectRefusal(
      Network.load(ort, model, { devices: ['cuda', 'nonsense'] }),
      ModelLoadError,
      'cuda: ',
      'nonsense: no available backend found',
    );
  });

  test('that include the CPU are not told to add it', async () => {
    const [{ reason }] = await Promise.allSettled([
      Network.load(ort, model.slice(), { devices: ['cpu'], session: { intraOpNumThreads: -7 } }),
    ]).then((outcomes) => outcomes as PromiseRejectedResult[]);
    expect(reason).toBeInstanceOf(ModelLoadError);
    expect(reason.message).toContain('cpu: ');
    expect(reason.message).not.toContain("add 'cpu'");
  });

  test('must be at least one', async () => {
    await expectRefusal(Network.load(ort, model, { devices: [] }), RangeError, 'at least one');
  });
});

describe('session options', () => {
  test('reach ONNX Runtime, with one thread by default, and cannot change the device', async () => {
    const seen: Record<string, unknown>[] = [];
    const recording = {
      ...ort,
      InferenceSession: {
        create: (bytes: Uint8Array, options: Record<string, unknown> = {}) => {
          seen.push(options);
          return ort.InferenceSession.create(bytes, options);
        },
      },
    } as unknown as typeof ort;
    await using plain = await Network.load(recording, model);
    await using tuned = await Network.load(recording, model, {
      session: {
        intraOpNumThreads: 2,
        graphOptimizationLevel: 'disabled',
        executionProviders: ['x'],
      },
    });
    expect([plain.device, tuned.device]).toEqual(['cpu', 'cpu']);
    expect(seen[0]).toEqual({ intraOpNumThreads: 1, executionProviders: ['cpu'] });
    expect(seen[1]).toEqual({
      intraOpNumThreads: 2,
      graphOptimizationLevel: 'disabled',
      executionProviders: ['cpu'],
    });
  });
});
