import { describe, isNd, type NdView, nd, ShapeError } from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { expectShape, type FloatView, flagMatrix, floats, scaleOf } from './arguments.js';
import type { OpenLoopOptions } from './open-loop.js';
import type { StateSequences } from './open-loop-report.js';

/** How samples of a stochastic model lie around the truth at each of `T` horizons. */
export interface SampleReport {
  /** Samples of each row, `M`. */
  readonly samples: number;
  /** `[T]`: 1 to `T`. */
  readonly horizon: Int32Array;
  /** `[T]`: rows that count. */
  readonly count: Int32Array;
  /** `[T]`: root mean square error of the mean of the samples. */
  readonly rmseOfMean: Float64Array;
  /** `[T]`: root mean square error of a sample, over all samples. */
  readonly rmseOfOne: Float64Array;
  /** `[T]`: root mean square error of each row's sample that is nearest at that horizon. */
  readonly rmseOfBest: Float64Array;
  /** `[T]`: mean energy score; lower is better. */
  readonly energyScore: Float64Array;
  /** `[B, T]` float32: energy score of one row; NaN where the step does not count. */
  readonly perRow: NdView<Float32Array>;
}

/**
 * Open-loop evaluation of a stochastic model by `M` samples of each row: error of their mean, of the best
 * of them, and their energy score, which rewards a spread that is right.
 *
 * The energy score of samples `x_m` and truth `y` is
 * `1/M sum_m |x_m - y| - 1/(2 M^2) sum_m sum_n |x_m - x_n|`, with `|v| = sqrt(mean_d (v_d / scale_d)^2)`,
 * so that it has the unit of the errors; in one dimension it is the CRPS of the samples. It takes `M^2`
 * distances for each row and step. The best of more samples is better: compare models at one `M`.
 *
 * @param imagined - float32 or float64 `[B, M, T+1, S]`, such as `obs` of {@link sampleRecorded}; index 0
 *   is the start and is not read
 * @param actual - what happened: sequences, such as `actual` of {@link sampleRecorded}, of which the steps
 *   count that their mask has, or states alone, float32 or float64 `[B, T+1, S]`
 * @param options - `mask` `[B, T]`, which leaves out steps besides; `scale` `[S]`
 * @returns plain data; `reportTable` prints it
 * @throws `ShapeError` when shapes do not fit together
 * @throws RangeError when there is no sample, a scale is not positive, or a state that counts is not
 *   finite
 * @throws TypeError when an argument is of another kind
 *
 * Source: Gneiting and Raftery (2007), "Strictly proper scoring rules, prediction, and estimation"; the
 * energy score times `sqrt(S)` agrees with `es_sample` of the R package scoringRules.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { sampleReport } = await import('umwelt/evaluation');
 * const { nd } = await import('umwelt');
 * // One row, two samples of one step, that lie 1 below and 3 above the truth.
 * const samples = nd([[[[0], [4]], [[0], [8]]]]);
 * const actual = { obs: nd([[[0], [5]]]), mask: nd(Uint8Array.of(1), [1, 1]) };
 * const report = sampleReport(samples, actual);
 * expect(report.rmseOfMean[0]).toBe(1);
 * expect(report.rmseOfBest[0]).toBe(1);
 * expect(report.energyScore[0]).toBe(1); // (1 + 3) / 2 - 4 / 4
 * ```
 */
