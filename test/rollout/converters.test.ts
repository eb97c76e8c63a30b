import { imagine, type NdView, nd, ShapeError, type Trajectory, zeros } from 'umwelt';
import {
  type DreamerTrajectory,
  fromD4rl,
  fromDreamer,
  fromGymnasium,
  fromMinari,
  fromTdMpc2,
  fromTorchRl,
  imaginationWeights,
  lambdaReturn,
  toD4rl,
  toDreamer,
  toGymnasium,
  toMinari,
  toTdMpc2,
  toTorchRl,
  trajectoryArrays,
} from 'umwelt/rollout';
import { beforeAll, describe, expect, test } from 'vitest';
import { codedDream, codedPolicy, codedWorld, END, essence, strided } from './coded-world.js';

let dream: Trajectory;
beforeAll(async () => {
  dream = await codedDream();
});

const LENGTHS = [3, 4, 1, 0];
/** Element of a view. */
const at = (view: NdView<Float32Array | Uint8Array>, ...index: number[]): number =>
  view.data[index.reduce((sum, i, axis) => sum + i * view.stride[axis], view.offset)];
/** Every step that happened: row and time. */
const STEPS = LENGTHS.flatMap((length, row) => Array.from({ length }, (_, t) => [row, t] as const));
/** The rows that have steps. */
const withSteps = () => dream.gather(Int32Array.of(0, 1, 2));

test('the world codes its rewards: no two transitions have one', () => {
  expect([...dream.length]).toEqual(LENGTHS);
  expect(new Set(dream.transitions().reward).size).toBe(STEPS.length);
});

/** A row of three steps from 0 to 3 on end, in Gymnasium's arrays. */
const threeSteps = () => ({
  obs: nd([0, 1, 2], [1, 3, 1]),
  action: nd([1, 1, 1], [1, 3, 1]),
  reward: nd([[1, 2, 3]]),
  terminated: nd(new Uint8Array(3), [1, 3]),
  truncated: nd(new Uint8Array(3), [1, 3]),
  nextObs: nd([1, 2, 3], [1, 3, 1]),
});
/** The same in TorchRL's. */
const threeStepsOfTorchRl = () => {
  const { obs, action, reward, terminated, truncated, nextObs } = threeSteps();
  const column = [1, 3, 1];
  return {
    observation: obs,
    action,
    next: {
      observation: nextObs,
      reward: nd(reward.data, column),
      terminated: nd(terminated.data, column),
      truncated: nd(truncated.data, column),
    },
  };
};
/** One step from `x` to `x + 1` in Minari's. */
const oneStepOfMinari = (x: number, terminated = 0, truncated = 0) => ({
  observations: nd([[x], [x + 1]]),
  actions: nd([[1]]),
  rewards: Float32Array.of(x),
  terminations: Uint8Array.of(terminated),
  truncations: Uint8Array.of(truncated),
});

