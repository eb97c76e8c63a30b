/**
 * How far a model can be trusted: error of its dreams by horizon, calibration of what it predicts, and
 * whether its uncertainty ranks predictions as their errors do.
 *
 * A measure returns a number, a view, or a report of several, which is plain data that {@link reportTable}
 * prints.
 *
 * @module
 */

export type { FlagSeries, FloatView, NumberSeries, Scale } from './arguments.js';
export {
  type BinaryCalibrationOptions,
  type BinaryCalibrationReport,
  type BrierOptions,
  binaryCalibrationReport,
  brierScore,
  type ProbabilityBins,
} from './binary-calibration.js';
export type { BootstrapIntervalOptions } from './bootstrap-interval.js';
export {
  type CalibrationCurveOptions,
  type Coverage,
  calibrationCurve,
  coverage,
  expectedCalibrationError,
  gaussianCrps,
  type PitOptions,
  pitValues,
  recalibrationMap,
} from './calibration.js';
export type { GaussianPredictionOptions, GaussianPredictions } from './gaussian-predictions.js';
export {
  type ImaginedRecording,
  type ImaginedSequences,
  type ImagineRecordedOptions,
  imagineRecorded,
  type MaskedSequences,
  type RecordedSequences,
  type SampledRecording,
  type SampleRecordedOptions,
  sampleRecorded,
} from './imagine-recorded.js';
export {
  type IsotonicMap,
  type IsotonicOptions,
  isotonicRegression,
  isotonicValue,
} from './isotonic.js';
export {
  type CorrelationInterval,
  type LikelihoodReturnReport,
  likelihoodAgainstReturn,
} from './likelihood-return.js';
export {
  type GaussianQuality,
  type ModelCalibrationOptions,
  type ModelCalibrationReport,
  modelCalibrationReport,
  type QualityByOutput,
} from './model-calibration.js';
export { type OpenLoopError, type OpenLoopOptions, openLoopError } from './open-loop.js';
export {
  type OpenLoopReport,
  type OpenLoopReportOptions,
  openLoopReport,
  type RewardByHorizon,
  type StateSequences,
  type StatesByHorizon,
} from './open-loop-report.js';
export { type ReportTableOptions, reportTable } from './report-table.js';
export { type SampleReport, sampleReport } from './sample-report.js';
export { type SpearmanOptions, spearman } from './spearman.js';
export {
  type TerminationByHorizon,
  type TerminationReport,
  type TerminationReportOptions,
  terminationReport,
} from './termination-report.js';
export {
  type CorrelationByHorizon,
  type UncertaintyErrorOptions,
  type UncertaintyErrorReport,
  uncertaintyErrorCorrelation,
} from './uncertainty-error.js';
