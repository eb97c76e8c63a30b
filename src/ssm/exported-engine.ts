import { describe, nd, sizeOf } from '../nd.js';
import type { OnnxModel, OnnxValue } from '../onnx/model.js';
import { ModelContractError, ModelLoadError } from '../runtime/errors.js';
import { readGraph } from '../runtime/graph.js';
import { type Device, Network } from '../runtime/network.js';
import { expectOptions } from '../runtime/options.js';
import type { Ort } from '../runtime/ort.js';
import { SerialQueue } from '../runtime/queue.js';
import { openFolder } from '../runtime/source.js';
import { DeviceStates } from './device-arrays.js';
import { type Engine, firstResets, type StackOptions, withoutRows } from './engine.js';
import { isHost, SsmState, type StateArray, type StateHome } from './state.js';
import { keptOutputs, StateGraph, type StateGraphNames, staysOn } from './state-graph.js';
import {
  partNames,
  rowSize,
  type StatePart,
  straightPart,
  turnedPart,
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
  readonly ssmTurned?: boolean;
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
const NAMES = ['x', 'y', 'conv', 'ssm', 'ssmTurned'];
/** Stands for the layer's number. */
const LAYER = '{i}';
const WINDOW = '[B, C, K] or [B, C, K - 1]';
const STATES = { mamba: '[B, D, N]', mamba2: '[B, H, P, N]' };
const DEFAULT_TAPS = 4;

/** A stack in a graph that somebody else exported: one graph, whatever the device. */
export class ExportedEngine implements Engine {
  readonly dModel: number;
  readonly nLayers: number;
  readonly device: string;
  readonly home: StateHome;
  readonly #graph: StateGraph;
  readonly #states: DeviceStates;
  readonly #facts: Facts;
  readonly #queue = new SerialQueue();

  private constructor(
    ort: Ort,
    network: Network,
    facts: Facts,
    session: Readonly<Record<string, unknown>> | undefined,
  ) {
    this.device = network.device;
    this.#facts = facts;
    this.dModel = facts.dModel;
    this.nLayers = facts.parts.length / 2;
    this.#states = new DeviceStates(ort, facts.parts, this.device, session, this.#queue);
    this.home = { parts: facts.parts, device: this.#states, held: new Set() };
    this.#graph = new StateGraph(ort, network, facts.parts, facts.names);
  }

  /**
   * @throws ModelLoadError when the file cannot be read or the device does not take it
   * @throws ModelContractError when it is no stack with conv and scan states as inputs and outputs
   * @throws TypeError when names are unknown or of the wrong kind
   * @throws RangeError when `dConv` is no number of taps
   */
  static async load(
    ort: Ort,
    device: Device,
    what: string,
    source: ExportedSource,
    family: 'mamba' | 'mamba2',
    options: ExportedOptions,
  ): Promise<ExportedEngine> {
    checkOptions(what, options);
    const folder = await openFolder(source);
    const file = folder.file ?? '';
    const bytes = await folder.read(file);
    const model = readGraph(bytes, `${file} of ${folder.where}`);
    const facts = factsOf(what, model, family, options);
    if (source instanceof Uint8Array && model.externalData.length > 0) {
      throw new ModelLoadError(
        `the bytes must hold the whole graph, got one with weights in '${model.externalData[0].location}'; ` +
          'load it by its path or URL, or export it without external data',
      );
    }
    // What is read already is not fetched again.
    const read = async (name: string) => (name === file ? bytes : folder.read(name));
    const network = await Network.loadFile(ort, { ...folder, read }, file, undefined, {
      devices: device,
      session: { ...options.session, ...keptOutputs(device, facts.names.after, [facts.names.y]) },
    });
    return new ExportedEngine(ort, network, facts, options.session);
  }

  run(
    x: Float32Array,
    batch: number,
    steps: number,
    state: SsmState,
    reset: Uint8Array | undefined,
  ): Promise<{ y: Float32Array; state: SsmState }> {
    return this.#queue.add(async () => {
      const y = new Float32Array(x.length);
      const width = this.dModel;
      let current: SsmState | undefined;
      for (let from = 0; from < steps; ) {
        const to = this.#facts.takesSequences ? nextReset(reset, batch, steps, from) : from + 1;
        const count = to - from;
        const flags = reset && firstResets(columnsOf(reset, 1, batch, steps, from, 1), batch, 1);
        const arrays = await this.#fresh((current ?? state).arrays, batch, flags);
        const piece = columnsOf(x, width, batch, steps, from, count) as Float32Array;
        const out = await this.#graph.run(
          nd(piece, this.#facts.xShape(batch, count)),
          batch,
          arrays,
        );
        this.#checkSizes(out, piece.length, batch);
        putColumns(out.y, y, width, batch, steps, from, count);
        const next = new SsmState(this.home, batch, out.arrays);
        if (flags !== undefined) for (const array of arrays) if (!isHost(array)) array.dispose();
        current?.release();
        current = next;
        from = to;
      }
      return { y, state: current ?? (await state.clone()) };
    });
  }

  dispose(): Promise<void> {
    return this.#queue.add(async () => {
      // Tensors must not outlive their sessions; arrays in memory may.
      if (staysOn(this.device)) for (const shared of this.home.held) shared.free();
      await this.#graph.network.dispose();
      await this.#states.dispose();
    });
  }

  /** What a graph does not say of its outputs' shapes shows when it runs. */
  #checkSizes(out: { y: Float32Array; arrays: StateArray[] }, size: number, batch: number): void {
    const { names, parts } = this.#facts;
    const check = (name: string, got: number, expected: number): void => {
      if (got === expected) return;
      throw new ModelContractError(
        `scan: the graph must give '${name}' ${expected} elements for a batch of ${batch}, got ${got}; ` +
          'y is shaped as x is, and each state afterwards as before; export it so',
      );
    };
    check(names.y, out.y.length, size);
    out.arrays.forEach((array, p) => {
      const got = isHost(array) ? array.length : sizeOf(array.dims);
      check(names.after[p], got, batch * rowSize(parts[p]));
    });
  }

  async #fresh(
    arrays: readonly StateArray[],
    batch: number,
    rows: Uint8Array | undefined,
  ): Promise<readonly StateArray[]> {
    if (rows === undefined) return arrays;
    if (arrays.every(isHost)) return withoutRows(arrays, batch, rows);
    return this.#states.withoutRows(arrays, rows);
  }
}