describe('a row’s last step', () => {
  test('that is no end was cut, in every layout', () => {
    for (const row of [fromGymnasium(threeSteps()), fromTorchRl(threeStepsOfTorchRl())]) {
      expect([...row.length]).toEqual([3]);
      expect([...row.truncated.data]).toEqual([0, 0, 1]);
      expect([...row.last.data]).toEqual([0, 0, 1]);
      expect([...toTorchRl(row).next.done.data]).toEqual([0, 0, 1]);
      expect([...toDreamer(row).isLast.data]).toEqual([0, 0, 0, 1]);
    }
    const mask = nd(Uint8Array.of(1, 1, 0), [1, 3]);
    for (const row of [
      fromGymnasium({ ...threeSteps(), mask }),
      fromTorchRl({ ...threeStepsOfTorchRl(), mask }),
    ]) {
      expect([...row.length]).toEqual([2]);
      expect([...row.truncated.data]).toEqual([0, 1, 0]);
      expect([...row.last.data]).toEqual([0, 1, 0]);
    }
  });

  test('keeps unfinished episodes apart, also where one begins as the other stopped', () => {
    const two = fromMinari([oneStepOfMinari(0), oneStepOfMinari(1)]);
    expect([...two.last.data]).toEqual([1, 1]);
    expect([...two.truncated.data]).toEqual([1, 1]);
    const back = fromD4rl(toD4rl(two));
    expect(essence(back)).toEqual(essence(two));
    expect([...back.length]).toEqual([1, 1]);
  });

  test('that is terminated and truncated comes back as terminated', () => {
    const both = threeSteps();
    both.terminated.data[2] = 1;
    both.truncated.data[2] = 1;
    const ted = threeStepsOfTorchRl();
    ted.next.terminated.data[2] = 1;
    ted.next.truncated.data[2] = 1;
    const flat = { ...toD4rl(fromMinari([oneStepOfMinari(0, 1)])), truncated: Uint8Array.of(1) };
    const rows = [
      fromGymnasium(both),
      fromTorchRl(ted),
      fromMinari([oneStepOfMinari(0, 1, 1)]),
      fromD4rl(flat),
    ];
    for (const { terminated, truncated, last, discount } of rows) {
      expect(terminated.data.at(-1)).toBe(1);
      expect(truncated.data.at(-1)).toBe(0);
      expect(last.data.at(-1)).toBe(1);
      expect(discount.data.at(-1)).toBe(0);
    }
  });
});

describe('without a mask, a row that goes on after its end is refused', () => {
  const remedy = '; give a mask, or split rows where episodes end';

  test.each([
    ['reward', 3],
    ['action', 1],
    ['nextObs', 3],
  ])('Gymnasium: %s', (name, got) => {
    const steps = threeSteps();
    steps.terminated.data[1] = 1;
    for (const field of ['reward', 'action', 'nextObs'] as const) {
      if (field !== name) steps[field].data[2] = 0;
    }
    expect(() => fromGymnasium(steps)).toThrow(RangeError);
    expect(() => fromGymnasium(steps)).toThrow(
      `fromGymnasium: without a mask, ${name} must be 0 after a row's end, got ${got} at [0, 2]` +
        remedy,
    );
    // With one, it is padding.
    const mask = nd(Uint8Array.of(1, 1, 0), [1, 3]);
    expect([...fromGymnasium({ ...steps, mask }).length]).toEqual([2]);
  });

  test('TorchRL', () => {
    const ted = threeStepsOfTorchRl();
    ted.next.truncated.data[1] = 1;
    ted.action.data[2] = 0;
    expect(() => fromTorchRl(ted)).toThrow(
      "fromTorchRl: without a mask, next.reward must be 0 after a row's end, got 3 at [0, 2]",
    );
  });

  test('Dreamer', () => {
    const replay = {
      obs: nd([0, 1, 0, 0], [1, 4, 1]),
      action: nd(new Float32Array(4), [1, 4, 1]),
      reward: zeros([1, 4]),
      isFirst: nd(Uint8Array.of(1, 0, 1, 0), [1, 4]),
      isLast: nd(Uint8Array.of(0, 1, 0, 0), [1, 4]),
      isTerminal: nd(Uint8Array.of(0, 1, 0, 0), [1, 4]),
    };
    expect(() => fromDreamer(replay)).toThrow(
      "fromDreamer: without a mask, isFirst must be 0 after a row's end, got 1 at [0, 2]",
    );
    replay.isFirst.data[2] = 0;
    expect([...fromDreamer(replay).length]).toEqual([1]);
    replay.obs.data[3] = 5;
    expect(() => fromDreamer(replay)).toThrow("obs must be 0 after a row's end, got 5 at [0, 3]");
  });

  test('TD-MPC2', () => {
    const batch = {
      obs: nd([0, 1, 0, 0], [4, 1, 1]),
      action: nd([Number.NaN, 1, 0, 0], [4, 1, 1]),
      reward: nd([[Number.NaN], [1], [0], [2]]),
      terminated: nd([[Number.NaN], [1], [0], [0]]),
    };
    expect(() => fromTdMpc2(batch)).toThrow(
      "fromTdMpc2: without a mask, reward must be 0 after a row's end, got 2 at [0, 3]",
    );
    batch.reward.data[3] = 0;
    expect([...fromTdMpc2(batch).length]).toEqual([1]);
  });
});

