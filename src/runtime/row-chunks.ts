/** The smallest multiple of `padRows` that holds `rows`. */
export function paddedRows(rows: number, padRows: number): number {
  return Math.ceil(rows / padRows) * padRows;
}
