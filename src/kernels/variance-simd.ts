/** The variances by their WASM kernel, `assembly/variance.ts`. */

import { wasm } from './generated/variance-wasm.js';
import { instantiate } from './instantiate.js';
import type { VarianceForm, VarianceKernel } from './variance-scalar.js';
import * as scalar from './variance-scalar.js';

interface KernelExports extends WebAssembly.Exports {
  memory: WebAssembly.Memory;
  capacity: WebAssembly.Global<'i32'>;
  widthCapacity: WebAssembly.Global<'i32'>;
  /** Addresses in `memory`. */
  raw: WebAssembly.Global<'i32'>;
  mean: WebAssembly.Global<'i32'>;
  noise: WebAssembly.Global<'i32'>;
  floor: WebAssembly.Global<'i32'>;
  inverseCeiling: WebAssembly.Global<'i32'>;
  factor: WebAssembly.Global<'i32'>;
  variances(count: number, width: number, squared: number): void;
  draw(count: number, width: number, squared: number): void;
}

/** Starts the kernel; undefined where WebAssembly or its SIMD is not to be had. */
export function startVariances(): VarianceKernel | undefined {
  const kernel = instantiate<KernelExports>(wasm);
  if (kernel === undefined) return undefined;
  // The memory never grows, so these views last.
  const view = (address: WebAssembly.Global<'i32'>, length: number) =>
    new Float32Array(kernel.memory.buffer, address.value, length);
  const capacity = kernel.capacity.value;
  const widest = kernel.widthCapacity.value;
  const raws = view(kernel.raw, capacity);
  const means = view(kernel.mean, capacity);
  const noises = view(kernel.noise, capacity);
  const floors = view(kernel.floor, 4 * widest);
  const inverseCeilings = view(kernel.inverseCeiling, 4 * widest);
  const factors = view(kernel.factor, 4 * widest);
  let last: VarianceForm | undefined;

  /** Puts the parameters of a form in their place, four rows side by side. */
  function take(form: VarianceForm): void {
    if (form === last) return;
    const width = form.floor.length;
    for (let row = 0; row < 4; row++) {
      floors.set(form.floor, row * width);
      inverseCeilings.set(form.inverseCeiling, row * width);
      factors.set(form.factor, row * width);
    }
    last = form;
  }

  return {
    variances(form, raw, out) {
      const width = form.floor.length;
      if (width > widest) return scalar.variances(form, raw, out);
      take(form);
      const piece = capacity - (capacity % width);
      for (let from = 0; from < raw.length; from += piece) {
        const count = Math.min(piece, raw.length - from);
        raws.set(raw.subarray(from, from + count));
        kernel.variances(count, width, form.squared ? 1 : 0);
        out.set(raws.subarray(0, count), from);
      }
    },
    draw(form, raw, noise, out) {
      const width = form.floor.length;
      if (width > widest) return scalar.draw(form, raw, noise, out);
      take(form);
      const piece = capacity - (capacity % width);
      for (let from = 0; from < raw.length; from += piece) {
        const count = Math.min(piece, raw.length - from);
        raws.set(raw.subarray(from, from + count));
        means.set(out.subarray(from, from + count));
        noises.set(noise.subarray(from, from + count));
        kernel.draw(count, width, form.squared ? 1 : 0);
        out.set(means.subarray(0, count), from);
      }
    },
  };
}
