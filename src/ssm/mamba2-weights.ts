/**
 * The weights of a stack of Mamba-2 layers, from a checkpoint with the keys of state-spaces/mamba or of
 * Hugging Face transformers, which differ only around the stack.
 *
 * M dModel, D dInner, H nHeads, P headDim (D = H P), G nGroups, N dState, K dConv.
 */

import type { NdView, TypedArray } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
import { checkConfig, type Mamba2Config } from './config.js';
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

/** One Mamba-2 layer; matrices are `[out, in]`, row-major. */
export interface Mamba2Layer {
  /** `[M]`. */
  norm: Float32Array;
  /** `[2D + 2GN + H, M]`: rows of the gate z, then x, B, C, dt. */
  inProj: Float32Array;
  /** `[2D + 2GN + H]`. */
  inProjBias?: Float32Array;
  /** `[D + 2GN, K]`, of x, B and C; the last tap weighs the current input. */
  convWeight: Float32Array;
  /** `[D + 2GN]`. */
  convBias?: Float32Array;
  /** `[H]`. */
  dtBias: Float32Array;
  /** `[H]`: `-exp(A_log)`, computed in float64. */
  A: Float32Array;
  /** `[D]`; a checkpoint's `[H]` is repeated for the channels of each head. */
  D: Float32Array;
  /** `[D]`; normed over each of G groups of channels. Absent where the scan's output is only gated. */
  gateNorm?: Float32Array;
  /** `[M, D]`. */
  outProj: Float32Array;
  /** `[M]`. */
  outProjBias?: Float32Array;
  mlp?: MambaMlp;
}

/** The sizes of a Mamba-2 stack, as its weights and the number of groups tell them. */
export interface Mamba2Sizes {
  dModel: number;
  dInner: number;
  dState: number;
  dConv: number;
  nHeads: number;
  headDim: number;
  nGroups: number;
  nLayers: number;
}

/** Everything that computing a Mamba-2 stack takes. */
export interface Mamba2Weights {
  sizes: Mamba2Sizes;
  normEps: number;
  /** Bounds of the step size after softplus. */
  dtLimit: [number, number];
  normBeforeGate: boolean;
  layers: readonly Mamba2Layer[];
  /** `[M]`; absent where the stack ends without a norm. */
  finalNorm?: Float32Array;
}

/**
 * Reads the weights of a Mamba-2 stack. Float32 tensors share the memory of `tensors`.
 *
 * @param what - the name used in messages
 * @param tensors - the checkpoint, by key
 * @param config - what the weights do not tell; `nGroups` unless it is 1
 * @throws {@link ModelContractError} naming every key that is missing, left over, of the wrong shape or
 *   not finite, and every size that `config` says otherwise; or when the weights are not Mamba-2's, or
 *   `nGroups` does not divide their channels
 * @throws TypeError when a tensor or a field of `config` is of the wrong kind
 * @throws RangeError when a number of `config` is out of range
 */
export function readMamba2Weights(
  what: string,
  tensors: Readonly<Record<string, NdView<TypedArray>>>,
  config: Mamba2Config,
): Mamba2Weights {
  checkConfig(what, config);
  const table = new TensorTable(what, tensors, config);
  refuseMamba1(what, table);
  refuseNarrowScan(what, table);
  const { channels: C, ...sizes } = sizesOf(table, config);
  const { dModel: M, dInner: D, dConv: K, nHeads: H } = sizes;
  const hasBias = config.bias ?? hasProjectionBias(table);
  const hasConvBias = config.convBias ?? table.inAnyLayer('mixer.conv1d.bias');
  const hasGateNorm = config.gateNorm ?? table.inAnyLayer('mixer.norm.weight');
  const readMlp = mlpOf(table, M, config);
  const layers = Array.from({ length: sizes.nLayers }, (_, i): Mamba2Layer => {
    const mixer = `layers.${i}.mixer`;
    return {
      norm: table.take(`layers.${i}.norm.weight`, [M]),
      inProj: table.take(`${mixer}.in_proj.weight`, [D + C + H, M]),
      inProjBias: hasBias ? table.take(`${mixer}.in_proj.bias`, [D + C + H]) : undefined,
      convWeight: table.take(`${mixer}.conv1d.weight`, [C, 1, K]),
      convBias: hasConvBias ? table.take(`${mixer}.conv1d.bias`, [C]) : undefined,
      dtBias: table.take(`${mixer}.dt_bias`, [H]),
      A: table.take(`${mixer}.A_log`, [H], negativeExp),
      D: readSkip(table, `${mixer}.D`, H, D),
      gateNorm: hasGateNorm ? table.take(`${mixer}.norm.weight`, [D]) : undefined,
      outProj: table.take(`${mixer}.out_proj.weight`, [M, D]),
      outProjBias: hasBias ? table.take(`${mixer}.out_proj.bias`, [M]) : undefined,
      mlp: readMlp(i),
    };
  });
  const finalNorm = readFinalNorm(table, M, config);
  table.finish('a Mamba-2 stack', { ...sizes });
  const { normEps = 1e-5, dtLimit = [0, Infinity], normBeforeGate = false } = config;
  return { sizes, normEps, dtLimit: [...dtLimit], normBeforeGate, layers, finalNorm };
}

