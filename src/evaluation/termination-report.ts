import { describe, isNd, type NdView, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { flagMatrix } from './arguments.js';

/** What {@link terminationReport} counts. */
export interface TerminationReportOptions {
  /** `[B, T]` uint8: 1 where step `h` of a row counts; by default all do. */
  readonly mask?: NdView<Uint8Array>;
}

/** How well ends are foreseen at each of `T` horizons, horizon `h` at index `h - 1`. */
export interface TerminationByHorizon {
  /** `[T]`: 1 to `T`. */
  readonly horizon: Int32Array;
  /** `[T]`: rows that count. */
  readonly count: Int32Array;
  /** `[T]`: rows that end, as foreseen. */
  readonly truePositive: Int32Array;
  /** `[T]`: rows that do not end, though foreseen. */
  readonly falsePositive: Int32Array;
  /** `[T]`: rows that end unforeseen. */
  readonly falseNegative: Int32Array;
  /** `[T]`: share of the foreseen ends that happen; NaN where none is foreseen. */
  readonly precision: Float64Array;
  /** `[T]`: share of the ends that are foreseen; NaN where none happens. */
  readonly recall: Float64Array;
  /** `[T]`: harmonic mean of the two; NaN where no end is foreseen and none happens. */
  readonly f1: Float64Array;
}

/** How well ends are foreseen. */
export interface TerminationReport {
  /** Steps that count. */
  readonly count: number;
  /** Share of the steps that end their row. */
  readonly rate: number;
  /** Share of the foreseen ends that happen. */
  readonly precision: number;
  /** Share of the ends that are foreseen. */
  readonly recall: number;
  /** `2 TP / (2 TP + FP + FN)`. */
  readonly f1: number;
  /** The same by horizon. */
  readonly byHorizon: TerminationByHorizon;
}

/**
 * How well a model foresees the ends of episodes, over all steps and by horizon.
 *
 * An end counts as foreseen at its own step alone: one that is foreseen a step early is a false positive
 * there and a false negative at the step where it happens.
 *
 * @param predicted - uint8 `[B, T]`: 1 where the model ends the row at that step
 * @param actual - uint8 `[B, T]`: 1 where it ends
 * @param options - `mask` `[B, T]`
 * @returns precision, recall and F1
 * @throws TypeError or `ShapeError` when flags are no uint8 views of one shape `[B, T]`
 *
 * Source: van Rijsbergen, "Information Retrieval" (1979); TD-MPC2 logs the same of its termination head.
 */
export function terminationReport(
  predicted: NdView<Uint8Array>,
  actual: NdView<Uint8Array>,
  options: TerminationReportOptions = {},
): TerminationReport {
  const what = 'terminationReport';
  expectOptions(what, options, ['mask']);
  if (!isNd(predicted)) {
    throw new TypeError(`${what}: predicted must be a uint8 view, got ${describe(predicted)}`);
  }
  const { shape } = predicted;
  if (shape.length !== 2) {
    throw new ShapeError(`${what}: predicted must have shape [B, T], got [${shape}]`);
  }
  const [rows, steps] = shape;
  const guess = flagMatrix(what, 'predicted', predicted, shape) as Uint8Array;
  const truth = flagMatrix(what, 'actual', expectGiven(what, actual), shape) as Uint8Array;
  const mask = flagMatrix(what, 'mask', options.mask, shape);

  const horizon = Int32Array.from({ length: steps }, (_, step) => step + 1);
  const count = new Int32Array(steps);
  const truePositive = new Int32Array(steps);
  const falsePositive = new Int32Array(steps);
  const falseNegative = new Int32Array(steps);
  for (let row = 0, cell = 0; row < rows; row++) {
    for (let step = 0; step < steps; step++, cell++) {
      if (mask !== null && mask[cell] === 0) continue;
      count[step]++;
      if (truth[cell] === 0) falsePositive[step] += guess[cell] === 0 ? 0 : 1;
      else if (guess[cell] === 0) falseNegative[step]++;
      else truePositive[step]++;
    }
  }
  const sum = (counts: Int32Array): number => counts.reduce((total, value) => total + value, 0);
  const all = [truePositive, falsePositive, falseNegative].map(sum);
  const ratios = Array.from(horizon, (_, step) =>
    ratiosOf(truePositive[step], falsePositive[step], falseNegative[step]),
  );
  return {
    count: sum(count),
    rate: (all[0] + all[2]) / sum(count),
    ...ratiosOf(all[0], all[1], all[2]),
    byHorizon: {
      horizon,
      count,
      truePositive,
      falsePositive,
      falseNegative,
      precision: Float64Array.from(ratios, ({ precision }) => precision),
      recall: Float64Array.from(ratios, ({ recall }) => recall),
      f1: Float64Array.from(ratios, ({ f1 }) => f1),
    },
  };
}

/** Where nothing is counted these are 0 / 0, which is the NaN that is promised. */
function ratiosOf(
  truePositive: number,
  falsePositive: number,
  falseNegative: number,
): { precision: number; recall: number; f1: number } {
  return {
    precision: truePositive / (truePositive + falsePositive),
    recall: truePositive / (truePositive + falseNegative),
    f1: (2 * truePositive) / (2 * truePositive + falsePositive + falseNegative),
  };
}

function expectGiven(what: string, actual: NdView<Uint8Array>): NdView<Uint8Array> {
  if (actual === undefined) {
    throw new TypeError(`${what}: actual must be a uint8 view, got undefined`);
  }
  return actual;
}