/** What an exported graph turned out to be. */
interface Facts {
  readonly names: StateGraphNames;
  readonly parts: readonly StatePart[];
  readonly dModel: number;
  readonly takesSequences: boolean;
  xShape(batch: number, steps: number): number[];
}

/** Throws, naming what the graph has. */
type Fail = (problem: string) => never;

/** Refuses names and taps that cannot be meant. */
function checkOptions(what: string, { names = {}, dConv }: ExportedOptions): void {
  expectOptions(`${what}: names`, names, NAMES);
  for (const name of ['x', 'y'] as const) {
    if (names[name] !== undefined && typeof names[name] !== 'string') {
      throw new TypeError(`${what}: names.${name} must be a name, got ${describe(names[name])}`);
    }
  }
  if (names.ssmTurned !== undefined && typeof names.ssmTurned !== 'boolean') {
    throw new TypeError(
      `${what}: names.ssmTurned must be true or false, got ${describe(names.ssmTurned)}`,
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

function factsOf(
  what: string,
  model: OnnxModel,
  family: 'mamba' | 'mamba2',
  options: ExportedOptions,
): Facts {
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
    const state = rowOf(stateBefore, stateForm(family, given.ssmTurned), fail);
    for (const [from, to] of [
      [windowBefore, output(layerName(conv[1], i))],
      [stateBefore, output(layerName(ssm[1], i))],
    ]) {
      before.push(from.name);
      after.push(to.name);
      expectAlike(from, to, fail);
    }
    const taps = tapsOf(model, windowBefore, window, options.dConv, fail);
    const turned = [...state.slice(0, -2), state[state.length - 1], state[state.length - 2]];
    const shape = given.ssmTurned ? turned : state;
    // Of Mamba's state one axis is that of the convolution's channels, which shows how it lies.
    if (family === 'mamba' && shape[0] !== window[0]) {
      const remedy = given.ssmTurned ? 'leave out names.ssmTurned' : 'say names.ssmTurned: true';
      fail(
        `'${stateBefore.name}' must be ${stateForm(family, given.ssmTurned)} with D = ${window[0]}, the ` +
          `channels of '${windowBefore.name}', got ${shapeOf(stateBefore)}` +
          (shape[1] === window[0] ? `; ${remedy}` : ''),
      );
    }
    const narrow = [window[0], taps - 1];
    parts.push(window[1] === taps ? widePart(convName, narrow) : straightPart(convName, narrow));
    parts.push(given.ssmTurned ? turnedPart(ssmName, turned) : straightPart(ssmName, state));
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

function stateForm(family: 'mamba' | 'mamba2', turned: boolean | undefined): string {
  if (!turned) return STATES[family];
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

/** The next step after `from` at which any row is reset. */
function nextReset(
  reset: Uint8Array | undefined,
  batch: number,
  steps: number,
  from: number,
): number {
  if (reset === undefined) return steps;
  for (let t = from + 1; t < steps; t++) {
    for (let row = 0; row < batch; row++) if (reset[row * steps + t] === 1) return t;
  }
  return steps;
}

/** The steps `from .. from + count - 1` of `[batch, steps, width]`. */
function columnsOf<T extends Float32Array | Uint8Array>(
  x: T,
  width: number,
  batch: number,
  steps: number,
  from: number,
  count: number,
): T {
  if (count === steps) return x;
  const out = new (x.constructor as new (length: number) => T)(batch * count * width);
  for (let row = 0; row < batch; row++) {
    const at = (row * steps + from) * width;
    out.set(x.subarray(at, at + count * width), row * count * width);
  }
  return out;
}

function putColumns(
  piece: Float32Array,
  y: Float32Array,
  width: number,
  batch: number,
  steps: number,
  from: number,
  count: number,
): void {
  for (let row = 0; row < batch; row++) {
    const at = row * count * width;
    y.set(piece.subarray(at, at + count * width), (row * steps + from) * width);
  }
}
