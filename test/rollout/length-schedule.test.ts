import {
  type LengthScheduleSpec,
  lengthSchedule,
  mbpoSchedules,
  modelBufferCapacity,
} from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';

describe('lengthSchedule', () => {
  test('is linear between its ends and rounded down', () => {
    // [int(1 + min(max((e - 20) / 130, 0), 1) * 14) for e in (1, 20, 30, 100, 150, 200)]
    const length = lengthSchedule([20, 150, 1, 15]);
    expect([1, 20, 30, 100, 150, 200].map(length)).toEqual([1, 1, 2, 9, 15, 15]);
  });

  test('reaches each length of Hopper at the epoch it does in MBPO', () => {
    const length = lengthSchedule(mbpoSchedules.hopper);
    const epochs = Array.from({ length: 200 }, (_, epoch) => epoch);
    const first = Array.from({ length: 15 }, (_, i) => epochs.find((e) => length(e) === i + 1));
    expect(first).toEqual([0, 30, 39, 48, 58, 67, 76, 85, 95, 104, 113, 123, 132, 141, 150]);
  });

  test('has the schedules of the five tasks', () => {
    const ends = Object.entries(mbpoSchedules).map(([task, spec]) => {
      const length = lengthSchedule(spec);
      return [task, length(0), length(60), length(1000)];
    });
    expect(ends).toEqual([
      ['hopper', 1, 5, 15],
      ['walker2d', 1, 1, 1],
      ['halfcheetah', 1, 1, 1],
      ['ant', 1, 13, 25],
      ['humanoid', 1, 4, 25],
    ]);
  });

  test('may fall', () => {
    const length = lengthSchedule([0, 4, 5, 1]);
    expect([0, 1, 2, 3, 4, 5].map(length)).toEqual([5, 4, 3, 2, 1, 1]);
  });

  test.each<[string, LengthScheduleSpec]>([
    ['one epoch', [20, 20, 1, 15]],
    ['a last epoch before the first', [30, 20, 1, 15]],
  ])('is a step for %s', (_, spec) => {
    expect([0, 19, 20, 30, 31].map(lengthSchedule(spec))).toEqual([1, 1, 15, 15, 15]);
  });

  test('refuses what is no schedule', () => {
    expect(() => lengthSchedule([20, 150, 1] as never)).toThrow(
      'lengthSchedule: spec must be [firstEpoch, lastEpoch, firstLength, lastLength], got [20,150,1]',
    );
    expect(() => lengthSchedule([0, Number.NaN, 1, 2])).toThrow('epochs must be finite numbers');
    expect(() => lengthSchedule([0, 1, 0, 2])).toThrow('lengths must be positive integers, got 0');
    expect(() => lengthSchedule([0, 1, 1, 2.5])).toThrow('got 2.5');
    expect(() => lengthSchedule([0, 1, 1, 2])(Number.NaN)).toThrow('epoch must be a number');
  });
});

describe('modelBufferCapacity', () => {
  test('holds what the retained epochs can make', () => {
    expect(
      modelBufferCapacity({ rows: 50_000, length: 5, roundsPerEpoch: 1, retainEpochs: 5 }),
    ).toBe(1_250_000);
  });

  test('refuses what no buffer holds, and what is no count', () => {
    const rounds = { rows: 100_000, length: 100, roundsPerEpoch: 4 };
    expect(() => modelBufferCapacity({ ...rounds, retainEpochs: 100 })).toThrow(
      'the capacity must be at most 2^30 rows, got 4000000000; retain fewer epochs',
    );
    expect(() => modelBufferCapacity({ ...rounds, rows: 0 })).toThrow(
      'rows must be a positive integer, got 0',
    );
    expect(() => modelBufferCapacity({ ...rounds, retain: 2 } as never)).toThrow("got 'retain'");
  });
});
