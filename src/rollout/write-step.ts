import { type NdView, nd, ShapeError, sizeOf, type TypedArray, zeros } from '../nd.js';
import { mapValues } from './settle.js';
import type { RolloutStep } from './step.js';
import type { Trajectory } from './trajectory.js';

/**
 * Writes a step into the trajectory it belongs to.
 *
 * @throws ShapeError when a recorded extra changed its shape or its type since the first step
 */
export function writeStep(trajectory: Trajectory, step: RolloutStep): void {
  const [, horizon, actionSize] = trajectory.action.shape;
  const obsSize = trajectory.obs.shape[2];
  if (step.logProb !== undefined) trajectory.logProb ??= zeros(trajectory.reward.shape);
  for (let i = 0; i < step.row.length; i++) {
    const row = step.row[i];
    const at = row * horizon + step.step;
    trajectory.length[row] = step.step + 1;
    trajectory.mask.data[at] = 1;
    trajectory.reward.data[at] = step.reward[i];
    trajectory.rawReward.data[at] = step.rawReward[i];
    trajectory.uncertainty.data[at] = step.uncertainty[i];
    trajectory.penalty.data[at] = step.penalty[i];
    trajectory.terminated.data[at] = step.terminated[i];
    trajectory.truncated.data[at] = step.truncated[i];
    trajectory.last.data[at] = step.terminated[i] | step.truncated[i];
    trajectory.discount.data[at] = step.discount[i];
    trajectory.member.data[at] = step.member[i];
    if (step.logProb && trajectory.logProb) trajectory.logProb.data[at] = step.logProb[i];
    for (let d = 0; d < actionSize; d++) {
      trajectory.action.data[at * actionSize + d] = step.action.data[i * actionSize + d];
    }
    const arrived = row * (horizon + 1) + step.step + 1;
    for (let d = 0; d < obsSize; d++) {
      trajectory.obs.data[arrived * obsSize + d] = step.nextObs.data[i * obsSize + d];
    }
    if (step.nextValue && trajectory.value) trajectory.value.data[arrived] = step.nextValue[i];
  }
  if (step.scores !== undefined) {
    trajectory.scores ??= mapValues(step.scores, () => zeros(trajectory.reward.shape));
    for (const [name, scores] of Object.entries(step.scores)) {
      writeRows(trajectory.scores[name], step, nd(scores));
    }
  }
  if (step.extras !== undefined) {
    trajectory.extras ??= mapValues(step.extras, (extra) => roomFor(extra, trajectory.mask.shape));
    for (const [name, extra] of Object.entries(step.extras)) {
      const room = trajectory.extras[name];
      if (
        extra.data.constructor !== room.data.constructor ||
        extra.shape.slice(1).join() !== room.shape.slice(2).join()
      ) {
        const kind = (view: NdView<TypedArray>, from: number) =>
          `${view.data.constructor.name} [B, ${view.shape.slice(from).join(', ')}]`;
        throw new ShapeError(
          `imagine: extras.${name} must stay as in the first step, ${kind(room, 2)}, got ${kind(extra, 1)}`,
        );
      }
      writeRows(room, step, extra);
    }
  }
}

/** Rows `[b, ...]` of a step into their places in `[B, T, ...]`. */
function writeRows(into: NdView<TypedArray>, step: RolloutStep, rows: NdView<TypedArray>): void {
  const [, horizon, ...inner] = into.shape;
  const width = sizeOf(inner);
  for (let i = 0; i < step.row.length; i++) {
    const to = (step.row[i] * horizon + step.step) * width;
    for (let d = 0; d < width; d++) into.data[to + d] = rows.data[i * width + d];
  }
}

/** Zeros `[B, T, ...]` for rows `[b, ...]`, of their type. */
function roomFor(
  { data, shape }: NdView<TypedArray>,
  outer: readonly number[],
): NdView<TypedArray> {
  const whole = [...outer, ...shape.slice(1)];
  const store = data.constructor as new (length: number) => TypedArray;
  return nd(new store(sizeOf(whole)), whole);
}
