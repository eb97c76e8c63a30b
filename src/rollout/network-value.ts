import { type RowFunctionOptions, rowFunction } from '../dynamics/row-function.js';
import { packed, ShapeError } from '../nd.js';
import type { Network } from '../runtime/network.js';
import type { ValueFunction } from './value.js';

/** How the network is read, as `rowFunction` reads any: its output, a normaliser, padding, chunks. */
export type NetworkValueOptions = Omit<RowFunctionOptions<'obs'>, 'parts' | 'rowAxis'>;

/**
 * What states are worth by a network from observations `[B, S]` to values `[B]` or `[B, 1]`.
 *
 * @param network - stays the caller's to dispose
 * @returns a function for `value` of `imagine` and `modelObjective`; it throws `ShapeError` when the
 *   network gives more than one value a row
 * @throws TypeError or RangeError when the network or an option does not fit
 *
 * @example
 * ```ts
 * const critic = await Network.load(ort, 'models/hopper-value');
 * const dream = await imagine(model, policy, { start, horizon: 15, seed: 0, value: networkValue(critic) }).collect();
 * ```
 */
export function networkValue(network: Network, options: NetworkValueOptions = {}): ValueFunction {
  const rows = rowFunction(network, { ...options, parts: ['obs'] });
  return async (obs) => {
    const values = await rows({ obs });
    if (values.shape[1] !== 1) {
      throw new ShapeError(
        `networkValue: the network must give one value a row, got ${values.shape[1]}`,
      );
    }
    return packed(values);
  };
}