test('what holds no arrays is refused by name', () => {
  const calls: [() => unknown, string][] = [
    [() => fromDreamer(undefined as never), 'fromDreamer: replay must be an object of arrays'],
    [() => fromGymnasium(null as never), 'fromGymnasium: steps must be an object of arrays'],
    [() => fromTdMpc2(3 as never), 'fromTdMpc2: batch must be an object of arrays, got number'],
    [() => fromTorchRl(undefined as never), 'fromTorchRl: ted must be an object of arrays'],
    [() => fromTorchRl({} as never), 'fromTorchRl: ted.next must be an object of arrays'],
    [() => fromD4rl(null as never), 'fromD4rl: rows must be an object of arrays, got null'],
    [() => fromMinari([null as never]), 'fromMinari: episode 0 must be an object of arrays'],
    [
      () => toDreamer(Promise.resolve() as never),
      'toDreamer: trajectory must be a Trajectory, got a Promise; await it',
    ],
    [
      () => trajectoryArrays({} as never),
      'trajectoryArrays: trajectory must be a Trajectory, got an Object; collect() of a rollout gives one',
    ],
    [() => fromMinari({} as never), 'fromMinari: episodes must be an iterable, got an Object'],
  ];
  for (const [call, message] of calls) {
    expect(call).toThrow(TypeError);
    expect(call).toThrow(message);
  }
});

describe('Gymnasium', () => {
  test('holds at one index what one step took and returned', () => {
    const { obs, action, reward, nextObs, terminated, truncated, mask } = toGymnasium(dream);
    expect([obs, action, reward, nextObs].map(({ shape }) => shape)).toEqual([
      [4, 4, 2],
      [4, 4, 3],
      [4, 4],
      [4, 4, 2],
    ]);
    for (const [row, t] of STEPS) {
      expect(at(reward, row, t)).toBe(100 * at(obs, row, t, 0) + at(action, row, t, 0));
      expect(at(nextObs, row, t, 0)).toBe(at(obs, row, t, 0) + 1);
      expect(at(terminated, row, t)).toBe(at(nextObs, row, t, 0) >= END ? 1 : 0);
      expect(at(truncated, row, t)).toBe(row === 1 && t === 3 ? 1 : 0);
      expect(at(mask, row, t)).toBe(1);
    }
    expect(mask.data.reduce((sum, flag) => sum + flag)).toBe(STEPS.length);
  });

  test('comes back as it was, whatever the strides', () => {
    const steps = toGymnasium(dream);
    expect(essence(fromGymnasium(steps))).toEqual(essence(dream));
    const views = Object.entries(steps).map(([name, view]) => [
      name,
      strided<never>(view as never),
    ]);
    expect(essence(fromGymnasium(Object.fromEntries(views)))).toEqual(essence(dream));
  });

  test('without a mask, rows last up to their end', () => {
    const { mask: _, ...steps } = toGymnasium(withSteps());
    expect(essence(fromGymnasium(steps))).toEqual(essence(withSteps()));
  });

  test('what lies past a row’s end is not taken over', () => {
    const steps = toGymnasium(dream);
    for (const view of [steps.obs, steps.nextObs, steps.action, steps.reward]) {
      const [, , width = 1] = view.shape;
      for (const [row, length] of LENGTHS.entries()) {
        // The start of a row without steps stays.
        const first = view === steps.obs && length === 0 ? 1 : length;
        view.data.fill(Number.NaN, (row * 4 + first) * width, (row + 1) * 4 * width);
      }
    }
    expect(essence(fromGymnasium(steps))).toEqual(essence(dream));
  });

  test('a row over a reset is refused', () => {
    const steps = toGymnasium(dream);
    steps.nextObs.data[0] = 99;
    expect(() => fromGymnasium(steps)).toThrow(
      'fromGymnasium: the observation after a step must be the one before the next, got 99 and 3 ' +
        'after step 0 of row 0; split rows where episodes end',
    );
    const over = toGymnasium(dream);
    over.terminated.data[4] = 1;
    expect(() => fromGymnasium(over)).toThrow(
      'a row must end where it is terminated or truncated, got an end at [1, 0] of 4 steps',
    );
    const rising = toGymnasium(dream);
    rising.mask.data[11] = 1;
    expect(() => fromGymnasium(rising)).toThrow('mask must not rise again, got a step at [2, 3]');
  });

  test('arrays of another kind or shape are refused', () => {
    const steps = toGymnasium(dream);
    expect(() => fromGymnasium({ ...steps, reward: nd([[1]]) })).toThrow(ShapeError);
    expect(() => fromGymnasium({ ...steps, terminated: steps.reward as never })).toThrow(
      'fromGymnasium: terminated must be a view [4, 4] of Uint8Array, got a [4,4] view of Float32Array',
    );
  });
});

