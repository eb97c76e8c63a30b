/**
 * Stacks for the tests: those of the fixtures with what Python computed of them, and tiny ones of
 * random weights, whose sizes meet whole vectors, parts of one, and both.
 */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { type NdView, nd, type TypedArray } from 'umwelt';
import { readNpz } from 'umwelt/formats';
import type { Ort } from 'umwelt/runtime';
import {
  type Mamba2Config,
  Mamba2Stack,
  type MambaConfig,
  MambaStack,
  type SsmStack,
  type SsmState,
  type StackOptions,
  type StackResult,
  type StackScanOptions,
  type WeightsSource,
} from 'umwelt/ssm';
import { expect } from 'vitest';
import { cut, elements, filled, relativeRms, rowsOf, uniform, variants, write } from './arrays.js';

export type FamilyName = 'mamba' | 'mamba2';

export const families: readonly FamilyName[] = ['mamba', 'mamba2'];

/** A way to compute on a CPU. */
export interface Form {
  readonly name: string;
  readonly options: Pick<StackOptions, 'form' | 'memory'>;
}

/** Enough for every stack here, and little beside hundreds of them. */
const BYTES = 2 ** 22;

/** The kernels with each variant that this process has. */
export const kernelForms: readonly Form[] = variants.map((variant) => ({
  name: `kernels, ${variant}`,
  options: { form: 'kernels', memory: { variant, bytes: BYTES } },
}));

export const graphForm: Form = {
  name: 'graph',
  options: { form: 'graph', memory: { bytes: BYTES } },
};

export const autoForm: Form = { name: 'auto', options: { form: 'auto', memory: { bytes: BYTES } } };

export const forms: readonly Form[] = [graphForm, ...kernelForms, autoForm];

type Config = MambaConfig & Mamba2Config & StackOptions;

/** Loads a stack of either family, on onnxruntime-node unless another is given. */
export function loadStack(
  family: FamilyName,
  source: WeightsSource,
  config: Config = {},
  runtime: Ort = ort,
): Promise<SsmStack> {
  return (family === 'mamba' ? MambaStack : Mamba2Stack).load(runtime, source, config);
}

// Stacks of the fixtures, which make_stacks.py and make_stacks_hf.py beside them made.

export const STACKS: string = fileURLToPath(new URL('../fixtures/ssm/stacks', import.meta.url));

/** A stack of the fixtures. */
export interface GoldenStack {
  readonly name: string;
  readonly family: FamilyName;
  /** A folder, or the file where `config.json` beside it is another model's. */
  readonly source: string;
  readonly config: MambaConfig & Mamba2Config;
}

function golden(
  name: string,
  family: FamilyName,
  source: string = name,
  config: MambaConfig = {},
): GoldenStack {
  return { name, family, source: `${STACKS}/${source}`, config };
}

export const goldenStacks: readonly GoldenStack[] = [
  golden('mamba1-ssm', 'mamba'),
  golden('mamba1-hf', 'mamba'),
  golden('falcon-mamba-hf', 'mamba'),
  golden('jamba-mixer', 'mamba', 'jamba-mixer/model.safetensors', { normEps: 1e-6 }),
  golden('mamba2-ssm', 'mamba2'),
  golden('mamba2-limit-ssm', 'mamba2'),
  golden('mamba2-mlp-ssm', 'mamba2'),
  golden('mamba2-hf', 'mamba2'),
];

/** The arrays of golden.npz, of which stack_files.py says what they are. */
export function goldenArrays(name: string): Record<string, NdView<TypedArray>> {
  return readNpz(readFileSync(`${STACKS}/${name}/golden.npz`)) as Record<
    string,
    NdView<TypedArray>
  >;
}

// Tiny stacks.

/** A tiny stack: its weights by key, and what they do not tell. */
export interface TinyStack {
  readonly name: string;
  readonly family: FamilyName;
  readonly tensors: Readonly<Record<string, NdView>>;
  readonly config: MambaConfig & Mamba2Config;
  readonly dModel: number;
}

interface TinySizes {
  readonly name: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly layers: number;
  /** Mamba: channels and the rank of dt. */
  readonly D?: number;
  readonly R?: number;
  /** Mamba-2: heads, their channels, and groups. */
  readonly H?: number;
  readonly P?: number;
  readonly G?: number;
  /** Hidden units of the MLP. */
  readonly h?: number;
  readonly having?: readonly string[];
  readonly config?: MambaConfig & Mamba2Config;
}

