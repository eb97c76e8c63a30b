/**
 * Bytes that are not a readable ONNX model: truncated, corrupted, or another kind of file.
 *
 * The message names the byte, what must hold there and what came.
 */
export class OnnxFormatError extends Error {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'OnnxFormatError';
  /** Where reading failed, counted in bytes from the start of what was given. */
  readonly offset: number;

  /**
   * @param offset - byte at which reading failed
   * @param problem - what must hold and what came
   */
  constructor(offset: number, problem: string) {
    super(
      `readModel: at byte ${offset}: ${problem}; ` +
        'check that the file is ONNX and complete (not a Git LFS pointer or an error page)',
    );
    this.offset = offset;
  }
}
