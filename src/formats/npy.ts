/**
 * Reading `.npy`, NumPy's file of one array: a magic string, a version, a Python dictionary that
 * states type, order and shape, and the elements.
 */

import type { NdView, TypedArray } from '../nd.js';
import { checkedSize, type ElementKind, elementsOf, LITTLE_ENDIAN, quoted } from './elements.js';
import { float16ToFloat32 } from './float16.js';
import { FormatError } from './format-error.js';

/** `\x93NUMPY`, as bytes: browsers decode the first as another character than Node does. */
const MAGIC: readonly number[] = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
/** Version 1 counts the header in 16 bits; the later ones in 32, which no plain array needs. */
const MAX_HEADER = 2 ** 16;
const MAX_RANK = 64;

/** NumPy's type codes. Half precision is widened to float32. */
const KINDS: Readonly<Record<string, ElementKind>> = {
  f4: Float32Array,
  f8: Float64Array,
  i1: Int8Array,
  i2: Int16Array,
  i4: Int32Array,
  i8: BigInt64Array,
  u1: Uint8Array,
  u2: Uint16Array,
  u4: Uint32Array,
  u8: BigUint64Array,
  b1: Uint8Array,
  f2: Uint16Array,
};

/** Why an element type is refused, by its letter, and what to write instead. */
const REFUSED: Readonly<Record<string, string>> = {
  O: 'object arrays hold pickled Python, which is never run; save numeric arrays instead',
  c: 'complex numbers have no typed array; save array.real and array.imag',
  f: 'extended precision has no typed array; save array.astype("f8")',
  S: 'text has no typed array; save its codes',
  U: 'text has no typed array; save its codes',
  M: 'dates have no typed array; save array.astype("i8")',
  m: 'durations have no typed array; save array.astype("i8")',
  V: 'raw bytes have no element type; save array.view("u1")',
};

/**
 * Reads one `.npy` file.
 *
 * @param what - the array's name in messages
 * @param file - the whole file
 * @returns a view of the file's memory where it is aligned, else of a copy; strides follow the
 *   file's order
 * @throws `FormatError` when it is not a plain array, or the elements are not as many as the shape says
 */
export function readNpy(what: string, file: Uint8Array): NdView<TypedArray> {
  const { text, dataStart } = header(what, file);
  const { descr, fortran, shape } = parseHeader(what, text);
  const code = typeCode(what, descr);
  const kind = KINDS[code];
  const size = checkedSize(shape);
  const bytes = file.subarray(dataStart);
  if (size < 0 || size * kind.BYTES_PER_ELEMENT !== bytes.length) {
    throw broken(
      what,
      `its shape [${shape}] of ${code} must fill its ${bytes.length} bytes, got ` +
        `${size < 0 ? 'more elements than can be counted' : size * kind.BYTES_PER_ELEMENT}`,
    );
  }
  const elements = elementsOf(bytes, kind);
  const data = code === 'f2' ? float16ToFloat32(elements as Uint16Array) : elements;
  return { data, shape, stride: strides(shape, fortran), offset: 0 };
}

function broken(what: string, problem: string): FormatError {
  return new FormatError('npz', `readNpz: ${quoted(what)}: ${problem}`);
}

function header(what: string, file: Uint8Array): { text: string; dataStart: number } {
  const major = file[6];
  const isNpy = MAGIC.every((byte, i) => file[i] === byte);
  if (!isNpy || !(major >= 1 && major <= 3) || file[7] !== 0) {
    throw broken(what, 'it must start as an npy file of version 1.0, 2.0 or 3.0');
  }
  const start = major === 1 ? 10 : 12;
  let length = file[8] | (file[9] << 8);
  if (major > 1) length += 2 ** 16 * (file[10] | (file[11] << 8));
  if (file.length < start || start + length > file.length) {
    throw broken(
      what,
      `its header must end within its ${file.length} bytes, got ${start + length}`,
    );
  }
  if (length > MAX_HEADER) {
    throw broken(what, `its header must have at most ${MAX_HEADER} bytes, got ${length}`);
  }
  const bytes = file.subarray(start, start + length);
  // The versions differ in their encoding, but not on any character that a plain array needs.
  return { text: new TextDecoder().decode(bytes), dataStart: start + length };
}

