import { imagine, maxPairwiseDifference, type NdView, nd, type Trajectory } from 'umwelt';
import { readNpz, readSafetensors, writeNpz, writeSafetensors } from 'umwelt/formats';
import { readD4rl, readMinari, writeD4rl, writeMinari } from 'umwelt/formats/hdf5';
import {
  type DreamerTrajectory,
  flattenArrays,
  fromD4rl,
  fromDreamer,
  fromMinari,
  fromTorchRl,
  type TorchRlTrajectory,
  toD4rl,
  toDreamer,
  toGymnasium,
  toMinari,
  toTdMpc2,
  toTorchRl,
  trajectoryArrays,
  trajectoryFromArrays,
  unflattenArrays,
} from 'umwelt/rollout';
import { beforeAll, describe, expect, test } from 'vitest';
import { lineWorld } from '../support/line-world.js';
import { codedDream, essence, strided } from './coded-world.js';

let dream: Trajectory;
beforeAll(async () => {
  dream = await codedDream();
});

/** What is read back of what was written: views, also where arrays were written. */
function asRead(arrays: object): Record<string, unknown> {
  const views = Object.entries(arrays).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    views.map(([name, value]) => [name, ArrayBuffer.isView(value) ? nd(value as never) : value]),
  );
}

describe('npz', () => {
  test.each<[string, (trajectory: Trajectory) => object]>([
    ['transitions()', (trajectory) => trajectory.transitions()],
    ['trajectoryArrays', trajectoryArrays],
    ['toGymnasium', toGymnasium],
    ['toTorchRl', (trajectory) => flattenArrays(toTorchRl(trajectory))],
    ['toDreamer', toDreamer],
    ['toTdMpc2', toTdMpc2],
    ['toD4rl', toD4rl],
    ['toMinari', (trajectory) => toMinari(trajectory)[1]],
  ])('%s: reads as it was written', (_, of) => {
    const arrays = of(dream) as Record<string, NdView>;
    expect(readNpz(writeNpz(arrays))).toEqual(asRead(arrays));
  });

  test('what is read makes the trajectory again', () => {
    const replay = readNpz(writeNpz(toDreamer(dream) as never)) as unknown as DreamerTrajectory;
    expect(essence(fromDreamer(replay))).toEqual(essence(dream));
    const flat = readNpz(writeNpz(flattenArrays(toTorchRl(dream))));
    const ted = unflattenArrays(flat) as unknown as TorchRlTrajectory;
    expect(essence(fromTorchRl(ted))).toEqual(essence(dream));
  });
});

describe('hdf5', () => {
  test('D4RL takes toD4rl and gives what fromD4rl takes', async () => {
    const chunks = [];
    for await (const chunk of readD4rl(await writeD4rl(toD4rl(dream)))) chunks.push(chunk);
    expect(chunks).toHaveLength(1);
    expect(essence(fromD4rl(chunks[0]))).toEqual(essence(dream.gather(Int32Array.of(0, 1, 2))));
  });

  test('Minari takes toMinari and gives what fromMinari takes', async () => {
    const files = await writeMinari(toMinari(dream), { datasetId: 'coded/dream-v0' });
    const episodes = [];
    for await (const episode of readMinari(files['main_data.hdf5'])) episodes.push(episode);
    expect(essence(fromMinari(episodes))).toEqual(essence(dream.gather(Int32Array.of(0, 1, 2))));
  });
});

