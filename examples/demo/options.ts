/** The command line of the demo. */

import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** What to dream and where to write it. */
export interface DemoOptions {
  readonly seed: number;
  /** Trajectories. */
  readonly rows: number;
  /** Steps of a trajectory. */
  readonly horizon: number;
  /** Folder for the page and the transitions. */
  readonly out: string;
}

/** The command line cannot be used as it is; the message says why. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The help of a program that takes these options. */
export function usage(what: string, command: string, files: string, folder: string): string {
  return `${what}

  npm run ${command} -- [options]

  --seed <n>      names the noise; the same seed gives the same dream (default 0)
  --rows <n>      trajectories, at most the 256 recorded starts (default 256)
  --horizon <n>   steps of a trajectory (default 30)
  --out <folder>  folder for ${files} (default ${folder})
  --help          shows this`;
}

export const USAGE: string = usage(
  'Dreams with the hopper ensemble and sets the dream beside the true simulator.',
  'demo',
  'dream.html and dream.npz',
  'examples/demo/out',
);

/**
 * Reads the command line.
 *
 * @param folder - where the files go by default
 * @returns the options, or null when help was asked for
 * @throws UsageError when an option is unknown or its value is not allowed
 */
export function parseOptions(
  args: readonly string[],
  folder: URL = new URL('out', import.meta.url),
): DemoOptions | null {
  const values = parse(args);
  if (values.help) return null;
  return {
    seed: wholeNumber('--seed', values.seed, 0),
    rows: wholeNumber('--rows', values.rows, 1),
    horizon: wholeNumber('--horizon', values.horizon, 1),
    out: resolve(values.out ?? fileURLToPath(folder)),
  };
}

function parse(args: readonly string[]): {
  seed: string;
  rows: string;
  horizon: string;
  out?: string;
  help: boolean;
} {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seed: { type: 'string', default: '0' },
        rows: { type: 'string', default: '256' },
        horizon: { type: 'string', default: '30' },
        out: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** A whole number of the command line, at least `least`. */
export function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`${name} must be a whole number of at least ${least}, got '${text}'`);
  }
  return value;
}
