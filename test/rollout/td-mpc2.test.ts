import { type NdView, nd, type WorldModel, zeros } from 'umwelt';
import {
  criticValue,
  modelObjective,
  type Objective,
  type Plan,
  policyProposals,
  TdMpc2Planner,
  tdMpc2Discount,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { lineWorld } from '../support/line-world.js';
import { doubleIntegrator } from './lqr.js';
import { near, nothing, watched } from './objectives.js';

const start = nd([[0]]);
const unit = { type: 'box' as const, low: [-1], high: [1] };
const square = { type: 'box' as const, low: [-1, -1], high: [1, 1] };

function close(actual: ArrayLike<number>, expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i] - expected[i])).toBeLessThan(1e-5);
  }
}

describe('a plan', () => {
  // eps = the noise of a plan of seed 8, torch.tensor [2, 5, 2, 2]:
  // [[-1.1439149,0.90320528,-1.0373917,-0.75753999,-0.55494767,0.55019605,-0.61336285,-1.3554217,
  //   -0.6960749,2.0400813,0.42005482,1.0659537,1.1308429,0.3731975,0.28072497,-0.0008612253,
  //   -0.15526217,-1.1573825,-0.5430398,-0.0072643063],
  //  [-0.10140543,1.0919604,1.2094568,0.24877347,0.94493461,1.6913909,-1.128908,-0.045062367,
  //   -1.1852686,-0.27379325,0.64447504,0.061177384,-0.55125207,-0.14879501,-1.347288,0.44670615,
  //   1.0636449,-0.64351934,1.0905038,1.7807404]]
  // gumbel = [2.8988333, 1.2479117, 0.028777285]; last = [2.0424955, -0.87226826]
  // value = lambda a: -3*((a - torch.tensor([.6, -.4]))**2).sum((1, 2))
  // pi = torch.tensor([[[.25, -.5], [.75, 0.]]])
  // def plan(mean, eval_mode):
  //   std = torch.full((2, 2), 2.)
  //   for i in range(2):
  //     a = torch.cat([pi, (mean + std*eps[i]).clamp(-1, 1)]); v = value(a); top = torch.topk(v, 3).indices
  //     w = torch.exp(.5*(v[top] - v[top].max())); w = w/w.sum(); c = w[:, None, None]
  //     mean = (c*a[top]).sum(0)/(w.sum() + 1e-9)
  //     std = ((c*(a[top] - mean)**2).sum(0)/(w.sum() + 1e-9)).sqrt().clamp(.05, 2)
  //   seq = a[top][(w.log() + gumbel).argmax()].clone()
  //   if not eval_mode: seq[0] += std[0]*last
  //   return seq.clamp(-1, 1), mean
  const options = {
    horizon: 2,
    actionSpace: square,
    population: 6,
    elites: 3,
    iterations: 2,
    temperature: 0.5,
    minStd: 0.05,
    maxStd: 2,
  };
  const planner = new TdMpc2Planner(options);
  const quiet = new TdMpc2Planner({ ...options, deterministic: true });
  const proposals = () => nd(Float32Array.of(0.25, -0.5, 0.75, 0), [1, 1, 2, 2]);
  const request = { start, seed: 8, proposals };
  const carry = { mean: nd(Float32Array.of(0.1, 0.2, 0.3, -0.9), [1, 2, 2]) };

  test('from nothing agrees with _plan', async () => {
    const { objective, seen } = watched(near([0.6, -0.4], 3));
    const plan = await planner.plan({ ...request, objective });
    // the candidates a of plan(torch.zeros(2, 2), False)
    close(
      seen[0],
      [
        0.25, -0.5, 0.75, 0, -1, 1, -1, -1, -1, 1, -1, -1, -1, 1, 0.840109646320343, 1, 1,
        0.746394991874695, 0.561449944972992, -0.001722450600937, -0.310524344444275, -1, -1,
        -0.014528612606227,
      ],
    );
    close(
      seen[1],
      [
        0.25, -0.5, 0.75, 0, 0.313282549381256, 0.094633251428604, 0.872259080410004,
        0.012171439826488, 0.57272452116013, 0.339426577091217, 0.578073740005493,
        -0.002520352136344, 0.044536620378494, -0.463108479976654, 0.801179766654968,
        0.002791635459289, 0.201742216944695, -0.412062108516693, 0.550599753856659,
        0.02206807397306, 0.602158904075623, -0.61409592628479, 0.857293844223023, 0.08876978605986,
      ],
    );
    close(plan.actions.data, [0.611946165561676, -0.571572899818421, 0.75, 0]);
    close(
      plan.carry.mean.data as Float32Array,
      [0.348620235919952, -0.50801008939743, 0.71888756752014, 0.0361950621008873],
    );
    expect(plan).toMatchObject({ iterations: 2, evaluated: 12 });
  });

  test('from the shifted mean of an earlier one agrees with _plan', async () => {
    const plan = await planner.plan({
      ...request,
      objective: near([0.6, -0.4], 3),
      carry: planner.shift(carry, 1),
    });
    // plan(torch.tensor([[.3, -.9], [0, 0]]), False)
    close(
      plan.actions.data,
      [0.655513763427734, -0.491573214530945, 0.452613413333893, 0.021450767293572],
    );
    close(
      plan.carry.mean.data as Float32Array,
      [0.4055515229702, -0.334943771362305, 0.671716570854187, 0.011391269043088],
    );
  });

  test('for evaluation leaves out the noise on the first action, not the draw', async () => {
    const objective = near([0.6, -0.4], 3);
    const plan = await quiet.plan({ ...request, objective, carry: quiet.shift(carry, 1) });
    // plan(torch.tensor([[.3, -.9], [0, 0]]), True)
    close(
      plan.actions.data,
      [0.396232604980469, -0.365107268095017, 0.452613413333893, 0.021450767293572],
    );
    const others = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const { actions } = await quiet.plan({ start, seed: 8, step: seed, objective });
      others.add(actions.data[0]);
    }
    expect(others.size).toBeGreaterThan(10);
  });

  test('in another box is the same one, stretched', async () => {
    const wide = new TdMpc2Planner({
      ...options,
      actionSpace: { type: 'box', low: [0, -5], high: [10, -3] },
    });
    const objective = near([0.6, -0.4], 3);
    const stretched: Objective = (actions, context) => {
      const data = actions.data.map((a, i) => (i % 2 === 0 ? (a - 5) / 5 : a + 4));
      return objective(nd(data as Float32Array, actions.shape), context);
    };
    const plan = await planner.plan({ start, seed: 8, objective });
    const other = await wide.plan({ start, seed: 8, objective: stretched });
    for (let i = 0; i < 4; i++) {
      const a = other.actions.data[i];
      expect(i % 2 === 0 ? (a - 5) / 5 : a + 4).toBeCloseTo(plan.actions.data[i], 5);
    }
    expect([...wide.shift(other.carry, 2).mean.data]).toEqual([5, -4, 5, -4]);
  });
});

