import { type NdView, nd, zeros } from 'umwelt';
import {
  type Actions,
  MppiPlanner,
  modelObjective,
  type Objective,
  type PlanCarry,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { lineWorld } from '../support/line-world.js';
import { doubleIntegrator, fourStates } from './lqr.js';
import { near, nothing, watched } from './objectives.js';

const start = nd([[0]]);
const unit = { type: 'box' as const, low: [-1], high: [1] };

function spread(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

describe('the update of path integrals', () => {
  // eps = the noise of a plan of seed 5, np.array [2, 4, 2, 2]:
  // [[0.28036278,-1.1137295,0.22791117,0.99427557,-0.032624144,-0.99776542,-0.60589331,-1.4374069,
  //   0.30010799,-1.986773,-1.5392178,-0.75194663,-0.23286894,1.7453833,-0.012871554,0.236679],
  //  [1.0214573,-0.48584753,0.2439003,1.000108,-0.69116598,-2.0213842,1.4671322,1.6235474,
  //   0.62691164,-0.9313466,1.2356035,0.85380971,1.4005517,1.3616241,2.082968,-0.52233809]]
  // value = lambda a: -((a - np.array([0.8, -1.5]))**2).sum((1, 2))
  // def mppi(mu, past, low=[-1, -2], high=[1, 2], sigma=np.array([.5, 1.]), beta=.9, gamma=.9):
  //   for e in eps:
  //     a = np.empty_like(e)
  //     for t in range(2): a[:, t] = beta*(mu[t] + sigma*e[:, t]) + (1-beta)*(a[:, t-1] if t else past)
  //     a = np.clip(a, low, high); w = np.exp(gamma*(value(a) - value(a).max()))
  //     mu = (a*w[:, None, None]).sum(0)/(w.sum() + 1e-10)
  //   return mu
  const planner = new MppiPlanner({
    horizon: 2,
    actionSpace: { type: 'box', low: [-1, -2], high: [1, 2] },
    population: 4,
    iterations: 2,
    lambda: 1 / 0.9,
    sigma: 0.5,
    beta: 0.9,
  });
  const close = (actual: ArrayLike<number>, expected: readonly number[]) => {
    expect(actual.length).toBe(expected.length);
    for (let i = 0; i < expected.length; i++) {
      expect(Math.abs(actual[i] - expected[i])).toBeLessThan(1e-6);
    }
  };

  test('agrees with the formula of mbrl-lib for given noise', async () => {
    const { objective, seen } = watched(near([0.8, -1.5]));
    const plan = await planner.plan({ objective, start, seed: 5 });
    // the populations a, flattened, of mppi(np.zeros((2, 2)), np.zeros(2))
    close(
      seen[0],
      [
        0.126163251, -1.00235655, 0.1151763516, 0.794612358, -0.0146808648, -0.897988878,
        -0.27412007598, -1.3834650978, 0.1350485955, -1.7880957, -0.67914315045, -0.855561537,
        -0.104791023, 1.57084497, -0.0162713016, 0.370095597,
      ],
    );
    close(
      seen[1],
      [
        0.488338232887305, -1.484518566017673, -0.190967017152546, -0.32286386321767,
        -0.282342243112695, -2, 0.282419290247454, 0.10003329648233, 0.310792685887305,
        -1.885467729017673, 0.237544868147454, -0.49462724051767, 0.658930712887305,
        0.178205900982327, 0.653672695847454, -1.52679289751767,
      ],
    );
    // mppi(np.zeros((2, 2)), np.zeros(2)).ravel()
    const mean = [0.389117700036205, -1.413122231642614, 0.204584149432707, -0.606695825820165];
    close(plan.actions.data, mean);
  });

  test('goes on from the shifted mean, smoothing from the action that was taken', async () => {
    const objective = near([0.8, -1.5]);
    const { carry } = await planner.plan({ objective, start, seed: 5 });
    const next = await planner.plan({ objective, start, seed: 5, carry: planner.shift(carry, 1) });
    // m = mppi(np.zeros((2, 2)), np.zeros(2)); mppi(np.array([m[1], [0, 0]]), m[0]).ravel()
    close(
      next.actions.data,
      [0.670463249114214, -1.376095437638444, 0.406649776299657, -0.992336466678767],
    );
  });

  test('puts all sequences into the mean, proposals too, by exp((value - most) / lambda)', async () => {
    const three = new MppiPlanner({ horizon: 1, actionSpace: unit, population: 1, lambda: 2 });
    const proposals = () => nd(Float32Array.of(0.5, -0.5), [1, 2, 1, 1]);
    // The drawn sequence is worth so little that it does not count.
    const objective: Objective = () => nd([[1, 3, -1e30]]);
    const plan = await three.plan({ objective, start, seed: 0, proposals });
    expect(plan.evaluated).toBe(5 * 3);
    // w = np.exp(.5*np.array([-2, 0])); (w*[.5, -.5]).sum()/w.sum() -> -0.2310585786300049
    expect(plan.actions.data[0]).toBeCloseTo(-0.231058578, 7);
  });
});

describe('noise', () => {
  test.each([
    [0.05, 1],
    [0.2, 1],
    [0.2, 4],
  ])('has the standard deviation sigma %f of half the range, here of %f', async (sigma, half) => {
    const { objective, seen } = watched(nothing);
    const actionSpace = { type: 'box' as const, low: [5 - half], high: [5 + half] };
    await new MppiPlanner({
      horizon: 1,
      actionSpace,
      population: 4000,
      sigma,
      beta: 1,
      iterations: 1,
    }).plan({ objective, start, seed: 1 });
    expect(spread(seen[0])).toBeGreaterThan(0.95 * sigma * half);
    expect(spread(seen[0])).toBeLessThan(1.05 * sigma * half);
  });

  test('may have a sigma for each dimension', async () => {
    const { objective, seen } = watched(nothing);
    await new MppiPlanner({
      horizon: 1,
      actionSpace: { type: 'box', low: [-1, -1], high: [1, 1] },
      population: 4000,
      sigma: [0.02, 0.2],
      beta: 1,
      iterations: 1,
    }).plan({ objective, start, seed: 1 });
    const of = (d: number) => spread(seen[0].filter((_, i) => i % 2 === d));
    expect(of(1) / of(0)).toBeGreaterThan(9);
    expect(of(1) / of(0)).toBeLessThan(11);
  });

  test('is alike from step to step when it is coloured', async () => {
    const neighbours = async (colour: number) => {
      const { objective, seen } = watched(nothing);
      await new MppiPlanner({
        horizon: 10,
        actionSpace: unit,
        population: 500,
        sigma: 0.1,
        beta: 1,
        colour,
        iterations: 1,
      }).plan({ objective, start, seed: 1 });
      let [product, square] = [0, 0];
      for (let i = 0; i < seen[0].length; i++) {
        square += seen[0][i] ** 2;
        if (i % 10 > 0) product += seen[0][i] * seen[0][i - 1];
      }
      return product / (0.9 * square);
    };
    expect(Math.abs(await neighbours(0))).toBeLessThan(0.05);
    expect(await neighbours(2)).toBeGreaterThan(0.5);
  });

  test('stays within the bounds', async () => {
    const { objective, seen } = watched(near([1]));
    await new MppiPlanner({ horizon: 3, actionSpace: unit, sigma: 2 }).plan({
      objective,
      start,
      seed: 1,
    });
    const all = seen.flat();
    expect([Math.min(...all), Math.max(...all)]).toEqual([-1, 1]);
  });
});

describe('values', () => {
  const planner = new MppiPlanner({ horizon: 2, actionSpace: unit, population: 20 });

  test('as large as float32 goes neither overflow nor lose the best', async () => {
    const greedy = new MppiPlanner({ horizon: 1, actionSpace: unit, lambda: 1e-30, sigma: 1 });
    const objective: Objective = (actions, context) => near([0.5], 3e37)(actions, context);
    const plan = await greedy.plan({ objective, start, seed: 1 });
    expect(Math.abs(plan.actions.data[0] - 0.5)).toBeLessThan(0.01);
  });

  test('that are not finite have no weight', async () => {
    const objective: Objective = (actions, context) => {
      const values = near([0.3])(actions, context) as NdView;
      for (let n = 1; n < values.data.length; n += 3) values.data[n] = Number.NaN;
      for (let n = 2; n < values.data.length; n += 3) values.data[n] = Number.POSITIVE_INFINITY;
      return values;
    };
    const plan = await planner.plan({ objective, start, seed: 1 });
    for (const action of plan.actions.data) expect(Math.abs(action)).toBeLessThanOrEqual(1);
    expect(plan.value[0]).toBeLessThanOrEqual(0);
  });

  test('of which none is finite leave the mean as it was', async () => {
    const { carry, actions } = await planner.plan({ objective: near([0.3]), start, seed: 1 });
    const plan = await planner.plan({ objective: nothing, start, seed: 2, carry });
    expect(plan.actions).toEqual(actions);
    expect([...plan.value]).toEqual([Number.NEGATIVE_INFINITY]);
    const fresh = await planner.plan({ objective: nothing, start, seed: 2 });
    expect([...fresh.actions.data]).toEqual([0, 0]);
  });
});

describe('a shifted carry', () => {
  const actionSpace = { type: 'box' as const, low: [0, -4], high: [1, 2] };
  const planner = new MppiPlanner({ horizon: 3, actionSpace, population: 30 });
  const planned = () => planner.plan({ objective: near([0.9, 1]), start, seed: 3 });

  test('is filled up with the middle of the box', async () => {
    const { actions, carry } = await planned();
    const { mean } = planner.shift(carry, 2);
    const [a, b] = actions.data.subarray(4);
    expect([...mean.data]).toEqual([a, b, 0.5, -1, 0.5, -1]);
  });

  test('knows the action taken last, which is the middle of the box before any', async () => {
    const { actions, carry } = await planned();
    expect([...carry.previous.data]).toEqual([0.5, -1]);
    expect([...planner.shift(carry, 0).previous.data]).toEqual([0.5, -1]);
    const taken = [...actions.data.subarray(4)];
    expect([...planner.shift(carry, 3).previous.data]).toEqual(taken);
    const twice = planner.shift(planner.shift(carry, 1), 2);
    expect([...twice.previous.data]).toEqual(taken);
  });

  test('has what may be taken, where that is narrower than the box', async () => {
    const feasible = ({ data }: Actions) => {
      for (let i = 0; i < data.length; i++) data[i] = Math.round(data[i]);
    };
    const { actions, carry } = await planner.plan({
      objective: near([0.9, 1]),
      start,
      seed: 3,
      feasible,
    });
    expect([...actions.data]).toEqual([...actions.data].map(Math.round));
    expect([...planner.shift(carry, 1).previous.data]).toEqual([...actions.data.subarray(0, 2)]);
  });

  test('does not share memory with the plan', async () => {
    const { actions, carry } = await planned();
    const before = [...carry.mean.data];
    actions.data.fill(9);
    expect([...carry.mean.data]).toEqual(before);
  });

  test('of another planner is refused', async () => {
    const { carry } = await planned();
    const other = new MppiPlanner({ horizon: 4, actionSpace });
    const plan = (given: PlanCarry) =>
      other.plan({ objective: near([0, 0]), start, seed: 0, carry: given });
    await expect(plan(carry)).rejects.toThrow(RangeError);
    await expect(plan({})).rejects.toThrow(TypeError);
    expect(() => planner.shift(carry, 4)).toThrow(RangeError);
  });
});

describe('planning', () => {
  test.each([
    [
      'a mass on a line',
      doubleIntegrator(),
      [
        [1, 0],
        [-0.7, 1.2],
      ],
    ],
    [
      'four states and two actions',
      fourStates(),
      [
        [1, -1, 0.5, 0.3],
        [0.2, 0.8, -1, 0.4],
      ],
    ],
  ] as const)('of %s comes within 3 percent of the least cost', async (_name, system, starts) => {
    const { actionSpace, model, value } = system;
    const planner = new MppiPlanner({ horizon: 8, actionSpace, lambda: 0.1, sigma: 0.1 });
    const objective = modelObjective(model, { value });
    for (let seed = 0; seed < 10; seed++) {
      const { actions } = await planner.plan({
        objective,
        start: nd(starts.map((x) => [...x])),
        seed,
      });
      const width = actions.data.length / starts.length;
      for (const [b, x] of starts.entries()) {
        const taken = actions.data.subarray(b * width, (b + 1) * width);
        expect(system.cost(x, taken)).toBeLessThan(1.03 * system.optimalCost(x));
      }
    }
  });

  test('again and again, with a warm start, costs within 3 percent of the least', async () => {
    const system = doubleIntegrator();
    const { actionSpace, model, value } = system;
    const planner = new MppiPlanner({ horizon: 8, actionSpace, lambda: 0.1, sigma: 0.1 });
    const objective = modelObjective(model, { value });
    const first = [1, 0];
    let x = first;
    let carry: PlanCarry | undefined;
    const taken: number[] = [];
    for (let step = 0; step < 40; step++) {
      const plan = await planner.plan({
        objective,
        start: nd([x]),
        seed: 0,
        step,
        ...(carry && { carry }),
      });
      taken.push(plan.actions.data[0]);
      x = system.next(x, plan.actions.data.subarray(0, 1));
      carry = planner.shift(plan.carry, 1);
    }
    expect(system.cost(first, taken)).toBeLessThan(1.03 * system.optimalCost(first));
  });

  test('of many starts at once is that of each alone, bit for bit', async () => {
    const planner = new MppiPlanner({
      horizon: 4,
      actionSpace: unit,
      population: 33,
      lambda: 50,
    });
    const objective = modelObjective(lineWorld({ sigma: 0.3 }));
    const starts = [[0], [-2], [5]];
    const trajectory = Uint32Array.of(4, 0, 9);
    const together = await planner.plan({ objective, start: nd(starts), trajectory, seed: 6 });
    for (const [b, x] of starts.entries()) {
      const alone = await planner.plan({
        objective,
        start: nd([x]),
        trajectory: trajectory.slice(b, b + 1),
        seed: 6,
      });
      expect(alone.actions.data).toEqual(together.actions.data.slice(4 * b, 4 * b + 4));
      expect(alone.value[0]).toBe(together.value[b]);
    }
    expect(new Set(together.actions.data).size).toBe(12);
  });

  test('without time to spare does one iteration', async () => {
    const planner = new MppiPlanner({ horizon: 2, actionSpace: unit, population: 10 });
    const plan = await planner.plan({ objective: near([0]), start, seed: 0, budgetMs: 0 });
    expect(plan).toMatchObject({ iterations: 1, evaluated: 10 });
  });

  test('stops between iterations with the reason of its signal', async () => {
    const stop = new AbortController();
    let calls = 0;
    const objective: Objective = (actions, context) => {
      calls++;
      stop.abort(new Error('enough'));
      return near([0])(actions, context);
    };
    const planner = new MppiPlanner({ horizon: 2, actionSpace: unit, population: 10 });
    const plan = planner.plan({ objective, start, seed: 0, signal: stop.signal });
    await expect(plan).rejects.toThrow('enough');
    expect(calls).toBe(1);
  });

  test('for no starts gives an empty plan', async () => {
    const planner = new MppiPlanner({ horizon: 2, actionSpace: unit, population: 10 });
    const plan = await planner.plan({ objective: near([0]), start: zeros([0, 1]), seed: 0 });
    expect(plan.actions.shape).toEqual([0, 2, 1]);
  });
});

describe('of indices', () => {
  /** Pays for the steps at which the index is that of a code. */
  const code =
    (wanted: readonly number[]): Objective =>
    ({ data, shape: [rows, count, horizon] }) => {
      const out = zeros([rows, count]);
      for (let i = 0; i < data.length; i++) {
        if (data[i] === wanted[i % horizon]) out.data[Math.floor(i / horizon)]++;
      }
      return out;
    };
  const actionSpace = { type: 'discrete' as const, n: 4 };

  test('finds the best sequence of a small problem', async () => {
    const planner = new MppiPlanner({ horizon: 6, actionSpace, population: 200, lambda: 1 / 3 });
    const wanted = [3, 0, 1, 1, 2, 3];
    for (let seed = 0; seed < 5; seed++) {
      const { actions } = await planner.plan({ objective: code(wanted), start, seed });
      expect(actions.data).toEqual(Int32Array.from(wanted));
      expect(actions.shape).toEqual([1, 6, 1]);
    }
  });

  test('finds the way through a corridor in a model, where only its end pays', async () => {
    // Index 0 stands, 1 goes left, 2 goes right; the end of the corridor is 4 steps to the right.
    const world = lineWorld();
    const corridor = {
      ...world,
      actionSize: 3,
      step: async (state: Parameters<typeof world.step>[0], action: NdView, context: never) => {
        const rows = action.shape[0];
        const move = Float32Array.from(
          { length: rows },
          (_, row) => action.data[3 * row + 2] - action.data[3 * row + 1],
        );
        const result = await world.step(state, nd(move, [rows, 1]), context);
        return { ...result, reward: result.obs.data.map((x) => (x >= 4 ? 1 : 0)) };
      },
    };
    const planner = new MppiPlanner({
      horizon: 4,
      actionSpace: { type: 'discrete', n: 3 },
      population: 400,
      lambda: 0.1,
    });
    const plan = await planner.plan({ objective: modelObjective(corridor), start, seed: 2 });
    expect(plan.actions.data).toEqual(Int32Array.of(2, 2, 2, 2));
    expect(world.alive.size).toBe(0);
  });

  test('sums up the weights of sequences by index', async () => {
    const planner = new MppiPlanner({
      horizon: 2,
      actionSpace,
      population: 1,
      iterations: 1,
      lambda: 1,
    });
    const proposals = () => nd(Int32Array.of(0, 1, 0, 2, 3, 2), [1, 3, 2, 1]);
    const objective: Objective = () => nd([[0, 1, 1, -1e30]]);
    const { carry, actions } = await planner.plan({ objective, start, seed: 0, proposals });
    // w = np.exp([-1, 0, 0]); w /= w.sum() -> [0.1553624, 0.4223188, 0.4223188]
    const expected = [0.5776812, 0, 0, 0.4223188, 0, 0.1553624, 0.8446376, 0];
    for (const [i, p] of expected.entries()) expect(carry.probabilities.data[i]).toBeCloseTo(p, 6);
    expect(actions.data).toEqual(Int32Array.of(0, 2));
    const quarter = [0.25, 0.25, 0.25, 0.25];
    const shifted = [...planner.shift(carry, 1).probabilities.data];
    expect(shifted).toEqual([...carry.probabilities.data.subarray(4), ...quarter]);
  });

  test('draws each index with at least epsilon / n', async () => {
    const { objective, seen } = watched(nothing);
    const planner = new MppiPlanner({
      horizon: 1,
      actionSpace,
      population: 8000,
      epsilon: 0.4,
      iterations: 1,
    });
    const carry = { probabilities: nd(Float32Array.of(0, 1, 0, 0), [1, 1, 4]) };
    await planner.plan({ objective, start, seed: 0, carry });
    const share = (index: number) => seen[0].filter((drawn) => drawn === index).length / 8000;
    for (const rare of [0, 2, 3]) expect(Math.abs(share(rare) - 0.1)).toBeLessThan(0.015);
  });

  test('refuses an index that does not exist', async () => {
    const planner = new MppiPlanner({ horizon: 1, actionSpace, population: 2 });
    const proposals = () => nd(Int32Array.of(4), [1, 1, 1, 1]);
    const plan = planner.plan({ objective: code([0]), start, seed: 0, proposals });
    await expect(plan).rejects.toThrow(/0\.\.3, got 4/);
  });
});

test.each([
  [{ lambda: 0 }, /lambda/],
  [{ lambda: Number.POSITIVE_INFINITY }, /lambda/],
  [{ sigma: 0 }, /sigma/],
  [{ sigma: [1, 1] }, /sigma must have 1 entries/],
  [{ beta: 0 }, /beta/],
  [{ beta: 1.5 }, /beta/],
  [{ colour: -1 }, /MppiPlanner: colour must be a finite number of at least 0, got -1/],
  [{ population: 0 }, /population/],
  [{ iterations: 1.5 }, /iterations/],
  [{ epsilon: 0.1 }, /epsilon must be left out for a box/],
  [{ temperature: 1 }, /temperature/],
])('refuses %o', (options, message) => {
  expect(() => new MppiPlanner({ horizon: 2, actionSpace: unit, ...options })).toThrow(message);
});

test('refuses an epsilon of 0', () => {
  const actionSpace = { type: 'discrete' as const, n: 2 };
  expect(() => new MppiPlanner({ horizon: 2, actionSpace, epsilon: 0 })).toThrow(/epsilon/);
});
