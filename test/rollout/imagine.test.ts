import {
  imagine,
  maxPairwiseDifference,
  type NdView,
  nd,
  type Policy,
  type Prediction,
  ShapeError,
  Trajectory,
  type UncertaintyScore,
} from 'umwelt';
import type { ScoreContext } from 'umwelt/dynamics';
import { NonFiniteError, type RolloutProgress, type RolloutStep } from 'umwelt/rollout';
import { Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { constantly, type LineState, lineWorld } from '../support/line-world.js';

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

  test('is kept and counted when told to, and the row goes on', async () => {
    const world = lineWorld({ broken: (x) => x === 3 });
    const dream = await imagine(world, constantly(1), {
      start: nd([[1], [10]]),
      horizon: 3,
      seed: 0,
      nonFinite: 'keep',
    }).collect();
    expect(dream.nonFinite).toBe(1);
    expect([...dream.length]).toEqual([3, 3]);
    expect(rowsOf(dream.reward)).toEqual([
      [20, Number.NaN, 40],
      [110, 120, 130],
    ]);
    const lost = await imagine(lineWorld(), constantly(1), {
      start: nd([[Number.NaN], [1]]),
      horizon: 1,
      seed: 0,
      nonFinite: 'keep',
    }).collect();
    expect(rowsOf(lost.obs)).toEqual([
      [Number.NaN, Number.NaN],
      [1, 2],
    ]);
  });

  test('throws when told to, with its row and step, and frees every state', async () => {
    const world = lineWorld({ broken: (x) => x === 3 });
    const options = { horizon: 3, seed: 0, nonFinite: 'throw' } as const;
    const rollout = imagine(world, constantly(1), { start: nd([[10], [1]]), ...options });
    const error = await rollout.collect().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(NonFiniteError);
    expect(error).toMatchObject({ row: 1, step: 1 });
    rollout.carry.release();
    expect(world.alive.size).toBe(0);
    const start = nd([[1], [Number.NaN]]);
    await expect(imagine(world, constantly(1), { start, ...options }).collect()).rejects.toThrow(
      'the start must be finite in every row, got a number that is not in row 1',
    );
  });
});

describe('a halt', () => {
  // The members disagree by x' itself, which a row starts at and raises by 1 a step.
  const above = (threshold: number) => ({
    score: maxPairwiseDifference(),
    unknown: (uncertainty: Float32Array) => Uint8Array.from(uncertainty, (u) => +(u > threshold)),
  });
  const options = { start: nd([[0], [2], [-9]]), horizon: 4, seed: 0 };

  test('ends rows at the step that goes too far, at a price, and nothing is bootstrapped', async () => {
    const world = lineWorld();
    const halt = { detector: above(2), penalty: 7 };
    const dream = await imagine(world, constantly(1), { ...options, halt }).collect();
    expect([...dream.length]).toEqual([3, 1, 1]);
    expect(rowsOf(dream.terminated)).toEqual([
      [0, 0, 1, 0],
      [1, 0, 0, 0],
      [1, 0, 0, 0],
    ]);
    expect(dream.truncated.data.some((flag) => flag === 1)).toBe(false);
    expect(rowsOf(dream.penalty)[0]).toEqual([0, 0, 7, 0]);
    expect(rowsOf(dream.reward)[0]).toEqual([10, 20, 23, 0]);
    expect(rowsOf(dream.rawReward)[0]).toEqual([10, 20, 30, 0]);
    expect(rowsOf(dream.uncertainty)[0]).toEqual([1, 2, 3, 0]);
    expect(world.batches).toEqual([3, 1, 1]);
  });

  test('cuts rows instead, whose last state is bootstrapped from', async () => {
    const halt = { detector: above(2), as: 'truncated' } as const;
    const dream = await imagine(lineWorld(), constantly(1), { ...options, halt }).collect();
    expect([...dream.length]).toEqual([3, 1, 1]);
    expect(rowsOf(dream.truncated)[0]).toEqual([0, 0, 1, 0]);
    expect(dream.terminated.data.some((flag) => flag === 1)).toBe(false);
    const ended = await imagine(lineWorld({ end: 3 }), constantly(1), {
      ...options,
      halt,
    }).collect();
    expect(rowsOf(ended.terminated)[0]).toEqual([0, 0, 1, 0]);
    expect(rowsOf(ended.truncated)[0]).toEqual([0, 0, 0, 0]);
  });

  test('asks a score it shares with the penalty once, and another for itself', async () => {
    let asked = 0;
    const score = (prediction: Prediction) => {
      asked++;
      return maxPairwiseDifference()(prediction);
    };
    const halt = { detector: { ...above(2), score } };
    const shared = { score, coefficient: 0.5 };
    const one = await imagine(lineWorld(), constantly(1), {
      ...options,
      halt,
      penalty: shared,
    }).collect();
    expect(asked).toBe(3);
    expect(rowsOf(one.penalty)[0]).toEqual([0.5, 1, 1.5, 0]);
    const other = { score: () => new Float32Array(3).fill(4), coefficient: 1 };
    const two = await imagine(lineWorld(), constantly(1), {
      ...options,
      horizon: 1,
      halt,
      penalty: other,
    }).collect();
    expect([...two.uncertainty.data]).toEqual([4, 4, 4]);
    expect([...two.terminated.data]).toEqual([0, 1, 1]);
  });

  test('stops rows whose score is no number, at the price of the halt alone', async () => {
    for (const doubt of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const detector = {
        score: () => Float32Array.of(0, doubt, 1),
        unknown: (uncertainty: Float32Array) => Uint8Array.from(uncertainty, (u) => +!(u <= 1)),
      };
      for (const more of [{}, { penalty: { score: detector.score, coefficient: 2 } }]) {
        const dream = await imagine(lineWorld(), constantly(1), {
          ...options,
          horizon: 1,
          halt: { detector, penalty: 7 },
          ...more,
        }).collect();
        expect([...dream.terminated.data]).toEqual([0, 1, 0]);
        expect(dream.penalty.data[1]).toBe(7);
        expect([dream.nonFinite, ...dream.length]).toEqual([0, 1, 1, 1]);
      }
    }
  });

  test.each([
    [{ detector: { score: () => new Float32Array(3) } }, 'must have functions score and unknown'],
    [{ detector: above(1), as: 'done' }, 'halt.as must be terminated or truncated, got done'],
    [{ detector: above(1), penalty: Number.NaN }, 'halt.penalty must be a finite number'],
    [{ detector: above(1), reward: 1 }, 'halt: options must be among detector, as, penalty, got'],
  ])('of another form is refused: %#', (halt, message) => {
    expect(() => imagine(lineWorld(), constantly(1), { ...options, halt } as never)).toThrow(
      message,
    );
  });
});