function refuseMamba1(what: string, table: TensorTable): void {
  const isMamba2 = table.inAnyLayer('mixer.dt_bias');
  const hasProjections =
    table.inAnyLayer('mixer.x_proj.weight') || table.inAnyLayer('mixer.dt_proj.weight');
  const isMatrix = table.layerShapes('mixer.A_log').some((shape) => shape.length === 2);
  if (!isMamba2 && (hasProjections || isMatrix)) {
    throw new ModelContractError(
      `${what}: the weights must be those of Mamba-2, got no dt_bias; ` +
        'these look like Mamba-1 weights; load them with MambaStack',
    );
  }
}

/** With `d_ssm` below `d_inner`, the remaining width of a mixer is a gated MLP beside the scan. */
function refuseNarrowScan(what: string, table: TensorTable): void {
  const D = commonLength(lengths(table, 'mixer.out_proj.weight', 1));
  const H = commonLength(headCounts(table));
  const C = commonLength(lengths(table, 'mixer.conv1d.weight', 0));
  const rows = commonLength(lengths(table, 'mixer.in_proj.weight', 0));
  const scanned = 2 * D - (rows - C - H);
  const normed = commonLength(lengths(table, 'mixer.norm.weight', 0));
  const agrees = Number.isNaN(normed) ? scanned % H === 0 : normed === scanned;
  if (scanned > 0 && scanned < D && agrees) {
    throw new ModelContractError(
      `${what}: the scan must cover all ${D} channels of out_proj, got ${scanned} (d_ssm); ` +
        'mixers with an MLP beside the scan are not supported',
    );
  }
}

function sizesOf(table: TensorTable, config: Mamba2Config): Mamba2Sizes & { channels: number } {
  const { nGroups = 1 } = config;
  const rows = lengths(table, 'mixer.in_proj.weight', 0);
  const convolved = [
    ...lengths(table, 'mixer.conv1d.weight', 0),
    ...lengths(table, 'mixer.conv1d.bias', 0),
  ];
  const nHeads = commonLength([config.nHeads, ...headCounts(table)]);
  const stored = commonLength(convolved);
  // in_proj has D + C + H rows, so that each follows from the others where those are missing.
  const dInner = commonLength([
    config.dInner,
    ...lengths(table, 'mixer.out_proj.weight', 1),
    ...lengths(table, 'mixer.norm.weight', 0),
    ...rows.map((length) => length - stored - nHeads),
  ]);
  const channels = commonLength([...convolved, ...rows.map((length) => length - dInner - nHeads)]);
  const dState = (channels - dInner) / (2 * nGroups);
  const headDim = dInner / nHeads;
  const sizes: Mamba2Sizes = {
    dModel: widthOf(table, config),
    dInner,
    dState,
    dConv: commonLength([config.dConv, ...lengths(table, 'mixer.conv1d.weight', 2)]),
    nHeads,
    headDim,
    nGroups,
    nLayers: table.nLayers,
  };
  if (divides(table, channels, sizes)) {
    const { dState: given, ...others } = config;
    expectSizes(table, sizes, others);
    if (given !== undefined && given !== dState) {
      table.note(
        `dState must be ${dState} as in the weights with nGroups ${nGroups}, got ${given}`,
      );
    }
  }
  return { ...sizes, channels };
}

/** Numbers of heads that the shapes suggest; D may count channels instead. */
function headCounts(table: TensorTable): number[] {
  const counts = [...lengths(table, 'mixer.A_log', 0), ...lengths(table, 'mixer.dt_bias', 0)];
  return [...counts, ...lengths(table, 'mixer.D', 0).filter((length) => counts.includes(length))];
}

/** Whether heads and groups divide the channels; notes what does not. */
function divides(table: TensorTable, channels: number, sizes: Mamba2Sizes): boolean {
  const { dInner, nHeads, nGroups } = sizes;
  const shared = channels - dInner;
  const areHeads = !(dInner % nHeads > 0);
  const areGroups = !(shared <= 0 || shared % (2 * nGroups) > 0 || nHeads % nGroups > 0);
  if (!areHeads) {
    table.note(`the number of heads must divide dInner ${dInner}, got ${nHeads} heads`);
  }
  if (!areGroups) {
    table.note(
      `nGroups must divide the ${nHeads} heads, and twice nGroups the ${shared} channels of B and C ` +
        `(conv1d has ${channels}, of which ${dInner} are x), got nGroups ${nGroups}; pass the ` +
        'ngroups or n_groups of the training code',
    );
  }
  return areHeads && areGroups;
}

/** The skip of each channel `[D]`, stored for each head or for each channel. */
function readSkip(table: TensorTable, name: string, nHeads: number, dInner: number): Float32Array {
  if (table.shape(name)?.[0] === dInner) return table.take(name, [dInner]);
  const heads = table.take(name, [nHeads]);
  const channels = new Float32Array(heads.length === 0 ? 0 : dInner);
  for (let d = 0; d < channels.length; d++) channels[d] = heads[Math.floor((d * nHeads) / dInner)];
  return channels;
}