test('elites weigh exp(temperature * value)', async () => {
  const planner = new TdMpc2Planner({
    horizon: 1,
    actionSpace: { type: 'box', low: [0, 0, 0], high: [1, 1, 1] },
    population: 3,
    elites: 3,
    iterations: 1,
  });
  const { carry } = await planner.plan({
    objective: () => nd([[1, 2, 4]]),
    proposals: () => nd(Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1), [1, 3, 1, 3]),
    start,
    seed: 0,
  });
  // w = np.exp(.5*(np.array([1, 2, 4]) - 4)); w/w.sum() -> [0.14024438 0.2312239  0.62853172]
  const weights = [0.14024438, 0.2312239, 0.62853172];
  for (const [i, weight] of weights.entries()) expect(carry.mean.data[i]).toBeCloseTo(weight, 6);
});

test('the elite taken is drawn by weight', async () => {
  const planner = new TdMpc2Planner({
    horizon: 1,
    actionSpace: unit,
    population: 2,
    elites: 2,
    iterations: 1,
    deterministic: true,
  });
  const rows = 4000;
  const { actions } = await planner.plan({
    // exp(.5*ln 9) = 3: three to one
    objective: () =>
      nd(
        Float32Array.from({ length: 2 * rows }, (_, i) => (i % 2 ? 0 : Math.log(9))),
        [rows, 2],
      ),
    proposals: () =>
      nd(
        Float32Array.from({ length: 2 * rows }, (_, i) => (i % 2 ? -1 : 1)),
        [rows, 2, 1, 1],
      ),
    start: zeros([rows, 1]),
    seed: 0,
  });
  const share = (actions.data as Float32Array).filter((a) => a === 1).length / rows;
  expect(Math.abs(share - 0.75)).toBeLessThan(0.025);
});

