import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ModelContractError, ModelLoadError } from 'umwelt';
import { UsageError } from './options.js';

/**
 * Runs a file as a program, unless a test imported it. What the user can mend is told without a stack.
 *
 * @param url - the file's `import.meta.url`
 * @param usage - its help
 * @param parse - its options; null when help was asked for
 */
export async function runAsProgram<Options>(
  url: string,
  usage: string,
  parse: (args: readonly string[]) => Options | null,
  run: (options: Options) => Promise<unknown>,
): Promise<void> {
  const [, program] = process.argv;
  if (!program || realpathSync(program) !== fileURLToPath(url)) return;
  try {
    const options = parse(process.argv.slice(2));
    if (options === null) console.log(usage);
    else await run(options);
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}\n\n${usage}`);
    } else if (
      error instanceof ModelLoadError ||
      error instanceof ModelContractError ||
      isFileError(error)
    ) {
      console.error(error.message);
    } else {
      throw error;
    }
    process.exitCode = 1;
  }
}

/** Whether the file system refused something, as for an `--out` that is no folder. */
function isFileError(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error;
}
