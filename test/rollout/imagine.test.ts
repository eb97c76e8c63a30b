import { imagine, maxPairwiseDifference, type NdView, nd, ShapeError, Trajectory } from 'umwelt';
import type { RolloutProgress, RolloutStep } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

const rowsOf = (view: NdView<Float32Array | Uint8Array | Int32Array>) => {
  const [rows] = view.shape;
  const width = view.data.length / rows;
  return Array.from({ length: rows }, (_, row) => [
    ...view.data.slice(row * width, (row + 1) * width),
  ]);
};

async function stepsOf(rollout: AsyncIterable<RolloutStep>): Promise<RolloutStep[]> {
  const steps: RolloutStep[] = [];
  for await (const step of rollout) steps.push(step);
  return steps;
}

describe('a collected trajectory', () => {
  test('pairs each reward with the transition it belongs to', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      start: nd([[0], [5]]),
      horizon: 3,
      seed: 0,
    }).collect();
    expect(dream).toBeInstanceOf(Trajectory);
    expect(dream.obs.shape).toEqual([2, 4, 1]);
    expect(rowsOf(dream.obs)).toEqual([
      [0, 1, 2, 3],
      [5, 6, 7, 8],
    ]);
    expect(rowsOf(dream.reward)).toEqual([
      [10, 20, 30],
      [60, 70, 80],
    ]);
    expect(rowsOf(dream.action)).toEqual([
      [1, 1, 1],
      [1, 1, 1],
    ]);
  });

  test('marks a cut by the horizon as truncated and an end as terminated, never both', async () => {
    const dream = await imagine(lineWorld({ end: 7 }), constantly(1), {
      start: nd([[5], [0]]),
      horizon: 4,
      seed: 0,
    }).collect();
    expect(rowsOf(dream.terminated)).toEqual([
      [0, 1, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect(rowsOf(dream.truncated)).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 1],
    ]);
    expect(rowsOf(dream.mask)).toEqual([
      [1, 1, 0, 0],
      [1, 1, 1, 1],
    ]);
    expect([...dream.length]).toEqual([2, 4]);
    // The terminating transition is kept; what follows is padding of zeros.
    expect(rowsOf(dream.obs)[0]).toEqual([5, 6, 7, 0, 0]);
    expect(rowsOf(dream.reward)[0]).toEqual([60, 70, 0, 0]);
    expect(rowsOf(dream.discount)).toEqual([
      [1, 0, 0, 0],
      [1, 1, 1, 1],
    ]);
  });

  test('an end at the last step is an end, not a cut', async () => {
    const dream = await imagine(lineWorld({ end: 2 }), constantly(1), {
      start: nd([[0]]),
      horizon: 2,
      seed: 0,
    }).collect();
    expect([...dream.terminated.data]).toEqual([0, 1]);
    expect([...dream.truncated.data]).toEqual([0, 0]);
  });

  test('keeps reward, penalty and uncertainty apart', async () => {
    const penalty = { score: maxPairwiseDifference(), coefficient: 0.5 };
    const start = nd([[1], [3]]);
    const dream = await imagine(lineWorld(), constantly(1), {
      start,
      horizon: 2,
      seed: 0,
      penalty,
    }).collect();
    // The members disagree by x' itself.
    expect(rowsOf(dream.uncertainty)).toEqual([
      [2, 3],
      [4, 5],
    ]);
    expect(rowsOf(dream.penalty)).toEqual([
      [1, 1.5],
      [2, 2.5],
    ]);
    expect(rowsOf(dream.rawReward)).toEqual([
      [20, 30],
      [40, 50],
    ]);
    expect(rowsOf(dream.reward)).toEqual([
      [19, 28.5],
      [38, 47.5],
    ]);
    expect(rowsOf(dream.member)).toEqual([
      [0, 0],
      [1, 1],
    ]);
    const bare = await imagine(lineWorld(), constantly(1), {
      start,
      horizon: 2,
      seed: 0,
    }).collect();
    expect(bare.uncertainty.data.every((value) => value === 0)).toBe(true);
    expect(bare.reward.data).toEqual(bare.rawReward.data);
    expect(bare.member.data.every((member) => member === -1)).toBe(true);
  });

  test('ends rows by the caller’s rule as well as by the model’s', async () => {
    const dream = await imagine(lineWorld({ end: 9 }), constantly(1), {
      start: nd([[0], [6]]),
      horizon: 5,
      seed: 0,
      terminate: async ({ obs, action, nextObs }) => {
        expect(nextObs.data).toEqual(obs.data.map((x, i) => x + action.data[i]));
        return Uint8Array.from(nextObs.data, (x) => (x === 2 ? 1 : 0));
      },
    }).collect();
    expect([...dream.length]).toEqual([2, 3]);
    expect(rowsOf(dream.terminated)).toEqual([
      [0, 1, 0, 0, 0],
      [0, 0, 1, 0, 0],
    ]);
  });

  test('keeps the log-densities that a policy gives', async () => {
    const dream = await imagine(
      lineWorld({ end: 2 }),
      (obs, { step }) => ({
        action: nd(new Float32Array(obs.shape[0]).fill(1), [obs.shape[0], 1]),
        logProb: Float32Array.from(obs.data, (x) => -x - step),
      }),
      { start: nd([[0], [-5]]), horizon: 3, seed: 0 },
    ).collect();
    expect(rowsOf(dream.logProb as NdView)).toEqual([
      [-0, -2, 0],
      [5, 3, 1],
    ]);
  });
});

