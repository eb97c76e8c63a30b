/**
 * Selective state spaces: the scan as a function, and Mamba and Mamba-2 as stacks. The guide is
 * `docs/ssm.md`.
 *
 * @module
 */

export type { Reset, Vector } from './arguments.js';
export { type CausalConv1dOptions, causalConv1d } from './causal-conv1d.js';
export type { Mamba2Config, MambaConfig, StackConfig } from './config.js';
export type { SsmForm, StackOptions } from './engine.js';
export type { ExportedNames, ExportedOptions, ExportedSource } from './exported-graph.js';
export { KernelMemory, type KernelMemoryOptions, type KernelVariant } from './kernel-memory.js';
export { MambaStack } from './mamba-stack.js';
export { Mamba2Stack } from './mamba2-stack.js';
export type { ScanOut, ScanResult } from './scan-result.js';
export { type SelectiveScanOptions, selectiveScan } from './selective-scan.js';
export { type SsdOptions, ssd } from './ssd.js';
export {
  SsmStack,
  type StackResult,
  type StackScanOptions,
  type StackStepOptions,
} from './stack.js';
export { SsmState } from './state.js';
export type { WeightsSource } from './weights-source.js';
