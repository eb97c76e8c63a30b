/**
 * Memory of one rollout, reused from step to step.
 *
 * It belongs to the rollout and not to the model, so that rollouts that take turns on one model do not
 * write over each other. Contents do not survive from one request of a name to the next.
 */
export class Scratch {
  readonly #buffers = new Map<string, ArrayBuffer>();

  /** A float32 array of exactly this length under this name, with any contents. */
  float32(name: string, length: number): Float32Array {
    return new Float32Array(this.#buffer(name, 4 * length), 0, length);
  }

  /** An int32 array of exactly this length under this name, with any contents. */
  int32(name: string, length: number): Int32Array {
    return new Int32Array(this.#buffer(name, 4 * length), 0, length);
  }

  #buffer(name: string, bytes: number): ArrayBuffer {
    let buffer = this.#buffers.get(name);
    if (buffer === undefined || buffer.byteLength < bytes) {
      buffer = new ArrayBuffer(bytes);
      this.#buffers.set(name, buffer);
    }
    return buffer;
  }
}
