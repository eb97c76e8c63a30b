/**
 * The weights of a stack of Mamba-1 layers, from a checkpoint with the keys of state-spaces/mamba or of
 * Hugging Face transformers, which differ only around the stack.
 *
 * M dModel, D dInner, N dState, K dConv, R dtRank, h hidden units of the MLP.
 */

import type { NdView, TypedArray } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
import { checkConfig, type MambaConfig, type StackConfig } from './config.js';
import { commonLength, FINAL_NORM, TensorTable } from './tensor-table.js';

/** `x + fc2(a * silu(b))`, where `[a, b] = fc1(norm(x))`: the MLP that may follow a mixer. */
export interface MambaMlp {
  /** `[M]`. */
  norm: Float32Array;
  /** `[2h, M]`: rows of a, then of the gate b. */
  fc1: Float32Array;
  /** `[2h]`. */
  fc1Bias?: Float32Array;
  /** `[M, h]`. */
  fc2: Float32Array;
  /** `[M]`. */
  fc2Bias?: Float32Array;
  /** h. */
  hidden: number;
}

/** One Mamba-1 layer; matrices are `[out, in]`, row-major. */
export interface MambaLayer {
  /** `[M]`. */
  norm: Float32Array;
  /** `[2D, M]`: rows of x, then of the gate z. */
  inProj: Float32Array;
  /** `[2D]`. */
  inProjBias?: Float32Array;
  /** `[D, K]`; the last tap weighs the current input. */
  convWeight: Float32Array;
  /** `[D]`. */
  convBias?: Float32Array;
  /** `[R + 2N, D]`: rows of dt, B, C. */
  xProj: Float32Array;
  /** `[D, R]`. */
  dtProj: Float32Array;
  /** `[D]`. */
  dtBias: Float32Array;
  /** `[D, N]`: `-exp(A_log)`, computed in float64. */
  A: Float32Array;
  /** `[D]`. */
  D: Float32Array;
  /** `[M, D]`. */
  outProj: Float32Array;
  /** `[M]`. */
  outProjBias?: Float32Array;
  /** `[R]`. */
  dtNorm?: Float32Array;
  /** `[N]`. */
  bNorm?: Float32Array;
  /** `[N]`. */
  cNorm?: Float32Array;
  mlp?: MambaMlp;
}

/** The sizes of a Mamba-1 stack, as its weights tell them. */
export interface MambaSizes {
  dModel: number;
  dInner: number;
  dState: number;
  dConv: number;
  dtRank: number;
  nLayers: number;
}

/** Everything that computing a Mamba-1 stack takes. */
export interface MambaWeights {
  sizes: MambaSizes;
  normEps: number;
  mixerNormEps: number;
  layers: readonly MambaLayer[];
  /** `[M]`; absent where the stack ends without a norm. */
  finalNorm?: Float32Array;
}

/**
 * Reads the weights of a Mamba-1 stack. Float32 tensors share the memory of `tensors`.
 *
 * @param what - the name used in messages
 * @param tensors - the checkpoint, by key
 * @param config - what the weights do not tell
 * @throws {@link ModelContractError} naming every key that is missing, left over, of the wrong shape or
 *   not finite, and every size that `config` says otherwise; or when the weights are not Mamba-1's
 * @throws TypeError when a tensor or a field of `config` is of the wrong kind
 * @throws RangeError when a number of `config` is out of range
 */