describe('a result that is not finite', () => {
  test('is dropped: its row ends before it, truncated, and is counted', async () => {
    const world = lineWorld({ broken: (x) => x === 3 });
    const dream = await imagine(world, constantly(1), {
      start: nd([[1], [2], [0], [10]]),
      horizon: 4,
      seed: 0,
    }).collect();
    expect(dream.nonFinite).toBe(3);
    expect([...dream.length]).toEqual([1, 0, 2, 4]);
    expect(rowsOf(dream.truncated)).toEqual([
      [1, 0, 0, 0],
      [0, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 0, 1],
    ]);
    expect(dream.terminated.data.every((flag) => flag === 0)).toBe(true);
    expect(rowsOf(dream.obs)).toEqual([
      [1, 2, 0, 0, 0],
      [2, 0, 0, 0, 0],
      [0, 1, 2, 0, 0],
      [10, 11, 12, 13, 14],
    ]);
    expect([...dream.reward.data].every(Number.isFinite)).toBe(true);
  });

  test.each([
    ['an action', { policy: constantly(Number.NaN), score: maxPairwiseDifference() }],
    ['an uncertainty', { policy: constantly(1), score: () => Float32Array.of(Number.NaN) }],
    ['an infinite observation', { policy: constantly(1e39), score: maxPairwiseDifference() }],
  ])('may be %s', async (_, { policy, score }) => {
    const dream = await imagine(lineWorld(), policy, {
      start: nd([[1]]),
      horizon: 2,
      seed: 0,
      penalty: { score, coefficient: 1 },
    }).collect();
    expect(dream.nonFinite).toBe(1);
    expect([...dream.length]).toEqual([0]);
  });

  test('in the start leaves its row empty and the others as they would be', async () => {
    const rollout = imagine(lineWorld({ sigma: 1 }), constantly(0), {
      start: nd([[Number.NaN], [1], [Number.POSITIVE_INFINITY]]),
      horizon: 2,
      seed: 4,
    });
    const dream = await rollout.collect();
    expect([...dream.length]).toEqual([0, 2, 0]);
    expect(dream.nonFinite).toBe(2);
    expect(rollout.nonFinite).toBe(2);
    expect([...dream.obs.data].every(Number.isFinite)).toBe(true);
    const alone = await imagine(lineWorld({ sigma: 1 }), constantly(0), {
      start: nd([[1]]),
      horizon: 2,
      seed: 4,
      trajectory: Uint32Array.of(1),
    }).collect();
    expect(rowsOf(dream.obs)[1]).toEqual([...alone.obs.data]);
  });

  test('is told to a streaming reader at the step that was dropped', async () => {
    const world = lineWorld({ broken: (x) => x === 3 });
    const steps = await stepsOf(
      imagine(world, constantly(1), { start: nd([[0], [1], [5]]), horizon: 3, seed: 0 }),
    );
    expect(steps.map(({ row }) => [...row])).toEqual([[0, 1, 2], [0, 2], [2]]);
    expect(steps.map(({ dropped }) => [...dropped])).toEqual([[], [1], [0]]);
  });
});

