/**
 * Goes through the inputs that could bring down a process, and prints what became of each. A test runs
 * it as a process of its own and looks at how that ended.
 */

import { readFileSync } from 'node:fs';
import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, Network, nd } from 'umwelt';
import { writeModel } from 'umwelt/onnx';
import { toyEnsemble } from '../support/models.js';
import {
  externalDataModel,
  gemmModel,
  identityModel,
  impossibleWeightModel,
  nestedRandomModel,
  unknownRankGruModel,
} from '../support/onnx-builder.js';

const toy = new Uint8Array(readFileSync(`${toyEnsemble('separate')}/ensemble.onnx`));
const gemm = gemmModel({ weight: [2], bias: [1] });

async function report(name: string, attempt: () => Promise<unknown>): Promise<void> {
  const [outcome] = await Promise.allSettled([attempt()]);
  const what = outcome.status === 'fulfilled' ? 'fine' : outcome.reason.constructor.name;
  console.log(`${name}: ${what}`);
}

const load = (model: Uint8Array, options = {}) => Network.load(ort, model, options);

await report('empty', () => load(new Uint8Array(0)));
await report('random bytes', () => load(Uint8Array.from({ length: 999 }, (_, i) => (i * i) % 251)));
await report('truncated', () => load(toy.slice(0, toy.length / 2)));
await report('unknown rank', () => load(unknownRankGruModel()));
await report('nested randomness', () => load(nestedRandomModel()));
await report('unknown device', () => load(gemm, { devices: ['nonsense'] }));
await report('no CUDA', () => load(gemm, { devices: ['cuda'] }));
await report('unknown operator', () =>
  load(
    writeModel({
      graph: {
        inputs: [{ name: 'x', shape: [1] }],
        outputs: [{ name: 'y', shape: [1] }],
        nodes: [{ op: 'Nope', inputs: ['x'], outputs: ['y'] }],
      },
    }),
  ),
);
await report('missing weights', () => load(externalDataModel([1]).model));
await report('weights outside', () => load(externalDataModel([1], '../../etc/hostname').model));
await report('missing folder', () => Network.load(ort, '/nowhere/at/all'));
await report('huge weight', () => load(impossibleWeightModel()));
await report('huge allocation', async () => {
  const model = writeModel({
    graph: {
      inputs: [{ name: 'x', dtype: 'int64', shape: [1] }],
      outputs: [{ name: 'y', shape: ['N'] }],
      nodes: [{ op: 'ConstantOfShape', inputs: ['x'], outputs: ['y'] }],
    },
  });
  return (await load(model)).run({ x: BigInt64Array.of(2n ** 40n) });
});
await report('wrong rank', async () => (await load(gemm)).run({ x: new Float32Array(1) }));
await report('wrong dtype', async () =>
  (await load(gemm)).run({ x: nd(new Float64Array(1), [1, 1]) }),
);
await report('no rows', async () => (await load(gemm)).run({ x: nd(new Float32Array(0), [0, 1]) }));
await report('a GPU tensor', async () => {
  const tensor = { type: 'float32', dims: [1, 1], location: 'gpu-buffer', data: 0, dispose() {} };
  return (await load(gemm)).run({ x: tensor });
});
await report('run after dispose', async () => {
  const network = await load(gemm);
  await network.dispose();
  await network.dispose();
  return network.run({ x: nd([[1]]) });
});
await report('dispose during runs', async () => {
  const network = await load(gemm);
  const runs = Array.from({ length: 20 }, () => network.run({ x: nd([[1]]) }));
  await network.dispose();
  return Promise.all(runs);
});
await report('a model nobody disposes', async () => {
  await load(identityModel());
  await EnsembleDynamics.load(ort, toyEnsemble('files'));
});

// Changed bytes: whatever becomes of them, an error must be one of ours.
const outcomes = new Set<string>();
let state = 12345;
const random = (below: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
for (let i = 0; i < 600; i++) {
  const mutant = toy.slice();
  for (let edits = 1 + random(4); edits > 0; edits--) mutant[random(mutant.length)] = random(256);
  const [outcome] = await Promise.allSettled([Network.load(ort, mutant)]);
  if (outcome.status === 'fulfilled') await outcome.value.dispose();
  outcomes.add(outcome.status === 'fulfilled' ? 'fine' : outcome.reason.constructor.name);
}
console.log(`600 mutants: ${[...outcomes].sort().join(', ')}`);

// Work left undone must not keep the process from ending, nor end it badly.
const network = await load(gemm);
void network.run({ x: nd([[1]]) }).then(() => console.log('pending run: fine'));
