/**
 * Random arrays and calls for the tests of the state-space functions. A call names its arrays and the
 * axes of each by letters, so that one test can cut, permute and lay out those of all three functions.
 */

import fc from 'fast-check';
import { type NdView, nd, type TypedArray } from 'umwelt';
import {
  causalConv1d,
  KernelMemory,
  type KernelVariant,
  type ScanResult,
  selectiveScan,
  ssd,
} from 'umwelt/ssm';

const names: readonly KernelVariant[] = ['relaxed', 'simd', 'scalar'];

/** Every variant this process has: relaxed SIMD may need a flag of Node's. */
export const variants: readonly KernelVariant[] = names.filter((variant) => {
  try {
    new KernelMemory({ bytes: 1, variant });
    return true;
  } catch {
    return false;
  }
});

const memories = new Map<KernelVariant, KernelMemory>();

/** The memory of a test file for a variant, 16 MiB. */
export function memoryOf(variant: KernelVariant): KernelMemory {
  let memory = memories.get(variant);
  if (memory === undefined) {
    memory = new KernelMemory({ bytes: 2 ** 24, variant });
    memories.set(variant, memory);
  }
  return memory;
}

/** Uniform numbers in 0..1 of a seed: Steele and others' SplitMix, in 32 bits. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** An integer in low..high. */
export function integer(random: () => number, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

/** An array of a shape with elements one by one from a function. */
export function filled(shape: readonly number[], element: () => number): NdView {
  const data = new Float32Array(product(shape));
  for (let i = 0; i < data.length; i++) data[i] = element();
  return nd(data, shape);
}

export function product(shape: readonly number[]): number {
  return shape.reduce((size, length) => size * length, 1);
}

/** The elements of a view, row-major, copied. */
export function elements(view: NdView<TypedArray>): Float32Array {
  const { data, shape, stride, offset } = view;
  const size = product(shape);
  if (data instanceof Float32Array && isRowMajor(view)) return data.slice(offset, offset + size);
  const out = new Float32Array(size);
  positions({ shape, stride, offset }, (at, to) => {
    out[to] = Number(data[at]);
  });
  return out;
}

function isRowMajor({ shape, stride }: NdView<TypedArray>): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (stride[axis] !== step) return false;
    step *= shape[axis];
  }
  return true;
}

/** Where in its store each element of a view lies, row-major. */
export function positions(
  { shape, stride, offset }: Layout & { readonly shape: readonly number[] },
  visit: (at: number, index: number) => void,
): void {
  const last = shape.length - 1;
  let index = 0;
  const walk = (axis: number, from: number): void => {
    for (let i = 0, at = from; i < shape[axis]; i++, at += stride[axis]) {
      if (axis === last) visit(at, index++);
      else walk(axis + 1, at);
    }
  };
  walk(0, offset);
}

/** `sqrt(sum (actual - expected)^2 / sum expected^2)`; infinite where only the expected ones are 0. */
export function relativeRms(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) {
    throw new Error(`relativeRms: ${actual.length} numbers against ${expected.length}`);
  }
  let gaps = 0;
  let sum = 0;
  for (let i = 0; i < expected.length; i++) {
    gaps += (actual[i] - expected[i]) ** 2;
    sum += expected[i] ** 2;
  }
  return gaps === 0 ? 0 : Math.sqrt(gaps / sum);
}

/** Elements from `from` to before `to` along an axis, as a view. */
export function cut<T extends TypedArray>(
  view: NdView<T>,
  axis: number,
  from: number,
  to: number,
): NdView<T> {
  const shape = view.shape.map((length, i) => (i === axis ? to - from : length));
  return { ...view, shape, offset: view.offset + from * view.stride[axis] };
}

/** Rows of an array, copied. */
export function rowsOf<T extends TypedArray>(view: NdView<T>, rows: readonly number[]): NdView {
  const [, ...inner] = view.shape;
  const parts = rows.map((row) => elements(cut(view, 0, row, row + 1)));
  const width = product(inner);
  const out = new Float32Array(rows.length * width);
  for (const [i, part] of parts.entries()) out.set(part, i * width);
  return nd(out, [rows.length, ...inner]);
}

export interface Layout {
  readonly stride: readonly number[];
  readonly offset: number;
}

/** Elements kept free before and after a layout. */
const MARGIN = 17;