describe('standard deviations', () => {
  const spreads = async (iterations: number, options = {}) => {
    const { objective, seen } = watched(near([0.2], 1000));
    await new TdMpc2Planner({ horizon: 1, actionSpace: unit, iterations, ...options }).plan({
      objective,
      start,
      seed: 2,
    });
    return seen.map((actions) => {
      const mean = actions.reduce((sum, a) => sum + a, 0) / actions.length;
      return Math.sqrt(actions.reduce((sum, a) => sum + (a - mean) ** 2, 0) / actions.length);
    });
  };

  test('do not fall below the least', async () => {
    const least = (await spreads(8)).at(-1) as number;
    expect(least).toBeGreaterThan(0.045);
    expect(least).toBeLessThan(0.055);
    const wider = (await spreads(8, { minStd: 0.2 })).at(-1) as number;
    expect(wider).toBeGreaterThan(0.18);
    expect(wider).toBeLessThan(0.22);
  });

  test('begin with the greatest in every plan', async () => {
    const [first] = await spreads(1, { maxStd: 0.1 });
    expect(first).toBeGreaterThan(0.09);
    expect(first).toBeLessThan(0.11);
    const planner = new TdMpc2Planner({ horizon: 1, actionSpace: unit, maxStd: 0.1, minStd: 0.01 });
    const { carry } = await planner.plan({ objective: near([0.1], 1000), start, seed: 2 });
    const { objective, seen } = watched(nothing);
    await planner.plan({ objective, start, seed: 3, carry });
    expect(Math.max(...seen[0]) - Math.min(...seen[0])).toBeGreaterThan(0.4);
  });
});

describe('values that are not finite', () => {
  const planner = new TdMpc2Planner({
    horizon: 1,
    actionSpace: unit,
    population: 40,
    elites: 20,
    deterministic: true,
  });

  test('are no elites: returns below 0 win over them', async () => {
    // Left of 0.5 nothing is known; right of it the values are far below 0, which upstream ranks NaN as.
    const objective: Objective = ({ data, shape: [rows, count] }) =>
      nd(
        Float32Array.from(data, (a) => (a < 0.5 ? Number.NaN : -1000 - a)),
        [rows, count],
      );
    for (let seed = 0; seed < 10; seed++) {
      const { actions, value } = await planner.plan({ objective, start, seed });
      expect(actions.data[0]).toBeGreaterThanOrEqual(0.5);
      expect(value[0]).toBeLessThan(-1000);
    }
  });

  test('everywhere leave the mean, which is then the plan', async () => {
    const fresh = await planner.plan({ objective: nothing, start, seed: 0 });
    expect([...fresh.actions.data]).toEqual([0]);
    expect([...fresh.value]).toEqual([Number.NEGATIVE_INFINITY]);
    const carry = { mean: nd(Float32Array.of(0.25), [1, 1, 1]) };
    const warm = await planner.plan({ objective: nothing, start, seed: 0, carry });
    expect([...warm.actions.data]).toEqual([0.25]);
    expect([...warm.carry.mean.data]).toEqual([0.25]);
  });

  test('in the last iteration leave the elites of the one before', async () => {
    const objective: Objective = (actions, context) =>
      (context.iteration === 5 ? nothing : near([0.8], 100))(actions, context);
    const { actions } = await planner.plan({ objective, start, seed: 0 });
    expect(Math.abs(actions.data[0] - 0.8)).toBeLessThan(0.2);
  });
});

