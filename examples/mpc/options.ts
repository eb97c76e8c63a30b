/** The command line of the planning example. */

import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { UsageError, wholeNumber } from '../demo/options.js';

/** Which episodes to run and where to write the page. */
export interface MpcOptions {
  /** Names the noise and the starts: episode `i` starts from seed `seed + i`. */
  readonly seed: number;
  readonly episodes: number;
  /** Steps of an episode, at most. */
  readonly steps: number;
  /** Folder for the page. */
  readonly out: string;
}

export const USAGE: string = `Drives the hopper in MuJoCo by planning with its learned model, and by its policy.

  npm run mpc -- [options]

  --seed <n>      names the noise and the starts (default 1000)
  --episodes <n>  episodes of each driver (default 20)
  --steps <n>     steps of an episode (default 1000)
  --out <folder>  folder for mpc.html (default examples/mpc/out)
  --help          shows this`;

/**
 * Reads the command line.
 *
 * @returns the options, or null when help was asked for
 * @throws UsageError when an option is unknown or its value is not allowed
 */
export function parseOptions(args: readonly string[]): MpcOptions | null {
  let values: { seed: string; episodes: string; steps: string; out?: string; help: boolean };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        seed: { type: 'string', default: '1000' },
        episodes: { type: 'string', default: '20' },
        steps: { type: 'string', default: '1000' },
        out: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
  if (values.help) return null;
  return {
    seed: wholeNumber('--seed', values.seed, 0),
    episodes: wholeNumber('--episodes', values.episodes, 1),
    steps: wholeNumber('--steps', values.steps, 1),
    out: resolve(values.out ?? fileURLToPath(new URL('out', import.meta.url))),
  };
}
