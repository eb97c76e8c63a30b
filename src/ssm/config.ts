/**
 * What the weights of a stack do not say themselves: given in code, or read from the `config.json` of
 * Hugging Face transformers or of state-spaces/mamba.
 */

import { describe } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';

/** What stacks of both families share. Sizes are read off the weights; one given here is a check. */
export interface StackConfig {
  /**
   * What the keys of the stack begin with, such as `'sequence_model.backbone.'`; keys elsewhere are
   * then left alone. By default it is found, and a key elsewhere is an error.
   */
  readonly prefix?: string;
  /** Beginnings of keys to leave out, relative to the prefix or absolute, such as `'stem.'`. */
  readonly ignore?: readonly string[];
  /** Added to the mean square by the norms of the layers, of the gate and at the end. Default 1e-5. */
  readonly normEps?: number;
  /**
   * Whether the stack ends with the norm `norm_f.weight`. Default true, and the key is required; if
   * false, the norm is left out even where the weights have one.
   */
  readonly finalNorm?: boolean;
  /** Whether the input and output projections have biases. Default: as in the weights. */
  readonly bias?: boolean;
  /** Whether the convolutions have biases. Default: as in the weights. */
  readonly convBias?: boolean;
  /** Width of the residual stream, M. */
  readonly dModel?: number;
  /** Channels of the scan, D. */
  readonly dInner?: number;
  /** State elements per channel, N. */
  readonly dState?: number;
  /** Taps of the convolution, K. */
  readonly dConv?: number;
  /** Number of layers. */
  readonly nLayers?: number;
  /** Hidden units of each layer's gated MLP; 0 where layers have none. */
  readonly dIntermediate?: number;
}

/**
 * A stack of Mamba-1 layers, as far as its weights leave it open.
 *
 * @example
 * ```ts
 * // The sequence model inside a larger checkpoint, whose input layer runs elsewhere.
 * const config: MambaConfig = { prefix: 'sequence_model.backbone.', ignore: ['stem.'] };
 * ```
 */
export interface MambaConfig extends StackConfig {
  /**
   * Whether dt, B and C are RMS-normed between `x_proj` and their use. Default: whether the weights
   * have `dt_layernorm`, `b_layernorm` and `c_layernorm`. Where they have none, true norms without
   * scaling, as FalconMamba does.
   */
  readonly mixerNorm?: boolean;
  /** Added to the mean square by the norms of dt, B and C. Default 1e-6. */
  readonly mixerNormEps?: number;
  /** Width of dt before `dt_proj`, R. */
  readonly dtRank?: number;
}

/**
 * A stack of Mamba-2 layers, as far as its weights leave it open.
 *
 * @example
 * ```ts
 * const config: Mamba2Config = { nGroups: 8, dState: 128 }; // dState guards against a wrong nGroups
 * ```
 */
export interface Mamba2Config extends StackConfig {
  /**
   * Groups of heads that share one B and C, G; the gated norm is over the channels of each group. Default 1;
   * the weights fix only G times N, so give `dState` too, as a check.
   */
  readonly nGroups?: number;
  /** Bounds of the step size after softplus. Default `[0, Infinity]`. */
  readonly dtLimit?: readonly [number, number];
  /** Whether the gate multiplies the scan's output after the norm and not before. Default false. */
  readonly normBeforeGate?: boolean;
  /**
   * Whether the mixer RMS-norms its gated output, by `norm.weight`, before the output projection. Default: as
   * in the weights.
   */
  readonly gateNorm?: boolean;
  /** Number of heads, H. */
  readonly nHeads?: number;
  /** Channels of a head, P. */
  readonly headDim?: number;
}

const STACK_KEYS: readonly (keyof StackConfig)[] = [
  'prefix',
  'ignore',
  'normEps',
  'finalNorm',
  'bias',
  'convBias',
  'dModel',
  'dInner',
  'dState',
  'dConv',
  'nLayers',
  'dIntermediate',
];

