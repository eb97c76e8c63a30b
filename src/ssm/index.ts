/**
 * Selective state spaces: the scan as a function, and Mamba and Mamba-2 as stacks.
 *
 * @module
 */

export type { Reset, Vector } from './arguments.js';
export { type CausalConv1dOptions, causalConv1d } from './causal-conv1d.js';
export { KernelMemory, type KernelMemoryOptions, type KernelVariant } from './kernel-memory.js';
export { type ScanResult, type SelectiveScanOptions, selectiveScan } from './selective-scan.js';
export { type SsdOptions, ssd } from './ssd.js';