test('agrees with _estimate_value: an episode ends after the reward of the step', async () => {
  // Latents: z' = .9 z + a, reward z + 2 a, an end where z' > 1.2; critics z + a and 2 z - a, policy .5 z.
  const model: WorldModel<NdView> = {
    obsSize: 1,
    actionSize: 1,
    initial: (obs) => obs,
    step(z, action) {
      const next = nd(
        z.data.map((v, i) => 0.9 * v + action.data[i]),
        z.shape,
      );
      return {
        state: next,
        obs: next,
        reward: z.data.map((v, i) => v + 2 * action.data[i]),
        terminated: Uint8Array.from(next.data, (v) => (v > 1.2 ? 1 : 0)),
      };
    },
    gather: (z, rows) =>
      nd(
        Float32Array.from(rows, (row) => z.data[row]),
        [rows.length, 1],
      ),
  };
  const value = criticValue({
    critics: ({ obs, action }) =>
      nd([...obs.data].map((z, i) => [z + action.data[i], 2 * z - action.data[i]])),
    policy: (z) =>
      nd(
        z.data.map((v) => 0.5 * v),
        z.shape,
      ),
    reduce: 'random-2-mean',
    pair: 'call',
  });
  const sequences = [0.5, 0.5, 0.5, 0.2, -0.1, 0.4, 1, 0, 0, -0.3, 0.6, 1];
  let values: NdView | undefined;
  const objective = modelObjective(model, { gamma: 0.95, value });
  await new TdMpc2Planner({ actionSpace: unit, population: 4, elites: 4, iterations: 1 }).plan({
    objective: async (actions, context) => {
      values = await objective(actions, context);
      return values;
    },
    proposals: () => nd(Float32Array.from(sequences), [1, 4, 3, 1]),
    start: nd([[0.5]]),
    seed: 0,
  });
  // a = np.array([[.5,.5,.5],[.2,-.1,.4],[1.,0.,0.],[-.3,.6,1.]])
  // z = np.full(4, .5); G = np.zeros(4); d = 1.; term = np.zeros(4)
  // for t in range(3):
  //   r = z + 2*a[:, t]; z = .9*z + a[:, t]; G += d*(1 - term)*r; d *= .95
  //   term = np.clip(term + (z > 1.2), 0, 1)
  // pi = .5*z; G + d*(1 - term)*np.stack([z + pi, 2*z - pi]).sum(0)/2
  // -> [3.3525, 3.56300378, 2.5, 3.6508375]
  for (const [n, expected] of [3.3525, 3.56300378, 2.5, 3.6508375].entries()) {
    expect(values?.data[n]).toBeCloseTo(expected, 5);
  }
});

test('discounts by the length of an episode', () => {
  // [min(max((L/5 - 1)/(L/5), .95), .995) for L in (1000, 500, 200, 50)] -> [0.995, 0.99, 0.975, 0.95]
  expect([1000, 500, 200, 50].map(tdMpc2Discount)).toEqual([0.995, 0.99, 0.975, 0.95]);
  expect(() => tdMpc2Discount(0)).toThrow(RangeError);
});

describe('the population', () => {
  const planner = new TdMpc2Planner({ actionSpace: unit, population: 10, elites: 4, horizon: 2 });
  const proposed = (count: number) => () =>
    nd(new Float32Array(2 * count).fill(0.125), [1, count, 2, 1]);

  test('has the proposals in its first places, in every iteration', async () => {
    const { objective, seen } = watched(near([0.3]));
    await planner.plan({ objective, start, seed: 0, proposals: proposed(3) });
    expect(seen.length).toBe(6);
    for (const actions of seen) {
      expect(actions.length).toBe(20);
      expect(actions.slice(0, 6)).toEqual(new Array(6).fill(0.125));
      expect(actions.slice(6)).not.toContain(0.125);
    }
  });

  test('may be proposals alone, but no more', async () => {
    const objective = near([0.3]);
    const { evaluated } = await planner.plan({
      objective,
      start,
      seed: 0,
      proposals: proposed(10),
    });
    expect(evaluated).toBe(60);
    const plan = planner.plan({ objective, start, seed: 0, proposals: proposed(11) });
    await expect(plan).rejects.toThrow(/at most population 10, got 11/);
  });
});

test('of fewer than 64 are all elites unless told otherwise', async () => {
  const objective: Objective = (actions, context) => near([0.3])(actions, context);
  const request = { objective, start, seed: 0 };
  for (const [population, elites] of [
    [10, 10],
    [80, 64],
  ]) {
    const plan = await new TdMpc2Planner({ actionSpace: unit, population }).plan(request);
    const told = new TdMpc2Planner({ actionSpace: unit, population, elites });
    expect(await told.plan(request)).toEqual(plan);
  }
});