/** Every field of {@link MambaConfig}. */
export const MAMBA_CONFIG_KEYS: readonly (keyof MambaConfig)[] = [
  ...STACK_KEYS,
  'mixerNorm',
  'mixerNormEps',
  'dtRank',
];

/** Every field of {@link Mamba2Config}. */
export const MAMBA2_CONFIG_KEYS: readonly (keyof Mamba2Config)[] = [
  ...STACK_KEYS,
  'nGroups',
  'dtLimit',
  'normBeforeGate',
  'gateNorm',
  'nHeads',
  'headDim',
];

const COUNTS = [
  'dModel',
  'dInner',
  'dState',
  'dConv',
  'nLayers',
  'dtRank',
  'nGroups',
  'nHeads',
  'headDim',
];
const FLAGS = ['finalNorm', 'bias', 'convBias', 'mixerNorm', 'normBeforeGate', 'gateNorm'];
const EPSILONS = ['normEps', 'mixerNormEps'];

const FLOAT_TAG = '__float__';
const LIMIT = 'two bounds, 0 <= low <= high with low finite';
/** The gated MLP of state-spaces rounds its width up to a multiple of this. */
const MLP_MULTIPLE = 128;
/** What transformers takes where `n_groups` is absent. */
const TRANSFORMERS_GROUPS = 8;
const LAYER_NORM = 'LayerNorm is not supported: train with rms_norm=True';

/** Arguments of the mixers that the weights tell, or that matter only where Python trains and runs. */
const UNUSED_ARGUMENTS = [
  'A_init_range',
  'D_has_hdim',
  'chunk_size',
  'conv_init',
  'device',
  'dt_init',
  'dt_init_floor',
  'dt_max',
  'dt_min',
  'dt_scale',
  'dtype',
  'layer_idx',
  'process_group',
  'sequence_parallel',
  'use_fast_path',
  'use_mem_eff_path',
];
const SHARED_ARGUMENTS = ['layer', 'd_state', 'd_conv', 'expand', 'bias', 'conv_bias'];
const MAMBA_ARGUMENTS = [...SHARED_ARGUMENTS, 'dt_rank'];
const MAMBA2_ARGUMENTS = [
  ...SHARED_ARGUMENTS,
  'd_ssm',
  'dt_limit',
  'headdim',
  'ngroups',
  'norm_before_gate',
  'rmsnorm',
];

/**
 * Checks the values of a configuration given in code; other fields are left alone.
 *
 * @param what - the name used in messages
 * @throws TypeError when a field is of the wrong kind
 * @throws RangeError when a number is out of range
 */
export function checkConfig(what: string, config: MambaConfig | Mamba2Config): void {
  if (typeof config !== 'object' || config === null) {
    throw new TypeError(`${what}: config must be an object, got ${describe(config)}`);
  }
  const fields = config as Readonly<Record<string, unknown>>;
  for (const name of FLAGS) {
    const value = fields[name];
    if (value !== undefined && typeof value !== 'boolean') {
      throw new TypeError(`${what}: ${name} must be true or false, got ${valueText(value)}`);
    }
  }
  for (const name of COUNTS) expectNumber(what, name, fields[name], isCount, 'a positive integer');
  for (const name of EPSILONS) {
    expectNumber(what, name, fields[name], isEpsilon, 'a positive number');
  }
  const { dIntermediate, dtLimit } = fields;
  expectNumber(
    what,
    'dIntermediate',
    dIntermediate,
    (n) => n === 0 || isCount(n),
    'a positive integer, or 0 for no MLP',
  );
  if (dtLimit === undefined) return;
  if (!Array.isArray(dtLimit) || !dtLimit.every((bound) => typeof bound === 'number')) {
    throw new TypeError(`${what}: dtLimit must be two numbers, got ${valueText(dtLimit)}`);
  }
  if (!isLimit(dtLimit)) {
    throw new RangeError(`${what}: dtLimit must be ${LIMIT}, got ${valueText(dtLimit)}`);
  }
}

