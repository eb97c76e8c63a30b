import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compare, simulate } from '../../examples/demo/compare.js';
import { type DemoResult, runDemo } from '../../examples/demo/main.js';
import { parseOptions, UsageError } from '../../examples/demo/options.js';
import { quantile } from '../../examples/demo/plots.js';
import { Hopper } from '../../examples/hopper/simulator.js';
import { Trajectory } from '../../src/rollout/trajectory.js';

const ROWS = 16;
const HORIZON = 5;
const STANDING = { qpos: [0, 1.15, 0, 0, 0, 0], qvel: [0, 0, 0, 0, 0, 0] };

let folder: string;
let hopper: Hopper;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'umwelt-demo-'));
  hopper = await Hopper.load();
});
afterAll(async () => {
  hopper.dispose();
  await rm(folder, { recursive: true });
});

const demo = async (name: string, seed: number): Promise<DemoResult & { text: string }> => {
  const text: string[] = [];
  const options = { seed, rows: ROWS, horizon: HORIZON, out: join(folder, name) };
  const result = await runDemo(options, (line) => text.push(line));
  return { ...result, text: text.join('\n') };
};

describe('a small demo', () => {
  let first: Awaited<ReturnType<typeof demo>>;
  beforeAll(async () => {
    first = await demo('first', 3);
  });

  test('its numbers are finite, and error grows from the first step to the fifth', () => {
    const { lines } = first.comparison;
    expect(lines.map(({ horizon }) => horizon)).toEqual([1, 2, 3, 4, 5]);
    for (const line of lines) {
      const { rankCorrelation, ...numbers } = line;
      for (const value of [...Object.values(numbers), ...rankCorrelation]) {
        expect(Number.isFinite(value)).toBe(true);
      }
      expect(line.rows).toBeGreaterThan(1);
      expect(line.penalty).toBeGreaterThan(0);
    }
    expect(lines[0].error).toBeGreaterThan(0);
    expect(lines[0].error).toBeLessThan(lines[4].error);
    for (const { error, persistence } of lines) expect(error).toBeLessThan(persistence);
  });

  test('a second score is of the same dream', () => {
    const { mask, scores, uncertainty } = first.dream;
    expect(scores?.aleatoric.data).not.toBeBitEqual(uncertainty.data);
    for (const [i, happened] of mask.data.entries()) {
      if (happened) expect(scores?.aleatoric.data[i]).toBeGreaterThan(0);
    }
  });

  test('the text says where the files are', () => {
    expect(first.text).toContain(first.page);
    expect(first.text).toContain(`numpy.load('${first.transitions}')`);
  });

  test('the page holds its pictures and asks for nothing from elsewhere', async () => {
    const page = await readFile(first.page, 'utf8');
    expect(page.match(/<svg/g)).toHaveLength(8);
    expect(page).not.toMatch(/<script|<link|<img|<iframe|@import|(src|href)=|url\(/i);
    expect(page).not.toMatch(/NaN|undefined|\[object/);
  });

  test('the same seed writes the same transitions, byte for byte, and another seed others', async () => {
    const same = await demo('same', 3);
    const other = await demo('other', 4);
    const bytes = await readFile(first.transitions);
    expect(bytes.length).toBeGreaterThan(1000);
    expect(bytes.equals(await readFile(same.transitions))).toBe(true);
    expect(bytes.equals(await readFile(other.transitions))).toBe(false);
  });
});

test('more rows than recorded starts are refused', async () => {
  const options = { seed: 0, rows: 100_000, horizon: 1, out: join(folder, 'never') };
  await expect(runDemo(options, () => {})).rejects.toThrow(UsageError);
});

/** A dream of two rows that both take all steps; each row repeats one action. */
function dreamOf(actions: readonly (readonly number[])[], horizon: number): Trajectory {
  const dream = new Trajectory(actions.length, horizon, 11, 3);
  dream.length.fill(horizon);
  actions.forEach((action, row) => {
    for (let step = 0; step < horizon; step++) {
      dream.action.data.set(action, (row * horizon + step) * 3);
    }
  });
  return dream;
}

describe('the comparison', () => {
  const scale = new Float64Array(11).fill(1);

  test('a dream that is the truth has no error beyond float32', () => {
    const dream = dreamOf([[0.2, -0.1, 0.3]], 8);
    const reality = simulate(hopper, [STANDING], dream);
    dream.obs.data.set(reality.obs.data);
    dream.rawReward.data.set(reality.reward.data);
    const { lines } = compare(dream, reality, scale);
    for (const { error, imaginedReturn, trueReturn } of lines) {
      expect(error).toBeLessThan(1e-6);
      expect(imaginedReturn).toBeCloseTo(trueReturn, 5);
    }
  });

  test('a row counts up to the step in which the simulated hopper falls, and keeps its return', () => {
    const horizon = 60;
    // The first row holds still for as long as the second takes to throw itself down.
    const dream = dreamOf(
      [
        [0, 0, 0],
        [-1, -1, 1],
      ],
      horizon,
    );
    const reality = simulate(hopper, [STANDING, STANDING], dream);
    const steps = [0, 1].map((row) =>
      reality.mask.data
        .subarray(row * horizon, (row + 1) * horizon)
        .reduce((sum, flag) => sum + flag, 0),
    );
    expect(steps[1]).toBeLessThan(steps[0]);

    hopper.reset(STANDING.qpos, STANDING.qvel);
    let total = 0;
    for (let step = 1; step <= steps[1]; step++) {
      const { reward, terminated } = hopper.step([-1, -1, 1]);
      total += reward;
      expect(terminated).toBe(step === steps[1]);
    }
    const own = reality.reward.data.subarray(horizon).reduce((sum, reward) => sum + reward, 0);
    expect(own).toBe(total);
    const { lines, falls } = compare(dream, reality, scale);
    expect(falls.byHorizon.falseNegative[steps[1] - 1]).toBe(1);
    expect(lines[steps[1] - 1].rows).toBe(2);
    expect(lines[steps[1]].rows).toBe(1);
  });

  test('a dream that ends by itself ends the comparison', () => {
    const dream = dreamOf([[0, 0, 0]], 8);
    dream.length[0] = 3;
    dream.terminated.data[2] = 1;
    const reality = simulate(hopper, [STANDING], dream);
    expect([...reality.mask.data]).toEqual([1, 1, 1, 0, 0, 0, 0, 0]);
    const { lines, falls } = compare(dream, reality, scale);
    expect([...falls.byHorizon.falsePositive]).toEqual([0, 0, 1, 0, 0, 0, 0, 0]);
    expect(lines.map(({ rows }) => rows)).toEqual([1, 1, 1, 0, 0, 0, 0, 0]);
    expect(lines[7]).toMatchObject({ error: Number.NaN, rankCorrelation: [Number.NaN] });
  });
});

describe('the command line', () => {
  test('has defaults', () => {
    expect(parseOptions([])).toMatchObject({ seed: 0, rows: 256, horizon: 30 });
  });

  test('takes each option', () => {
    const args = ['--seed', '5', '--rows=8', '--horizon', '3', '--out', '/somewhere'];
    expect(parseOptions(args)).toEqual({ seed: 5, rows: 8, horizon: 3, out: '/somewhere' });
    expect(parseOptions(['--help'])).toBeNull();
  });

  test.each([
    [['--rows', '0'], /--rows must be a whole number of at least 1, got '0'/],
    [['--horizon', '2.5'], /--horizon/],
    [['--seed', ''], /--seed/],
    [['--seed=-1'], /--seed/],
    [['--row', '8'], /--row/],
    [['more'], /more/],
  ])('refuses %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(UsageError);
    expect(() => parseOptions(args)).toThrow(message);
  });
});

test('a quantile lies between its neighbours', () => {
  // numpy.quantile([1, 2, 4, 8], [0, 0.1, 0.5, 1])
  const values = Float64Array.of(1, 2, 4, 8);
  expect([0, 0.1, 0.5, 1].map((p) => quantile(values, p))).toEqual([1, 1.3, 3, 8]);
});
