import { readFileSync } from 'node:fs';
import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, imagine, maxPairwiseDifference, NetworkPolicy, nd } from 'umwelt';
import { writeNpz } from 'umwelt/formats';

const models = new URL('../models/', import.meta.url);
const model = await EnsembleDynamics.load(ort, new URL('hopper-ensemble/', models));
const policy = await NetworkPolicy.load(ort, new URL('hopper-policy/', models));
const { qpos, qvel } = JSON.parse(
  readFileSync(new URL('hopper-ensemble/starts.json', models), 'utf8'),
);

const rollout = imagine(model, policy, {
  // What the hopper observes: all but its place along the track, and its velocities.
  start: nd(qpos.map((q: number[], i: number) => [...q.slice(1), ...qvel[i]])),
  horizon: 5,
  seed: 0,
  penalty: { score: maxPairwiseDifference(), coefficient: 1 },
});
const { obs, action, reward, nextObs, terminated } = (await rollout.collect()).transitions();
const file = writeNpz({ obs, action, reward, nextObs, terminated }); // for numpy.load
console.log(reward.length, 'transitions in', file.byteLength, 'bytes'); // -> 1280 transitions in 135546 bytes
