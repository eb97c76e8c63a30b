/** A web server on the loopback address, for tests of models behind a URL. */

import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a path answers: bytes, text, or whatever the function does. */
export type Answer = Uint8Array | string | ((response: ServerResponse) => void);

export interface Served extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, without a slash at the end. */
  readonly url: string;
  /** Paths asked for so far, with their queries. */
  readonly requests: string[];
}

/** Serves answers by path; anything else is 404. */
export async function serve(answers: Readonly<Record<string, Answer>>): Promise<Served> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const target = request.url ?? '';
    requests.push(target);
    const path = decodeURIComponent(target.split('?')[0]);
    const answer = Object.hasOwn(answers, path) ? answers[path] : undefined;
    if (typeof answer === 'function') answer(response);
    else if (answer === undefined) response.writeHead(404).end('no such file');
    else response.end(answer);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The files of a folder as answers under a path. */
export function under(
  path: string,
  files: Readonly<Record<string, Answer>>,
): Record<string, Answer> {
  return Object.fromEntries(Object.entries(files).map(([name, file]) => [`${path}/${name}`, file]));
}
