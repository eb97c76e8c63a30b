import * as ort from 'onnxruntime-node';
import {
  EnsembleDynamics,
  imagine,
  maxAleatoric,
  NetworkPolicy,
  nd,
  type Trajectory,
} from 'umwelt';
import type { TerminationFunction } from 'umwelt/dynamics';
import type { ImagineOptions } from 'umwelt/rollout';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { gatherRows, type NdView } from '../../src/nd.js';
import { HOPPER_ENSEMBLE, HOPPER_POLICY, hopperStarts, ids } from '../support/models.js';

/** Ends about half of the rows within the horizon: where the hopper sinks far enough. */
const halfway: TerminationFunction = ({ nextObs }) =>
  Uint8Array.from({ length: nextObs.shape[0] }, (_, row) => (nextObs.data[row * 11] < LOW ? 1 : 0));

let LOW = Number.NEGATIVE_INFINITY;
let model: EnsembleDynamics;
let policy: NetworkPolicy;
const start = hopperStarts();
const ROWS = 256;
const HORIZON = 20;

beforeAll(async () => {
  model = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE);
  policy = await NetworkPolicy.load(ort, HOPPER_POLICY);
  // The median over the rows of how low each sinks, so that both outcomes are common.
  const dream = await run();
  const lowest = Array.from({ length: ROWS }, (_, row) =>
    Math.min(...Array.from(ids(HORIZON), (t) => dream.obs.data[(row * 21 + t + 1) * 11])),
  );
  LOW = lowest.sort((a, b) => a - b)[ROWS / 2];
});

afterAll(async () => {
  await model.dispose();
  await policy.dispose();
});

function run(options: Partial<ImagineOptions<never>> = {}, rows?: Int32Array): Promise<Trajectory> {
  return imagine(model, policy, {
    start: rows === undefined ? start : gatherRows(start, rows),
    trajectory: rows === undefined ? ids(ROWS) : Uint32Array.from(rows),
    horizon: HORIZON,
    seed: 2026,
    terminate: halfway,
    ...options,
  }).collect();
}

/** Every array of some trajectories, rows in the order given, as one list of typed arrays. */
function arraysOf(
  trajectories: readonly Trajectory[],
  order: Int32Array = Int32Array.from(ids(ROWS)),
) {
  const names = [
    'obs',
    'action',
    'reward',
    'rawReward',
    'terminated',
    'truncated',
    'mask',
    'discount',
    'member',
    'logProb',
  ] as const;
  return Object.fromEntries(
    names.map((name) => {
      const parts = trajectories.map((trajectory) => trajectory[name] as NdView);
      const whole = nd(Float32Array.from(parts.flatMap(({ data }) => [...data])), [
        ROWS,
        ...parts[0].shape.slice(1),
      ]);
      return [name, gatherRows(whole, order).data];
    }),
  );
}

function expectSameBits(
  got: readonly Trajectory[],
  expected: Trajectory,
  order?: Int32Array,
): void {
  const a = arraysOf(got, order);
  const b = arraysOf([expected]);
  for (const name of Object.keys(b)) expect(a[name], name).toBeBitEqual(b[name]);
}

describe('the same seed gives the same bits on one thread of Node’s CPU', () => {
  test('and ends some rows early, so that the claims below are about something', async () => {
    const dream = await run();
    const early = dream.length.filter((length) => length < HORIZON).length;
    expect(early).toBeGreaterThan(ROWS / 4);
    expect(early).toBeLessThan(ROWS);
    expect(new Set(dream.member.data).size).toBe(6);
  });

  test('twice', async () => {
    expectSameBits([await run()], await run());
  });

  test('as 8 batches of 32', async () => {
    const parts: Trajectory[] = [];
    for (let first = 0; first < ROWS; first += 32) {
      parts.push(await run({}, Int32Array.from(ids(32, first))));
    }
    expectSameBits(parts, await run());
  });

  test('as uneven batches: 1, 7, 16, 33 and 199 rows', async () => {
    const parts: Trajectory[] = [];
    let first = 0;
    for (const rows of [1, 7, 16, 33, 199]) {
      parts.push(await run({}, Int32Array.from(ids(rows, first))));
      first += rows;
    }
    expectSameBits(parts, await run());
  });

  test('in reversed row order', async () => {
    const reversed = Int32Array.from(ids(ROWS)).reverse();
    expectSameBits([await run({}, reversed)], await run(), reversed);
  });

  test('with finished rows taken out or stepped along', async () => {
    expectSameBits([await run({ compact: false })], await run());
  });

  test('with each row on its own member or all members on every row', async () => {
    const scored = await run({ penalty: { score: maxAleatoric(), coefficient: 0 } });
    expectSameBits([scored], await run());
    expect(scored.uncertainty.data.some((value) => value > 0)).toBe(true);
  });

  test('in network calls of any size', async () => {
    await using chunked = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE, { chunkRows: 48 });
    const dream = await imagine(chunked, policy, {
      start,
      horizon: HORIZON,
      seed: 2026,
      terminate: halfway,
    }).collect();
    expectSameBits([dream], await run());
  });

  test('when two rollouts take turns', async () => {
    const [a, b] = await Promise.all([run(), run({ seed: 1 })]);
    expectSameBits([a], await run());
    expectSameBits([b], await run({ seed: 1 }));
  });

  test('when stopped and gone on from the carry', async () => {
    const first = imagine(model, policy, { start, horizon: 8, seed: 2026, terminate: halfway });
    const before = await first.collect();
    const after = await imagine(model, policy, {
      start: first.carry,
      horizon: HORIZON - 8,
      terminate: halfway,
    }).collect();
    const whole = await run();
    for (const [i, row] of first.carry.row.entries()) {
      const tail = after.obs.data.slice(i * 13 * 11, (i + 1) * 13 * 11);
      const expected = whole.obs.data.slice((row * 21 + 8) * 11, (row + 1) * 21 * 11);
      expect(tail).toBeBitEqual(expected);
    }
    expect(before.obs.data.slice(0, 11)).toBeBitEqual(whole.obs.data.slice(0, 11));
  });
});

test('another seed gives another dream', async () => {
  const [a, b] = [await run({ seed: 1 }), await run({ seed: 2 })];
  expect(a.obs.data).not.toEqual(b.obs.data);
});

test('padRows 1 changes no more than rounding', async () => {
  await using unpadded = await EnsembleDynamics.load(ort, HOPPER_ENSEMBLE, { padRows: 1 });
  const options = { start, horizon: 1, seed: 2026 };
  const exact = await imagine(model, policy, options).collect();
  const quick = await imagine(unpadded, policy, options).collect();
  expect(quick.member.data).toEqual(exact.member.data);
  expect(quick.obs.data).toBeAllclose(exact.obs.data, { rtol: 1e-5, atol: 1e-5 });
});