describe('a score', () => {
  const options = { start: nd([[1], [3]]), horizon: 1, seed: 5 };
  const scored = (score: UncertaintyScore, policy: Policy = constantly(1)) =>
    imagine(lineWorld(), policy, { ...options, penalty: { score, coefficient: 1 } }).collect();

  test('gets the transition beside the prediction, with noise of its own', async () => {
    const seen: ScoreContext[] = [];
    await scored((_, context) => {
      seen.push(context);
      return new Float32Array(2);
    });
    const [{ obs, action, nextObs, reward, step, trajectory, noise }] = seen;
    expect([obs, action, nextObs].map(({ data }) => [...data])).toEqual([
      [1, 3],
      [1, 1],
      [2, 4],
    ]);
    expect([...reward]).toEqual([20, 40]);
    expect([step, [...trajectory], noise.stream]).toEqual([0, [0, 1], Stream.score]);
  });

  test('that needs no prediction does not make the model give one', async () => {
    const asked: (boolean | undefined)[] = [];
    const world = lineWorld();
    const spy = {
      ...world,
      observe: undefined,
      step: (...[state, action, context]: Parameters<typeof world.step>) => {
        asked.push(context.prediction);
        return world.step(state, action, context);
      },
    };
    const score: UncertaintyScore = Object.assign(
      (prediction: Prediction) => new Float32Array(2).fill(prediction.mean.shape[0]),
      { needs: [] },
    );
    const dream = await imagine(spy, constantly(1), {
      ...options,
      penalty: { score, coefficient: 1 },
    }).collect();
    expect(asked).toEqual([false]);
    expect([...dream.uncertainty.data]).toEqual([0, 0]);
  });

  test('costs nothing without a coefficient, whatever it says', async () => {
    const score = () => Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY);
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      penalty: { score, coefficient: 0 },
    }).collect();
    expect([...dream.reward.data]).toEqual([20, 40]);
    expect([...dream.uncertainty.data]).toEqual([Number.NaN, Number.POSITIVE_INFINITY]);
    expect(dream.nonFinite).toBe(0);
  });

  test('has no members to read where it names no prediction, though another score has', async () => {
    const members: number[] = [];
    const score: UncertaintyScore = Object.assign(
      (prediction: Prediction) => {
        members.push(prediction.mean.shape[0]);
        return new Float32Array(2);
      },
      { needs: [] },
    );
    const detector = { score: maxPairwiseDifference(), unknown: () => new Uint8Array(2) };
    await imagine(lineWorld(), constantly(1), {
      ...options,
      halt: { detector },
      penalty: { score, coefficient: 1 },
    }).collect();
    expect(members).toEqual([0]);
  });

  test('that names what there is not is refused', async () => {
    const score = Object.assign(() => new Float32Array(2), { needs: ['logprob'] });
    await expect(scored(score as never)).rejects.toThrow(
      "needs must be among prediction, logProb, state, nextState, got 'logprob'",
    );
  });

  test.each([
    [{ coefficient: 1 }, 'penalty.score must be a function, got undefined'],
    [{ scorer: maxPairwiseDifference(), coefficient: 1 }, "among score, coefficient, got 'scorer'"],
    [{ score: null, coefficient: 1 }, 'penalty.score must be a function, got null'],
    [maxPairwiseDifference(), 'penalty: options must be an object'],
  ])('of another form is refused: %#', (penalty, message) => {
    expect(() => imagine(lineWorld(), constantly(1), { ...options, penalty } as never)).toThrow(
      message,
    );
  });

  test('gets what it names: states and log-densities', async () => {
    const score: UncertaintyScore = Object.assign(
      (_: Prediction, { logProb, state, nextState }: ScoreContext) => {
        const [before, after] = [state, nextState].map((given) => (given as LineState).x);
        return Float32Array.from(before, (x, i) => (logProb?.[i] ?? 0) + after[i] - x);
      },
      { needs: ['logProb', 'state', 'nextState'] as const },
    );
    const policy: Policy = (obs) => ({
      action: nd(new Float32Array(2).fill(1), obs.shape),
      logProb: Float32Array.of(0.5, 0.25),
    });
    expect([...(await scored(score, policy)).uncertainty.data]).toEqual([1.5, 1.25]);
    await expect(scored(score)).rejects.toThrow('needs a policy that gives logProb, got none');
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

  test('reports its progress after every step and at the end', async () => {
    const seen: RolloutProgress[] = [];
    await imagine(lineWorld({ end: 3, broken: (x) => x === 11 }), constantly(1), {
      start: nd([[1], [0], [10]]),
      horizon: 4,
      seed: 0,
      onProgress: (progress) => seen.push(progress),
    }).collect();
    const horizon = 4;
    expect(seen).toEqual([
      { status: 'running', step: 1, horizon, rows: 2, transitions: 2, nonFinite: 1 },
      { status: 'running', step: 2, horizon, rows: 1, transitions: 4, nonFinite: 1 },
      { status: 'running', step: 3, horizon, rows: 0, transitions: 5, nonFinite: 1 },
      { status: 'done', step: 3, horizon, rows: 0, transitions: 5, nonFinite: 1 },
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
      "imagine: options must be among start, horizon, seed, trajectory, actionRepeat, penalty, uncertainty, scores, halt, terminate, value, record, compact, nonFinite, signal, onProgress, got 'horizn'",
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
      'got a prediction; call it first, as in maxPairwiseDifference()',
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

  test.each([
    [
      'step without an answer',
      { step: () => undefined },
      'step must return { state, obs, reward }',
    ],
    [
      'step that is one number',
      { step: () => 3 },
      'step must return { state, obs, reward }, got num',
    ],
    [
      'step without a state',
      { step: () => ({ obs: start, reward: new Float32Array(2) }) },
      "the model's step must return a state, got undefined",
    ],
    [
      'initial without a state',
      { initial: () => undefined },
      "model's initial must return a state",
    ],
  ])('a model’s %s', async (_, change, message) => {
    const odd = { ...world, ...change } as never;
    await expect(imagine(odd, policy, options).collect()).rejects.toThrow(message);
  });

  test.each([
    ['no count of repeats', { actionRepeat: 0 }, 'actionRepeat must be a positive integer, got 0'],
    ['an uncertainty that is no score', { uncertainty: 1 }, 'uncertainty must be a function'],
    ['scores that are none', { scores: { a: null } }, 'scores.a must be a function, got null'],
    ['a value that is none', { value: new Float32Array(2) }, 'value must be a function'],
    ['a name in place of names', { record: 'clipped' }, 'record must be an array of names'],
    ['a progress that is no function', { onProgress: {} }, 'onProgress must be a function'],
  ])('%s', (_, change, message) => {
    expect(() => imagine(world, policy, { ...options, ...change } as never)).toThrow(message);
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
