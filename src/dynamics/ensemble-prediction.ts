import { type NdView, nd } from '../nd.js';
import type { Prediction } from './contract.js';
import type { LogVarianceForm } from './log-variance.js';

/** An ensemble's {@link Prediction}; log-variances are clamped when they are first read. */
export class EnsemblePrediction implements Prediction {
  readonly mean: NdView;
  readonly sample: NdView | undefined;
  readonly member: Int32Array;
  readonly elites: readonly number[];
  readonly rewardIndex: number | null;
  readonly #raw: Float32Array | undefined;
  readonly #form: LogVarianceForm | undefined;
  #logVar: NdView | undefined;

  constructor(
    fields: Required<Pick<Prediction, 'mean' | 'member' | 'elites' | 'rewardIndex'>> &
      Pick<Prediction, 'sample'>,
    raw: Float32Array | undefined,
    form: LogVarianceForm | undefined,
  ) {
    this.mean = fields.mean;
    this.sample = fields.sample;
    this.member = fields.member;
    this.elites = fields.elites;
    this.rewardIndex = fields.rewardIndex;
    this.#raw = raw;
    this.#form = form;
  }

  /** Clamped log-variances, `[E, B, D]`; undefined for deterministic members. */
  get logVar(): NdView | undefined {
    if (this.#raw === undefined || this.#form === undefined) return undefined;
    this.#logVar ??= nd(this.#form.clamp(this.#raw), this.mean.shape);
    return this.#logVar;
  }
}
