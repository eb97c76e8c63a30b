/** The row noise by its WASM kernel, `assembly/row-noise.ts`. */

import { wasm } from './generated/row-noise-wasm.js';
import { instantiate } from './instantiate.js';
import type { RowNames, RowNoiseKernel } from './row-noise-scalar.js';

/** The distributions as `fill` numbers them. */
const UNIFORM = 0;
const NORMAL = 1;
const GUMBEL = 2;
const TRUNCATED_NORMAL = 3;

interface KernelExports extends WebAssembly.Exports {
  memory: WebAssembly.Memory;
  /** Addresses in `memory`, and how many ids and numbers there is room for. */
  ids: WebAssembly.Global<'i32'>;
  out: WebAssembly.Global<'i32'>;
  rowCapacity: WebAssembly.Global<'i32'>;
  capacity: WebAssembly.Global<'i32'>;
  /** The address of the bounds and shares of a truncated distribution, six numbers. */
  truncation: WebAssembly.Global<'i32'>;
  fill(
    distribution: number,
    rows: number,
    columns: number,
    first: number,
    step: number,
    stream: number,
    k0: number,
    k1: number,
  ): void;
}

/** Starts the kernel; undefined where WebAssembly or its SIMD is not to be had. */
export function startRowNoise(): RowNoiseKernel | undefined {
  const kernel = instantiate<KernelExports>(wasm);
  if (kernel === undefined) return undefined;
  const { memory, fill } = kernel;
  // The memory never grows, so these views last.
  const ids = new Uint32Array(memory.buffer, kernel.ids.value, kernel.rowCapacity.value);
  const results = new Float32Array(memory.buffer, kernel.out.value, kernel.capacity.value);
  const shares = new Float32Array(memory.buffer, kernel.truncation.value, 6);

  function fillRows(
    distribution: number,
    out: Float32Array,
    width: number,
    { trajectory, step, stream, draw, k0, k1 }: RowNames,
  ): void {
    if (width === 0) return;
    // Pieces that fit: many rows, or columns of one row.
    const columnsAtOnce = Math.min(width, results.length);
    const rowsAtOnce = Math.min(ids.length, Math.floor(results.length / columnsAtOnce));
    for (let row = 0; row < trajectory.length; row += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, trajectory.length - row);
      ids.set(trajectory.subarray(row, row + rows));
      for (let column = 0; column < width; column += columnsAtOnce) {
        const columns = Math.min(columnsAtOnce, width - column);
        fill(distribution, rows, columns, (draw << 16) | (column >>> 2), step, stream, k0, k1);
        out.set(results.subarray(0, rows * columns), row * width + column);
      }
    }
  }

  return {
    uniformRows: (out, width, names) => fillRows(UNIFORM, out, width, names),
    normalRows: (out, width, names) => fillRows(NORMAL, out, width, names),
    gumbelRows: (out, width, names) => fillRows(GUMBEL, out, width, names),
    truncatedNormalRows(out, width, names, truncation) {
      const { low, high, below, above, start, mass } = truncation;
      shares.set([low, high, below, above, start, mass]);
      fillRows(TRUNCATED_NORMAL, out, width, names);
    },
  };
}
