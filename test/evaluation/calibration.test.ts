import { type NdView, nd, ShapeError } from 'umwelt';
import { gaussianLogProb } from 'umwelt/dynamics';
import {
  calibrationCurve,
  coverage,
  expectedCalibrationError,
  gaussianCrps,
  isotonicRegression,
  isotonicValue,
  modelCalibrationReport,
  pitValues,
  recalibrationMap,
  reportTable,
} from 'umwelt/evaluation';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { ids } from '../support/models.js';
import { ksCritical, ksStatistic } from '../support/statistics.js';

const NaN64 = Number.NaN;
const close = { rtol: 1e-12, atol: 1e-14 };
const doubles = (values: readonly number[], shape: readonly number[]): NdView<Float64Array> =>
  nd(Float64Array.from(values), shape);

// Three members, two rows, three outputs.
const shape = [3, 2, 3];
const mean = doubles(
  [0.1, 0.2, 1, 1, -1, 0, 0.2, 0.1, 1.2, 1, -1, 0, 0, 0.3, 0.8, 1.3, -0.6, 0.5],
  shape,
);
const logVar = doubles([-2, -2, -1, 0, 0, 0, -1, -3, -1, 0, 0, 0, -2, -2, -2, -1, -1, -1], shape);
const target = doubles([0.15, 0.15, 1.1, 1.1, -0.9, 0.1], [2, 3]);
// m, lv [3, 2, 3] and y [2, 3] as above; s = numpy.exp(lv / 2); n = scipy.stats.norm
const expected = {
  // n.cdf(y, m, s).mean(0)
  pit: [
    0.5598246443109498, 0.4587767506681091, 0.5975341657402781, 0.483484093549534,
    0.4633637143043385, 0.444815578700754,
  ],
  // -numpy.log(n.pdf(y, m, s).mean(0))
  nll: [
    0.09507372961050542, -0.24059274777756984, 0.36845536875515755, 0.7501792558244598,
    0.7794905338240178, 0.818635862528523,
  ],
  // for each output, F(x) = n.cdf(x, m, s).mean(): scipy.integrate.quad of F ** 2 from -30 to y and
  // of (1 - F) ** 2 from y to 30, epsabs=1e-14, epsrel=1e-13
  crps: [
    0.10646762468807597, 0.07699096365804708, 0.14047822015797173, 0.2016550705828805,
    0.20707706966109313, 0.2149434079944158,
  ],
};

/** `rows` targets drawn from what is predicted, deviations varied; then `by` the deviation. */
function drawn(rows: number, by: number, shift = 0) {
  const noise = new RowNoise(11, Stream.model, 0, ids(rows)).normal(2).data;
  const mean = new Float64Array(2 * rows);
  const std = new Float64Array(2 * rows);
  const target = new Float64Array(2 * rows);
  for (let k = 0; k < 2 * rows; k++) {
    mean[k] = Math.sin(k) * 5;
    std[k] = 0.1 + ((k * 7) % 13);
    target[k] = mean[k] + (by * noise[k] + shift) * std[k];
  }
  const view = (data: Float64Array) => nd(data, [rows, 2]);
  return { predictions: { mean: view(mean), std: view(std) }, target: view(target) };
}

