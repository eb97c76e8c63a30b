import { gatherRows, imagine, type NdView, nd, type Policy, type WorldModel } from 'umwelt';

// A world model is a plain object of functions. This one: a point pushed along a line, with noise.
const world: WorldModel<NdView> = {
  obsSize: 1,
  actionSize: 1,
  initial: (obs) => obs,
  step(x, action, { noise }) {
    const e = noise.normal(1).data;
    const next = nd(
      x.data.map((v, i) => v + action.data[i] + 0.1 * e[i]),
      x.shape,
    );
    return { state: next, obs: next, reward: next.data.map((v) => -v * v) };
  },
  gather: gatherRows,
};
const policy: Policy = (obs) =>
  nd(
    obs.data.map((v) => -0.5 * v),
    obs.shape,
  );

const dream = await imagine(world, policy, {
  start: nd([[4], [-2]]),
  horizon: 10,
  seed: 7,
}).collect();
console.log(dream.obs.shape.join(), dream.reward.data[0].toFixed(4)); // -> 2,11,1 -3.9143
