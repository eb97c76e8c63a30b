/** A model's files could not be read, or no device could load them; the message lists the reasons. */
export class ModelLoadError extends Error {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'ModelLoadError';
}

/** A model loaded but is not what its manifest, its golden vectors or this library require. */
export class ModelContractError extends Error {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'ModelContractError';
}

/** Something was used after its `dispose()`. */
export class DisposedError extends Error {
  /** The class's name, which survives bundling. */
  override readonly name: string = 'DisposedError';
}

/** The text of whatever was thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
