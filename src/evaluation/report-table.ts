import { describe, isNd } from '../nd.js';
import { expectOptions } from '../runtime/options.js';

/** How a report is printed. */
export interface ReportTableOptions {
  /** Significant digits of numbers that are not integers. Default 4. */
  readonly digits?: number;
}

/**
 * A report as text, for a terminal or a log: the one way to print whatever this module measures, and any
 * plain object of the same make.
 *
 * Numbers and texts stand under each other beside their names. Lists are columns; those of one length
 * stand side by side in one table. A report within the report follows under its name. What has two axes
 * or more is left out, as are fields that are undefined. Columns of numbers are aligned to the right.
 *
 * @param report - plain data
 * @param options - `digits`
 * @returns lines without trailing spaces, the last without a line end
 * @throws TypeError when the report or one of its fields is no plain data
 * @throws RangeError when `digits` is not within 1..17
 *
 * @example
 * ```ts @import.meta.vitest
 * const { reportTable } = await import('umwelt/evaluation');
 * const report = { rows: 256, horizon: [1, 10], rmse: [0.0123456, 0.5] };
 * expect(reportTable(report)).toBe(
 *   [
 *     'rows  256', //
 *     '',
 *     'horizon     rmse',
 *     '      1  0.01235',
 *     '     10   0.5000',
 *   ].join('\n'),
 * );
 * ```
 */
export function reportTable(report: object, options: ReportTableOptions = {}): string {
  expectOptions('reportTable', options, ['digits']);
  const { digits = 4 } = options;
  if (!Number.isInteger(digits) || digits < 1 || digits > 17) {
    throw new RangeError(`reportTable: digits must be an integer in 1..17, got ${digits}`);
  }
  return blocks('', report, digits).join('\n\n');
}

type List = ArrayLike<number | string>;

/** The blocks of a report, the first under its title. */
function blocks(title: string, report: object, digits: number): string[] {
  if (typeof report !== 'object' || report === null || isList(report)) {
    throw new TypeError(`reportTable: report must be a plain object, got ${describe(report)}`);
  }
  const scalars: [string, number | string][] = [];
  const tables = new Map<number, [string, List][]>();
  const parts: string[] = [];
  for (const [name, value] of Object.entries(report)) {
    if (value === undefined || isNd(value)) continue;
    if (typeof value === 'number' || typeof value === 'string') scalars.push([name, value]);
    else if (isList(value)) {
      const side = tables.get(value.length) ?? [];
      side.push([name, value]);
      tables.set(value.length, side);
    } else if (typeof value === 'object' && value !== null) {
      parts.push(...blocks(title === '' ? name : `${title}.${name}`, value, digits));
    } else {
      throw new TypeError(
        `reportTable: ${name} must be a number, a text, a list or a report, got ${describe(value)}`,
      );
    }
  }
  const own: string[] = [];
  if (scalars.length > 0) {
    const names = column(scalars.map(([name]) => name));
    const values = column(scalars.map(([, value]) => cell(value, digits)));
    own.push(beside([names, values]));
  }
  for (const columns of tables.values()) {
    own.push(
      beside(
        columns.map(([name, list]) => {
          const cells = Array.from(list, (value) => cell(value, digits));
          return column([name, ...cells], typeof list[0] !== 'string');
        }),
      ),
    );
  }
  if (title !== '' && own.length > 0) own[0] = `${title}:\n${own[0]}`;
  return [...own, ...parts];
}

function cell(value: number | string, digits: number): string {
  if (typeof value === 'string' || Number.isInteger(value) || !Number.isFinite(value)) {
    return String(value);
  }
  return value.toPrecision(digits);
}

/** Cells of one width. */
function column(cells: readonly string[], right = false): string[] {
  const width = Math.max(...cells.map((text) => text.length));
  return cells.map((text) => (right ? text.padStart(width) : text.padEnd(width)));
}

function beside(columns: readonly string[][]): string {
  const lines = columns[0].map((_, line) => columns.map((cells) => cells[line]).join('  '));
  return lines.map((line) => line.trimEnd()).join('\n');
}

function isList(value: unknown): value is List {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}