describe('TorchRL', () => {
  test('keeps what a step starts from at the root and what it leads to under next', () => {
    const { observation, action, done, terminated, truncated, next, mask } = toTorchRl(dream);
    expect(next.reward.shape).toEqual([4, 4, 1]);
    expect(mask.shape).toEqual([4, 4]);
    for (const flags of [done, terminated, truncated]) {
      expect(flags).toEqual(nd(new Uint8Array(16), [4, 4, 1]));
    }
    for (const [row, t] of STEPS) {
      const reward = 100 * at(observation, row, t, 0) + at(action, row, t, 0);
      expect(at(next.reward, row, t, 0)).toBe(reward);
      expect(at(next.observation, row, t, 0)).toBe(at(observation, row, t, 0) + 1);
      const over = at(next.observation, row, t, 0) >= END ? 1 : 0;
      expect(at(next.terminated, row, t, 0)).toBe(over);
      expect(at(next.done, row, t, 0)).toBe(over || at(next.truncated, row, t, 0));
    }
  });

  test('comes back as it was, whatever the strides', () => {
    const ted = toTorchRl(dream);
    expect(essence(fromTorchRl(ted))).toEqual(essence(dream));
    const { mask: _, ...whole } = toTorchRl(withSteps());
    expect(essence(fromTorchRl(whole))).toEqual(essence(withSteps()));
    const next = { ...ted.next, reward: strided(ted.next.reward) };
    const observation = strided(ted.observation);
    expect(essence(fromTorchRl({ ...ted, observation, next }))).toEqual(essence(dream));
  });

  test('numbers without their trailing axis are refused', () => {
    const ted = toTorchRl(dream);
    expect(() => fromTorchRl({ ...ted, next: { ...ted.next, reward: dream.reward } })).toThrow(
      'fromTorchRl: next.reward must have shape [4, 4, 1], got [4,4]',
    );
  });
});

