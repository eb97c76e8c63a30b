/**
 * Imagined experience: a policy and a world model make trajectories.
 *
 * @module rollout
 */

export {
  type ActionSequenceOptions,
  actionSequence,
  meanOverParticles,
  repeatRows,
} from './action-sequence.js';
export type { ActionSpace } from './action-space.js';
export {
  type BranchedRolloutsOptions,
  type BranchProgress,
  branchedRollouts,
  type StartBuffer,
  type TransitionSink,
} from './branched-rollouts.js';
export { type BurnInContext, type BurnInOptions, burnIn } from './burn-in.js';
export type { Carry } from './carry.js';
export { CemPlanner } from './cem.js';
export type { CemOptions } from './cem-options.js';
export { type ColouredNoiseOptions, colouredNoise } from './coloured-noise.js';
export { type CriticValueOptions, criticValue } from './critic-value.js';
export {
  type DiscountedReturn,
  type DiscountedReturnOptions,
  discountedReturn,
} from './discounted-return.js';
export type { StartSampler } from './draw-starts.js';
export type { Environment, EnvironmentStep } from './environment.js';
export {
  EnvironmentModel,
  type EnvironmentModelOptions,
  type EnvironmentState,
} from './environment-model.js';
export {
  type FilterByReturnOptions,
  type FilteredByReturn,
  filterByReturn,
} from './filter-by-return.js';
export { type AdvantageEstimate, type GaeOptions, gae } from './gae.js';
export { holdActions } from './hold-actions.js';
export { IcemPlanner } from './icem.js';
export type { IcemOptions } from './icem-options.js';
export { type ImaginationWeightsOptions, imaginationWeights } from './imagination-weights.js';
export { imagine } from './imagine.js';
export type { Halt, ImagineOptions } from './imagine-options.js';
export { type LambdaReturnOptions, lambdaReturn } from './lambda-return.js';
export {
  type LengthSchedule,
  type LengthScheduleSpec,
  lengthSchedule,
  mbpoSchedules,
} from './length-schedule.js';
export { type ModelBufferOptions, modelBufferCapacity } from './model-buffer-capacity.js';
export { ModelEnv } from './model-env.js';
export type {
  AutoresetMode,
  EpisodeStarts,
  ModelEnvActionInfo,
  ModelEnvOptions,
  ModelEnvReset,
  ModelEnvResetInfo,
  ModelEnvResetOptions,
  ModelEnvStep,
  ModelEnvStepInfo,
  StartFunction,
  TransitionInfo,
} from './model-env-options.js';
export { type ModelObjectiveOptions, modelObjective } from './model-objective.js';
export { type MpcDecision, type MpcMemory, type MpcOptions, mpcPolicy } from './mpc.js';
export { MpcAgent, type MpcAgentOptions, type MpcObservation } from './mpc-agent.js';
export { type MppiOptions, MppiPlanner } from './mppi.js';
export { type NStepReturnOptions, nStepReturn } from './n-step-return.js';
export {
  flattenArrays,
  type NamedArrays,
  type NestedArrays,
  unflattenArrays,
} from './named-arrays.js';
export { NetworkPolicy, type NetworkPolicyOptions } from './network-policy.js';
export { type NetworkValueOptions, networkValue } from './network-value.js';
export type {
  Actions,
  FeasibleActions,
  Objective,
  ObjectiveContext,
  Plan,
  PlanCarry,
  Planner,
  PlanRequest,
  Proposals,
} from './planner.js';
export type { PlanReturns } from './planner-options.js';
export type { AnyPolicy, Policy, PolicyContext, PolicyResult, PolicyState } from './policy.js';
export {
  type GuidedPlan,
  type GuidedRequest,
  type PolicyGuidedOptions,
  PolicyGuidedPlanner,
} from './policy-guided.js';
export { type PolicyProposalsOptions, policyProposals } from './policy-proposals.js';
export type { RolloutCount, RolloutEnding, RolloutProgress } from './progress.js';
export { RandomShooting, type RandomShootingOptions } from './random-shooting.js';
export {
  type NormalizeOptions,
  ReturnNormalizer,
  type ReturnNormalizerOptions,
  type ReturnNormalizerState,
} from './return-normalizer.js';
export { type RewardRows, returnsToGo } from './returns-to-go.js';
export type { Rollout } from './rollout.js';
export { NonFiniteError, type NonFinitePolicy } from './settle.js';
export type { RolloutStep } from './step.js';
export type { FlagView, FloatView, StepAlignment, StepEnds } from './step-arrays.js';
export { type TdMpc2Options, TdMpc2Planner } from './td-mpc2.js';
export { tdMpc2Discount } from './td-mpc2-discount.js';
export { type D4rlTrajectory, fromD4rl, toD4rl } from './to-d4rl.js';
export { type DreamerTrajectory, fromDreamer, toDreamer } from './to-dreamer.js';
export { fromGymnasium, type GymnasiumTrajectory, toGymnasium } from './to-gymnasium.js';
export { fromMinari, type MinariSteps, type MinariTrajectory, toMinari } from './to-minari.js';
export { fromTdMpc2, type TdMpc2Trajectory, toTdMpc2 } from './to-td-mpc2.js';
export { fromTorchRl, type TorchRlNext, type TorchRlTrajectory, toTorchRl } from './to-torch-rl.js';
export { Trajectory, type Transitions } from './trajectory.js';
export { trajectoryArrays, trajectoryFromArrays } from './trajectory-arrays.js';
export type { ValueContext, ValueFunction } from './value.js';
export type { WeighedUncertainty } from './weighed-uncertainty.js';
export {
  type EpisodeProgress,
  type KeptEpisodes,
  type WholeEpisodesOptions,
  wholeEpisodes,
} from './whole-episodes.js';
