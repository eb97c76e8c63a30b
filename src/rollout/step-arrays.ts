/** Arrays of one number a step, `[B, T]`: what returns are computed from, and the checks they share. */

import { describe, expectExtent, isNd, type NdView, packed, ShapeError } from '../nd.js';

/**
 * Which transition the step arrays' index `t` belongs to: with `departure`, Gymnasium's, the one that
 * leaves observation `t`; with `arrival`, Dreamer's, the one that leads into it.
 */
export type StepAlignment = 'arrival' | 'departure';

/** Numbers of any float type; `[B, T]` unless it says otherwise. */
export type FloatView = NdView<Float32Array | Float64Array>;

/** Flags 0 and 1, or probabilities between them, `[B, T]`. */
export type FlagView = NdView<Uint8Array | Float32Array | Float64Array>;

/** The elements of flags. */
type FlagData = Uint8Array | Float32Array | Float64Array;

/** Where episodes end and which steps happened, in the fields of a `Trajectory`; `[B, T]` each. */
export interface StepEnds {
  /** 1 where the episode ended, or one minus the predicted probability that it goes on. */
  terminated?: FlagView;
  /** What the future counts besides `gamma`, in [0, 1]; wins over `terminated`. */
  discount?: FlagView;
  /** 1 at the last step of an episode, whether it terminated or was truncated. Default 0. */
  last?: FlagView;
  /** 1 where the episode was cut: as `last`, for those who have it apart. Default 0. */
  truncated?: FlagView;
  /** 0 for padding: nothing reaches over it, and results there are 0. Default 1. */
  mask?: FlagView;
}

/**
 * Checks an array of one number a step.
 *
 * @param what - the name used in messages, such as `gae: reward`
 * @param wanted - the shape that must hold; undefined leaves it to the array
 * @param remedy - what to do about another shape
 * @returns its elements, row-major, perhaps shared: to be read only
 * @throws TypeError when it is no view of a float type; `ShapeError` when it is not of that shape
 */
export function expectFloats(
  what: string,
  value: unknown,
  wanted: readonly [number, number] | undefined,
  remedy: string = '',
): Float32Array | Float64Array {
  if (!isNd(value) || !isFloatArray(value.data)) {
    throw new TypeError(
      `${what} must be a [B, T] view of Float32Array, got ${describe(value)}; make one with nd()`,
    );
  }
  expectSteps(what, value as FloatView, wanted, remedy);
  return packed(value as FloatView);
}

/** The same for flags and probabilities; whether they lie in [0, 1] is left to the reader. */
function expectFlags(what: string, value: unknown, wanted: readonly [number, number]): FlagData {
  const flags = expectFlagView(what, value);
  expectSteps(what, flags, wanted);
  return packed(flags);
}

/** @throws TypeError when a value is no view of flags or probabilities, `ShapeError` when of another rank */
export function expectFlagView(what: string, value: unknown): FlagView {
  if (!isNd(value) || !(isFloatArray(value.data) || value.data instanceof Uint8Array)) {
    throw new TypeError(
      `${what} must be a [B, T] view of Uint8Array or Float32Array, got ${describe(value)}; ` +
        'make one with nd()',
    );
  }
  expectSteps(what, value as FlagView, undefined);
  return value as FlagView;
}

/** Where episodes end, read row by row: a batch costs no more memory than a row. */
export class EndRows {
  /** `discount`, or `1 - terminated`, of the row read last, `[T]`. */
  readonly discount: Float64Array;
  /**
   * What remains of the chain of returns after each step of the row read last, `[T]`: 0 at a cut, else 1;
   * not for the row's last step.
   */
  readonly open: Float64Array;
  /** 0 for padding, of all rows, `[B * T]`; absent when there is none. */
  readonly mask: FlagData | undefined;
  readonly #what: string;
  readonly #first: number;
  readonly #ends: FlagData | undefined;
  readonly #endName: 'discount' | 'terminated';
  readonly #last: FlagData | undefined;
  readonly #truncated: FlagData | undefined;

  /**
   * @param what - the name used in messages, such as `gae`
   * @param shape - `[B, T]`
   * @param first - the first index that belongs to a transition of the row; what is before it is not read
   * @throws TypeError or `ShapeError` for arrays of another kind or shape
   */
  constructor(what: string, ends: StepEnds, shape: readonly [number, number], first: number = 0) {
    const elementsOf = (name: keyof StepEnds): FlagData | undefined =>
      ends[name] === undefined ? undefined : expectFlags(`${what}: ${name}`, ends[name], shape);
    this.#what = what;
    this.#first = first;
    this.#endName = ends.discount === undefined ? 'terminated' : 'discount';
    this.mask = elementsOf('mask');
    this.#ends = elementsOf(this.#endName);
    this.#last = elementsOf('last');
    this.#truncated = elementsOf('truncated');
    this.discount = new Float64Array(shape[1]).fill(1);
    this.open = new Float64Array(shape[1]).fill(1);
  }

