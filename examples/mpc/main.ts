/**
 * Planning with the learned model in the true simulator: does it beat the policy it was learned with?
 *
 * Run it by `npm run mpc`; `npm run mpc -- --help` lists the options.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { SingleBar } from 'cli-progress';
import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, type NdView, Network, NetworkPolicy, nd, zeros } from 'umwelt';
import { terminateUnless } from 'umwelt/dynamics';
import {
  EnvironmentModel,
  ModelEnv,
  MpcAgent,
  MppiPlanner,
  modelObjective,
  networkValue,
  type PolicyContext,
} from 'umwelt/rollout';
import { RowNoise, Stream } from 'umwelt/sampling';
import { runAsProgram } from '../demo/program.js';
import { hopperEnvironment } from '../hopper/environment.js';
import { Hopper } from '../hopper/simulator.js';
import { addToPolicy, aroundPolicy } from './around-policy.js';
import { type MpcOptions, parseOptions, USAGE } from './options.js';
import { type Episodes, renderReport, textTable } from './report.js';

const MODELS = new URL('../models/', import.meta.url);

/** Steps looked ahead. */
const HORIZON = 16;
/** Sequences tried for each decision. */
const POPULATION = 64;

/** How a hopper is driven: actions `[B, A]` for observations `[B, S]`. */
type Act = (obs: NdView, step: number) => Promise<NdView>;

/** Episodes of everybody who drove, and the page that shows them. */
export interface MpcReport {
  readonly drivers: readonly Episodes[];
  readonly page: string;
}

/** Runs the same episodes with the policy and with the planner and writes the page. */
export async function runMpc(
  options: MpcOptions,
  print: (text: string) => void = console.log,
): Promise<MpcReport> {
  const { seed, episodes, steps, out } = options;
  await mkdir(out, { recursive: true });
  await using model = await EnsembleDynamics.load(ort, new URL('hopper-ensemble', MODELS), {
    propagation: 'fixed-model',
    deterministic: true,
    // Velocities are observed within +-10: so are imagined ones.
    support: {
      low: [...new Array(5).fill(Number.NEGATIVE_INFINITY), ...new Array(6).fill(-10)],
      high: [...new Array(5).fill(Number.POSITIVE_INFINITY), ...new Array(6).fill(10)],
    },
  });
  await using policy = await NetworkPolicy.load(ort, new URL('hopper-policy', MODELS));
  await using mode = await NetworkPolicy.load(ort, new URL('hopper-policy', MODELS), {
    deterministic: true,
  });
  await using critics = await Network.load(ort, new URL('hopper-value', MODELS));
  using hopper = await Hopper.load();
  const ids = Uint32Array.from({ length: episodes }, (_, episode) => episode);
  const contextOf = (step: number): PolicyContext => ({
    step,
    trajectory: ids,
    noise: new RowNoise(seed, Stream.policy, step, ids),
  });

  const agent = new MpcAgent({
    planner: new MppiPlanner({
      horizon: HORIZON,
      actionSpace: { type: 'box', low: [-1, -1, -1], high: [1, 1, 1] },
      population: POPULATION,
      iterations: 1,
      sigma: 0.25,
      beta: 1,
      lambda: 0.1,
    }),
    objective: modelObjective(aroundPolicy(model, mode), {
      gamma: 0.99,
      value: networkValue(critics),
      particles: model.elites.length,
      // Two members that disagree by 10 cost 10.
      spread: -2,
      // Stricter than the task (0.3 rad): what leans this far in the model has often fallen in truth.
      terminate: terminateUnless(
        (obs, i) => obs[i] > 0.75 && obs[i + 1] > -0.25 && obs[i + 1] < 0.22,
      ),
    }),
    // The policy alone is always among the candidates.
    proposals: ({ trajectory: { length } }) => zeros([length, 1, HORIZON, 3]),
    seed,
  });
  const drive: Record<string, Act> = {
    'policy, sampled': async (obs, step) => (await policy.act(obs, contextOf(step))).action,
    'policy, its mode': async (obs, step) => (await mode.act(obs, contextOf(step))).action,
    'planner around the policy': async (obs, step) => {
      const { action } = await agent.act(obs);
      return addToPolicy(mode, obs, action as NdView, contextOf(step));
    },
  };

  const drivers: Episodes[] = [];
  for (const [name, act] of Object.entries(drive)) {
    const bar = new SingleBar({ format: `${name} {bar} step {value}/{total}` });
    bar.start(steps, 0);
    try {
      drivers.push(await episodesOf(name, act, hopper, options, (step) => bar.update(step)));
    } finally {
      bar.stop();
    }
  }
  print(textTable(drivers, seed));
  const page = join(out, 'mpc.html');
  await writeFile(page, renderReport(drivers, options));
  print(`Pictures: ${relative(process.cwd(), page)}`);
  return { drivers, page };
}

/** Drives every episode to its end, or to the last step. */
async function episodesOf(
  name: string,
  act: Act,
  hopper: Hopper,
  { episodes, seed, steps }: MpcOptions,
  onStep: (step: number) => void,
): Promise<Episodes> {
  const truth = new EnvironmentModel(hopperEnvironment(hopper));
  const env = new ModelEnv(truth, {
    numEnvs: episodes,
    seed,
    autoreset: 'next-step',
    maxEpisodeSteps: steps,
    starts: ({ env: ids }) => truth.start(Uint32Array.from(ids, (id) => seed + id)),
  });
  const rewards = new Float32Array(episodes * steps);
  const length = new Int32Array(episodes);
  const running = new Uint8Array(episodes).fill(1);
  let fell = 0;
  let seconds = 0;
  let { obs } = await env.reset();
  for (let step = 0; step < steps && running.includes(1); step++) {
    const began = performance.now();
    const action = await act(obs, step);
    seconds += (performance.now() - began) / 1000;
    const result = await env.step(action);
    for (let b = 0; b < episodes; b++) {
      if (running[b] === 0) continue;
      rewards[b * steps + step] = result.reward[b];
      length[b] = step + 1;
      fell += result.terminated[b];
      if (result.terminated[b] || result.truncated[b]) running[b] = 0;
    }
    obs = result.obs;
    onStep(step + 1);
  }
  await env.close();
  return { name, rewards: nd(rewards, [episodes, steps]), length, fell, seconds };
}

await runAsProgram(import.meta.url, USAGE, parseOptions, runMpc);
