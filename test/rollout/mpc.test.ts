import { gatherRows, type NdView, nd } from 'umwelt';
import { ClosedFormDynamics, type Observed } from 'umwelt/dynamics';
import {
  CemPlanner,
  IcemPlanner,
  imagine,
  MpcAgent,
  type MpcAgentOptions,
  MppiPlanner,
  modelObjective,
  mpcPolicy,
  type Objective,
  type Plan,
  type PlanCarry,
  type Planner,
  type PlanRequest,
  RandomShooting,
  TdMpc2Planner,
} from 'umwelt/rollout';
import { foldIn, key } from 'umwelt/sampling';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { lineWorld } from '../support/line-world.js';
import { ids } from '../support/models.js';

const actionSpace = { type: 'box' as const, low: [-1], high: [1] };

/** A point that moves by its action and is paid for being near 0. */
const point = new ClosedFormDynamics({
  obsSize: 1,
  actionSize: 1,
  next: ({ obs, action, nextObs }) => {
    for (let b = 0; b < obs.data.length; b++) nextObs.data[b] = obs.data[b] + action.data[b];
  },
  reward: ({ nextObs }) => nextObs.data.map((x) => -x * x),
});

/** Plans `start, start + 1, ...` and writes down what it was asked; its carry counts plans and shifts. */
class Scripted implements Planner {
  readonly horizon = 4;
  readonly actionSpace = actionSpace;
  readonly asked: { obs: number[]; step: number; carry: number[] | null; trajectory: number[] }[] =
    [];
  readonly #iterations: number;

  constructor(iterations = 3) {
    this.#iterations = iterations;
  }

  async plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
    const start = request.start as NdView;
    const obs = [...start.data];
    const carry = request.carry?.shifted.data as Float32Array | undefined;
    this.asked.push({
      obs,
      step: request.step ?? 0,
      carry: carry ? [...carry] : null,
      trajectory: [...(request.trajectory ?? [])],
    });
    const actions = nd(
      Float32Array.from({ length: 4 * obs.length }, (_, i) => obs[i >> 2] + (i % 4)),
      [obs.length, 4, 1],
    );
    const shifted = nd(carry?.slice() ?? new Float32Array(obs.length), [obs.length, 1]);
    const value = Float32Array.from(obs);
    return { actions, value, iterations: this.#iterations, evaluated: 1, carry: { shifted } };
  }

  shift({ shifted }: PlanCarry, steps: number): PlanCarry {
    const data = shifted.data as Float32Array;
    return {
      shifted: nd(
        data.map((n) => n + steps),
        shifted.shape,
      ),
    };
  }
}

const nothing: Objective = (actions) =>
  nd(new Float32Array(actions.shape[0] * actions.shape[1]), [actions.shape[0], actions.shape[1]]);

afterEach(() => {
  vi.useRealTimers();
});

