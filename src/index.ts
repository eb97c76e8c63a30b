/**
 * World-model primitives for reinforcement learning: the names most programs need. Each room has a
 * subpath with all of its own.
 *
 * @module umwelt
 */

export type {
  Prediction,
  RewardFunction,
  TerminationFunction,
  WorldModel,
} from './dynamics/contract.js';
export { EnsembleDynamics } from './dynamics/ensemble.js';
export {
  ensembleStd,
  ensembleVariance,
  leaveOneOutKl,
  logLikelihoodVariance,
  maxAleatoric,
  maxPairwiseDifference,
} from './dynamics/penalties.js';
export type { UncertaintyScore } from './dynamics/score.js';
export {
  gatherRows,
  isNd,
  type NdView,
  type NestedNumbers,
  nd,
  packed,
  ShapeError,
  type TypedArray,
  zeros,
} from './nd.js';
export { imagine } from './rollout/imagine.js';
export { lambdaReturn } from './rollout/lambda-return.js';
export { NetworkPolicy } from './rollout/network-policy.js';
export type { Policy } from './rollout/policy.js';
export { Trajectory } from './rollout/trajectory.js';
export { DisposedError, ModelContractError, ModelLoadError } from './runtime/errors.js';
export { Network } from './runtime/network.js';
export { type Key, key, type Seed } from './sampling/key.js';
