import { zeros } from '../nd.js';
import type { RolloutStep } from './step.js';
import type { Trajectory } from './trajectory.js';

/** Writes a step into the trajectory it belongs to. */
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
    const to = (row * (horizon + 1) + step.step + 1) * obsSize;
    for (let d = 0; d < obsSize; d++) {
      trajectory.obs.data[to + d] = step.nextObs.data[i * obsSize + d];
    }
  }
}