/**
 * A random layout of a shape: axes in any order and direction, with or without gaps between their
 * elements, away from the start of the store.
 *
 * @returns with the length of the store it needs
 */
export function randomLayout(
  shape: readonly number[],
  random: () => number,
): Layout & { readonly length: number } {
  const order = shape.map((_, axis) => axis);
  // Half of the layouts keep the order, as most arrays do.
  if (random() < 0.5) {
    for (let i = order.length - 1; i > 0; i--) {
      const j = integer(random, 0, i);
      [order[i], order[j]] = [order[j], order[i]];
    }
  }
  const gap = () => (random() < 0.25 ? integer(random, 1, 3) : 0);
  const stride = new Array<number>(shape.length);
  let offset = MARGIN;
  let step = 1 + gap();
  for (const axis of order.reverse()) {
    const reversed = random() < 0.2;
    stride[axis] = reversed ? -step : step;
    if (reversed) offset += Math.max(0, shape[axis] - 1) * step;
    step = step * Math.max(1, shape[axis]) + gap();
  }
  return { stride, offset, length: step + 2 * MARGIN };
}

/** Makes the store of a view. */
export type Store = (length: number) => Float32Array;

export const plainStore: Store = (length) => new Float32Array(length);

/** A view of a random layout over a store full of `filler`. */
export function scattered(
  shape: readonly number[],
  random: () => number,
  filler: number,
  store: Store = plainStore,
): NdView {
  const { stride, offset, length } = randomLayout(shape, random);
  return { data: store(length).fill(filler), shape: [...shape], stride, offset };
}

/** Copies elements, row-major, to where a view has them. */
export function write(view: NdView, values: ArrayLike<number>): NdView {
  positions(view, (at, index) => {
    view.data[at] = values[index];
  });
  return view;
}

export type FunctionName = 'selectiveScan' | 'ssd' | 'causalConv1d';

export const functionNames: readonly FunctionName[] = ['selectiveScan', 'ssd', 'causalConv1d'];

/** The arrays of one call by the names of arguments and options; vectors are views of rank 1. */
export type Arrays = Readonly<Record<string, NdView<TypedArray>>>;

export interface Call {
  readonly name: FunctionName;
  readonly arrays: Arrays;
  /** The axes of each array by letters, and of the results. */
  readonly letters: Readonly<Record<string, string>>;
  /** Options that are not arrays. */
  readonly options: Readonly<Record<string, unknown>>;
}

const functions = { selectiveScan, ssd, causalConv1d };

/** Arguments that come by position, in order. */
export const positional: Readonly<Record<FunctionName, readonly string[]>> = {
  selectiveScan: ['u', 'delta', 'A', 'B', 'C'],
  ssd: ['x', 'dt', 'A', 'B', 'C'],
  causalConv1d: ['x', 'weight'],
};

export interface Place {
  readonly memory?: KernelMemory;
  readonly out?: { readonly y?: NdView; readonly lastState?: NdView };
}

/** Calls the function. */
export function run({ name, arrays, options }: Call, place: Place = {}): ScanResult {
  const fixed = positional[name];
  const others = Object.entries(arrays).filter(([argument]) => !fixed.includes(argument));
  const call = functions[name] as (...rest: unknown[]) => ScanResult;
  return call(...fixed.map((argument) => arrays[argument]), {
    ...options,
    ...Object.fromEntries(others),
    ...place,
  });
}

/** The results' elements, row-major. */
export function results({ y, lastState }: ScanResult): { y: Float32Array; state: Float32Array } {
  return { y: elements(y), state: elements(lastState) };
}

/** The call with each array that has an axis changed along it. */
export function along(
  call: Call,
  letter: string,
  change: (view: NdView<TypedArray>, axis: number) => NdView<TypedArray>,
): Call {
  const entries = Object.entries(call.arrays).map(([name, view]) => {
    const axis = call.letters[name].indexOf(letter);
    return [name, axis < 0 ? view : change(view, axis)];
  });
  return { ...call, arrays: Object.fromEntries(entries) };
}

/** Steps `from` to before `to` of a call. */
export function steps(call: Call, from: number, to: number): Call {
  return along(call, 'L', (view, axis) => cut(view, axis, from, to));
}

