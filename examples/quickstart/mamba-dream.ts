import { gatherRows, imagine, type NdView, nd, type WorldModel } from 'umwelt';
import type { SsmState } from 'umwelt/ssm';
// A trained core with its small layers before and after: embed(obs, action) and advance(obs, y).
import { WorldModel as Trained } from '../mamba2/world-model.js';

const trained = await Trained.load(new URL('../mamba2/model/', import.meta.url));

interface State {
  obs: NdView; // what rollouts start from and policies see
  memory: SsmState;
}
const world: WorldModel<State> = {
  obsSize: 5,
  actionSize: 3,
  initial: (obs) => ({ obs, memory: trained.core.initialState(obs.shape[0]) }),
  async step({ obs, memory }, action) {
    const { y, state } = await trained.core.step(trained.embed(obs, action), memory);
    const next = trained.advance(obs, y);
    const reward = new Float32Array(obs.shape[0]).fill(1);
    return { state: { obs: next, memory: state }, obs: next, reward };
  },
  gather: async ({ obs, memory }, rows) => ({
    obs: gatherRows(obs, rows),
    memory: await memory.gather(rows),
  }),
  release: ({ memory }) => memory.release(),
};

const start = nd(new Float32Array(2 * 5), [2, 5]);
const still = (obs: NdView) => nd(new Float32Array(obs.shape[0] * 3), [obs.shape[0], 3]);
const rollout = imagine(world, still, { start, horizon: 10, seed: 7 });
const dream = await rollout.collect();
rollout.carry.release(); // the state the dream ended in, which another could go on from
console.log(dream.obs.shape.join()); // -> 2,11,5
