import { ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { type FloatView, type NumberSeries, series } from './arguments.js';
import { type Coverage, coverage, expectedCalibrationError, levelsOf } from './calibration.js';
import {
  crpsOf,
  type GaussianPredictionOptions,
  type GaussianPredictions,
  type Judged,
  judge,
  mixtureOf,
} from './gaussian-predictions.js';
import { spearman } from './spearman.js';

/** What {@link modelCalibrationReport} looks at. */
export interface ModelCalibrationOptions extends GaussianPredictionOptions {
  /** How uncertain each row was found to be, `[B]`, such as by an `UncertaintyScore`. */
  readonly uncertainty?: NumberSeries;
  /** Probabilities of the central intervals, a list, each in 0..1. Default 50 % and 90 %. */
  readonly levels?: readonly number[] | Float64Array;
}

/** How good Gaussian predictions of one number are. */
export interface GaussianQuality {
  /** Mean square error of the mean. */
  readonly mse: number;
  /** Mean of the predicted mean less the target. */
  readonly bias: number;
  /** Mean negative log-likelihood of a number, in nats; lower is better. */
  readonly nll: number;
  /** Mean continuous ranked probability score; lower is better. */
  readonly crps: number;
  /** Root mean square of the predicted standard deviation. */
  readonly sharpness: number;
  /** Expected calibration error of quantiles at 1 % to 99 %, see `expectedCalibrationError`. */
  readonly ece: number;
  /**
   * Root mean square of `z = (target - mean) / std`: the factor by which standard deviations must grow
   * to be right on average.
   */
  readonly recalibration: number;
}

/** {@link GaussianQuality} of each of `D` outputs. */
export type QualityByOutput = {
  readonly [Name in keyof GaussianQuality]: Float64Array;
} & {
  /** `[D]`: 0 to `D - 1`. */
  readonly output: Int32Array;
};

/** How far the Gaussian predictions of a model can be trusted. */
export interface ModelCalibrationReport extends GaussianQuality {
  /** Rows that count. */
  readonly count: number;
  /** Members of the mixture. */
  readonly members: number;
  /**
   * Rank correlation over rows of uncertainty with the root mean square error of the mean; absent without
   * an uncertainty.
   */
  readonly spearman?: number;
  /** How often targets lie within central intervals. */
  readonly coverage: Coverage;
  /** The same of each output alone, `[D]` each. */
  readonly byOutput: QualityByOutput;
}

/**
 * The calibration of a model's one-step Gaussian predictions in one call: error, likelihood, coverage,
 * calibration error, CRPS and sharpness, of the equal mixture of its members where there are several, and
 * whether its uncertainty ranks rows as their errors do.
 *
 * Each output is judged for itself and the numbers are means over outputs; so give a `scale`, such as the
 * standard deviations of the data, where outputs have different units. For the joint density of a row see
 * `mixtureLogProb` of `umwelt/dynamics`. A small `nll` need not mean a good policy: see
 * {@link likelihoodAgainstReturn}.
 *
 * @param predictions - mean and deviations, `[B, D]` or `[E, B, D]`, such as the `prediction` of an
 *   ensemble's step
 * @param target - what happened, as the model's outputs say it, float32 or float64 `[B, D]`: for the
 *   usual ensemble changes of the observation and the reward, which `outputTargets` of `umwelt/dynamics`
 *   makes of transitions
 * @param options - `uncertainty` `[B]`, `members`, `mask` `[B]`, `scale` `[D]`, `levels`
 * @returns plain data; `reportTable` prints it. Without a row everything is NaN
 * @throws TypeError or `ShapeError` when arguments are no such arrays
 * @throws RangeError when a standard deviation is not positive, or a number that counts is not finite
 *
 * @example
 * ```ts @import.meta.vitest
 * const { modelCalibrationReport, reportTable } = await import('umwelt/evaluation');
 * const { nd } = await import('umwelt');
 * const predictions = { mean: nd([[0], [0]]), std: nd([[2], [2]]) };
 * const report = modelCalibrationReport(predictions, nd([[2], [-2]]));
 * expect(report.nll).toBeCloseTo(2.112086, 6);
 * expect(report.recalibration).toBe(1);
 * expect([...report.coverage.share]).toEqual([0, 1]);
 * expect(reportTable(report)).toContain('nll            2.112');
 * ```
 *
 * @example
 * Of an ensemble's step, with recorded transitions `{ obs, action, nextObs, reward }`:
 *
 * ```ts
 * const { prediction } = await model.step({ obs }, action, modelContext(0, rowIds));
 * const target = outputTargets(model.manifest, { obs, nextObs, reward });
 * const spread = model.manifest.inputNormalizer.std.slice(0, model.obsSize);
 * const scale = [...spread, 1]; // observation, then reward
 * const report = modelCalibrationReport(prediction, target, { scale, members: 'elite' });
 * ```
 */
export function modelCalibrationReport(
  predictions: GaussianPredictions,
  target: FloatView,
  options: ModelCalibrationOptions = {},
): ModelCalibrationReport {
  const what = 'modelCalibrationReport';
  expectOptions(what, options, ['uncertainty', 'members', 'mask', 'scale', 'levels']);
  const { levels = [0.5, 0.9], uncertainty } = options;
  const level = levelsOf(what, levels);
  const mixture = mixtureOf(what, predictions, target, options);
  const { members, rows, width, mask } = mixture;
  if (uncertainty !== undefined) {
    const { length } = series(what, 'uncertainty', uncertainty);
    if (length !== rows) {
      throw new ShapeError(
        `${what}: uncertainty must have a value for each of the ${rows} rows, got ${length}`,
      );
    }
  }

  const kept = Array.from({ length: rows }, (_, row) => row).filter((row) => mask?.[row] !== 0);
  const count = kept.length;
  const pit = new Float64Array(width * count);
  const rowError = new Float64Array(rows);
  const sums = Array.from({ length: width }, () => new Sums());
  const all = new Sums();
  const judged: Judged = { error: 0, variance: 0, pit: 0, nll: 0 };
  for (let i = 0; i < count; i++) {
    const row = kept[i];
    let square = 0;
    for (let d = 0; d < width; d++) {
      const k = row * width + d;
      judge(mixture, k, judged);
      const crps = crpsOf(mixture, k);
      sums[d].add(judged, crps);
      all.add(judged, crps);
      square += judged.error * judged.error;
      pit[d * count + i] = judged.pit;
    }
    rowError[row] = Math.sqrt(square / width);
  }
  const ofOutput = sums.map((sum, d) =>
    sum.quality(expectedCalibrationError(pit.subarray(d * count, (d + 1) * count))),
  );
  const column = (name: keyof GaussianQuality): Float64Array =>
    Float64Array.from(ofOutput, (quality) => quality[name]);
  return {
    count,
    members,
    ...all.quality(expectedCalibrationError(pit)),
    ...(uncertainty !== undefined && {
      spearman: spearman(uncertainty, rowError, mask === null ? {} : { mask }),
    }),
    coverage: coverage(pit, level),
    byOutput: {
      output: Int32Array.from({ length: width }, (_, d) => d),
      mse: column('mse'),
      bias: column('bias'),
      nll: column('nll'),
      crps: column('crps'),
      sharpness: column('sharpness'),
      ece: column('ece'),
      recalibration: column('recalibration'),
    },
  };
}

/** Sums over numbers of the target. */
class Sums {
  #count = 0;
  #error = 0;
  #square = 0;
  #nll = 0;
  #crps = 0;
  #variance = 0;
  #z = 0;

  add({ error, variance, nll }: Judged, crps: number): void {
    this.#count++;
    this.#error += error;
    this.#square += error * error;
    this.#nll += nll;
    this.#crps += crps;
    this.#variance += variance;
    // A mean that was hit counts as such where the variance is too small for a number.
    if (error !== 0) this.#z += (error * error) / variance;
  }

  /** Without a number these are 0 / 0, which is the NaN that is promised. */
  quality(ece: number): GaussianQuality {
    const n = this.#count;
    return {
      mse: this.#square / n,
      bias: this.#error / n,
      nll: this.#nll / n,
      crps: this.#crps / n,
      sharpness: Math.sqrt(this.#variance / n),
      ece,
      recalibration: Math.sqrt(this.#z / n),
    };
  }
}
