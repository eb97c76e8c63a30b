/**
 * Starts a WebAssembly module that imports nothing, at once.
 *
 * @param base64 - the module's bytes
 * @returns its exports; undefined where the engine has no WebAssembly, lacks an instruction of it
 *   (SIMD), or may not compile it (a content-security policy without `wasm-unsafe-eval`)
 */
export function instantiate<Exports extends WebAssembly.Exports>(
  base64: string,
): Exports | undefined {
  try {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports as Exports;
  } catch {
    // Which error it is depends on the engine, and nothing is lost: every kernel has a scalar twin.
    return undefined;
  }
}