/** The call with some arrays replaced or, by undefined, left out. */
export function withArrays(
  call: Call,
  changed: Readonly<Record<string, NdView<TypedArray> | undefined>>,
): Call {
  const entries = Object.entries({ ...call.arrays, ...changed });
  return {
    ...call,
    arrays: Object.fromEntries(entries.filter(([, view]) => view !== undefined)) as Arrays,
  };
}

/** What {@link makeCall} makes a call of; small enough to print. */
export interface CallSpec {
  readonly seed: number;
  readonly lengths: Readonly<Record<string, number>>;
  /** Options, by words. */
  readonly having: readonly string[];
}

const length = (max: number) => fc.integer({ min: 1, max });

/** Lengths of a group's channels that meet whole chunks of 16, parts of one, and both. */
const channels = fc.oneof(
  { arbitrary: length(18), weight: 2 },
  { arbitrary: fc.constantFrom(16, 17, 32, 35), weight: 1 },
);

const specOf: Readonly<
  Record<FunctionName, { lengths: Record<string, fc.Arbitrary<number>>; words: readonly string[] }>
> = {
  selectiveScan: {
    lengths: { B: length(3), L: length(6), G: length(2), E: channels, N: length(6) },
    words: ['grouped', 'D', 'z', 'bias', 'softplus', 'state', 'reset'],
  },
  ssd: {
    lengths: { B: length(3), L: length(6), G: length(2), E: length(3), P: channels, N: length(6) },
    words: ['D', 'D of channels', 'z', 'bias', 'softplus', 'limit', 'state', 'reset'],
  },
  causalConv1d: {
    lengths: { B: length(3), L: length(6), C: channels, K: length(5) },
    words: ['bias', 'silu', 'state', 'reset'],
  },
};

/**
 * Specifications of calls; `E` is the number of channels, or of heads, of a group.
 *
 * @param lengths - fixed lengths, or ranges of others
 * @param without - words that no call has
 */
export function callSpecs(
  name: FunctionName,
  {
    lengths = {},
    without = [],
  }: { lengths?: Record<string, fc.Arbitrary<number>>; without?: readonly string[] } = {},
): fc.Arbitrary<CallSpec> {
  const { words } = specOf[name];
  return fc.record({
    seed: fc.nat({ max: 2 ** 31 - 1 }),
    lengths: fc.record({ ...specOf[name].lengths, ...lengths }),
    having: fc.subarray(words.filter((word) => !without.includes(word))),
  });
}

/** The call of a specification. */
export function makeCall(name: FunctionName, { seed, lengths, having }: CallSpec): Call {
  const random = uniform(seed);
  // Near enough to normal, of variance 1, and cheap.
  const normal = () => 2 * (random() + random() + random() - 1.5);
  const has = (word: string) => having.includes(word);
  const { G = 1, E = 1, K = 1 } = lengths;
  const axes: Record<string, number> = { ...lengths, D: G * E, H: G * E, W: K - 1 };
  const letters: Record<string, string> = {};
  const arrays: Record<string, NdView<TypedArray>> = {};
  const add = (argument: string, axesOf: string, element: () => number) => {
    letters[argument] = axesOf;
    const shape = [...axesOf].map((letter) => axes[letter]);
    arrays[argument] = filled(shape, element);
  };
  const addSome = (word: string, argument: string, axesOf: string, element = normal) => {
    if (has(word)) add(argument, axesOf, element);
  };
  const softplus = has('softplus');
  // Through a softplus they come out at about 0.05 to 0.7.
  const stepSize = softplus ? () => -1.5 + normal() : () => 0.01 + 0.5 * random();
  const rate = () => -Math.exp(normal());
  const options: Record<string, unknown> = {};
  switch (name) {
    case 'selectiveScan': {
      const projection = has('grouped') ? 'BLGN' : 'BLN';
      if (!has('grouped')) axes.D = E;
      add('u', 'BLD', normal);
      add('delta', 'BLD', stepSize);
      add('A', 'DN', rate);
      add('B', projection, normal);
      add('C', projection, normal);
      addSome('D', 'D', 'D');
      addSome('z', 'z', 'BLD');
      addSome('bias', 'deltaBias', 'D', () => 0.2 * random());
      addSome('state', 'state', 'BDN');
      Object.assign(letters, { y: 'BLD', lastState: 'BDN' });
      if (softplus) options.deltaSoftplus = true;
      break;
    }
    case 'ssd':
      add('x', 'BLHP', normal);
      add('dt', 'BLH', stepSize);
      add('A', 'H', rate);
      add('B', 'BLGN', normal);
      add('C', 'BLGN', normal);
      addSome('D', 'D', has('D of channels') ? 'HP' : 'H');
      addSome('z', 'z', 'BLHP');
      addSome('bias', 'dtBias', 'H', () => 0.2 * random());
      addSome('state', 'state', 'BHPN');
      Object.assign(letters, { y: 'BLHP', lastState: 'BHPN' });
      if (softplus) options.dtSoftplus = true;
      if (has('limit')) options.dtLimit = [0.125, 0.5];
      break;
    case 'causalConv1d':
      add('x', 'BLC', normal);
      add('weight', 'CK', normal);
      addSome('bias', 'bias', 'C');
      addSome('state', 'state', 'BCW');
      Object.assign(letters, { y: 'BLC', lastState: 'BCW' });
      if (has('silu')) options.activation = 'silu';
      break;
  }
  if (has('reset')) {
    letters.reset = 'BL';
    const flags = Uint8Array.from({ length: axes.B * axes.L }, () => (random() < 0.3 ? 1 : 0));
    arrays.reset = nd(flags, [axes.B, axes.L]);
  }
  return { name, arrays, letters, options };
}

