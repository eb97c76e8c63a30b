/**
 * World models: the contract every model meets, ensembles of networks, and what their uncertainty
 * costs.
 *
 * @module dynamics
 */

export {
  type Awaitable,
  type ModelContext,
  modelContext,
  type Prediction,
  type RewardFunction,
  type StepResult,
  type TerminationFunction,
  type TransitionBatch,
  type WorldModel,
} from './contract.js';
export {
  EnsembleDynamics,
  type EnsembleOptions,
  type EnsembleState,
  type Propagation,
} from './ensemble.js';
export {
  maxAleatoric,
  maxPairwiseDifference,
  type PenaltyOptions,
  type UncertaintyScore,
} from './penalties.js';
export { Scratch } from './scratch.js';
