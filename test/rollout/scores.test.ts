import { imagine, maxPairwiseDifference, nd, type UncertaintyScore } from 'umwelt';
import { describe, expect, test } from 'vitest';
import { constantly, type LineWorld, lineWorld } from '../support/line-world.js';

const start = nd([[1], [3]]);
const options = { start, horizon: 1, seed: 5 };

/** A score that needs no prediction. */
const fixed = (...values: number[]): UncertaintyScore =>
  Object.assign(() => Float32Array.from(values), { needs: [] });

/** A score that is drawn. */
const drawn: UncertaintyScore = Object.assign(
  ((_, { noise }) => noise.uniform(1).data) as UncertaintyScore,
  { needs: [] },
);

describe('uncertainty', () => {
  test('is recorded and changes nothing', async () => {
    const bare = await imagine(lineWorld(), constantly(1), options).collect();
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      uncertainty: maxPairwiseDifference(),
    }).collect();
    expect([...dream.uncertainty.data]).toEqual([2, 4]);
    expect([...dream.penalty.data]).toEqual([0, 0]);
    expect(dream.reward).toEqual(bare.reward);
    expect(dream.length).toEqual(bare.length);
  });

  test('may be another than what is charged for', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      uncertainty: fixed(7, 8),
      penalty: { score: maxPairwiseDifference(), coefficient: 0.5 },
    }).collect();
    expect([...dream.uncertainty.data]).toEqual([7, 8]);
    expect([...dream.penalty.data]).toEqual([1, 2]);
    expect([...dream.reward.data]).toEqual([19, 38]);
    expect([...dream.rawReward.data]).toEqual([20, 40]);
  });

  test('is charged for where the penalty names no score', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      uncertainty: fixed(7, 8),
      penalty: { coefficient: 2 },
    }).collect();
    expect([...dream.penalty.data]).toEqual([14, 16]);
  });

  test('is by default the penalty’s score, else the halt’s', async () => {
    const halt = { detector: { score: fixed(5, 6), unknown: () => new Uint8Array(2) } };
    const penalty = { score: fixed(7, 8), coefficient: 1 };
    const both = await imagine(lineWorld(), constantly(1), { ...options, halt, penalty }).collect();
    const halted = await imagine(lineWorld(), constantly(1), { ...options, halt }).collect();
    expect([...both.uncertainty.data]).toEqual([7, 8]);
    expect([...halted.uncertainty.data]).toEqual([5, 6]);
    expect([...halted.penalty.data]).toEqual([0, 0]);
  });

  test('that is not finite ends no row', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      uncertainty: fixed(Number.NaN, Number.POSITIVE_INFINITY),
      scores: { odd: fixed(Number.NaN, 0) },
    }).collect();
    expect([...dream.length]).toEqual([1, 1]);
    expect(dream.nonFinite).toBe(0);
  });
});

describe('scores', () => {
  test('are recorded by name, padded with zeros after a row’s end', async () => {
    const rollout = imagine(lineWorld({ end: 4 }), constantly(1), {
      start,
      horizon: 2,
      seed: 0,
      scores: { disagreement: maxPairwiseDifference(), drawn },
    });
    const dream = await rollout.collect();
    expect(Object.keys(dream.scores ?? {})).toEqual(['disagreement', 'drawn']);
    expect(dream.scores?.disagreement).toEqual(
      nd([
        [2, 3],
        [4, 0],
      ]),
    );
    expect([...dream.uncertainty.data]).toEqual([0, 0, 0, 0]);
    expect(dream.transitions()['score.disagreement']).toEqual(Float32Array.of(2, 3, 4));
  });

  test('each see the noise they would see alone', async () => {
    const alone = await imagine(lineWorld(), constantly(1), {
      ...options,
      uncertainty: drawn,
    }).collect();
    const together = await imagine(lineWorld(), constantly(1), {
      ...options,
      penalty: { score: maxPairwiseDifference(), coefficient: 1 },
      scores: { other: fixed(1, 2), drawn },
    }).collect();
    expect(together.scores?.drawn).toEqual(alone.uncertainty);
    expect(together.scores?.other).toEqual(nd([[1], [2]]));
  });

  test('that serve several ends are asked once a step', async () => {
    let asked = 0;
    const score: UncertaintyScore = (prediction) => {
      asked++;
      return maxPairwiseDifference()(prediction);
    };
    const detector = { score, unknown: (doubt: Float32Array) => new Uint8Array(doubt.length) };
    await imagine(lineWorld(), constantly(1), {
      ...options,
      horizon: 3,
      uncertainty: score,
      penalty: { score, coefficient: 1 },
      halt: { detector },
      scores: { a: score, b: score },
    }).collect();
    expect(asked).toBe(3);
  });

  test('may share memory with each other', async () => {
    const memory = new Float32Array(2);
    const into = (value: number): UncertaintyScore =>
      Object.assign(() => memory.fill(value), { needs: [] });
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      scores: { one: into(1), two: into(2) },
    }).collect();
    expect([...(dream.scores?.one.data ?? [])]).toEqual([1, 1]);
  });

  test('make the model predict where one of them reads the prediction', async () => {
    const asked: (boolean | undefined)[] = [];
    const world = lineWorld();
    const spy = {
      ...world,
      step: (...args: Parameters<typeof world.step>) => {
        asked.push(args[2].prediction);
        return world.step(...args);
      },
    };
    await imagine(spy, constantly(1), { ...options, scores: { drawn } }).collect();
    const scores = { drawn, disagreement: maxPairwiseDifference() };
    await imagine(spy, constantly(1), { ...options, scores }).collect();
    expect(asked).toEqual([false, true]);
  });

  test('are there, empty, where no step was taken', async () => {
    const dream = await imagine(lineWorld(), constantly(1), {
      ...options,
      horizon: 0,
      scores: { drawn },
    }).collect();
    expect(dream.scores?.drawn.shape).toEqual([2, 0]);
  });
});