/**
 * A configuration from the `config.json` beside a checkpoint.
 *
 * Read are those of Hugging Face transformers (`model_type` of `mamba`, `falcon_mamba` or `mamba2`) and
 * of state-spaces/mamba (`d_model`, `ssm_cfg`). Fields that are absent take the defaults of the Python
 * that writes them, so `n_groups` is 8 for Hugging Face and `ngroups` 1 for state-spaces; absent sizes
 * are left to the weights. Infinity may be written as transformers writes it,
 * `{ "__float__": "Infinity" }`.
 *
 * @param json - the parsed file
 * @param family - which stack it must describe
 * @throws {@link ModelContractError} when it describes another kind of model, or one with parts that
 *   are not supported: LayerNorm, attention layers, another activation than silu, `d_ssm`
 *
 * Source: `configuration_mamba.py`, `configuration_falcon_mamba.py` and `configuration_mamba2.py` of
 * huggingface/transformers; `config_mamba.py` and `mixer_seq_simple.py` of state-spaces/mamba.
 */
export function configFromJson(json: unknown, family: 'mamba'): MambaConfig;
export function configFromJson(json: unknown, family: 'mamba2'): Mamba2Config;
export function configFromJson(
  json: unknown,
  family: 'mamba' | 'mamba2',
): MambaConfig | Mamba2Config {
  const fields = new Fields('', json);
  if (fields.has('model_type')) return fromTransformers(fields, family);
  if (fields.has('ssm_cfg') || fields.has('d_model')) return fromStateSpaces(fields, family);
  throw fields.fail(
    'model_type',
    'be mamba, falcon_mamba or mamba2, or the file have d_model and ssm_cfg as state-spaces writes it',
    'give the configuration in code',
  );
}

/** Whether a `config.json` says that it describes a stack of either family and nothing around it. */
export function describesStack(json: unknown): boolean {
  if (typeof json !== 'object' || json === null) return false;
  const { model_type: type, ssm_cfg: ssm } = json as { model_type?: unknown; ssm_cfg?: unknown };
  return ['mamba', 'falcon_mamba', 'mamba2'].includes(String(type)) || typeof ssm === 'object';
}

/**
 * Parses a JSON file written by Python, which spells non-finite numbers as JSON does not: `Infinity`,
 * `-Infinity` and `NaN` become `{ "__float__": "Infinity" }` and so on, the form transformers uses.
 *
 * @throws SyntaxError when the text is no such JSON
 */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // Strings are matched too, so that what they contain stays as it is.
    const tagged = text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, (token) =>
      token.startsWith('"') ? token : JSON.stringify({ [FLOAT_TAG]: token }),
    );
    if (tagged === text) throw error;
    return JSON.parse(tagged);
  }
}

function fromTransformers(fields: Fields, family: 'mamba' | 'mamba2'): MambaConfig | Mamba2Config {
  const types = family === 'mamba' ? ['mamba', 'falcon_mamba'] : ['mamba2'];
  const type = fields.get('model_type');
  if (typeof type !== 'string' || !types.includes(type)) {
    throw fields.fail('model_type', `be ${types.join(' or ')}`, familyRemedy(type));
  }
  fields.expect('hidden_act', ['silu', 'swish'], 'other activations are not supported');
  fields.expect('rms_norm', [true], LAYER_NORM);
  const dModel = fields.count('hidden_size');
  const shared: StackConfig = {
    normEps: fields.epsilon('layer_norm_epsilon') ?? 1e-5,
    bias: fields.flag('use_bias') ?? false,
    convBias: fields.flag('use_conv_bias') ?? true,
    dIntermediate: 0,
    ...defined({
      dModel,
      dInner: fields.inner('expand', dModel),
      dState: fields.count('state_size'),
      dConv: fields.count('conv_kernel'),
      nLayers: fields.count('num_hidden_layers'),
    }),
  };
  if (family === 'mamba2') {
    return {
      ...shared,
      nGroups: fields.count('n_groups') ?? TRANSFORMERS_GROUPS,
      dtLimit: fields.limit('time_step_limit') ?? [0, Infinity],
      // transformers has no other order and always norms, whatever older files say.
      normBeforeGate: false,
      gateNorm: true,
      ...defined({ nHeads: fields.count('num_heads'), headDim: fields.count('head_dim') }),
    };
  }
  return {
    ...shared,
    ...defined({ dtRank: fields.rank('time_step_rank', dModel) }),
    ...(type === 'falcon_mamba' && {
      mixerNorm: true,
      mixerNormEps: fields.epsilon('mixer_rms_eps') ?? 1e-6,
    }),
  };
}

