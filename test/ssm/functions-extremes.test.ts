import { type NdView, nd } from 'umwelt';
import { causalConv1d, selectiveScan, ssd } from 'umwelt/ssm';
import { describe, expect, test } from 'vitest';
import {
  type Call,
  type CallSpec,
  cut,
  elements,
  exps,
  type FunctionName,
  filled,
  functionNames,
  makeCall,
  memoryOf,
  relativeRms,
  rowsOf,
  run,
  silus,
  softpluses,
  steps,
  variants,
  withArrays,
} from './arrays.js';

// Python: import torch; from torch.nn import functional as F; inf, nan = torch.inf, torch.nan

/** The least normal float32: below it results may be flushed to 0. */
const LEAST = 2 ** -126;

/** Enough channels of each number that it comes in whole chunks and in the rest of one. */
function spreadOut(numbers: readonly number[]): Float32Array {
  return Float32Array.from({ length: 17 * numbers.length }, (_, i) => numbers[i % numbers.length]);
}

/** Calls with everything in them: three rows of seven steps. */
const everything: Readonly<Record<FunctionName, CallSpec>> = {
  selectiveScan: {
    seed: 11,
    lengths: { B: 3, L: 7, G: 2, E: 19, N: 5 },
    having: ['grouped', 'D', 'z', 'bias', 'softplus', 'state'],
  },
  ssd: {
    seed: 12,
    lengths: { B: 3, L: 7, G: 2, E: 3, P: 19, N: 5 },
    having: ['D', 'z', 'bias', 'softplus', 'limit', 'state'],
  },
  causalConv1d: {
    seed: 13,
    lengths: { B: 3, L: 7, C: 35, K: 4 },
    having: ['bias', 'silu', 'state'],
  },
};