/** Computes a function of one number for many, by a channel or head each. */
export type Probe = (x: Float32Array, memory: KernelMemory) => Float32Array;

const constant = (shape: readonly number[], value: number) => filled(shape, () => value);

/** e^x as the decay of a state of 1, x as the rate. */
export const exps: Readonly<Record<string, Probe>> = {
  'selectiveScan of one step': (x, memory) => decayByScan(x, 1, memory),
  'selectiveScan of two steps': (x, memory) => decayByScan(x, 2, memory),
  ssd: (x, memory) => {
    const [n, zero] = [x.length, constant([1, 1, 1, 1], 0)];
    const state = constant([1, n, 1, 1], 1);
    const u = constant([1, 1, n, 1], 0);
    return ssd(u, constant([1, 1, n], 1), x, zero, zero, { state, memory }).lastState.data;
  },
};

function decayByScan(x: Float32Array, steps: number, memory: KernelMemory): Float32Array {
  const n = x.length;
  const zero = constant([1, steps, 1], 0);
  const delta = constant([1, steps, n], 0);
  delta.data.fill(1, (steps - 1) * n);
  const state = constant([1, n, 1], 1);
  const u = constant([1, steps, n], 0);
  return selectiveScan(u, delta, nd(x, [n, 1]), zero, zero, { state, memory }).lastState.data;
}

/** softplus(x) as what a fresh state gains of an input of 1. */
export const softpluses: Readonly<Record<string, Probe>> = {
  selectiveScan: (x, memory) => {
    const n = x.length;
    const [u, A, one] = [constant([1, 1, n], 1), constant([n, 1], -1), constant([1, 1, 1], 1)];
    const options = { deltaSoftplus: true, memory };
    return selectiveScan(u, nd(x, [1, 1, n]), A, one, one, options).y.data;
  },
  ssd: (x, memory) => {
    const n = x.length;
    const [u, A, one] = [constant([1, 1, n, 1], 1), constant([n], -1), constant([1, 1, 1, 1], 1)];
    return ssd(u, nd(x, [1, 1, n]), A, one, one, { dtSoftplus: true, memory }).y.data;
  },
};

/** silu(x) as the gate of an output of 1, or as the activation of an input. */
export const silus: Readonly<Record<string, Probe>> = {
  'selectiveScan of one step': (x, memory) => gateByScan(x, 1, memory),
  'selectiveScan of two steps': (x, memory) => gateByScan(x, 2, memory),
  ssd: (x, memory) => {
    const n = x.length;
    const [u, dt] = [constant([1, 1, 1, n], 1), constant([1, 1, 1], 0)];
    const BC = constant([1, 1, 1, 1], 0);
    const z = nd(x, [1, 1, 1, n]);
    return ssd(u, dt, Float32Array.of(-1), BC, BC, { D: Float32Array.of(1), z, memory }).y.data;
  },
  causalConv1d: (x, memory) => {
    const n = x.length;
    const weight = constant([n, 1], 1);
    return causalConv1d(nd(x, [1, 1, n]), weight, { activation: 'silu', memory }).y.data;
  },
};