export function sampleReport(
  imagined: FloatView,
  actual: FloatView | StateSequences,
  options: OpenLoopOptions = {},
): SampleReport {
  const what = 'sampleReport';
  expectOptions(what, options, ['mask', 'scale']);
  const guess = floats(what, 'imagined', imagined);
  const sequences = isNd(actual) ? { obs: actual } : actual;
  const name = isNd(actual) ? 'actual' : 'actual.obs';
  if (typeof sequences !== 'object' || sequences === null || !('obs' in sequences)) {
    throw new TypeError(
      `${what}: actual must be sequences { obs } or a view [B, T+1, S], got ${describe(actual)}`,
    );
  }
  const truth = floats(what, name, sequences.obs);
  const { shape } = imagined;
  const [rows, samples, points, dims] = shape;
  if (shape.length !== 4 || samples < 1 || points < 1 || dims < 1) {
    throw new ShapeError(
      `${what}: imagined must have shape [B, M, T+1, S] with M and S at least 1, got [${shape}]`,
    );
  }
  expectShape(what, name, sequences.obs, '[B, T+1, S]', [rows, points, dims]);
  const horizon = points - 1;
  const grid = [rows, horizon];
  const happened = flagMatrix(what, 'actual.mask', sequences.mask, grid);
  const chosen = flagMatrix(what, 'mask', options.mask, grid);
  const scale = scaleOf(what, options.scale, dims);

  const count = new Int32Array(horizon);
  const rmseOfMean = new Float64Array(horizon);
  const rmseOfOne = new Float64Array(horizon);
  const rmseOfBest = new Float64Array(horizon);
  const energyScore = new Float64Array(horizon);
  const perRow = new Float32Array(rows * horizon).fill(Number.NaN);
  // Errors of one row's samples at one step, in units of the scale.
  const error = new Float64Array(samples * dims);
  for (let row = 0; row < rows; row++) {
    for (let step = 0; step < horizon; step++) {
      const cell = row * horizon + step;
      if (happened?.[cell] === 0 || chosen?.[cell] === 0) continue;
      const target = (row * points + step + 1) * dims;
      let distances = 0;
      let squares = 0;
      let nearest = Infinity;
      for (let sample = 0; sample < samples; sample++) {
        const from = ((row * samples + sample) * points + step + 1) * dims;
        let square = 0;
        for (let dim = 0; dim < dims; dim++) {
          const e = (guess[from + dim] - truth[target + dim]) / scale[dim];
          error[sample * dims + dim] = e;
          square += e * e;
        }
        if (!Number.isFinite(square)) {
          throw new RangeError(
            `${what}: every state that counts must be finite, got another at row ${row}, ` +
              `sample ${sample}, horizon ${step + 1}; leave it out by the mask`,
          );
        }
        squares += square;
        distances += Math.sqrt(square);
        if (square < nearest) nearest = square;
      }
      let spread = 0;
      for (let a = 1; a < samples; a++) {
        for (let b = 0; b < a; b++) {
          let square = 0;
          for (let dim = 0; dim < dims; dim++) {
            const difference = error[a * dims + dim] - error[b * dims + dim];
            square += difference * difference;
          }
          spread += Math.sqrt(square);
        }
      }
      let ofMean = 0;
      for (let dim = 0; dim < dims; dim++) {
        let sum = 0;
        for (let sample = 0; sample < samples; sample++) sum += error[sample * dims + dim];
        ofMean += (sum / samples) ** 2;
      }
      const score = (distances / samples - spread / (samples * samples)) / Math.sqrt(dims);
      count[step]++;
      rmseOfMean[step] += ofMean;
      rmseOfOne[step] += squares / samples;
      rmseOfBest[step] += nearest;
      energyScore[step] += score;
      perRow[cell] = score;
    }
  }
  for (let step = 0; step < horizon; step++) {
    const values = count[step] * dims;
    rmseOfMean[step] = Math.sqrt(rmseOfMean[step] / values);
    rmseOfOne[step] = Math.sqrt(rmseOfOne[step] / values);
    rmseOfBest[step] = Math.sqrt(rmseOfBest[step] / values);
    energyScore[step] /= count[step];
  }
  return {
    samples,
    horizon: Int32Array.from({ length: horizon }, (_, step) => step + 1),
    count,
    rmseOfMean,
    rmseOfOne,
    rmseOfBest,
    energyScore,
    perRow: nd(perRow, grid),
  };
}
