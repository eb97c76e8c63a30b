/** The file formats of this room. */
export type FileFormat = 'npz' | 'safetensors' | 'hdf5';

/**
 * A file that cannot be read: truncated, corrupted, hostile, larger than allowed, or of a kind this
 * library does not read. Nothing was kept of it.
 *
 * The message names the reader, the part of the file, what must hold there and what came.
 */
export class FormatError extends Error {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'FormatError';
  /** Which format the file was read as. */
  readonly format: FileFormat;

  /**
   * @param format - which format the file was read as
   * @param message - reader, part, what must hold, what came
   */
  constructor(format: FileFormat, message: string, options?: ErrorOptions) {
    super(message, options);
    this.format = format;
  }
}
