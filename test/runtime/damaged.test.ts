import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { Network } from 'umwelt';
import { writeModel } from 'umwelt/onnx';
import { ModelLoadError } from 'umwelt/runtime';
import { describe, expect, test } from 'vitest';
import { HOPPER_POLICY, toyEnsemble } from '../support/models.js';
import { impossibleWeightModel } from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';

const text = (content: string) => new TextEncoder().encode(content);

/** Bytes of a small linear congruential generator. */
function randomBytes(length: number, seed: number): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

describe('bytes that are no model', () => {
  test.each([
    ['nothing', new Uint8Array(0)],
    ['zeros', new Uint8Array(64)],
    ['a Git LFS pointer', text('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n')],
    ['an HTML page', text('<!DOCTYPE html><html><body>Not found</body></html>')],
    ['JSON', text('{"format": 1}')],
    ['a ZIP file', Uint8Array.of(0x50, 0x4b, 3, 4, 20, 0, 0, 0, 8, 0)],
  ])('such as %s are a ModelLoadError', async (_, bytes) => {
    const load = Network.load(ort, bytes);
    await expectRefusal(load, ModelLoadError, 'the model bytes', 'not a complete ONNX model');
  });

  test('such as random ones are a ModelLoadError', async () => {
    for (let seed = 1; seed <= 50; seed++) {
      await expectRefusal(Network.load(ort, randomBytes(seed * 7, seed)), ModelLoadError);
    }
  });

  test('are named by their file', async () => {
    const manifest = { format: 1, kind: 'network', file: 'broken.onnx' };
    const files = { 'broken.onnx': text('oops') };
    await expectRefusal(Network.load(ort, { manifest, files }), ModelLoadError, 'broken.onnx');
  });
});

describe('a truncated model', () => {
  test.each([
    ['a toy ensemble', join(toyEnsemble('separate'), 'ensemble.onnx')],
    ['the trained policy', join(HOPPER_POLICY, 'policy.onnx')],
  ])('is a ModelLoadError wherever %s is cut', async (_, path) => {
    const whole = new Uint8Array(readFileSync(path));
    const files = {
      'policy.onnx.data': new Uint8Array(readFileSync(join(HOPPER_POLICY, 'policy.onnx.data'))),
    };
    const survivors: string[] = [];
    for (let length = 0; length < whole.length; length++) {
      const [outcome] = await Promise.allSettled([
        Network.load(ort, whole.slice(0, length), { files }),
      ]);
      const reason = outcome.status === 'rejected' ? outcome.reason : undefined;
      if (!(reason instanceof ModelLoadError)) survivors.push(`${length}: ${reason ?? 'loaded'}`);
    }
    expect(survivors).toEqual([]);
    await using complete = await Network.load(ort, whole, { files });
    expect(complete.device).toBe('cpu');
  });
});

describe('a graph ONNX Runtime refuses', () => {
  const graph = (op: string, domain?: string) =>
    writeModel({
      graph: {
        inputs: [{ name: 'x', shape: ['B', 3] }],
        outputs: [{ name: 'y', shape: ['B', 3] }],
        nodes: [{ op, ...(domain && { domain }), inputs: ['x'], outputs: ['y'] }],
      },
    });

  test('for an operator it does not know is a ModelLoadError with its reason', async () => {
    await expectRefusal(Network.load(ort, graph('Nope')), ModelLoadError, 'cpu: ', 'Nope');
    await expectRefusal(Network.load(ort, graph('Relu', 'my.ops')), ModelLoadError, 'my.ops');
  });

  test('for a version of the format or of the operators it does not know is a ModelLoadError', async () => {
    const spec = {
      inputs: [{ name: 'x', shape: [1] }],
      outputs: [{ name: 'y', shape: [1] }],
      nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    };
    const format = writeModel({ irVersion: 99, graph: spec });
    await expectRefusal(Network.load(ort, format), ModelLoadError, 'IR version');
    const operators = writeModel({ opsets: { '': 99 }, graph: spec });
    await expectRefusal(Network.load(ort, operators), ModelLoadError, 'opset');
  });

  test('for a name nobody computes is a ModelLoadError', async () => {
    const dangling = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: [1] }],
        outputs: [{ name: 'y', shape: [1] }],
        nodes: [{ op: 'Identity', inputs: ['ghost'], outputs: ['y'] }],
      },
    });
    await expectRefusal(Network.load(ort, dangling), ModelLoadError, 'ghost');
  });

  test('for a weight of impossible size is a ModelLoadError', async () => {
    await expectRefusal(Network.load(ort, impossibleWeightModel()), ModelLoadError, 'cpu: ');
  });
});
