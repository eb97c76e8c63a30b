/** The smallest multiple of `padRows` that holds `rows`. */
export function paddedRows(rows: number, padRows: number): number {
  return Math.ceil(rows / padRows) * padRows;
}

/**
 * Checks an option that counts rows.
 *
 * @throws RangeError when it is not a positive integer
 */
export function expectCount(what: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) {
    throw new RangeError(`${what} must be a positive integer, got ${value}`);
  }
}
