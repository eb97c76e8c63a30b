/**
 * Noise, distributions, scalar codecs, replay buffers and the samplers that draw from them.
 *
 * Noise is a function of its names (seed, stream, step, trajectory) and a sample a function of seed and
 * step, so one seed gives one run however its rows are split, ordered or dropped.
 *
 * @module sampling
 */

export { philox4x32 } from '../kernels/philox.js';
export { Bernoulli } from './bernoulli.js';
export {
  type BootstrapOptions,
  type BootstrapSample,
  BootstrapSampler,
  bootstrapIndices,
} from './bootstrap.js';
export { BoundedNormal, type BoundedNormalOptions } from './bounded-normal.js';
export { Categorical, type CategoricalOptions } from './categorical.js';
export { DiagonalGaussian } from './diagonal-gaussian.js';
export type { Distribution } from './distribution.js';
export {
  dynamicFrequencyProbabilities,
  type FrequencyConstants,
  type FrequencyFeedback,
  type FrequencyProbabilityOptions,
  type FrequencyPurpose,
  type FrequencySample,
  type FrequencySampleOptions,
  FrequencySampler,
  type FrequencySamplerOptions,
  type FrequencySnapshot,
} from './frequency-sampler.js';
export type { Scale } from './gaussian-parameters.js';
export { foldIn, type Key, key, type Seed } from './key.js';
export {
  gatherMixture,
  type MixtureFeedback,
  type MixtureSample,
  MixtureSampler,
  type MixtureSamplerOptions,
  type MixtureSource,
} from './mixture-sampler.js';
export {
  type NStepOptions,
  type NStepSample,
  NStepSampler,
  type NStepTargets,
  nStepTargets,
  type RewardedRows,
} from './n-step.js';
export { type ChoiceOptions, choice, gumbelTopK, permutation } from './permutation.js';
export {
  type PrioritizedSample,
  type PrioritizedSampleOptions,
  PrioritizedSampler,
  type PrioritizedSamplerOptions,
  type PrioritizedSnapshot,
  type PriorityFeedback,
} from './prioritized-sampler.js';
export {
  type HindsightOptions,
  type HindsightStrategy,
  hindsightRows,
  type RelabelFunction,
  type RelabelGoalsOptions,
  type RelabelRewardsOptions,
  relabelGoals,
  relabelRewards,
} from './relabel.js';
export {
  type AddBatchOptions,
  type GetOptions,
  ReplayBuffer,
  type ReplayBufferOptions,
  type ReplaySnapshot,
  type TrajectoryRows,
  type WindowCross,
  type WindowOptions,
} from './replay-buffer.js';
export type {
  ReplayArrayOf,
  ReplayArrays,
  ReplayColumn,
  ReplayColumns,
  ReplayDtype,
  ReplayDtypeOf,
  ReplayField,
  ReplayRow,
  ReplaySchema,
  ReplayViewOf,
  ReplayWindows,
} from './replay-schema.js';
export { type DrawOptions, RowNoise, type TruncatedDrawOptions } from './row-noise.js';
export {
  type EpisodePlace,
  type EpisodeRows,
  type EpisodeSpans,
  NotEnoughRowsError,
  type ReplayRows,
  type Sample,
  type SampleOptions,
  type Sampler,
} from './sampler.js';
export { SequenceSampler, type SequenceSamplerOptions } from './sequence-sampler.js';
export { simNorm } from './simnorm.js';
export type { SnapshotArrays } from './snapshot.js';
export { Stream } from './stream.js';
export { SumTree } from './sum-tree.js';
export { symexp, symexpArray, symlog, symlogArray } from './symlog.js';
export { TanhGaussian, type TanhGaussianSample } from './tanh-gaussian.js';
export { TruncatedNormal, type TruncatedNormalOptions } from './truncated-normal.js';
export { SymexpTwoHot, SymlogDisc, type TwoHotOptions } from './two-hot.js';
export { UniformSampler, type UniformSamplerOptions } from './uniform-sampler.js';
export {
  inverseValueTransform,
  inverseValueTransformArray,
  valueTransform,
  valueTransformArray,
} from './value-transform.js';
