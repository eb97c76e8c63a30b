import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readD4rl, writeD4rl } from '../../src/formats/d4rl.js';
import type { DatasetProgress, Fields, TransitionChunk } from '../../src/formats/dataset.js';
import { FormatError } from '../../src/formats/format-error.js';
import {
  type MinariEpisode,
  type MinariEpisodeInput,
  readMinari,
  readMinariTransitions,
  writeMinari,
} from '../../src/formats/minari.js';
import { isTypedArray, type NdView, nd, ShapeError, type TypedArray, zeros } from '../../src/nd.js';
import { Trajectory } from '../../src/rollout/trajectory.js';
import { type ExpectedArray, expected, fixture, survive, told } from './fixtures.js';

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** Fields as expected.json tells arrays, by path. */
function toldFields(path: string, fields: Fields): Record<string, ExpectedArray> {
  if (isTypedArray(fields)) return { [path]: told(nd(fields)) };
  if (isTypedArray(fields.data)) return { [path]: told(fields as NdView<TypedArray>) };
  const entries = Object.entries(fields as Record<string, Fields>);
  return Object.assign({}, ...entries.map(([name, value]) => toldFields(`${path}/${name}`, value)));
}

function toldEpisode(episode: MinariEpisode): Record<string, ExpectedArray> {
  const root = `episode_${episode.id}`;
  return {
    ...toldFields(`${root}/observations`, episode.observations),
    ...toldFields(`${root}/actions`, episode.actions),
    ...toldFields(`${root}/rewards`, nd(episode.rewards)),
    ...toldFields(`${root}/terminations`, nd(episode.terminations)),
    ...toldFields(`${root}/truncations`, nd(episode.truncations)),
    ...(episode.infos && toldFields(`${root}/infos`, episode.infos)),
  };
}

async function refusal(items: AsyncIterable<unknown>): Promise<string> {
  try {
    await all(items);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).format).toBe('hdf5');
    return (error as FormatError).message;
  }
  throw new Error('it was read');
}

const words = new Uint32Array([0x7fc00001, 0xffa00000, 0x80000000, 1, 0x7f800001, 6]);

const episode = (steps: number, value = 0): MinariEpisodeInput => ({
  observations: nd(new Float32Array((steps + 1) * 2).fill(value), [steps + 1, 2]),
  actions: zeros([steps, 1]),
  rewards: new Float32Array(steps),
  terminations: new Uint8Array(steps),
  truncations: new Uint8Array(steps),
});

const written = async (episodes: MinariEpisodeInput[]): Promise<Uint8Array> =>
  (await writeMinari(episodes, { datasetId: 'a-v0' }))['main_data.hdf5'];

const rows = (view: NdView<TypedArray>): number => view.shape[0];

