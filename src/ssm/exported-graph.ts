/** Exported graphs of stacks: what is said of them, and what is read off them. */

import { describe } from '../nd.js';
import type { OnnxModel, OnnxValue } from '../onnx/model.js';
import { ModelContractError } from '../runtime/errors.js';
import { expectOptions } from '../runtime/options.js';
import type { StackOptions } from './engine.js';
import type { StateGraphNames } from './state-graph.js';
import {
  partNames,
  type StatePart,
  straightPart,
  transposedPart,
  widePart,
} from './state-layout.js';

/** Where an exported stack comes from: path, URL or bytes of an ONNX file. */
export type ExportedSource = string | URL | Uint8Array;

/** How an exported graph calls things; `{i}` stands for the layer's number, from 0, where there are several. */
export interface ExportedNames {
  /** The input embeddings. */
  readonly x?: string;
  /** The output features. */
  readonly y?: string;
  /** Each layer's window before and after. */
  readonly conv?: readonly [before: string, after: string];
  /** Each layer's scan state before and after. */
  readonly ssm?: readonly [before: string, after: string];
  /** Whether the scan state lies as `[B, N, D]` or `[B, H, N, P]`. Default false: as upstream has it. */
  readonly ssmTransposed?: boolean;
}

/** What can be said of an exported stack. */
export interface ExportedOptions extends Pick<StackOptions, 'devices' | 'session'> {
  /** Names of the graph, where they are not found. */
  readonly names?: ExportedNames;
  /** Taps of the convolution, K, where the graph does not show whether its windows have K or K - 1. */
  readonly dConv?: number;
}

/** The names of {@link ExportedOptions}. */
export const EXPORTED_OPTIONS: readonly string[] = ['devices', 'session', 'names', 'dConv'];

/** The naming schemes of exporters in use. */
const SCHEMES: readonly Required<Pick<ExportedNames, 'conv' | 'ssm'>>[] = [
  { conv: ['past_conv.{i}', 'present_conv.{i}'], ssm: ['past_ssm.{i}', 'present_ssm.{i}'] },
  {
    conv: ['past_states.{i}.conv_state', 'present_states.{i}.conv_state'],
    ssm: ['past_states.{i}.ssm_state', 'present_states.{i}.ssm_state'],
  },
];
const NAMES = ['x', 'y', 'conv', 'ssm', 'ssmTransposed'];
/** Stands for the layer's number. */
const LAYER = '{i}';
const WINDOW = '[B, C, K] or [B, C, K - 1]';
const STATES = { mamba: '[B, D, N]', mamba2: '[B, H, P, N]' };
const DEFAULT_TAPS = 4;

/** What an exported graph turned out to be. */
export interface ExportedGraph {
  readonly names: StateGraphNames;
  readonly parts: readonly StatePart[];
  readonly dModel: number;
  readonly takesSequences: boolean;
  xShape(batch: number, steps: number): number[];
}

/** Throws, naming what the graph has. */
type Fail = (problem: string) => never;

/** Refuses names and taps that cannot be meant. */
export function checkExportedOptions(what: string, { names = {}, dConv }: ExportedOptions): void {
  expectOptions(`${what}: names`, names, NAMES);
  for (const name of ['x', 'y'] as const) {
    if (names[name] !== undefined && typeof names[name] !== 'string') {
      throw new TypeError(`${what}: names.${name} must be a name, got ${describe(names[name])}`);
    }
  }
  if (names.ssmTransposed !== undefined && typeof names.ssmTransposed !== 'boolean') {
    throw new TypeError(
      `${what}: names.ssmTransposed must be true or false, got ${describe(names.ssmTransposed)}`,
    );
  }
  const { conv, ssm } = names;
  for (const [name, pair] of Object.entries({ conv, ssm })) {
    const isPair =
      Array.isArray(pair) && pair.length === 2 && pair.every((each) => typeof each === 'string');
    if (pair !== undefined && !isPair) {
      throw new TypeError(
        `${what}: names.${name} must be two names, before and after, such as ` +
          `['${name}_in.{i}', '${name}_out.{i}'], got ${describe(pair)}`,
      );
    }
  }
  if ((conv === undefined) !== (ssm === undefined)) {
    throw new TypeError(`${what}: names must have both conv and ssm or neither, got one of them`);
  }
  const patterns = [...(conv ?? []), ...(ssm ?? [])];
  const numbered = patterns.filter((pattern) => pattern.includes(LAYER));
  if (numbered.length > 0 && numbered.length < patterns.length) {
    throw new TypeError(
      `${what}: names.conv and names.ssm must all have ${LAYER} for the layer's number, or none of ` +
        `them for a single layer, got ${patterns.join(', ')}`,
    );
  }
  if (dConv !== undefined && !(Number.isInteger(dConv) && dConv > 0)) {
    throw new RangeError(`${what}: dConv must be a positive integer, got ${dConv}`);
  }
}

