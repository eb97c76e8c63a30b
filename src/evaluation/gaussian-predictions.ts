/** Gaussian predictions, of one model or of an ensemble's equal mixture, as measures read them. */

import type { MixtureOptions } from '../dynamics/mixture.js';
import { mixturePart } from '../dynamics/mixture.js';
import { describe, type NdView, ShapeError } from '../nd.js';
import { HALF_LOG_TWO_PI, normalCdf } from '../sampling/special-functions.js';
import {
  expectShape,
  type FlagSeries,
  type FloatView,
  floats,
  maskOf,
  type Scale,
  scaleOf,
} from './arguments.js';

/**
 * What Gaussian models predicted, float32 or float64: `[B, D]` for one, `[E, B, D]` for members whose
 * equal mixture is judged. A `Prediction` of an ensemble is one as it is.
 */
export interface GaussianPredictions {
  /** Means. */
  readonly mean: FloatView;
  /** Standard deviations. One of the three is needed; the first that is there is taken. */
  readonly std?: FloatView | undefined;
  /** Variances. */
  readonly variance?: FloatView | undefined;
  /** Logarithms of variances. */
  readonly logVar?: FloatView | undefined;
  /** Members that may be left alone in the mixture, by `members: 'elite'`. */
  readonly elites?: readonly number[];
}

/** Which predictions count, and in which unit. */
export interface GaussianPredictionOptions extends MixtureOptions {
  /** `[B]` uint8: 1 for rows that count; by default all do. Rows that do not may hold anything. */
  readonly mask?: FlagSeries;
  /**
   * `[D]`: the unit of each output, by which means, deviations and targets are divided; by default 1. For
   * an ensemble that predicts changes or states and then the reward: the first `S` entries of its
   * `manifest.inputNormalizer.std`, which are those of the observation, and one for the reward.
   */
  readonly scale?: Scale;
}

/** Predictions in float64, in units of the scale; what belongs to masked rows means nothing. */
export interface Mixture {
  readonly members: number;
  readonly rows: number;
  readonly width: number;
  /** `[E, B, D]`. */
  readonly mean: Float64Array;
  /** `[E, B, D]`, positive. */
  readonly std: Float64Array;
  /** `[B, D]`. */
  readonly target: Float64Array;
  readonly mask: Uint8Array | null;
}

/** Reads and checks predictions and what happened. */
export function mixtureOf(
  what: string,
  predictions: GaussianPredictions,
  target: FloatView,
  options: GaussianPredictionOptions,
): Mixture {
  if (typeof predictions !== 'object' || predictions === null || !('mean' in predictions)) {
    throw new TypeError(`${what}: predictions must be { mean, std }, got ${describe(predictions)}`);
  }
  const { elites, mean: meanView } = predictions;
  const means = floats(what, 'mean', meanView);
  const { shape } = meanView;
  const [rows, width] = shape.slice(-2);
  if ((shape.length !== 2 && shape.length !== 3) || width < 1) {
    throw new ShapeError(
      `${what}: mean must have shape [B, D] or [E, B, D] with D at least 1, got [${shape}]`,
    );
  }
  const size = shape.length === 3 ? shape[0] : 1;
  const { members: which } = mixturePart(what, { members: options.members });
  const chosen =
    which === 'elite' && elites !== undefined ? elites : Array.from({ length: size }, (_, e) => e);
  const stranger = chosen.find((e) => !(Number.isInteger(e) && e >= 0 && e < size));
  if (chosen.length === 0 || stranger !== undefined) {
    throw new RangeError(
      `${what}: predictions must have members, all within 0..${size - 1}, got [${chosen}]`,
    );
  }
  const [spreads, toStd] = spreadOf(what, predictions, shape);
  const truth = floats(what, 'target', target);
  expectShape(what, 'target', target, '[B, D]', [rows, width]);
  const mask = maskOf(what, options.mask, rows, 'rows');
  const scale = scaleOf(what, options.scale, width);

  const cells = rows * width;
  const mean = new Float64Array(chosen.length * cells);
  const std = new Float64Array(chosen.length * cells);
  const scaled = new Float64Array(cells);
  const refuse = (must: string, value: number, k: number): never => {
    throw new RangeError(
      `${what}: ${must}, got ${value} in row ${Math.floor(k / width)}, output ${k % width}; ` +
        'leave such rows out by the mask',
    );
  };
  for (let k = 0; k < cells; k++) {
    if (mask !== null && mask[Math.floor(k / width)] === 0) continue;
    const unit = scale[k % width];
    scaled[k] = truth[k] / unit;
    if (!Number.isFinite(scaled[k])) refuse('target must be finite', truth[k], k);
    for (let i = 0; i < chosen.length; i++) {
      const from = chosen[i] * cells + k;
      const m = means[from] / unit;
      const s = toStd(spreads[from]) / unit;
      if (!Number.isFinite(m)) refuse('mean must be finite', means[from], k);
      if (!(s > 0 && s < Infinity)) {
        refuse('standard deviations must be positive and finite', toStd(spreads[from]), k);
      }
      mean[i * cells + k] = m;
      std[i * cells + k] = s;
    }
  }
  return { members: chosen.length, rows, width, mean, std, target: scaled, mask };
}

