/** What the graphs of both families are made of. Sequences are `[B, T, ...]`; T is 1 in a step. */

import { GraphBuilder } from '../onnx/graph-builder.js';
import type { MambaMlp } from './layer-weights.js';
import type { MambaLayer, MambaWeights } from './mamba-weights.js';
import type { Mamba2Layer, Mamba2Weights } from './mamba2-weights.js';

/** The domain of LinearAttention and CausalConvWithState, which ONNX itself has from opset 27 on. */
export const CONTRIB = 'com.microsoft';

/**
 * The decay that stands for a reset where a state cannot be overwritten: its exponential is 0 in
 * float32. Not -Infinity, for shaders may assume that there is none.
 */
const FORGET = -1e4;

/** Where a slice ends that goes to the end. */
const END = Number.MAX_SAFE_INTEGER;

/**
 * Where a graph's sequences start anew: float32, 1 there and 0 elsewhere. Comparing late keeps all of it
 * on a GPU, which lays out no arrays of bools.
 */
export interface GraphReset {
  /** `[B, T]`. */
  readonly at: string;
  /** `[B, 1]`: the first step's. */
  readonly first: string;
}

/** The graphs around a stack's kernels. */
export interface Projections {
  /** Into each layer. */
  readonly enter: readonly Uint8Array[];
  /** The last layer's way out, and the final norm. */
  readonly leave: Uint8Array;
}

export function newGraph(name: string): GraphBuilder {
  return new GraphBuilder({ name, opsets: { '': 23, [CONTRIB]: 1 } });
}

export function vector(g: GraphBuilder, values: Float32Array, shape?: readonly number[]): string {
  return g.constant(values, shape ?? [values.length]);
}

export function scalar(g: GraphBuilder, value: number): string {
  return g.constant(Float32Array.of(value), []);
}

/** An int64 vector, as shapes, axes and indices are given. */
export function integers(g: GraphBuilder, ...values: number[]): string {
  return g.constant(BigInt64Array.from(values, BigInt), [values.length]);
}

/** To a shape of which 0 keeps an axis and -1 fits. */
export function reshape(g: GraphBuilder, x: string, ...shape: number[]): string {
  return g.op('Reshape', [x, integers(g, ...shape)]);
}

export function slice(g: GraphBuilder, x: string, axis: number, from: number, to: number): string {
  return g.op('Slice', [x, integers(g, from), integers(g, to), integers(g, axis)]);
}

export function split(g: GraphBuilder, x: string, lengths: readonly number[]): string[] {
  return g.ops('Split', [x, integers(g, ...lengths)], lengths.length, { axis: { int: -1 } });
}

/** `x weight^T + bias`, the weight `[out, in]` as a checkpoint has it. */
export function linear(
  g: GraphBuilder,
  x: string,
  weight: Float32Array,
  width: number,
  bias: Float32Array | undefined,
): string {
  // The runtime turns a constant once, when it loads the graph.
  const transposed = g.op('Transpose', [vector(g, weight, [weight.length / width, width])]);
  const product = g.op('MatMul', [x, transposed]);
  return bias === undefined ? product : g.op('Add', [product, vector(g, bias)]);
}

export function rmsNorm(g: GraphBuilder, x: string, weight: Float32Array, eps: number): string {
  return g.op('RMSNormalization', [x, vector(g, weight)], {
    axis: { int: -1 },
    epsilon: { float: eps },
  });
}

export function silu(g: GraphBuilder, x: string): string {
  return g.op('Mul', [x, g.op('Sigmoid', [x])]);
}

/** The gated MLP with its norm and residual, where a layer has one. */
function mlp(
  g: GraphBuilder,
  x: string,
  weights: MambaMlp | undefined,
  width: number,
  eps: number,
): string {
  if (weights === undefined) return x;
  const { norm, fc1, fc1Bias, fc2, fc2Bias, hidden } = weights;
  const both = linear(g, rmsNorm(g, x, norm, eps), fc1, width, fc1Bias);
  const [value, gate] = split(g, both, [hidden, hidden]);
  const out = linear(g, g.op('Mul', [value, silu(g, gate)]), fc2, hidden, fc2Bias);
  return g.op('Add', [x, out]);
}

/** The stream after a layer: its output projection added, and its MLP's. */
export function residual(
  g: GraphBuilder,
  { sizes, normEps }: MambaWeights | Mamba2Weights,
  layer: MambaLayer | Mamba2Layer,
  h: string,
  mixed: string,
): string {
  const out = linear(g, mixed, layer.outProj, sizes.dInner, layer.outProjBias);
  return mlp(g, g.op('Add', [h, out]), layer.mlp, sizes.dModel, normEps);
}

/** The projection into a layer. */
export function enter(
  g: GraphBuilder,
  { sizes, normEps }: MambaWeights | Mamba2Weights,
  layer: MambaLayer | Mamba2Layer,
  h: string,
): string {
  const normed = rmsNorm(g, h, layer.norm, normEps);
  return linear(g, normed, layer.inProj, sizes.dModel, layer.inProjBias);
}

