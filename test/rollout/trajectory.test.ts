import { unzipSync } from 'fflate';
import { imagine, maxPairwiseDifference, nd } from 'umwelt';
import { writeNpz } from 'umwelt/formats';
import { expect, test } from 'vitest';
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
