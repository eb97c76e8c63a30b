/**
 * The weights of one stack among the tensors of a checkpoint: finds its keys, hands tensors out by
 * name and shape, and keeps account, so that a single error names everything that is wrong.
 */

import {
  describe,
  expectExtent,
  isNd,
  isTypedArray,
  type NdView,
  packed,
  type TypedArray,
} from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';

/** Which tensors of a checkpoint are the stack's. */
export interface TensorTableOptions {
  /** Beginning of the stack's keys; found by default. */
  readonly prefix?: string;
  /** Beginnings of keys to leave out, relative to the prefix or absolute. */
  readonly ignore?: readonly string[];
}

/** Token models hold these beside the stack, which takes and gives vectors. */
const EMBEDDINGS: readonly string[] = ['embedding.weight', 'embeddings.weight'];
const HEAD = 'lm_head.weight';

/** Name of the norm after the last layer. */
export const FINAL_NORM = 'norm_f.weight';

const LAYER = /^((?:.*\.)?)layers\.(0|[1-9]\d*)\.mixer\.(.+)$/s;
const DECAY = 'A_log';

/** The tensors of one stack of layers, by their names behind its prefix. */
export class TensorTable {
  /** What the stack's keys begin with, such as `backbone.`; may be empty. */
  readonly prefix: string;
  /** One more than the highest number of a layer. */
  readonly nLayers: number;
  private readonly what: string;
  private readonly tensors: ReadonlyMap<string, NdView<TypedArray>>;
  private readonly isGivenPrefix: boolean;
  private readonly used: Set<string> = new Set();
  private readonly missing: string[] = [];
  private readonly wrong: string[] = [];
  private readonly problems: string[] = [];

  /**
   * @param what - the name used in messages
   * @param tensors - the tensors of the checkpoint by key
   * @param options - which of them are the stack's
   * @throws TypeError when `tensors` is not an object of views, or an option is not text
   * @throws {@link ModelContractError} when there is no stack among them, or several to choose from
   */
  constructor(
    what: string,
    tensors: Readonly<Record<string, NdView<TypedArray>>>,
    { prefix, ignore = [] }: TensorTableOptions = {},
  ) {
    this.what = what;
    checkOptions(what, prefix, ignore);
    const wanted = entriesOf(what, tensors).filter(
      ([key]) => !ignore.some((start) => key.startsWith(start)),
    );
    this.prefix = stackPrefix(what, wanted, prefix);
    this.isGivenPrefix = prefix !== undefined;
    const isRelativelyIgnored = (key: string): boolean =>
      key.startsWith(this.prefix) &&
      ignore.some((start) => key.startsWith(start, this.prefix.length));
    this.tensors = new Map(wanted.filter(([key]) => !isRelativelyIgnored(key)));
    this.nLayers = this.countLayers();
  }

  /** The shape of a tensor, or undefined where there is none of this name. */
  shape(name: string): readonly number[] | undefined {
    return this.tensors.get(this.prefix + name)?.shape;
  }

  /** Whether any layer has a tensor of this name, such as `mixer.conv1d.bias`. */
  inAnyLayer(name: string): boolean {
    return this.layerShapes(name).length > 0;
  }

  /** The shapes of a tensor of this name in all layers that have one. */
  layerShapes(name: string): (readonly number[])[] {
    const shapes = Array.from({ length: this.nLayers }, (_, i) =>
      this.shape(`layers.${i}.${name}`),
    );
    return shapes.filter((shape) => shape !== undefined);
  }

  /**
   * The elements of a tensor as float32, row-major; shared with the checkpoint where they lie so.
   *
   * What is missing or wrong is noted for {@link finish}, and an empty array stands for it.
   *
   * @param name - behind the prefix
   * @param shape - what must hold; NaN for a length that nothing tells
   * @param map - applied to each element before it is rounded to float32
   * @throws TypeError when the tensor is neither float32 nor float64
   * @throws `ShapeError` when the view reaches outside its data
   */
  take(name: string, shape: readonly number[], map?: (element: number) => number): Float32Array {
    const key = this.prefix + name;
    const view = this.tensors.get(key);
    this.used.add(key);
    if (view === undefined) {
      this.missing.push(key);
      return new Float32Array(0);
    }
    const fits = shape.length === view.shape.length;
    if (
      !fits ||
      shape.some((length, axis) => !Number.isNaN(length) && length !== view.shape[axis])
    ) {
      this.wrong.push(`${key}: must be ${shapeText(shape)}, got ${shapeText(view.shape)}`);
      return new Float32Array(0);
    }
    expectExtent(`${this.what}: ${key}`, view);
    return this.finite(key, view.shape, floatsOf(this.what, key, view), map);
  }

