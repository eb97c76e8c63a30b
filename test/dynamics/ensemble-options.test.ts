/** What may be injected into an ensemble, and the edges of what it can be asked. */

import * as ort from 'onnxruntime-node';
import {
  EnsembleDynamics,
  imagine,
  maxPairwiseDifference,
  type NdView,
  nd,
  packed,
  ShapeError,
} from 'umwelt';
import {
  type EnsembleOptions,
  ensembleStd,
  modelContext,
  selectElites,
  TransitionFilter,
} from 'umwelt/dynamics';
import { ModelContractError } from 'umwelt/runtime';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../runtime/refusal.js';
import { ids, inRepository, readJson, toyEnsemble } from '../support/models.js';

interface Expected {
  obs: number[][];
  action: number[][];
  mean: number[][][];
  logVar: number[][][];
}

// Three members of which 0 and 2 are elites; three observations that change, then the reward.
const toy = readJson<Expected>('test/fixtures/ensembles/expected.json');
const rows = toy.obs.length;
const close = { rtol: 1e-4, atol: 1e-5 };

const load = (options: EnsembleOptions = {}, form = 'separate') =>
  EnsembleDynamics.load(ort, toyEnsemble(form), options);

async function stepToy(options: EnsembleOptions, prediction = true) {
  await using model = await load(options);
  const context = modelContext(3, ids(rows), { prediction });
  return await model.step({ obs: nd(toy.obs) }, nd(toy.action), context);
}

describe('deterministic', () => {
  test('takes the mean of each row’s member', async () => {
    for (const prediction of [true, false]) {
      const drawn = await stepToy({}, prediction);
      const calm = await stepToy({ deterministic: true }, prediction);
      const member = calm.extras?.member as Int32Array;
      // The same members, drawn in a stream of their own.
      expect(member).toEqual(drawn.extras?.member);
      expect(calm.obs.data).not.toEqual(drawn.obs.data);
      for (let row = 0; row < rows; row++) {
        const mean = toy.mean[member[row]][row];
        for (let i = 0; i < 3; i++) {
          expect(calm.obs.data[3 * row + i]).toBeCloseTo(toy.obs[row][i] + mean[i], 5);
        }
        expect(calm.reward[row]).toBeCloseTo(mean[3], 5);
      }
    }
  });

  test('does not go with a filter', async () => {
    const filter = new TransitionFilter({ score: () => new Float32Array(0) } as never);
    await expect(load({ filter, deterministic: true })).rejects.toThrow(
      /deterministic must be left out with a filter/,
    );
  });
});

describe('predict', () => {
  test('gives every member’s prediction and chooses none', async () => {
    await using model = await load();
    const prediction = await model.predict(nd(toy.obs), nd(toy.action));
    expect(packed(prediction.mean)).toBeAllclose(toy.mean.flat(2), close);
    expect(prediction.sample).toBeUndefined();
    expect([...prediction.member]).toEqual(new Array(rows).fill(-1));
    expect(prediction.obs.data).toEqual(nd(toy.obs).data);
    await expect(model.predict(nd([[1]]), nd(toy.action))).rejects.toThrow(ShapeError);
  });

  test('says where outputs would lead', async () => {
    await using model = await load();
    const prediction = await model.predict(nd(toy.obs), nd(toy.action));
    const { arrive } = prediction;
    const { nextObs, reward } = arrive(nd(toy.obs.map(() => [1, 2, 3, 4])));
    const moved = toy.obs.flatMap(([x, y, z]) => [x + 1, y + 2, z + 3]);
    expect(packed(nextObs)).toBeAllclose(moved, { rtol: 1e-6 });
    expect([...(reward ?? [])]).toEqual(new Array(rows).fill(4));
    expect(() => prediction.arrive(nd([[1, 2, 3, 4]]))).toThrow(ShapeError);
  });
});

test('a copy of a prediction says what the prediction said', async () => {
  await using model = await load();
  const prediction = await model.predict(nd(toy.obs), nd(toy.action));
  const copy = { ...prediction, elites: [0] };
  expect(packed(copy.logVar as NdView)).toBeAllclose(toy.logVar.flat(2), close);
  expect(ensembleStd({ members: 'elite' })(copy)).toBeAllclose(
    toy.logVar[0].map((row) => Math.sqrt(row.reduce((sum, logVar) => sum + Math.exp(logVar), 0))),
    close,
  );
  expect(copy.arrive).toBe(prediction.arrive);
});