describe('MpcAgent', () => {
  it('takes several actions of a plan before the next, which starts from what is left of it', async () => {
    const planner = new Scripted();
    const agent = new MpcAgent({ planner, objective: nothing, seed: 0, replanEvery: 3 });
    const taken: number[] = [];
    const iterations: number[] = [];
    for (const x of [10, 20, 30, 40]) {
      const decision = await agent.act(nd([[x]]));
      taken.push(decision.action.data[0]);
      iterations.push(decision.iterations);
      expect(decision.value[0]).toEqual(decision.iterations > 0 ? x : Number.NaN);
    }
    expect(taken).toEqual([10, 11, 12, 40]);
    expect(iterations).toEqual([3, 0, 0, 3]);
    expect(planner.asked.map(({ step, carry }) => [step, carry])).toEqual([
      [0, null],
      [3, [3]],
    ]);
  });

  it('lets rows in which an episode begins forget, and no others', async () => {
    const planner = new Scripted();
    const agent = new MpcAgent({ planner, objective: nothing, seed: 0, replanEvery: 2 });
    await agent.act(nd([[10], [20], [30]]));
    const second = await agent.act(nd([[11], [21], [31]]), { first: Uint8Array.of(0, 1, 0) });
    // Row 1 plans afresh from 21; the others go on with their plan.
    expect([...second.action.data]).toEqual([11, 21, 31]);
    const third = await agent.act(nd([[50], [60], [70]]));
    expect([...third.action.data]).toEqual([50, 22, 70]);
    expect(planner.asked).toEqual([
      { obs: [10, 20, 30], step: 0, carry: null, trajectory: [0, 1, 2] },
      { obs: [21], step: 1, carry: null, trajectory: [1] },
      { obs: [50, 70], step: 2, carry: [2, 2], trajectory: [0, 2] },
    ]);
  });

  it('keeps nothing beyond a reset', async () => {
    const planner = new RandomShooting({ horizon: 3, actionSpace, population: 50 });
    const make = () =>
      new MpcAgent({ planner, objective: modelObjective(point), seed: 5, replanEvery: 2 });
    const run = async (agent: MpcAgent) => {
      const actions: number[] = [];
      let x = nd([[3], [-2]]);
      for (let t = 0; t < 5; t++) {
        const { action } = await agent.act(x);
        actions.push(...action.data);
        x = nd(
          x.data.map((v, b) => v + action.data[b]),
          x.shape,
        );
      }
      return actions;
    };
    const agent = make();
    const before = await run(agent);
    expect(agent.step).toBe(5);
    agent.reset();
    expect(agent.step).toBe(0);
    expect(await run(agent)).toEqual(before);
    expect(await run(make())).toEqual(before);
    // Without the reset it goes on with other noise.
    expect(await run(agent)).not.toEqual(before);
    agent.reset();
    await expect(agent.act(nd([[1]]))).resolves.toMatchObject({ iterations: 1 }); // of any size again
  });

  it('decides for each row as if it were alone', async () => {
    const planner = new RandomShooting({ horizon: 3, actionSpace, population: 20 });
    const objective = modelObjective(lineWorld({ sigma: 0.5 }));
    const both = new MpcAgent({ planner, objective, seed: 1, trajectory: ids(2, 7) });
    const second = new MpcAgent({ planner, objective, seed: 1, trajectory: ids(1, 8) });
    for (const x of [0, 1, 2]) {
      const { action } = await both.act(nd([[x], [x + 1]]));
      const alone = await second.act(nd([[x + 1]]));
      expect(alone.action.data[0]).toBe(action.data[1]);
    }
  });

  it('follows what happens with a model, and frees every state', async () => {
    const world = lineWorld();
    const seen: string[] = [];
    const following = {
      ...world,
      initial(obs: NdView) {
        seen.push(`initial ${obs.data}`);
        return { ...(world.initial(obs, undefined as never) as object), obs } as never;
      },
      observe(
        _state: unknown,
        { obs, action, first }: { obs: NdView; action: NdView; first?: Uint8Array },
      ) {
        seen.push(`observe ${obs.data} after ${action.data}${first ? ` first ${first}` : ''}`);
        return { ...(world.initial(obs, undefined as never) as object), obs } as never;
      },
      async gather(state: { x: Float32Array; id: number; obs: NdView }, rows: Int32Array) {
        const made = await world.gather(state, rows);
        return { ...made, obs: gatherRows(state.obs, rows) } as never;
      },
    };
    const started: number[][] = [];
    const objective: Objective<{ obs: NdView }> = (actions, { start }) => {
      started.push([...start.obs.data]);
      return nd(new Float32Array(actions.shape[0] * actions.shape[1]), actions.shape.slice(0, 2));
    };
    const planner = new RandomShooting({ horizon: 2, actionSpace, population: 4 });
    const agent = new MpcAgent<{ obs: NdView }>({
      planner,
      objective,
      seed: 0,
      replanEvery: 2,
      model: following as never,
    } as MpcAgentOptions<{ obs: NdView }>);
    const { action } = await agent.act(nd([[1], [2]]));
    await agent.act(nd([[3], [4]]), { first: Uint8Array.of(0, 1) });
    expect(started).toEqual([[1, 2], [4]]);
    expect(seen[0]).toBe('initial 1,2');
    expect(seen[1]).toBe(`observe 3,4 after ${[...action.data]} first 0,1`);
    expect(world.alive.size).toBe(1);
    agent.reset();
    expect(world.alive.size).toBe(0);
  });

  it('stays as it was when a decision is stopped or fails', async () => {
    const world = lineWorld();
    const planner = new RandomShooting({ horizon: 3, actionSpace, population: 20 });
    const objective = modelObjective(world);
    const make = () => new MpcAgent({ planner, objective, seed: 2 });
    const [stopped, straight] = [make(), make()];
    await stopped.act(nd([[1]]));
    await straight.act(nd([[1]]));
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(stopped.act(nd([[2]]), { signal })).rejects.toThrow('enough');
    expect(stopped.step).toBe(1);
    const again = await stopped.act(nd([[2]]));
    expect(again.action.data).toEqual((await straight.act(nd([[2]]))).action.data);
    expect(world.alive.size).toBe(0);
  });

  it('hands everything to the planner, and what is left of the budget to a second plan', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const requests: PlanRequest[] = [];
    class Slow extends Scripted {
      override async plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
        requests.push(request as PlanRequest);
        vi.advanceTimersByTime(30);
        return super.plan(request);
      }
    }
    const proposals = () => nd(new Float32Array(4), [1, 1, 4, 1]);
    const feasible = () => {};
    const agent = new MpcAgent({
      planner: new Slow(),
      objective: nothing,
      seed: 0,
      proposals,
      feasible,
      budgetMs: 1000,
    });
    await agent.act(nd([[1], [2]]));
    await agent.act(nd([[1], [2]]), { first: Uint8Array.of(0, 1) });
    expect(requests.length).toBe(3);
    for (const request of requests) expect(request).toMatchObject({ proposals, feasible });
    const [first, second, third] = requests.map(({ budgetMs = 0 }) => budgetMs);
    expect([first, second, third]).toEqual([1000, 1000, 970]);
  });

  it('draws other noise than an environment of the same seed', async () => {
    let planned: PlanRequest | undefined;
    class Listening extends Scripted {
      override plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
        planned = request as PlanRequest;
        return super.plan(request);
      }
    }
    const agent = new MpcAgent({ planner: new Listening(), objective: nothing, seed: 5 });
    await agent.act(nd([[1]]));
    expect([key(5), foldIn(5, 0), foldIn(5, 1)]).not.toContainEqual(planned?.seed);
  });

  // The defect of planners whose means or elites outlive the agent's reset.
  for (const [name, planner] of Object.entries({
    MPPI: new MppiPlanner({ horizon: 4, actionSpace, population: 30 }),
    iCEM: new IcemPlanner({ horizon: 4, actionSpace, population: 30 }),
    CEM: new CemPlanner({ horizon: 4, actionSpace, population: 30 }),
    'TD-MPC2': new TdMpc2Planner({ horizon: 4, actionSpace, population: 30, elites: 6 }),
  })) {
    it(`with ${name} starts warm, row by row, and forgets it all at a reset`, async () => {
      const objective = modelObjective(lineWorld({ sigma: 0.2 }));
      const make = (more: object = {}) =>
        new MpcAgent({ planner, objective, seed: 3, replanEvery: 2, ...more });
      const steps = [nd([[3], [-2]]), nd([[2], [-1]]), nd([[1.5], [-0.5]]), nd([[1], [0]])];
      const first = [undefined, Uint8Array.of(0, 1), undefined, undefined];
      const run = async (agent: MpcAgent) => {
        const actions: number[] = [];
        for (const [t, obs] of steps.entries()) {
          const { action } = await agent.act(obs, { ...(first[t] && { first: first[t] }) });
          actions.push(...action.data);
        }
        return actions;
      };
      const agent = make();
      const before = await run(agent);
      agent.reset();
      expect(await run(agent)).toEqual(before);
      // Rows that plan at different times decide as each does alone.
      for (const b of [0, 1]) {
        const alone = make({ trajectory: ids(1, b) });
        for (const [t, obs] of steps.entries()) {
          const own = { ...(first[t] && { first: first[t].slice(b, b + 1) }) };
          const { action } = await alone.act(gatherRows(obs, Int32Array.of(b)), own);
          expect(action.data[0]).toBe(before[2 * t + b]);
        }
      }
      // A warm start is not a cold one.
      const cold = make();
      await cold.act(steps[0]);
      const beginning = { first: Uint8Array.of(1, 1) };
      await cold.act(steps[1]);
      const { action } = await cold.act(steps[2], beginning);
      expect(action.data[0]).not.toBe(before[4]);
    });
  }

  it('goes on after as many actions as were taken, also with another interval', async () => {
    const planner = new Scripted();
    const start = nd([[10]]);
    const three = mpcPolicy({ planner, objective: nothing, replanEvery: 3 });
    const one = mpcPolicy({ planner, objective: nothing, replanEvery: 1 });
    const first = imagine(point, three, { start, horizon: 3, seed: 0 });
    await first.collect();
    await imagine(point, one, { start: first.carry, horizon: 1 }).collect();
    expect(planner.asked.map(({ carry }) => carry)).toEqual([null, [3]]);
  });

  it('reads plans in any layout', async () => {
    class Strided extends Scripted {
      override async plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
        const plan = await super.plan(request);
        const data = new Float32Array(11).fill(-1);
        for (let t = 0; t < 4; t++) data[2 + 2 * t] = t + 0.25;
        return { ...plan, actions: { data, shape: [1, 4, 1], stride: [0, 2, 1], offset: 2 } };
      }
    }
    const agent = new MpcAgent({
      planner: new Strided(),
      objective: nothing,
      seed: 0,
      replanEvery: 2,
    });
    expect((await agent.act(nd([[1]]))).action.data[0]).toBe(0.25);
    expect((await agent.act(nd([[1]]))).action.data[0]).toBe(1.25);
  });

  it('tells a model that follows the reward and one-hot actions', async () => {
    const seen: { action: number[]; reward: number[] }[] = [];
    const model = {
      obsSize: 1,
      actionSize: 3,
      initial: (obs: NdView) => ({ obs }),
      step: () => {
        throw new Error('not asked');
      },
      observe(_state: { obs: NdView }, { obs, action, reward }: Observed) {
        seen.push({ action: [...action.data], reward: [...(reward ?? [])] });
        return { obs };
      },
      gather: (state: { obs: NdView }, rows: Int32Array) => ({ obs: gatherRows(state.obs, rows) }),
    };
    const planner = new RandomShooting({
      horizon: 2,
      actionSpace: { type: 'discrete', n: 3 },
      population: 30,
    });
    // The greatest index is the best.
    const objective: Objective<{ obs: NdView }> = ({ data, shape: [B, N, H] }) =>
      nd(
        Float32Array.from({ length: B * N }, (_, i) => data[i * H]),
        [B, N],
      );
    const agent = new MpcAgent<{ obs: NdView }>({ planner, objective, seed: 0, model });
    await agent.act(nd([[1]]));
    await agent.act(nd([[2]]), { reward: Float32Array.of(7) });
    expect(seen).toEqual([{ action: [0, 0, 1], reward: [7] }]);
  });

  it('refuses a second decision before the first is there, and another number of rows', async () => {
    const agent = new MpcAgent({ planner: new Scripted(), objective: nothing, seed: 0 });
    const first = agent.act(nd([[1]]));
    const second = agent.act(nd([[1]]));
    expect(() => agent.reset()).toThrow(/must be awaited/);
    await expect(second).rejects.toThrow(/must be awaited/);
    await first;
    await expect(agent.act(nd([[1], [2]]))).rejects.toThrow(/obs must have shape \[1, N\]/);
  });

  it('refuses options that make no sense', () => {
    const make = (options: object) => () =>
      new MpcAgent({ planner: new Scripted(), objective: nothing, seed: 0, ...options });
    expect(make({ replanEvery: 5 })).toThrow(/at most the planner's horizon 4, got 5/);
    expect(make({ replanEvery: 0 })).toThrow(/replanEvery must be a positive integer, got 0/);
    expect(make({ planner: {} })).toThrow(/planner must have functions plan and shift/);
    expect(make({ objective: 3 })).toThrow(/objective must be a function, got number/);
    expect(make({ seed: undefined })).toThrow(/seed must be given/);
    expect(make({ model: { step() {} } })).toThrow(/model must have a function observe/);
    expect(make({ replan: 2 })).toThrow(/got 'replan'/);
    expect(make({ proposals: 3 })).toThrow(/proposals must be a function, got number/);
    expect(make({ feasible: 3 })).toThrow(/feasible must be a function, got number/);
    expect(make({ budgetMs: -1 })).toThrow(/budgetMs must not be negative, got -1/);
  });

  it('acts for no rows without planning', async () => {
    const planner = new Scripted();
    const agent = new MpcAgent({ planner, objective: nothing, seed: 0 });
    const { action } = await agent.act(nd(new Float32Array(0), [0, 1]));
    expect(action.shape).toEqual([0, 1]);
    expect(planner.asked).toEqual([]);
  });
});

