import { unzipSync } from 'fflate';
import { imagine, maxPairwiseDifference, type NdView, nd, Trajectory } from 'umwelt';
import { writeNpz } from 'umwelt/formats';
import { describe, expect, test } from 'vitest';
import { gatherRows } from '../../src/nd.js';
import { constantly, lineWorld } from '../support/line-world.js';

test('transitions() lists the valid steps, by start and then by step', async () => {
  const dream = await imagine(lineWorld({ end: 7, broken: (x) => x === 1 }), constantly(1), {
    start: nd([[5], [0], [2]]),
    horizon: 3,
    seed: 0,
    penalty: { score: maxPairwiseDifference(), coefficient: 2 },
  }).collect();
  expect(dream.transitions()).toEqual({
    obs: nd([[5], [6], [2], [3], [4]]),
    action: nd([[1], [1], [1], [1], [1]]),
    reward: Float32Array.of(60 - 12, 70 - 14, 30 - 6, 40 - 8, 50 - 10),
    rawReward: Float32Array.of(60, 70, 30, 40, 50),
    uncertainty: Float32Array.of(6, 7, 3, 4, 5),
    penalty: Float32Array.of(12, 14, 6, 8, 10),
    nextObs: nd([[6], [7], [3], [4], [5]]),
    terminated: Uint8Array.of(0, 1, 0, 0, 0),
    truncated: Uint8Array.of(0, 0, 0, 0, 1),
    startIndex: Int32Array.of(0, 0, 2, 2, 2),
    stepIndex: Int32Array.of(0, 1, 0, 1, 2),
    // This world's members go by the place in the batch, which shrinks as rows end.
    member: Int32Array.of(0, 0, 0, 1, 0),
  });
});

test('transitions() go into a file as they are', async () => {
  const dream = await imagine(lineWorld(), constantly(1), {
    start: nd([[5], [0]]),
    horizon: 3,
    seed: 0,
  }).collect();
  const files = unzipSync(writeNpz(dream.transitions()));
  // The policy gave no log-densities, so there is no such array.
  expect(Object.keys(files)).toContain('nextObs.npy');
  expect(Object.keys(files)).not.toContain('logProb.npy');
});

describe('gather()', () => {
  const dreamt = () => {
    const world = lineWorld({ end: 7 });
    const telling = {
      ...world,
      step: async (...args: Parameters<typeof world.step>) => {
        const result = await world.step(...args);
        return { ...result, extras: { speed: nd(result.obs.data.slice(), result.obs.shape) } };
      },
    };
    return imagine(telling, (obs) => ({ action: obs, logProb: obs.data.map((x) => -x) }), {
      start: nd([[5], [1], [2]]),
      horizon: 3,
      seed: 0,
      penalty: { score: maxPairwiseDifference(), coefficient: 2 },
      scores: { disagreement: maxPairwiseDifference() },
      value: (obs) => obs.data.map((x) => 3 * x),
      record: ['speed'],
    }).collect();
  };

  test('takes rows of every field, in any order and as often as asked', async () => {
    const dream = await dreamt();
    const some = dream.gather(Int32Array.of(2, 0, 2));
    expect(some).toBeInstanceOf(Trajectory);
    const rowOf = (value: unknown, row: number): unknown => {
      if (typeof value === 'number') return value;
      const view = value as NdView;
      if ('stride' in view) return gatherRows(view, Int32Array.of(row)).data;
      return ArrayBuffer.isView(view)
        ? (view as Float32Array)[row]
        : Object.values(view).map((part) => rowOf(part, row));
    };
    const names = Object.keys(dream) as (keyof Trajectory)[];
    // Every field is there to be forgotten.
    expect(names.filter((name) => dream[name] === undefined)).toEqual([]);
    for (const name of names) {
      for (const [to, from] of [2, 0, 2].entries()) {
        expect(rowOf(some[name], to), name).toEqual(rowOf(dream[name], from));
      }
    }
    expect(some.obs.shape).toEqual([3, 4, 1]);
  });

  test('copies', async () => {
    const dream = await dreamt();
    const all = dream.gather(Int32Array.of(0, 1, 2));
    expect(all).toEqual(dream);
    all.reward.data.fill(9);
    all.length.fill(9);
    expect(dream).toEqual(await dreamt());
  });

  test('refuses rows that there are not', async () => {
    const dream = await dreamt();
    expect(() => dream.gather(Int32Array.of(3))).toThrow('rows must lie in 0..2, got 3');
    expect(dream.gather(new Int32Array(0)).obs.shape).toEqual([0, 4, 1]);
  });

  test('leaves transitions() that go into a file, named scores and extras too', async () => {
    const dream = await dreamt();
    const flat = dream.gather(Int32Array.of(1)).transitions();
    const files = Object.keys(unzipSync(writeNpz(flat)));
    expect(files).toEqual(expect.arrayContaining(['score.disagreement.npy', 'extra.speed.npy']));
    expect(flat['extra.speed']).toEqual(nd([[2], [4], [8]]));
    expect(flat.nextValue).toEqual(Float32Array.of(6, 12, 24));
  });
});