test.each([
  [19, 6],
  [20, 8],
])('actions of %i dimensions get %i iterations', async (width, iterations) => {
  const actionSpace = {
    type: 'box' as const,
    low: new Array(width).fill(-1),
    high: new Array(width).fill(1),
  };
  const planner = new TdMpc2Planner({ actionSpace, population: 10, elites: 2 });
  const objective = near(new Array(width).fill(0));
  expect((await planner.plan({ objective, start, seed: 0 })).iterations).toBe(iterations);
});

test('with a poor policy and its value, comes near the least cost of a mass on a line', async () => {
  const { actionSpace, cost, model, optimalCost, value } = doubleIntegrator();
  const planner = new TdMpc2Planner({
    actionSpace,
    horizon: 5,
    deterministic: true,
    temperature: 10,
  });
  const policy = (obs: NdView) =>
    nd(
      Float32Array.from({ length: obs.shape[0] }, (_, b) => -obs.data[2 * b] - obs.data[2 * b + 1]),
      [obs.shape[0], 1],
    );
  const x = [1, 0];
  for (let seed = 0; seed < 10; seed++) {
    const { actions } = await planner.plan({
      objective: modelObjective(model, { value }),
      proposals: policyProposals(model, policy, { count: 24, horizon: 5, actionSpace }),
      start: nd([x]),
      seed,
    });
    expect(cost(x, actions.data)).toBeLessThan(1.03 * optimalCost(x));
  }
});

test('of many starts at once is that of each alone, bit for bit', async () => {
  const planner = new TdMpc2Planner({
    actionSpace: unit,
    population: 40,
    elites: 8,
    temperature: 0.01,
  });
  const model = lineWorld({ sigma: 0.3 });
  const value = criticValue({
    critics: ({ obs, action }) => nd([...obs.data].map((x, b) => [x, x + action.data[b], 2 * x])),
    policy: (_obs, { noise }) => noise.normal(1),
    reduce: 'random-2-mean',
    pair: 'call',
  });
  const objective = modelObjective(model, { value, gamma: 0.9 });
  const proposals = policyProposals(model, (_obs, { noise }) => noise.normal(1), {
    count: 5,
    horizon: 3,
    actionSpace: unit,
  });
  const starts = [[0], [-2], [5]];
  const trajectory = Uint32Array.of(4, 0, 9);
  const plan = (rows: number[][], ids: Uint32Array): Promise<Plan> =>
    planner.plan({ objective, proposals, start: nd(rows), trajectory: ids, seed: 6, step: 3 });
  const together = await plan(starts, trajectory);
  for (const [b, x] of starts.entries()) {
    const alone = await plan([x], trajectory.slice(b, b + 1));
    expect(alone.actions.data).toEqual(together.actions.data.slice(3 * b, 3 * b + 3));
    expect(alone.carry.mean.data).toEqual(together.carry.mean.data.slice(3 * b, 3 * b + 3));
    expect(alone.value[0]).toBe(together.value[b]);
  }
  expect(new Set(together.carry.mean.data as Float32Array).size).toBe(9);
  expect(model.alive.size).toBe(0);
});

test('without time to spare does one iteration', async () => {
  const planner = new TdMpc2Planner({ actionSpace: unit, population: 10, elites: 2 });
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
  const planner = new TdMpc2Planner({ actionSpace: unit, population: 10, elites: 2 });
  const plan = planner.plan({ objective, start, seed: 0, signal: stop.signal });
  await expect(plan).rejects.toThrow('enough');
  expect(calls).toBe(1);
});

test.each([
  [{ elites: 513 }, /elites must be at most population 512/],
  [{ elites: 0 }, /elites/],
  [{ temperature: -1 }, /temperature/],
  [{ minStd: 3 }, /minStd/],
  [{ maxStd: Number.POSITIVE_INFINITY }, /maxStd/],
  [{ iterations: 0 }, /iterations/],
  [{ horizon: 0 }, /horizon/],
  [{ gamma: 1 }, /gamma/],
  [{ deterministic: 1 as unknown as boolean }, /deterministic/],
])('refuses %o', (options, message) => {
  expect(() => new TdMpc2Planner({ actionSpace: unit, ...options })).toThrow(message);
});