const STRING = /'([^'\\]*)'/y;
const TUPLE = /\(([\dL,\s]*)\)/y;
const BOOL = /True|False/y;
const SPACE = /\s*/y;

interface Header {
  readonly descr: string;
  readonly fortran: boolean;
  readonly shape: number[];
}

/** Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, and nothing else of Python. */
function parseHeader(what: string, text: string): Header {
  let at = 0;
  const fail = (must: string): FormatError =>
    broken(what, `its header must ${must}, got ${quoted(text.slice(at, at + 40))}`);
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found !== null) at += found[0].length;
    return found;
  };
  const token = (character: string): boolean => {
    match(SPACE);
    if (text[at] !== character) return false;
    at++;
    match(SPACE);
    return true;
  };
  const need = (pattern: RegExp, must: string): RegExpExecArray => {
    const found = match(pattern);
    if (found === null) throw fail(must);
    return found;
  };

  let descr: string | undefined;
  let fortran: boolean | undefined;
  let shape: number[] | undefined;
  if (!token('{')) throw fail('be a Python dictionary');
  while (!token('}')) {
    const key = need(STRING, 'have a name in quotes')[1];
    if (!token(':')) throw fail(`have a colon after '${key}'`);
    if (key === 'descr' && descr === undefined) {
      if (text[at] === '[') {
        throw broken(what, 'its elements must be plain, got a structured type; save each field');
      }
      descr = need(STRING, 'have a type in quotes as descr')[1];
    } else if (key === 'fortran_order' && fortran === undefined) {
      fortran = need(BOOL, 'have True or False as fortran_order')[0] === 'True';
    } else if (key === 'shape' && shape === undefined) {
      shape = lengths(what, need(TUPLE, 'have a tuple of lengths as shape')[1]);
    } else {
      at -= key.length + 2;
      throw fail("have 'descr', 'fortran_order' and 'shape' once each");
    }
    if (!token(',') && text[at] !== '}') throw fail('have a comma between its items');
  }
  if (at !== text.length || descr === undefined || fortran === undefined || shape === undefined) {
    throw fail("have 'descr', 'fortran_order' and 'shape', and end");
  }
  return { descr, fortran, shape };
}

function lengths(what: string, tuple: string): number[] {
  // Python 2 wrote a long integer as 3L; a tuple of one ends in a comma.
  const items = tuple.trim() === '' ? [] : tuple.replace(/,\s*$/, '').split(',');
  if (items.length > MAX_RANK) {
    throw broken(what, `its shape must have at most ${MAX_RANK} axes, got ${items.length}`);
  }
  return items.map((item) => {
    const [, digits] = /^\s*(\d{1,20})L?\s*$/.exec(item) ?? [];
    const length = Number(digits);
    if (!Number.isSafeInteger(length)) {
      throw broken(what, `its lengths must be integers below 2^53, got ${quoted(item)}`);
    }
    return length;
  });
}

/** The type's code without its byte order, such as `f4`. */
function typeCode(what: string, descr: string): string {
  const [, order, code] = /^([<>|=]?)([a-zA-Z]\d*.*)$/.exec(descr) ?? [];
  const kind = code === undefined ? undefined : KINDS[code];
  if (kind === undefined || !Object.hasOwn(KINDS, code)) {
    const reason = REFUSED[descr.replace(/^[<>|=]/, '').charAt(0)];
    throw broken(
      what,
      `its elements must be bool, integers or floats of at most 8 bytes, got ${quoted(descr)}` +
        `${reason === undefined ? '' : `: ${reason}`}`,
    );
  }
  if (kind.BYTES_PER_ELEMENT > 1 && order !== (LITTLE_ENDIAN ? '<' : '>')) {
    throw broken(
      what,
      `its elements must be little-endian, got ${quoted(descr)}; save array.astype("<${code}")`,
    );
  }
  return code;
}

function strides(shape: readonly number[], fortran: boolean): number[] {
  const stride = new Array<number>(shape.length);
  let step = 1;
  for (let i = 0; i < shape.length; i++) {
    const axis = fortran ? i : shape.length - 1 - i;
    stride[axis] = step;
    step *= shape[axis];
  }
  return stride;
}
