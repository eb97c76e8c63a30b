import type { Carry } from './carry.js';
import type { Rollout } from './rollout.js';
import type { Trajectory } from './trajectory.js';

/** Collects a rollout that nobody will resume: the state it stopped in is released, also after an abort. */
export async function collectTrajectory<State>(rollout: Rollout<State>): Promise<Trajectory> {
  try {
    return await rollout.collect();
  } finally {
    carryOf(rollout)?.release();
  }
}

/** Where the rollout stopped; undefined where it failed before there was a state. */
function carryOf<State>(rollout: Rollout<State>): Carry<State> | undefined {
  try {
    return rollout.carry;
  } catch {
    return undefined;
  }
}
