import { gatherRows, imagine, type NdView, nd, type WorldModel } from 'umwelt';
import { writeNpz } from 'umwelt/formats';
import { lambdaReturn, toDreamer } from 'umwelt/rollout';

// A point that moves by its action; the episode ends beyond 5.
const world: WorldModel<NdView> = {
  obsSize: 1,
  actionSize: 1,
  initial: (obs) => obs,
  step(x, action) {
    const next = nd(
      x.data.map((v, i) => v + action.data[i]),
      x.shape,
    );
    const terminated = Uint8Array.from(next.data, (v) => (v > 5 ? 1 : 0));
    return { state: next, obs: next, reward: next.data.slice(), terminated };
  },
  gather: gatherRows,
};

const dream = await imagine(
  world,
  (obs) =>
    nd(
      obs.data.map(() => 1),
      obs.shape,
    ),
  {
    start: nd([[0], [4]]),
    horizon: 3,
    seed: 0,
    value: (obs) => obs.data.map((x) => 10 * x), // stands for what comes after the horizon
  },
).collect();
const targets = lambdaReturn({ ...dream, gamma: 0.9, lambda: 0.95, align: 'departure' });
const file = writeNpz({ ...toDreamer(dream) }); // obs, action, reward, isFirst, isLast, isTerminal, mask
console.log([...targets.data].map((x) => x.toFixed(2)).join(' '), file.length > 0); // -> 25.86 28.55 30.00 12.38 6.00 0.00 true
