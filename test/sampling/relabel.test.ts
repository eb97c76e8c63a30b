import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nd, ShapeError } from '../../src/nd.js';
import { hindsightRows, relabelGoals, relabelRewards } from '../../src/sampling/relabel.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';

const schema = {
  goal: { dtype: 'float32', shape: [2] },
  achievedGoal: { dtype: 'float32', shape: [2] },
  episode: 'int32',
  reward: 'float32',
  truncated: 'uint8',
} as const;

/** Episodes of the given lengths; row `r` achieves the goal `[r, episode]` and wants `[-1, -1]`. */
function bufferOf(capacity: number, lengths: readonly number[]) {
  const buffer = new ReplayBuffer({ capacity, schema });
  let row = 0;
  for (const [episode, length] of lengths.entries()) {
    for (let t = 1; t <= length; t++, row++) {
      buffer.add({
        goal: Float32Array.of(-1, -1),
        achievedGoal: Float32Array.of(row, episode),
        episode,
        reward: row,
        truncated: t === length ? 1 : 0,
      });
    }
  }
  return buffer;
}

describe('relabelRewards', () => {
  test('computes all stored rewards anew, in batches from the oldest on', async () => {
    const buffer = bufferOf(5, [3, 4]);
    const seen: number[] = [];
    await relabelRewards(
      buffer,
      async ({ reward, episode }, index) => {
        seen.push(...reward);
        expect(index.length).toBeLessThanOrEqual(2);
        return reward.map((r, i) => 100 * episode[i] + r);
      },
      { batchSize: 2 },
    );
    expect(seen).toEqual([2, 3, 4, 5, 6]);
    expect([...buffer.columns.reward]).toEqual([105, 106, 2, 103, 104]);
  });

  test('changes nothing when the function throws or answers wrongly', async () => {
    const buffer = bufferOf(5, [3, 4]);
    const before = buffer.snapshot();
    let calls = 0;
    const fails = relabelRewards(
      buffer,
      ({ reward }) => {
        if (++calls === 2) throw new Error('no more');
        return reward.map(() => 7);
      },
      { batchSize: 2 },
    );
    await expect(fails).rejects.toThrow('no more');
    await expect(relabelRewards(buffer, () => new Float32Array(4))).rejects.toThrow(ShapeError);
    await expect(relabelRewards(buffer, () => new Float64Array(5))).rejects.toThrow(
      'the function must give a Float32Array, got a Float64Array',
    );
    await expect(relabelRewards(buffer, () => [1] as never)).rejects.toThrow(TypeError);
    expect(buffer.snapshot()).toEqual(before);
  });

  test('refuses rows that are added meanwhile, missing fields and batch sizes that are none', async () => {
    const buffer = bufferOf(5, [3]);
    const adding = relabelRewards(buffer, ({ reward }) => {
      buffer.addBatch(buffer.get(Int32Array.of(0)));
      return reward.map(() => 7);
    });
    await expect(adding).rejects.toThrow(
      'the buffer must stay as it is meanwhile, got 1 rows added',
    );
    expect([...buffer.columns.reward.subarray(0, 4)]).toEqual([0, 1, 2, 0]);
    const reward = () => new Float32Array(4);
    await expect(relabelRewards(buffer, reward, { field: 'return' })).rejects.toThrow(
      'the schema must have a field return of one number a row, got none',
    );
    await expect(relabelRewards(buffer, reward, { field: 'goal' })).rejects.toThrow(TypeError);
    await expect(relabelRewards(buffer, reward, { batchSize: 0 })).rejects.toThrow(RangeError);
  });

  test('does nothing to an empty buffer', async () => {
    await relabelRewards(bufferOf(5, []), () => expect.unreachable());
  });
});