describe('a rollout', () => {
  test('streams the steps that collect() assembles', async () => {
    const options = { start: nd([[5], [0], [6]]), horizon: 4, seed: 1 } as const;
    const dream = await imagine(
      lineWorld({ end: 8, sigma: 0.1 }),
      constantly(1),
      options,
    ).collect();
    const steps = await stepsOf(imagine(lineWorld({ end: 8, sigma: 0.1 }), constantly(1), options));
    for (const {
      step,
      row,
      obs,
      action,
      nextObs,
      reward,
      terminated,
      truncated,
      trajectory,
    } of steps) {
      expect([...trajectory]).toEqual([...row]);
      for (const [i, b] of row.entries()) {
        const at = b * 4 + step;
        expect(dream.obs.data[b * 5 + step]).toBe(obs.data[i]);
        expect(dream.obs.data[b * 5 + step + 1]).toBe(nextObs.data[i]);
        expect(dream.action.data[at]).toBe(action.data[i]);
        expect(dream.reward.data[at]).toBe(reward[i]);
        expect(dream.terminated.data[at]).toBe(terminated[i]);
        expect(dream.truncated.data[at]).toBe(truncated[i]);
      }
    }
    expect(steps.reduce((sum, { row }) => sum + row.length, 0)).toBe(
      dream.length.reduce((a, b) => a + b),
    );
  });

  test('runs nothing before it is read and no further than it is read', async () => {
    const world = lineWorld();
    const rollout = imagine(world, constantly(1), { start: nd([[0]]), horizon: 10, seed: 0 });
    expect(world.alive.size).toBe(0);
    for await (const { step } of rollout) if (step === 2) break;
    expect(world.batches).toHaveLength(3);
  });

  test('is read once', async () => {
    const rollout = imagine(lineWorld(), constantly(1), { start: nd([[0]]), horizon: 1, seed: 0 });
    await rollout.collect();
    expect(() => rollout[Symbol.asyncIterator]()).toThrow('read once');
    await expect(rollout.collect()).rejects.toThrow('read once');
  });

  test('takes finished rows out of the batch, or steps them along when told to', async () => {
    const options = { start: nd([[5], [0], [6]]), horizon: 4, seed: 0 } as const;
    const small = lineWorld({ end: 7, sigma: 0.5 });
    const large = lineWorld({ end: 7, sigma: 0.5 });
    const compacted = await imagine(small, constantly(1), options).collect();
    const latched = await imagine(large, constantly(1), { ...options, compact: false }).collect();
    expect(small.batches.at(-1)).toBe(1);
    expect(large.batches).toEqual([3, 3, 3, 3]);
    expect(compacted).toEqual(latched);
  });

  test('stops when every row has ended', async () => {
    for (const compact of [true, false]) {
      const world = lineWorld({ end: 2 });
      const dream = await imagine(world, constantly(1), {
        start: nd([[0], [1]]),
        horizon: 50,
        seed: 0,
        compact,
      }).collect();
      expect(world.batches).toHaveLength(2);
      expect(dream.reward.shape).toEqual([2, 50]);
    }
  });

  test('works with models and policies that answer with promises', async () => {
    const options = { start: nd([[0], [1]]), horizon: 3, seed: 9 };
    const now = await imagine(lineWorld({ sigma: 1 }), constantly(1), options).collect();
    const later = await imagine(
      lineWorld({ sigma: 1, asynchronous: true }),
      { act: async (obs, context) => constantly(1)(obs, context) },
      options,
    ).collect();
    expect(later).toEqual(now);
  });

  test('reports its progress after every step', async () => {
    const seen: RolloutProgress[] = [];
    await imagine(lineWorld({ end: 3, broken: (x) => x === 11 }), constantly(1), {
      start: nd([[1], [0], [10]]),
      horizon: 4,
      seed: 0,
      onProgress: (progress) => seen.push(progress),
    }).collect();
    expect(seen).toEqual([
      { step: 1, horizon: 4, rows: 2, nonFinite: 1 },
      { step: 2, horizon: 4, rows: 1, nonFinite: 1 },
      { step: 3, horizon: 4, rows: 0, nonFinite: 1 },
    ]);
  });

  test('a horizon of 0 gives the start alone', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      start: nd([[3], [4]]),
      horizon: 0,
      seed: 0,
    }).collect();
    expect(dream.obs).toEqual(nd([[[3]], [[4]]]));
    expect(dream.reward.shape).toEqual([2, 0]);
    expect([...dream.length]).toEqual([0, 0]);
    expect(dream.transitions().obs.shape).toEqual([0, 1]);
  });

  test('an empty batch asks neither the model nor the policy', async () => {
    const never = () => {
      throw new Error('asked');
    };
    const model = { obsSize: 4, actionSize: 2, initial: never, step: never, gather: never };
    const dream = await imagine(model, never, {
      start: nd(new Float32Array(0), [0, 4]),
      horizon: 3,
      seed: 0,
    }).collect();
    expect(dream.obs.shape).toEqual([0, 4, 4]);
    expect(dream.action.shape).toEqual([0, 3, 2]);
  });
});

