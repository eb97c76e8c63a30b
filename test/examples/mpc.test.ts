import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { EnsembleDynamics, NetworkPolicy, nd, zeros } from 'umwelt';
import { modelContext } from 'umwelt/dynamics';
import { EnvironmentModel } from 'umwelt/rollout';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hopperEnvironment } from '../../examples/hopper/environment.js';
import { Hopper } from '../../examples/hopper/simulator.js';
import { aroundPolicy } from '../../examples/mpc/around-policy.js';
import { type MpcReport, runMpc } from '../../examples/mpc/main.js';
import { parseOptions } from '../../examples/mpc/options.js';
import { meanWithInterval, returnsOf } from '../../examples/mpc/report.js';
import { HOPPER_ENSEMBLE, HOPPER_POLICY, hopperStarts, ids } from '../support/models.js';

let folder: string;
let report: MpcReport;
const text: string[] = [];
const run = (name: string, print: (line: string) => void = () => {}) =>
  runMpc({ seed: 5, episodes: 2, steps: 20, out: join(folder, name) }, print);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'umwelt-mpc-'));
  report = await run('first', (line) => text.push(line));
}, 60_000);
afterAll(() => rm(folder, { recursive: true }));

test('everybody drives the same episodes in the true simulator', () => {
  expect(report.drivers.map(({ name }) => name)).toEqual([
    'policy, sampled',
    'policy, its mode',
    'planner around the policy',
  ]);
  for (const { rewards, length, fell } of report.drivers) {
    expect(rewards.shape).toEqual([2, 20]);
    expect([...length]).toEqual([20, 20]);
    expect(fell).toBe(0);
    expect(rewards.data.every((reward) => reward > 0.3)).toBe(true);
  }
  const [sampled, mode, planner] = report.drivers.map(({ rewards }) => [...rewards.data]);
  expect(sampled).not.toEqual(mode);
  expect(planner).not.toEqual(mode);
});

test('the policy’s episodes are those of the simulator stepped by hand', async () => {
  using hopper = await Hopper.load();
  await using policy = await NetworkPolicy.load(ort, HOPPER_POLICY, { deterministic: true });
  const simulator = hopperEnvironment(hopper);
  simulator.reset?.(6); // the second episode of seed 5
  const rewards: number[] = [];
  for (let step = 0; step < 20; step++) {
    const obs = nd([Array.from(simulator.observe())]);
    const { action } = await policy.act(obs, {
      step,
      trajectory: ids(1),
      noise: undefined as never,
    });
    rewards.push(Math.fround(simulator.step(action.data).reward));
  }
  expect([...report.drivers[1].rewards.data.subarray(20)]).toEqual(rewards);
});

test('the same seed drives the same episodes', async () => {
  const again = await run('second');
  for (const [i, { rewards }] of report.drivers.entries()) {
    expect(again.drivers[i].rewards.data).toEqual(rewards.data);
  }
}, 60_000);

test('nothing added to the policy is the policy, and every elite has a say', async () => {
  await using model = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE, {
    propagation: 'fixed-model',
    deterministic: true,
  });
  await using policy = await NetworkPolicy.load(ort, HOPPER_POLICY, { deterministic: true });
  const around = aroundPolicy(model, policy);
  const obs = hopperStarts();
  const rows = obs.shape[0];
  const context = modelContext(0, ids(rows), { prediction: false });
  const state = await around.initial(obs, context);
  expect([...new Set(state.member)].sort()).toEqual([...model.elites].sort());
  const own = await around.step(state, zeros([rows, 3]), context);
  const { action } = await policy.act(obs, context);
  const direct = await model.step(state, action, context);
  expect(own.obs.data).toEqual(direct.obs.data);
  // What is added stays within the bounds of the action.
  const most = await around.step(state, nd(new Float32Array(3 * rows).fill(9), [rows, 3]), context);
  const full = nd(new Float32Array(3 * rows).fill(1), [rows, 3]);
  expect(most.obs.data).toEqual((await model.step(state, full, context)).obs.data);
});

test('starts are noisy and named by their seed', async () => {
  using hopper = await Hopper.load();
  const truth = new EnvironmentModel(hopperEnvironment(hopper));
  const { obs } = truth.start(Uint32Array.of(7, 8, 7));
  const [first, second, third] = [0, 1, 2].map((b) => [...obs.data.subarray(11 * b, 11 * b + 11)]);
  expect(third).toEqual(first);
  expect(second).not.toEqual(first);
  for (const [i, value] of first.entries()) {
    expect(Math.abs(value - (i === 0 ? 1.15 : 0))).toBeLessThanOrEqual(0.005001);
  }
});

test('the report says who earned how much', async () => {
  const table = text.join('\n');
  for (const { name } of report.drivers) expect(table).toContain(name);
  const page = await readFile(report.page, 'utf8');
  expect(page).toContain('planner around the policy');
  expect(page.match(/<svg/g)?.length).toBe(2);
  const [mean, low, high] = meanWithInterval([1, 2, 3, 4, 5, 6], 0);
  expect(mean).toBe(3.5);
  // 1.96 standard errors of 1.708 / sqrt(6), within the coarseness of six values.
  expect(low).toBeCloseTo(3.5 - 1.37, 0);
  expect(high).toBeCloseTo(3.5 + 1.37, 0);
  expect(returnsOf(report.drivers[0])[0]).toBeCloseTo(
    report.drivers[0].rewards.data.slice(0, 20).reduce((a, b) => a + b),
    4,
  );
});

test('options are checked', () => {
  expect(parseOptions([])).toMatchObject({ seed: 1000, episodes: 20, steps: 1000 });
  expect(parseOptions(['--help'])).toBeNull();
  expect(() => parseOptions(['--episodes', '0'])).toThrow(/at least 1, got '0'/);
  expect(() => parseOptions(['--speed', '3'])).toThrow(/speed/);
});