describe('observe', () => {
  test('checks that what was seen is of the state’s rows', async () => {
    await using model = await load({ propagation: 'fixed-model' });
    const context = modelContext(1, ids(rows));
    const state = model.initial(nd(toy.obs), context);
    const action = nd(toy.action);
    const few = { obs: nd(toy.obs.slice(1)), action };
    expect(() => model.observe(state, few, context)).toThrow('obs must have shape [6, 3]');
    const first = new Uint8Array(2);
    expect(() => model.observe(state, { obs: nd(toy.obs), action, first }, context)).toThrow(
      'observe: first must have 6 entries, got 2',
    );
    const other = modelContext(1, ids(4));
    expect(() => model.initial(nd(toy.obs), other)).toThrow('each of the 6 rows, got 4');
    await expect(model.step(state, action, other)).rejects.toThrow('each of the 6 rows, got 4');
  });

  test('keeps a row’s member, and draws another where an episode begins', async () => {
    await using model = await load({ propagation: 'fixed-model' });
    const many = nd(Array.from({ length: 64 }, (_, i) => toy.obs[i % rows]));
    const action = nd(Array.from({ length: 64 }, (_, i) => toy.action[i % rows]));
    const before = model.initial(many, modelContext(1, ids(64)));
    const first = Uint8Array.from({ length: 64 }, (_, i) => (i < 32 ? 1 : 0));
    const context = modelContext(1, ids(64), { step: 9 });
    const after = model.observe(before, { obs: many, action, first }, context);
    const drawn = model.initial(many, context);
    expect(after.member?.subarray(0, 32)).toEqual(drawn.member?.subarray(0, 32));
    expect(after.member?.subarray(32)).toEqual(before.member?.subarray(32));
    expect(after.member).not.toEqual(before.member);
  });

  test('takes what was seen as the state', async () => {
    await using model = await load();
    const seen = { obs: nd(toy.obs), action: nd(toy.action) };
    const state = model.observe(
      { obs: nd(toy.obs.map(() => [0, 0, 0])) },
      seen,
      modelContext(1, ids(rows)),
    );
    expect(state.obs.data).toEqual(nd(toy.obs).data);
    expect(state.member).toBeUndefined();
  });
});

test('a state without members gets them once, where rows keep their member', async () => {
  await using model = await load({ propagation: 'fixed-model' });
  const many = nd(Array.from({ length: 64 }, (_, i) => toy.obs[i % rows]));
  const dream = await imagine(model, (obs) => nd(new Float32Array(2 * obs.shape[0]), [64, 2]), {
    start: { obs: many },
    horizon: 3,
    seed: 0,
  }).collect();
  const members = Array.from({ length: 64 }, (_, row) => [
    ...dream.member.data.subarray(3 * row, 3 * row + 3),
  ]);
  expect(members.every(([a, b, c]) => a === b && b === c)).toBe(true);
  expect(new Set(members.map(([a]) => a))).toEqual(new Set([0, 2]));
});

describe('the support', () => {
  test('bounds what scores and filters are told too', async () => {
    const support = { low: [-0.1, -0.1, -0.1], high: [0.1, 0.1, 0.1] };
    const inside = (data: Float32Array) => data.every((x) => Math.abs(x) <= Math.fround(0.1));
    const { prediction } = await stepToy({ support });
    const { nextObs } = prediction?.arrive?.(prediction.sample as NdView) ?? { nextObs: nd([9]) };
    expect(inside(packed(nextObs))).toBe(true);
    const filter = new TransitionFilter({
      score: (candidates) => {
        expect(inside(candidates.nextObs.data)).toBe(true);
        return new Float32Array(candidates.obs.shape[0]).fill(1);
      },
    });
    const filtered = await stepToy({ support, filter });
    const clipped = filtered.extras?.clipped as Int32Array;
    expect(clipped.some((moved) => moved > 0)).toBe(true);
  });

  test('moves observations to its nearest value before reward and end are asked for', async () => {
    const free = await stepToy({});
    const support = { low: [-0.1, -9, -9], high: [0.1, 9, 9] };
    const seen: number[][] = [];
    const look = ({ nextObs }: { nextObs: { data: Float32Array } }) => {
      seen.push([...nextObs.data]);
      return new Float32Array(rows);
    };
    const kept = await stepToy({ support, reward: look });
    const bounded = [...packed(free.obs)].map((x, i) =>
      i % 3 === 0 ? Math.fround(Math.min(Math.max(x, -0.1), 0.1)) : x,
    );
    expect([...packed(kept.obs)]).toEqual(bounded);
    expect(kept.state.obs.data).toEqual(kept.obs.data);
    expect(seen).toEqual([bounded]);
    const outside = [...packed(free.obs)].filter((x, i) => i % 3 === 0 && Math.abs(x) > 0.1);
    const clipped = kept.extras?.clipped as Int32Array;
    expect(clipped.reduce((sum, moved) => sum + moved, 0)).toBe(outside.length);
    expect(outside.length).toBeGreaterThan(0);
  });

  test('comes from the manifest unless options give another', async () => {
    const manifest = {
      ...readJson<object>('test/fixtures/ensembles/separate/manifest.json'),
      support: { low: [0, 0, 0], high: [0, 0, 0] },
    };
    const held = await stepToy({ manifest });
    expect(packed(held.obs).every((x) => x === 0)).toBe(true);
    const everywhere = Number.POSITIVE_INFINITY;
    const support = { low: new Array(3).fill(-everywhere), high: new Array(3).fill(everywhere) };
    expect(packed((await stepToy({ manifest, support })).obs)).toEqual(
      packed((await stepToy({})).obs),
    );
  });
});

