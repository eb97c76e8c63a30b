/** Open-loop actions, planned before the rollout begins, and the particles that judge them under noise. */

import {
  describe,
  expectExtent,
  gatherRows,
  isNd,
  type NdView,
  nd,
  packed,
  ShapeError,
  sizeOf,
  type TypedArray,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectCount } from '../runtime/row-chunks.js';
import type { Policy, PolicyState } from './policy.js';

/** How rows follow sequences. */
export interface ActionSequenceOptions {
  /**
   * Rows of the rollout that follow each sequence, `P`: row `r` of the start follows sequence
   * `floor(r / P)`. Default 1.
   */
  particles?: number;
}

/** What the policy remembers: the sequence of each row, and how many of its actions were taken. */
type Place = {
  readonly sequence: Int32Array;
  readonly taken: Int32Array;
};

const WHAT = 'actionSequence';

/**
 * A policy that takes given actions whatever it sees: row `b` takes `actions[b, t]` at its step `t`.
 *
 * Each row remembers its sequence and how far it is, so that finished rows may be taken out and a carry
 * goes on where it stopped. Under `actionRepeat` an action of the sequence lasts as long as it is held.
 *
 * With particles, start from `repeatRows(obs, P)` and take {@link meanOverParticles} of the returns. The
 * sum of a row's rewards without a discount, averaged over particles, is then what mbrl-lib's
 * `evaluate_action_sequences` gives: the reward of the step that ends an episode counts, later ones are 0.
 *
 * @param actions - float32 `[B, H, A]`, copied
 * @throws TypeError or `ShapeError` when `actions` is not that
 * @throws RangeError when `particles` is not a count; and, from a rollout, when its start has not `B P`
 *   rows or its horizon goes beyond `H`
 *
 * @example
 * ```ts @import.meta.vitest
 * const { actionSequence, imagine, meanOverParticles, repeatRows } = await import('umwelt/rollout');
 * const { gatherRows, nd } = await import('umwelt');
 * // A point that moves by its action and noise, paid for where it is.
 * const model = {
 *   obsSize: 1,
 *   actionSize: 1,
 *   initial: (obs) => obs,
 *   step(x, action, { noise }) {
 *     const error = noise.normal(1).data;
 *     const next = nd(x.data.map((v, i) => v + action.data[i] + error[i]), x.shape);
 *     return { state: next, obs: next, reward: next.data.slice() };
 *   },
 *   gather: gatherRows,
 * };
 * const particles = 200;
 * const policy = actionSequence(nd([[[1], [1]], [[1], [-1]]]), { particles });
 * const start = repeatRows(nd([[0], [0]]), particles);
 * const dream = await imagine(model, policy, { start, horizon: 2, seed: 0 }).collect();
 * const [up, back] = meanOverParticles(dream.reward, particles).data; // the first steps' mean rewards
 * expect(Math.abs(up - 1)).toBeLessThan(0.2);
 * ```
 */
export function actionSequence(
  actions: NdView,
  options: ActionSequenceOptions = {},
): Policy<PolicyState> {
  expectOptions(WHAT, options, ['particles']);
  const { particles = 1 } = options;
  expectCount(`${WHAT}: particles`, particles);
  expectSequences(actions);
  const [sequences, horizon, width] = actions.shape;
  const planned = packed(actions).slice();
  return (obs, { row, startRows, state }) => {
    const rows = obs.shape[0];
    const { sequence, taken } =
      state === undefined ? firstPlace(rows, row, startRows) : expectPlace(state);
    const action = new Float32Array(rows * width);
    const next = new Int32Array(rows);
    for (let i = 0; i < rows; i++) {
      const t = taken[i];
      if (t >= horizon) {
        throw new RangeError(
          `${WHAT}: horizon must be at most ${horizon}, the length of the sequences, ` +
            `got step ${t} of a row; give longer sequences or a shorter horizon`,
        );
      }
      next[i] = t + 1;
      const from = (sequence[i] * horizon + t) * width;
      for (let d = 0; d < width; d++) action[i * width + d] = planned[from + d];
    }
    return { action: nd(action, [rows, width]), state: { sequence, taken: next } };
  };

  function firstPlace(rows: number, row: Int32Array | undefined, startRows = rows): Place {
    if (startRows !== sequences * particles) {
      throw new RangeError(
        `${WHAT}: start must have ${sequences * particles} rows, ` +
          `${particles} for each of the ${sequences} sequences, got ${startRows}; ` +
          'repeat it with repeatRows()',
      );
    }
    const sequence = new Int32Array(rows);
    for (let i = 0; i < rows; i++) sequence[i] = Math.floor((row?.[i] ?? i) / particles);
    return { sequence, taken: new Int32Array(rows) };
  }
}

