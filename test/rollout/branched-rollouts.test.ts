import { maxPairwiseDifference, type NdView, nd, ShapeError } from 'umwelt';
import { type BranchProgress, branchedRollouts, imagine, type Transitions } from 'umwelt/rollout';
import { foldIn, NotEnoughRowsError, ReplayBuffer, UniformSampler } from 'umwelt/sampling';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

const schema = {
  obs: { dtype: 'float32', shape: [1] },
  action: { dtype: 'float32', shape: [1] },
  reward: 'float32',
  nextObs: { dtype: 'float32', shape: [1] },
  terminated: 'uint8',
} as const;

/** Observations 0 to n - 1. */
const line = (n: number): NdView =>
  nd(
    Float32Array.from({ length: n }, (_, i) => i),
    [n, 1],
  );

async function all(chunks: AsyncIterable<Transitions>): Promise<Transitions[]> {
  const list: Transitions[] = [];
  for await (const chunk of chunks) list.push(chunk);
  return list;
}

/** The chunks one after another, field by field. */
function joined(chunks: readonly Transitions[]): Record<string, number[]> {
  const fields: Record<string, number[]> = {};
  for (const chunk of chunks) {
    for (const [name, value] of Object.entries(chunk)) {
      const data = (ArrayBuffer.isView(value) ? value : value.data) as Float32Array;
      fields[name] = [...(fields[name] ?? []), ...data];
    }
  }
  return fields;
}

const noisy = () => lineWorld({ sigma: 0.5, end: 12 });
const options = { starts: line(10), rows: 23, horizon: 3, seed: 7 };

describe('what is rolled out', () => {
  test('starts are rows of the source, trajectories rows of the round, noise that of the folded key', async () => {
    const [chunk] = await all(branchedRollouts(noisy(), constantly(1), { ...options, round: 4 }));
    const first = chunk.obs.data.filter((_, i) => chunk.stepIndex[i] === 0);
    expect(first).toHaveLength(23);
    expect(first.every((x) => Number.isInteger(x) && x >= 0 && x < 10)).toBe(true);
    const dream = await imagine(noisy(), constantly(1), {
      start: nd(first, [23, 1]),
      horizon: 3,
      seed: foldIn(7, 4),
    }).collect();
    expect(chunk).toEqual(dream.transitions());
  });

  test('every start is as likely as the others', async () => {
    const chunks = await all(
      branchedRollouts(lineWorld(), constantly(0), { ...options, rows: 20_000, horizon: 1 }),
    );
    const counts = new Array<number>(10).fill(0);
    for (const { obs } of chunks) for (const x of obs.data) counts[x]++;
    // Standard deviation 42; seed-fixed.
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(170);
  });

  test.each([1, 5, 22, 23, 1000])('chunks of %d are what one chunk is', async (batch) => {
    const penalty = { score: maxPairwiseDifference(), coefficient: 0.1 };
    const whole = await all(branchedRollouts(noisy(), constantly(1), { ...options, penalty }));
    expect(whole).toHaveLength(1);
    const parts = await all(
      branchedRollouts(noisy(), constantly(1), { ...options, penalty, batch }),
    );
    expect(parts).toHaveLength(Math.ceil(23 / batch));
    const { member: _, ...rest } = joined(parts);
    // This world's members go by the place in the batch.
    const { member: __, ...expected } = joined(whole);
    expect(rest).toEqual(expected);
  });

  test('rounds draw other starts and dream other dreams; one round is one dream', async () => {
    const round = async (number: number) =>
      joined(await all(branchedRollouts(noisy(), constantly(1), { ...options, round: number })));
    const [zero, one] = [await round(0), await round(1)];
    expect(one.obs).not.toEqual(zero.obs);
    expect(await round(1)).toEqual(one);
  });

  test('terminating steps are there, and what the horizon cut is truncated', async () => {
    const world = lineWorld({ end: 10 });
    const [chunk] = await all(branchedRollouts(world, constantly(1), options));
    const lengths = new Int32Array(23);
    for (const row of chunk.startIndex) lengths[row]++;
    chunk.startIndex.forEach((row, i) => {
      const x = chunk.nextObs.data[i];
      expect(chunk.terminated[i]).toBe(x >= 10 ? 1 : 0);
      expect(chunk.truncated[i]).toBe(chunk.stepIndex[i] === 2 && x < 10 ? 1 : 0);
      expect(lengths[row]).toBe(Math.min(3, 10 - (x - 1 - chunk.stepIndex[i])));
    });
    expect(world.alive.size).toBe(0);
  });
});