  /** Marks a tensor as known, though nobody reads it. */
  leave(name: string): void {
    this.used.add(this.prefix + name);
  }

  /** Notes anything else that is wrong, for {@link finish}. */
  note(problem: string): void {
    this.problems.push(problem);
  }

  /**
   * Ends the reading.
   *
   * @param kind - what the weights should have been, such as `a Mamba-2 stack`
   * @param sizes - the sizes that decided which shapes are right
   * @throws {@link ModelContractError} when anything was missing, left over or wrong; it lists all of it
   */
  finish(kind: string, sizes: Readonly<Record<string, number>>): void {
    const extra = this.extraKeys();
    const { missing, wrong, problems } = this;
    if (missing.length + extra.length + wrong.length + problems.length === 0) {
      // Axes of length 0 tell no size, and everything fits them.
      const empty = Object.keys(sizes).filter((name) => !(sizes[name] > 0));
      if (empty.length === 0) return;
      this.note(`${empty.join(', ')} must be positive, got tensors without elements`);
    }
    const lines = [`${this.what}: the weights${this.under()} must be those of ${kind}`];
    for (const problem of problems) lines.push(problem);
    if (missing.length > 0) {
      lines.push(`missing keys: ${missing.join(', ')}; ${this.missingRemedy()}`);
    }
    if (extra.length > 0) lines.push(`extra keys: ${extra.join(', ')}; ${this.extraRemedy(extra)}`);
    if (wrong.length > 0) {
      lines.push(`wrong shapes (${sizesText(sizes)}):`, ...wrong.map((line) => `  ${line}`));
    }
    throw new ModelContractError(lines.join('\n  '));
  }

  /** Where the stack's keys lie, for messages. */
  private under(): string {
    return this.prefix === '' ? '' : ` under '${this.prefix}'`;
  }

  private extraKeys(): string[] {
    const { prefix } = this;
    return [...this.tensors.keys()].filter((key) => {
      if (this.used.has(key)) return false;
      if (key.startsWith(prefix)) {
        const name = key.slice(prefix.length);
        return !(EMBEDDINGS.includes(name) || (prefix === '' && name === HEAD));
      }
      // The head lies beside the stack, or beside whatever holds it.
      const isHead = key.endsWith(HEAD) && prefix.startsWith(key.slice(0, -HEAD.length));
      return !this.isGivenPrefix && !isHead;
    });
  }

  private missingRemedy(): string {
    const isNormAlone =
      this.missing.length === 1 && this.missing[0] === `${this.prefix}${FINAL_NORM}`;
    return isNormAlone
      ? 'a stack that ends without a norm needs finalNorm: false'
      : 'save the whole state_dict';
  }

  private extraRemedy(extra: readonly string[]): string {
    const { prefix } = this;
    const names = extra
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
    const remedies: string[] = [];
    if (names.some((name) => /(^|\.)norm(2|_f)?\.bias$/.test(name))) {
      remedies.push('norms with a bias are LayerNorm, which is not supported: train with RMSNorm');
    } else if (names.some((name) => name.startsWith('layers.'))) {
      remedies.push('check that the configuration is that of the training code');
    }
    if (names.length < extra.length) {
      remedies.push(`pass prefix: '${prefix}' to read only the keys under it`);
    }
    const other = names.find((name) => !name.startsWith('layers.') && !name.startsWith('norm_f.'));
    if (other !== undefined) {
      const start = other.slice(0, other.indexOf('.') + 1) || other;
      remedies.push(`leave out what runs elsewhere, as in ignore: ['${start}']`);
    }
    return remedies.join('; ');
  }

  private countLayers(): number {
    const numbers = [...this.tensors.keys()]
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => /^layers\.(0|[1-9]\d*)\./.exec(key.slice(this.prefix.length))?.[1])
      .filter((number) => number !== undefined);
    const highest = numbers.reduce((most, number) => Math.max(most, Number(number)), -1);
    if (highest >= this.tensors.size) {
      throw new ModelContractError(
        `${this.what}: layers${this.under()} must be numbered from 0 without gaps, got layer ` +
          `${highest} among ${this.tensors.size} tensors`,
      );
    }
    return highest + 1;
  }

  private finite(
    key: string,
    shape: readonly number[],
    from: Float32Array | Float64Array,
    map?: (element: number) => number,
  ): Float32Array {
    const isRead = map === undefined && from instanceof Float32Array;
    const to = isRead ? from : new Float32Array(from.length);
    for (let i = 0; i < from.length; i++) {
      const element = from[i];
      if (!isRead) to[i] = map === undefined ? element : map(element);
      if (!Number.isFinite(element) || !Number.isFinite(to[i])) {
        this.note(
          `${key}: must give finite float32 values, got ${element} at ${indexText(i, shape)}`,
        );
        return new Float32Array(0);
      }
    }
    return to;
  }
}