const mambaSizes: readonly TinySizes[] = [
  { name: 'two layers', M: 8, D: 16, N: 4, K: 4, R: 1, layers: 2, having: ['convBias'] },
  { name: 'odd sizes', M: 5, D: 19, N: 3, K: 3, R: 2, layers: 1, having: ['bias'] },
  {
    name: 'norms and an MLP',
    M: 6,
    D: 18,
    N: 16,
    K: 2,
    R: 3,
    h: 5,
    layers: 2,
    having: ['convBias', 'mixerNorm'],
    config: { finalNorm: false },
  },
  { name: 'one tap', M: 3, D: 34, N: 1, K: 1, R: 2, layers: 1 },
];

const mamba2Sizes: readonly TinySizes[] = [
  {
    name: 'two layers',
    M: 8,
    H: 2,
    P: 8,
    G: 1,
    N: 8,
    K: 4,
    layers: 2,
    having: ['convBias', 'gateNorm'],
  },
  {
    name: 'groups',
    M: 5,
    H: 4,
    P: 3,
    G: 2,
    N: 5,
    K: 3,
    layers: 1,
    having: ['bias', 'gateNorm'],
    config: { nGroups: 2 },
  },
  {
    name: 'limits and an MLP',
    M: 6,
    H: 2,
    P: 17,
    G: 2,
    N: 3,
    K: 2,
    h: 5,
    layers: 2,
    having: ['convBias', 'gateNorm'],
    config: { nGroups: 2, dtLimit: [0.05, 0.3], normBeforeGate: true, finalNorm: false },
  },
  { name: 'one tap', M: 3, H: 3, P: 5, G: 1, N: 1, K: 1, layers: 1 },
];

/** Tiny stacks of a family. */
export const tinyStacks: Readonly<Record<FamilyName, readonly TinyStack[]>> = {
  mamba: mambaSizes.map((sizes, i) => tinyStack('mamba', sizes, 10 + i)),
  mamba2: mamba2Sizes.map((sizes, i) => tinyStack('mamba2', sizes, 20 + i)),
};

function tinyStack(family: FamilyName, sizes: TinySizes, seed: number): TinyStack {
  const { name, M, N, K, layers, D: given, R = 1, H = 1, P = 1, G = 1, h = 0 } = sizes;
  const { having = [], config = {} } = sizes;
  const D = given ?? H * P;
  const normal = normals(seed);
  const tensors: Record<string, NdView> = {};
  const matrix = (key: string, ...shape: number[]) => {
    const scale = shape.slice(1).reduce((size, length) => size * length, 1) ** -0.5;
    tensors[key] = filled(shape, () => scale * normal());
  };
  const bias = (key: string, length: number) => {
    tensors[key] = filled([length], () => 0.3 * normal());
  };
  const ones = (key: string, length: number) => {
    tensors[key] = filled([length], () => 1 + 0.3 * normal());
  };
  const channels = family === 'mamba' ? D : D + 2 * G * N;
  const projected = family === 'mamba' ? 2 * D : D + channels + H;
  for (let i = 0; i < layers; i++) {
    const layer = `layers.${i}`;
    const mixer = `${layer}.mixer`;
    ones(`${layer}.norm.weight`, M);
    matrix(`${mixer}.in_proj.weight`, projected, M);
    matrix(`${mixer}.conv1d.weight`, channels, 1, K);
    matrix(`${mixer}.out_proj.weight`, M, D);
    if (having.includes('convBias')) bias(`${mixer}.conv1d.bias`, channels);
    if (having.includes('bias')) {
      bias(`${mixer}.in_proj.bias`, projected);
      bias(`${mixer}.out_proj.bias`, M);
    }
    // Step sizes of about 0.05 to 0.7, so that much is remembered, and much forgotten.
    const stepSize = () => -1.5 + normal();
    if (family === 'mamba') {
      matrix(`${mixer}.x_proj.weight`, R + 2 * N, D);
      matrix(`${mixer}.dt_proj.weight`, D, R);
      tensors[`${mixer}.dt_proj.bias`] = filled([D], stepSize);
      tensors[`${mixer}.A_log`] = filled([D, N], normal);
      ones(`${mixer}.D`, D);
    } else {
      tensors[`${mixer}.dt_bias`] = filled([H], stepSize);
      tensors[`${mixer}.A_log`] = filled([H], normal);
      ones(`${mixer}.D`, H);
      if (having.includes('gateNorm')) ones(`${mixer}.norm.weight`, D);
    }
    if (having.includes('mixerNorm')) {
      ones(`${mixer}.dt_layernorm.weight`, R);
      ones(`${mixer}.b_layernorm.weight`, N);
      ones(`${mixer}.c_layernorm.weight`, N);
    }
    if (h > 0) {
      ones(`${layer}.norm2.weight`, M);
      matrix(`${layer}.mlp.fc1.weight`, 2 * h, M);
      matrix(`${layer}.mlp.fc2.weight`, M, h);
    }
  }
  if (config.finalNorm !== false) ones('norm_f.weight', M);
  return { name, family, tensors, config, dModel: M };
}

