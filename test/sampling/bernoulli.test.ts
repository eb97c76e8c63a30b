import { nd, zeros } from 'umwelt';
import { Bernoulli } from 'umwelt/sampling';
import { describe, expect, test } from 'vitest';
import golden from '../fixtures/distributions.json' with { type: 'json' };
import { noiseFor } from './noise-for.js';

const { bernoulli: expected } = golden;
const float32 = { rtol: 1e-6, atol: 1e-30 };

describe('Bernoulli', () => {
  const p = new Bernoulli(nd(expected.logit));
  const q = new Bernoulli(nd(expected.other));

  test('has the samples, log-probabilities, entropy and divergence that PyTorch computed', () => {
    expect(p.probs().data).toBeAllclose(expected.probs.flat(), float32);
    expect(p.sample(nd(expected.noise)).data).toBeBitEqual(nd(expected.sample).data);
    expect(p.logProb(nd(expected.value))).toBeAllclose(expected.logProb, float32);
    expect(p.entropy()).toBeAllclose(expected.entropy, float32);
    expect(p.kl(q)).toBeAllclose(expected.kl, float32);
    expect([...p.kl(p)]).toEqual([0, 0, 0]);
  });

  test('samples 1 as often as its probability says', () => {
    const rows = 10000;
    const logits = [-4, -1, 0, 2.5];
    const head = new Bernoulli(
      nd(
        Float32Array.from({ length: rows * 4 }, (_, i) => logits[i % 4]),
        [rows, 4],
      ),
    );
    const ids = Uint32Array.from({ length: rows }, (_, i) => i);
    const { data } = head.sample(noiseFor(head, ids, 21));
    let chiSquared = 0;
    for (const [column, logit] of logits.entries()) {
      let ones = 0;
      for (let row = 0; row < rows; row++) ones += data[row * 4 + column];
      const probability = 1 / (1 + Math.exp(-logit));
      chiSquared += (ones - rows * probability) ** 2 / (rows * probability * (1 - probability));
    }
    // scipy.stats.chi2.ppf(0.999, 4) == 18.46682695290317
    expect(chiSquared).toBeLessThan(18.4668);
  });

  test('has its mode above a logit of 0 alone', () => {
    const { data } = new Bernoulli(nd([[-1, 0, 1e-30, Number.NaN]])).mode();
    expect([...data]).toEqual([0, 0, 1, Number.NaN]);
  });

  test('is certain at infinite logits', () => {
    const [yes, no] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map(
      (logit) => new Bernoulli(nd([[logit]])),
    );
    const noise = nd([[0.9999999]]);
    expect([...yes.sample(noise).data, ...no.sample(zeros([1, 1])).data]).toEqual([1, 0]);
    expect([...yes.entropy(), ...no.entropy()]).toEqual([0, 0]);
    expect([...yes.logProb(nd([[1]])), ...no.logProb(nd([[0]]))]).toBeAllclose([0, 0]);
    expect([...yes.logProb(nd([[0]]))]).toEqual([Number.NEGATIVE_INFINITY]);
    expect([...yes.kl(yes)]).toEqual([0]);
    expect([...yes.kl(no)]).toEqual([Number.POSITIVE_INFINITY]);
  });

  test('gives a NaN logit NaN samples, and no log-probability to what is no probability', () => {
    const head = new Bernoulli(nd([[Number.NaN], [1], [1]]));
    expect([...head.sample(zeros([3, 1])).data]).toEqual([Number.NaN, 1, 1]);
    const logProb = head.logProb(nd([[1], [2], [-0.5]]));
    expect(Array.from(logProb, Number.isNaN)).toEqual([true, true, true]);
  });
});
