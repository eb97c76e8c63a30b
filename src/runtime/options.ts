/**
 * Refuses options nobody reads: a misspelt one would else be a default, silently.
 *
 * @param what - the name used in messages
 * @param options - what the caller gave
 * @param known - every name that is read
 * @throws TypeError when `options` is no object or has an unknown name
 */
export function expectOptions(what: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`${what}: options must be an object, got ${String(options)}`);
  }
  const stranger = Object.keys(options).find((name) => !known.includes(name));
  if (stranger !== undefined) {
    const plain = (name: string): string => name.toLowerCase().replaceAll('_', '');
    const near = known.find((name) => plain(name) === plain(stranger));
    throw new TypeError(
      `${what}: options must be among ${known.join(', ')}, got '${stranger}'` +
        `${near === undefined ? '' : `; did you mean '${near}'?`}`,
    );
  }
}