describe('a transition filter', () => {
  /** Candidates as the library draws them: every elite, twice, in units. */
  function candidates(): number[][][] {
    const noise = new RowNoise(3, Stream.candidate, 0, ids(rows));
    return [0, 0, 2, 2].map((e, m) => {
      const normal = noise.normal(4, { draw: m }).data;
      return toy.obs.map((_, row) =>
        toy.mean[e][row].map(
          (mean, d) => mean + Math.exp(toy.logVar[e][row][d] / 2) * normal[row * 4 + d],
        ),
      );
    });
  }

  test('takes the best of two draws from every elite, and ends rows that look false', async () => {
    // The higher the first observation, the truer the transition.
    const score = ({ nextObs }: { nextObs: { data: Float32Array; shape: readonly number[] } }) =>
      Float32Array.from({ length: nextObs.shape[0] }, (_, i) => nextObs.data[3 * i]);
    const filter = new TransitionFilter({ score, mode: 'argmax', minScore: 0.5 });
    const { obs, reward, terminated, extras, prediction } = await stepToy({ filter });
    const drawn = candidates();
    const best = toy.obs.map((_, row) => {
      const heights = drawn.map((candidate) => candidate[row][0]);
      return heights.indexOf(Math.max(...heights));
    });
    expect(new Set(best).size).toBeGreaterThan(1);
    const chosen = best.map((m, row) => drawn[m][row]);
    expect(packed(obs)).toBeAllclose(
      chosen.flatMap((output, row) => toy.obs[row].map((x, d) => x + output[d])),
      close,
    );
    expect(reward).toBeAllclose(
      chosen.map((output) => output[3]),
      close,
    );
    expect(extras?.member).toEqual(Int32Array.from(best, (m) => [0, 0, 2, 2][m]));
    expect(prediction?.member).toEqual(extras?.member);
    const low = chosen.map((output, row) => (toy.obs[row][0] + output[0] < 0.5 ? 1 : 0));
    expect([...(terminated ?? [])]).toEqual(low);
    expect(new Set(low).size).toBe(2);
  });

  test('bounds what candidates lead to', async () => {
    const score = ({ nextObs }: { nextObs: { data: Float32Array; shape: readonly number[] } }) => {
      expect(nextObs.data.every((x) => Math.abs(x) <= Math.fround(0.2))).toBe(true);
      return new Float32Array(nextObs.shape[0]).fill(1);
    };
    const { obs, reward } = await stepToy({ filter: new TransitionFilter({ score, clip: 0.2 }) });
    expect(packed(obs).some((x) => Math.abs(x) === Math.fround(0.2))).toBe(true);
    expect(reward.every((r) => Math.abs(r) <= Math.fround(0.2))).toBe(true);
  });

  test('gives the same transitions whatever the batch, with and without a prediction', async () => {
    const score = ({ nextObs }: { nextObs: { data: Float32Array; shape: readonly number[] } }) =>
      Float32Array.from({ length: nextObs.shape[0] }, (_, i) => nextObs.data[3 * i + 1]);
    const filter = new TransitionFilter({ score });
    const whole = await stepToy({ filter });
    const quiet = await stepToy({ filter }, false);
    expect(packed(quiet.obs)).toBeBitEqual(packed(whole.obs));
    await using model = await load({ filter });
    const half = await model.step(
      { obs: nd(toy.obs.slice(2)) },
      nd(toy.action.slice(2)),
      modelContext(3, ids(rows - 2, 2)),
    );
    expect(packed(half.obs)).toBeBitEqual(packed(whole.obs).slice(2 * 3));
  });

  test('needs members that are drawn afresh', async () => {
    const filter = new TransitionFilter({ score: ({ obs }) => new Float32Array(obs.shape[0]) });
    await expectRefusal(
      load({ filter, propagation: 'expectation' }),
      RangeError,
      'random-model with a filter',
    );
  });
});

