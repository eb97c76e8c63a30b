import { describe, isNd, packed } from '../nd.js';
import { expectOptions } from '../runtime/options.js';

/** How a report is printed. */
export interface ReportTableOptions {
  /**
   * Significant digits of numbers that are not integers; those below 10 million keep all digits before the
   * point. Default 4.
   */
  readonly digits?: number;
}

/**
 * A report as text, for a terminal or a log: the one way to print every report of this module, and any
 * plain object of the same make. A single number, or a view of numbers, is none.
 *
 * Numbers and texts stand under each other beside their names. Lists are columns; those of one length
 * stand side by side in one table, all of their lines. A report within the report follows under its name.
 * Views of two axes or more are left out, as are fields that are undefined. Columns of numbers are aligned
 * by the decimal point.
 *
 * @param report - a plain object of numbers, texts, lists of them, views and such objects
 * @param options - `digits`
 * @returns lines without trailing spaces, the last without a line end
 * @throws TypeError when the report or one of its fields is something else, such as an instance of a class,
 *   or a list holds something else than numbers and texts
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
 *     '     10  0.5000',
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
  if (!isPlain(report)) {
    throw new TypeError(
      `reportTable: report must be a plain object, got ${describe(report)}` +
        `${isNd(report) || isList(report) ? '; give it a name, as in { values }' : ''}`,
    );
  }
  const scalars: [string, number | string][] = [];
  const tables = new Map<number, [string, List][]>();
  const parts: string[] = [];
  for (const [name, field] of Object.entries(report)) {
    const value: unknown = isNd(field) && field.shape.length === 1 ? packed(field) : field;
    if (value === undefined || isNd(value)) continue;
    if (typeof value === 'number' || typeof value === 'string') scalars.push([name, value]);
    else if (isList(value)) {
      expectCells(name, value);
      const side = tables.get(value.length) ?? [];
      side.push([name, value]);
      tables.set(value.length, side);
    } else if (isPlain(value)) {
      parts.push(...blocks(title === '' ? name : `${title}.${name}`, value, digits));
    } else {
      throw new TypeError(
        `reportTable: ${name} must be a number, a text, a list or a report, got ${describe(value)}`,
      );
    }
  }
  const own: string[] = [];
  if (scalars.length > 0) {
    const names = aligned(
      scalars.map(([name]) => name),
      false,
    );
    own.push(beside([names, scalars.map(([, value]) => cell(value, digits))]));
  }
  for (const columns of tables.values()) {
    own.push(
      beside(
        columns.map(([name, list]) => {
          const cells = Array.from(list, (value) => cell(value, digits));
          if (typeof list[0] === 'string') return aligned([name, ...cells], false);
          return aligned([name, ...byPoint(cells)], true);
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
  const size = Math.abs(value);
  // An exponent hides how large an everyday number is.
  return size >= 10 ** digits && size < 1e7 ? value.toFixed(0) : value.toPrecision(digits);
}

/** Numbers with spaces after them, so that their points stand under each other; exponents stay as they are. */
function byPoint(cells: readonly string[]): string[] {
  const after = cells.map((text) => {
    const point = text.indexOf('.');
    return point < 0 || text.includes('e') ? 0 : text.length - point;
  });
  const most = widest(after);
  return cells.map((text, i) =>
    /^-?[\d.]+$/.test(text) ? text + ' '.repeat(most - after[i]) : text,
  );
}

/** Cells of one width, against its right or its left side. */
function aligned(cells: readonly string[], right: boolean): string[] {
  const width = widest(cells.map((text) => text.length));
  return cells.map((text) => (right ? text.padStart(width) : text.padEnd(width)));
}

/** The largest of any number of lengths, which are too many for arguments of a call. */
function widest(lengths: readonly number[]): number {
  return lengths.reduce((most, length) => (length > most ? length : most), 0);
}

function beside(columns: readonly string[][]): string {
  const lines = columns[0].map((_, line) => columns.map((cells) => cells[line]).join('  '));
  return lines.map((line) => line.trimEnd()).join('\n');
}

function isList(value: unknown): value is List {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

/** Whether a value is an object by braces, of any realm: no view, no list, no instance of a class. */
function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || isNd(value) || isList(value)) return false;
  const make: unknown = Object.getPrototypeOf(value);
  return make === null || Object.getPrototypeOf(make) === null;
}

function expectCells(name: string, list: List): void {
  for (let i = 0; i < list.length; i++) {
    const kind = typeof list[i];
    if (kind !== 'number' && kind !== 'string') {
      throw new TypeError(
        `reportTable: ${name} must be a list of numbers or texts, got ${describe(list[i])} at ${i}`,
      );
    }
  }
}
