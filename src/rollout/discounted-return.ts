import { describe, type NdView, ShapeError, zeros } from '../nd.js';
import {
  EndRows,
  expectFloats,
  expectObject,
  expectShare,
  type FloatView,
  type StepEnds,
} from './step-arrays.js';

/** What {@link discountedReturn} reads, in departure alignment; fields it does not know are left alone. */
export interface DiscountedReturnOptions extends StepEnds {
  /** Reward of each step, `[B, T]`. */
  reward: FloatView;
  /** What stands for the rewards after each row's last step, `[B]`; nothing by default. */
  bootstrap?: Float32Array | Float64Array;
  /** Discount factor in [0, 1]. */
  gamma: number;
}

/** Sums of rewards from each step on. */
export interface DiscountedReturn {
  /** `G_t = r_t + gamma c_t G_{t+1}`, float32 `[B, T]`. */
  toGo: NdView;
  /** The first of them, that of the whole row where it is one episode, `[B]`; 0 without steps. */
  total: Float32Array;
}

/**
 * Discounted sums of rewards: returns-to-go and the return of each row.
 *
 * `G_t = r_t + gamma c_t G_{t+1}` with `c` the `discount`, or `1 - terminated`, in departure alignment.
 * A sum stops at a cut, `last` or `truncated`, and before padding. After a row's last step comes its
 * `bootstrap`, where there is one and the step did not terminate: `discountedReturn({ ...trajectory,
 * gamma })` bootstraps a trajectory that was made with a value function, and without its field
 * `bootstrap` sums only what was collected.
 *
 * @returns both, row-major; sums are float64
 * @throws TypeError when an array is of another kind; {@link ShapeError} when shapes disagree; RangeError
 *   when `gamma` or an end is not in [0, 1], or a row with a bootstrap is cut before its last step, where
 *   only a value of that step could stand for the rest: {@link lambdaReturn} with `lambda: 1` reads those
 *
 * @example
 * ```ts @import.meta.vitest
 * const { discountedReturn } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const { toGo, total } = discountedReturn({ reward: nd([[1, 2, 4]]), gamma: 0.5 });
 * expect([...toGo.data]).toEqual([3, 4, 4]);
 * expect(total[0]).toBe(3);
 * ```
 */
export function discountedReturn(options: DiscountedReturnOptions): DiscountedReturn {
  expectObject(WHAT, options);
  const { gamma, bootstrap } = options;
  expectShare(`${WHAT}: gamma`, gamma);
  const reward = expectFloats(`${WHAT}: reward`, options.reward, undefined);
  const [rows, steps] = options.reward.shape;
  const ends = new EndRows(WHAT, options, [rows, steps]);
  const { discount, open, mask } = ends;
  expectBootstrap(bootstrap, rows);
  const toGo = zeros([rows, steps]);
  const total = new Float32Array(rows);
  const out = toGo.data;
  for (let row = 0; row < rows; row++) {
    ends.read(row);
    const from = row * steps;
    const after = bootstrap === undefined ? 0 : bootstrap[row];
    let next = 0;
    let ended = false;
    for (let t = steps - 1; t >= 0; t--) {
      const i = from + t;
      if (mask !== undefined && mask[i] === 0) continue;
      const factor = gamma * discount[t];
      let sum: number = reward[i];
      if (!ended) {
        if (factor !== 0) sum += factor * after;
        ended = true;
      } else if (factor !== 0) {
        if (bootstrap !== undefined && open[t] !== 1) {
          throw new RangeError(
            `${WHAT}: a row with a bootstrap must be one episode, got row ${row} cut at step ${t}; ` +
              'lambdaReturn with lambda: 1 takes a value for each step',
          );
        }
        if (open[t] !== 0) sum += factor * open[t] * next;
      }
      next = sum;
      out[i] = sum;
    }
    total[row] = steps === 0 ? 0 : out[from];
  }
  return { toGo, total };
}

function expectBootstrap(bootstrap: unknown, rows: number): void {
  if (bootstrap === undefined) return;
  if (!(bootstrap instanceof Float32Array || bootstrap instanceof Float64Array)) {
    throw new TypeError(
      `${WHAT}: bootstrap must be a Float32Array [B], got ${describe(bootstrap)}`,
    );
  }
  if (bootstrap.length !== rows) {
    throw new ShapeError(`${WHAT}: bootstrap must have ${rows} entries, got ${bootstrap.length}`);
  }
}

const WHAT = 'discountedReturn';