function fromStateSpaces(fields: Fields, family: 'mamba' | 'mamba2'): MambaConfig | Mamba2Config {
  fields.expect('rms_norm', [true], LAYER_NORM);
  const attention = fields.get('attn_layer_idx');
  if (attention !== undefined && !(Array.isArray(attention) && attention.length === 0)) {
    throw fields.fail('attn_layer_idx', 'be []', 'attention layers are not supported');
  }
  const ssm = new Fields('ssm_cfg', fields.get('ssm_cfg') ?? {});
  const layer = family === 'mamba' ? 'Mamba1' : 'Mamba2';
  ssm.expect('layer', [layer], familyRemedy(ssm.get('layer')));
  ssm.only([...(family === 'mamba' ? MAMBA_ARGUMENTS : MAMBA2_ARGUMENTS), ...UNUSED_ARGUMENTS]);
  const dModel = fields.count('d_model');
  const dInner = ssm.inner('expand', dModel);
  const hidden = fields.get('d_intermediate') === 0 ? 0 : (fields.count('d_intermediate') ?? 0);
  const shared: StackConfig = {
    normEps: fields.epsilon('norm_epsilon') ?? 1e-5,
    bias: ssm.flag('bias') ?? false,
    convBias: ssm.flag('conv_bias') ?? true,
    dIntermediate: Math.ceil(hidden / MLP_MULTIPLE) * MLP_MULTIPLE,
    ...defined({
      dModel,
      dInner,
      dState: ssm.count('d_state'),
      dConv: ssm.count('d_conv'),
      nLayers: fields.count('n_layer'),
    }),
  };
  if (family === 'mamba') {
    return { ...shared, ...defined({ dtRank: ssm.rank('dt_rank', dModel) }) };
  }
  const dScan = ssm.count('d_ssm');
  if (dScan !== undefined && dScan !== (dInner ?? 2 * (dModel ?? Number.NaN))) {
    throw ssm.fail('d_ssm', 'be the whole of expand * d_model', 'narrower scans are not supported');
  }
  const gateNorm = ssm.flag('rmsnorm') ?? true;
  // Upstream fixes that of the gate's norm; this library has one for all.
  if (gateNorm)
    fields.expect('norm_epsilon', [1e-5], 'the norm of the gate has 1e-5, whatever it is');
  return {
    ...shared,
    nGroups: ssm.count('ngroups') ?? 1,
    dtLimit: ssm.limit('dt_limit') ?? [0, Infinity],
    normBeforeGate: ssm.flag('norm_before_gate') ?? false,
    gateNorm,
    ...defined({ headDim: ssm.count('headdim') }),
  };
}

function familyRemedy(kind: unknown): string {
  if (kind === 'mamba' || kind === 'falcon_mamba' || kind === 'Mamba1') {
    return 'load it with MambaStack';
  }
  if (kind === 'mamba2' || kind === 'Mamba2') return 'load it with Mamba2Stack';
  return 'other models are not supported';
}