/**
 * Each row several times over, one after another: row `b` becomes the rows `b P .. b P + P - 1`.
 *
 * @param view - `[B, ...]`
 * @param times - `P`, at least 1
 * @returns a packed copy `[B P, ...]`
 * @throws TypeError when `view` is no view; RangeError when `times` is not a count
 *
 * @example
 * ```ts @import.meta.vitest
 * const { repeatRows } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * expect(repeatRows(nd([[1], [2]]), 2)).toEqual(nd([[1], [1], [2], [2]]));
 * ```
 */
export function repeatRows<T extends TypedArray>(view: NdView<T>, times: number): NdView<T> {
  expectCount('repeatRows: times', times);
  if (!isNd(view) || view.shape.length === 0) {
    throw new TypeError(`repeatRows: view must be a view [B, ...], got ${describe(view)}`);
  }
  const rows = new Int32Array(view.shape[0] * times);
  for (let i = 0; i < rows.length; i++) rows[i] = Math.floor(i / times);
  return gatherRows(view, rows);
}

/**
 * The mean over the particles of each sequence, summed in float64.
 *
 * A particle that ended early counts with the zeros after its end.
 *
 * @param values - float32 `[B P]`, such as returns, or a view `[B P, ...]`, such as a trajectory's `reward`
 * @param particles - `P`, rows of each sequence, which follow one another
 * @returns the means, `[B]` or `[B, ...]`, in the form that came
 * @throws TypeError when `values` is not float32
 * @throws RangeError when `particles` is not a count, `ShapeError` when it does not divide the rows
 */
export function meanOverParticles(values: Float32Array, particles: number): Float32Array;
export function meanOverParticles(values: NdView, particles: number): NdView;
export function meanOverParticles(
  values: Float32Array | NdView,
  particles: number,
): Float32Array | NdView {
  expectCount('meanOverParticles: particles', particles);
  const view = values instanceof Float32Array ? nd(values) : values;
  if (!isNd(view) || !(view.data instanceof Float32Array) || view.shape.length === 0) {
    throw new TypeError(
      `meanOverParticles: values must be a Float32Array or a view of one, got ${describe(values)}`,
    );
  }
  const [rows, ...inner] = view.shape;
  if (rows % particles !== 0) {
    throw new ShapeError(
      `meanOverParticles: values must have a multiple of ${particles} rows, got ${rows}`,
    );
  }
  const width = sizeOf(inner);
  const data = packed(view);
  const means = new Float32Array((rows / particles) * width);
  for (let i = 0; i < means.length; i++) {
    let at = Math.floor(i / width) * particles * width + (i % width);
    let sum = 0;
    for (let p = 0; p < particles; p++, at += width) sum += data[at];
    means[i] = sum / particles;
  }
  return values instanceof Float32Array ? means : nd(means, [rows / particles, ...inner]);
}

function expectSequences(actions: unknown): void {
  if (!isNd(actions) || !(actions.data instanceof Float32Array)) {
    throw new TypeError(
      `${WHAT}: actions must be a float32 view [B, H, A], got ${describe(actions)}; make one with nd()`,
    );
  }
  if (actions.shape.length !== 3) {
    throw new ShapeError(`${WHAT}: actions must have shape [B, H, A], got [${actions.shape}]`);
  }
  expectExtent(`${WHAT}: actions`, actions);
}

/** Checks that what a rollout brings is what this policy remembered. */
function expectPlace(state: PolicyState): Place {
  const { sequence, taken } = state as Partial<Place>;
  if (!(sequence instanceof Int32Array) || !(taken instanceof Int32Array)) {
    throw new TypeError(
      `${WHAT}: a carry must come from a rollout of action sequences, got the memory of another ` +
        'policy; start from its state, as in { ...carry.state, obs: carry.obs }',
    );
  }
  return { sequence, taken };
}