export function readMambaWeights(
  what: string,
  tensors: Readonly<Record<string, NdView<TypedArray>>>,
  config: MambaConfig,
): MambaWeights {
  checkConfig(what, config);
  const table = new TensorTable(what, tensors, config);
  refuseMamba2(what, table);
  const sizes = sizesOf(table, config);
  const { dModel: M, dInner: D, dState: N, dConv: K, dtRank: R } = sizes;
  const hasBias = config.bias ?? hasProjectionBias(table);
  const hasConvBias = config.convBias ?? table.inAnyLayer('mixer.conv1d.bias');
  const readMixerNorm = mixerNormOf(table, sizes, config.mixerNorm);
  const readMlp = mlpOf(table, M, config);
  const layers = Array.from({ length: sizes.nLayers }, (_, i): MambaLayer => {
    const mixer = `layers.${i}.mixer`;
    return {
      norm: table.take(`layers.${i}.norm.weight`, [M]),
      inProj: table.take(`${mixer}.in_proj.weight`, [2 * D, M]),
      inProjBias: hasBias ? table.take(`${mixer}.in_proj.bias`, [2 * D]) : undefined,
      convWeight: table.take(`${mixer}.conv1d.weight`, [D, 1, K]),
      convBias: hasConvBias ? table.take(`${mixer}.conv1d.bias`, [D]) : undefined,
      xProj: table.take(`${mixer}.x_proj.weight`, [R + 2 * N, D]),
      dtProj: table.take(`${mixer}.dt_proj.weight`, [D, R]),
      dtBias: table.take(`${mixer}.dt_proj.bias`, [D]),
      A: table.take(`${mixer}.A_log`, [D, N], negativeExp),
      D: table.take(`${mixer}.D`, [D]),
      outProj: table.take(`${mixer}.out_proj.weight`, [M, D]),
      outProjBias: hasBias ? table.take(`${mixer}.out_proj.bias`, [M]) : undefined,
      ...readMixerNorm(mixer),
      mlp: readMlp(i),
    };
  });
  const finalNorm = readFinalNorm(table, M, config);
  table.finish('a Mamba-1 stack', { ...sizes });
  const { normEps = 1e-5, mixerNormEps = 1e-6 } = config;
  return { sizes, normEps, mixerNormEps, layers, finalNorm };
}

function refuseMamba2(what: string, table: TensorTable): void {
  const isMamba1 =
    table.inAnyLayer('mixer.x_proj.weight') || table.inAnyLayer('mixer.dt_proj.weight');
  const isFlat = table.layerShapes('mixer.A_log').some((shape) => shape.length === 1);
  if (!isMamba1 && (isFlat || table.inAnyLayer('mixer.dt_bias'))) {
    throw new ModelContractError(
      `${what}: the weights must be those of Mamba-1, got no x_proj and dt_proj; ` +
        'these look like Mamba-2 weights; load them with Mamba2Stack',
    );
  }
}

function sizesOf(table: TensorTable, config: MambaConfig): MambaSizes {
  const decay = lengths(table, 'mixer.A_log', 1);
  const dtWidth = lengths(table, 'mixer.dt_proj.weight', 1);
  const xProj = lengths(table, 'mixer.x_proj.weight', 0);
  // x_proj has R + 2N rows, so each of the two sizes also follows from the other.
  const rank = commonLength([config.dtRank, ...dtWidth]);
  const dState = commonLength([
    config.dState,
    ...decay,
    ...lengths(table, 'mixer.b_layernorm.weight', 0),
    ...lengths(table, 'mixer.c_layernorm.weight', 0),
    ...xProj.map((rows) => (rows - rank) / 2),
  ]);
  const sizes: MambaSizes = {
    dModel: widthOf(table, config),
    dInner: commonLength([
      config.dInner,
      ...lengths(table, 'mixer.A_log', 0),
      ...lengths(table, 'mixer.D', 0),
      ...lengths(table, 'mixer.conv1d.weight', 0),
      ...lengths(table, 'mixer.dt_proj.weight', 0),
      ...lengths(table, 'mixer.x_proj.weight', 1),
      ...lengths(table, 'mixer.out_proj.weight', 1),
      ...lengths(table, 'mixer.in_proj.weight', 0).map((rows) => rows / 2),
    ]),
    dState,
    dConv: commonLength([config.dConv, ...lengths(table, 'mixer.conv1d.weight', 2)]),
    dtRank: commonLength([config.dtRank, ...dtWidth, ...xProj.map((rows) => rows - 2 * dState)]),
    nLayers: table.nLayers,
  };
  expectSizes(table, sizes, config);
  return sizes;
}

