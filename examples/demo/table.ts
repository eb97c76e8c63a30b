/** The comparison as a table, for the terminal and for the page. */

import CliTable from 'cli-table3';
import type { HorizonLine } from './compare.js';

/** The horizons that get a line. */
const HORIZONS = [1, 2, 5, 10, 15, 20, 25, 30, 50, 100, 200, 500];

export const HEADINGS: readonly string[] = [
  'steps',
  'rows',
  'imagined return',
  'penalty',
  'true return',
  'model error',
  'rank corr., pairwise',
  'rank corr., aleatoric',
];

/** The cells of the lines worth showing: those of {@link HORIZONS}, and the last. */
export function tableCells(lines: readonly HorizonLine[]): string[][] {
  return shown(lines).map((line) => [
    `${line.horizon}`,
    `${line.rows}`,
    decimal(line.imaginedReturn),
    decimal(line.penalty),
    decimal(line.trueReturn),
    decimal(line.error),
    ...line.rankCorrelation.map(decimal),
  ]);
}

/** The table as text; it has room for the baseline of the error, which the page on a phone has not. */
export function textTable(lines: readonly HorizonLine[]): string {
  const head = [...HEADINGS, 'persistence error'];
  const baseline = shown(lines).map(({ persistence }) => decimal(persistence));
  const table = new CliTable({
    head,
    colAligns: head.map(() => 'right'),
    colWidths: [7, 6, 10, 9, 8, 8, 12, 12, 13],
    wordWrap: true,
    // No colours: the table may go to a file.
    style: { head: [], border: [], compact: true },
  });
  table.push(...tableCells(lines).map((cells, i) => [...cells, baseline[i]]));
  return table.toString();
}

function shown(lines: readonly HorizonLine[]): HorizonLine[] {
  return lines.filter(({ horizon }) => HORIZONS.includes(horizon) || horizon === lines.length);
}

/** Two decimals; a dash for what is undefined, such as a correlation over one row. */
export function decimal(value: number): string {
  return Number.isFinite(value) ? value.toFixed(2) : '–';
}