describe('pitValues', () => {
  test('are the distribution function of the mixture at the target, as in SciPy', () => {
    expect(pitValues({ mean, logVar }, target).data).toBeAllclose(expected.pit, close);
  });

  test('take standard deviations, variances and log-variances alike', () => {
    const std = nd(
      logVar.data.map((v) => Math.exp(v / 2)),
      shape,
    );
    const variance = nd(logVar.data.map(Math.exp), shape);
    for (const spread of [{ std }, { variance }]) {
      expect(pitValues({ mean, ...spread }, target).data).toBeAllclose(expected.pit, close);
    }
  });

  test('are uniform where predictions are calibrated', () => {
    const { predictions, target } = drawn(1000, 1);
    const pit = pitValues(predictions, target).data;
    expect(ksStatistic(pit, (x) => x)).toBeLessThan(ksCritical(pit.length));
    const wide = pitValues(predictions, drawn(1000, 0.8).target).data;
    expect(ksStatistic(wide, (x) => x)).toBeGreaterThan(ksCritical(wide.length));
  });

  test('of one member are those of a plain Gaussian', () => {
    const one = { mean: doubles([1, 2], [1, 1, 2]), std: doubles([3, 4], [1, 1, 2]) };
    const plain = { mean: doubles([1, 2], [1, 2]), std: doubles([3, 4], [1, 2]) };
    const y = doubles([4, 2], [1, 2]);
    expect(pitValues(one, y)).toEqual(pitValues(plain, y));
    // scipy.stats.norm.cdf(1), .5
    expect(pitValues(plain, y).data).toBeAllclose([0.8413447460685429, 0.5], close);
  });

  test('read elites, float32 and strided views', () => {
    const elites = [0, 2];
    const two = (view: NdView<Float64Array>) =>
      doubles([...view.data.slice(0, 6), ...view.data.slice(12)], [2, 2, 3]);
    const some = pitValues({ mean, logVar, elites }, target, { members: 'elite' });
    expect(some).toEqual(pitValues({ mean: two(mean), logVar: two(logVar) }, target));
    expect(pitValues({ mean, logVar, elites }, target)).toEqual(
      pitValues({ mean, logVar }, target),
    );
    // [D, B] in memory.
    const turned = { data: new Float64Array(6), shape: [2, 3], stride: [1, 2], offset: 0 };
    for (let k = 0; k < 6; k++) turned.data[(k % 3) * 2 + Math.floor(k / 3)] = target.data[k];
    expect(pitValues({ mean, logVar }, turned)).toEqual(pitValues({ mean, logVar }, target));
    const single = (view: NdView<Float64Array>) => nd(Float32Array.from(view.data), view.shape);
    const rounded = pitValues({ mean: single(mean), logVar: single(logVar) }, single(target));
    expect(rounded.data).toBeAllclose(expected.pit, { rtol: 1e-6, atol: 0 });
  });

  test('leave masked rows out, whatever they hold', () => {
    const broken = doubles([NaN64, 0.15, 1.1, 1.1, -0.9, 0.1], [2, 3]);
    const flat = nd(logVar.data.slice().fill(-Infinity, 0, 3), shape);
    const mask = Uint8Array.of(0, 1);
    const { data } = pitValues({ mean, logVar: flat }, broken, { mask });
    expect(data).toBeAllclose([NaN64, NaN64, NaN64, ...expected.pit.slice(3)], close);
  });

  test('refuse targets that are not finite, deviations of 0, and what does not fit', () => {
    const broken = doubles([0, 0, 0, 0, NaN64, 0], [2, 3]);
    expect(() => pitValues({ mean, logVar }, broken)).toThrow(
      'pitValues: target must be finite, got NaN in row 1, output 1; leave such rows out by the mask',
    );
    const std = nd(new Float64Array(18).fill(1).fill(0, 8, 9), shape);
    expect(() => pitValues({ mean, std }, target)).toThrow(
      'standard deviations must be positive and finite, got 0 in row 0, output 2',
    );
    expect(() =>
      pitValues(
        { mean: doubles([Infinity], [1, 1]), std: doubles([1], [1, 1]) },
        doubles([0], [1, 1]),
      ),
    ).toThrow(RangeError);
    expect(() => pitValues({ mean }, target)).toThrow('must have std, variance or logVar');
    expect(() => pitValues({ mean, std: target }, target)).toThrow(ShapeError);
    expect(() => pitValues({ mean, logVar }, mean)).toThrow(ShapeError);
    expect(() =>
      pitValues(
        { mean: nd(new Float64Array(0), [0, 2, 3]), logVar: nd(new Float64Array(0), [0, 2, 3]) },
        target,
      ),
    ).toThrow('must have members');
    expect(() => pitValues({ mean, logVar, elites: [3] }, target, { members: 'elite' })).toThrow(
      RangeError,
    );
    expect(() => pitValues({ mean, logVar }, target, { mask: new Uint8Array(3) })).toThrow(
      ShapeError,
    );
    // @ts-expect-error a misspelt option
    expect(() => pitValues({ mean, logVar }, target, { masks: 1 })).toThrow(TypeError);
  });
});