describe('elites', () => {
  test('are the members of the lowest scores: NaN last, ties by number', () => {
    expect(selectElites([3, 1, Number.NaN, 1, 2], 3)).toEqual([1, 3, 4]);
    expect(selectElites([Number.NaN, Number.POSITIVE_INFINITY, 0], 9)).toEqual([2, 1, 0]);
    expect(selectElites(Float32Array.of(2, 1), 1)).toEqual([1]);
    for (const count of [0, -1, 1.5, Number.NaN]) {
      expect(() => selectElites([1, 2], count)).toThrow(RangeError);
    }
    expect(() => selectElites([], 1)).toThrow('one entry a member, got none');
  });

  test('are all members when the manifest names none', async () => {
    await using model = await EnsembleDynamics.load(
      ort,
      inRepository('test/fixtures/layouts/all-members'),
    );
    expect(model.elites).toEqual([0, 1, 2, 3, 4]);
  });
});

describe('an ensemble at its edges', () => {
  test('of no rows gives none and runs no network', async () => {
    await using model = await load();
    const context = modelContext(0, ids(0));
    const none = nd(new Float32Array(0), [0, 3]);
    const { obs, reward } = await model.step(
      { obs: none },
      nd(new Float32Array(0), [0, 2]),
      context,
    );
    expect([obs.shape, reward.length]).toEqual([[0, 3], 0]);
    const dream = await imagine(model, () => nd(toy.action), {
      start: none,
      horizon: 3,
      seed: 0,
    }).collect();
    expect(dream.obs.shape).toEqual([0, 4, 3]);
  });

  test('of one member draws it every time, and its members cannot disagree', async () => {
    const manifest = readJson<Record<string, unknown>>(
      'test/fixtures/ensembles/files/manifest.json',
    );
    const alone = {
      ...manifest,
      file: ['member0.onnx'],
      ensembleSize: 1,
      elites: [0],
      golden: undefined,
    };
    const results = [];
    for (const propagation of ['random-model', 'fixed-model', 'expectation'] as const) {
      await using model = await load({ manifest: alone, propagation }, 'files');
      const context = modelContext(3, ids(rows));
      const state = model.initial(nd(toy.obs), context);
      const step = await model.step(state, nd(toy.action), context);
      results.push(step);
      const prediction = step.prediction ?? { mean: nd([]) };
      expect([...maxPairwiseDifference()(prediction)]).toEqual(new Array(rows).fill(0));
      expect(() => ensembleStd({ ddof: 1 })(prediction)).toThrow(RangeError);
    }
    const [fresh, fixed, mean] = results;
    expect(packed(fixed.obs)).toBeBitEqual(packed(fresh.obs));
    const { mean: own } = mean.prediction ?? {};
    expect(packed(mean.obs)).toBeAllclose(
      toy.obs.flatMap((row, i) => row.map((x, d) => x + (own?.data[i * 4 + d] ?? 0))),
      { rtol: 1e-6 },
    );
  });

  test('with a broken network loses every row, and a score of it costs none that goes on', async () => {
    // Member 2 divides by a standard deviation so small that its variance overflows float32.
    const manifest = readJson<Record<string, { form: string }>>(
      'test/fixtures/ensembles/separate/manifest.json',
    );
    const huge = { form: 'raw', min: new Array(4).fill(200), max: new Array(4).fill(200) };
    await using model = await load({ manifest: { ...manifest, logVar: huge }, golden: false });
    const policy = (obs: NdView) => nd(toy.action.slice(0, obs.shape[0]));
    const options = { start: nd(toy.obs), horizon: 2, seed: 3 };
    const dream = await imagine(model, policy, {
      ...options,
      penalty: { score: ensembleStd(), coefficient: 1 },
    }).collect();
    expect(dream.nonFinite).toBe(rows);
  });

  test('with a member that answers NaN loses the rows that drew it, and counts them', async () => {
    await using model = await load();
    const broken = {
      obsSize: 3,
      actionSize: 2,
      initial: model.initial.bind(model),
      gather: model.gather.bind(model),
      step: async (...[state, action, context]: Parameters<typeof model.step>) => {
        const result = await model.step(state, action, { ...context, prediction: true });
        const member = result.prediction?.member ?? new Int32Array(0);
        for (let row = 0; row < member.length; row++) {
          if (member[row] === 2) result.obs.data[3 * row] = Number.NaN;
        }
        return result;
      },
    };
    const dream = await imagine(broken, (obs) => nd(toy.action.slice(0, obs.shape[0])), {
      start: nd(toy.obs),
      horizon: 1,
      seed: 3,
    }).collect();
    const member = (await stepToy({})).extras?.member as Int32Array;
    const lost = [...member].filter((e) => e === 2).length;
    expect(lost).toBeGreaterThan(0);
    expect(dream.nonFinite).toBe(lost);
    expect([...dream.length]).toEqual([...member].map((e) => (e === 2 ? 0 : 1)));
  });

  test('all of whose rows end stops there', async () => {
    const every = ({ obs }: { obs: { shape: readonly number[] } }) =>
      new Uint8Array(obs.shape[0]).fill(1);
    await using model = await load({ terminate: every });
    const dream = await imagine(model, () => nd(toy.action), {
      start: nd(toy.obs),
      horizon: 5,
      seed: 0,
    }).collect();
    expect([...dream.length]).toEqual(new Array(rows).fill(1));
    expect(dream.terminated.data.reduce((sum, flag) => sum + flag, 0)).toBe(rows);
  });
});

