import { gatherRows, imagine, type NdView, nd, type WorldModel } from 'umwelt';
import { writeNpz } from 'umwelt/formats';
import { nStepTargets, PrioritizedSampler, ReplayBuffer } from 'umwelt/sampling';

const world: WorldModel<NdView> = {
  obsSize: 1,
  actionSize: 1,
  initial: (obs) => obs,
  step(x, action) {
    const next = nd(
      x.data.map((v, i) => v + action.data[i]),
      x.shape,
    );
    return { state: next, obs: next, reward: next.data.map((v) => -v * v) };
  },
  gather: gatherRows,
};
const start = nd([[4], [-2], [1]]);
const dream = await imagine(
  world,
  (obs) =>
    nd(
      obs.data.map((v) => -0.5 * v),
      obs.shape,
    ),
  {
    start,
    horizon: 10,
    seed: 7,
  },
).collect();

const vector = { dtype: 'float32', shape: [1] } as const;
const buffer = new ReplayBuffer({
  capacity: 1_000_000,
  schema: {
    obs: vector,
    action: vector,
    reward: 'float32',
    nextObs: vector,
    terminated: 'uint8',
    truncated: 'uint8',
  },
});
buffer.addTrajectory(dream.transitions());

const sampler = new PrioritizedSampler(buffer);
const sample = sampler.sample(8, 7, { step: 0 }); // a function of the rows, the seed and the step
const batch = buffer.get(sample.index);
const targets = nStepTargets(buffer, sample.index, { n: 3, gamma: 0.99 });
sampler.update({ ...sample, priority: targets.reward.map(Math.abs) });
const file = writeNpz(buffer.snapshot());
console.log(buffer.size, 'rows, a batch of', batch.obs.shape[0], file.length > 0); // -> 30 rows, a batch of 8 true