describe('gaussianCrps', () => {
  test('is the integral over the mixture, as by quadrature', () => {
    expect(gaussianCrps({ mean, logVar }, target).data).toBeAllclose(expected.crps, close);
  });

  test('of one Gaussian is the closed form', () => {
    const one = { mean: doubles([0], [1, 1]), std: doubles([2], [1, 1]) };
    // n = scipy.stats.norm; 2 * (1 * (2 * n.cdf(1) - 1) + 2 * n.pdf(1) - 1 / numpy.sqrt(numpy.pi))
    for (const y of [2, -2]) {
      const crps = gaussianCrps(one, doubles([y], [1, 1])).data[0];
      expect(crps).toBeCloseTo(1.2048827152552326, 14);
    }
  });

  test('is right far out and for members that are far apart', () => {
    const two = { mean: doubles([0, 5], [2, 1, 1]), std: doubles([0.5, 2], [2, 1, 1]) };
    // F = lambda x: (mpmath.ncdf(x, 0, .5) + mpmath.ncdf(x, 5, 2)) / 2; mpmath.mp.dps = 30
    // mpmath.quad(lambda x: F(x) ** 2, [-20, -5, -2, 0, 2, 4, 6, 8, 12, 16, 22, 30])
    //   + mpmath.quad(lambda x: (1 - F(x)) ** 2, [30, 40, 60])
    expect(gaussianCrps(two, doubles([30], [1, 1])).data[0]).toBeCloseTo(25.894784324556312, 13);
  });

  test('comes to the absolute error as the spread vanishes', () => {
    const sharp = { mean: doubles([1], [1, 1]), std: doubles([1e-9], [1, 1]) };
    expect(gaussianCrps(sharp, doubles([4], [1, 1])).data[0]).toBeCloseTo(3, 8);
  });

  test('has the unit of the target', () => {
    const scaled = gaussianCrps({ mean, logVar }, target, { scale: [2, 4, 8] }).data;
    expect(scaled).toBeAllclose(
      expected.crps.map((crps, k) => crps / [2, 4, 8][k % 3]),
      close,
    );
  });
});

