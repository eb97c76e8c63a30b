import type { Environment } from 'umwelt/rollout';
import { RowNoise, Stream } from 'umwelt/sampling';
import type { Hopper } from './simulator.js';

/** Where an episode starts: the pose of the body file, with x, z, pitch, hip, knee and ankle. */
const STANDING = [0, 1.15, 0, 0, 0, 0];

/** The hopper in MuJoCo as an environment; its snapshots are MuJoCo's whole state. */
export function hopperEnvironment(hopper: Hopper): Environment<Float64Array> {
  const { resetNoise } = hopper.config;
  return {
    obsSize: hopper.config.obsNames.length,
    actionSize: hopper.config.actionNames.length,
    reset(seed) {
      const { data } = new RowNoise(seed, Stream.reset, 0, Uint32Array.of(0)).uniform(12);
      const noise = Array.from(data, (u) => resetNoise * (2 * u - 1));
      hopper.reset(
        STANDING.map((angle, i) => angle + noise[i]),
        noise.slice(6),
      );
    },
    observe: () => hopper.obs(),
    step: (action) => hopper.step(action),
    save: () => hopper.save(),
    restore: (state) => hopper.restore(state),
  };
}
