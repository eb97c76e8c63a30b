import fc from 'fast-check';
import { imagine, nd, ShapeError, zeros } from 'umwelt';
import { discountedReturn, lambdaReturn } from 'umwelt/rollout';
import { describe, expect, test } from 'vitest';
import { constantly, lineWorld } from '../support/line-world.js';
import {
  cases,
  departure,
  doubled,
  flags,
  imagined,
  lambdaReturnAhead,
  rowsOf,
  strided,
} from './return-cases.js';

const float32 = { rtol: 1e-6, atol: 1e-5 };

describe('lambdaReturn', () => {
  // def lambda_return(last, term, rew, val, disc, lam):  # numpy, [T] each
  //   ret = val[-1]; out = []
  //   for t in reversed(range(len(rew) - 1)):
  //     live = (1 - term[t + 1]) * disc; cont = (1 - last[t + 1]) * lam
  //     ret = rew[t + 1] + live * ((1 - cont) * val[t + 1] + cont * ret); out.insert(0, ret)
  //   return out
  test.each([
    ['predicted continues', [0, 0.003, 0.5, 0.1], [0, 0, 0, 0], 1, [6.219295, 5.3, 11.0]],
    [
      'a terminal state',
      [0, 0, 1, 0],
      [0, 0, 1, 0],
      1 - 1 / 333,
      [1.1993993993993997, 0, 11.96996996996997],
    ],
    [
      'a truncated state',
      [0, 0, 0, 0],
      [0, 0, 1, 0],
      1 - 1 / 333,
      [4.032307983659335, 2.9909909909909906, 11.96996996996997],
    ],
  ])('is Dreamer’s, with %s', (_, terminated, last, gamma, expected) => {
    const batch = {
      reward: nd([[9, 1, 0, 2]]),
      value: nd([[5, 4, 3, 10]]),
      last: flags([last]),
      gamma,
      lambda: 0.95,
    };
    const returns = lambdaReturn({ ...batch, terminated: nd([terminated]) });
    expect(returns.shape).toEqual([1, 3]);
    expect(returns.data).toBeAllclose(expected, { rtol: 1e-7 });
  });

  test('reads a discount before terminated', () => {
    const batch = {
      reward: nd([[9, 1, 0, 2]]),
      value: nd([[5, 4, 3, 10]]),
      discount: nd([[1, 0.997, 0.5, 0.9]]),
      gamma: 1,
      lambda: 0.95,
    };
    const expected = [6.219295, 5.3, 11.0];
    expect(lambdaReturn(batch).data).toBeAllclose(expected, { rtol: 2e-7 });
    const ended = nd([[1, 1, 1, 1]]);
    expect(lambdaReturn({ ...batch, terminated: ended }).data).toBeAllclose(expected, {
      rtol: 2e-7,
    });
  });

  test('is what looking ahead along each row sums up, over ends, cuts and padding', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        expect(lambdaReturn(departure(batch)).data).toBeAllclose(lambdaReturnAhead(batch), float32);
      }),
      { numRuns: 300 },
    );
  });

  test('of both alignments is the same, whichever way arrays are shifted', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const ahead = (rows: number[][]) => nd(rows.map((row) => [0, ...row]));
        const [value, { gamma, lambda }] = [nd(batch.value), batch];
        const arrival = {
          reward: ahead(batch.reward),
          terminated: ahead(batch.terminated),
          last: ahead(batch.last),
          mask: nd(batch.mask.map((row) => [1, ...row])),
          value,
          gamma,
          lambda,
        };
        expect(lambdaReturn(arrival)).toEqual(lambdaReturn(departure(batch)));

        // The other way: what arrival alignment has at index 0 belongs to no transition.
        const behind = (rows: number[][]) => nd(rows.map((row) => row.slice(1)));
        const [reward, terminated, last] = [batch.reward, batch.terminated, batch.last];
        const states = nd(batch.value.map((row) => row.slice(0, -1)));
        const ends = { value: states, gamma, lambda };
        expect(
          lambdaReturn({
            ...ends,
            reward: nd(reward),
            terminated: nd(terminated),
            last: nd(last),
            align: 'arrival',
          }).data,
        ).toBeBitEqual(
          reward[0].length === 1
            ? new Float32Array(0)
            : lambdaReturn({
                ...ends,
                reward: behind(reward),
                terminated: behind(terminated),
                last: behind(last),
                align: 'departure',
              }).data,
        );
      }),
    );
  });

  test('with lambda 0 is the one-step target', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const { reward, value, terminated, mask, gamma } = batch;
        const expected = reward.flatMap((row, b) =>
          row.map((r, t) => mask[b][t] * (r + gamma * (1 - terminated[b][t]) * value[b][t + 1])),
        );
        const returns = lambdaReturn({ ...departure(batch), lambda: 0 });
        expect(returns.data).toBeAllclose(expected, float32);
      }),
    );
  });

  test('with lambda 1 is the discounted return that bootstraps at the horizon', () => {
    fc.assert(
      fc.property(cases, ({ last, mask, ...rest }) => {
        const batch = departure({
          ...rest,
          last: last.map((row) => row.map(() => 0)),
          mask: mask.map((row) => row.map(() => 1)),
        });
        const bootstrap = Float32Array.from(rest.value, (row) => row[row.length - 1]);
        expect(lambdaReturn({ ...batch, lambda: 1 }).data).toBeAllclose(
          discountedReturn({ ...batch, bootstrap }).toGo.data,
          float32,
        );
      }),
    );
  });

  test('is STORM’s and Drama’s where the value of the state left is blended in', () => {
    // def drama(r, v, d, gamma, lam):  # calc_lambda_return of both, [T], [T + 1], [T]
    //   G = np.zeros(len(r) + 1); G[-1] = v[-1]
    //   for t in reversed(range(len(r))):
    //     G[t] = r[t] + gamma*(1-d[t])*(1-lam)*v[t] + gamma*(1-d[t])*lam*G[t+1]
    //   return G[:-1]
    // drama([1, -2, 3, .5], [.5, 1, -1, 2, 4], [0, 0, 1, 0], .985, .95)
    const batch = {
      reward: nd([[1, -2, 3, 0.5]]),
      value: nd([[0.5, 1, -1, 2, 4]]),
      terminated: flags([[0, 0, 1, 0]]),
      gamma: 0.985,
      lambda: 0.95,
      align: 'departure',
    } as const;
    const expected = [1.826094875, 0.8565, 3.0, 4.3415];
    const last = flags([[0, 0, 0, 1]]);
    for (const options of [batch, { ...batch, last }]) {
      expect(lambdaReturn({ ...options, blend: 'current' }).data).toBeAllclose(expected, {
        rtol: 1e-7,
      });
    }
    expect(lambdaReturn(batch).data).not.toBeAllclose(expected, { rtol: 1e-3 });
  });

  test('is STORM’s and Drama’s on any batch, and theirs agree with Dreamer’s for lambda 1', () => {
    fc.assert(
      fc.property(cases, ({ last, mask, ...batch }) => {
        const { reward, terminated, gamma, lambda, align, value } = departure({
          ...batch,
          last,
          mask,
        });
        const options = { reward, terminated, value, gamma, lambda, align };
        const expected = batch.reward.flatMap((row, b) => {
          const returns = [...row, batch.value[b][row.length]];
          for (let t = row.length - 1; t >= 0; t--) {
            const goesOn = gamma * (1 - batch.terminated[b][t]);
            returns[t] += goesOn * (1 - lambda) * batch.value[b][t];
            returns[t] += goesOn * lambda * returns[t + 1];
          }
          return returns.slice(0, -1);
        });
        const blend = 'current' as const;
        expect(lambdaReturn({ ...options, blend }).data).toBeAllclose(expected, float32);
        expect(lambdaReturn({ ...options, blend, lambda: 1 })).toEqual(
          lambdaReturn({ ...options, lambda: 1 }),
        );
      }),
    );
  });

  test.each(['next', 'current'] as const)('cuts a row as the horizon does, blend %s', (blend) => {
    fc.assert(
      fc.property(cases, fc.nat(6), (batch, at) => {
        const { reward, value, terminated, gamma, lambda } = batch;
        const steps = reward[0].length;
        const end = Math.min(at + 1, steps);
        const options = { gamma, lambda, blend, align: 'departure' } as const;
        const part = (from: number, to: number) => ({
          ...options,
          reward: nd(reward.map((row) => row.slice(from, to))),
          terminated: nd(terminated.map((row) => row.slice(from, to))),
          value: nd(value.map((row) => row.slice(from, to + 1))),
        });
        const last = flags(reward.map((row) => row.map((_, t) => (t === end - 1 ? 1 : 0))));
        const before = lambdaReturn(part(0, end));
        const after = lambdaReturn(part(end, steps));
        const expected = reward.flatMap((_, b) => [
          ...before.data.subarray(b * end, (b + 1) * end),
          ...after.data.subarray(b * (steps - end), (b + 1) * (steps - end)),
        ]);
        const whole = lambdaReturn({ ...part(0, steps), last });
        expect(whole.data).toBeBitEqual(Float32Array.from(expected));
      }),
    );
  });

  test('does not depend on the batch a row is in', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const whole = lambdaReturn(options);
        const order = batch.reward.map((_, b) => b).reverse();
        const part = (rows: number[]) =>
          lambdaReturn({
            ...options,
            reward: rowsOf(options.reward, rows),
            value: rowsOf(options.value, rows),
            terminated: rowsOf(options.terminated, rows),
            last: rowsOf(options.last, rows),
            mask: rowsOf(options.mask, rows),
          });
        expect(part(order).data).toBeBitEqual(rowsOf(whole, order).data);
        for (const b of order) expect(part([b]).data).toBeBitEqual(rowsOf(whole, [b]).data);
      }),
    );
  });

  test('reads views of any stride and type and leaves them as they are', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const options = departure(batch);
        const { reward, value, terminated, last, mask } = options;
        const expected = lambdaReturn(options);
        const odd = {
          reward: strided(reward),
          value: strided(value),
          terminated: strided(terminated),
          last: strided(last),
          mask: strided(mask),
        };
        const before = Object.values(odd).map(({ data }) => data.slice());
        expect(lambdaReturn({ ...options, ...odd })).toEqual(expected);
        expect(Object.values(odd).map(({ data }) => data)).toEqual(before);
        const wide = {
          reward: doubled(reward),
          value: doubled(value),
          terminated: doubled(terminated),
          last: doubled(last),
          mask: nd(batch.mask),
        };
        expect(lambdaReturn({ ...options, ...wide })).toEqual(expected);
      }),
    );
  });

  test('sums in float64', () => {
    const reward = nd([[2 ** 24, 1, 1, -(2 ** 24)]]);
    const options = { terminated: zeros([1, 4]), value: zeros([1, 5]), gamma: 1, lambda: 1 };
    // In float32 the two ones would be lost.
    expect(lambdaReturn({ ...options, reward, align: 'departure' }).data[0]).toBe(2);
  });

  test('takes a trajectory as it is', () => {
    const trajectory = imagined();
    const options = { gamma: 0.5, lambda: 0.5, align: 'departure' } as const;
    const horizon = 5 + 0.5 * 80;
    const second = 4 + 0.5 * (0.5 * 60 + 0.5 * horizon);
    expect([...lambdaReturn({ ...trajectory, ...options }).data]).toEqual([
      ...[1 + 0.5 * (0.5 * 20 + 0.5 * 2), 2, 0],
      ...[3 + 0.5 * (0.5 * 50 + 0.5 * second), second, horizon],
      ...[0, 0, 0],
    ]);
  });

  test('takes what imagine collects, rows that ended early among them', async () => {
    const trajectory = await imagine(lineWorld({ end: 7 }), constantly(1), {
      start: nd([[5], [0]]),
      horizon: 3,
      seed: 0,
      value: (obs) => obs.data.map((x) => 100 * x),
    }).collect();
    const options = { gamma: 1, lambda: 0, align: 'departure' } as const;
    // Rewards are ten times the observation led to, and 7 is an end.
    expect([...lambdaReturn({ ...trajectory, ...options }).data]).toEqual([
      ...[60 + 600, 70, 0],
      ...[10 + 100, 20 + 200, 30 + 300],
    ]);
  });

  test('gives 0 for padding, and cuts the chain before it, flagged or not', () => {
    const nan = Number.NaN;
    const returns = lambdaReturn({
      reward: nd([[1, 2, nan]]),
      value: nd([[0, 0, 8, nan]]),
      terminated: nd([[0, 0, nan]]),
      mask: flags([[1, 1, 0]]),
      gamma: 0.5,
      lambda: 1,
      align: 'departure',
    });
    expect([...returns.data]).toEqual([1 + 0.5 * 6, 2 + 0.5 * 8, 0]);
  });

  test('does not let a value through an end or a cut that it has no share in', () => {
    const nan = Number.NaN;
    const batch = { reward: nd([[1, 2]]), gamma: 0.5, align: 'departure' } as const;
    const ended = { ...batch, terminated: flags([[1, 0]]), lambda: 0.5 };
    expect(lambdaReturn({ ...ended, value: nd([[0, nan, 4]]) }).data[0]).toBe(1);
    const cut = { ...batch, terminated: zeros([1, 2]), truncated: flags([[1, 0]]), lambda: 0.5 };
    expect(lambdaReturn({ ...cut, value: nd([[0, 4, nan]]) }).data[0]).toBe(3);
    const whole = { ...batch, terminated: zeros([1, 2]), lambda: 1 };
    expect(lambdaReturn({ ...whole, value: nd([[nan, nan, 4]]) }).data[0]).toBe(3);
    // Where it has one, it shows.
    const open = { ...batch, terminated: zeros([1, 2]), lambda: 0.5 };
    expect(lambdaReturn({ ...open, value: nd([[0, 4, nan]]) }).data[0]).toBe(nan);
  });

  test('lets no infinite value become NaN', () => {
    const inf = Number.POSITIVE_INFINITY;
    const batch = {
      reward: zeros([1, 3]),
      value: nd([[0, inf, inf]]),
      terminated: zeros([1, 3]),
      gamma: 1,
      lambda: 0.5,
    };
    expect([...lambdaReturn(batch).data]).toEqual([inf, inf]);
    // Nor where a chain is cut in part.
    expect([...lambdaReturn({ ...batch, last: nd([[0, 0.5, 0]]) }).data]).toEqual([inf, inf]);
  });

  test.each(['terminated', 'discount', 'last', 'truncated'] as const)(
    'does not read the first of %s, which belongs to no transition, in arrival alignment',
    (name) => {
      const batch = {
        reward: nd([[9, 1, 2]]),
        value: nd([[5, 4, 3]]),
        terminated: zeros([1, 3]),
        gamma: 0.5,
        lambda: 0.5,
      };
      const given = [0.25, 0.25, 0.5];
      const expected = lambdaReturn({ ...batch, [name]: nd([given]) });
      for (const first of [Number.NaN, -1, 2]) {
        const ends = { [name]: nd([[first, ...given.slice(1)]]) };
        expect(lambdaReturn({ ...batch, ...ends })).toEqual(expected);
        expect(() =>
          lambdaReturn({ ...batch, ...ends, value: nd([[5, 4, 3, 1]]), align: 'departure' }),
        ).toThrow(`lambdaReturn: ${name} must lie in [0, 1], got ${first} at [0, 0]`);
      }
      const later = { [name]: nd([[0, Number.NaN, 0]]) };
      expect(() => lambdaReturn({ ...batch, ...later })).toThrow('got NaN at [0, 1]');
    },
  );

  test('reads truncated as last', () => {
    fc.assert(
      fc.property(cases, (batch) => {
        const { last, ...options } = departure(batch);
        expect(lambdaReturn({ ...options, truncated: last })).toEqual(
          lambdaReturn({ ...options, last }),
        );
      }),
    );
  });

  test('of no rows or no transitions is empty', () => {
    const factors = { gamma: 1, lambda: 1 };
    const batch = (rows: number, steps: number, states: number) => ({
      reward: zeros([rows, steps]),
      terminated: zeros([rows, steps]),
      value: zeros([rows, states]),
      ...factors,
    });
    expect(lambdaReturn(batch(0, 4, 4)).shape).toEqual([0, 3]);
    expect(lambdaReturn(batch(2, 1, 1)).shape).toEqual([2, 0]);
    expect(lambdaReturn({ ...batch(0, 4, 5), align: 'departure' }).shape).toEqual([0, 4]);
    expect(lambdaReturn({ ...batch(2, 0, 1), align: 'departure' }).shape).toEqual([2, 0]);
    expect(() => lambdaReturn(batch(2, 0, 0))).toThrow(
      "lambdaReturn: reward must have at least one step with align: 'arrival', got [2, 0]",
    );
  });

  const good = {
    reward: zeros([2, 3]),
    value: zeros([2, 3]),
    terminated: zeros([2, 3]),
    gamma: 0.9,
    lambda: 0.9,
  };

  test('throws for shapes of the other alignment and names it', () => {
    const values = zeros([2, 4]);
    const arrival = () => lambdaReturn({ ...good, value: values });
    expect(arrival).toThrow(ShapeError);
    expect(arrival).toThrow(
      "lambdaReturn: value must have shape [2, 3], got [2, 4]; with align: 'arrival' there are as " +
        "many values as rewards; one value more than rewards, as in a Trajectory, is align: 'departure'",
    );
    const departing = () => lambdaReturn({ ...good, align: 'departure' });
    expect(departing).toThrow(ShapeError);
    expect(departing).toThrow("as many values as rewards is align: 'arrival'");
  });

  test.each([
    ['value', { value: undefined }, TypeError, '`value` was passed to imagine'],
    ['ends', { terminated: undefined }, TypeError, 'terminated or discount must be given'],
    ['reward', { reward: [[1, 2, 3]] }, TypeError, 'reward must be a [B, T] view of Float32Array'],
    ['rank', { reward: zeros([6]) }, ShapeError, 'reward must have shape [B, T], got [6]'],
    ['last', { last: zeros([2, 4]) }, ShapeError, 'last must have shape [2, 3], got [2, 4]'],
    ['flags', { last: nd(new Int32Array(6), [2, 3]) }, TypeError, 'Uint8Array or Float32Array'],
    [
      'logits',
      {
        discount: nd([
          [1, 0, 0],
          [0, -4, 0],
        ]),
      },
      RangeError,
      'got -4 at [1, 1]',
    ],
    [
      'mask',
      {
        mask: nd([
          [1, 0.5, 1],
          [1, 1, 1],
        ]),
      },
      RangeError,
      'mask must be 0 or 1, got 0.5',
    ],
    ['gamma', { gamma: 1.1 }, RangeError, 'gamma must be a number in [0, 1], got 1.1'],
    ['lambda', { lambda: undefined }, RangeError, 'lambda must be a number in [0, 1]'],
    ['align', { align: 'gym' }, RangeError, "align must be 'arrival' or 'departure', got gym"],
    ['blend', { blend: 'both' }, RangeError, "blend must be 'next' or 'current', got both"],
  ])('throws for a wrong %s', (_, wrong, kind, message) => {
    const call = () => lambdaReturn({ ...good, ...wrong } as typeof good);
    expect(call).toThrow(kind);
    expect(call).toThrow(message);
  });

  test('throws for options that are none', () => {
    expect(() => lambdaReturn(null as never)).toThrow('options must be an object, got null');
  });
});