describe('coverage', () => {
  test('is the share of |z| within the quantile', () => {
    const { predictions, target } = drawn(500, 1.3);
    const z = target.data.map((y, k) => (y - predictions.mean.data[k]) / predictions.std.data[k]);
    const { level, share } = coverage(pitValues(predictions, target));
    expect([...level]).toEqual([0.5, 0.9]);
    // scipy.stats.norm.ppf((1 + p) / 2)
    const within = (q: number) => z.filter((value) => Math.abs(value) <= q).length / z.length;
    expect([...share]).toEqual([within(0.6744897501960817), within(1.6448536269514722)]);
  });

  test('agrees with NumPy, leaves masked values out and is NaN for none', () => {
    // pit = numpy.arange(40) * 7919 % 1000 / 1000; [(abs(2 * pit - 1) <= p).mean() for p in (.5, .9)]
    const pit = Array.from({ length: 40 }, (_, i) => ((i * 7919) % 1000) / 1000);
    expect([...coverage(pit).share]).toEqual([0.45, 0.9]);
    const mask = Uint8Array.from([...pit.map(() => 1), 0]);
    expect([...coverage([...pit, NaN64], [0.9, 0], { mask }).share]).toEqual([0.9, 0]);
    expect([...coverage([], [0.5]).share]).toEqual([NaN64]);
  });

  test('takes the mask of rows that pitValues takes, as all its readers do', () => {
    const broken = doubles([NaN64, 0.15, 1.1, 1.1, -0.9, 0.1], [2, 3]);
    const mask = Uint8Array.of(0, 1);
    const pit = pitValues({ mean, logVar }, broken, { mask });
    const kept = pit.data.slice(3);
    expect(coverage(pit, [0.1], { mask })).toEqual(coverage(kept, [0.1]));
    expect(coverage(pit, [0.1], { mask: nd(mask) })).toEqual(coverage(kept, [0.1]));
    expect(calibrationCurve(pit, { mask })).toEqual(calibrationCurve(kept));
    expect(expectedCalibrationError(pit, { mask })).toBe(expectedCalibrationError(kept));
    expect(recalibrationMap(pit, { mask })).toEqual(recalibrationMap(kept));
    const ofValues = nd(Uint8Array.of(0, 0, 0, 1, 1, 1), [2, 3]);
    expect(expectedCalibrationError(pit, { mask: ofValues })).toBe(expectedCalibrationError(kept));
    expect(() => coverage(pit, [0.1], { mask: new Uint8Array(3) })).toThrow(ShapeError);
    expect(() => coverage(pit.data, [0.1], { mask })).toThrow(ShapeError);
    const turned = nd(ofValues.data, [3, 2]);
    expect(() => coverage(pit, [0.1], { mask: turned })).toThrow('must have one shape');
  });

  test('takes levels as a list alone, and a grid as a number of them', () => {
    expect([...coverage([0.5], Float64Array.of(0.5)).share]).toEqual([1]);
    for (const levels of [9, { mask: Uint8Array.of(1) }, null]) {
      expect(() => coverage([0.5], levels as unknown as number[])).toThrow(
        'coverage: levels must be a list of probabilities, such as [0.5, 0.9], got ',
      );
    }
    const one = { mean: doubles([0], [1, 1]), std: doubles([2], [1, 1]) };
    const report = modelCalibrationReport(one, doubles([2], [1, 1]), {
      levels: Float64Array.of(0.8),
    });
    expect([...report.coverage.level]).toEqual([0.8]);
    // @ts-expect-error a number
    expect(() => modelCalibrationReport(one, doubles([2], [1, 1]), { levels: 9 })).toThrow(
      'modelCalibrationReport: levels must be a list',
    );
    // @ts-expect-error a list
    expect(() => calibrationCurve([0.5], { grid: [0.5] })).toThrow(
      'calibrationCurve: grid must be a number of levels, got an array',
    );
  });

  test('refuses levels and values outside 0..1', () => {
    expect(() => coverage([0.5], [1.1])).toThrow('levels must lie in 0..1, got 1.1');
    for (const u of [NaN64, -0.1, 1.1]) {
      expect(() => coverage([0.5, u])).toThrow(`pit must lie in 0..1, got ${u} at 1`);
    }
  });
});

describe('expectedCalibrationError', () => {
  test('agrees with NumPy', () => {
    // p = numpy.arange(1, 100) / 100; abs((pit[:, None] <= p).mean(0) - p).mean()
    const pit = Array.from({ length: 40 }, (_, i) => ((i * 7919) % 1000) / 1000);
    expect(expectedCalibrationError(pit)).toBeCloseTo(0.016313131313131314, 14);
  });

  test('is the mean distance of the curve from the diagonal', () => {
    const pit = [0.1, 0.2, 0.2, 0.9];
    const { level, share } = calibrationCurve(pit, { grid: 4 });
    expect([...level]).toEqual([0.2, 0.4, 0.6, 0.8]);
    expect([...share]).toEqual([0.75, 0.75, 0.75, 0.75]);
    expect(expectedCalibrationError(pit, { grid: 4 })).toBeCloseTo(
      (0.55 + 0.35 + 0.15 + 0.05) / 4,
      14,
    );
  });

  test('is small for calibrated predictions, and sees wrong widths and wrong means', () => {
    const ece = (by: number, shift: number) => {
      const { predictions, target } = drawn(2000, by, shift);
      return expectedCalibrationError(pitValues(predictions, target));
    };
    // 0.31 / sqrt(4000) on average.
    expect(ece(1, 0)).toBeLessThan(0.02);
    expect(ece(2, 0)).toBeGreaterThan(0.05);
    expect(ece(0.5, 0)).toBeGreaterThan(0.05);
    expect(ece(1, 0.5)).toBeGreaterThan(0.1);
    expect(expectedCalibrationError([0, 0])).toBeCloseTo(0.5, 14);
    expect(expectedCalibrationError([])).toBeNaN();
  });

  test('refuses levels that are no count', () => {
    expect(() => expectedCalibrationError([0.5], { grid: 0 })).toThrow(RangeError);
    // @ts-expect-error a misspelt option
    expect(() => expectedCalibrationError([0.5], { level: 9 })).toThrow(TypeError);
  });
});

