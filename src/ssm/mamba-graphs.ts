/** The graphs of Mamba-1 stacks. */

import type { GraphBuilder } from '../onnx/graph-builder.js';
import {
  CONTRIB,
  convolution,
  enter,
  finish,
  forgetfulDecay,
  freshState,
  type GraphReset,
  give,
  integers,
  linear,
  newGraph,
  type Projections,
  resetInput,
  reshape,
  residual,
  rmsNorm,
  silu,
  split,
  vector,
} from './graph-parts.js';
import type { MambaLayer, MambaWeights } from './mamba-weights.js';
import { nextName, partNames } from './state-layout.js';

/**
 * The whole stack, one step: `x [B, 1, M]`, conv `[B, K - 1, D]`, ssm `[B, N, D]`.
 *
 * Plain operators: on a CPU they are faster than LinearAttention, whose exponentials are scalar.
 */
export function mambaStepGraph(weights: MambaWeights): Uint8Array {
  const { dInner: D, dState: N } = weights.sizes;
  return wholeGraph(
    weights,
    'mamba-step',
    1,
    [N, D],
    undefined,
    (g, layer, { dt, x, B, C, state, next }) => {
      const rates = vector(g, transposed(layer.A, D, N), [N, D]);
      const decay = g.op('Exp', [g.op('Mul', [dt, rates])]);
      const gain = g.op('Mul', [g.op('Mul', [dt, x]), reshape(g, B, 0, N, 1)]);
      g.op('Add', [g.op('Mul', [decay, state]), gain], {}, { output: next });
      return g.op('MatMul', [C, next]);
    },
  );
}

/**
 * The whole stack, any number of steps, by LinearAttention, which is at home on a GPU: `x [B, T, M]`,
 * conv `[B, K - 1, D]`, ssm `[B, D, N, 1]`.
 *
 * @param withReset - whether it takes `reset [B, T]`
 */
export function mambaSequenceGraph(weights: MambaWeights, withReset: boolean): Uint8Array {
  const { dInner: D, dState: N } = weights.sizes;
  const name = withReset ? 'mamba-sequence-reset' : 'mamba-sequence';
  const newReset = withReset ? resetInput : undefined;
  return wholeGraph(
    weights,
    name,
    'T',
    [D, N, 1],
    newReset,
    (g, layer, { dt, x, B, C, state, next, reset }) => {
      const perState = g.op('Mul', [
        g.op('Unsqueeze', [dt, integers(g, -1)]),
        vector(g, layer.A, [D, N]),
      ]);
      const decay = forgetfulDecay(g, reshape(g, perState, 0, 0, D * N), reset);
      const [out] = g.ops(
        'LinearAttention',
        [C, B, g.op('Mul', [dt, x]), freshState(g, state, 4, reset), decay],
        2,
        {
          q_num_heads: { int: 1 },
          kv_num_heads: { int: D },
          update_rule: { string: 'gated' },
          scale: { float: 1 },
        },
        { domain: CONTRIB, outputs: [`${next}.out`, next] },
      );
      return out;
    },
  );
}

/** What the recurrence of a layer is given, and the name its new state must have. */
interface Recurrence {
  readonly dt: string;
  readonly x: string;
  readonly B: string;
  readonly C: string;
  readonly state: string;
  readonly next: string;
  readonly reset: GraphReset | undefined;
}

function wholeGraph(
  weights: MambaWeights,
  name: string,
  steps: number | string,
  stateDims: readonly number[],
  newReset: ((g: GraphBuilder) => GraphReset) | undefined,
  recur: (g: GraphBuilder, layer: MambaLayer, inputs: Recurrence) => string,
): Uint8Array {
  const { sizes, layers } = weights;
  const { dModel: M, dInner: D, dConv: K } = sizes;
  const g = newGraph(name);
  let h = g.input('x', ['B', steps, M]);
  const reset = newReset?.(g);
  layers.forEach((layer, i) => {
    const [conv, ssm] = partNames(i);
    const window = g.input(conv, ['B', K - 1, D]);
    const state = g.input(ssm, ['B', ...stateDims]);
    const projected = enter(g, weights, layer, h);
    const [before, z] = split(g, projected, [D, D]);
    const x = convolution(g, before, window, nextName(conv), layer, K, reset);
    const { dt: raw, B, C } = selection(g, weights, layer, x);
    const dt = g.op('Softplus', [g.op('Add', [raw, vector(g, layer.dtBias)])]);
    const scanned = recur(g, layer, { dt, x, B, C, state, next: nextName(ssm), reset });
    const y = g.op('Add', [scanned, g.op('Mul', [x, vector(g, layer.D)])]);
    h = residual(g, weights, layer, h, g.op('Mul', [y, silu(g, z)]));
    g.output(nextName(conv), ['B', K - 1, D]);
    g.output(nextName(ssm), ['B', ...stateDims]);
  });
  finish(g, weights, h, ['B', steps, M]);
  return g.build();
}

/**
 * The projections around the kernels, on tokens `[R, ...]`: `enter[i]` takes what layer i - 1 scanned
 * and the residual stream to layer i's projection.
 */
export function mambaProjections(weights: MambaWeights): Projections {
  const { sizes, layers } = weights;
  const { dModel: M, dInner: D } = sizes;
  const entering = layers.map((layer, i) => {
    const g = newGraph(`mamba-enter-${i}`);
    let h = g.input('h', ['R', M]);
    if (i > 0) {
      h = residual(g, weights, layers[i - 1], h, g.input('scanned', ['R', D]));
      give(g, h, 'residual', ['R', M]);
    }
    give(g, enter(g, weights, layer, h), 'projected', ['R', 2 * D]);
    return g.build();
  });
  const g = newGraph('mamba-leave');
  const last = layers[layers.length - 1];
  const h = residual(g, weights, last, g.input('h', ['R', M]), g.input('scanned', ['R', D]));
  finish(g, weights, h, ['R', M]);
  return { enter: entering, leave: g.build() };
}

/** Between a layer's convolution and its scan: from its tokens `[R, D]` to dt `[R, D]`, and B and C `[R, 2N]`. */
export function mambaSelections(weights: MambaWeights): Uint8Array[] {
  const { dInner: D, dState: N } = weights.sizes;
  return weights.layers.map((layer, i) => {
    const g = newGraph(`mamba-select-${i}`);
    const { dt, B, C } = selection(g, weights, layer, g.input('x', ['R', D]));
    give(g, dt, 'dt', ['R', D]);
    give(g, g.op('Concat', [B, C], { axis: { int: -1 } }), 'BC', ['R', 2 * N]);
    return g.build();
  });
}

/** dt before its bias, B and C, which depend on the input: that makes the scan selective. */
function selection(
  g: GraphBuilder,
  { sizes, mixerNormEps }: MambaWeights,
  layer: MambaLayer,
  x: string,
): { dt: string; B: string; C: string } {
  const { dInner: D, dState: N, dtRank: R } = sizes;
  const { dtNorm, bNorm, cNorm } = layer;
  const [low, b, c] = split(g, linear(g, x, layer.xProj, D, undefined), [R, N, N]);
  const norm = (value: string, weight: Float32Array | undefined): string =>
    weight === undefined ? value : rmsNorm(g, value, weight, mixerNormEps);
  const dt = linear(g, norm(low, dtNorm), layer.dtProj, R, undefined);
  return { dt, B: norm(b, bNorm), C: norm(c, cNorm) };
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]);
}