function spreadOf(
  what: string,
  { std, variance, logVar }: GaussianPredictions,
  shape: readonly number[],
): [ArrayLike<number>, (value: number) => number] {
  const read = (name: string, view: FloatView): ArrayLike<number> => {
    const data = floats(what, name, view);
    expectShape(what, name, view as NdView, 'that of mean', shape);
    return data;
  };
  if (std !== undefined) return [read('std', std), (value) => value];
  if (variance !== undefined) return [read('variance', variance), Math.sqrt];
  if (logVar !== undefined) return [read('logVar', logVar), (value) => Math.exp(0.5 * value)];
  throw new TypeError(
    `${what}: predictions must have std, variance or logVar, got none; ` +
      'deterministic members have no noise, judge them by openLoopError',
  );
}

/** What the mixture makes of one number of the target. */
export interface Judged {
  /** Mean of the mixture less the target. */
  error: number;
  /** Variance of the mixture. */
  variance: number;
  /** Value of its distribution function at the target. */
  pit: number;
  /** Minus the logarithm of its density there. */
  nll: number;
}

/** Judges number `k` of the target, `row * width + output`. */
export function judge({ members, mean, std, target }: Mixture, k: number, out: Judged): Judged {
  const cells = target.length;
  const y = target[k];
  let sum = 0;
  let pit = 0;
  let largest = -Infinity;
  for (let at = k; at < mean.length; at += cells) {
    const z = (y - mean[at]) / std[at];
    sum += mean[at] - y;
    pit += normalCdf(z);
    largest = Math.max(largest, -0.5 * z * z - Math.log(std[at]));
  }
  const error = sum / members;
  let variance = 0;
  let likelihood = 0;
  for (let at = k; at < mean.length; at += cells) {
    const z = (y - mean[at]) / std[at];
    const apart = mean[at] - y - error;
    variance += std[at] * std[at] + apart * apart;
    // Relative to the largest, which would else underflow for a target far out.
    likelihood += Math.exp(-0.5 * z * z - Math.log(std[at]) - largest);
  }
  out.error = error;
  out.variance = variance / members;
  out.pit = pit / members;
  // So far out that the density of every member is 0 even by its logarithm.
  out.nll =
    largest === -Infinity
      ? Number.POSITIVE_INFINITY
      : HALF_LOG_TWO_PI - largest - Math.log(likelihood / members);
  return out;
}

/** CRPS of the mixture for number `k` of the target, in closed form. */
export function crpsOf({ members, mean, std, target }: Mixture, k: number): number {
  const cells = target.length;
  let toTarget = 0;
  let apart = 0;
  for (let i = k; i < mean.length; i += cells) {
    toTarget += meanDistance(target[k] - mean[i], std[i]);
    apart += std[i] * TWO_OVER_ROOT_PI;
    for (let j = k; j < i; j += cells) {
      apart += 2 * meanDistance(mean[i] - mean[j], rootSum(std[i], std[j]));
    }
  }
  return toTarget / members - apart / (2 * members * members);
}

/** `sqrt(a^2 + b^2)`: the usual one is many times slower, and needed at the ends of the range alone. */
function rootSum(a: number, b: number): number {
  const root = Math.sqrt(a * a + b * b);
  return root > 1e-150 && root < 1e150 ? root : Math.hypot(a, b);
}

/** `E|X|` of a Gaussian: `m (2 Phi(m/s) - 1) + 2 s phi(m/s)`. */
function meanDistance(m: number, s: number): number {
  const z = Math.abs(m / s);
  return s * (z * (1 - 2 * normalCdf(-z)) + TWICE_DENSITY_AT_0 * Math.exp(-0.5 * z * z));
}

const TWICE_DENSITY_AT_0 = 2 * Math.exp(-HALF_LOG_TWO_PI);
/** `E|X - X'|` of two independent standard Gaussians. */
const TWO_OVER_ROOT_PI = 2 / Math.sqrt(Math.PI);