/** The stack's output `y`, of a shape. */
export function finish(
  g: GraphBuilder,
  { finalNorm, normEps }: MambaWeights | Mamba2Weights,
  h: string,
  shape: readonly (number | string)[],
): void {
  give(g, finalNorm === undefined ? h : rmsNorm(g, h, finalNorm, normEps), 'y', shape);
}

/** Makes a value an output of the graph. */
export function give(
  g: GraphBuilder,
  value: string,
  name: string,
  shape: readonly (number | string)[],
): void {
  g.op('Identity', [value], {}, { output: name });
  g.output(name, shape);
}

/** The reset input of a graph, `[B, T]`. */
export function resetInput(g: GraphBuilder): GraphReset {
  const at = g.input('reset', ['B', 'T']);
  return { at, first: slice(g, at, 1, 0, 1) };
}

/** Writes a number over x where resets are: never multiplied, so whatever x held is gone. */
function overwrite(g: GraphBuilder, resets: string, value: number, x: string): string {
  return g.op('Where', [g.op('Greater', [resets, scalar(g, 0.5)]), scalar(g, value), x]);
}

/** A state whose rows are zeros where the first step resets them: overwritten, never multiplied. */
export function freshState(
  g: GraphBuilder,
  state: string,
  rank: number,
  reset: GraphReset | undefined,
): string {
  if (reset === undefined) return state;
  const rows = reshape(g, reset.first, -1, ...new Array<number>(rank - 1).fill(1));
  return overwrite(g, rows, 0, state);
}

/** Log decays `[B, T, ...]` that forget where a step resets. */
export function forgetfulDecay(
  g: GraphBuilder,
  decay: string,
  reset: GraphReset | undefined,
): string {
  if (reset === undefined) return decay;
  return overwrite(g, g.op('Unsqueeze', [reset.at, integers(g, -1)]), FORGET, decay);
}

/**
 * The causal convolution and silu of `x [B, T, C]`.
 *
 * @param window - the inputs before, `[B, K - 1, C]`
 * @returns the outputs, and the name of the new window, which is `next`
 */
export function convolution(
  g: GraphBuilder,
  x: string,
  window: string,
  next: string,
  { convWeight, convBias }: MambaLayer | Mamba2Layer,
  taps: number,
  reset: GraphReset | undefined,
): string {
  const channels = convWeight.length / taps;
  if (reset !== undefined) {
    return maskedConvolution(g, x, window, next, { convWeight, convBias }, taps, reset);
  }
  const turn = { perm: { ints: [0, 2, 1] } };
  const bias = convBias === undefined ? '' : vector(g, convBias);
  const [y, present] = g.ops(
    'CausalConvWithState',
    [
      g.op('Transpose', [x], turn),
      vector(g, convWeight, [channels, 1, taps]),
      bias,
      g.op('Transpose', [window], turn),
    ],
    2,
    { activation: { string: 'silu' } },
    { domain: CONTRIB },
  );
  g.op('Transpose', [present], turn, { output: next });
  return g.op('Transpose', [y], turn);
}

/** The operator cannot stop inside a sequence, so here every tap is masked by the resets it crosses. */
function maskedConvolution(
  g: GraphBuilder,
  x: string,
  window: string,
  next: string,
  { convWeight, convBias }: Pick<MambaLayer, 'convWeight' | 'convBias'>,
  taps: number,
  reset: GraphReset,
): string {
  const channels = convWeight.length / taps;
  const before = taps - 1;
  const all = g.op('Concat', [freshState(g, window, 3, reset), x], { axis: { int: 1 } });
  // The resets of each step and of the `before` steps ahead of the first, of which there are none.
  const none = g.op('Sub', [reset.first, reset.first]);
  const resets = g.op('Concat', [...new Array<string>(before).fill(none), reset.at], {
    axis: { int: 1 },
  });
  // Both are `before` steps longer than x; the ends are counted from behind, as no length is known.
  const stepsFrom = (y: string, from: number): string =>
    slice(g, y, 1, from, from === before ? END : from - before);
  const windowRows: string[] = [];
  let crossed: string | undefined;
  let sum: string | undefined;
  for (let tap = before; tap >= 0; tap--) {
    // A tap sees the input `before - tap` steps back, unless one of the steps since was reset.
    let input = stepsFrom(all, tap);
    if (tap < before) {
      const since = stepsFrom(resets, tap + 1);
      crossed = crossed === undefined ? since : g.op('Max', [crossed, since]);
      input = overwrite(g, g.op('Unsqueeze', [crossed, integers(g, -1)]), 0, input);
    }
    if (tap > 0) windowRows.unshift(slice(g, input, 1, -1, END));
    const weight = Float32Array.from({ length: channels }, (_, c) => convWeight[c * taps + tap]);
    const product = g.op('Mul', [input, vector(g, weight)]);
    sum = sum === undefined ? product : g.op('Add', [sum, product]);
  }
  // What the last step's taps see, but for the oldest, is what the next step's will have behind them.
  if (windowRows.length > 0) g.op('Concat', windowRows, { axis: { int: 1 } }, { output: next });
  else g.op('Identity', [window], {}, { output: next });
  const out = sum ?? x;
  return silu(g, convBias === undefined ? out : g.op('Add', [out, vector(g, convBias)]));
}