describe('readMinari', () => {
  it('reads what Minari wrote, bit for bit', async () => {
    const episodes = await all(readMinari(fixture('minari.hdf5'), { infos: true }));
    expect(Object.assign({}, ...episodes.map(toldEpisode))).toEqual(expected['minari.hdf5']);
    expect(episodes.map(({ id, seed }) => [id, seed])).toEqual([
      [0, 7],
      [1, undefined],
    ]);
    expect([...episodes[0].terminations]).toEqual([0, 0, 1]);
    expect([...episodes[1].truncations]).toEqual([0, 1]);
  });

  it('leaves infos out unless asked', async () => {
    for (const item of await all(readMinari(fixture('minari.hdf5')))) {
      expect(item.infos).toBeUndefined();
    }
  });

  it('reads from a path and from parts on demand', async () => {
    const bytes = fixture('minari.hdf5');
    const wanted = (await all(readMinari(bytes))).map(toldEpisode);
    const path = fileURLToPath(new URL('../fixtures/formats/minari.hdf5', import.meta.url));
    expect((await all(readMinari(path))).map(toldEpisode)).toEqual(wanted);
    let most = 0;
    const parts = {
      size: bytes.length,
      read(target: Uint8Array, position: number): number {
        most = Math.max(most, target.length);
        const part = bytes.subarray(position, position + target.length);
        target.set(part);
        return part.length;
      },
    };
    expect((await all(readMinari(parts))).map(toldEpisode)).toEqual(wanted);
    expect(most).toBeLessThan(bytes.length);
  });

  it('passes on the error of a read that fails', async () => {
    const failing = {
      size: 1000,
      read(): number {
        throw new Error('the disk is gone');
      },
    };
    await expect(all(readMinari(failing))).rejects.toThrow('the disk is gone');
    await expect(all(readMinari('/no/such/file.hdf5'))).rejects.toThrow('ENOENT');
  });

  it('gives episodes in the order of their numbers', async () => {
    const bytes = await written(Array.from({ length: 12 }, (_, i) => episode(1, i)));
    const ids = (await all(readMinari(bytes))).map(({ id }) => id);
    expect(ids).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it('tells its progress, and stops at a signal', async () => {
    const seen: DatasetProgress[] = [];
    const onProgress = (progress: DatasetProgress): void => {
      seen.push(progress);
    };
    await all(readMinari(fixture('minari.hdf5'), { onProgress }));
    expect(seen).toEqual([
      { status: 'reading', done: 1, total: 2 },
      { status: 'reading', done: 2, total: 2 },
      { status: 'done', done: 2, total: 2 },
    ]);
    const controller = new AbortController();
    const items = readMinari(fixture('minari.hdf5'), { signal: controller.signal });
    await items.next();
    controller.abort(new Error('enough'));
    await expect(items.next()).rejects.toThrow('enough');
  });

  it('reads two files at a time, and leaves one early', async () => {
    const first = readMinari(fixture('minari.hdf5'));
    const second = readMinari(await written([episode(4)]));
    await first.next();
    expect((await second.next()).value?.rewards).toHaveLength(4);
    await first.return();
    expect((await second.next()).done).toBe(true);
  });

  it('refuses what is not of its layout, by name', async () => {
    expect(await refusal(readMinari(fixture('refused.hdf5')))).toBe(
      'readMinari: "/episode_0/observations" must hold bool, integers, float32 or float64, got ' +
        'HDF5 type class 3 of 4 bytes; text and JPEG images are not read',
    );
    expect(await refusal(readMinari(fixture('external.hdf5')))).toBe(
      'readMinari: "/episode_0/rewards" must be a group or a dataset of this file',
    );
    expect(await refusal(readMinari(fixture('d4rl.hdf5')))).toContain(
      'the file must hold groups episode_0, episode_1, ..., got "actions"',
    );
    expect(await refusal(readMinari(fixture('stored.npz')))).toBe(
      'readMinari: the file must be HDF5: file signature not found',
    );
    expect(await refusal(readMinari(fixture('minari.hdf5'), { maxBytes: 20 }))).toContain(
      'must have at most 20 bytes at once',
    );
    // @ts-expect-error numbers are no file
    await expect(all(readMinari([1, 2]))).rejects.toThrow(TypeError);
    await expect(all(readMinari(new Uint8Array(0), { maxBytes: -1 }))).rejects.toThrow(RangeError);
  });

  it('refuses links that lead to one group in too many ways, in time', async () => {
    expect(await refusal(readMinari(fixture('ladder.hdf5')))).toContain(
      'an episode must have at most 1000 arrays, got more at "/episode_0/observations/',
    );
  });

  it('refuses truncations', async () => {
    const bytes = fixture('minari.hdf5');
    for (const part of [0, 8, 100, 0.5, 0.9]) {
      const length = part < 1 ? Math.floor(part * bytes.length) : part;
      await refusal(readMinari(bytes.subarray(0, length)));
    }
  });
});

describe('readMinariTransitions', () => {
  it('pairs each observation with the next, in the types of a trajectory', async () => {
    const [raw] = await all(readMinari(fixture('minari.hdf5')));
    type Obs = { observation: NdView; image: NdView<Uint8Array> };
    const [chunk] = await all(readMinariTransitions<Obs, Int32Array>(fixture('minari.hdf5')));
    const stored = (raw.observations as Record<string, NdView<TypedArray>>).observation;
    const floats = Float32Array.from(stored.data as Float64Array);
    const { observation: obs, image } = chunk.obs;
    const { observation: nextObs } = chunk.nextObs;
    expect(obs.shape).toEqual([3, 3]);
    expect(obs.data).toBeBitEqual(floats.slice(0, 9));
    expect(nextObs.data).toBeBitEqual(floats.slice(3));
    expect(image.data).toBeInstanceOf(Uint8Array);
    expect(chunk.action).toBeBitEqual(new Int32Array([1, 1, 2]));
    expect(chunk.reward).toBeBitEqual(Float32Array.from(raw.rewards as Float64Array));
    expect([...chunk.terminated, ...chunk.truncated]).toEqual([0, 0, 1, 0, 0, 0]);
  });

  it('refuses 64-bit integers that do not fit 32 bits', async () => {
    const actions = nd(new BigInt64Array([0n, 2n ** 31n]), [2]);
    const bytes = await written([{ ...episode(2), actions }]);
    expect(await refusal(readMinariTransitions(bytes))).toContain(
      'must fit 32 bits, got 2147483648 at element 1; read them with readMinari',
    );
    expect((await all(readMinari(bytes)))[0].actions).toEqual(actions.data);
  });
});

describe('writeMinari', () => {
  it('writes what readMinari reads, bit for bit', async () => {
    const long = new BigInt64Array([-(2n ** 63n), 2n ** 63n - 1n]);
    const input: MinariEpisodeInput = {
      seed: 2 ** 53 - 1,
      observations: {
        a: { data: new Float32Array(words.buffer), shape: [3, 2], stride: [1, 3], offset: 0 },
        nested: { 'b c': nd(new Float64Array([Number.NaN, -0, 5e-324]), [3]) },
        none: nd(new Float32Array(0), [3, 0]),
      },
      actions: long,
      rewards: new Float64Array([1, -0]),
      terminations: new Uint8Array([0, 1]),
      truncations: new Uint8Array([0, 0]),
      infos: { flag: new Uint8Array([0, 1, 0]) },
    };
    for (const compress of [false, true]) {
      const files = await writeMinari([input], { datasetId: 'a-v0', compress });
      const [back] = await all(readMinari(files['main_data.hdf5'], { infos: true }));
      expect(back.seed).toBe(2 ** 53 - 1);
      expect(toldEpisode(back)).toEqual({
        ...toldFields('episode_0/observations', input.observations as Fields),
        ...toldFields('episode_0/actions', nd(long)),
        ...toldFields('episode_0/rewards', nd(input.rewards)),
        ...toldFields('episode_0/terminations', nd(input.terminations)),
        ...toldFields('episode_0/truncations', nd(input.truncations)),
        ...toldFields('episode_0/infos/flag', nd(new Uint8Array([0, 1, 0]))),
      });
    }
  });

  it('writes episodes of any length, none included, as they come', async () => {
    async function* lazily(): AsyncGenerator<MinariEpisodeInput> {
      for (const steps of [0, 1, 300_000]) yield episode(steps);
    }
    const { 'main_data.hdf5': data } = await writeMinari(lazily(), { datasetId: 'a-v0' });
    const lengths = (await all(readMinari(data))).map(({ rewards }) => rewards.length);
    expect(lengths).toEqual([0, 1, 300_000]);
  });

  it('tells totals and spaces', async () => {
    const files = await writeMinari([episode(2), { ...episode(3), observations: zeros([4, 2]) }], {
      datasetId: 'hopper/dream-v0',
      actionSpace: '{"type": "Discrete", "n": 4, "start": 0}',
      metadata: { author: ['me'] },
    });
    expect(JSON.parse(Buffer.from(files['metadata.json']).toString())).toEqual({
      total_episodes: 2,
      total_steps: 5,
      data_format: 'hdf5',
      jpeg_encoding: false,
      observation_space:
        '{"type": "Box", "dtype": "float32", "shape": [2], ' +
        '"low": [-Infinity, -Infinity], "high": [Infinity, Infinity]}',
      action_space: '{"type": "Discrete", "n": 4, "start": 0}',
      dataset_id: 'hopper/dream-v0',
      minari_version: '0.5.4',
      dataset_size: 0,
      author: ['me'],
    });
  });

  it('refuses episodes whose parts disagree', async () => {
    const bad: [Partial<MinariEpisodeInput>, new (...args: never[]) => Error, string][] = [
      [
        { observations: zeros([2, 2]) },
        RangeError,
        'observations must have 3 rows, got shape [2,2]',
      ],
      [{ actions: zeros([3, 1]) }, RangeError, 'actions must have 2 rows, got shape [3,1]'],
      [{ observations: zeros([]) }, RangeError, 'observations must have 3 rows'],
      [{ terminations: new Uint8Array(1) }, RangeError, 'terminations must have 2 rows'],
      [
        { truncations: new Uint8Array([0, 2]) },
        RangeError,
        'truncations must be 0 or 1, got 2 at 1',
      ],
      [{ observations: { 'a/b': zeros([3]) } }, RangeError, 'without slashes, got "a/b"'],
      [{ observations: { '.': zeros([3]) } }, RangeError, 'without slashes, got "."'],
      [{ seed: 1.5 }, RangeError, 'seed must be an integer below 2^53, got 1.5'],
      // @ts-expect-error numbers have no type of their own
      [{ actions: [1, 2] }, TypeError, 'actions must be a view or named views, got an array'],
      // @ts-expect-error rewards are one array
      [{ rewards: zeros([2]) }, TypeError, 'rewards must be a typed array'],
      [
        { observations: { data: new Float32Array(2), shape: [3, 2], stride: [2, 1], offset: 0 } },
        ShapeError,
        'writeMinari: episode 0: observations must be a view within its 2 elements',
      ],
    ];
    for (const [part, ErrorClass, reason] of bad) {
      const writing = written([{ ...episode(2), ...part }]);
      await expect(writing, reason).rejects.toThrow(reason);
      await expect(written([{ ...episode(2), ...part }])).rejects.toBeInstanceOf(ErrorClass);
    }
    await expect(written([])).rejects.toThrow('give observationSpace and actionSpace');
  });
});

describe('readD4rl', () => {
  const part = (file: string, name: string): ExpectedArray => expected[file][name];

  it('reads every row where next observations are stored', async () => {
    const [chunk, ...more] = await all(readD4rl(fixture('d4rl.hdf5')));
    expect(more).toEqual([]);
    expect(told(chunk.obs)).toEqual(part('d4rl.hdf5', 'observations'));
    expect(told(chunk.action)).toEqual(part('d4rl.hdf5', 'actions'));
    expect(told(chunk.nextObs)).toEqual(part('d4rl.hdf5', 'next_observations'));
    expect(told(nd(chunk.reward))).toEqual(part('d4rl.hdf5', 'rewards'));
    expect([...chunk.terminated]).toEqual([0, 0, 1, 0, 0, 0, 0]);
    expect([...chunk.truncated]).toEqual([0, 0, 0, 0, 0, 1, 0]);
  });

  it('takes the next row where they are not, and leaves out rows that time out', async () => {
    // Terminal at 2, timeout at 5, end at 6: rows 5 and 6 have no next observation.
    const [whole] = await all(readD4rl(fixture('d4rl.hdf5')));
    const obs = whole.obs.data;
    const [chunk] = await all(readD4rl(fixture('d4rl-flat.hdf5')));
    expect(chunk.obs.shape).toEqual([5, 3]);
    expect(chunk.obs.data).toBeBitEqual(obs.slice(0, 15));
    expect(chunk.nextObs.data).toBeBitEqual(obs.slice(3, 18));
    expect(chunk.reward).toBeBitEqual(whole.reward.slice(0, 5));
    expect([...chunk.terminated]).toEqual([0, 0, 1, 0, 0]);
    expect([...chunk.truncated]).toEqual([0, 0, 0, 0, 1]);
  });

  it('counts steps where there are neither, and reads big-endian columns', async () => {
    const [whole] = await all(readD4rl(fixture('d4rl.hdf5')));
    const obs = whole.obs.data;
    // Limit 3: the terminal at 2 is also the limit; then 3 4 5, cut at 5; 6 is last.
    const [chunk] = await all(readD4rl(fixture('d4rl-first.hdf5'), { maxEpisodeSteps: 3 }));
    expect(chunk.obs.data).toBeBitEqual(
      Float32Array.from([...obs.slice(0, 6), ...obs.slice(9, 15)]),
    );
    expect(chunk.nextObs.data).toBeBitEqual(
      Float32Array.from([...obs.slice(3, 9), ...obs.slice(12, 18)]),
    );
    expect([...chunk.terminated]).toEqual([0, 0, 0, 0]);
    expect([...chunk.truncated]).toEqual([0, 1, 0, 1]);
    expect(await refusal(readD4rl(fixture('d4rl-first.hdf5')))).toContain('set maxEpisodeSteps');
  });

  it.each(['d4rl.hdf5', 'd4rl-flat.hdf5'])(
    'gives the same rows in any chunks: %s',
    async (file) => {
      const [whole] = await all(readD4rl(fixture(file)));
      for (let chunkSize = 1; chunkSize <= 8; chunkSize++) {
        const seen: number[] = [];
        const onProgress = ({ done, total }: DatasetProgress): void => {
          expect(total).toBe(7);
          seen.push(done);
        };
        const chunks = await all(readD4rl(fixture(file), { chunkSize, onProgress }));
        const joined = (
          pick: (chunk: TransitionChunk<NdView, NdView>) => ArrayLike<number>,
        ): number[] => chunks.flatMap((chunk) => Array.from(pick(chunk)));
        for (const chunk of chunks) expect(rows(chunk.obs)).toBeGreaterThan(0);
        for (const field of ['obs', 'action', 'nextObs'] as const) {
          expect(joined((chunk) => chunk[field].data)).toEqual([...whole[field].data]);
        }
        for (const field of ['reward', 'terminated', 'truncated'] as const) {
          expect(joined((chunk) => chunk[field])).toEqual([...whole[field]]);
        }
        expect(seen.at(-1)).toBe(7);
      }
    },
  );

  it('refuses arrays whose lengths disagree, and options out of range', async () => {
    expect(await refusal(readD4rl(fixture('minari.hdf5')))).toContain(
      'the file must have observations, got "episode_0, episode_1"',
    );
    expect(await refusal(readD4rl(fixture('d4rl.hdf5'), { maxBytes: 30 }))).toContain(
      '"/next_observations" must have at most 30 bytes at once, got 84',
    );
    for (const options of [{ chunkSize: 0 }, { chunkSize: 1.5 }, { maxEpisodeSteps: -1 }]) {
      await expect(all(readD4rl(fixture('d4rl.hdf5'), options))).rejects.toThrow(RangeError);
    }
  });
});

describe('writeD4rl', () => {
  it('writes the transitions of a trajectory, which readD4rl gives back', async () => {
    const trajectory = new Trajectory(2, 3, 2, 1);
    trajectory.length.set([3, 2]);
    (trajectory.obs.data as Float32Array).set(Array.from({ length: 16 }, (_, i) => i));
    trajectory.truncated.data.set([0, 0, 1, 0, 0, 0]);
    trajectory.terminated.data.set([0, 0, 0, 0, 1, 0]);
    const transitions = trajectory.transitions();
    for (const compress of [false, true]) {
      const [back] = await all(readD4rl(await writeD4rl(transitions, { compress })));
      for (const field of ['obs', 'action', 'nextObs'] as const) {
        expect(told(back[field])).toEqual(told(transitions[field]));
      }
      for (const field of ['reward', 'terminated', 'truncated'] as const) {
        expect(back[field]).toBeBitEqual(transitions[field]);
      }
    }
  });

  it('keeps every bit, and the types that chunks have', async () => {
    const transitions = {
      obs: { data: new Float32Array(words.buffer), shape: [3, 2], stride: [1, 3], offset: 0 },
      action: new Int8Array([-128, 0, 127]),
      reward: new Float32Array(words.buffer, 0, 3),
      nextObs: { data: new Float32Array(words.buffer), shape: [3, 2], stride: [-2, -1], offset: 5 },
      terminated: new Uint8Array([0, 1, 0]),
      truncated: new Uint8Array([1, 0, 0]),
    };
    const [back] = await all(readD4rl<NdView, Int8Array>(await writeD4rl(transitions)));
    for (const field of ['obs', 'nextObs'] as const) {
      expect(told(back[field])).toEqual(told(transitions[field]));
    }
    expect(back.action).toEqual(transitions.action);
    for (const field of ['reward', 'terminated', 'truncated'] as const) {
      expect(back[field]).toBeBitEqual(transitions[field]);
    }
  });

  it('writes arrays that disagree with each other as they are, which the reader tells', async () => {
    const bytes = await writeD4rl({
      obs: zeros([3, 2]),
      action: zeros([3, 1]),
      reward: new Float32Array(3),
      nextObs: zeros([3, 1]),
      terminated: new Uint8Array(3),
      truncated: new Uint8Array(3),
    });
    expect(await refusal(readD4rl(bytes))).toBe(
      'readD4rl: "/next_observations" must have shape [3,2], got [3,1]',
    );
  });

  it('refuses transitions whose parts disagree', async () => {
    const good = {
      obs: zeros([2, 1]),
      action: zeros([2, 1]),
      reward: new Float32Array(2),
      terminated: new Uint8Array(2),
      truncated: new Uint8Array(2),
    };
    await expect(writeD4rl({ ...good, obs: zeros([3, 1]) })).rejects.toThrow(
      'writeD4rl: obs must have 2 rows, got shape [3,1]',
    );
    await expect(writeD4rl({ ...good, terminated: new Uint8Array([0, 3]) })).rejects.toThrow(
      'writeD4rl: terminated must be 0 or 1, got 3 at 1',
    );
    // @ts-expect-error one value a row is a plain array
    await expect(writeD4rl({ ...good, reward: zeros([2]) })).rejects.toThrow(TypeError);
    // @ts-expect-error flags are uint8
    await expect(writeD4rl({ ...good, truncated: [0, 1] })).rejects.toThrow(TypeError);
  });
});

describe('hostile HDF5', () => {
  it('survives mutants as Minari and as D4RL', { timeout: 120_000 }, async () => {
    const maxBytes = 2 ** 20;
    const before = process.memoryUsage().rss;
    const tiny = await written([episode(2), episode(1)]);
    const minari = await survive([fixture('minari.hdf5'), tiny], 5_000, FormatError, (bytes) =>
      all(readMinari(bytes, { maxBytes, infos: true })),
    );
    const files = ['d4rl.hdf5', 'd4rl-flat.hdf5', 'external.hdf5'].map(fixture);
    const d4rl = await survive(files, 5_000, FormatError, (bytes) =>
      all(readD4rl(bytes, { maxBytes })),
    );
    for (const { read, refused, slowest } of [minari, d4rl]) {
      expect(read + refused).toBe(5_000);
      expect(refused).toBeGreaterThan(500);
      expect(slowest).toBeLessThan(5_000);
    }
    expect(minari.read).toBeGreaterThan(500);
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 30);
    // h5wasm still works after them.
    const episodes = await all(readMinari(fixture('minari.hdf5'), { infos: true }));
    expect(Object.assign({}, ...episodes.map(toldEpisode))).toEqual(expected['minari.hdf5']);
  });
});

describe('large files', () => {
  it('reads a path in parts, without the whole in memory', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'umwelt-hdf5-'));
    try {
      const path = join(folder, 'd4rl.hdf5');
      const count = 40_000;
      const obs = nd(
        Float32Array.from({ length: count * 8 }, (_, i) => i),
        [count, 8],
      );
      const flags = new Uint8Array(count);
      const reward = new Float32Array(count);
      const bytes = await writeD4rl({
        obs,
        action: zeros([count, 1]),
        reward,
        terminated: flags,
        truncated: flags,
      });
      writeFileSync(path, bytes);
      let sum = 0;
      for await (const chunk of readD4rl(path, { chunkSize: 1_000 })) sum += rows(chunk.obs);
      expect(sum).toBe(count - 1);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
