/** The repository's files in Node. */

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** The path of a file or folder of the repository. */
export function locate(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

/** The bytes of a file of the repository. */
export async function read(path: string): Promise<Uint8Array> {
  return new Uint8Array(await readFile(locate(path)));
}
