/**
 * World models: the contract every model meets, ensembles of networks, and what their uncertainty
 * costs.
 *
 * @module dynamics
 */

export {
  type BellmanInconsistencyOptions,
  bellmanInconsistency,
  modelBellmanInconsistency,
} from './bellman-inconsistency.js';
export {
  type ClosedFormBatch,
  ClosedFormDynamics,
  type ClosedFormOptions,
  type ObsState,
} from './closed-form.js';
export {
  ContextDynamics,
  type ContextDynamicsOptions,
  type ContextState,
  type ContextTransitions,
} from './context-dynamics.js';
export {
  type ContextEncoder,
  type ContextEncoderOptions,
  contextEncoder,
} from './context-encoder.js';
export {
  type Arrival,
  type Awaitable,
  type ModelContext,
  modelContext,
  type Observed,
  type Prediction,
  type RewardFunction,
  type StepResult,
  type StepTransitions,
  type TerminationFunction,
  type TransitionBatch,
  type WorldModel,
} from './contract.js';
export {
  type CriticReduction,
  type CriticReductionOptions,
  type CriticScoreOptions,
  type Critics,
  type CriticWeights,
  criticEnsembleScore,
  criticStd,
  criticValues,
  edacDiversity,
  finiteDifferenceActionGradients,
  MODEM_V2,
  reduceCritics,
} from './critic-ensemble.js';
export {
  type AffineNormalizer,
  type DiscriminatorPart,
  DynamicsReward,
  type DynamicsRewardOptions,
  type LogitRange,
} from './dynamics-reward.js';
export {
  type EdgeOfReachCalibration,
  EdgeOfReachDetector,
  type EdgeOfReachDetectorOptions,
  type EdgeOfReachOptions,
  edgeOfReach,
  type RecordedTransitions,
  type RolledTransitions,
} from './edge-of-reach.js';
export { selectElites } from './elites.js';
export {
  type ActionBounds,
  type EmpowermentOptions,
  empowermentBonus,
} from './empowerment.js';
export {
  EnsembleDynamics,
  type EnsembleOptions,
  type EnsembleState,
  type Propagation,
} from './ensemble.js';
export { EnsemblePrediction } from './ensemble-prediction.js';
export { EnsembleTooSmallError } from './ensemble-too-small-error.js';
export type { GraphActivation } from './graph-activations.js';
export { HypernetDynamics } from './hypernet-dynamics.js';
export type { HypernetModel } from './hypernet-model.js';
export type { HypernetOptions, HypernetTask, OutputNormalizer } from './hypernet-options.js';
export type { Derivative, Integrator } from './integrate.js';
export {
  baselineProjection,
  clipReward,
  type DeltaRewardOptions,
  deltaReward,
  type LearnedRewardOptions,
  learnedReward,
  type ProjectedRewardOptions,
  projectedReward,
} from './learned-reward.js';
export {
  type EndDecision,
  type LearnedTerminationOptions,
  learnedTermination,
  type TerminationForm,
} from './learned-termination.js';
export {
  type EmpiricalLipschitz,
  type EmpiricalLipschitzOptions,
  empiricalLipschitz,
  type LipschitzBound,
  type LipschitzBoundOptions,
  type LipschitzLayer,
  lipschitzUpperBound,
} from './lipschitz.js';
export { gaussianLogProb, gaussianNll, mixtureLogProb } from './log-density.js';
export { type MixtureMoments, type MixtureOptions, mixtureMoments } from './mixture.js';
export {
  type LayerActivation,
  type NetworkLayer,
  type ReadLayersOptions,
  readLayers,
} from './network-layers.js';
export type { ChosenAction, NextAction, NextActionContext, NextActor } from './next-action.js';
export {
  type KernelOptions,
  NoveltyMemory,
  type NoveltyMemoryOptions,
  type NoveltyOptions,
  nearestNeighbourNovelty,
} from './novelty.js';
export { type OutputMeanings, outputTargets, type TargetTransitions } from './output-targets.js';
export {
  ensembleStd,
  ensembleVariance,
  leaveOneOutKl,
  logLikelihoodVariance,
  maxAleatoric,
  maxPairwiseDifference,
} from './penalties.js';
export {
  type PenaltyCoefficientOptions,
  type PenaltyCoefficientState,
  PenaltyCoefficientTuner,
  scaleFree,
} from './penalty-coefficient.js';
export type { PenaltyOptions } from './penalty-options.js';
export {
  type PenaltyPreset,
  type PenaltyPresets,
  penaltyPresets,
  type SampledPenaltyPreset,
} from './penalty-presets.js';
export {
  type AdversarialValue,
  type AdversarialValueOptions,
  adversarialValue,
  type RobustValueOptions,
  robustValueScore,
} from './robust-value.js';
export { type RowFunction, type RowFunctionOptions, rowFunction } from './row-function.js';
export {
  type ExpertDistanceOptions,
  expertDistanceWeights,
  weightedNll,
} from './sample-weights.js';
export type { ScoreContext, ScoreNeed, UncertaintyScore } from './score.js';
export {
  type DatasetProgress,
  type ScoreDatasetOptions,
  type StateActions,
  scoreDataset,
} from './score-dataset.js';
export { Scratch } from './scratch.js';
export { type SpectralNormOptions, spectralNorm, spectralNormalised } from './spectral-norm.js';
export type { TargetNetwork } from './target-network.js';
export {
  type ObsTermination,
  type TerminationRule,
  type TerminationRules,
  terminateUnless,
  terminationRules,
} from './termination-rules.js';
export type { ThresholdRule } from './threshold-rule.js';
export type { Support, TransitionOptions } from './transition.js';
export {
  CHOICE_DRAW,
  type SelectionOptions,
  selectTransitions,
  type TransitionCandidates,
  TransitionFilter,
  type TransitionFilterOptions,
  type TransitionSelection,
} from './transition-filter.js';
export {
  type CalibrateOptions,
  type DetectorCalibration,
  type UnknownDetectorOptions,
  UnknownStateActionDetector,
} from './unknown-detector.js';
export {
  clipValueGradients,
  type RewardPair,
  type ValueErrorOptions,
  valueGradientWeightedError,
  valueWeights,
} from './value-weights.js';