const loaded = new Map<string, Promise<SsmStack>>();

/** A tiny stack in a form; loaded once for a test file. */
export function tiny(stack: TinyStack, form: Form, tile?: number): Promise<SsmStack> {
  const key = [stack.family, stack.name, form.name, tile].join();
  let promise = loaded.get(key);
  if (promise === undefined) {
    const options = { ...stack.config, ...form.options, ...(tile === undefined ? {} : { tile }) };
    promise = loadStack(stack.family, stack.tensors, options);
    loaded.set(key, promise);
  }
  return promise;
}

/** Numbers of a seed, near enough to normal of variance 1. */
function normals(seed: number): () => number {
  const random = uniform(seed);
  return () => 2 * (random() + random() + random() - 1.5);
}

/** Inputs `[B, L, M]` of a seed. */
export function inputs(batch: number, steps: number, width: number, seed: number): NdView {
  return filled([batch, steps, width], normals(seed));
}

/** Resets `[B, L]` of a seed, a third of them 1. */
export function resets(batch: number, steps: number, seed: number): NdView<Uint8Array> {
  const random = uniform(seed);
  const flags = Uint8Array.from({ length: batch * steps }, () => (random() < 1 / 3 ? 1 : 0));
  return nd(flags, [batch, steps]);
}

/** A state of some rows that is nowhere zero. */
export function startOf(stack: SsmStack, batch: number, seed: number): SsmState {
  const zero = stack.initialState(batch);
  const normal = normals(seed);
  const shapes = zero.home.parts.map(({ name, shape }) => [name, [batch, ...shape]] as const);
  zero.release();
  return stack.restore(
    Object.fromEntries(shapes.map(([name, shape]) => [name, filled(shape, normal)])),
  );
}

/** What a scan gave, read. */
export interface Outcome {
  readonly y: NdView;
  /** The state's arrays, `[B, ...]`. */
  readonly state: Readonly<Record<string, NdView>>;
}

/** Reads a result and releases its state. */
export async function outcome({ y, state }: StackResult): Promise<Outcome> {
  const arrays = await state.toArrays();
  state.release();
  return { y, state: arrays };
}

/** Scans and reads the result. */
export async function scan(
  stack: SsmStack,
  x: NdView,
  state?: SsmState,
  options?: StackScanOptions,
): Promise<Outcome> {
  return outcome(await stack.scan(x, state, options));
}

/** Scans piece by piece, each of which ends before one of the steps named, and reads the results. */
export async function scanPieces(
  stack: SsmStack,
  x: NdView,
  ends: readonly number[],
  start?: SsmState,
  reset?: NdView<TypedArray>,
): Promise<Outcome> {
  const [batch, steps, width] = x.shape;
  const y = nd(new Float32Array(batch * steps * width), x.shape);
  let state = start === undefined ? stack.initialState(batch) : await start.clone();
  let from = 0;
  for (const to of ends) {
    const options = reset === undefined ? {} : { reset: cut(reset, 1, from, to) };
    const piece = await stack.scan(cut(x, 1, from, to), state, options);
    state.release();
    state = piece.state;
    write(cut(y, 1, from, to), elements(piece.y));
    from = to;
  }
  return outcome({ y, state });
}

/** One outcome of some rows of others, each as it stands. */
export function rowsOfOutcome({ y, state }: Outcome, rows: readonly number[]): Outcome {
  return {
    y: rowsOf(y, rows),
    state: mapArrays(state, (view) => rowsOf(view, rows)),
  };
}

/** A state's arrays, each changed. */
export function mapArrays(
  state: Readonly<Record<string, NdView>>,
  change: (view: NdView, name: string) => NdView,
): Record<string, NdView> {
  return Object.fromEntries(
    Object.entries(state).map(([name, view]) => [name, change(view, name)]),
  );
}

/** Expects the same bits in the outputs and the state. */
export function expectBits(actual: Outcome, expected: Outcome): void {
  compare(actual, expected, (a, b) => expect(a).toBeBitEqual(b));
}

/** Expects agreement to a relative RMS of 1e-5 in the outputs and each array of the state. */
export function expectClose(actual: Outcome, expected: Outcome): void {
  compare(actual, expected, (a, b) => expect(relativeRms(a, b)).toBeLessThan(1e-5));
}

function compare(
  actual: Outcome,
  expected: Outcome,
  elementwise: (actual: Float32Array, expected: Float32Array) => void,
): void {
  expect(actual.y.shape).toEqual(expected.y.shape);
  elementwise(elements(actual.y), elements(expected.y));
  expect(Object.keys(actual.state)).toEqual(Object.keys(expected.state));
  for (const [name, view] of Object.entries(expected.state)) {
    expect(actual.state[name].shape).toEqual(view.shape);
    elementwise(elements(actual.state[name]), elements(view));
  }
}