describe('what is injected must fit', () => {
  test.each<[string, object, new (message: string) => Error, string]>([
    ['a reward that is no function', { reward: 1 }, TypeError, 'reward must be a function'],
    ['a rule by name', { terminate: 'hopper' }, TypeError, 'terminate must be a function'],
    [
      'a short support',
      { support: { low: [0], high: [1] } },
      ShapeError,
      'obsSize 3 entries, got 1',
    ],
    [
      'a crossed support',
      { support: { low: [0, 2, 0], high: [1, 1, 1] } },
      RangeError,
      'must not exceed support.high, got 2 and 1 at 1',
    ],
  ])('%s is refused', async (_, options, kind, message) => {
    await expectRefusal(load(options as EnsembleOptions), kind, message);
  });

  test.each<[string, object, string]>([
    [
      'a filter without its class',
      { filter: { score: () => 1 } },
      'new TransitionFilter({ score })',
    ],
    ['a support that is none', { support: null }, 'support must be { low, high }, got null'],
  ])('%s is refused at load', async (_, options, message) => {
    await expectRefusal(load(options as EnsembleOptions), TypeError, message);
  });

  test('ends of the caller are looked at beside the manifest’s rule', async () => {
    const manifest = {
      ...readJson<object>('test/fixtures/ensembles/separate/manifest.json'),
      termination: { rule: 'never' },
    };
    const terminate = () => undefined as unknown as Uint8Array;
    await expectRefusal(stepToy({ manifest, terminate }), TypeError, "terminate's answer must be");
  });

  test('answers are looked at', async () => {
    await expectRefusal(
      stepToy({ reward: () => new Float32Array(1) }),
      ShapeError,
      "reward's answer must have 6 entries, got 1",
    );
    await expectRefusal(
      stepToy({ terminate: () => [1] as unknown as Uint8Array }),
      TypeError,
      "terminate's answer must be a Uint8Array",
    );
  });

  test('weights must have the layers of their layout', async () => {
    const folder = 'test/fixtures/layouts/mbrl-lib-weights';
    const manifest = readJson<Record<string, unknown>>(`${folder}/manifest.json`);
    const weights = { layout: 'offlinerlkit', activation: 'silu' };
    const other = (changes: object) =>
      EnsembleDynamics.load(ort, inRepository(folder), { manifest: { ...manifest, ...changes } });
    await expectRefusal(
      other({ weights }),
      ModelContractError,
      'output_layer.weight',
      'must be a float tensor, got none among',
    );
    await expectRefusal(
      other({ ensembleSize: 4, elites: [0] }),
      ModelContractError,
      'hidden_layers.0.0.weight must have shape [4,',
    );
    for (const [field, value] of [
      ['inputs', 'x'],
      ['members', 'shared'],
      ['outputs', { mean: 'y' }],
      ['ensembleAxis', 1],
    ] as const) {
      await expectRefusal(
        other({ [field]: value }),
        ModelContractError,
        `${field} must be left out where weights is given`,
      );
    }
    const golden = { inputs: { x: { shape: [3, 6], data: [1, 2] } }, outputs: {} };
    await expectRefusal(
      other({ golden }),
      ModelContractError,
      'golden.inputs must be x of shape [B, 6] alone where weights is given, got x [3,6] of 2 numbers',
    );
    await expectRefusal(other({ file: ['a', 'b'] }), ModelContractError, 'file must be one file');
    await expectRefusal(
      other({ weights: { layout: 'mbrl-lib', activation: 'relu' } }),
      ModelContractError,
      'does not reproduce its golden outputs',
    );
  });
});