  /**
   * Reads a row into `discount` and `open`; padding is left as it was.
   *
   * @throws RangeError when a mask is neither 0 nor 1, or an end is not in [0, 1]
   */
  read(row: number): void {
    const { discount, mask, open } = this;
    const steps = discount.length;
    const from = row * steps;
    const ends = this.#ends;
    const inverted = this.#endName === 'terminated';
    const last = this.#last;
    const truncated = this.#truncated;
    if (mask !== undefined) {
      for (let t = 0; t < steps; t++) {
        const flag = mask[from + t];
        if (flag !== 0 && flag !== 1) {
          throw new RangeError(`${this.#what}: mask must be 0 or 1, got ${flag} at [${row}, ${t}]`);
        }
      }
    }
    const cuts = last !== undefined || truncated !== undefined || mask !== undefined;
    for (let t = this.#first; t < steps; t++) {
      const i = from + t;
      if (mask !== undefined && mask[i] === 0) continue;
      if (ends !== undefined) {
        const end = ends[i];
        if (!(end >= 0 && end <= 1)) this.#refuse(this.#endName, end, row, t);
        discount[t] = inverted ? 1 - end : end;
      }
      if (!cuts) continue;
      let chain = 1;
      if (last !== undefined) {
        const cut = last[i];
        if (!(cut >= 0 && cut <= 1)) this.#refuse('last', cut, row, t);
        chain = 1 - cut;
      }
      if (truncated !== undefined) {
        const cut = truncated[i];
        if (!(cut >= 0 && cut <= 1)) this.#refuse('truncated', cut, row, t);
        chain *= 1 - cut;
      }
      // What padding holds is no return: the step before it is a last one, flagged or not.
      if (mask !== undefined && t + 1 < steps && mask[i + 1] === 0) chain = 0;
      open[t] = chain;
    }
  }

  #refuse(name: string, flag: number, row: number, t: number): never {
    throw new RangeError(
      `${this.#what}: ${name} must lie in [0, 1], got ${flag} at [${row}, ${t}]`,
    );
  }
}

/**
 * Checks that something says where episodes end: returns that ran on over an end would be silently wrong.
 *
 * @throws TypeError when neither `terminated` nor `discount` is there
 */
export function expectEnds(what: string, { terminated, discount }: StepEnds): void {
  if (terminated === undefined && discount === undefined) {
    throw new TypeError(
      `${what}: terminated or discount must be given, got neither; ` +
        'where nothing ever ends, give terminated as zeros',
    );
  }
}

/**
 * The value of each observation of departure alignment, one more than there are steps.
 *
 * @param steps - the shape of the step arrays, `[B, T]`
 * @throws TypeError when it is missing; `ShapeError` when it is not `[B, T + 1]`
 */
export function expectDepartureValues(
  what: string,
  value: unknown,
  steps: readonly [number, number],
  remedy: string = '',
): Float32Array | Float64Array {
  expectValue(what, value);
  return expectFloats(`${what}: value`, value, [steps[0], steps[1] + 1], remedy);
}

/** @throws TypeError when there is no value, as in a trajectory that was made without a value function */
export function expectValue(what: string, value: unknown): void {
  if (value === undefined) {
    throw new TypeError(
      `${what}: value must be a view of the values of the observations, got undefined; ` +
        'a Trajectory has it where `value` was passed to imagine',
    );
  }
}

/** @throws RangeError when a factor is not in [0, 1] */
export function expectShare(what: string, value: unknown): void {
  if (!(typeof value === 'number' && value >= 0 && value <= 1)) {
    throw new RangeError(`${what} must be a number in [0, 1], got ${String(value)}`);
  }
}

/** @throws TypeError when options are no object, RangeError for an unknown alignment */
export function expectAlignment(what: string, options: unknown): void {
  expectObject(what, options);
  const { align } = options as { align?: unknown };
  if (align !== undefined && align !== 'arrival' && align !== 'departure') {
    throw new RangeError(`${what}: align must be 'arrival' or 'departure', got ${String(align)}`);
  }
}

/** @throws TypeError when options, or what else is named, are no object */
export function expectObject(what: string, options: unknown, name: string = 'options'): void {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`${what}: ${name} must be an object, got ${describe(options)}`);
  }
}

function expectSteps(
  what: string,
  view: NdView<Uint8Array | Float32Array | Float64Array>,
  wanted: readonly [number, number] | undefined,
  remedy: string = '',
): void {
  const { shape } = view;
  const fits =
    shape.length === 2 &&
    (wanted === undefined || (shape[0] === wanted[0] && shape[1] === wanted[1]));
  if (!fits) {
    const must = wanted === undefined ? 'B, T' : wanted.join(', ');
    throw new ShapeError(
      `${what} must have shape [${must}], got [${shape.join(', ')}]` +
        `${remedy === '' ? '' : `; ${remedy}`}`,
    );
  }
  expectExtent(what, view);
}

function isFloatArray(data: unknown): data is Float32Array | Float64Array {
  return data instanceof Float32Array || data instanceof Float64Array;
}
