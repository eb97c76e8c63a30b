/** Random batches of steps, views that lie oddly in memory, and a slow reference for returns. */

import fc from 'fast-check';
import { type NdView, nd } from 'umwelt';
import { Trajectory } from 'umwelt/rollout';

/** A batch in departure alignment, with plain rows for references. */
export interface Case {
  reward: number[][];
  value: number[][];
  terminated: number[][];
  last: number[][];
  mask: number[][];
  gamma: number;
  lambda: number;
}

const quarter = (most: number) => fc.integer({ min: -4 * most, max: 4 * most }).map((x) => x / 4);
/** Shares that float32 holds exactly. */
const share = fc.integer({ min: 0, max: 16 }).map((x) => x / 16);

const row = (steps: number) =>
  fc.record({
    reward: fc.array(quarter(5), { minLength: steps, maxLength: steps }),
    value: fc.array(quarter(9), { minLength: steps + 1, maxLength: steps + 1 }),
    terminated: fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, share), {
      minLength: steps,
      maxLength: steps,
    }),
    last: fc.array(fc.oneof({ weight: 4, arbitrary: fc.constantFrom(0, 0, 0, 1) }, share), {
      minLength: steps,
      maxLength: steps,
    }),
    length: fc.integer({ min: 0, max: steps }),
  });

/** Batches of 1 to 3 rows and 1 to 7 steps, with ends of every kind and padding. */
export const cases: fc.Arbitrary<Case> = fc.integer({ min: 1, max: 7 }).chain((steps) =>
  fc
    .record({
      rows: fc.array(row(steps), { minLength: 1, maxLength: 3 }),
      gamma: share,
      lambda: share,
      padded: fc.boolean(),
    })
    .map(({ rows, gamma, lambda, padded }) => ({
      reward: rows.map((r) => r.reward),
      value: rows.map((r) => r.value),
      terminated: rows.map((r) => r.terminated),
      last: rows.map((r) => r.last),
      mask: rows.map((r) => r.reward.map((_, t) => (!padded || t < r.length ? 1 : 0))),
      gamma,
      lambda,
    })),
);

/** The case as options in departure alignment. */
export function departure({ reward, value, terminated, last, mask, gamma, lambda }: Case) {
  return {
    reward: nd(reward),
    value: nd(value),
    terminated: nd(terminated),
    last: nd(last),
    mask: flags(mask),
    gamma,
    lambda,
    align: 'departure' as const,
  };
}

/** Uint8 flags of nested rows. */
export function flags(rows: number[][]): NdView<Uint8Array> {
  return nd(Uint8Array.from(rows.flat()), [rows.length, rows[0].length]);
}

/**
 * The lambda-return of each step by looking ahead: rewards as far as they are reached, and at each
 * observation what is bootstrapped there.
 */
export function lambdaReturnAhead(batch: Case): number[] {
  const { reward, value, terminated, last, mask, gamma, lambda } = batch;
  return reward.flatMap((rewards, b) =>
    rewards.map((_, start) => {
      let sum = 0;
      let reached = mask[b][start];
      for (let t = start; reached !== 0; t++) {
        sum += reached * rewards[t];
        reached *= gamma * (1 - terminated[b][t]);
        const cut = t + 1 === rewards.length || mask[b][t + 1] === 0;
        const goesOn = cut ? 0 : lambda * (1 - last[b][t]);
        sum += reached * (1 - goesOn) * value[b][t + 1];
        reached *= goesOn;
      }
      return sum;
    }),
  );
}

/** The same elements column by column, behind others that must not be read. */
export function strided<T extends Float32Array | Uint8Array>(view: NdView<T>): NdView<T> {
  const [rows, columns] = view.shape;
  const step = rows + 1;
  const data = new (view.data.constructor as new (size: number) => T)(3 + columns * step);
  data.fill(view.data instanceof Float32Array ? Number.NaN : 255);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) data[3 + i + j * step] = view.data[i * columns + j];
  }
  return { data, shape: [rows, columns], stride: [1, step], offset: 3 };
}

/** The float64 twin of a view. */
export function doubled({ data, shape }: NdView): NdView<Float64Array> {
  return nd(Float64Array.from(data), shape);
}

/** Rows of a view in another order. */
export function rowsOf<T extends Float32Array | Uint8Array>(
  view: NdView<T>,
  order: readonly number[],
): NdView<T> {
  const [, columns] = view.shape;
  const data = new (view.data.constructor as new (size: number) => T)(order.length * columns);
  for (const [to, from] of order.entries()) {
    data.set(view.data.subarray(from * columns, (from + 1) * columns), to * columns);
  }
  return nd(data, [order.length, columns]);
}

/**
 * Three imagined rows of horizon 3 with values: one that terminates at its second step, one that the
 * horizon cuts and one whose start was not finite.
 */
export function imagined(): Trajectory {
  const trajectory = new Trajectory(3, 3, 1, 1);
  trajectory.reward.data.set([1, 2, 0, 3, 4, 5]);
  trajectory.mask.data.set([1, 1, 0, 1, 1, 1]);
  trajectory.discount.data.set([1, 0, 0, 1, 1, 1]);
  trajectory.terminated.data.set([0, 1, 0, 0, 0, 0]);
  trajectory.truncated.data.set([0, 0, 0, 0, 0, 1]);
  trajectory.last.data.set([0, 1, 0, 0, 0, 1]);
  trajectory.length.set([2, 3, 0]);
  trajectory.value = nd([
    [10, 20, 30, 0],
    [40, 50, 60, 80],
    [0, 0, 0, 0],
  ]);
  trajectory.bootstrap = Float32Array.of(0, 80, 0);
  return trajectory;
}