export function readExportedGraph(
  what: string,
  model: OnnxModel,
  family: 'mamba' | 'mamba2',
  options: ExportedOptions,
): ExportedGraph {
  const { inputs, outputs } = model.graph;
  const fail: Fail = (problem) => {
    const [takes, gives] = [inputs, outputs].map((values) =>
      values.map(({ name }) => name).join(', '),
    );
    throw new ModelContractError(
      `${what}: ${problem}. The graph has inputs ${takes} and outputs ${gives}`,
    );
  };
  const input = (name: string): OnnxValue =>
    inputs.find((value) => value.name === name) ??
    fail(`the graph must take '${name}', got no such input; say what it is called in names`);
  const output = (name: string): OnnxValue =>
    outputs.find((value) => value.name === name) ??
    fail(
      `the graph must give '${name}', got no such output; say what it is called in names, or ` +
        'export it with this output',
    );
  const given = options.names ?? {};
  const scheme =
    given.conv && given.ssm
      ? { conv: given.conv, ssm: given.ssm }
      : SCHEMES.find(({ conv }) => inputs.some(({ name }) => name === layerName(conv[0], 0)));
  if (scheme === undefined) {
    return fail(
      "each layer's convolution window and scan state must be inputs and outputs, such as " +
        'past_conv.0, past_ssm.0 and present_conv.0, present_ssm.0; where they are called ' +
        "otherwise say names, such as { conv: ['conv_in.{i}', 'conv_out.{i}'], " +
        "ssm: ['ssm_in.{i}', 'ssm_out.{i}'] }; where there are none export it with them",
    );
  }
  const { conv, ssm } = scheme;
  let nLayers = 1;
  if (conv[0].includes(LAYER)) {
    while (inputs.some(({ name }) => name === layerName(conv[0], nLayers))) nLayers++;
  }
  const before: string[] = [];
  const after: string[] = [];
  const parts: StatePart[] = [];
  for (let i = 0; i < nLayers; i++) {
    const [convName, ssmName] = partNames(i);
    const windowBefore = input(layerName(conv[0], i));
    const stateBefore = input(layerName(ssm[0], i));
    const window = rowOf(windowBefore, WINDOW, fail);
    const state = rowOf(stateBefore, stateForm(family, given.ssmTransposed), fail);
    for (const [from, to] of [
      [windowBefore, output(layerName(conv[1], i))],
      [stateBefore, output(layerName(ssm[1], i))],
    ]) {
      before.push(from.name);
      after.push(to.name);
      expectAlike(from, to, fail);
    }
    const taps = tapsOf(model, windowBefore, window, options.dConv, fail);
    const transposed = [...state.slice(0, -2), state[state.length - 1], state[state.length - 2]];
    const shape = given.ssmTransposed ? transposed : state;
    // Of Mamba's state one axis is that of the convolution's channels, which shows how it lies.
    if (family === 'mamba' && shape[0] !== window[0]) {
      const remedy = given.ssmTransposed
        ? 'leave out names.ssmTransposed'
        : 'say names.ssmTransposed: true';
      fail(
        `'${stateBefore.name}' must be ${stateForm(family, given.ssmTransposed)} with D = ${window[0]}, the ` +
          `channels of '${windowBefore.name}', got ${shapeOf(stateBefore)}` +
          (shape[1] === window[0] ? `; ${remedy}` : ''),
      );
    }
    const narrow = [window[0], taps - 1];
    parts.push(window[1] === taps ? widePart(convName, narrow) : straightPart(convName, narrow));
    parts.push(
      given.ssmTransposed ? transposedPart(ssmName, transposed) : straightPart(ssmName, state),
    );
  }
  const others = inputs.filter(({ name }) => !before.includes(name));
  if (others.length !== 1) {
    fail(
      `the graph must have one input, x, besides the states of its layers, of which ${nLayers} ` +
        `${nLayers === 1 ? 'was' : 'were'} found, got ${namesOf(others)}; ` +
        (others.length === 0
          ? 'export the stack with embeddings as its input'
          : 'make constants of the rest, which nobody would feed'),
    );
  }
  const [x] = others;
  if (given.x !== undefined && input(given.x) !== x) {
    fail(`names.x must be the input besides the states, '${x.name}', got '${given.x}'`);
  }
  const features = outputs.filter(({ name }) => !after.includes(name));
  const y = given.y === undefined ? features[0] : output(given.y);
  if (!features.includes(y) || (given.y === undefined && features.length > 1)) {
    return fail(
      'the graph must have one output, y, besides the states, or names.y must say which of several ' +
        `it is, got ${namesOf(features)}`,
    );
  }
  const shape = x.shape ?? [];
  const dModel = shape[shape.length - 1];
  if (x.dtype !== 'float32') {
    return fail(
      `'${x.name}' must be float32, got ${x.dtype}; export the stack with embeddings as its input`,
    );
  }
  if (typeof dModel !== 'number' || shape.length < 2 || shape.length > 3) {
    return fail(`'${x.name}' must be [B, M] or [B, T, M] with a fixed M, got ${shapeOf(x)}`);
  }
  const takesSequences = shape.length === 3 && typeof shape[1] === 'string';
  if (shape.length === 3 && typeof shape[1] === 'number' && shape[1] !== 1) {
    return fail(
      `'${x.name}' must take one step, [B, M] or [B, 1, M], or any number of them, [B, T, M], ` +
        `got ${shapeOf(x)}; export it with T = 1 or with T as a dynamic axis`,
    );
  }
  const width = y.shape?.at(-1);
  const isFlat = takesSequences && y.shape !== null && y.shape.length !== 3;
  if (y.dtype !== 'float32' || isFlat || (typeof width === 'number' && width !== dModel)) {
    return fail(
      `'${y.name}', as y, must be float32 and shaped as x is, ${shapeOf(x)}, got ${y.dtype} ` +
        `${shapeOf(y)}; say another output in names.y, or export the stack without its head`,
    );
  }
  return {
    names: { x: x.name, y: y.name, before, after },
    parts,
    dModel,
    takesSequences,
    xShape: (batch, steps) => (shape.length === 2 ? [batch, dModel] : [batch, steps, dModel]),
  };
}

