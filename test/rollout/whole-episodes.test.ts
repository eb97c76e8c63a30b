import { imagine, type NdView, nd } from 'umwelt';
import {
  discountedReturn,
  type EpisodeProgress,
  filterByReturn,
  type KeptEpisodes,
  returnsToGo,
  wholeEpisodes,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

/** From x, `horizon` steps of +1 at a reward of 10 x' each, up to 7. */
const dreamFrom = (starts: number[], horizon = 3) =>
  imagine(lineWorld({ end: 7 }), constantly(1), {
    start: nd(Float32Array.from(starts), [starts.length, 1]),
    horizon,
    seed: 0,
  }).collect();

describe('returnsToGo', () => {
  test('sums the rewards from each step on, over the steps that happened', async () => {
    const dream = await dreamFrom([0, 5]);
    expect([...returnsToGo(dream).data]).toEqual([60, 50, 30, 130, 70, 0]);
    expect([...returnsToGo(dream, 0.5).data]).toEqual([27.5, 35, 30, 95, 70, 0]);
  });

  test('bootstraps nothing', async () => {
    const dream = await dreamFrom([0]);
    dream.bootstrap = Float32Array.of(1000);
    expect([...returnsToGo(dream).data]).toEqual([60, 50, 30]);
    expect([...discountedReturn({ ...dream, gamma: 1 }).toGo.data]).toEqual([1060, 1050, 1030]);
  });
});

test('returnsToGo refuses what holds no rewards', () => {
  expect(() => returnsToGo(null as never)).toThrow(TypeError);
  expect(() => returnsToGo(null as never)).toThrow('returnsToGo: rows must be an object, got null');
});

describe('filterByReturn', () => {
  test('keeps rows strictly above the threshold, in their order', async () => {
    // Returns 60, 130, 90, 60, 150.
    const dream = await dreamFrom([0, 5, 1, 0, 3]);
    expect(filterByReturn(dream, { above: 60 })).toEqual({
      rows: Int32Array.of(1, 2, 4),
      returns: Float32Array.of(130, 90, 150),
      returnsToGo: nd([
        [130, 70, 0],
        [90, 70, 40],
        [150, 110, 60],
      ]),
    });
    expect(filterByReturn(dream, { above: 59.99 }).rows).toHaveLength(5);
    expect(filterByReturn(dream, { above: 150 }).rows).toHaveLength(0);
    expect(filterByReturn(dream, { above: Number.NEGATIVE_INFINITY }).rows).toHaveLength(5);
  });

  test('count keeps the first that pass', async () => {
    const dream = await dreamFrom([0, 5, 1, 0, 3]);
    expect([...filterByReturn(dream, { above: 60, count: 2 }).rows]).toEqual([1, 2]);
    expect(filterByReturn(dream, { above: 60, count: 0 }).rows).toHaveLength(0);
  });

  test('the return may be discounted', async () => {
    const dream = await dreamFrom([0, 5]);
    const { returns } = filterByReturn(dream, { above: 27.4, gamma: 0.5 });
    expect([...returns]).toEqual([27.5, 95]);
    expect(filterByReturn(dream, { above: 27.5, gamma: 0.5 }).rows).toEqual(Int32Array.of(1));
  });

  test('a row without steps is no episode, whatever the threshold', async () => {
    const dream = await dreamFrom([Number.NaN, 0]);
    expect([...filterByReturn(dream, { above: -5 }).rows]).toEqual([1]);
    const none = await dreamFrom([0], 0);
    expect(filterByReturn(none, { above: -5 }).rows).toHaveLength(0);
  });

  test('a return that is not finite does not pass', async () => {
    const dream = await dreamFrom([0, 1]);
    dream.reward.data[1] = Number.NaN;
    expect([...filterByReturn(dream, { above: 0 }).rows]).toEqual([1]);
  });

  test('refuses what is no threshold', async () => {
    const dream = await dreamFrom([0]);
    expect(() => filterByReturn(dream, {} as never)).toThrow(
      'above must be a number, got undefined',
    );
    expect(() => filterByReturn(dream, { above: 1, count: -1 })).toThrow('count must be');
    expect(() => filterByReturn(dream, { above: 1, gamma: 2 })).toThrow('gamma must be');
    expect(() => filterByReturn(dream, { above: 1, max: 1 } as never)).toThrow("got 'max'");
  });
});

describe('wholeEpisodes', () => {
  const starts = nd([[0], [1], [2], [3], [5]]);
  const noisy = () => lineWorld({ sigma: 0.5, end: 9 });
  const options = { starts, horizon: 4, above: 150, seed: 11, rows: 6, count: 10 };

  async function search(changes: object = {}) {
    const batches: KeptEpisodes[] = [];
    const told: EpisodeProgress[] = [];
    const onProgress = (progress: EpisodeProgress) => told.push(progress);
    const world = noisy();
    const all = { ...options, onProgress, ...changes };
    for await (const batch of wholeEpisodes(world, constantly(1), all)) batches.push(batch);
    expect(world.alive.size).toBe(0);
    return { batches, told };
  }

  test('keeps episodes above the threshold until there are enough', async () => {
    const { batches, told } = await search();
    const returns = batches.flatMap((batch) => [...batch.returns]);
    expect(returns).toHaveLength(10);
    expect(Math.min(...returns)).toBeGreaterThan(150);
    const last = told[told.length - 1];
    expect(last).toEqual({
      status: 'done',
      batches: told.length,
      tried: 6 * told.length,
      kept: 10,
    });
    expect(last.tried).toBeGreaterThan(10);
    expect(told.slice(0, -1).every(({ status }) => status === 'running')).toBe(true);
    const { tried, kept } = batches[batches.length - 1];
    expect([tried, kept]).toEqual([last.tried, 10]);
  });

  test('gives each episode with its id and its returns-to-go', async () => {
    const { batches } = await search();
    const ids = batches.flatMap((batch) => [...batch.id]);
    expect(new Set(ids).size).toBe(10);
    for (const { trajectory, id, returns, returnsToGo: toGo } of batches) {
      expect(trajectory.length).toHaveLength(id.length);
      expect(toGo).toEqual(returnsToGo(trajectory));
      expect(returns).toEqual(toGo.data.filter((_, i) => i % 4 === 0));
      // The id alone gives the episode again.
      const again = await imagine(noisy(), constantly(1), {
        start: nd(
          trajectory.obs.data.filter((_, i) => i % 5 === 0),
          [id.length, 1],
        ),
        horizon: 4,
        seed: 11,
        trajectory: id,
      }).collect();
      expect(again.obs).toEqual(trajectory.obs);
    }
  });

  test('one seed is one search, another seed another', async () => {
    const obsOf = async (seed: number) =>
      (await search({ seed })).batches.map(({ trajectory }) => trajectory.obs);
    expect(await obsOf(11)).toEqual(await obsOf(11));
    expect(await obsOf(12)).not.toEqual(await obsOf(11));
  });

  test('batches of which nothing is kept are only told of, and it gives up in the end', async () => {
    const { batches, told } = await search({ above: 1e6, maxBatches: 3 });
    expect(batches).toHaveLength(0);
    expect(told.map(({ status, tried, kept }) => [status, tried, kept])).toEqual([
      ['running', 6, 0],
      ['running', 12, 0],
      ['done', 18, 0],
    ]);
  });

  test('episodes may end', async () => {
    const { batches } = await search({ above: 0 });
    const terminated = batches.flatMap(({ trajectory }) => [...trajectory.terminated.data]);
    expect(terminated).toContain(1);
  });

  test('an abort stops the search', async () => {
    const controller = new AbortController();
    const world = lineWorld({ asynchronous: true });
    const policy = (obs: NdView) => {
      if (world.batches.length === 5) controller.abort(new Error('enough'));
      return nd(new Float32Array(obs.shape[0]), obs.shape);
    };
    const { signal } = controller;
    const found = wholeEpisodes(world, policy, { ...options, above: -1, count: 100, signal });
    expect((await found.next()).done).toBe(false);
    await expect(found.next()).rejects.toThrow('enough');
    expect(world.alive.size).toBe(0);
  });

  test.each<[string, object, string]>([
    ['no threshold', { above: undefined }, 'above must be a number'],
    ['a start', { start: starts }, 'start must be left out'],
    ['starts of another width', { starts: nd([[1, 2]]) }, 'must have shape [B, 1]'],
    ['no starts', { starts: nd(new Float32Array(0), [0, 1]) }, 'at least 1 candidate'],
    ['a count of none', { count: 0 }, 'count must be a positive integer, got 0'],
    ['more ids than there are', { rows: 2 ** 20, maxBatches: 2 ** 13 }, 'ids are uint32'],
    [
      'a misspelt option',
      { maxBatchs: 1 },
      'wholeEpisodes: options must be among starts, above, gamma, count, rows, maxBatches, horizon',
    ],
    [
      'a progress that is no function',
      { onProgress: 3 },
      'wholeEpisodes: onProgress must be a function, got number',
    ],
    ['a wrong discount', { gamma: 2 }, 'gamma must be a number in'],
  ])('%s: refused at once', (_, changes, message) => {
    expect(() => wholeEpisodes(noisy(), constantly(1), { ...options, ...changes })).toThrow(
      message,
    );
  });
});