describe('Dreamer', () => {
  test('joins an observation with the reward it came with and the action chosen upon it', () => {
    const { obs, action, reward, isFirst, isLast, isTerminal, mask } = toDreamer(dream);
    expect(reward.shape).toEqual([4, 5]);
    expect(obs).toEqual(dream.obs);
    for (const [row, length] of LENGTHS.entries()) {
      for (let t = 0; t <= 4; t++) {
        const there = length > 0 && t <= length;
        expect(at(mask, row, t)).toBe(there ? 1 : 0);
        expect(at(isFirst, row, t)).toBe(there && t === 0 ? 1 : 0);
        expect(at(isLast, row, t)).toBe(there && t === length ? 1 : 0);
        const over = there && t === length && row !== 1;
        expect(at(isTerminal, row, t)).toBe(over ? 1 : 0);
        // Chosen upon this observation; none after the last.
        expect(at(action, row, t, 0)).toBe(there && t < length ? at(obs, row, t, 0) / 8 : 0);
        // Earned by the transition into it; none at the first.
        const before =
          t > 0 && there ? 100 * at(obs, row, t - 1, 0) + at(action, row, t - 1, 0) : 0;
        expect(at(reward, row, t)).toBe(before);
      }
    }
  });

  test('comes back as it was, whatever the strides', () => {
    const replay = toDreamer(dream);
    expect(essence(fromDreamer(replay))).toEqual(essence(dream));
    const views = Object.entries(replay).map(([name, view]) => [
      name,
      strided<never>(view as never),
    ]);
    expect(essence(fromDreamer(Object.fromEntries(views)))).toEqual(essence(dream));
    const { mask: _, ...whole } = toDreamer(withSteps());
    expect(essence(fromDreamer(whole))).toEqual(essence(withSteps()));
  });

  test('a window of replay begins with what belongs to the transition before it', () => {
    const window = (name: keyof DreamerTrajectory) => {
      const view = toDreamer(dream)[name];
      const [, , ...inner] = view.shape;
      return { ...view, shape: [2, 3, ...inner], offset: view.offset + view.stride[1] };
    };
    const cut = fromDreamer({
      obs: window('obs') as NdView,
      action: window('action') as NdView,
      reward: window('reward') as NdView,
      isFirst: window('isFirst') as NdView<Uint8Array>,
      isLast: window('isLast') as NdView<Uint8Array>,
      isTerminal: window('isTerminal') as NdView<Uint8Array>,
    });
    expect(cut.reward.data).toEqual(Float32Array.of(300.375, 400.5, -200.25, -100.125));
    expect(cut.terminated.data).toEqual(Uint8Array.of(0, 1, 0, 0));
    // The window cuts the second row short of its end.
    expect(cut.truncated.data).toEqual(Uint8Array.of(0, 0, 0, 1));
  });

  test('a row over two episodes is refused', () => {
    const replay = toDreamer(dream);
    replay.isFirst.data[7] = 1;
    expect(() => fromDreamer(replay)).toThrow(
      "fromDreamer: a row must lie within one episode, got another's first observation at [1, 2]",
    );
  });

  test.each([0, 0.5, 0.95, 1])('its lambda-returns are those of departure, lambda %d', (lambda) => {
    const { reward, isLast, isTerminal, mask } = toDreamer(dream);
    const arrival = lambdaReturn({
      reward,
      value: dream.value,
      terminated: isTerminal,
      last: isLast,
      mask,
      gamma: 0.9,
      lambda,
    });
    const departure = lambdaReturn({ ...dream, gamma: 0.9, lambda, align: 'departure' });
    expect(arrival).toEqual(departure);
    expect(departure.data.some((value) => value !== 0)).toBe(true);
  });
});