describe('recorded extras', () => {
  /** Gives how many times each row was pushed over 3, and its speed in two units. */
  const telling = (change: Record<string, unknown> = {}) => {
    const world = lineWorld({ end: 6 });
    return {
      ...world,
      step: async (...args: Parameters<LineWorld['step']>) => {
        const result = await world.step(...args);
        const x = result.obs.data;
        const extras = {
          clipped: Int32Array.from(x, (at) => +(at > 3)),
          speed: nd(
            Float32Array.from({ length: 2 * x.length }, (_, i) => x[i >> 1] * (i % 2 ? 100 : 1)),
            [x.length, 2],
          ),
          note: 'not an array',
          ...change,
        };
        return { ...result, extras };
      },
    };
  };
  const record = { start: nd([[5], [2]]), horizon: 2, seed: 0, record: ['clipped', 'speed'] };

  test('are kept in their own type and shape, and gathered with their rows', async () => {
    const dream = await imagine(telling(), constantly(1), record).collect();
    expect(dream.extras?.clipped).toEqual(nd(Int32Array.of(1, 0, 0, 1), [2, 2]));
    expect(dream.extras?.speed).toEqual(
      nd([
        [
          [6, 600],
          [0, 0],
        ],
        [
          [3, 300],
          [4, 400],
        ],
      ]),
    );
    const flat = dream.transitions();
    expect(flat['extra.clipped']).toEqual(nd(Int32Array.of(1, 0, 1)));
    expect(flat['extra.speed']).toEqual(
      nd([
        [6, 600],
        [3, 300],
        [4, 400],
      ]),
    );
  });

  test('are streamed', async () => {
    const seen = [];
    for await (const { extras } of imagine(telling(), constantly(1), record)) seen.push(extras);
    expect(seen).toEqual([
      {
        clipped: nd(Int32Array.of(1, 0)),
        speed: nd([
          [6, 600],
          [3, 300],
        ]),
      },
      { clipped: nd(Int32Array.of(1)), speed: nd([[4, 400]]) },
    ]);
  });

  test.each([
    [telling(), ['clip'], "got 'clip'; it gives clipped, speed, note"],
    [lineWorld(), ['clipped'], "got 'clipped'; it gives none"],
    [telling(), ['note'], 'extras.note must be a typed array [B] or a view [B, ...]'],
    [telling({ clipped: new Int32Array(5) }), ['clipped'], 'must have 2 rows, got shape [5]'],
  ])('that are not there, or are no rows, are refused: %#', async (world, names, message) => {
    const rollout = imagine(world, constantly(1), { ...record, record: names });
    await expect(rollout.collect()).rejects.toThrow(message);
  });

  test('that change their type on the way are refused', async () => {
    const world = telling();
    const changing = {
      ...world,
      step: async (...args: Parameters<LineWorld['step']>) => {
        const result = await world.step(...args);
        const clipped = args[2].step === 0 ? new Int32Array(2) : new Float32Array(1);
        return { ...result, extras: { clipped } };
      },
    };
    const rollout = imagine(changing, constantly(1), { ...record, record: ['clipped'] });
    await expect(rollout.collect()).rejects.toThrow('extras.clipped must stay as in the first');
  });
});
