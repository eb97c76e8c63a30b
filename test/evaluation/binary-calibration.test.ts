import { nd, ShapeError } from 'umwelt';
import { binaryCalibrationReport, brierScore, reportTable } from 'umwelt/evaluation';
import { describe, expect, test } from 'vitest';

// i = numpy.arange(30); p = i * 37 % 101 / 100.; o = (i * i % 7 < 3).astype(int)
const probability = Array.from({ length: 30 }, (_, i) => ((i * 37) % 101) / 100);
const outcome = Uint8Array.from({ length: 30 }, (_, i) => ((i * i) % 7 < 3 ? 1 : 0));

describe('brierScore', () => {
  test('agrees with scikit-learn', () => {
    // sklearn.metrics.brier_score_loss(o, p)
    expect(brierScore(probability, outcome)).toBeCloseTo(0.42360666666666674, 14);
  });

  test('is the same for the opposite event', () => {
    const goesOn = probability.map((p) => 1 - p);
    const wentOn = outcome.map((o) => 1 - o);
    expect(brierScore(goesOn, wentOn)).toBeCloseTo(brierScore(probability, outcome), 14);
  });

  test('is 0 for certainty that is right, 1 for certainty that is wrong, NaN for nothing', () => {
    expect(brierScore([0, 1], Uint8Array.of(0, 1))).toBe(0);
    expect(brierScore([0, 1], Uint8Array.of(1, 0))).toBe(1);
    expect(brierScore([], new Uint8Array())).toBeNaN();
  });

  test('reads views and leaves masked predictions out', () => {
    const p = {
      data: new Float32Array([0.5, 9, 0.25, 9]),
      shape: [1, 2],
      stride: [4, 2],
      offset: 0,
    };
    const y = nd(Uint8Array.of(1, 0), [1, 2]);
    expect(brierScore(p, y)).toBe((0.25 + 0.0625) / 2);
    const mask = Uint8Array.of(1, 0);
    expect(brierScore([0.5, Number.NaN], Uint8Array.of(1, 1), { mask })).toBe(0.25);
  });

  test('refuses what is no probability and lengths that differ', () => {
    for (const p of [-0.1, 1.1, Number.NaN]) {
      expect(() => brierScore([0, p], Uint8Array.of(0, 0))).toThrow(
        `brierScore: probability must lie in 0..1, got ${p} at 1; leave it out by the mask`,
      );
    }
    expect(() => brierScore([0, 1], Uint8Array.of(1))).toThrow(ShapeError);
    const turned = nd(new Uint8Array(6), [3, 2]);
    expect(() => brierScore(nd(new Float32Array(6), [2, 3]), turned)).toThrow(
      'brierScore: probability and outcome must have one shape, got [2, 3] and [3, 2]',
    );
    // @ts-expect-error outcomes are uint8
    expect(() => brierScore([0, 1], [false, true])).toThrow(TypeError);
  });
});

describe('binaryCalibrationReport', () => {
  test('bins by equal width and agrees with NumPy', () => {
    const report = binaryCalibrationReport(probability, outcome);
    expect(report.count).toBe(30);
    expect(report.rate).toBeCloseTo(0.7333333333333333, 14);
    expect(report.brier).toBe(brierScore(probability, outcome));
    // b = numpy.minimum((p * 10).astype(int), 9)
    // sum(abs(o[b == k].mean() - p[b == k].mean()) * (b == k).sum() for k in range(10)) / 30
    expect(report.ece).toBeCloseTo(0.4386666666666667, 14);
    expect([...report.bins.count]).toEqual(new Array(10).fill(3));
    expect(report.skill).toBeCloseTo(1 - report.brier / (report.rate * (1 - report.rate)), 14);
  });

  test('returns the bins: mean probability, share that happened, how many', () => {
    const p = [0, 0.2, 0.25, 0.5, 1, 1];
    const report = binaryCalibrationReport(p, Uint8Array.of(0, 1, 0, 1, 1, 0), { bins: 4 });
    expect([...report.bins.from]).toEqual([0, 0.25, 0.5, 0.75]);
    // A probability on a border belongs to the bin above; 1 to the last.
    expect([...report.bins.count]).toEqual([2, 1, 1, 2]);
    expect([...report.bins.confidence]).toEqual([0.1, 0.25, 0.5, 1]);
    expect([...report.bins.frequency]).toEqual([0.5, 0, 1, 0.5]);
    expect(report.ece).toBeCloseTo((2 * 0.4 + 0.25 + 0.5 + 2 * 0.5) / 6, 14);
    // Brier: (0 + 0.64 + 0.0625 + 0.25 + 0 + 1) / 6.
    expect(reportTable(report)).toBe(
      `
count  6
rate   0.5000
brier  0.3254
skill  -0.3017
ece    0.4250

bins:
  from  count  confidence  frequency
0           2      0.1000     0.5000
0.2500      1      0.2500     0
0.5000      1      0.5000     1
0.7500      2      1          0.5000
`.trim(),
    );
  });

  test('counts a probability in the bin whose border it is', () => {
    // 0.29 * 100 is 28.999999999999996.
    const p = Array.from({ length: 100 }, (_, i) => i / 100);
    const { bins } = binaryCalibrationReport(p, new Uint8Array(100), { bins: 100 });
    expect([...bins.count]).toEqual(new Array(100).fill(1));
    expect(bins.confidence).toEqual(bins.from);
  });

  test('has NaN in empty bins and no skill to speak of where outcomes are all the same', () => {
    const report = binaryCalibrationReport([0.1], Uint8Array.of(0), { bins: 2 });
    expect([...report.bins.frequency]).toEqual([0, Number.NaN]);
    expect(report.ece).toBeCloseTo(0.1, 14);
    expect(report.skill).toBe(-Infinity);
    expect(binaryCalibrationReport([], new Uint8Array()).ece).toBeNaN();
  });

  test('refuses bins that are no count', () => {
    expect(() => binaryCalibrationReport([], new Uint8Array(), { bins: 0 })).toThrow(RangeError);
    // @ts-expect-error a misspelt option
    expect(() => binaryCalibrationReport([], new Uint8Array(), { bin: 3 })).toThrow(TypeError);
  });
});