describe('TD-MPC2', () => {
  test('joins, time first, an observation with the action that led to it and its reward', () => {
    const { obs, action, reward, terminated, mask } = toTdMpc2(dream);
    expect([obs, action, reward, terminated].map(({ shape }) => shape)).toEqual([
      [5, 4, 2],
      [5, 4, 3],
      [5, 4],
      [5, 4],
    ]);
    for (let row = 0; row < 4; row++) {
      expect(at(reward, 0, row)).toBeNaN();
      expect(at(terminated, 0, row)).toBeNaN();
      for (let d = 0; d < 3; d++) expect(at(action, 0, row, d)).toBeNaN();
    }
    for (const [row, t] of STEPS) {
      const before = at(obs, t, row, 0);
      expect(at(obs, t + 1, row, 0)).toBe(before + 1);
      expect(at(action, t + 1, row, 0)).toBe(before / 8);
      expect(at(reward, t + 1, row)).toBe(100 * before + before / 8);
      expect(at(terminated, t + 1, row)).toBe(before + 1 >= END ? 1 : 0);
      expect(at(mask, t + 1, row)).toBe(1);
    }
    for (const view of [action, reward, terminated]) {
      const [, , width = 1] = view.shape;
      expect(view.data.subarray(4 * width).every(Number.isFinite)).toBe(true);
    }
    expect([...mask.data.subarray(0, 4)]).toEqual([1, 1, 1, 0]);
  });

  test('dropping the first index gives departure alignment', () => {
    const { obs, action, reward } = toTdMpc2(dream);
    for (const [row, t] of STEPS) {
      const dropped = 100 * at(obs, t, row, 0) + at(action, t + 1, row, 0);
      expect(at(reward, t + 1, row)).toBe(dropped);
    }
  });

  test('comes back as it was, whatever the strides', () => {
    const batch = toTdMpc2(dream);
    expect(essence(fromTdMpc2(batch))).toEqual(essence(dream));
    const views = Object.entries(batch).map(([name, view]) => [
      name,
      strided<never>(view as never),
    ]);
    expect(essence(fromTdMpc2(Object.fromEntries(views)))).toEqual(essence(dream));
    const { mask: _, ...whole } = toTdMpc2(withSteps());
    expect(essence(fromTdMpc2(whole))).toEqual(essence(withSteps()));
  });
});

describe('TD-MPC2’s arrays with their axes changed', () => {
  const rowsFirst = <T extends Float32Array | Uint8Array>(view: NdView<T>): NdView<T> => ({
    ...view,
    shape: [view.shape[1], view.shape[0]],
    stride: [view.stride[1], view.stride[0]],
  });

  test.each([0, 0.5, 1])('have the lambda-returns of departure, lambda %d', (lambda) => {
    const { reward, terminated, mask } = toTdMpc2(dream);
    const arrival = lambdaReturn({
      reward: rowsFirst(reward),
      value: dream.value,
      terminated: rowsFirst(terminated),
      mask: rowsFirst(mask),
      gamma: 0.9,
      lambda,
    });
    const { truncated: _, last: __, ...ends } = dream;
    const departure = lambdaReturn({ ...ends, gamma: 0.9, lambda, align: 'departure' });
    expect(arrival).toEqual(departure);
    expect(departure.data.some((value) => value !== 0)).toBe(true);
  });

  test('have no weights, for whether the start had ended counts', () => {
    const { terminated } = toTdMpc2(dream);
    expect(() => imaginationWeights({ terminated: rowsFirst(terminated), gamma: 0.9 })).toThrow(
      'imaginationWeights: terminated must lie in [0, 1], got NaN at [0, 0]',
    );
  });
});