describe('isotonicRegression', () => {
  test('agrees with scikit-learn where places repeat and weights differ', () => {
    // i = numpy.arange(30); x = i * 7 % 11 / 10; y = i * 13 % 17 / 17; w = 1. + i % 3
    const i = Array.from({ length: 30 }, (_, k) => k);
    const map = isotonicRegression(
      i.map((k) => ((k * 7) % 11) / 10),
      i.map((k) => ((k * 13) % 17) / 17),
      { weight: i.map((k) => 1 + (k % 3)) },
    );
    // IsotonicRegression(out_of_bounds='clip').fit(x, y, sample_weight=w).predict([...])
    const at = [-1, 0, 0.13, 0.25, 0.4, 0.55, 0.78, 1, 2];
    const found = at.map((x) => isotonicValue(map, x));
    const here = [0.39037433, 0.39037433, 0.41587908, ...new Array(6).fill(0.47539016)];
    expect(found).toBeAllclose(here, { rtol: 1e-7, atol: 0 });
  });

  test('makes pairs of one place one before it pools', () => {
    const { x, y } = isotonicRegression([2, 1, 2], [1, 3, 9]);
    expect([...x]).toEqual([1, 2]);
    expect([...y]).toEqual([3, 5]);
  });

  test('leaves what rises as it is and pools what falls into its mean', () => {
    expect([...isotonicRegression([1, 2, 3], [0, 1, 5]).y]).toEqual([0, 1, 5]);
    const { x, y } = isotonicRegression([1, 2, 3], [5, 1, 0]);
    expect([...x]).toEqual([1, 3]);
    expect([...y]).toEqual([2, 2]);
    expect(isotonicRegression([1], [2])).toEqual({ x: Float64Array.of(1), y: Float64Array.of(2) });
    expect(isotonicValue(isotonicRegression([1], [2]), NaN64)).toBeNaN();
  });

  test('refuses nothing, numbers that are not finite and lengths that differ', () => {
    expect(() => isotonicRegression([], [])).toThrow('must have a value, got none');
    expect(() => isotonicRegression([1, NaN64], [1, 2])).toThrow('(NaN, 2), weight 1 at 1');
    expect(() => isotonicRegression([1], [1], { weight: [0] })).toThrow(RangeError);
    expect(() => isotonicRegression([1], [1, 2])).toThrow(ShapeError);
  });
});

describe('recalibrationMap', () => {
  test('makes new predictions of the same model calibrated', () => {
    const { predictions, target } = drawn(4000, 0.6, 0.3);
    const pit = pitValues(predictions, target).data;
    const even = pit.map((_, k) => k % 2);
    const mask = Uint8Array.from(even);
    const held = Uint8Array.from(even, (flag) => 1 - flag);
    const map = recalibrationMap(pit, { mask });
    const before = expectedCalibrationError(pit, { mask: held });
    const after = expectedCalibrationError(
      pit.map((u) => isotonicValue(map, u)),
      { mask: held },
    );
    expect(before).toBeGreaterThan(0.08);
    // Two samples of 4000: 0.31 sqrt(2 / 4000) on average.
    expect(after).toBeLessThan(0.02);
  });
});

