import * as ort from 'onnxruntime-node';
import { NetworkPolicy, nd, packed, ShapeError } from 'umwelt';
import { writeModel } from 'umwelt/onnx';
import type { NetworkPolicyOptions, PolicyContext } from 'umwelt/rollout';
import { DisposedError, ModelContractError, type PolicyManifest } from 'umwelt/runtime';
import { RowNoise, Stream } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../runtime/refusal.js';
import { HOPPER_POLICY, hopperStarts, ids, readJson, toyEnsemble } from '../support/models.js';

type Changes = Partial<Record<keyof PolicyManifest, unknown>>;

// Made by `python examples/train/make_fixtures.py hopper`, see `madeBy` in the file.
const recorded = readJson<{
  obs: number[][];
  mean: number[][];
  logStd: number[][];
  deterministicAction: number[][];
  eps: number[][];
  action: number[][];
  logProbExact: number[];
}>('test/fixtures/hopper/policy.json');
const committed = readJson<Record<string, unknown>>('examples/models/hopper-policy/manifest.json');
const head = committed.head as Record<string, unknown>;
// ONNX Runtime and PyTorch sum in different orders.
const float32 = { rtol: 1e-4, atol: 1e-5 };

function context(rows: number, noise?: number[][]): PolicyContext {
  const trajectory = ids(rows);
  const keyed = new RowNoise(1, Stream.policy, 0, trajectory);
  if (noise === undefined) return { step: 0, trajectory, noise: keyed };
  const stub = { normal: () => nd(noise) } as unknown as RowNoise;
  return { step: 0, trajectory, noise: stub };
}

function hopper(changes: Changes = {}, options: NetworkPolicyOptions = {}) {
  return NetworkPolicy.load(ort, HOPPER_POLICY, {
    manifest: { ...committed, ...changes },
    ...options,
  });
}

async function act(obs: number[][], changes: Changes = {}, options: NetworkPolicyOptions = {}) {
  await using policy = await hopper(changes, options);
  return await policy.act(nd(obs), context(obs.length, recorded.eps.slice(0, obs.length)));
}

describe('the trained hopper policy', () => {
  test('takes the squashed mean that PyTorch computed, when deterministic', async () => {
    const { action, logProb } = await act(recorded.obs, {}, { deterministic: true });
    expect(action.shape).toEqual([8, 3]);
    expect(packed(action)).toBeAllclose(recorded.deterministicAction.flat(), float32);
    expect(packed(action)).toBeAllclose(recorded.mean.flat().map(Math.tanh), float32);
    expect(logProb).toBeUndefined();
  });

  test('samples the actions and exact log-densities that PyTorch computed', async () => {
    const { action, logProb } = await act(recorded.obs);
    expect(packed(action)).toBeAllclose(recorded.action.flat(), float32);
    // A saturated action's density moves by 2 for each unit of its input.
    expect(logProb as Float32Array).toBeAllclose(recorded.logProbExact, { rtol: 1e-4, atol: 1e-4 });
  });

  test('draws from the noise of its context: a row’s action does not depend on its batch', async () => {
    await using policy = await hopper();
    const starts = hopperStarts();
    const whole = await policy.act(starts, context(256));
    const row = (i: number) => ({ ...starts, shape: [1, 11], offset: i * 11 });
    for (const i of [0, 1, 100, 255]) {
      const trajectory = Uint32Array.of(i);
      const noise = new RowNoise(1, Stream.policy, 0, trajectory);
      const alone = await policy.act(row(i), { step: 0, trajectory, noise });
      expect(packed(alone.action)).toBeBitEqual(packed(whole.action).slice(i * 3, i * 3 + 3));
      expect((alone.logProb as Float32Array)[0]).toBe(whole.logProb?.[i]);
    }
  });

  test('gives the same bits in chunks of any size', async () => {
    await using one = await hopper();
    const whole = await one.act(hopperStarts(), context(256));
    for (const chunkRows of [1, 48, 256]) {
      await using policy = await hopper({}, { chunkRows });
      const { action, logProb } = await policy.act(hopperStarts(), context(256));
      expect(packed(action)).toBeBitEqual(packed(whole.action));
      expect(logProb as Float32Array).toBeBitEqual(whole.logProb as Float32Array);
    }
  });

  test('gives the same numbers without padding', async () => {
    const padded = await act(recorded.obs.slice(0, 3));
    const bare = await act(recorded.obs.slice(0, 3), {}, { padRows: 1 });
    expect(packed(bare.action)).toBeAllclose(packed(padded.action), { rtol: 1e-5, atol: 1e-6 });
  });

  test('answers an empty batch with no actions', async () => {
    await using policy = await hopper();
    const { action, logProb } = await policy.act(nd(new Float32Array(0), [0, 11]), context(0));
    expect(action.shape).toEqual([0, 3]);
    expect(logProb).toHaveLength(0);
  });

  test('leaves NaN in its own row', async () => {
    const clean = await act(recorded.obs);
    const spoiled = await act(
      recorded.obs.map((row, i) => (i === 2 ? row.map((x, d) => (d === 4 ? Number.NaN : x)) : row)),
    );
    for (let row = 0; row < 8; row++) {
      const actions = packed(spoiled.action).slice(row * 3, row * 3 + 3);
      const logProb = (spoiled.logProb as Float32Array)[row];
      if (row === 2) {
        expect([...actions, logProb].every(Number.isNaN)).toBe(true);
      } else {
        expect(actions).toBeBitEqual(packed(clean.action).slice(row * 3, row * 3 + 3));
        expect(logProb).toBe(clean.logProb?.[row]);
      }
    }
  });

  test('takes float32 observations of its width only', async () => {
    await using policy = await hopper();
    await expectRefusal(
      policy.act(nd([[1, 2]]), context(1)),
      ShapeError,
      'NetworkPolicy: obs',
      '[B, 11]',
      'got [1,2]',
    );
    const wide = nd(new Float64Array(11), [1, 11]) as never;
    await expectRefusal(policy.act(wide, context(1)), TypeError, 'NetworkPolicy: obs', 'float32');
  });

  test('acts no more once disposed', async () => {
    const policy = await hopper();
    await policy.dispose();
    await policy.dispose();
    await expectRefusal(policy.act(nd(recorded.obs), context(8)), DisposedError);
  });
});