describe('D4RL', () => {
  test('is flat rows that hold one step each', () => {
    const { obs, action, reward, nextObs, terminated, truncated } = toD4rl(dream);
    expect(obs.shape).toEqual([8, 2]);
    for (let i = 0; i < 8; i++) {
      expect(reward[i]).toBe(100 * at(obs, i, 0) + at(action, i, 0));
      expect(at(nextObs, i, 0)).toBe(at(obs, i, 0) + 1);
    }
    expect([...terminated]).toEqual([0, 0, 1, 0, 0, 0, 0, 1]);
    expect([...truncated]).toEqual([0, 0, 0, 0, 0, 0, 1, 0]);
  });

  test('comes back as it was, without the rows of no steps', () => {
    const rows = toD4rl(dream);
    expect(essence(fromD4rl(rows))).toEqual(essence(withSteps()));
    const obs = strided(rows.obs);
    expect(essence(fromD4rl({ ...rows, obs }))).toEqual(essence(withSteps()));
  });

  test('where rows do not follow each other an episode was cut', () => {
    const rows = toD4rl(dream);
    const pick = (view: NdView, first: number) =>
      nd(view.data.slice(first * view.shape[1]), [8 - first, view.shape[1]]);
    const parts = fromD4rl({
      obs: pick(rows.obs, 4),
      action: pick(rows.action, 4),
      nextObs: pick(rows.nextObs, 4),
      reward: rows.reward.slice(4),
      // As if the flags had been lost.
      terminated: new Uint8Array(4),
      truncated: new Uint8Array(4),
    });
    expect([...parts.length]).toEqual([3, 1]);
    expect([...parts.truncated.data]).toEqual([0, 0, 1, 1, 0, 0]);
  });

  test('no rows are no episodes', () => {
    const none = { obs: nd([], [0, 2]), action: nd([], [0, 3]), nextObs: nd([], [0, 2]) };
    const flags = { terminated: new Uint8Array(0), truncated: new Uint8Array(0) };
    expect(fromD4rl({ ...none, ...flags, reward: new Float32Array(0) }).length).toHaveLength(0);
  });
});

describe('Minari', () => {
  test('is episodes of their own length, with one observation more', () => {
    const episodes = toMinari(dream);
    expect(episodes.map(({ rewards }) => rewards.length)).toEqual([3, 4, 1]);
    for (const { observations, actions, rewards, terminations, truncations } of episodes) {
      expect(observations.shape).toEqual([rewards.length + 1, 2]);
      for (let t = 0; t < rewards.length; t++) {
        expect(rewards[t]).toBe(100 * at(observations, t, 0) + at(actions, t, 0));
        expect(terminations[t]).toBe(at(observations, t + 1, 0) >= END ? 1 : 0);
      }
      expect(truncations.at(-1)).toBe(1 - (terminations.at(-1) ?? 0));
    }
  });

  test('comes back as it was, without the rows of no steps', () => {
    const episodes = toMinari(dream);
    expect(essence(fromMinari(episodes))).toEqual(essence(withSteps()));
    const read = episodes.map((episode) => ({
      ...episode,
      observations: strided(episode.observations),
      rewards: Float64Array.from(episode.rewards),
    }));
    expect(essence(fromMinari(read))).toEqual(essence(withSteps()));
  });

  test('episodes that do not fit together are refused', () => {
    const [first] = toMinari(dream);
    const wide = { ...first, actions: nd(new Float32Array(3), [3, 1]) };
    expect(() => fromMinari([first, wide])).toThrow(ShapeError);
    expect(() => fromMinari([{ ...first, observations: first.actions }])).toThrow(
      'fromMinari: episode 0: observations must have shape [4, N], got [3,3]',
    );
    expect(() => fromMinari([{ ...first, rewards: new Float32Array(2) }])).toThrow(
      'fromMinari: episode 0: rewards must have 3 entries, got 2',
    );
  });
});

test('a trajectory is not changed, and shares no memory with what it is turned into', async () => {
  const one = await imagine(codedWorld, codedPolicy, {
    start: nd([[-3, -30]]),
    horizon: 4,
    seed: 0,
  }).collect();
  const before = structuredClone(essence(one));
  const ted = toTorchRl(one);
  const arrays = [
    ...Object.values(toGymnasium(one)),
    ...Object.values({ ...ted, next: ted.next.observation }),
    ted.next.reward,
    ted.next.terminated,
    ...Object.values(toDreamer(one)),
    ...Object.values(toTdMpc2(one)),
    toMinari(one)[0].observations,
  ] as NdView[];
  for (const { data } of arrays) data.fill(9);
  toMinari(one)[0].rewards.fill(9);
  toD4rl(one).reward.fill(9);
  expect(essence(one)).toEqual(before);
});
