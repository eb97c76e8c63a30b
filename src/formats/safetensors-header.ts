/**
 * The header of a safetensors file: JSON of one fixed grammar, which is read as that grammar and
 * nothing wider, so that no two readers can take it for different things.
 */

import { quoted } from './elements.js';
import { FormatError } from './format-error.js';

/** What the header says of one tensor. */
export interface TensorInfo {
  readonly dtype: string;
  readonly shape: number[];
  /** First byte, counted from the end of the header. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
}

/** The parsed header. */
export interface SafetensorsHeader {
  readonly metadata: Map<string, string>;
  readonly tensors: Map<string, TensorInfo>;
}

const METADATA = '__metadata__';
const MAX_RANK = 64;
const INTEGER = /(?:0|[1-9]\d{0,15})(?![\d.eE])/y;
const SPACE = /[ \t\n\r]*/y;

/**
 * Parses a header.
 *
 * @param text - the header's text, padding included
 * @throws `FormatError` when it is not the grammar, or a key comes twice
 */
export function parseHeader(text: string): SafetensorsHeader {
  const parser = new Parser(text);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorInfo>();
  let hasMetadata = false;
  if (!text.startsWith('{')) throw parser.fail('start with {');
  parser.object((name) => {
    if (name !== METADATA) {
      if (tensors.has(name)) throw parser.fail(`have each key once, got ${quoted(name)} twice`);
      tensors.set(name, tensorInfo(parser, name));
      return;
    }
    if (hasMetadata) throw parser.fail(`have each key once, got "${METADATA}" twice`);
    hasMetadata = true;
    parser.object((key) => {
      if (metadata.has(key)) throw parser.fail(`have each key once, got ${quoted(key)} twice`);
      metadata.set(key, parser.string('text as metadata'));
    });
  });
  parser.end();
  return { metadata, tensors };
}

function tensorInfo(parser: Parser, name: string): TensorInfo {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  parser.object((key) => {
    if (key === 'dtype' && dtype === undefined) dtype = parser.string('text as dtype');
    else if (key === 'shape' && shape === undefined) shape = parser.integers();
    else if (key === 'data_offsets' && offsets === undefined) offsets = parser.integers();
    else throw parser.fail(`have dtype, shape and data_offsets once each for ${quoted(name)}`);
  });
  if (dtype === undefined || shape === undefined || offsets?.length !== 2) {
    throw parser.fail(`have dtype, shape and two data_offsets for ${quoted(name)}`);
  }
  return { dtype, shape, begin: offsets[0], end: offsets[1] };
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  fail(must: string): FormatError {
    return new FormatError(
      'safetensors',
      `readSafetensors: the header must ${must}, at character ${this.#at}: ` +
        quoted(this.#text.slice(this.#at, this.#at + 40)),
    );
  }

  /** `{ "key": value, ... }`; `value` reads each value. */
  object(value: (key: string) => void): void {
    this.#need('{');
    if (this.#token('}')) return;
    do {
      const key = this.string('keys in quotes');
      this.#need(':');
      value(key);
    } while (this.#token(','));
    this.#need('}');
  }

  /** A list of non-negative integers below 2^53. */
  integers(): number[] {
    const list: number[] = [];
    this.#need('[');
    if (this.#token(']')) return list;
    do {
      if (list.length === MAX_RANK) throw this.fail(`have at most ${MAX_RANK} axes`);
      const value = Number(this.#match(INTEGER) ?? Number.NaN);
      if (!Number.isSafeInteger(value)) throw this.fail('have integers below 2^53');
      list.push(value);
    } while (this.#token(','));
    this.#need(']');
    return list;
  }

  string(what: string): string {
    const fail = (): FormatError => this.fail(`have ${what}`);
    if (this.#text[this.#at] !== '"') throw fail();
    let end = this.#at + 1;
    while (end < this.#text.length && this.#text[end] !== '"') {
      end += this.#text[end] === '\\' ? 2 : 1;
    }
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(this.#at, end + 1)) as string;
    } catch {
      throw fail();
    }
    if (/\p{Surrogate}/u.test(value)) throw fail();
    this.#at = end + 1;
    return value;
  }

  end(): void {
    this.#match(SPACE);
    if (this.#at !== this.#text.length) throw this.fail('end after its object');
  }

  #need(character: string): void {
    if (!this.#token(character)) throw this.fail(`have ${character}`);
  }

  #token(character: string): boolean {
    this.#match(SPACE);
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    this.#match(SPACE);
    return true;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return null;
    this.#at += found[0].length;
    return found[0];
  }
}
