/** The state-space kernels by their WASM modules, `assembly/ssm.ts` compiled twice. */

import { wasm as relaxedWasm } from './generated/ssm-relaxed-wasm.js';
import { wasm } from './generated/ssm-wasm.js';
import { compile } from './instantiate.js';
import type { SsmKernels, SsmMachine } from './ssm-kernels.js';

const PAGE = 1 << 16;

interface KernelExports extends WebAssembly.Exports {
  heapBase: WebAssembly.Global<'i32'>;
}

/** Undefined stands for a module that this engine does not take. */
const modules = new Map<string, WebAssembly.Module | undefined>();

/**
 * WASM kernels over a new memory.
 *
 * @param bytes - of the memory, rounded up to whole pages
 * @returns undefined where the variant or WebAssembly itself is not to be had
 * @throws RangeError where the engine does not give that much memory
 */
export function startSimd(variant: 'relaxed' | 'simd', bytes: number): SsmMachine | undefined {
  if (!modules.has(variant))
    modules.set(variant, compile(variant === 'relaxed' ? relaxedWasm : wasm));
  const module = modules.get(variant);
  if (module === undefined) return undefined;
  const pages = Math.ceil(bytes / PAGE);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  const kernels = instance.exports as KernelExports & SsmKernels;
  return { variant, buffer: memory.buffer, heapBase: kernels.heapBase.value, kernels };
}
