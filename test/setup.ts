import { expect } from 'vitest';

type Numbers = ArrayLike<number>;

/** Differences listed in a failure message before it is cut short. */
const LISTED = 8;

/** The typed array's constructor name, `Array` for plain arrays; null for anything else. */
function arrayKind(value: unknown): string | null {
  if (Array.isArray(value)) return value.every((x) => typeof x === 'number') ? 'Array' : null;
  if (!ArrayBuffer.isView(value) || value instanceof DataView) return null;
  if (value instanceof BigInt64Array || value instanceof BigUint64Array) return null;
  return value.constructor.name;
}

function describeKind(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value);
  const kind = value.constructor?.name ?? 'object';
  return kind === 'Array' ? 'an Array with entries that are not numbers' : kind;
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function listDifferences(
  actual: Numbers,
  expected: Numbers,
  differs: (index: number) => boolean,
): { count: number; text: string } {
  const lines: string[] = [];
  let count = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!differs(i)) continue;
    count++;
    if (lines.length < LISTED) lines.push(`  [${i}] ${actual[i]}, expected ${expected[i]}`);
  }
  if (count > LISTED) lines.push(`  and ${count - LISTED} more`);
  return { count, text: lines.join('\n') };
}

expect.extend({
  /**
   * Elementwise `|actual - expected| <= atol + rtol * |expected|`, as numpy.allclose; NaN equals
   * only NaN, an infinity only itself. Lengths must agree; the array types need not.
   */
  toBeAllclose(
    actual: unknown,
    expected: unknown,
    { rtol = 1e-5, atol = 1e-8 }: { rtol?: number; atol?: number } = {},
  ) {
    if (arrayKind(actual) === null || arrayKind(expected) === null) {
      // A wrong kind fails with and without `.not`.
      throw new TypeError(
        'toBeAllclose: both sides must be typed arrays or arrays of numbers, ' +
          `got ${describeKind(actual)} and ${describeKind(expected)}`,
      );
    }
    const a = actual as Numbers;
    const e = expected as Numbers;
    if (a.length !== e.length) {
      return {
        pass: false,
        message: () => `expected ${e.length} numbers, got ${a.length}`,
      };
    }
    let worst = 0;
    const { count, text } = listDifferences(a, e, (i) => {
      const x = a[i] as number;
      const y = e[i] as number;
      if (Object.is(x, y) || x === y) return false;
      const gap = Math.abs(x - y);
      if (gap > worst) worst = gap;
      // NaN compares false, and an infinite expectation would allow any gap.
      return !(Number.isFinite(y) && gap <= atol + rtol * Math.abs(y));
    });
    return {
      pass: count === 0,
      message: () =>
        count === 0
          ? `expected some number to differ by more than atol ${atol} + rtol ${rtol}`
          : `${count} of ${e.length} numbers differ by more than atol ${atol} + rtol ${rtol} ` +
            `(largest gap ${worst})\n${text}`,
    };
  },

  /** The same array type, the same length and the same bits: tells -0 from 0 and NaN payloads. */
  toBeBitEqual(actual: unknown, expected: unknown) {
    const kind = arrayKind(actual);
    const expectedKind = arrayKind(expected);
    if (kind === null || expectedKind === null) {
      throw new TypeError(
        'toBeBitEqual: both sides must be typed arrays or arrays of numbers, ' +
          `got ${describeKind(actual)} and ${describeKind(expected)}`,
      );
    }
    const a = actual as Numbers;
    const e = expected as Numbers;
    if (kind !== expectedKind || a.length !== e.length) {
      return {
        pass: false,
        message: () => `expected ${expectedKind}(${e.length}), got ${kind}(${a.length})`,
      };
    }
    // Plain arrays hold float64: compare those bits.
    const left = ArrayBuffer.isView(actual) ? actual : Float64Array.from(a);
    const right = ArrayBuffer.isView(expected) ? expected : Float64Array.from(e);
    const x = bytesOf(left);
    const y = bytesOf(right);
    const width = a.length === 0 ? 0 : x.length / a.length;
    const { count, text } = listDifferences(a, e, (i) => {
      for (let b = i * width; b < (i + 1) * width; b++) if (x[b] !== y[b]) return true;
      return false;
    });
    return {
      pass: count === 0,
      message: () =>
        count === 0
          ? 'expected some element to differ in its bits'
          : `${count} of ${e.length} elements differ in their bits\n${text}`,
    };
  },
});
