/** What a Mamba-2 layer does between its projections, as a graph and as plain loops. */

import { GraphBuilder } from 'umwelt/onnx';

/** Taps of the convolution. */
const K = 4;

/** Sizes of the layer: heads, channels a head, numbers of state a channel. */
export interface RecurrenceSizes {
  readonly H: number;
  readonly P: number;
  readonly N: number;
}

/** Inputs of one call, row-major. */
export interface RecurrenceInputs {
  /** `[B, T, H*P + 2*N]`: values, keys and queries before the convolution. */
  readonly x: Float32Array;
  /** `[B, T, H]`, the logarithm of the factor a head's state is kept by. */
  readonly decay: Float32Array;
  /** `[B, H*P + 2*N, K-1]`, the inputs before the first. */
  readonly window: Float32Array;
  /** `[B, H, N, P]` */
  readonly state: Float32Array;
}

/** Outputs of one call. */
export interface RecurrenceOutputs {
  /** `[B, T, H*P]` */
  readonly y: Float32Array;
  /** As the input of that name. */
  readonly window: Float32Array;
  /** As the input of that name. */
  readonly state: Float32Array;
}

/** Weights of the convolution, and the count of its channels. */
export interface Convolution {
  readonly channels: number;
  /** `[channels, 1, K]` */
  readonly weight: Float32Array;
  /** `[channels]` */
  readonly bias: Float32Array;
}

/** `count` numbers in `[-1, 1]` without a pattern that an error of layout could hide in. */
export function numbers(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(seed + 2.7 * i + 0.013 * i * i));
}

/** The convolution of a layer of these sizes. */
export function convolution({ H, P, N }: RecurrenceSizes): Convolution {
  const channels = H * P + 2 * N;
  return { channels, weight: numbers(channels * K, 3), bias: numbers(channels, 4) };
}

/** Zeros of the window and state of a batch. */
export function emptyMemory(
  sizes: RecurrenceSizes,
  B: number,
): Pick<RecurrenceInputs, 'window' | 'state'> {
  const { H, P, N } = sizes;
  return {
    window: new Float32Array(B * convolution(sizes).channels * (K - 1)),
    state: new Float32Array(B * H * N * P),
  };
}

/** Shapes of all inputs. */
export function shapes(
  { H, P, N }: RecurrenceSizes,
  B: number,
  T: number,
): Record<keyof RecurrenceInputs, number[]> {
  const channels = H * P + 2 * N;
  return {
    x: [B, T, channels],
    decay: [B, T, H],
    window: [B, channels, K - 1],
    state: [B, H, N, P],
  };
}

/** The graph: `CausalConvWithState`, then `LinearAttention`. */
export function recurrenceModel(sizes: RecurrenceSizes): Uint8Array {
  const { H, P, N } = sizes;
  const { channels, weight, bias } = convolution(sizes);
  const contrib = { domain: 'com.microsoft' };
  const turn = { perm: { ints: [0, 2, 1] } };
  const g = new GraphBuilder({ opsets: { 'com.microsoft': 1 } });
  const x = g.input('x', ['B', 'T', channels]);
  const decay = g.input('decay', ['B', 'T', H]);
  const window = g.input('window', ['B', channels, K - 1]);
  const state = g.input('state', ['B', H, N, P]);
  const [mixed] = g.ops(
    'CausalConvWithState',
    [
      g.op('Transpose', [x], turn),
      g.constant(weight, [channels, 1, K]),
      g.constant(bias, [channels]),
      window,
    ],
    2,
    { activation: { string: 'silu' } },
    { ...contrib, outputs: ['mixed', 'nextWindow'] },
  );
  const split = g.constant(BigInt64Array.of(BigInt(H * P), BigInt(N), BigInt(N)), [3]);
  const [value, key, query] = g.ops('Split', [g.op('Transpose', [mixed], turn), split], 3, {
    axis: { int: 2 },
  });
  g.ops(
    'LinearAttention',
    [query, key, value, state, decay],
    2,
    {
      q_num_heads: { int: 1 },
      kv_num_heads: { int: H },
      update_rule: { string: 'gated' },
      // Its default is 1 / sqrt(N).
      scale: { float: 1 },
    },
    { ...contrib, outputs: ['y', 'nextState'] },
  );
  g.output('y', ['B', 'T', H * P]);
  g.output('nextWindow', ['B', channels, K - 1]);
  g.output('nextState', ['B', H, N, P]);
  return g.build();
}

/** The same in plain loops and float64. */
export function recurrence(
  sizes: RecurrenceSizes,
  inputs: RecurrenceInputs,
  B: number,
): RecurrenceOutputs {
  const { H, P, N } = sizes;
  const { channels, weight, bias } = convolution(sizes);
  const T = inputs.decay.length / (B * H);
  const state = Float64Array.from(inputs.state);
  const y = new Float32Array(B * T * H * P);
  const window = new Float32Array(inputs.window.length);
  for (let b = 0; b < B; b++) {
    // The window and the sequence after it, as one: `[K - 1 + T, channels]`.
    const seen = Array.from({ length: K - 1 + T }, (_, t) =>
      Array.from({ length: channels }, (_, c) =>
        t < K - 1
          ? inputs.window[(b * channels + c) * (K - 1) + t]
          : inputs.x[(b * T + t - (K - 1)) * channels + c],
      ),
    );
    for (let t = 0; t < T; t++) {
      const mixed = bias.map((start, c) => {
        let sum = start;
        for (let k = 0; k < K; k++) sum += weight[c * K + k] * seen[t + k][c];
        return sum / (1 + Math.exp(-sum));
      });
      for (let h = 0; h < H; h++) {
        const kept = Math.exp(inputs.decay[(b * T + t) * H + h]);
        for (let p = 0; p < P; p++) {
          let out = 0;
          for (let n = 0; n < N; n++) {
            const at = ((b * H + h) * N + n) * P + p;
            state[at] = kept * state[at] + mixed[H * P + n] * mixed[h * P + p];
            out += mixed[H * P + N + n] * state[at];
          }
          y[((b * T + t) * H + h) * P + p] = out;
        }
      }
    }
    for (let c = 0; c < channels; c++) {
      for (let k = 0; k < K - 1; k++) window[(b * channels + c) * (K - 1) + k] = seen[T + k][c];
    }
  }
  return { y, window, state: Float32Array.from(state) };
}
