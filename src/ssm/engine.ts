import type { Device, DeviceFailure } from '../runtime/network.js';
import type { KernelMemoryOptions } from './kernel-memory.js';
import type { SsmState, StateHome } from './state.js';

/**
 * How a CPU computes a stack: `graph`, one ONNX graph; `kernels`, projections in ONNX Runtime around
 * the WASM kernels; `auto`, whichever was measured to be faster for the batch and length.
 */
export type SsmForm = 'auto' | 'graph' | 'kernels';

/** Where and how a stack runs. */
export interface StackOptions {
  /** Devices in order of preference; the first that loads the stack is taken. Default `cpu`. */
  readonly devices?: Device | readonly Device[];
  /** Further session options of ONNX Runtime, such as `intraOpNumThreads` (1 by default). */
  readonly session?: Readonly<Record<string, unknown>>;
  /**
   * How a CPU computes. Default `auto`. The forms agree within rounding, so name one where the same
   * bits must come however a batch is split: `kernels` gives them.
   */
  readonly form?: SsmForm;
  /**
   * The memory the kernels work in, where states live too while there is room. Default 512 MiB, or
   * what the engine gives of it, and the fastest variant; the system gives pages as they are used.
   */
  readonly memory?: KernelMemoryOptions;
  /** Tokens, rows times steps, that the kernels take through the stack together; default 256. */
  readonly tile?: number;
}

/** The names of {@link StackOptions}. */
export const STACK_OPTIONS: readonly string[] = ['devices', 'session', 'form', 'memory', 'tile'];

/** What runs a stack. */
export interface Engine {
  readonly dModel: number;
  readonly nLayers: number;
  readonly device: Device;
  readonly home: StateHome;
  /**
   * Runs a batch.
   *
   * @param x - `[batch, steps, M]`, row-major, neither empty
   * @param state - where to start from; stays as it is
   * @param reset - a byte a token, row by row; undefined when no step is reset
   */
  run(
    x: Float32Array,
    batch: number,
    steps: number,
    state: SsmState,
    reset: Uint8Array | undefined,
  ): Promise<{ y: Float32Array; state: SsmState }>;
  dispose(): Promise<void>;
}

/** An engine, and the devices preferred to its own that failed. */
export interface LoadedEngine {
  readonly engine: Engine;
  readonly failures: readonly DeviceFailure[];
}

/** Resets of the first step, a byte a row; undefined when there are none. */
export function firstResets(
  reset: Uint8Array | undefined,
  batch: number,
  steps: number,
): Uint8Array | undefined {
  if (reset === undefined) return undefined;
  const first = Uint8Array.from({ length: batch }, (_, row) => reset[row * steps]);
  return first.includes(1) ? first : undefined;
}

/** Copies of a state's arrays with some rows zeroed: overwritten, whatever they held. */
export function withoutRows(
  arrays: readonly Float32Array[],
  batch: number,
  rows: Uint8Array,
): Float32Array[] {
  return arrays.map((from) => {
    const to = from.slice();
    const width = to.length / batch;
    for (let row = 0; row < batch; row++) {
      if (rows[row] === 1) to.fill(0, row * width, (row + 1) * width);
    }
    return to;
  });
}
