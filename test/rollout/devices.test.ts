import * as node from 'onnxruntime-node';
import type * as web from 'onnxruntime-web';
import * as wasm from 'onnxruntime-web/wasm';
import type * as webgpu from 'onnxruntime-web/webgpu';
import { EnsembleDynamics, imagine, NetworkPolicy } from 'umwelt';
import type { Ort } from 'umwelt/runtime';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { HOPPER_ENSEMBLE, HOPPER_POLICY, hopperStarts } from '../support/models.js';

async function dreamOn(ort: Ort, device: string, horizon: number) {
  await using model = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE, { devices: device });
  await using policy = await NetworkPolicy.load(ort, HOPPER_POLICY, { devices: device });
  return await imagine(model, policy, { start: hopperStarts(), horizon, seed: 5 }).collect();
}

describe('another device', () => {
  test('sees the same noise and the same members, and agrees on a step within 1e-5', async () => {
    // Its default count of threads asks Node for a module in a way that this build cannot.
    wasm.env.wasm.numThreads = 1;
    const here = await dreamOn(node, 'cpu', 4);
    const there = await dreamOn(wasm, 'wasm', 4);
    expect(there.member.data).toEqual(here.member.data);
    const [rows, , width] = here.obs.shape;
    const first = (data: Float32Array, steps: number, at: number, size: number) =>
      Float32Array.from({ length: rows * size }, (_, i) => {
        const row = Math.floor(i / size);
        return data[(row * steps + at) * size + (i % size)];
      });
    const close = { rtol: 1e-5, atol: 1e-5 };
    expect(first(there.action.data, 4, 0, 3)).toBeAllclose(first(here.action.data, 4, 0, 3), close);
    expect(first(there.obs.data, 5, 1, width)).toBeAllclose(
      first(here.obs.data, 5, 1, width),
      close,
    );
    expect(first(there.reward.data, 4, 0, 1)).toBeAllclose(first(here.reward.data, 4, 0, 1), close);
    // It is another device: bits differ somewhere, or this test would be about nothing.
    expect(there.obs.data).not.toEqual(here.obs.data);
  });
});

test('types: every entry of ONNX Runtime can be passed in', () => {
  expectTypeOf<typeof node>().toExtend<Ort>();
  expectTypeOf<typeof web>().toExtend<Ort>();
  expectTypeOf<typeof wasm>().toExtend<Ort>();
  expectTypeOf<typeof webgpu>().toExtend<Ort>();
});
