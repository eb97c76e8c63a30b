/**
 * Ensemble rollouts and an iteration of the cross-entropy method, against the same in PyTorch where a
 * Python with torch and onnx is at hand; and which share of an iteration is not spent in the networks.
 *
 * Run: npm run bench:planning [-- --seconds 30] [--python python3]
 */

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, imagine, NetworkPolicy, nd, type WorldModel } from 'umwelt';
import { terminateUnless } from 'umwelt/dynamics';
import { CemPlanner, modelObjective } from 'umwelt/rollout';
import { recordedObservations } from '../examples/hopper/starts.js';
import { interleaved } from './interleaved.js';
import { Peer } from './peers/peer.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    python: { type: 'string', default: 'python3' },
  },
});
const seconds = Number(values.seconds);

/** Time spent in the networks: every session is made here. */
let inNetworks = 0;
const timedOrt = {
  ...ort,
  InferenceSession: {
    async create(...given: Parameters<typeof ort.InferenceSession.create>) {
      const session = await ort.InferenceSession.create(...given);
      const run = session.run.bind(session);
      session.run = (async (...feeds: Parameters<typeof run>) => {
        const began = performance.now();
        const answer = await run(...feeds);
        inNetworks += performance.now() - began;
        return answer;
      }) as typeof run;
      return session;
    },
  },
} as typeof ort;

const folder = new URL('../examples/models/', import.meta.url);
const model = await EnsembleDynamics.load(timedOrt, new URL('hopper-ensemble', folder));
const policy = await NetworkPolicy.load(timedOrt, new URL('hopper-policy', folder));
const known = recordedObservations();
// As the hopper falls, and as the peer's rows end.
const terminate = terminateUnless((s, from, width) => {
  for (let i = from + 1; i < from + width; i++) if (!(Math.abs(s[i]) < 100)) return false;
  return s[from] > 0.75 && Math.abs(s[from + 1]) < 0.3;
});

const COUNT = 500;
const PARTICLES = 20;
const HORIZON = 15;
const start = (rows: number) => nd(Array.from({ length: rows }, (_, i) => known[i % known.length]));
const actionSpace = { type: 'box' as const, low: [-1, -1, -1], high: [1, 1, 1] };
const rollout = (rows: number) => () =>
  imagine(model, policy, { start: start(rows), horizon: 5, seed: 1, terminate }).collect();
const iteration = (on: WorldModel<never>) => {
  const planner = new CemPlanner({
    horizon: HORIZON,
    actionSpace,
    population: COUNT,
    iterations: 1,
  });
  const objective = modelObjective(on, { particles: PARTICLES, terminate });
  return () => planner.plan({ objective, start: start(1), seed: 1 });
};

const peer = await Peer.start(values.python, 'ensemble.py', 1).catch((error: Error) => {
  console.log(`Without PyTorch (${error.message}); --python names an interpreter that has it.`);
  return undefined;
});
const table = new Table({
  head: [
    'task',
    'umwelt, ms (p25, p75)',
    'PyTorch batched',
    'PyTorch separate',
    'ratio to the better',
  ],
});
const tasks = {
  'rollout of 5 steps, 400 rows': { own: rollout(400), told: (f: string) => `rollout ${f} 400 5` },
  'rollout of 5 steps, 10,000 rows': {
    own: rollout(10_000),
    told: (f: string) => `rollout ${f} 10000 5`,
  },
  [`CEM iteration, ${COUNT} x ${PARTICLES}, ${HORIZON} steps`]: {
    own: iteration(model as unknown as WorldModel<never>),
    told: (f: string) => `cem ${f} ${COUNT} ${PARTICLES} ${HORIZON}`,
  },
};
for (const [name, { own, told }] of Object.entries(tasks)) {
  const timings = await interleaved(
    {
      own,
      ...(peer && {
        batched: () => peer.run(told('batched')),
        separate: () => peer.run(told('separate')),
      }),
    },
    seconds / 4,
  );
  const text = timings.map(
    ({ median, p25, p75 }) => `${median.toFixed(1)} (${p25.toFixed(1)}, ${p75.toFixed(1)})`,
  );
  const [mine, ...others] = timings.map(({ median }) => median);
  const ratio = others.length > 0 ? (Math.min(...others) / mine).toFixed(2) : '';
  table.push([name, text[0], text[1] ?? '', text[2] ?? '', ratio]);
}
console.log(
  `${cpus()[0].model}, ${cpus().length} cores, Node ${process.version}, one thread each` +
    `${peer ? `, PyTorch ${peer.greeting.split(' ')[1]}` : ''}`,
);
console.log(table.toString());

/** Where the time of an iteration goes. */
let inModel = 0;
const timedModel = {
  obsSize: model.obsSize,
  actionSize: model.actionSize,
  initial: model.initial.bind(model),
  gather: model.gather.bind(model),
  async step(...given: Parameters<typeof model.step>) {
    const began = performance.now();
    const result = await model.step(...given);
    inModel += performance.now() - began;
    return result;
  },
} as unknown as WorldModel<never>;
const plan = iteration(timedModel);
await plan();
inModel = 0;
inNetworks = 0;
const shares: { planner: number; glue: number }[] = [];
const end = performance.now() + (1000 * seconds) / 4;
while (shares.length < 5 || performance.now() < end) {
  [inModel, inNetworks] = [0, 0];
  const began = performance.now();
  await plan();
  const whole = performance.now() - began;
  shares.push({
    planner: (100 * (whole - inModel)) / whole,
    glue: (100 * (inModel - inNetworks)) / whole,
  });
}
for (const [part, what] of [
  ['planner', 'drawing, valuing and refitting'],
  ['glue', "the model's step around its networks: normalising, noise, sampling"],
] as const) {
  const sorted = shares.map((share) => share[part]).sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.round(q * (sorted.length - 1))].toFixed(1);
  console.log(`${at(0.5)} % (${at(0.25)}, ${at(0.75)}) of a CEM iteration: ${what}`);
}
peer?.[Symbol.dispose]();
await model.dispose();
await policy.dispose();