describe('action bounds', () => {
  const low = [-2, 0, -1];
  const high = [2, 0.5, 1];

  test('are what [-1, 1] is stretched to, deterministic or sampled', async () => {
    const stretch = (action: number[][]) =>
      action.flatMap((row) =>
        row.map((x, i) => (high[i] + low[i]) / 2 + ((high[i] - low[i]) / 2) * x),
      );
    const action = { type: 'box', low, high };
    const sampled = await act(recorded.obs, { action });
    expect(packed(sampled.action)).toBeAllclose(stretch(recorded.action), float32);
    const still = await act(recorded.obs, { action }, { deterministic: true });
    expect(packed(still.action)).toBeAllclose(stretch(recorded.deterministicAction), float32);
  });

  test('change the log-density by the log-volume', async () => {
    const { logProb } = await act(recorded.obs, { action: { type: 'box', low, high } });
    // Half the widths are 2, 0.25 and 1.
    const volume = Math.log(2) + Math.log(0.25);
    expect(logProb as Float32Array).toBeAllclose(
      recorded.logProbExact.map((x) => x - volume),
      { rtol: 1e-4, atol: 1e-4 },
    );
  });
});

describe('the limits of logStd', () => {
  test('clamp what the network gives', async () => {
    const limits = { ...head, logStdMin: -1.5, logStdMax: -1 };
    const { action } = await act(recorded.obs, { head: limits });
    const clamped = recorded.mean.flatMap((row, b) =>
      row.map((mean, i) => {
        const logStd = Math.min(Math.max(recorded.logStd[b][i], -1.5), -1);
        return Math.tanh(mean + Math.exp(logStd) * recorded.eps[b][i]);
      }),
    );
    expect(packed(action)).toBeAllclose(clamped, float32);
    expect(recorded.logStd.flat().some((x) => x < -1.5 || x > -1)).toBe(true);
  });

  test('must be in order', async () => {
    const crossed = { ...head, logStdMin: 2, logStdMax: -20 };
    await expectRefusal(hopper({ head: crossed }), ModelContractError, 'logStdMin');
  });
});

describe('an observation normaliser', () => {
  const mean = recorded.obs[0].map((_, d) => 0.1 * d);
  const std = recorded.obs[0].map((_, d) => 0.5 + 0.2 * d);
  const normalized = (clip: number) =>
    recorded.obs.map((row) =>
      row.map((x, d) => {
        const z = (Math.fround(x) - mean[d]) / std[d];
        return Math.min(Math.max(z, -clip), clip);
      }),
    );

  test('is applied before the network', async () => {
    const inside = await act(recorded.obs, { obsNormalizer: { mean, std } });
    const outside = await act(normalized(Number.POSITIVE_INFINITY));
    expect(packed(inside.action)).toBeBitEqual(packed(outside.action));
    expect(packed(inside.action)).not.toEqual(packed((await act(recorded.obs)).action));
  });

  test('clips to its bound', async () => {
    const inside = await act(recorded.obs, { obsNormalizer: { mean, std, clip: 0.7 } });
    const outside = await act(normalized(0.7));
    expect(packed(inside.action)).toBeBitEqual(packed(outside.action));
    const free = await act(recorded.obs, { obsNormalizer: { mean, std } });
    expect(packed(inside.action)).not.toEqual(packed(free.action));
  });
});

