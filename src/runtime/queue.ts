/** Runs asynchronous jobs one after another; a failed job does not stop the next. */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `job` when all earlier ones have ended, and answers as it does. */
  add<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(job);
    // Whatever the job gave is not to be kept alive until the next.
    this.#tail = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}

const webQueues = new WeakMap<object, SerialQueue>();

/**
 * The queue a network of this ONNX Runtime module must run in.
 *
 * In the browser overlapping calls of one module hang or corrupt memory, even between sessions, so
 * all share one queue. In Node each session has its own.
 */
export function queueFor(ort: { env: { versions: { node?: string } } }): SerialQueue {
  if (ort.env.versions.node !== undefined) return new SerialQueue();
  let queue = webQueues.get(ort.env);
  if (queue === undefined) {
    queue = new SerialQueue();
    webQueues.set(ort.env, queue);
  }
  return queue;
}
