import { nd, ShapeError } from 'umwelt';
import { gaussianCrps, openLoopError, sampleReport } from 'umwelt/evaluation';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { ids } from '../support/models.js';

const close = { rtol: 1e-12, atol: 0 };
/** Samples `[B, M, S]` of one step as `[B, M, 2, S]`, with starts that must not count. */
function oneStep(samples: number[][][]) {
  const withStart = samples.map((row) => row.map((x) => [x.map(() => 99), x]));
  return nd(Float64Array.from(withStart.flat(3)), [
    samples.length,
    samples[0].length,
    2,
    samples[0][0].length,
  ]);
}

const samples = oneStep([
  [
    [1, 2],
    [0, 1],
    [-1, 3],
  ],
  [
    [2, 2],
    [2.5, 1],
    [4, 0],
  ],
]);
const truth = nd(new Float64Array([0, 0, 0.5, 1.5, 0, 0, 3, 1]), [2, 2, 2]);

describe('sampleReport', () => {
  test('agrees with NumPy', () => {
    // e = (x - y[:, None]) / [1, 2]; n = numpy.linalg.norm
    const report = sampleReport(samples, truth, { scale: [1, 2] });
    expect(report.samples).toBe(3);
    expect([...report.count]).toEqual([2]);
    // numpy.sqrt((e.mean(1) ** 2).mean())
    expect(report.rmseOfMean).toBeAllclose([0.2916666666666667], close);
    // numpy.sqrt((e ** 2).mean())
    expect(report.rmseOfOne).toBeAllclose([0.7180703308172536], close);
    // numpy.sqrt((e ** 2).sum(-1).min(1).mean() / 2)
    expect(report.rmseOfBest).toBeAllclose([0.375], close);
    // (n(e, axis=-1).mean(1) - n(e[:, :, None] - e[:, None], axis=-1).mean((1, 2)) / 2) / 2 ** .5
    expect(report.energyScore).toBeAllclose([0.2936592815144776], close);
    expect(report.perRow.data).toBeAllclose([0.2978848, 0.28943376], { rtol: 1e-6, atol: 0 });
  });

  test('of one sample is the error of that sample', () => {
    const one = oneStep([[[1, 2]], [[2, 2]]]);
    const report = sampleReport(one, truth);
    const error = openLoopError(nd(one.data, [2, 2, 2]), truth);
    for (const name of ['rmseOfMean', 'rmseOfOne', 'rmseOfBest'] as const) {
      expect(report[name]).toBeAllclose(error.rmse, close);
    }
    expect(report.perRow.data).toBeAllclose(error.perRow.data, { rtol: 1e-6, atol: 0 });
  });

  test('has an energy score that comes to the CRPS of what the samples are drawn from', () => {
    const M = 2000;
    const rows = [-1.5, 0, 0.4, 3];
    const noise = new RowNoise(5, Stream.model, 0, ids(rows.length)).normal(M).data;
    const drawn = oneStep(
      rows.map((_, row) => Array.from({ length: M }, (_, m) => [2 * noise[row * M + m]])),
    );
    const actual = nd(Float64Array.from(rows.flatMap((y) => [0, y])), [4, 2, 1]);
    const { perRow } = sampleReport(drawn, actual);
    const ones = nd(new Float64Array(4).fill(2), [4, 1]);
    const crps = gaussianCrps(
      { mean: nd(new Float64Array(4), [4, 1]), std: ones },
      nd(Float64Array.from(rows), [4, 1]),
    );
    // The score is a mean over M samples of numbers that vary by about 2.
    expect(perRow.data).toBeAllclose(crps.data, { rtol: 0, atol: (3 * 2) / Math.sqrt(M) });
  });

  test('prefers a spread that is right to none and to too much', () => {
    const rows = 400;
    const M = 16;
    const noise = new RowNoise(6, Stream.model, 0, ids(rows)).normal(M + 1).data;
    const spread = (by: number) =>
      sampleReport(
        oneStep(
          Array.from({ length: rows }, (_, row) =>
            Array.from({ length: M }, (_, m) => [by * noise[row * (M + 1) + m + 1]]),
          ),
        ),
        nd(
          Float64Array.from({ length: 2 * rows }, (_, i) => (i % 2) * noise[(i >> 1) * (M + 1)]),
          [rows, 2, 1],
        ),
      ).energyScore[0];
    expect(spread(1)).toBeLessThan(spread(0.05));
    expect(spread(1)).toBeLessThan(spread(4));
  });

  test('leaves masked steps out and is NaN without rows', () => {
    const broken = nd(samples.data.slice().fill(Number.NaN, 12), samples.shape);
    const mask = nd(new Uint8Array([1, 0]), [2, 1]);
    const report = sampleReport(broken, truth, { mask });
    expect([...report.count]).toEqual([1]);
    expect(report.perRow.data[1]).toBeNaN();
    expect(() => sampleReport(broken, truth)).toThrow(
      'got another at row 1, sample 0, horizon 1; leave it out by the mask',
    );
    const none = sampleReport(
      nd(new Float32Array(0), [0, 4, 3, 2]),
      nd(new Float32Array(0), [0, 3, 2]),
    );
    expect([...none.energyScore, ...none.rmseOfBest]).toEqual(new Array(4).fill(Number.NaN));
  });

  test('reads what happened as sequences, of which the masked steps do not count', () => {
    const broken = nd(samples.data.slice().fill(Number.NaN, 12), samples.shape);
    const mask = nd(new Uint8Array([1, 0]), [2, 1]);
    const sequences = { obs: truth, mask };
    expect(sampleReport(broken, sequences)).toEqual(sampleReport(broken, truth, { mask }));
    expect(sampleReport(samples, { obs: truth })).toEqual(sampleReport(samples, truth));
    const other = nd(new Uint8Array([0, 1]), [2, 1]);
    expect([...sampleReport(samples, sequences, { mask: other }).count]).toEqual([0]);
    const wrong = { obs: truth, mask: nd(new Uint8Array(4), [2, 2]) };
    expect(() => sampleReport(samples, wrong)).toThrow(
      'sampleReport: actual.mask must have shape [B, T] = [2, 1]',
    );
    // @ts-expect-error neither states nor sequences
    expect(() => sampleReport(samples, { mask })).toThrow(
      'actual must be sequences { obs } or a view [B, T+1, S], got an Object',
    );
  });

  test('refuses shapes that do not fit together', () => {
    expect(() => sampleReport(truth, truth)).toThrow(ShapeError);
    expect(() => sampleReport(nd(new Float32Array(0), [2, 0, 2, 2]), truth)).toThrow(
      'M and S at least 1',
    );
    expect(() => sampleReport(samples, nd(new Float32Array(6), [2, 3, 1]))).toThrow(ShapeError);
    // @ts-expect-error a misspelt option
    expect(() => sampleReport(samples, truth, { scales: [1, 1] })).toThrow(TypeError);
  });
});
