/**
 * The weights of a stack of Mamba-1 layers, from a checkpoint with the keys of state-spaces/mamba or of
 * Hugging Face transformers, which differ only around the stack.
 *
 * M dModel, D dInner, N dState, K dConv, R dtRank, h hidden units of the MLP.
 */

import type { NdView, TypedArray } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
import { checkConfig, type MambaConfig } from './config.js';
import {
  expectSizes,
  hasProjectionBias,
  lengths,
  type MambaMlp,
  mlpOf,
  negativeExp,
  readFinalNorm,
  widthOf,
} from './layer-weights.js';
import { commonLength, TensorTable } from './tensor-table.js';

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