function layerName(pattern: string, layer: number): string {
  return pattern.replaceAll(LAYER, String(layer));
}

function namesOf(values: readonly OnnxValue[]): string {
  return values.map(({ name }) => name).join(', ') || 'none';
}

function shapeOf({ shape }: OnnxValue): string {
  if (shape === null) return 'no shape';
  return `[${shape.map((length) => (length === '' ? '?' : length)).join(', ')}]`;
}

function stateForm(family: 'mamba' | 'mamba2', transposed: boolean | undefined): string {
  if (!transposed) return STATES[family];
  return family === 'mamba' ? '[B, N, D]' : '[B, H, N, P]';
}

/** The shape of a window's or a scan state's row, which must be fixed. */
function rowOf(value: OnnxValue, form: string, fail: Fail): number[] {
  const { name, shape, dtype } = value;
  const isScanState = form !== WINDOW;
  const rank = form.split(' or ')[0].split(',').length;
  if (dtype !== 'float32') {
    fail(`'${name}' must be float32, got ${dtype}; export the stack with float32 states`);
  }
  if (shape === null || shape.length !== rank) {
    const isOther = isScanState && shape?.length === 7 - rank;
    const remedy = isOther ? `; load it with ${rank === 3 ? 'Mamba2Stack' : 'MambaStack'}` : '';
    return fail(`'${name}' must be ${form}, got ${shapeOf(value)}${remedy}`);
  }
  const row = shape.slice(1);
  if (row.some((length) => typeof length !== 'number')) {
    fail(
      `'${name}' must be ${form} with fixed lengths but for B, got ${shapeOf(value)}; ` +
        'export it with no dynamic axis but the batch',
    );
  }
  return row as number[];
}

/** The state afterwards must be fit to be the next one before, as far as the graph says. */
function expectAlike(before: OnnxValue, after: OnnxValue, fail: Fail): void {
  const fits =
    after.dtype === before.dtype &&
    (after.shape === null ||
      (after.shape.length === before.shape?.length &&
        after.shape.every(
          (length, axis) =>
            axis === 0 || typeof length === 'string' || length === before.shape?.[axis],
        )));
  if (fits) return;
  fail(
    `'${after.name}' must be ${before.dtype} ${shapeOf(before)} as '${before.name}' is, got ` +
      `${after.dtype} ${shapeOf(after)}; export the state as it goes in again`,
  );
}

/** How many taps the convolution behind a window has, which may be as many as its columns or one more. */
function tapsOf(
  { graph }: OnnxModel,
  window: OnnxValue,
  [channels, columns]: readonly number[],
  given: number | undefined,
  fail: Fail,
): number {
  const weights = graph.initializers.filter(
    ({ shape }) => shape.length === 3 && shape[0] === channels && shape[1] === 1,
  );
  const shown = new Set(weights.map(({ shape }) => shape[2]));
  const isShown = shown.size === 1;
  const taps = given ?? (isShown ? [...shown][0] : DEFAULT_TAPS);
  if (columns !== taps && columns !== taps - 1) {
    let source = 'dConv says';
    if (given === undefined) source = isShown ? 'its weights say' : 'nothing says otherwise';
    fail(
      `'${window.name}' must be ${WINDOW}, where K, the taps of the convolution, is ${taps} as ` +
        `${source}, got ${shapeOf(window)}; say K in dConv, or export windows of this shape`,
    );
  }
  return taps;
}