/** Fields of `config.json` or of an object in it; Python's None is as good as absence. */
class Fields {
  private readonly path: string;
  private readonly json: Readonly<Record<string, unknown>>;

  constructor(name: string, json: unknown) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      const what = name === '' ? 'config.json' : `config.json: ${name}`;
      throw new ModelContractError(`${what} must be an object, got ${valueText(json)}`);
    }
    this.path = name === '' ? '' : `${name}.`;
    this.json = json as Readonly<Record<string, unknown>>;
  }

  get(name: string): unknown {
    return Object.hasOwn(this.json, name) ? (this.json[name] ?? undefined) : undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  fail(name: string, must: string, remedy?: string): ModelContractError {
    const end = remedy === undefined ? '' : `; ${remedy}`;
    return new ModelContractError(
      `config.json: ${this.path}${name} must ${must}, got ${valueText(this.get(name))}${end}`,
    );
  }

  /** Refuses a field that is there and has another value. */
  expect(name: string, values: readonly unknown[], remedy: string): void {
    const value = this.get(name);
    if (value !== undefined && !values.includes(value)) {
      throw this.fail(name, `be ${values.join(' or ')}`, remedy);
    }
  }

  /** Refuses fields nobody reads. */
  only(names: readonly string[]): void {
    const stranger = Object.keys(this.json).find((name) => !names.includes(name));
    if (stranger !== undefined) {
      throw this.fail(stranger, 'be absent', 'what it does is not known here');
    }
  }

  count(name: string): number | undefined {
    return this.number(name, isCount, 'be a positive integer');
  }

  epsilon(name: string): number | undefined {
    return this.number(name, isEpsilon, 'be a positive number');
  }

  flag(name: string): boolean | undefined {
    const value = this.get(name);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.fail(name, 'be true or false');
  }

  /** The channels of the scan, where both their factor and the width are told. */
  inner(name: string, dModel: number | undefined): number | undefined {
    const expand = this.number(name, isEpsilon, 'be a positive number');
    return expand === undefined || dModel === undefined ? undefined : Math.trunc(expand * dModel);
  }

  /** A rank, which `auto` derives from the width. */
  rank(name: string, dModel: number | undefined): number | undefined {
    if (this.get(name) !== 'auto') return this.count(name);
    return dModel === undefined ? undefined : Math.ceil(dModel / 16);
  }

  limit(name: string): [number, number] | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    const bounds = Array.isArray(value) ? value.map(untagged) : [];
    if (!isLimit(bounds)) throw this.fail(name, `be ${LIMIT}`);
    return bounds;
  }

  private number(
    name: string,
    holds: (value: number) => boolean,
    must: string,
  ): number | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !holds(value)) throw this.fail(name, must);
    return value;
  }
}

function untagged(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !(FLOAT_TAG in value)) return value;
  return { Infinity, '-Infinity': -Infinity }[String(value[FLOAT_TAG])];
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

function isEpsilon(value: number): boolean {
  return Number.isFinite(value) && value > 0;
}

function isLimit(bounds: readonly unknown[]): bounds is [number, number] {
  const [low, high] = bounds;
  return (
    bounds.length === 2 &&
    typeof low === 'number' &&
    typeof high === 'number' &&
    low >= 0 &&
    low <= high &&
    low < Infinity
  );
}

function expectNumber(
  what: string,
  name: string,
  value: unknown,
  holds: (value: number) => boolean,
  must: string,
): void {
  if (value === undefined) return;
  if (typeof value !== 'number') {
    throw new TypeError(`${what}: ${name} must be ${must}, got ${valueText(value)}`);
  }
  if (!holds(value)) throw new RangeError(`${what}: ${name} must be ${must}, got ${value}`);
}

/** Leaves out what is undefined, so that spreading it hides nothing. */
function defined<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}

function valueText(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(valueText).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  return FLOAT_TAG in value ? String(value[FLOAT_TAG]) : describe(value);
}
