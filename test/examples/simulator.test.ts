import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Hopper } from '../../examples/hopper/simulator.js';

interface Recording {
  start: { qpos: number[]; qvel: number[] };
  startObs: number[];
  actions: number[][];
  qpos: number[][];
  qvel: number[][];
  obs: number[][];
  reward: number[];
  terminated: boolean[];
}

// python examples/train/make_fixtures.py hopper
const recorded: Recording = JSON.parse(
  readFileSync(new URL('../fixtures/hopper/physics.json', import.meta.url), 'utf8'),
);

let hopper: Hopper;
beforeAll(async () => {
  hopper = await Hopper.load();
});
afterAll(() => hopper.dispose());

test('a recorded start gives the recorded observation', () => {
  const { qpos, qvel } = recorded.start;
  expect([...hopper.reset(qpos, qvel)]).toEqual(recorded.startObs);
});

// Both are MuJoCo 3.14.0 in float64, built by two compilers; the largest gap measured is 7e-14.
const ROUNDING = { rtol: 0, atol: 1e-11 };

test('forty steps agree with MuJoCo in Python, through a fall and torques beyond their range', () => {
  const { start, actions, terminated } = recorded;
  expect(new Set(terminated)).toEqual(new Set([false, true]));
  hopper.reset(start.qpos, start.qvel);
  actions.forEach((action, i) => {
    const step = hopper.step(action);
    expect(hopper.qpos).toBeAllclose(recorded.qpos[i], ROUNDING);
    expect(hopper.qvel).toBeAllclose(recorded.qvel[i], ROUNDING);
    expect(step.obs).toBeAllclose(recorded.obs[i], ROUNDING);
    expect([step.reward]).toBeAllclose([recorded.reward[i]], ROUNDING);
    expect(step.terminated).toBe(terminated[i]);
  });
});

test('a reset forgets what came before', () => {
  const { start, actions } = recorded;
  const run = () => {
    hopper.reset(start.qpos, start.qvel);
    return actions.flatMap((action) => [...hopper.step(action).obs]);
  };
  const first = run();
  expect(run()).toBeBitEqual(first);
});

test('velocities are clipped in the observation and kept in the state', () => {
  const { qpos } = recorded.start;
  const obs = hopper.reset(qpos, [0, 0, 0, 12, -13, 4]);
  expect([...obs.subarray(5)]).toEqual([0, 0, 0, 10, -10, 4]);
  expect([...hopper.qvel]).toEqual([0, 0, 0, 12, -13, 4]);
});

test('a fallen, a bent over and a non-finite hopper are not healthy', () => {
  const { minHeight, maxPitch, stateLimit } = hopper.config.healthy;
  const standing = recorded.startObs;
  const but = (index: number, value: number) => Object.assign([...standing], { [index]: value });
  expect(hopper.isHealthy(standing)).toBe(true);
  expect(hopper.isHealthy(but(0, minHeight))).toBe(false);
  expect(hopper.isHealthy(but(1, -maxPitch))).toBe(false);
  expect(hopper.isHealthy(but(7, stateLimit))).toBe(false);
  expect(hopper.isHealthy(but(0, Number.POSITIVE_INFINITY))).toBe(false);
  expect(hopper.isHealthy(but(10, Number.NaN))).toBe(false);
});

test('a saved state is put back to the bit, whatever happened since', () => {
  const { start, actions } = recorded;
  hopper.reset(start.qpos, start.qvel);
  for (const action of actions.slice(0, 15)) hopper.step(action);
  const saved = hopper.save();
  const kept = saved.slice();
  const goOn = () =>
    actions.slice(15).flatMap((action) => {
      const { obs, reward } = hopper.step(action);
      return [...obs, reward, ...hopper.qpos, ...hopper.qvel];
    });
  const first = goOn();
  expect(saved).toBeBitEqual(kept);
  hopper.restore(saved);
  expect(goOn()).toBeBitEqual(first);
  hopper.reset(start.qpos, [...start.qvel].reverse());
  hopper.step([1, -1, 1]);
  hopper.restore(saved);
  expect(goOn()).toBeBitEqual(first);
});

test('states and actions of another length are refused', () => {
  const { qpos, qvel } = recorded.start;
  expect(() => hopper.reset(qpos.slice(1), qvel)).toThrow(RangeError);
  expect(() => hopper.reset(qpos, [...qvel, 0])).toThrow(RangeError);
  expect(() => hopper.restore(new Float64Array(6))).toThrow(/restore: state must have \d+ entries/);
  expect(() => hopper.step([0, 0])).toThrow(/step: action must have 3 entries, got 2/);
});
