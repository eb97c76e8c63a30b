/**
 * How far a model can be trusted: error of its dreams by horizon, and whether its uncertainty ranks
 * predictions as their errors do.
 *
 * @module
 */

export { type OpenLoopError, type OpenLoopOptions, openLoopError } from './open-loop.js';
export { type NumberSeries, type SpearmanOptions, spearman } from './spearman.js';
