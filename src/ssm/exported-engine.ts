import { nd } from '../nd.js';
import type { OnnxModel, OnnxValue } from '../onnx/model.js';
import { ModelContractError } from '../runtime/errors.js';
import { readGraph } from '../runtime/graph.js';
import { type Device, Network } from '../runtime/network.js';
import type { Ort } from '../runtime/ort.js';
import { SerialQueue } from '../runtime/queue.js';
import { openFolder } from '../runtime/source.js';
import { DeviceStates } from './device-arrays.js';
import { type Engine, firstResets, type StackOptions, withoutRows } from './engine.js';
import { isHost, SsmState, type StateArray, type StateHome } from './state.js';
import { keptOutputs, StateGraph, type StateGraphNames } from './state-graph.js';
import { partNames, type StatePart, straightPart, turnedPart, widePart } from './state-layout.js';

/** Where an exported stack comes from: path, URL or bytes of an ONNX file. */
export type ExportedSource = string | URL | Uint8Array;

/** How an exported graph calls things; `{i}` stands for the layer's number. */
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
   */
  static async load(
    ort: Ort,
    device: Device,
    what: string,
    source: ExportedSource,
    family: 'mamba' | 'mamba2',
    options: ExportedOptions,
  ): Promise<ExportedEngine> {
    const folder = await openFolder(source);
    const file = folder.file ?? '';
    const model = readGraph(await folder.read(file), `${file} of ${folder.where}`);
    const facts = factsOf(what, model, family, options);
    const network = await Network.loadFile(ort, folder, file, undefined, {
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
      for (const shared of this.home.held) shared.free();
      await this.#graph.network.dispose();
      await this.#states.dispose();
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

function factsOf(
  what: string,
  model: OnnxModel,
  family: 'mamba' | 'mamba2',
  options: ExportedOptions,
): Facts {
  const { inputs, outputs } = model.graph;
  const fail = (problem: string): never => {
    throw new ModelContractError(
      `${what}: ${problem}; the graph has inputs ${inputs.map(({ name }) => name).join(', ')} and ` +
        `outputs ${outputs.map(({ name }) => name).join(', ')}`,
    );
  };
  const find = (values: readonly OnnxValue[], name: string): OnnxValue =>
    values.find((value) => value.name === name) ?? fail(`the graph must have '${name}', got none`);
  const given = options.names ?? {};
  const scheme =
    given.conv && given.ssm
      ? { conv: given.conv, ssm: given.ssm }
      : SCHEMES.find(({ conv }) => inputs.some(({ name }) => name === layerName(conv[0], 0)));
  if (scheme === undefined) {
    return fail(
      'conv and scan states must be inputs and outputs; give their names, with {i}, in names',
    );
  }
  const { conv, ssm } = scheme;
  let nLayers = 0;
  while (inputs.some(({ name }) => name === layerName(conv[0], nLayers))) nLayers++;
  if (nLayers === 0) fail(`the graph must have '${layerName(conv[0], 0)}', got none`);
  const before: string[] = [];
  const after: string[] = [];
  const parts: StatePart[] = [];
  for (let i = 0; i < nLayers; i++) {
    const [convName, ssmName] = partNames(i);
    const window = rowOf(find(inputs, layerName(conv[0], i)), 2, fail);
    const state = rowOf(find(inputs, layerName(ssm[0], i)), family === 'mamba' ? 2 : 3, fail);
    before.push(layerName(conv[0], i), layerName(ssm[0], i));
    for (const name of [layerName(conv[1], i), layerName(ssm[1], i)]) {
      find(outputs, name);
      after.push(name);
    }
    const [channels, columns] = window;
    const taps = tapsOf(model, channels, columns, options.dConv, fail);
    const shape = [channels, taps - 1];
    parts.push(columns === taps ? widePart(convName, shape) : straightPart(convName, shape));
    const turned = [...state.slice(0, -2), state[state.length - 1], state[state.length - 2]];
    parts.push(given.ssmTurned ? turnedPart(ssmName, turned) : straightPart(ssmName, state));
  }
  const x = onlyOther(inputs, before, given.x, 'x', fail);
  const y = onlyOther(outputs, after, given.y, 'y', fail);
  const shape = x.shape ?? [];
  const dModel = shape[shape.length - 1];
  if (typeof dModel !== 'number' || shape.length < 2 || shape.length > 3) {
    return fail(
      `'${x.name}' must be [B, M] or [B, T, M] with a fixed M, got [${shape.join(', ')}]`,
    );
  }
  const takesSequences = shape.length === 3 && typeof shape[1] === 'string';
  if (shape.length === 3 && typeof shape[1] === 'number' && shape[1] !== 1) {
    return fail(`'${x.name}' must take one step or any number of them, got [${shape.join(', ')}]`);
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
  return pattern.replaceAll('{i}', String(layer));
}

/** The shape of a state's row, which must be fixed. */
function rowOf(
  { name, shape, dtype }: OnnxValue,
  rank: number,
  fail: (problem: string) => never,
): number[] {
  const row = shape?.slice(1) ?? [];
  if (dtype !== 'float32') fail(`'${name}' must be float32, got ${dtype}`);
  if (row.length !== rank || row.some((length) => typeof length !== 'number')) {
    const which = rank === 3 ? '[B, H, P, N], as Mamba-2 has it' : `of rank ${rank + 1}`;
    fail(
      `'${name}' must be ${which} with fixed lengths but for B, got [${(shape ?? []).join(', ')}]`,
    );
  }
  return row as number[];
}

/** How many taps the convolution behind a window has, which may be as many as its columns or one more. */
function tapsOf(
  { graph }: OnnxModel,
  channels: number,
  columns: number,
  given: number | undefined,
  fail: (problem: string) => never,
): number {
  const weights = graph.initializers.filter(
    ({ shape }) => shape.length === 3 && shape[0] === channels && shape[1] === 1,
  );
  const shown = new Set(weights.map(({ shape }) => shape[2]));
  const taps = given ?? (shown.size === 1 ? [...shown][0] : DEFAULT_TAPS);
  if (columns !== taps && columns !== taps - 1) {
    fail(`windows must have K or K - 1 columns, got ${columns} with K = ${taps}; say dConv`);
  }
  return taps;
}

/** The input or output that is no state. */
function onlyOther(
  values: readonly OnnxValue[],
  states: readonly string[],
  given: string | undefined,
  what: string,
  fail: (problem: string) => never,
): OnnxValue {
  const others = values.filter(({ name }) => !states.includes(name));
  const found = given === undefined ? others : others.filter(({ name }) => name === given);
  if (found.length !== 1 || (what === 'x' && others.length !== 1)) {
    fail(
      `one ${what === 'x' ? 'input' : 'output'} must be left for ${what}, got ${others.map(({ name }) => name).join(', ') || 'none'}; name it in names`,
    );
  }
  return found[0];
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
