import { imagine, type NdView, nd } from 'umwelt';
import {
  type DatasetProgress,
  readD4rl,
  readMinariTransitions,
  type TransitionChunk,
  writeD4rl,
  writeMinari,
} from 'umwelt/formats/hdf5';
import { ReplayBuffer, UniformSampler } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';

describe('a replay buffer', () => {
  test('takes a whole trajectory and keeps its episodes apart', async () => {
    const dream = await imagine(lineWorld({ end: 7 }), constantly(1), {
      start: nd([[5], [0], [2]]),
      horizon: 3,
      seed: 0,
    }).collect();
    const buffer = new ReplayBuffer({
      capacity: 20,
      schema: {
        obs: { dtype: 'float32', shape: [1] },
        action: { dtype: 'float32', shape: [1] },
        reward: 'float32',
        nextObs: { dtype: 'float32', shape: [1] },
        terminated: 'uint8',
        truncated: 'uint8',
        penalty: 'float32',
      },
    });
    const transitions = dream.transitions();
    buffer.addTrajectory(transitions);
    expect(buffer.size).toBe(8);
    expect([...buffer.episodes().length]).toEqual([2, 3, 3]);
    const all = buffer.get(Int32Array.from({ length: 8 }, (_, i) => i));
    expect(all.obs).toEqual(transitions.obs);
    expect(all.nextObs).toEqual(transitions.nextObs);
    expect(all.reward).toEqual(transitions.reward);
    const { index } = new UniformSampler(buffer).sample(4, 1);
    expect(buffer.get(index).reward).toHaveLength(4);
  });
});

const schemaOf = (obs: number, action: number) =>
  ({
    obs: { dtype: 'float32', shape: [obs] },
    action: { dtype: 'float32', shape: [action] },
    reward: 'float32',
    nextObs: { dtype: 'float32', shape: [obs] },
    terminated: 'uint8',
    truncated: 'uint8',
  }) as const;

describe('a dataset file streams into a replay buffer', () => {
  const dreamt = async () => {
    const dream = await imagine(lineWorld({ end: 7, sigma: 0.1 }), constantly(1), {
      start: nd([[5], [0], [2], [-1]]),
      horizon: 6,
      seed: 0,
    }).collect();
    return dream.transitions();
  };

  async function fill(chunks: AsyncIterable<TransitionChunk<NdView, NdView>>) {
    const buffer = new ReplayBuffer({ capacity: 100, schema: schemaOf(1, 1) });
    for await (const chunk of chunks) buffer.addBatch(chunk);
    return buffer;
  }

  test('from D4RL, in chunks, with progress', async () => {
    const transitions = await dreamt();
    const rows = transitions.reward.length;
    const seen: DatasetProgress[] = [];
    const file = await writeD4rl(transitions);
    const buffer = await fill(
      readD4rl(file, { chunkSize: 7, onProgress: (progress) => seen.push(progress) }),
    );
    expect(buffer.get(Int32Array.from(transitions.startIndex, (_, i) => i))).toEqual({
      obs: transitions.obs,
      action: transitions.action,
      reward: transitions.reward,
      nextObs: transitions.nextObs,
      terminated: transitions.terminated,
      truncated: transitions.truncated,
    });
    expect(buffer.episodes().start).toHaveLength(4);
    expect(seen.map(({ done }) => done)).toEqual([7, 14, rows, rows]);
    expect(seen.at(-1)).toEqual({ status: 'done', done: rows, total: rows });
  });

  test('from Minari, episode by episode', async () => {
    const { reward, obs, action, nextObs, terminated, truncated, startIndex } = await dreamt();
    const episodes = [0, 1, 2, 3].map((start) => {
      const first = startIndex.indexOf(start);
      const end = startIndex.lastIndexOf(start) + 1;
      const length = end - first;
      const last = nextObs.data.slice(end - 1, end);
      return {
        observations: nd(Float32Array.of(...obs.data.slice(first, end), ...last), [length + 1, 1]),
        actions: nd(action.data.slice(first, end), [length, 1]),
        rewards: reward.slice(first, end),
        terminations: terminated.slice(first, end),
        truncations: truncated.slice(first, end),
      };
    });
    const files = await writeMinari(episodes, { datasetId: 'line/dream-v0' });
    const buffer = await fill(readMinariTransitions<NdView, NdView>(files['main_data.hdf5']));
    const all = buffer.get(Int32Array.from(startIndex, (_, i) => i));
    expect(all.obs).toEqual(obs);
    expect(all.nextObs).toEqual(nextObs);
    expect(all.terminated).toEqual(terminated);
    expect([...buffer.episodes().length]).toEqual(episodes.map(({ rewards }) => rewards.length));
  });
});
