/** The repository's files in a page: the test server serves the repository at its root. */

/** The URL of a file or folder of the repository. */
export function locate(path: string): string {
  return new URL(`/${path}`, location.origin).href;
}

/** The bytes of a file of the repository. */
export async function read(path: string): Promise<Uint8Array> {
  const url = locate(path);
  const response = await fetch(url);
  // The server answers with its start page where there is no file.
  if (!response.ok || response.headers.get('content-type')?.startsWith('text/html')) {
    throw new Error(`read: a file of the repository must be served, got none at ${url}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}