describe('trajectoryArrays', () => {
  /** A trajectory with everything there can be. */
  const full = async () => {
    const trajectory = await imagine(
      lineWorld({ end: 7, broken: (x) => x === 1 }),
      (obs) => ({ action: nd([[1], [1], [1]].slice(0, obs.shape[0])), logProb: obs.data.slice() }),
      {
        start: nd([[5], [0], [2]]),
        horizon: 3,
        seed: 0,
        penalty: { score: maxPairwiseDifference(), coefficient: 2 },
        scores: { doubt: maxPairwiseDifference() },
        value: (obs) => obs.data.slice(),
      },
    ).collect();
    trajectory.extras = {
      mode: nd(
        Int32Array.from({ length: 18 }, (_, i) => i),
        [3, 3, 2],
      ),
    };
    return trajectory;
  };

  test('holds everything, and makes the same trajectory again', async () => {
    const trajectory = await full();
    expect(trajectory.nonFinite).toBe(1);
    const again = trajectoryFromArrays(trajectoryArrays(trajectory));
    expect(again).toEqual(trajectory);
    expect(again.transitions()).toEqual(trajectory.transitions());
  });

  test.each<[string, (arrays: never) => Readonly<Record<string, NdView<never>>>]>([
    ['npz', (arrays) => readNpz(writeNpz(arrays)) as never],
    ['safetensors', (arrays) => readSafetensors(writeSafetensors(arrays)).tensors as never],
  ])('also through %s', async (_, through) => {
    const trajectory = await full();
    const again = trajectoryFromArrays(through(trajectoryArrays(trajectory) as never));
    expect(again).toEqual(trajectory);
    again.reward.data.fill(0);
    const { mode } = again.extras as Record<string, NdView<Int32Array>>;
    mode.data.fill(0);
    expect(trajectory).toEqual(await full());
  });

  test('takes views of any strides', () => {
    const arrays = {
      ...trajectoryArrays(dream),
      obs: strided(dream.obs),
      mask: strided(dream.mask),
    };
    expect(trajectoryFromArrays(arrays)).toEqual(dream);
  });

  test('what is missing or does not fit is refused', () => {
    const { reward: _, ...without } = trajectoryArrays(dream);
    expect(() => trajectoryFromArrays(without)).toThrow(
      'trajectoryFromArrays: reward must be an array, got undefined',
    );
    const arrays = trajectoryArrays(dream);
    expect(() => trajectoryFromArrays({ ...arrays, obs: dream.action })).toThrow(
      'trajectoryFromArrays: obs must have shape [4,5,3], got [4,4,3]',
    );
    expect(() => trajectoryFromArrays({ ...arrays, mask: dream.reward })).toThrow(
      'trajectoryFromArrays: mask must be a Uint8Array, got a [4,4] view of Float32Array',
    );
    expect(() => trajectoryFromArrays({ ...arrays, length: new Int32Array(3) })).toThrow(
      'length must have shape [4], got [3]',
    );
  });

  test.each([-1, 5])('a row of %d steps of 4 is refused', (steps) => {
    const arrays = { ...trajectoryArrays(dream), length: Int32Array.of(3, steps, 1, 0) };
    expect(() => trajectoryFromArrays(arrays)).toThrow(RangeError);
    expect(() => trajectoryFromArrays(arrays)).toThrow(
      `trajectoryFromArrays: length must lie in 0..4, got ${steps} at 1`,
    );
  });

  test('a mask that does not fit the lengths is refused', () => {
    const arrays = { ...trajectoryArrays(dream), length: Int32Array.of(3, 3, 1, 0) };
    expect(() => trajectoryFromArrays(arrays)).toThrow(RangeError);
    expect(() => trajectoryFromArrays(arrays)).toThrow(
      'trajectoryFromArrays: mask must be 0 at [1, 3] of a row of 3 steps, got 1',
    );
    const none = { ...arrays, mask: nd(new Uint8Array(16), [4, 4]) };
    expect(() => trajectoryFromArrays(none)).toThrow(
      'mask must be 1 at [0, 0] of a row of 3 steps',
    );
    const loud = {
      ...trajectoryArrays(dream),
      mask: nd(
        dream.mask.data.map((x) => 2 * x),
        [4, 4],
      ),
    };
    expect(() => trajectoryFromArrays(loud)).toThrow('mask must be 1 at [0, 0]');
  });
});

describe('flattenArrays', () => {
  test('joins names by dots, and unflattenArrays parts them', () => {
    const reward = new Float32Array(2);
    const nested = { obs: nd([[1]]), next: { reward, info: { step: reward } }, none: undefined };
    const flat = flattenArrays(nested);
    expect(Object.keys(flat)).toEqual(['obs', 'next.reward', 'next.info.step']);
    expect(flat['next.reward']).toBe(reward);
    const { none: _, ...present } = nested;
    expect(structuredClone(unflattenArrays(flat))).toEqual(present);
  });

  test('names that would be lost are refused', () => {
    expect(() => flattenArrays({ 'a.b': new Float32Array(1) })).toThrow("got 'a.b'");
    expect(() => flattenArrays({ a: 3 })).toThrow('a must be a view, a typed array or an object');
    const a = new Float32Array(1);
    expect(() => unflattenArrays({ a, 'a.b': a })).toThrow("got 'a.b'");
    expect(() => unflattenArrays({ 'a.b': a, a })).toThrow("got 'a'");
    expect(Object.keys(unflattenArrays({ '__proto__.x': a }))).toEqual(['__proto__']);
  });

  test('a name is a name, whatever objects are made of', () => {
    const array = Float32Array.of(1);
    const flat = flattenArrays(Object.fromEntries([['__proto__', array]]));
    expect(Object.keys(flat)).toEqual(['__proto__']);
    expect(Object.entries(flat)[0][1]).toBe(array);
    expect(Object.entries(unflattenArrays(flat))).toEqual([['__proto__', array]]);
  });

  test('what is no array, nor an object of them, is refused', () => {
    const calls: [() => unknown, string][] = [
      [() => flattenArrays(null as never), 'flattenArrays: arrays must be an object of arrays'],
      [() => flattenArrays(nd([1])), 'by name, got a [1] view of Float32Array'],
      [() => unflattenArrays(null as never), 'unflattenArrays: arrays must be an object of arrays'],
      [
        () => unflattenArrays({ a: 5 } as never),
        'unflattenArrays: a must be a view or a typed array, got number',
      ],
    ];
    for (const [call, message] of calls) {
      expect(call).toThrow(TypeError);
      expect(call).toThrow(message);
    }
  });
});