describe('modelCalibrationReport', () => {
  test('agrees with NumPy and SciPy for an ensemble', () => {
    const report = modelCalibrationReport({ mean, logVar }, target);
    const average = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;
    expect(report).toMatchObject({ count: 2, members: 3 });
    // b = m.mean(0); v = (s ** 2).mean(0) + m.var(0)
    expect(report.mse).toBeCloseTo(0.003425925925925929, 14); // ((b - y) ** 2).mean()
    expect(report.nll).toBeCloseTo(average(expected.nll), 13);
    expect(report.crps).toBeCloseTo(average(expected.crps), 13);
    expect(report.sharpness).toBeCloseTo(0.7221523948475493, 14); // numpy.sqrt(v.mean())
    expect(report.recalibration).toBeCloseTo(0.10921548675858944, 14); // ((y - b) ** 2 / v).mean() ** .5
    expect(report.ece).toBeCloseTo(expectedCalibrationError(expected.pit), 14);
    expect([...report.coverage.share]).toEqual([1, 1]);
    expect([...report.byOutput.output]).toEqual([0, 1, 2]);
    // ((b - y) ** 2).mean(0), (b - y).mean(0)
    expect(report.byOutput.mse).toBeAllclose([0.00125, 0.0018055555555556, 0.0072222222222222], {
      rtol: 1e-12,
      atol: 0,
    });
    expect(report.byOutput.bias).toBeAllclose(
      [-0.025, 0.041666666666666664, -0.016666666666666666],
      {
        rtol: 1e-12,
        atol: 0,
      },
    );
    expect(report.byOutput.crps[1]).toBeCloseTo((expected.crps[1] + expected.crps[4]) / 2, 13);
    expect('spearman' in report).toBe(false);
  });

  test('of one Gaussian has the likelihood, CRPS and factor of the closed forms', () => {
    const one = { mean: doubles([0], [1, 1]), std: doubles([2], [1, 1]) };
    const report = modelCalibrationReport(one, doubles([2], [1, 1]));
    expect(report.nll).toBeCloseTo(2.112085713764618, 14); // -scipy.stats.norm(0, 2).logpdf(2)
    expect(report.crps).toBeCloseTo(1.2048827152552326, 14);
    expect(report).toMatchObject({ mse: 4, bias: -2, sharpness: 2, recalibration: 1 });
    expect([...report.coverage.share]).toEqual([0, 1]);
  });

  test('has the likelihood that umwelt/dynamics gives a single member', () => {
    const single = (view: NdView<Float64Array>, n: number) =>
      nd(
        Float32Array.from(view.data.subarray(0, n)),
        n === 6 && view === target ? [2, 3] : [1, 2, 3],
      );
    const member = { mean: single(mean, 6), logVar: single(logVar, 6) };
    const density = gaussianLogProb(member, single(target, 6)).data;
    const { nll } = modelCalibrationReport(member, single(target, 6));
    expect(nll).toBeCloseTo(-(density[0] + density[1]) / 6, 6);
  });

  test('keeps the likelihood of a target far out finite', () => {
    const two = { mean: doubles([0, 5], [2, 1, 1]), std: doubles([0.5, 2], [2, 1, 1]) };
    const { nll } = modelCalibrationReport(two, doubles([30], [1, 1]));
    // numpy.log(2) - numpy.logaddexp.reduce(scipy.stats.norm.logpdf(30, [0, 5], [.5, 2]))
    expect(nll).toBeCloseTo(80.43023289432456, 11);
    expect(modelCalibrationReport(two, doubles([1e6], [1, 1])).nll).toBeGreaterThan(1e11);
  });

  test('is infinite, and not undefined, for a target too far out for any number', () => {
    const sharp = { mean: doubles([0], [1, 1]), std: doubles([1e-160], [1, 1]) };
    expect(modelCalibrationReport(sharp, doubles([1], [1, 1]))).toMatchObject({
      nll: Infinity,
      crps: 1,
      recalibration: Infinity,
    });
    const hit = { mean: doubles([1], [1, 1]), std: doubles([1e-170], [1, 1]) };
    expect(modelCalibrationReport(hit, doubles([1], [1, 1])).recalibration).toBe(0);
  });

  test('has a CRPS where squares of deviations leave the range of numbers', () => {
    const pair = (std: number) => ({
      mean: doubles([1, 1], [2, 1, 1]),
      std: doubles([std, std], [2, 1, 1]),
    });
    expect(gaussianCrps(pair(1e-170), doubles([4], [1, 1])).data[0]).toBe(3);
    const wide = gaussianCrps(pair(1e200), doubles([1], [1, 1])).data[0];
    // (numpy.sqrt(2) - 1) / numpy.sqrt(numpy.pi)
    expect(wide / 1e200).toBeCloseTo(0.23369497725510913, 14);
  });

  test('gives the factor by which deviations must grow', () => {
    const { predictions, target } = drawn(2000, 1.7);
    const { recalibration } = modelCalibrationReport(predictions, target);
    expect(recalibration).toBeCloseTo(1.7, 1);
    const std = nd(
      predictions.std.data.map((s) => s * recalibration),
      [2000, 2],
    );
    const corrected = modelCalibrationReport({ mean: predictions.mean, std }, target);
    expect(corrected.recalibration).toBeCloseTo(1, 12);
    expect(corrected.ece).toBeLessThan(0.02);
    expect(corrected.nll).toBeLessThan(modelCalibrationReport(predictions, target).nll);
  });

  test('takes a unit for each output', () => {
    const plain = modelCalibrationReport({ mean, logVar }, target).byOutput;
    const scale = [2, 4, 8];
    const scaled = modelCalibrationReport({ mean, logVar }, target, { scale }).byOutput;
    expect(scaled.mse).toBeAllclose(
      plain.mse.map((v, d) => v / scale[d] ** 2),
      close,
    );
    expect(scaled.sharpness).toBeAllclose(
      plain.sharpness.map((v, d) => v / scale[d]),
      close,
    );
    expect(scaled.nll).toBeAllclose(
      plain.nll.map((v, d) => v - Math.log(scale[d])),
      close,
    );
    expect(scaled.ece).toBeAllclose(plain.ece, close);
    expect(scaled.recalibration).toBeAllclose(plain.recalibration, close);
  });

  test('ranks uncertainty against error over the rows that count', () => {
    const std = doubles([1, 1, 1, 1], [4, 1]);
    const four = { mean: doubles([0, 0, 0, 0], [4, 1]), std };
    const y = doubles([1, -3, 2, NaN64], [4, 1]);
    const mask = Uint8Array.of(1, 1, 1, 0);
    const uncertainty = Float32Array.of(0.1, 0.3, 0.2, NaN64);
    const report = modelCalibrationReport(four, y, { uncertainty, mask });
    expect(report.spearman).toBe(1);
    expect(report.count).toBe(3);
    expect(report.mse).toBeCloseTo(14 / 3, 14);
    expect(() => modelCalibrationReport(four, y, { uncertainty: [1], mask })).toThrow(ShapeError);
  });

  test('is NaN without rows, and defined for one', () => {
    const none = { mean: doubles([], [0, 2]), std: doubles([], [0, 2]) };
    const report = modelCalibrationReport(none, doubles([], [0, 2]), { uncertainty: [] });
    expect(report.count).toBe(0);
    for (const name of [
      'mse',
      'nll',
      'crps',
      'sharpness',
      'ece',
      'recalibration',
      'spearman',
    ] as const) {
      expect(report[name]).toBeNaN();
    }
    expect([...report.byOutput.mse, ...report.coverage.share]).toEqual(new Array(4).fill(NaN64));
    const one = { mean: doubles([0, 1], [1, 2]), std: doubles([1, 1], [1, 2]) };
    const single = modelCalibrationReport(one, doubles([0, 1], [1, 2]), { uncertainty: [3] });
    expect(single.mse).toBe(0);
    expect(single.ece).toBeCloseTo(0.2525252525, 9);
    expect(single.spearman).toBeNaN();
  });

  test('prints as tables', () => {
    const one = { mean: doubles([0, 0], [2, 1]), std: doubles([2, 2], [2, 1]) };
    const report = modelCalibrationReport(one, doubles([2, -2], [2, 1]), { uncertainty: [1, 2] });
    // The ECE by hand: pit 0.1587 and 0.8413, so (1.2 + 11.9 + 1.2) / 99.
    expect(reportTable(report)).toBe(
      `
count          2
members        1
mse            4
bias           0
nll            2.112
crps           1.205
sharpness      2
ece            0.1444
recalibration  1
spearman       NaN

coverage:
 level  share
0.5000      0
0.9000      1

byOutput:
output  mse  bias    nll   crps  sharpness     ece  recalibration
     0    4     0  2.112  1.205          2  0.1444              1
`.trim(),
    );
  });
});