/**
 * The length that most tensors agree on, so that one wrong tensor is not taken for the measure of all
 * others; the first of equally common ones, and NaN of none.
 */
export function commonLength(lengths: readonly (number | undefined)[]): number {
  const counts = new Map<number, number>();
  for (const length of lengths) {
    if (length !== undefined && Number.isInteger(length) && length > 0) {
      counts.set(length, (counts.get(length) ?? 0) + 1);
    }
  }
  let common = Number.NaN;
  let most = 0;
  for (const [length, count] of counts) {
    if (count > most) {
      most = count;
      common = length;
    }
  }
  return common;
}

function checkOptions(what: string, prefix: unknown, ignore: unknown): void {
  if (prefix !== undefined && typeof prefix !== 'string') {
    throw new TypeError(`${what}: prefix must be text, got ${describe(prefix)}`);
  }
  const isList = Array.isArray(ignore);
  const stranger = isList ? ignore.find((start) => typeof start !== 'string' || start === '') : 0;
  if (!isList || stranger !== undefined) {
    throw new TypeError(
      `${what}: ignore must be an array of beginnings of keys, such as ['stem.'], ` +
        `got ${isList ? `${JSON.stringify(stranger)} in it` : describe(ignore)}`,
    );
  }
}

function entriesOf(
  what: string,
  tensors: Readonly<Record<string, NdView<TypedArray>>>,
): [string, NdView<TypedArray>][] {
  if (typeof tensors !== 'object' || tensors === null || Array.isArray(tensors) || isNd(tensors)) {
    throw new TypeError(
      `${what}: weights must be an object of views by key, got ${describe(tensors)}`,
    );
  }
  const entries = Object.entries(tensors);
  for (const [key, value] of entries) {
    if (!isNd(value) || !isTypedArray(value.data)) {
      throw new TypeError(
        `${what}: ${key} must be a view, got ${describe(value)}; make one with nd()`,
      );
    }
  }
  return entries;
}

function stackPrefix(
  what: string,
  entries: readonly (readonly [string, unknown])[],
  given: string | undefined,
): string {
  const keys = entries.map(([key]) => key);
  const mixers = keys.map((key) => LAYER.exec(key)).filter((match) => match !== null);
  const decays = mixers.filter(([, , , name]) => name === DECAY);
  // A stack that lost every A_log is still the one whose keys are missing.
  const found = [...new Set((decays.length > 0 ? decays : mixers).map(([, prefix]) => prefix))];
  const list = found.map((prefix) => `'${prefix}'`);
  if (found.length === 0) {
    const first = keys.slice(0, 8).join(', ');
    const more = keys.length > 8 ? ` and ${keys.length - 8} more` : '';
    throw new ModelContractError(
      `${what}: the weights must have keys such as backbone.layers.0.mixer.${DECAY}, ` +
        `got ${keys.length === 0 ? 'none' : first + more}`,
    );
  }
  if (given === undefined) {
    if (found.length === 1) return found[0];
    throw new ModelContractError(
      `${what}: the weights must hold one stack, got layers under ${list.join(' and ')}; ` +
        `choose one, as in prefix: ${list[0]}`,
    );
  }
  if (!found.includes(given)) {
    throw new ModelContractError(
      `${what}: prefix must be what the keys of a stack begin with, here ${list.join(' or ')}, ` +
        `got '${given}'`,
    );
  }
  return given;
}

function floatsOf(
  what: string,
  key: string,
  view: NdView<TypedArray>,
): Float32Array | Float64Array {
  const { data } = view;
  if (data instanceof Float32Array || data instanceof Float64Array) {
    return packed(view as NdView<Float32Array | Float64Array>);
  }
  throw new TypeError(
    `${what}: ${key} must be float32 or float64, got ${describe(view)}; convert it, ` +
      'as in Float32Array.from(data)',
  );
}

function shapeText(shape: readonly number[]): string {
  return `[${shape.map((length) => (Number.isNaN(length) ? '?' : length)).join(', ')}]`;
}

function sizesText(sizes: Readonly<Record<string, number>>): string {
  return Object.entries(sizes)
    .map(([name, size]) => `${name} ${Number.isNaN(size) ? '?' : size}`)
    .join(', ');
}

/** Where an element lies, `[i, j]`. */
function indexText(index: number, shape: readonly number[]): string {
  const place: number[] = [];
  for (let axis = shape.length - 1, rest = index; axis >= 0; axis--) {
    place.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return shapeText(place);
}
