/**
 * Compiles a WebAssembly module at once.
 *
 * @param base64 - the module's bytes
 * @returns undefined where the engine has no WebAssembly, lacks an instruction of it (SIMD), or may
 *   not compile it (a content-security policy without `wasm-unsafe-eval`); or on a big-endian machine
 */
export function compile(base64: string): WebAssembly.Module | undefined {
  // WebAssembly's memory is little-endian; typed arrays over it are as the machine is.
  if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) return undefined;
  try {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return new WebAssembly.Module(bytes);
  } catch {
    // Which error it is depends on the engine, and nothing is lost: every kernel has a scalar twin.
    return undefined;
  }
}

/** Starts a module that imports nothing; undefined where {@link compile} gives none. */
export function instantiate<Exports extends WebAssembly.Exports>(
  base64: string,
): Exports | undefined {
  const module = compile(base64);
  return module && (new WebAssembly.Instance(module).exports as Exports);
}
