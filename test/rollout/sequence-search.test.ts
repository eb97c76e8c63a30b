/** What all planners of action sequences share, asked through the simplest of them. */

import { nd } from 'umwelt';
import { type Objective, type PlanRequest, RandomShooting } from 'umwelt/rollout';
import type { Key } from 'umwelt/sampling';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ids } from '../support/models.js';

const box = { type: 'box', low: [10], high: [20] } as const;
const indices = { type: 'discrete', n: 3 } as const;
const shooting = (iterations = 1, more: object = {}) =>
  new RandomShooting({ horizon: 2, actionSpace: box, population: 5, iterations, ...more });
const zero: Objective = ({ shape: [B, N] }) => nd(new Float32Array(B * N), [B, N]);
const ask = (planner: RandomShooting, request: Partial<PlanRequest>) =>
  planner.plan({ objective: zero, start: nd([[0], [1]]), seed: 0, ...request });

afterEach(() => {
  vi.useRealTimers();
});

describe('a plan', () => {
  it('begins iterations as long as another, of the longest so far, would end in time', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const laps = [10, 40, 20, 20, 20];
    const slow: Objective = (actions, context) => {
      vi.advanceTimersByTime(laps[context.iteration] ?? 20);
      return zero(actions, context);
    };
    const within = async (budgetMs: number) =>
      (await ask(shooting(50), { objective: slow, budgetMs })).iterations;
    expect(await within(0)).toBe(1);
    expect(await within(19)).toBe(1); // 10, and 20 would be too much
    expect(await within(20)).toBe(2); // 10 + 40: the second took longer than the longest before it
    expect(await within(89)).toBe(2); // 50, and 40 more would be too much
    expect(await within(90)).toBe(3);
    expect(await within(129)).toBe(4);
    vi.useRealTimers();
    const all = await ask(shooting(50), { budgetMs: 60_000 });
    expect(all.iterations).toBe(50);
    expect(all.evaluated).toBe(250);
  });

  it('lets its objective meet other futures in each iteration and at each step', async () => {
    const keys: Key[] = [];
    const proposed: Key[] = [];
    const objective: Objective = (actions, context) => {
      keys.push(context.key);
      return zero(actions, context);
    };
    for (const step of [3, 4]) {
      const proposals: PlanRequest['proposals'] = ({ key }) => {
        proposed.push(key);
        return nd(new Float32Array(4), [2, 1, 2, 1]);
      };
      await ask(shooting(3), { objective, step, proposals });
    }
    const names = [...keys, ...proposed].map(({ k0, k1 }) => `${k0} ${k1}`);
    expect(names.length).toBe(8);
    expect(new Set(names).size).toBe(8);
  });

  it('brings proposals within the bounds, of which a NaN becomes the middle', async () => {
    const seen: number[][] = [];
    const objective: Objective = (actions, context) => {
      seen.push([...actions.data.subarray(0, 2)]);
      return zero(actions, context);
    };
    const proposals = () => nd(Float32Array.of(3, Number.NaN, 25, 12), [2, 1, 2, 1]);
    await ask(shooting(2), { objective, proposals });
    expect(seen).toEqual([
      [10, 15],
      [10, 15],
    ]);
  });

  it('refuses actions that cannot be taken', async () => {
    const discrete = shooting(1, { actionSpace: indices });
    const proposals = () => nd(Int32Array.of(0, 1, 2, 3), [2, 1, 2, 1]);
    await expect(ask(discrete, { proposals })).rejects.toThrow(
      /proposals must be indices in 0..2, got 3/,
    );
    const feasible: PlanRequest['feasible'] = ({ data }) => {
      data[0] = -1;
    };
    await expect(ask(discrete, { feasible })).rejects.toThrow(/indices in 0..2, got -1/);
    const broken: PlanRequest['feasible'] = ({ data }) => {
      data[0] = Number.NaN;
    };
    await expect(ask(shooting(), { feasible: broken })).rejects.toThrow(/must be finite, got NaN/);
    const late: PlanRequest['feasible'] = ({ data }, { iteration }) => {
      if (iteration === 1) data[0] = 7;
    };
    await expect(ask(discrete, { feasible: late })).rejects.toThrow(/indices in 0..2, got 7/);
  });

  it('refuses requests that do not fit together', async () => {
    const planner = shooting();
    await expect(ask(planner, { rows: 1 })).rejects.toThrow(
      /rows must be the 2 rows of start, got 1/,
    );
    await expect(ask(planner, { trajectory: ids(3) })).rejects.toThrow(
      /one id for each of the 2 rows/,
    );
    await expect(ask(planner, { start: 'here' })).rejects.toThrow(
      /rows must be the number of starts/,
    );
    await expect(ask(planner, { budgetMs: -1 })).rejects.toThrow(/budgetMs must not be negative/);
    await expect(ask(planner, { step: -1 })).rejects.toThrow(/step must be an integer/);
    await expect(ask(planner, { budget: 3 } as never)).rejects.toThrow(/got 'budget'/);
    const short = () => nd(new Float32Array(9), [1, 9]);
    await expect(ask(planner, { objective: short })).rejects.toThrow(
      /must be float32 \[2, 5\], got \[1,9\]/,
    );
    const plan = await ask(planner, { start: 'here', rows: 2 });
    expect(plan.actions.shape).toEqual([2, 2, 1]);
  });

  it('stops between iterations', async () => {
    const abort = new AbortController();
    let asked = 0;
    const objective: Objective = (actions, context) => {
      if (++asked === 2) abort.abort(new Error('enough'));
      return zero(actions, context);
    };
    const plan = ask(shooting(9), { objective, signal: abort.signal });
    await expect(plan).rejects.toThrow('enough');
    expect(asked).toBe(2);
  });
});
