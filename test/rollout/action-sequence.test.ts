import { imagine, type NdView, nd, ShapeError, zeros } from 'umwelt';
import { actionSequence, meanOverParticles, repeatRows } from 'umwelt/rollout';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';
import { ids } from '../support/models.js';

const sums = ({ data, shape: [rows, steps] }: NdView) =>
  Float32Array.from({ length: rows }, (_, row) =>
    data.subarray(row * steps, (row + 1) * steps).reduce((a, b) => a + b, 0),
  );

describe('actionSequence', () => {
  const actions = nd([
    [[1], [2], [3], [4]],
    [[5], [6], [7], [8]],
    [[9], [1], [2], [3]],
  ]);
  const start = nd([[0], [100], [0]]);

  test('takes the actions of each row in their order, compacted or not', async () => {
    for (const compact of [true, false]) {
      // The second row ends at once, so that the third moves up.
      const world = lineWorld({ end: 105 });
      const dream = await imagine(world, actionSequence(actions), {
        start,
        horizon: 4,
        seed: 0,
        compact,
      }).collect();
      expect([...dream.action.data]).toEqual([1, 2, 3, 4, 5, 0, 0, 0, 9, 1, 2, 3]);
    }
  });

  test('goes on from a carry where it stopped', async () => {
    const world = lineWorld({ end: 105 });
    const policy = actionSequence(actions);
    const first = imagine(world, policy, { start, horizon: 2, seed: 0 });
    await first.collect();
    const rest = await imagine(world, policy, { start: first.carry, horizon: 2 }).collect();
    expect([...rest.action.data]).toEqual([3, 4, 2, 3]);
  });

  test('knows its rows where a start is left out because it is not finite', async () => {
    const odd = nd([[Number.NaN], [0], [0]]);
    const dream = await imagine(lineWorld(), actionSequence(actions), {
      start: odd,
      horizon: 2,
      seed: 0,
    }).collect();
    expect([...dream.action.data]).toEqual([0, 0, 5, 6, 9, 1]);
  });

  test('lasts longer where actions are held', async () => {
    const dream = await imagine(lineWorld(), actionSequence(nd([[[1], [2]]])), {
      start: nd([[0]]),
      horizon: 4,
      actionRepeat: 2,
      seed: 0,
    }).collect();
    expect([...dream.action.data]).toEqual([1, 1, 2, 2]);
  });

  test('reads strided actions, and copies them', async () => {
    const swapped = {
      data: Float32Array.of(1, 5, 2, 6),
      shape: [2, 2, 1],
      stride: [1, 2, 1],
      offset: 0,
    };
    const policy = actionSequence(swapped);
    swapped.data.fill(Number.NaN);
    const options = { start: nd([[0], [0]]), horizon: 2, seed: 0 };
    const dream = await imagine(lineWorld(), policy, options).collect();
    expect([...dream.action.data]).toEqual([1, 2, 5, 6]);
  });

  test('refuses to go past its end, naming the horizon', async () => {
    const rollout = imagine(lineWorld(), actionSequence(actions), { start, horizon: 5, seed: 0 });
    await expect(rollout.collect()).rejects.toThrow(
      'horizon must be at most 4, the length of the sequences, got step 4',
    );
  });

  test('refuses a start of another number of rows', async () => {
    const policy = actionSequence(actions, { particles: 2 });
    const rollout = imagine(lineWorld(), policy, { start, horizon: 1, seed: 0 });
    await expect(rollout.collect()).rejects.toThrow(
      'start must have 6 rows, 2 for each of the 3 sequences, got 3; repeat it with repeatRows()',
    );
  });

  test('refuses the memory of another policy', async () => {
    const world = lineWorld();
    const remembers = (obs: NdView) => ({ action: zeros(obs.shape), state: obs });
    const first = imagine(world, remembers, { start, horizon: 1, seed: 0 });
    await first.collect();
    const next = imagine(world, actionSequence(actions), { start: first.carry, horizon: 1 });
    await expect(next.collect()).rejects.toThrow('got the memory of another policy');
    const plain = imagine(world, constantly(1), { start, horizon: 1, seed: 0 });
    await plain.collect();
    const after = imagine(world, actionSequence(actions), { start: plain.carry, horizon: 1 });
    expect([...(await after.collect()).action.data]).toEqual([1, 5, 9]);
  });

  test('refuses arrays that are no sequences', () => {
    expect(() => actionSequence(nd([[1]]))).toThrow(ShapeError);
    expect(() => actionSequence(nd(new Float64Array(2), [1, 2, 1]) as never)).toThrow(TypeError);
    expect(() => actionSequence(actions, { particles: 0 })).toThrow('particles must be a positive');
    expect(() => actionSequence(actions, { particle: 2 } as never)).toThrow("got 'particle'");
  });
});