describe('buffers', () => {
  function filled(): ReplayBuffer<typeof schema> {
    const buffer = new ReplayBuffer({ capacity: 40, schema });
    for (let i = 0; i < 10; i++) {
      buffer.add({
        obs: Float32Array.of(i),
        action: Float32Array.of(0),
        reward: 0,
        nextObs: Float32Array.of(100 + i),
        terminated: 0,
      });
    }
    return buffer;
  }

  test('starts come from the stored rows of a buffer’s field', async () => {
    const starts = filled();
    const obs = joined(await all(branchedRollouts(noisy(), constantly(1), { ...options, starts })));
    const view = joined(await all(branchedRollouts(noisy(), constantly(1), options)));
    expect(obs).toEqual(view);
    const field = { ...options, starts, field: 'nextObs', horizon: 1 };
    const [chunk] = await all(branchedRollouts(lineWorld(), constantly(1), field));
    expect(chunk.obs.data.every((x) => x >= 100 && x < 110)).toBe(true);
  });

  test('a sampler of one’s own draws them', async () => {
    const starts = filled();
    const sampler = new UniformSampler(starts, { replacement: false });
    const distinct = { ...options, starts, sampler, rows: 10, horizon: 1 };
    const [chunk] = await all(branchedRollouts(lineWorld(), constantly(1), distinct));
    expect([...chunk.obs.data].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(() => branchedRollouts(lineWorld(), constantly(1), { ...distinct, rows: 11 })).toThrow(
      NotEnoughRowsError,
    );
  });

  test('transitions go into a buffer of any of their fields, each row of the round an episode', async () => {
    const into = new ReplayBuffer({ capacity: 1000, schema });
    const chunks = await all(
      branchedRollouts(noisy(), constantly(1), { ...options, into, batch: 5 }),
    );
    const { reward, nextObs } = joined(chunks);
    expect([...into.columns.reward.slice(0, into.size)]).toEqual(reward);
    expect([...into.columns.nextObs.data.slice(0, into.size)]).toEqual(nextObs);
    expect(into.episodes().length).toHaveLength(23);
  });

  test('a buffer may be both: its rows of before are what starts are drawn from', async () => {
    const both = filled();
    const into = filled();
    const apart = joined(
      await all(
        branchedRollouts(noisy(), constantly(1), { ...options, starts: filled(), into, batch: 5 }),
      ),
    );
    const one = { ...options, starts: both, into: both, batch: 5 };
    expect(joined(await all(branchedRollouts(noisy(), constantly(1), one)))).toEqual(apart);
    expect(both.snapshot()).toEqual(into.snapshot());
  });

  test('a buffer of another kind of field is refused by the compiler', () => {
    const wrong = new ReplayBuffer({ capacity: 1, schema: { reward: 'int32' } });
    // @ts-expect-error rewards are float32
    const given: Parameters<typeof branchedRollouts>[2]['into'] = wrong;
    expectTypeOf(given).not.toBeAny();
  });
});

describe('in the making', () => {
  test('a chunk is computed when it is asked for', async () => {
    const world = noisy();
    const chunks = branchedRollouts(world, constantly(1), { ...options, batch: 10 });
    expect(world.batches).toHaveLength(0);
    await chunks.next();
    const steps = world.batches.length;
    expect(world.batches[0]).toBe(10);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(world.batches).toHaveLength(steps);
    await chunks.return();
    expect(world.batches).toHaveLength(steps);
    expect(world.alive.size).toBe(0);
  });

  test('an abort stops between network calls and leaves no state behind', async () => {
    const world = lineWorld({ asynchronous: true });
    const controller = new AbortController();
    const { signal } = controller;
    const policy = (obs: NdView) => {
      if (world.batches.length === 4) controller.abort(new Error('enough'));
      return nd(new Float32Array(obs.shape[0]), obs.shape);
    };
    const chunks = branchedRollouts(world, policy, { ...options, batch: 10, signal });
    expect((await chunks.next()).done).toBe(false);
    await expect(chunks.next()).rejects.toThrow('enough');
    expect(world.batches).toEqual([10, 10, 10, 10]);
    expect(world.alive.size).toBe(0);
  });

  test('progress counts starts, transitions and what was not finite', async () => {
    const told: BranchProgress[] = [];
    const world = lineWorld({ broken: (x) => x === 3 });
    const chunks = await all(
      branchedRollouts(world, constantly(1), {
        ...options,
        batch: 10,
        onProgress: (progress) => told.push(progress),
      }),
    );
    expect(told.map(({ status, done, total }) => [status, done, total])).toEqual([
      ['running', 10, 23],
      ['running', 20, 23],
      ['done', 23, 23],
    ]);
    const { reward, obs, stepIndex } = joined(chunks);
    expect(told[2].transitions).toBe(reward.length);
    // Of starts at 0, 1 and 2 the step to 3 is lost.
    const lost = 23 - obs.filter((x, i) => stepIndex[i] === 0 && x > 2).length;
    expect(told[2].nonFinite).toBe(lost);
    expect(lost).toBeGreaterThan(0);
  });
});

describe('arguments', () => {
  const call = (changes: object) => () =>
    branchedRollouts(lineWorld(), constantly(1), { ...options, ...changes });

  test.each<[string, object, new (message: string) => Error, string]>([
    ['starts of another width', { starts: nd([[1, 2]]) }, ShapeError, 'must have shape [B, 1]'],
    ['starts of another kind', { starts: 3 }, TypeError, 'must be a view [N, 1] or a ReplayBuffer'],
    ['a field with a view', { field: 'obs' }, TypeError, 'must be left out where starts is a view'],
    [
      'a field that is not there',
      { starts: new ReplayBuffer({ capacity: 1, schema }), field: 'state' },
      TypeError,
      "one of the buffer's, obs, action, reward, nextObs, terminated, got 'state'",
    ],
    ['no rows', { rows: 0 }, RangeError, 'rows must be an integer in 1..2^31-1, got 0'],
    ['a batch of none', { batch: 0 }, RangeError, 'batch must be'],
    ['a round that is no uint32', { round: -1 }, RangeError, 'got -1'],
    ['a start', { start: line(1) }, TypeError, 'start must be left out'],
    [
      'trajectory ids',
      { trajectory: new Uint32Array(1) },
      TypeError,
      'trajectory must be left out',
    ],
    [
      'a misspelt option',
      { into_: {} },
      TypeError,
      'branchedRollouts: options must be among starts, field, sampler, rows, round, batch, into, horizon',
    ],
    [
      'a progress that is no function',
      { onProgress: 3 },
      TypeError,
      'branchedRollouts: onProgress must be a function, got number',
    ],
    ['a wrong horizon', { horizon: -1 }, RangeError, 'horizon must be'],
    ['no buffer', { into: {} }, TypeError, 'into must be a ReplayBuffer'],
    ['no sampler', { sampler: {} }, TypeError, 'sampler must have a function sample'],
    [
      'a sampler of rows that are not there',
      { sampler: { sample: () => ({ index: new Int32Array(23).fill(10) }) } },
      RangeError,
      'got 10 at 0',
    ],
    [
      'a sampler of too few rows',
      { sampler: { sample: () => ({ index: new Int32Array(3) }) } },
      RangeError,
      'must draw the 23 rows it is asked for, got 3',
    ],
    [
      'an empty buffer',
      { starts: new ReplayBuffer({ capacity: 1, schema }) },
      NotEnoughRowsError as never,
      'at least 1 candidate',
    ],
  ])('%s: refused at once', (_, changes, kind, message) => {
    expect(call(changes)).toThrow(kind);
    expect(call(changes)).toThrow(message);
  });
});
