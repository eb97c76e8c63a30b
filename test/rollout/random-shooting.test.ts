import { nd } from 'umwelt';
import { type ActionSpace, type Actions, RandomShooting } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { chiSquared, ksCritical, ksStatistic } from '../support/statistics.js';
import { near, sequenceObjective } from './sequence-objective.js';

const box: ActionSpace = { type: 'box', low: [-1, 0], high: [1, 10] };
const discrete: ActionSpace = { type: 'discrete', n: 3 };

describe('RandomShooting', () => {
  test('draws uniformly from the box', async () => {
    const objective = sequenceObjective(() => 0);
    const planner = new RandomShooting({ horizon: 3, actionSpace: box, population: 500 });
    await planner.plan({ objective, start: nd([[0]]), seed: 1 });
    const [{ data, shape }] = objective.calls;
    expect(shape).toEqual([1, 500, 3, 2]);
    const first = data.filter((_, i) => i % 2 === 0);
    const second = data.filter((_, i) => i % 2 === 1);
    expect(ksStatistic(first, (x) => (x + 1) / 2)).toBeLessThan(ksCritical(1500));
    expect(ksStatistic(second, (x) => x / 10)).toBeLessThan(ksCritical(1500));
  });

  test('draws indices uniformly, as int32 of width 1', async () => {
    const objective = sequenceObjective(() => 0);
    const planner = new RandomShooting({ horizon: 4, actionSpace: discrete, population: 300 });
    await planner.plan({ objective, start: nd([[0]]), seed: 1 });
    const [{ data, shape }] = objective.calls;
    expect(shape).toEqual([1, 300, 4, 1]);
    expect(data).toBeInstanceOf(Int32Array);
    const counts = [0, 0, 0];
    for (const index of data) counts[index]++;
    // python -c "from scipy.stats import chi2; print(chi2.ppf(.99, 2))" -> 9.21
    expect(chiSquared(counts, [400, 400, 400])).toBeLessThan(9.21);
  });

  test('returns the best of all that it drew, and carries nothing', async () => {
    const objective = sequenceObjective(near(0.5, 3));
    const planner = new RandomShooting({ horizon: 1, actionSpace: box, population: 40 });
    const plan = await planner.plan({ objective, start: nd([[0]]), seed: 1 });
    const drawn = Array.from({ length: 40 }, (_, n) =>
      objective.calls[0].data.subarray(2 * n, 2 * n + 2),
    );
    const values = drawn.map((sequence) => Math.fround(near(0.5, 3)(sequence)));
    const best = Math.max(...values);
    expect(plan.value).toEqual(Float32Array.of(best));
    expect(plan.actions).toEqual(
      nd(drawn[values.indexOf(best)].slice() as Float32Array, [1, 1, 2]),
    );
    expect(plan).toMatchObject({ iterations: 1, evaluated: 40, carry: {} });
    expect(planner.shift(plan.carry, 1)).toEqual({});
  });

  test('draws other sequences in each iteration', async () => {
    const objective = sequenceObjective(() => 0);
    const options = { horizon: 2, actionSpace: box, population: 7, iterations: 3 };
    const plan = await new RandomShooting(options).plan({ objective, start: nd([[0]]), seed: 1 });
    expect(plan).toMatchObject({ iterations: 3, evaluated: 21 });
    const all = objective.calls.flatMap(({ data }: Actions) => Array.from(data));
    expect(new Set(all).size).toBe(all.length);
  });

  test('a budget ends it after whole iterations, the first in any case', async () => {
    const options = { horizon: 2, actionSpace: box, population: 7, iterations: 1000 };
    const planner = new RandomShooting(options);
    const request = { objective: sequenceObjective(() => 0), start: nd([[0]]), seed: 1 };
    const none = await planner.plan({ ...request, budgetMs: 0 });
    expect(none).toMatchObject({ iterations: 1, evaluated: 7 });
    const sleep = () => new Promise((done) => setTimeout(done, 20));
    const objective = async (actions: Actions) => {
      await sleep();
      return nd(new Float32Array(7), [1, actions.shape[1]]);
    };
    const some = await planner.plan({ ...request, objective, budgetMs: 200 });
    expect(some.iterations).toBeLessThanOrEqual(10);
    expect(some.evaluated).toBe(7 * some.iterations);
  });

  test('values that are no numbers never win', async () => {
    // Only the sequences above 0 have a value, and a poor one.
    const objective = sequenceObjective(([a]) => (a > 0 ? -1000 - a : Number.NaN));
    const planner = new RandomShooting({ horizon: 1, actionSpace: box, population: 50 });
    const plan = await planner.plan({ objective, start: nd([[0]]), seed: 1 });
    expect(plan.actions.data[0]).toBeGreaterThan(0);
    expect(plan.value[0]).toBeLessThan(-1000);
  });

  test.each([box, discrete])(
    'plans for each start as if it were alone: $type',
    async (actionSpace) => {
      const planner = new RandomShooting({ horizon: 2, actionSpace, population: 9 });
      const objective = sequenceObjective(near(0.3, 2));
      const ids = Uint32Array.of(4, 90, 7);
      const together = await planner.plan({
        objective,
        start: nd([[0], [0], [0]]),
        seed: 1,
        trajectory: ids,
      });
      for (let b = 0; b < 3; b++) {
        const trajectory = ids.subarray(b, b + 1);
        const alone = await planner.plan({ objective, start: nd([[0]]), seed: 1, trajectory });
        const width = alone.actions.data.length;
        expect(alone.actions.data).toEqual(together.actions.data.slice(b * width, (b + 1) * width));
        expect(alone.value[0]).toBe(together.value[b]);
      }
    },
  );

  test('refuses options that make no sense', () => {
    const good = { horizon: 2, actionSpace: box };
    expect(() => new RandomShooting({ ...good, horizon: 0 })).toThrow('RandomShooting: horizon');
    expect(() => new RandomShooting({ ...good, population: 0.5 })).toThrow('population');
    expect(() => new RandomShooting({ ...good, iterations: 70_000 })).toThrow('at most 65536');
    expect(() => new RandomShooting({ ...good, samples: 5 } as never)).toThrow("got 'samples'");
    expect(() => new RandomShooting(good).shift({}, 3)).toThrow('integer in 0..2');
  });
});
