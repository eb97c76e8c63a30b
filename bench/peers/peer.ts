import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A program of this folder that runs the tasks it is told, one a line, each answered with one line. */
export class Peer implements Disposable {
  /** What it said when it was ready. */
  readonly greeting: string;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;

  private constructor(
    greeting: string,
    child: ChildProcessWithoutNullStreams,
    answers: AsyncIterator<string>,
  ) {
    this.greeting = greeting;
    this.#child = child;
    this.#answers = answers;
  }

  /**
   * Starts a peer.
   *
   * @param python - the interpreter
   * @param file - a script of this folder
   * @throws Error when it ends before it is ready
   */
  static async start(python: string, file: string, threads: number): Promise<Peer> {
    const script = fileURLToPath(new URL(file, import.meta.url));
    const child = spawn(python, [script, '--threads', String(threads)], {
      env: { ...process.env, OMP_NUM_THREADS: String(threads) },
    });
    let complaint = '';
    child.stderr.on('data', (text) => {
      complaint += text;
    });
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    await Promise.race([
      once(child, 'spawn'),
      once(child, 'error').then(([e]) => Promise.reject(e)),
    ]);
    const { value, done } = await answers.next();
    if (done) throw new Error(`${file}: ${complaint.trim().split('\n').at(-1)}`);
    return new Peer(value, child, answers);
  }

  /** Runs a task and gives its answer. */
  async run(task: string): Promise<string> {
    this.#child.stdin.write(`${task}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`the peer ended during '${task}'`);
    return value;
  }

  [Symbol.dispose](): void {
    this.#child.stdin.end();
  }
}