describe('hindsightRows', () => {
  test('stays within the episode, on the side of the strategy', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 8 }),
        fc.constantFrom('future' as const, 'final' as const, 'episode' as const),
        fc.nat(),
        (capacity, lengths, strategy, seed) => {
          const buffer = bufferOf(capacity, lengths);
          const { reward, episode } = buffer.columns;
          const index = Int32Array.from({ length: buffer.size }, (_, slot) => slot);
          const rows = hindsightRows(buffer, index, seed, { strategy, ratio: 1 });
          for (const [i, slot] of rows.entries()) {
            expect(episode[slot]).toBe(episode[i]);
            if (strategy === 'future') expect(reward[slot]).toBeGreaterThanOrEqual(reward[i]);
            if (strategy === 'final') expect(buffer.span(slot).from).toBe(1);
          }
        },
      ),
      { numRuns: 1000, seed: 34 },
    );
  });

  test('draws each allowed row equally often, and relabels the given share', () => {
    const buffer = bufferOf(10, [2, 6]);
    const N = 30_000;
    const index = new Int32Array(N).fill(5);
    for (const [strategy, allowed] of [
      ['future', [5, 6, 7]],
      ['episode', [2, 3, 4, 5, 6, 7]],
    ] as const) {
      const rows = hindsightRows(buffer, index, 1, { strategy, ratio: 0.5 });
      const counts = new Map<number, number>();
      for (const row of rows) counts.set(row, (counts.get(row) ?? 0) + 1);
      expect([...counts.keys()].sort((a, b) => a - b)).toEqual([-1, ...allowed]);
      for (const [row, count] of counts) {
        const p = row < 0 ? 0.5 : 0.5 / allowed.length;
        expect(Math.abs(count - N * p)).toBeLessThan(5 * Math.sqrt(N * p * (1 - p)));
      }
    }
  });

  test('repeats itself for a seed and step', () => {
    const buffer = bufferOf(30, [30]);
    const index = Int32Array.from({ length: 30 }, (_, i) => i);
    const draw = (seed: number, step: number) =>
      hindsightRows(buffer, index, seed, { step }).join();
    expect(draw(1, 2)).toBe(draw(1, 2));
    expect(new Set([draw(1, 2), draw(1, 3), draw(2, 2)]).size).toBe(3);
  });

  test('refuses shares, strategies and slots that are none', () => {
    const buffer = bufferOf(5, [3]);
    const index = Int32Array.of(0);
    expect(() => hindsightRows(buffer, index, 1, { ratio: 1.5 })).toThrow(RangeError);
    expect(() => hindsightRows(buffer, index, 1, { strategy: 'past' as 'final' })).toThrow(
      "strategy must be 'future', 'final' or 'episode', got past",
    );
    expect(() => hindsightRows(buffer, Int32Array.of(3), 1)).toThrow(RangeError);
  });
});

describe('relabelGoals', () => {
  test('replaces goals of the batch, lets rewards follow and leaves the buffer alone', () => {
    const buffer = bufferOf(20, [4, 6]);
    const before = buffer.snapshot();
    const index = Int32Array.from({ length: 10 }, (_, i) => i);
    const batch = buffer.get(index);
    const options = { strategy: 'future', ratio: 0.6, step: 3 } as const;
    const relabelled = relabelGoals(buffer, index, batch, 5, {
      ...options,
      reward: ({ goal, achievedGoal, reward }, changed) => {
        for (let i = 0; i < reward.length; i++) {
          if (changed[i]) reward[i] = goal.data[2 * i] === achievedGoal.data[2 * i] ? 1000 : -1000;
        }
      },
    });
    const rows = hindsightRows(buffer, index, 5, options);
    expect(new Set(relabelled)).toEqual(new Set([0, 1]));
    for (let i = 0; i < 10; i++) {
      const goal = [...batch.goal.data.subarray(2 * i, 2 * i + 2)];
      expect(relabelled[i]).toBe(rows[i] < 0 ? 0 : 1);
      expect(goal).toEqual(rows[i] < 0 ? [-1, -1] : [rows[i], i < 4 ? 0 : 1]);
      expect(batch.reward[i]).toBe(rows[i] < 0 ? i : rows[i] === i ? 1000 : -1000);
    }
    expect(buffer.snapshot()).toEqual(before);
  });

  test('refuses fields that are missing or do not match, and leaves the batch as it was', () => {
    const buffer = bufferOf(5, [3]);
    const index = Int32Array.of(0, 1);
    const batch = buffer.get(index);
    const before = structuredClone(batch);
    const relabel =
      (options: object, rows = batch) =>
      () =>
        relabelGoals(buffer, index, rows, 1, options);
    expect(relabel({ goal: 'target' })).toThrow(
      'the batch must have a field target, got undefined',
    );
    expect(relabel({ achieved: 'target' })).toThrow(TypeError);
    expect(relabel({ achieved: 'episode' })).toThrow('goal and episode must have one dtype');
    expect(relabel({ achieved: 'reward' })).toThrow(ShapeError);
    expect(relabel({ ratio: 2 })).toThrow(RangeError);
    const short = { ...batch, goal: nd(new Float32Array(2), [1, 2]) };
    expect(relabel({}, short)).toThrow('goal must be 2 rows of shape [2], got 1 of [2]');
    expect(batch).toEqual(before);
  });
});