describe('strided views', () => {
  test('of a model or a policy are handed on row-major', async () => {
    const every = (view: NdView) => expect(view.data).toHaveLength(view.shape[0] * view.shape[1]);
    const reversed = (values: Float32Array): NdView => ({
      data: Float32Array.from(values).reverse(),
      shape: [values.length, 1],
      stride: [-1, 1],
      offset: values.length - 1,
    });
    const world = lineWorld();
    const strided = {
      ...world,
      step: async (...args: Parameters<typeof world.step>) => {
        every(args[1]);
        const result = await world.step(...args);
        return { ...result, obs: reversed(result.obs.data) };
      },
    };
    const dream = await imagine(
      strided,
      (obs) => {
        every(obs);
        return reversed(Float32Array.from(obs.data, (x) => x / 2));
      },
      {
        start: reversed(Float32Array.of(2, 4)),
        horizon: 2,
        seed: 0,
        terminate: ({ obs, action, nextObs }) => {
          for (const view of [obs, action, nextObs]) every(view);
          return new Uint8Array(obs.shape[0]);
        },
      },
    ).collect();
    expect(rowsOf(dream.obs)).toEqual([
      [2, 3, 4.5],
      [4, 6, 9],
    ]);
  });
});

describe('bad input is refused with what must hold', () => {
  const start = nd([[0], [1]]);
  const options = { start, horizon: 1, seed: 0 };
  const world = lineWorld();
  const policy = constantly(1);

  test.each([
    ['wrong width', { start: nd([[1, 2]]) }, ShapeError, 'must have shape [B, 1], got [1,2]'],
    ['rank 1', { start: nd([1]) }, ShapeError, 'must have shape [B, 1]'],
    ['float64', { start: nd(new Float64Array(2), [2, 1]) as never }, TypeError, 'must be float32'],
    ['nested numbers', { start: [[0]] as never }, TypeError, 'start must be a view [B, S]'],
    ['a state without obs', { start: { x: 1 } as never }, TypeError, 'observations as obs'],
    ['negative horizon', { horizon: -1 }, RangeError, 'non-negative integer, got -1'],
    ['fractional horizon', { horizon: 1.5 }, RangeError, 'got 1.5'],
    ['no seed', { seed: undefined as never }, TypeError, 'seed must be given'],
    ['too few ids', { trajectory: Uint32Array.of(1) }, ShapeError, 'one id for each of the 2 rows'],
    ['ids of another type', { trajectory: [0, 1] as never }, TypeError, 'must be a Uint32Array'],
    [
      'a penalty that is not finite',
      { penalty: { score: maxPairwiseDifference(), coefficient: Number.NaN } },
      RangeError,
      'coefficient must be a finite number',
    ],
  ])('%s', (_, change, kind, message) => {
    const act = () => imagine(world, policy, { ...options, ...change });
    expect(act).toThrow(kind);
    expect(act).toThrow(message);
  });

  test('a misspelt option, and no options', () => {
    expect(() => imagine(world, policy, { ...options, horizn: 3 } as never)).toThrow(
      "imagine: options must be among start, horizon, seed, trajectory, penalty, terminate, compact, signal, onProgress, got 'horizn'",
    );
    expect(() => imagine(world, policy, undefined as never)).toThrow(TypeError);
  });

  test('a model that is none, or was not awaited', () => {
    const later = Promise.resolve(world) as never;
    expect(() => imagine(later, policy, options)).toThrow('got a Promise; await it');
    const { gather, ...partial } = world;
    expect(() => imagine(partial as never, policy, options)).toThrow('must have a function gather');
    expect(() => imagine({ ...world, obsSize: undefined } as never, policy, options)).toThrow(
      'must have obsSize and actionSize, got undefined and 1',
    );
  });

  test('a penalty that was not called', async () => {
    const penalty = { score: maxPairwiseDifference as never, coefficient: 1 };
    await expect(imagine(world, policy, { ...options, penalty }).collect()).rejects.toThrow(
      'got function; call it first, as in maxAleatoric()',
    );
  });

  test('a policy that is none', () => {
    expect(() => imagine(world, 3 as never, options)).toThrow(TypeError);
  });

  test.each([
    [
      'action of another width',
      () =>
        nd([
          [1, 2],
          [1, 2],
        ]),
      ShapeError,
    ],
    ['action for another number of rows', () => nd([[1]]), ShapeError],
    ['float64 action', () => nd(new Float64Array(2), [2, 1]) as never, TypeError],
    ['nothing', () => undefined as never, TypeError],
  ])('a policy’s %s', async (_, answer, kind) => {
    await expect(imagine(world, answer, options).collect()).rejects.toThrow(kind);
  });

  test.each([
    ['reward in an array', { reward: [1, 2] as never }, TypeError],
    ['reward of another length', { reward: new Float32Array(3) }, ShapeError],
    ['flags that are no bytes', { terminated: [0, 1] as never }, TypeError],
    [
      'observation of another width',
      {
        obs: nd([
          [1, 2],
          [3, 4],
        ]),
      },
      ShapeError,
    ],
  ])('a model’s %s', async (_, change, kind) => {
    const odd = {
      ...world,
      initial: () => 0,
      gather: () => 0,
      release: undefined,
      step: () => ({ state: 0, obs: start, reward: new Float32Array(2), ...change }),
    };
    await expect(imagine(odd, policy, options).collect()).rejects.toThrow(kind);
  });

  test('a penalty on a model that predicts nothing', async () => {
    const silent = {
      ...world,
      initial: () => 0,
      gather: () => 0,
      release: undefined,
      step: () => ({ state: 0, obs: start, reward: new Float32Array(2) }),
    };
    const penalty = { score: maxPairwiseDifference(), coefficient: 1 };
    await expect(imagine(silent, policy, { ...options, penalty }).collect()).rejects.toThrow(
      'needs a model whose step gives a prediction',
    );
  });
});