describe('particles', () => {
  test('follow the sequence that they are copies for, each with noise of its own', async () => {
    const dream = await imagine(
      lineWorld({ sigma: 1 }),
      actionSequence(nd([[[1]], [[-1]]]), { particles: 3 }),
      { start: repeatRows(nd([[0], [5]]), 3), horizon: 1, seed: 6 },
    ).collect();
    expect([...dream.action.data]).toEqual([1, 1, 1, -1, -1, -1]);
    expect(new Set(dream.reward.data).size).toBe(6);
  });

  test('average to the value of a sequence: the ending step counts, nothing after it', async () => {
    // x' = x + a + noise, paid 10 x', ended where x' >= 3.
    const [particles, horizon, end, seed] = [4, 3, 3, 11];
    const plans = [
      [1, 1, 1],
      [2, 0, -1],
    ];
    const world = lineWorld({ sigma: 0.5, end });
    const actions = nd(plans.map((plan) => plan.map((a) => [a])));
    const dream = await imagine(world, actionSequence(actions, { particles }), {
      start: repeatRows(nd([[0], [0]]), particles),
      horizon,
      seed,
    }).collect();
    const noise = [0, 1, 2].map((step) => new RowNoise(seed, Stream.model, step, ids(8)).normal(1));
    const expected = plans.map((plan, b) => {
      let total = 0;
      for (let p = 0; p < particles; p++) {
        let x = 0;
        for (let t = 0; t < horizon; t++) {
          x = Math.fround(x + plan[t] + 0.5 * noise[t].data[b * particles + p]);
          total += Math.fround(10 * x);
          if (x >= end) break;
        }
      }
      return total / particles;
    });
    expect(meanOverParticles(sums(dream.reward), particles)).toBeAllclose(expected, { rtol: 1e-6 });
    // Some ended early and some did not, or the claim would be about less.
    expect(new Set(dream.length).size).toBeGreaterThan(1);
  });

  test('are averaged row by row, in float64 and in the form that came', () => {
    const view = nd([
      [1, 2],
      [3, 6],
      [5, 5],
      [7, 5],
    ]);
    expect(meanOverParticles(view, 2)).toEqual(
      nd([
        [2, 4],
        [6, 5],
      ]),
    );
    // In float32 the ones would be lost: 2^24 + 1 is 2^24.
    expect(meanOverParticles(Float32Array.of(2 ** 24, 1, 1, -(2 ** 24)), 4)).toEqual(
      Float32Array.of(0.5),
    );
    expect(() => meanOverParticles(view, 3)).toThrow('must have a multiple of 3 rows, got 4');
    expect(() => meanOverParticles([1, 2] as never, 2)).toThrow(TypeError);
  });

  test('are made of any view', () => {
    expect(repeatRows(nd(Int32Array.of(3, 4)), 2)).toEqual(nd(Int32Array.of(3, 3, 4, 4)));
    expect(() => repeatRows(nd([1]), 0)).toThrow('times must be a positive integer, got 0');
    expect(() => repeatRows([1] as never, 2)).toThrow(TypeError);
  });
});