function gateByScan(x: Float32Array, steps: number, memory: KernelMemory): Float32Array {
  const n = x.length;
  const [u, delta] = [constant([1, steps, n], 1), constant([1, steps, n], 0)];
  const [A, BC] = [constant([n, 1], -1), constant([1, steps, 1], 0)];
  const z = constant([1, steps, n], 0);
  z.data.set(x, (steps - 1) * n);
  const D = new Float32Array(n).fill(1);
  const { y } = selectiveScan(u, delta, A, BC, BC, { D, z, memory });
  return y.data.subarray((steps - 1) * n);
}

/** The results by the formulas in float64, whatever a kernel does. */
export function exact(call: Call): { y: Float64Array; state: Float64Array } {
  return call.name === 'causalConv1d' ? exactConvolution(call) : exactRecurrence(call);
}

function exactSilu(x: number): number {
  return x / (1 + Math.exp(-x));
}

function packedArrays(call: Call): Record<string, Float32Array> {
  const entries = Object.entries(call.arrays).map(([name, view]) => [name, elements(view)]);
  return Object.fromEntries(entries);
}

/** Both recurrences: a channel of the scan is a head of one channel, with a rate for each state. */
function exactRecurrence(call: Call): { y: Float64Array; state: Float64Array } {
  const { options } = call;
  const {
    u,
    x = u,
    delta,
    dt = delta,
    deltaBias,
    dtBias = deltaBias,
    ...rest
  } = packedArrays(call);
  const { A, B, C, D, z, reset } = rest;
  const [rows, length, heads, headDim = 1] = (call.arrays.u ?? call.arrays.x).shape;
  const { shape } = call.arrays.B;
  const [groups, dState] = [shape.length === 4 ? shape[2] : 1, shape[shape.length - 1]];
  const [low, high] = (options.dtLimit as number[]) ?? [-Infinity, Infinity];
  const width = heads * headDim;
  const state = Float64Array.from(rest.state ?? new Float32Array(rows * width * dState));
  const y = new Float64Array(rows * length * width);
  for (let at = 0; at < rows * length; at++) {
    for (let channel = 0; channel < width; channel++) {
      const head = Math.floor(channel / headDim);
      const from = (at * groups + Math.floor((head * groups) / heads)) * dState;
      const own = (Math.floor(at / length) * width + channel) * dState;
      const input = x[at * width + channel];
      let size = dt[at * heads + head] + (dtBias?.[head] ?? 0);
      if (options.deltaSoftplus ?? options.dtSoftplus) size = Math.log1p(Math.exp(size));
      size = Math.min(Math.max(size, low), high);
      let sum = 0;
      for (let n = 0; n < dState; n++) {
        const rate = call.name === 'ssd' ? A[head] : A[channel * dState + n];
        const before = reset?.[at] === 1 ? 0 : state[own + n];
        state[own + n] = Math.exp(size * rate) * before + size * input * B[from + n];
        sum += state[own + n] * C[from + n];
      }
      if (D) sum += input * D[D.length === heads ? head : channel];
      if (z) sum *= exactSilu(z[at * width + channel]);
      y[at * width + channel] = sum;
    }
  }
  return { y, state };
}

function exactConvolution(call: Call): { y: Float64Array; state: Float64Array } {
  const { x, weight, bias, reset, ...rest } = packedArrays(call);
  const [rows, length, width] = call.arrays.x.shape;
  const taps = call.arrays.weight.shape[1];
  const before = taps - 1;
  const state = Float64Array.from(rest.state ?? new Float32Array(rows * width * before));
  const y = new Float64Array(rows * length * width);
  for (let at = 0; at < rows * length; at++) {
    for (let channel = 0; channel < width; channel++) {
      const own = (Math.floor(at / length) * width + channel) * before;
      if (reset?.[at] === 1) state.fill(0, own, own + before);
      const input = x[at * width + channel];
      let sum = (bias?.[channel] ?? 0) + input * weight[channel * taps + before];
      for (let k = 0; k < before; k++) sum += state[own + k] * weight[channel * taps + k];
      y[at * width + channel] = call.options.activation ? exactSilu(sum) : sum;
      state.copyWithin(own, own + 1, own + before);
      if (before > 0) state[own + before - 1] = input;
    }
  }
  return { y, state };
}
