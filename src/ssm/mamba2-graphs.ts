/** The graphs of Mamba-2 stacks. */

import type { GraphBuilder } from '../onnx/graph-builder.js';
import {
  CONTRIB,
  convolution,
  enter,
  finish,
  forgetfulDecay,
  freshState,
  give,
  integers,
  newGraph,
  type Projections,
  resetInput,
  reshape,
  residual,
  rmsNorm,
  scalar,
  silu,
  split,
  vector,
} from './graph-parts.js';
import type { Mamba2Layer, Mamba2Weights } from './mamba2-weights.js';
import { nextName, partNames } from './state-layout.js';

/**
 * The whole stack, any number of steps: `x [B, T, M]`, conv `[B, K - 1, D + 2GN]`, ssm `[B, H, N, P]`.
 *
 * @param withReset - whether it takes `reset [B, T]`
 */
export function mamba2SequenceGraph(weights: Mamba2Weights, withReset: boolean): Uint8Array {
  const { sizes, layers, dtLimit } = weights;
  const { dModel: M, dInner: D, dState: N, dConv: K, nHeads: H, headDim: P, nGroups: G } = sizes;
  const channels = D + 2 * G * N;
  const g = newGraph(withReset ? 'mamba2-sequence-reset' : 'mamba2-sequence');
  let h = g.input('x', ['B', 'T', M]);
  const reset = withReset ? resetInput(g) : undefined;
  layers.forEach((layer, i) => {
    const [conv, ssm] = partNames(i);
    const window = g.input(conv, ['B', K - 1, channels]);
    const state = g.input(ssm, ['B', H, N, P]);
    const projected = enter(g, weights, layer, h);
    const [z, before, raw] = split(g, projected, [D, channels, H]);
    const after = convolution(g, before, window, nextName(conv), layer, K, reset);
    const [x, B, C] = split(g, after, [D, G * N, G * N]);
    const dt = stepSize(g, raw, layer.dtBias, dtLimit);
    const decay = forgetfulDecay(g, g.op('Mul', [dt, vector(g, layer.A)]), reset);
    const gain = g.op('Mul', [reshape(g, x, 0, 0, H, P), g.op('Unsqueeze', [dt, integers(g, -1)])]);
    const [scanned] = g.ops(
      'LinearAttention',
      [C, B, reshape(g, gain, 0, 0, D), freshState(g, state, 4, reset), decay],
      2,
      {
        q_num_heads: { int: G },
        kv_num_heads: { int: H },
        update_rule: { string: 'gated' },
        // 0, the default, would mean 1 / sqrt(N).
        scale: { float: 1 },
      },
      { domain: CONTRIB, outputs: [`${nextName(ssm)}.out`, nextName(ssm)] },
    );
    const y = g.op('Add', [scanned, g.op('Mul', [x, vector(g, layer.D)])]);
    const gate = silu(g, z);
    const mixed = weights.normBeforeGate
      ? g.op('Mul', [gateNorm(g, weights, layer, y, [0, 0]), gate])
      : gateNorm(g, weights, layer, g.op('Mul', [y, gate]), [0, 0]);
    h = residual(g, weights, layer, h, mixed);
    g.output(nextName(conv), ['B', K - 1, channels]);
    g.output(nextName(ssm), ['B', H, N, P]);
  });
  finish(g, weights, h, ['B', 'T', M]);
  return g.build();
}

/**
 * The projections around the kernels, on tokens `[R, ...]`: `enter[i]` takes what layer i - 1 scanned
 * and the residual stream to layer i's projection. What is scanned comes gated; only a norm before the
 * gate leaves the gate, its z, to the graph.
 */
export function mamba2Projections(weights: Mamba2Weights): Projections {
  const { sizes, layers } = weights;
  const { dModel: M, dInner: D, dState: N, nHeads: H, nGroups: G } = sizes;
  const mixed = (g: GraphBuilder, layer: Mamba2Layer): string => {
    const normed = gateNorm(g, weights, layer, g.input('scanned', ['R', D]), [0]);
    return weights.normBeforeGate ? g.op('Mul', [normed, silu(g, g.input('z', ['R', D]))]) : normed;
  };
  const entering = layers.map((layer, i) => {
    const g = newGraph(`mamba2-enter-${i}`);
    let h = g.input('h', ['R', M]);
    if (i > 0) {
      h = residual(g, weights, layers[i - 1], h, mixed(g, layers[i - 1]));
      give(g, h, 'residual', ['R', M]);
    }
    give(g, enter(g, weights, layer, h), 'projected', ['R', 2 * D + 2 * G * N + H]);
    return g.build();
  });
  const g = newGraph('mamba2-leave');
  const last = layers[layers.length - 1];
  finish(g, weights, residual(g, weights, last, g.input('h', ['R', M]), mixed(g, last)), ['R', M]);
  return { enter: entering, leave: g.build() };
}

function stepSize(
  g: GraphBuilder,
  raw: string,
  bias: Float32Array,
  [low, high]: readonly [number, number],
): string {
  const dt = g.op('Softplus', [g.op('Add', [raw, vector(g, bias)])]);
  // After a softplus, 0 bounds nothing.
  if (low <= 0 && high === Infinity) return dt;
  return g.op('Clip', [dt, scalar(g, low), high === Infinity ? '' : scalar(g, high)]);
}

/** The norm over each group's channels, `[..., D]` with the leading axes as Reshape names them. */
function gateNorm(
  g: GraphBuilder,
  { sizes, normEps }: Mamba2Weights,
  { gateNorm: weight }: Mamba2Layer,
  y: string,
  leading: readonly number[],
): string {
  const { dInner: D, nGroups: G } = sizes;
  if (weight === undefined) return y;
  if (G === 1) return rmsNorm(g, y, weight, normEps);
  const ones = new Float32Array(D / G).fill(1);
  const normed = rmsNorm(g, reshape(g, y, ...leading, G, D / G), ones, normEps);
  return g.op('Mul', [reshape(g, normed, ...leading, D), vector(g, weight)]);
}
