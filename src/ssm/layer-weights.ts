/** What the weights of both families have in common. */

import type { StackConfig } from './config.js';
import { commonLength, FINAL_NORM, type TensorTable } from './tensor-table.js';

/** `x + fc2(a * silu(b))`, where `[a, b] = fc1(norm(x))`: the MLP that may follow a mixer. */
export interface MambaMlp {
  /** `[M]`. */
  norm: Float32Array;
  /** `[2h, M]`: rows of a, then of the gate b. */
  fc1: Float32Array;
  /** `[2h]`. */
  fc1Bias?: Float32Array;
  /** `[M, h]`. */
  fc2: Float32Array;
  /** `[M]`. */
  fc2Bias?: Float32Array;
  /** h. */
  hidden: number;
}

/** `-exp(A_log)`, the decay rates of both families. */
export function negativeExp(logarithm: number): number {
  return -Math.exp(logarithm);
}

/** The lengths of one axis of a tensor in all layers that have it. */
export function lengths(table: TensorTable, name: string, axis: number): number[] {
  return table.layerShapes(name).flatMap((shape) => shape[axis] ?? []);
}

/** The width of the residual stream, of either family. */
export function widthOf(table: TensorTable, { dModel }: StackConfig): number {
  return commonLength([
    dModel,
    ...lengths(table, 'norm.weight', 0),
    ...lengths(table, 'mixer.in_proj.weight', 1),
    ...lengths(table, 'mixer.out_proj.weight', 0),
    table.shape(FINAL_NORM)?.[0],
  ]);
}

/** Whether the projections have biases: one argument gives both their biases or none. */
export function hasProjectionBias(table: TensorTable): boolean {
  return table.inAnyLayer('mixer.in_proj.bias') || table.inAnyLayer('mixer.out_proj.bias');
}

/** Reads the MLP of each layer: all layers have one, or none has. */
export function mlpOf(
  table: TensorTable,
  dModel: number,
  { dIntermediate }: StackConfig,
): (layer: number) => MambaMlp | undefined {
  const names = ['norm2.weight', 'mlp.fc1.weight', 'mlp.fc2.weight'];
  const hasMlp =
    dIntermediate === undefined ? names.some((n) => table.inAnyLayer(n)) : dIntermediate > 0;
  if (!hasMlp) return () => undefined;
  const hidden = commonLength([
    dIntermediate,
    ...lengths(table, 'mlp.fc2.weight', 1),
    ...lengths(table, 'mlp.fc1.weight', 0).map((rows) => rows / 2),
  ]);
  expectSize(table, 'dIntermediate', hidden, dIntermediate);
  const hasBias = table.inAnyLayer('mlp.fc1.bias') || table.inAnyLayer('mlp.fc2.bias');
  return (layer) => {
    const mlp = `layers.${layer}.mlp`;
    return {
      norm: table.take(`layers.${layer}.norm2.weight`, [dModel]),
      fc1: table.take(`${mlp}.fc1.weight`, [2 * hidden, dModel]),
      fc1Bias: hasBias ? table.take(`${mlp}.fc1.bias`, [2 * hidden]) : undefined,
      fc2: table.take(`${mlp}.fc2.weight`, [dModel, hidden]),
      fc2Bias: hasBias ? table.take(`${mlp}.fc2.bias`, [dModel]) : undefined,
      hidden,
    };
  };
}

/** The norm after the last layer, unless the stack is to end without one. */
export function readFinalNorm(
  table: TensorTable,
  dModel: number,
  { finalNorm = true }: StackConfig,
): Float32Array | undefined {
  if (finalNorm) return table.take(FINAL_NORM, [dModel]);
  table.leave(FINAL_NORM);
  return undefined;
}

/** Notes every size that the configuration gives otherwise than the weights. */
export function expectSizes(table: TensorTable, sizes: object, config: object): void {
  const given = config as Readonly<Record<string, number | undefined>>;
  for (const [name, size] of Object.entries(sizes)) expectSize(table, name, size, given[name]);
}

function expectSize(
  table: TensorTable,
  name: string,
  size: number,
  given: number | undefined,
): void {
  if (given !== undefined && given !== size && !Number.isNaN(size)) {
    table.note(`${name} must be ${size} as in the weights, got ${given}`);
  }
}