describe.each(variants)('with the %s kernels', (variant) => {
  const memory = memoryOf(variant);

  test.each(Object.entries(exps))('a decay underflows to 0: %s', (_, exp) => {
    const x = [-1e-3, -1, -20, -50, -80, -87, -88, -100, -104, -1e4, -1e30];
    // torch.exp(torch.tensor([-1e-3, -1, -20, -50, -80, -87, -88, -100, -104, -1e4, -1e30]))
    const expected = spreadOut([
      0.9990004897117615, 0.3678794503211975, 2.06115369216775e-9, 1.9287498933537385e-22,
      1.8048513285848406e-35, 1.6458114537543937e-38, 6.054601485195952e-39, 3.783505853677006e-44,
      0, 0, 0,
    ]);
    const decays = exp(spreadOut(x), memory);
    expect(decays).toBeAllclose(expected, { rtol: 7e-6, atol: LEAST });
    expect(decays.every((decay, i) => decay === 0 || x[i % x.length] > -104)).toBe(true);
  });

  test.each([-104, -1e4, -1e30, -Infinity])('a decay of e^%d leaves the present input', (rate) => {
    const [L, D] = [5, 21];
    const u = filled([1, L, D], () => 3);
    const delta = filled([1, L, D], () => 1);
    const A = filled([D, 2], () => rate);
    const BC = filled([1, L, 2], () => 0.5);
    const { y, lastState } = selectiveScan(u, delta, A, BC, BC, {
      state: filled([1, D, 2], () => 1e30),
      memory,
    });
    expect([...elements(y)]).toEqual(Array(L * D).fill(1.5));
    expect([...elements(lastState)]).toEqual(Array(2 * D).fill(1.5));
  });

  test.each(Object.entries(softpluses))('softplus is as in PyTorch: %s', (_, softplus) => {
    const x = [
      -Infinity,
      -1e4,
      -104,
      -88,
      -20,
      -16.5,
      -16,
      -15.5,
      -1e-3,
      -0,
      0,
      1e-3,
      16,
      19.999998,
      20,
      20.000002,
      88,
      89,
      1e4,
      3e38,
      Infinity,
      NaN,
    ];
    // F.softplus(torch.tensor([-inf, -1e4, -104, -88, -20, -16.5, -16, -15.5, -1e-3, -0.0, 0, 1e-3,
    //   16, 19.999998, 20, 20.000002, 88, 89, 1e4, 3e38, inf, nan]))
    const expected = spreadOut([
      0,
      0,
      0,
      6.054601485195952e-39,
      2.06115369216775e-9,
      6.825603549032166e-8,
      1.1253516873921399e-7,
      1.8553912184415822e-7,
      0.6926472783088684,
      0.6931471824645996,
      0.6931471824645996,
      0.6936473250389099,
      16,
      19.999998092651367,
      20,
      20.000001907348633,
      88,
      89,
      1e4,
      3.0000000054977558e38,
      Infinity,
      NaN,
    ]);
    expect(softplus(spreadOut(x), memory)).toBeAllclose(expected, { rtol: 2e-6, atol: LEAST });
  });

  test.each(Object.entries(silus))('silu is as in PyTorch: %s', (_, silu) => {
    const x = [
      -Infinity,
      -1e30,
      -1e4,
      -88,
      -20,
      -16,
      -1,
      -1e-3,
      0,
      1e-3,
      1,
      16,
      20,
      88,
      1e4,
      3e38,
      Infinity,
      NaN,
    ];
    // F.silu(torch.tensor([-inf, -1e30, -1e4, -88, -20, -16, -1, -1e-3, 0, 1e-3, 1, 16, 20, 88, 1e4,
    //   3e38, inf, nan])); -inf is -inf / (1 + inf), no number
    const expected = spreadOut([
      NaN,
      0,
      0,
      -5.328049755387946e-37,
      -4.1223074731533416e-8,
      -1.8005624724537483e-6,
      -0.2689414322376251,
      -0.0004997500218451023,
      0,
      0.000500250025652349,
      0.7310585975646973,
      15.999998092651367,
      20,
      88,
      1e4,
      3.0000000054977558e38,
      Infinity,
      NaN,
    ]);
    expect(silu(spreadOut(x), memory)).toBeAllclose(expected, { rtol: 7e-6, atol: 0 });
  });

  test.each(functionNames)('a state of 1e30 keeps its digits: %s', (name) => {
    const call = makeCall(name, everything[name]);
    const { state } = call.arrays;
    const large = withArrays(call, {
      state: nd(
        elements(state).map((x) => 1e30 * x),
        state.shape,
      ),
    });
    for (const end of [1, 7]) {
      const expected = run(steps(large, 0, end), { memory: memoryOf('scalar') });
      const actual = run(steps(large, 0, end), { memory });
      expect(elements(actual.y).every(Number.isFinite)).toBe(true);
      expect(relativeRms(elements(actual.y), elements(expected.y))).toBeLessThan(1e-6);
      const states = [elements(actual.lastState), elements(expected.lastState)];
      expect(relativeRms(states[0], states[1])).toBeLessThan(1e-6);
    }
  });

  test('a state of 1e30 fades as the formula says', () => {
    const D = 18;
    const zero = filled([1, 1, 1], () => 0);
    const one = filled([1, 1, 1], () => 1);
    const { y } = selectiveScan(
      filled([1, 1, D], () => 0),
      filled([1, 1, D], () => 0.5),
      filled([D, 1], () => -2),
      zero,
      one,
      { state: filled([1, D, 1], () => 1e30), memory },
    );
    // (1e30 * torch.exp(torch.tensor(-1.0))).item()
    expect(elements(y)).toBeAllclose(Array(D).fill(3.678794514547356e29), { rtol: 3e-7 });
  });

  test('a state beyond float32 is infinite and no NaN', () => {
    const D = 18;
    const BC = filled([1, 2, 1], () => 1);
    const { lastState } = selectiveScan(
      filled([1, 2, D], () => 1),
      filled([1, 2, D], () => 1),
      filled([D, 1], () => 60),
      BC,
      BC,
      { state: filled([1, D, 1], () => 1e30), memory },
    );
    expect([...elements(lastState)]).toEqual(Array(D).fill(Infinity));
  });

  test('a subnormal state is kept by a step size of 0', () => {
    const state = filled([1, 18, 1], () => 1e-40);
    const zero = (shape: number[]) => filled(shape, () => 0);
    const { lastState } = selectiveScan(
      zero([1, 1, 18]),
      zero([1, 1, 18]),
      filled([18, 1], () => -1),
      zero([1, 1, 1]),
      zero([1, 1, 1]),
      { state, memory },
    );
    expect(elements(lastState)).toBeBitEqual(state.data);
  });

  describe.each(functionNames)('a poisoned state of %s', (name) => {
    const call = makeCall(name, everything[name]);

    test.each([NaN, Infinity, -Infinity])('of %d is gone after a reset', (poison) => {
      const { state } = call.arrays;
      const poisoned = withArrays(call, { state: nd(elements(state).fill(poison), state.shape) });
      // Row 0 starts anew at step 0, row 1 never, row 2 at steps 3 and 5.
      const result = run(resetAt(poisoned, [0, 0], [2, 3], [2, 5]), { memory });
      expectFresh(result, 0, 0);
      expectFresh(result, 2, 5);
      const unreset = run(poisoned, { memory });
      const [never, before] = [rowsOf(result.y, [1]), rowsOf(cut(result.y, 1, 0, 3), [2])];
      expect(elements(never)).toBeBitEqual(elements(rowsOf(unreset.y, [1])));
      expect(elements(before)).toBeBitEqual(elements(rowsOf(cut(unreset.y, 1, 0, 3), [2])));
      // The poison did reach what it was to reach: a window of four is clean after three steps.
      expect(elements(cut(never, 1, 0, 1)).some((x) => !Number.isFinite(x))).toBe(true);
      expect(elements(cut(before, 1, 0, 1)).some((x) => !Number.isFinite(x))).toBe(true);
      if (name === 'causalConv1d') return;
      const stays = elements(rowsOf(result.lastState, [1]));
      expect(stays.every((x) => !Number.isFinite(x))).toBe(true);
    });

    test.each([NaN, Infinity, -Infinity])('by inputs of %d is gone after a reset', (poison) => {
      const [first] = Object.keys(call.arrays);
      const input = call.arrays[first] as NdView;
      const wrong = nd(elements(input), input.shape);
      const perStep = wrong.data.length / (3 * 7);
      for (const row of [0, 1, 2]) {
        const at = (row * 7 + 2) * perStep;
        wrong.data.fill(poison, at, at + perStep);
      }
      const poisoned = withArrays(call, { [first]: wrong });
      const result = run(resetAt(poisoned, [0, 3], [2, 4]), { memory });
      expectFresh(result, 0, 3);
      expectFresh(result, 2, 4);
      const after = elements(rowsOf(cut(result.y, 1, 3, 4), [2]));
      expect(after.some((x) => !Number.isFinite(x))).toBe(true);
    });

    /** Checks that a row's results from a step on are those of a state that nothing came before. */
    function expectFresh(result: ReturnType<typeof run>, row: number, t: number): void {
      const fresh = run(withArrays(steps(call, t, 7), { state: undefined }), { memory });
      const y = rowsOf(cut(result.y, 1, t, 7), [row]);
      expect(elements(y)).toBeBitEqual(elements(rowsOf(fresh.y, [row])));
      expect(elements(rowsOf(result.lastState, [row]))).toBeBitEqual(
        elements(rowsOf(fresh.lastState, [row])),
      );
      expect(elements(y).every(Number.isFinite)).toBe(true);
    }
  });

  test('bounds of dt let NaN pass and hold infinities', () => {
    const dt = [NaN, -Infinity, Infinity, -0, 0.05];
    // torch.tensor([nan, -inf, inf, -0.0, 0.05]).clamp(0.001, 0.1)
    const expected = [
      NaN,
      0.0010000000474974513,
      0.10000000149011612,
      0.0010000000474974513,
      0.05000000074505806,
    ];
    const [H, P] = [dt.length, 17];
    const one = filled([1, 1, 1, 1], () => 1);
    const { y, lastState } = ssd(
      filled([1, 1, H, P], () => 1),
      nd(Float32Array.from(dt), [1, 1, H]),
      new Float32Array(H).fill(-1),
      one,
      one,
      { dtLimit: [0.001, 0.1], memory },
    );
    const ofChannels = expected.flatMap((x) => Array<number>(P).fill(x));
    expect(elements(y)).toBeAllclose(ofChannels, { rtol: 1e-7 });
    expect(elements(lastState)).toBeAllclose(ofChannels, { rtol: 1e-7 });
  });

  test('bounds of 0 and infinity, the default of Mamba-2, change no step size', () => {
    const call = makeCall('ssd', {
      ...everything.ssd,
      having: ['D', 'z', 'bias', 'softplus', 'state'],
    });
    const bounded = { ...call, options: { ...call.options, dtLimit: [0, Infinity] } };
    const [plain, same] = [run(call, { memory }), run(bounded, { memory })];
    expect(elements(same.y)).toBeBitEqual(elements(plain.y));
    expect(elements(same.lastState)).toBeBitEqual(elements(plain.lastState));
  });

  test('-0 counts as 0', () => {
    const state = filled([1, 18, 2], () => -2.5);
    const negative = (shape: number[]) => filled(shape, () => -0);
    const A = filled([18, 2], () => -1);
    const BC = filled([1, 1, 2], () => 1);
    const scan = (delta: NdView) => selectiveScan(delta, delta, A, BC, BC, { state, memory });
    const minus = scan(negative([1, 1, 18]));
    expect([...elements(minus.y)]).toEqual(Array(18).fill(-5));
    expect([...elements(minus.lastState)]).toEqual([...state.data]);
    const { y } = causalConv1d(
      negative([1, 3, 18]),
      filled([18, 2], () => 1),
      { memory },
    );
    expect(elements(y).every((x) => x === 0)).toBe(true);
  });
});

/** The call with resets at some `[row, step]`. */
function resetAt(call: Call, ...places: readonly (readonly [row: number, t: number])[]): Call {
  const flags = new Uint8Array(3 * 7);
  for (const [row, t] of places) flags[row * 7 + t] = 1;
  return withArrays(
    { ...call, letters: { ...call.letters, reset: 'BL' } },
    { reset: nd(flags, [3, 7]) },
  );
}
