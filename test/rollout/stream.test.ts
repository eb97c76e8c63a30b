import { imagine, maxPairwiseDifference, type NdView, nd, type UncertaintyScore } from 'umwelt';
import type { StepResult, WorldModel } from 'umwelt/dynamics';
import type {
  Carry,
  ImagineOptions,
  PolicyContext,
  Rollout,
  RolloutStep,
  ValueFunction,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { gatherRows } from '../../src/nd.js';
import { ids } from '../support/models.js';

interface State {
  readonly x: Float32Array;
  readonly id: number;
}

/** Calls that were made, by name; what is called may be watched. */
type Calls = { log: string[]; watch: (count: number) => void };

/**
 * A noisy world in which everything that can happen to a row happens to some, and every part of an
 * answer depends on the row alone.
 */
function world(calls: Calls): WorldModel<State> & { alive: Set<number> } {
  const alive = new Set<number>();
  let made = 0;
  const make = (x: Float32Array): State => {
    alive.add(made);
    return { x, id: made++ };
  };
  const check = ({ id }: State) => {
    if (!alive.has(id)) throw new Error(`state ${id} was released`);
  };
  return {
    obsSize: 2,
    actionSize: 1,
    alive,
    initial: (obs) => make(obs.data.filter((_, i) => i % 2 === 0)),
    step: (state, action, { noise, step }): StepResult<State> => {
      check(state);
      note(calls, `model ${step}`);
      const rows = state.x.length;
      const normal = noise.normal(1).data;
      const uniform = noise.uniform(1, { draw: 1 }).data;
      const x = state.x.map((at, i) => Math.fround(0.9 * at + action.data[i] + 0.5 * normal[i]));
      return {
        state: make(x),
        obs: nd(
          Float32Array.from({ length: 2 * rows }, (_, i) => (i % 2 === 0 ? x[i >> 1] : step + 1)),
          [rows, 2],
        ),
        reward: x.map((at, i) => (uniform[i] < 0.06 ? Number.NaN : 2 * at)),
        terminated: Uint8Array.from(x, (at) => +(at > 2)),
        prediction: {
          mean: nd(Float32Array.of(...x, ...x.map((at) => 1.5 * at)), [2, rows, 1]),
          rewardIndex: null,
          member: Int32Array.from(uniform, (u) => Math.floor(5 * u)),
        },
        extras: { clipped: Int32Array.from(x, (at) => +(at < 0)), raw: nd(x.slice(), [rows, 1]) },
      };
    },
    gather: (state, rows) => {
      check(state);
      return make(gatherRows(nd(state.x), rows).data);
    },
    release: (state) => {
      check(state);
      alive.delete(state.id);
    },
  };
}

function note({ log, watch }: Calls, name: string): void {
  log.push(name);
  watch(log.length);
}

/** Acts by the mean of what it saw, with noise. */
function policy(calls: Calls) {
  return (obs: NdView, { noise, state, step }: PolicyContext<{ sum: Float32Array }>) => {
    note(calls, `policy ${step}`);
    const random = noise.normal(1).data;
    const sum = random.map((_, i) => (state?.sum[i] ?? 0) + obs.data[2 * i]);
    const action = sum.map((total, i) => Math.tanh(0.1 * total) + 0.3 * random[i]);
    return {
      action: nd(action, [action.length, 1]),
      state: { sum },
      logProb: random.map((n) => -0.5 * n * n),
    };
  };
}

/** Every option that asks somebody something. */
function everything(calls: Calls): Omit<ImagineOptions<State>, 'start' | 'horizon'> {
  const scoring = (name: string, needs: UncertaintyScore['needs'], score: UncertaintyScore) =>
    Object.assign(
      ((prediction, context) => {
        note(calls, `${name} ${context.step}`);
        return score(prediction, context);
      }) as UncertaintyScore,
      { needs },
    );
  const value: ValueFunction = (obs, { noise, step }) => {
    note(calls, `value ${step}`);
    return noise.normal(1, { draw: 3 }).data.map((n, i) => n + obs.data[2 * i]);
  };
  return {
    seed: 2,
    actionRepeat: 2,
    penalty: {
      coefficient: 0.3,
      score: scoring('penalty', ['prediction'], maxPairwiseDifference()),
    },
    uncertainty: scoring('uncertainty', [], (_, { noise }) => noise.uniform(1).data),
    scores: {
      surprise: scoring('surprise', ['logProb'], (_, { logProb = new Float32Array(0) }) =>
        logProb.map((log) => -log),
      ),
    },
    halt: {
      detector: {
        score: scoring('halt', [], (_, { nextObs }) =>
          Float32Array.from({ length: nextObs.shape[0] }, (_, i) => Math.abs(nextObs.data[2 * i])),
        ),
        unknown: (doubt) => Uint8Array.from(doubt, (far) => +(far > 1.7)),
      },
      as: 'truncated',
      penalty: 0.5,
    },
    terminate: ({ noise }) => {
      note(calls, `terminate ${noise.step}`);
      return Uint8Array.from(noise.uniform(1).data, (u) => +(u < 0.06));
    },
    value,
    record: ['clipped', 'raw'],
  };
}

const ROWS = 24;
const HORIZON = 7;
const start = nd(
  Float32Array.from({ length: 2 * ROWS }, (_, i) => (i % 2 === 0 ? Math.sin(i) : 0)),
  [ROWS, 2],
);

/** A world with its policy and options, of which every call is noted. */
function setting(watch: (count: number) => void = () => {}) {
  const calls: Calls = { log: [], watch };
  const model = world(calls);
  const options = everything(calls);
  return {
    model,
    calls: calls.log,
    imagine: (more: Pick<ImagineOptions<State>, 'start' | 'horizon'> & object): Rollout<State> =>
      imagine(model, policy(calls), { ...options, ...more }),
  };
}

/** Every number of every transition, by trajectory id and time step. */
type Records = Map<string, Record<string, number[]>>;

function addStep(records: Records, step: RolloutStep, firstStep: number): void {
  for (const [i, id] of step.trajectory.entries()) {
    const rowOf = (view: NdView) => [...gatherRows(view, Int32Array.of(i)).data];
    records.set(`${id} at ${firstStep + step.step}`, {
      obs: rowOf(step.obs),
      action: rowOf(step.action),
      nextObs: rowOf(step.nextObs),
      reward: [step.reward[i], step.rawReward[i], step.penalty[i], step.uncertainty[i]],
      flags: [step.terminated[i], step.truncated[i], step.discount[i], step.member[i]],
      logProb: [step.logProb?.[i] ?? Number.NaN],
      value: [step.value?.[i] ?? Number.NaN, step.nextValue?.[i] ?? Number.NaN],
      surprise: [step.scores?.surprise[i] ?? Number.NaN],
      extras: ['clipped', 'raw'].flatMap((name) => rowOf(step.extras?.[name] as NdView)),
    });
  }
}

/** Reads a rollout into records, of time steps from a carry's on. */
async function read(rollout: Rollout<State>, records: Records, firstStep = 0): Promise<Records> {
  for await (const step of rollout) addStep(records, step, firstStep);
  return records;
}

/** Records that do not tell where a horizon cut. */
function withoutCuts(records: Records): Records {
  return new Map(
    [...records].map(([key, { flags, ...rest }]) => {
      const [terminated, , discount, member] = flags;
      return [key, { ...rest, flags: [terminated, discount, member] }];
    }),
  );
}

describe('a rollout with every option', () => {
  test('ends rows in every way, so that the claims below are about something', async () => {
    const rollout = setting().imagine({ start, horizon: HORIZON });
    const dream = await rollout.collect();
    const early = (flag: Uint8Array) =>
      Array.from(ids(ROWS)).filter((row) => {
        const steps = dream.length[row];
        return steps > 0 && steps < HORIZON && flag[row * HORIZON + steps - 1] === 1;
      }).length;
    expect(early(dream.terminated.data)).toBeGreaterThan(2);
    expect(early(dream.truncated.data)).toBeGreaterThan(rollout.nonFinite);
    expect(rollout.nonFinite).toBeGreaterThan(2);
    expect(rollout.carry.row.length).toBeGreaterThan(2);
    expect(new Set(dream.member.data).size).toBe(6);
  });

  test('of H steps is H rollouts of one step, chained by their carries, bit for bit', async () => {
    const whole = await read(setting().imagine({ start, horizon: HORIZON }), new Map());
    for (const compact of [true, false]) {
      const { model, imagine: run } = setting();
      const chained: Records = new Map();
      let from: NdView | Carry<State> = start;
      for (let step = 0; step < HORIZON; step++) {
        const rollout: Rollout<State> = run({ start: from, horizon: 1, compact } as never);
        await read(rollout, chained, step);
        if (step > 0) (from as Carry<State>).release();
        from = rollout.carry;
      }
      expect(withoutCuts(chained)).toEqual(withoutCuts(whole));
      (from as Carry<State>).release();
      expect(model.alive.size).toBe(0);
    }
  });

  test('leaves what ended as it is: a longer horizon changes no row that is over', async () => {
    const short = await setting().imagine({ start, horizon: HORIZON }).collect();
    const long = await setting()
      .imagine({ start, horizon: HORIZON + 4 })
      .collect();
    const over = Int32Array.from(ids(ROWS)).filter((row) => short.length[row] < HORIZON);
    expect(over.length).toBeGreaterThan(5);
    const [a, b] = [short.gather(over), long.gather(over)];
    expect(b.length).toEqual(a.length);
    expect(b.bootstrap).toEqual(a.bootstrap);
    expect(b.transitions()).toEqual({
      ...a.transitions(),
      startIndex: b.transitions().startIndex,
    });
    // And past its end a row holds nothing.
    for (const { data, shape } of [a.reward, a.mask, a.last, ...Object.values(a.scores ?? {})]) {
      for (const [row, length] of a.length.entries()) {
        const padding = data.slice(row * shape[1] + length, (row + 1) * shape[1]);
        expect([...padding]).toEqual(new Array(shape[1] - length).fill(0));
      }
    }
  });

  test('is the same whether finished rows are taken out or stepped along', async () => {
    const compacted = await setting().imagine({ start, horizon: HORIZON }).collect();
    const latched = await setting()
      .imagine({ start, horizon: HORIZON, compact: false } as never)
      .collect();
    expect(latched).toEqual(compacted);
  });

  test.each([true, false])(
    'of permuted rows is permuted, bit for bit (compact %s)',
    async (compact) => {
      const order = Int32Array.from(ids(ROWS), (i) => (7 * i + 3) % ROWS);
      const plain = await setting()
        .imagine({ start, horizon: HORIZON, compact } as never)
        .collect();
      const permuted = await setting()
        .imagine({
          start: gatherRows(start, order),
          trajectory: Uint32Array.from(order),
          horizon: HORIZON,
          compact,
        } as never)
        .collect();
      expect(permuted).toEqual(plain.gather(order));
    },
  );

  test('that is aborted at any call goes on from its carry as if it had not been', async () => {
    const unbroken = setting();
    const whole = await read(unbroken.imagine({ start, horizon: HORIZON }), new Map());
    const total = unbroken.calls.length;
    expect(total).toBeGreaterThan(6 * HORIZON);
    for (let at = 1; at <= total; at++) {
      const controller = new AbortController();
      const {
        calls,
        imagine: run,
        model,
      } = setting((count) => {
        if (count === at) controller.abort(new Error('enough'));
      });
      const { signal } = controller;
      const rollout = run({ start, horizon: HORIZON, signal } as never);
      const records: Records = new Map();
      const reading = read(rollout, records);
      // After its last call there is nothing left to abort.
      if (at < total) await expect(reading).rejects.toThrow('enough');
      else await reading;
      expect(calls, 'nobody is asked after the signal').toHaveLength(at);
      const { carry } = rollout;
      const rest = run({ start: carry, horizon: HORIZON - carry.step });
      expect(await read(rest, records, carry.step)).toEqual(whole);
      carry.release();
      rest.carry.release();
      expect(model.alive.size).toBe(0);
    }
  });
});

describe('streaming', () => {
  const stepOf = (call: string) => Number(call.split(' ')[1]);
  const settled = () => new Promise((resolve) => setTimeout(resolve, 1));

  test('asks nobody for a step before the reader does', async () => {
    const { calls, imagine: run } = setting();
    const rollout = run({ start, horizon: HORIZON });
    const steps = rollout[Symbol.asyncIterator]();
    await settled();
    expect(calls).toEqual([]);
    for (let t = 0; t < 3; t++) {
      await steps.next();
      const before = calls.length;
      await settled();
      expect(calls).toHaveLength(before);
      const models = calls.filter((call) => call.startsWith('model'));
      expect(models.map(stepOf)).toEqual(Array.from(ids(t + 1)));
      const policies = calls.filter((call) => call.startsWith('policy')).map(stepOf);
      expect(policies).toEqual([0, 2].filter((step) => step <= t));
    }
    await steps.return();
  });

  test('asks for values once a step and once at the start', async () => {
    const { calls, imagine: run } = setting();
    await run({ start, horizon: 3 }).collect();
    const values = calls.filter((call) => call.startsWith('value'));
    expect(values.map(stepOf)).toEqual([0, 1, 2, 3]);
    expect(calls.filter((call) => call.startsWith('policy')).map(stepOf)).toEqual([0, 2]);
  });

  test('that the reader breaks off leaves the carry’s state alone alive, and goes on', async () => {
    const whole = await read(setting().imagine({ start, horizon: HORIZON }), new Map());
    for (let stop = 0; stop < HORIZON; stop++) {
      const { imagine: run, model } = setting();
      const rollout = run({ start, horizon: HORIZON });
      const records: Records = new Map();
      for await (const step of rollout) {
        addStep(records, step, 0);
        if (step.step === stop) break;
      }
      expect(model.alive.size).toBe(1);
      const { carry } = rollout;
      const rest = run({ start: carry, horizon: HORIZON - carry.step });
      expect(await read(rest, records, carry.step)).toEqual(whole);
      carry.release();
      rest.carry.release();
      expect(model.alive.size).toBe(0);
    }
  });

  test('frees everything when its carry cannot be made', async () => {
    const { imagine: run, model } = setting();
    model.gather = () => {
      throw new Error('gather failed');
    };
    const rollout = run({ start, horizon: HORIZON, compact: false } as never);
    await expect(rollout.collect()).rejects.toThrow('gather failed');
    expect(model.alive.size).toBe(0);
  });
});
