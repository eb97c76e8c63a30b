import { readFileSync } from 'node:fs';

/** A full state of the hopper in MuJoCo. */
export interface Start {
  /** Positions, `[6]`. */
  readonly qpos: readonly number[];
  /** Velocities, `[6]`. */
  readonly qvel: readonly number[];
}

/** The 256 states that were recorded from the trained policy's episodes. */
export function recordedStarts(): Start[] {
  const { qpos, qvel } = readJson('../models/hopper-ensemble/starts.json') as {
    qpos: number[][];
    qvel: number[][];
  };
  return qpos.map((position, i) => ({ qpos: position, qvel: qvel[i] }));
}

/** What the hopper observes of them: all but its place along the track, and clipped velocities. */
export function recordedObservations(): number[][] {
  const { velocityClip } = readJson('hopper.json') as { velocityClip: number };
  const clip = (x: number) => Math.min(Math.max(x, -velocityClip), velocityClip);
  return recordedStarts().map(({ qpos, qvel }) => [...qpos.slice(1), ...qvel.map(clip)]);
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
}