/** The norms of dt, B and C of a layer; ones where the model norms but has nothing to scale by. */
function mixerNormOf(
  table: TensorTable,
  { dState: N, dtRank: R }: MambaSizes,
  wanted: boolean | undefined,
): (mixer: string) => Pick<MambaLayer, 'dtNorm' | 'bNorm' | 'cNorm'> {
  const hasWeights = ['dt', 'b', 'c'].some((part) =>
    table.inAnyLayer(`mixer.${part}_layernorm.weight`),
  );
  if (!(wanted ?? hasWeights)) return () => ({});
  if (!hasWeights) {
    const ones = (length: number): Float32Array => new Float32Array(length || 0).fill(1);
    return () => ({ dtNorm: ones(R), bNorm: ones(N), cNorm: ones(N) });
  }
  return (mixer) => ({
    dtNorm: table.take(`${mixer}.dt_layernorm.weight`, [R]),
    bNorm: table.take(`${mixer}.b_layernorm.weight`, [N]),
    cNorm: table.take(`${mixer}.c_layernorm.weight`, [N]),
  });
}

/** `-exp(A_log)`, the decay rates of both families. */
export function negativeExp(logarithm: number): number {
  return -Math.exp(logarithm);
}

/** The lengths of one axis of a tensor in all layers that have it. */
export function lengths(table: TensorTable, name: string, axis: number): number[] {
  return table.layerShapes(name).flatMap((shape) => shape[axis] ?? []);
}

/** The width of the residual stream, of either family. */
export function widthOf(table: TensorTable, { dModel }: StackConfig): number {
  return commonLength([
    dModel,
    ...lengths(table, 'norm.weight', 0),
    ...lengths(table, 'mixer.in_proj.weight', 1),
    ...lengths(table, 'mixer.out_proj.weight', 0),
    table.shape(FINAL_NORM)?.[0],
  ]);
}

/** Whether the projections have biases: one argument gives both their biases or none. */
export function hasProjectionBias(table: TensorTable): boolean {
  return table.inAnyLayer('mixer.in_proj.bias') || table.inAnyLayer('mixer.out_proj.bias');
}

/** Reads the MLP of each layer: all layers have one, or none has. */
export function mlpOf(
  table: TensorTable,
  dModel: number,
  { dIntermediate }: StackConfig,
): (layer: number) => MambaMlp | undefined {
  const names = ['norm2.weight', 'mlp.fc1.weight', 'mlp.fc2.weight'];
  const hasMlp =
    dIntermediate === undefined ? names.some((n) => table.inAnyLayer(n)) : dIntermediate > 0;
  if (!hasMlp) return () => undefined;
  const hidden = commonLength([
    dIntermediate,
    ...lengths(table, 'mlp.fc2.weight', 1),
    ...lengths(table, 'mlp.fc1.weight', 0).map((rows) => rows / 2),
  ]);
  expectSize(table, 'dIntermediate', hidden, dIntermediate);
  const hasBias = table.inAnyLayer('mlp.fc1.bias') || table.inAnyLayer('mlp.fc2.bias');
  return (layer) => {
    const mlp = `layers.${layer}.mlp`;
    return {
      norm: table.take(`layers.${layer}.norm2.weight`, [dModel]),
      fc1: table.take(`${mlp}.fc1.weight`, [2 * hidden, dModel]),
      fc1Bias: hasBias ? table.take(`${mlp}.fc1.bias`, [2 * hidden]) : undefined,
      fc2: table.take(`${mlp}.fc2.weight`, [dModel, hidden]),
      fc2Bias: hasBias ? table.take(`${mlp}.fc2.bias`, [dModel]) : undefined,
      hidden,
    };
  };
}

/** The norm after the last layer, unless the stack is to end without one. */
export function readFinalNorm(
  table: TensorTable,
  dModel: number,
  { finalNorm = true }: StackConfig,
): Float32Array | undefined {
  if (finalNorm) return table.take(FINAL_NORM, [dModel]);
  table.leave(FINAL_NORM);
  return undefined;
}

/** Notes every size that the configuration gives otherwise than the weights. */
export function expectSizes(table: TensorTable, sizes: object, config: object): void {
  const given = config as Readonly<Record<string, number | undefined>>;
  for (const [name, size] of Object.entries(sizes)) expectSize(table, name, size, given[name]);
}

function expectSize(
  table: TensorTable,
  name: string,
  size: number,
  given: number | undefined,
): void {
  if (given !== undefined && given !== size && !Number.isNaN(size)) {
    table.note(`${name} must be ${size} as in the weights, got ${given}`);
  }
}