describe('mpcPolicy', () => {
  const policy = () =>
    mpcPolicy({
      planner: new RandomShooting({ horizon: 4, actionSpace, population: 200 }),
      objective: modelObjective(point),
      replanEvery: 2,
    });

  it('rolls a planner out in a model', async () => {
    const options = { start: nd([[3], [-2], [0]]), horizon: 6, seed: 0 };
    const { obs } = await imagine(point, policy(), options).collect();
    for (let b = 0; b < 3; b++) expect(Math.abs(obs.data[7 * b + 6])).toBeLessThan(0.4);
  });

  it('goes on from a carry as if it had not stopped, in the middle of a plan', async () => {
    const start = nd([[3], [-2]]);
    const whole = await imagine(point, policy(), { start, horizon: 5, seed: 9 }).collect();
    const half = imagine(point, policy(), { start, horizon: 3, seed: 9 });
    await half.collect();
    const rest = await imagine(point, policy(), { start: half.carry, horizon: 2 }).collect();
    expect([...rest.action.data]).toEqual([3, 4, 8, 9].map((i) => whole.action.data[i]));
  });

  it('does not plan with the noise that the model will meet', async () => {
    const met: number[] = [];
    const planned: number[] = [];
    const noisy = (into: number[]) =>
      new ClosedFormDynamics({
        obsSize: 1,
        actionSize: 1,
        next: ({ obs, nextObs, noise }) => {
          const e = noise.normal(1).data;
          into.push(...e);
          nextObs.data.set(obs.data.map((x, b) => x + e[b]));
        },
        reward: ({ nextObs }) => nextObs.data.slice(),
      });
    const planner = new RandomShooting({ horizon: 2, actionSpace, population: 8 });
    const own = mpcPolicy({ planner, objective: modelObjective(noisy(planned)) });
    await imagine(noisy(met), own, { start: nd([[0]]), horizon: 3, seed: 4 }).collect();
    expect(met.length).toBe(3);
    expect(met.some((e) => planned.includes(e))).toBe(false);
  });

  it('gives one-hot rows for discrete actions', async () => {
    const rows: number[][] = [];
    const model = new ClosedFormDynamics({
      obsSize: 1,
      actionSize: 3,
      next: ({ obs, action, nextObs }) => {
        rows.push([...action.data]);
        for (let b = 0; b < obs.data.length; b++) {
          nextObs.data[b] = obs.data[b] + action.data[3 * b + 2] - action.data[3 * b];
        }
      },
      reward: ({ nextObs }) => nextObs.data.map((x) => -Math.abs(x)),
    });
    const planner = new RandomShooting({
      horizon: 2,
      actionSpace: { type: 'discrete', n: 3 },
      population: 100,
    });
    const own = mpcPolicy({ planner, objective: modelObjective(model) });
    const dream = await imagine(model, own, { start: nd([[2]]), horizon: 3, seed: 0 }).collect();
    expect([...dream.obs.data]).toEqual([2, 1, 0, 0]);
    expect([...dream.action.data]).toEqual([1, 0, 0, 1, 0, 0, 0, 1, 0]);
  });
});