/** A policy `action = 10 obs` of two numbers, its graph's shapes stated as given. */
function tenfold(
  changes: Changes = {},
  {
    input = ['B', 2],
    output = ['B', 2],
    extra = false,
  }: {
    input?: (number | string)[];
    output?: (number | string)[] | null;
    extra?: boolean;
  } = {},
  options: NetworkPolicyOptions = {},
) {
  const model = writeModel({
    graph: {
      inputs: [{ name: 'obs', shape: input }, ...(extra ? [{ name: 'noise', shape: [] }] : [])],
      outputs: [{ name: 'action', shape: output }],
      initializers: [{ name: 'ten', shape: [], data: Float32Array.of(10) }],
      nodes: [{ op: 'Mul', inputs: ['obs', 'ten'], outputs: ['action'] }],
    },
  });
  const manifest = {
    format: 1,
    kind: 'policy',
    file: 'tenfold.onnx',
    input: 'obs',
    obsSize: 2,
    actionSize: 2,
    action: { type: 'box', low: [-100, -100], high: [100, 100] },
    head: { type: 'deterministic', action: 'action' },
    ...changes,
  };
  return NetworkPolicy.load(ort, { manifest, files: { 'tenfold.onnx': model } }, options);
}

describe('a deterministic head', () => {
  const obs = nd([
    [1, 2],
    [3, -4],
  ]);
  const expected = Float32Array.of(10, 20, 30, -40);

  test('gives the action itself, in the units of the action space', async () => {
    await using policy = await tenfold();
    const { action, logProb } = await policy.act(obs, context(2));
    expect(packed(action)).toEqual(expected);
    expect(logProb).toBeUndefined();
  });

  test('may serve a discrete action space, one number for each choice', async () => {
    await using policy = await tenfold({ action: { type: 'discrete', n: 2 } });
    const { action } = await policy.act(obs, context(2));
    expect(action.shape).toEqual([2, 2]);
    expect(packed(action)).toEqual(expected);
  });

  test('may leave the shape of its output open', async () => {
    for (const output of [null, ['B', 'A'], ['', '']]) {
      await using policy = await tenfold({}, { output });
      expect(packed((await policy.act(obs, context(2))).action)).toEqual(expected);
    }
  });
});

describe('a policy’s manifest', () => {
  const box = (low: number[], high: number[]) => ({ type: 'box', low, high });
  const refused: [string, Changes, string[]][] = [
    ['short lower bounds', { action: box([-1], [1, 1]) }, ['action.low', '= 2', 'got 1']],
    ['long upper bounds', { action: box([-1, -1], [1, 1, 1]) }, ['action.high', '= 2', 'got 3']],
    ['crossed bounds', { action: box([-1, 1], [1, -1]) }, ['action.low', 'below high']],
    ['equal bounds', { action: box([-1, 1], [1, 1]) }, ['action.low', 'below high']],
    ['other choices', { action: { type: 'discrete', n: 3 } }, ['action.n', '2', 'got 3']],
    ['a short mean', { obsNormalizer: { mean: [0], std: [1, 1] } }, ['.mean', '= 2', 'got 1']],
    ['a long std', { obsNormalizer: { mean: [0, 0], std: [1, 1, 1] } }, ['.std', '= 2', 'got 3']],
    ['no such input', { input: 'observation' }, ["'observation'", 'obs']],
    ['no such output', { head: { type: 'deterministic', action: 'a' } }, ['(action)', "'a'"]],
    ['another width', { obsSize: 3 }, ["input 'obs'", '[batch, 3]', 'got [B,2]']],
    [
      'another number of actions',
      { actionSize: 3, action: box([-1, -1, -1], [1, 1, 1]) },
      ["'action'", '3'],
    ],
    [
      'a Gaussian over choices',
      { head, action: { type: 'discrete', n: 2 } },
      ["'box'", 'tanh-gaussian'],
    ],
  ];

  test.each(refused)('with %s is refused', async (_, changes, parts) => {
    await expectRefusal(tenfold(changes), ModelContractError, 'policy manifest: ', ...parts);
  });

  test('of another kind is refused', async () => {
    await expectRefusal(
      NetworkPolicy.load(ort, toyEnsemble('shared')),
      ModelContractError,
      "kind must be 'policy'",
      "got 'ensemble'",
    );
  });
});

describe('a policy’s graph', () => {
  test('must have one input, of a dynamic batch', async () => {
    await expectRefusal(tenfold({}, { extra: true }), ModelContractError, 'one input', 'noise');
    await expectRefusal(
      tenfold({}, { input: [16, 2] }),
      ModelContractError,
      "input 'obs'",
      '[batch, 2]',
      'got [16,2]',
    );
    await expectRefusal(
      tenfold({}, { input: ['B', 1, 2] }),
      ModelContractError,
      "input 'obs'",
      'got [B,1,2]',
    );
  });

  test('whose open output turns out to have another width is refused when it is run', async () => {
    const three = { actionSize: 3, action: { type: 'box', low: [-1, -1, -1], high: [1, 1, 1] } };
    await using policy = await tenfold(three, { output: null });
    await expectRefusal(
      policy.act(
        nd([
          [1, 2],
          [3, 4],
        ]),
        context(2),
      ),
      ModelContractError,
      "'action'",
    );
  });
});

describe('row counts', () => {
  test.each([0, -1, 1.5, Number.NaN])(
    '%d is a RangeError as padRows or chunkRows',
    async (count) => {
      await expectRefusal(tenfold({}, {}, { padRows: count }), RangeError, 'padRows');
      await expectRefusal(tenfold({}, {}, { chunkRows: count }), RangeError, 'chunkRows');
    },
  );
});
