import * as ort from 'onnxruntime-node';
import { nd } from 'umwelt';
import { imagine, networkValue, type ValueContext } from 'umwelt/rollout';
import { Network } from 'umwelt/runtime';
import { expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';
import { hopperStarts, inRepository, readJson } from '../support/models.js';
import { gemmModel } from '../support/onnx-builder.js';

const context = {} as ValueContext;

test('a network’s numbers are the values of observations', async () => {
  const network = await Network.load(ort, gemmModel({ weight: [2], bias: [1] }));
  const value = networkValue(network);
  expect(await value(nd([[1], [-3]]), context)).toEqual(Float32Array.of(3, -5));
  const dream = await imagine(lineWorld(), constantly(1), {
    start: nd([[0]]),
    horizon: 2,
    seed: 0,
    value,
  }).collect();
  expect([...(dream.value?.data ?? [])]).toEqual([1, 3, 5]);
  await network.dispose();
});

test('more than one value a row is refused', async () => {
  const network = await Network.load(ort, gemmModel({ weight: [2, 3], bias: [1, 1] }));
  const value = networkValue(network);
  await expect(value(nd([[1]]), context)).rejects.toThrow(/one value a row, got 2/);
  await network.dispose();
});

test('the hopper’s value gives what was recorded from PyTorch', async () => {
  const folder = 'examples/models/hopper-value';
  const { golden } = readJson<{
    golden: Record<'inputs' | 'outputs', Record<string, { shape: number[]; data: number[] }>>;
  }>(`${folder}/manifest.json`);
  const network = await Network.load(ort, inRepository(folder));
  const { obs } = golden.inputs;
  const values = await networkValue(network)(nd(Float32Array.from(obs.data), obs.shape), context);
  expect(values).toBeAllclose(golden.outputs.value.data, { rtol: 1e-5 });
  expect((await networkValue(network)(hopperStarts(), context)).length).toBe(256);
  await network.dispose();
});
