import fc from 'fast-check';
import { type NdView, nd } from 'umwelt';
import { type SsmStack, SsmState } from 'umwelt/ssm';
import { describe, expect, test } from 'vitest';
import { cut, elements, integer, rowsOf, scattered, uniform, write } from './arrays.js';
import {
  autoForm,
  expectBits,
  expectClose,
  type FamilyName,
  type Form,
  families,
  forms,
  graphForm,
  inputs,
  kernelForms,
  loadStack,
  mapArrays,
  type Outcome,
  outcome,
  resets,
  rowsOfOutcome,
  scan,
  scanPieces,
  startOf,
  type TinyStack,
  tiny,
  tinyStacks,
} from './stacks.js';

/** For each property and family, over all forms and tiny stacks. */
const RUNS = { numRuns: 500, seed: 60 };

const POISON = [Number.NaN, Infinity, -Infinity];

/** What a property is tried with. */
interface Trial {
  readonly weights: TinyStack;
  readonly stack: SsmStack;
  readonly form: Form;
  readonly batch: number;
  readonly steps: number;
  /** `[B, L, M]`. */
  readonly x: NdView;
  /** Of B rows, nowhere zero; released by the trial. */
  readonly start: SsmState;
  /** `[B, L]`. */
  readonly reset: NdView<Uint8Array>;
  readonly random: () => number;
  /** Same bits with the kernels, whatever is in a batch together; else agreement within rounding. */
  readonly expectSame: (actual: Outcome, expected: Outcome) => void;
}

/** A property of random inputs, from random states, of the tiny stacks in any form. */
async function holds(
  family: FamilyName,
  check: (trial: Trial) => Promise<void>,
  {
    batch = 4,
    steps = 6,
    of = forms,
  }: { batch?: number; steps?: number; of?: readonly Form[] } = {},
): Promise<void> {
  const stacks = tinyStacks[family];
  const specs = fc.record({
    stack: fc.constantFrom(...stacks.map(({ name }) => name)),
    form: fc.constantFrom(...of.map(({ name }) => name)),
    // 16 is the smallest; most trials then take several tiles.
    tile: fc.constantFrom(16, undefined),
    batch: fc.integer({ min: 1, max: batch }),
    steps: fc.integer({ min: 1, max: steps }),
    seed: fc.nat({ max: 2 ** 30 }),
  });
  const property = fc.asyncProperty(specs, async ({ seed, ...spec }) => {
    const form = of.find(({ name }) => name === spec.form) ?? graphForm;
    const weights = stacks.find(({ name }) => name === spec.stack) ?? stacks[0];
    const stack = await tiny(weights, form, spec.tile);
    const start = startOf(stack, spec.batch, seed + 1);
    try {
      await check({
        weights,
        stack,
        form,
        batch: spec.batch,
        steps: spec.steps,
        x: inputs(spec.batch, spec.steps, stack.dModel, seed),
        start,
        reset: resets(spec.batch, spec.steps, seed + 2),
        random: uniform(seed + 3),
        expectSame: form.options.form === 'kernels' ? expectBits : expectClose,
      });
    } finally {
      start.release();
    }
  });
  await fc.assert(property, RUNS);
}

const everyStep = (steps: number) => Array.from({ length: steps }, (_, t) => t + 1);

/** Some of the ends of a sequence's steps, the last always. */
function someEnds(random: () => number, steps: number): number[] {
  return everyStep(steps).filter((end) => end === steps || random() < 0.4);
}

function finite(view: NdView): boolean {
  return elements(view).every(Number.isFinite);
}

/** A copy of some rows of inputs or a state with NaN and infinities in it. */
function poisoned(view: NdView, rows: readonly number[], random: () => number): NdView {
  const copy = nd(elements(view), view.shape);
  const width = copy.data.length / view.shape[0];
  for (const row of rows) {
    const own = copy.data.subarray(row * width, (row + 1) * width);
    own[integer(random, 0, width - 1)] = POISON[integer(random, 0, 2)];
    own.forEach((_, i) => {
      if (random() < 0.2) own[i] = POISON[integer(random, 0, 2)];
    });
  }
  return copy;
}

/** A state with poison in some rows of each of its arrays. */
async function poisonedState(
  stack: SsmStack,
  state: SsmState,
  rows: readonly number[],
  random: () => number,
): Promise<SsmState> {
  const arrays = await state.toArrays();
  // Windows of one tap have no elements.
  return stack.restore(
    mapArrays(arrays, (view) => (view.shape.includes(0) ? view : poisoned(view, rows, random))),
  );
}

describe.each(families)('a stack of %s', (family) => {
  test('gives the same step by step, at once and in any split', () =>
    holds(family, async ({ stack, x, start, reset, steps, random, expectSame }) => {
      const whole = await scan(stack, x, start, { reset });
      const ends = someEnds(random, steps);
      expectSame(await scanPieces(stack, x, everyStep(steps), start, reset), whole);
      expectSame(await scanPieces(stack, x, ends, start, reset), whole);
    }));

  test('has in step the scan of one step', () =>
    holds(
      family,
      async ({ stack, x, start, reset, batch }) => {
        const { y, state } = await stack.step(nd(elements(x), [batch, stack.dModel]), start, {
          reset: Uint8Array.from(elements(reset)),
        });
        expect(y.shape).toEqual([batch, stack.dModel]);
        const actual = await outcome({ y: nd(y.data, x.shape), state });
        expectBits(actual, await scan(stack, x, start, { reset }));
      },
      { steps: 1 },
    ));

  test('treats each row as though it were alone, in any order, any number of times', () =>
    holds(family, async ({ stack, x, start, reset, batch, random, expectSame }) => {
      const length = integer(random, 1, 6);
      const rows = Array.from({ length }, () => integer(random, 0, batch - 1));
      const gathered = await start.gather(Int32Array.from(rows));
      const actual = await scan(stack, rowsOf(x, rows), gathered, { reset: rowsOf(reset, rows) });
      gathered.release();
      expectSame(actual, rowsOfOutcome(await scan(stack, x, start, { reset }), rows));
    }));

  test('gathers and joins states as it would the rows of what they come from', () =>
    holds(family, async ({ stack, x, start, batch, random, expectSame }) => {
      const rows = Int32Array.from({ length: 3 }, () => integer(random, 0, batch - 1));
      const whole = await stack.scan(x, start);
      const some = await whole.state.gather(rows);
      const joined = await SsmState.concat([some, whole.state, some]);
      const order = [...rows, ...Array.from({ length: batch }, (_, i) => i), ...rows];
      const twice = await scan(stack, rowsOf(x, order), joined);
      const once = await scan(stack, x, whole.state);
      for (const state of [whole.state, some, joined]) state.release();
      expectSame(twice, rowsOfOutcome(once, order));
    }));

  test('consumes neither its inputs nor the state', () =>
    holds(family, async ({ stack, x, start, reset }) => {
      const before = await start.toArrays();
      const given = x.data.slice();
      const first = await scan(stack, x, start, { reset });
      expect(x.data).toBeBitEqual(given);
      const second = await scan(stack, x, start, { reset });
      expectBits(second, first);
      expectBits({ y: x, state: await start.toArrays() }, { y: x, state: before });
    }));

  test('goes on from a reset as from a fresh state, whichever rows and steps are reset', () =>
    holds(
      family,
      async ({ stack, x, start, reset, batch, steps, expectSame }) => {
        const together = await scan(stack, x, start, { reset });
        for (let row = 0; row < batch; row++) {
          const own = rowsOf(x, [row]);
          const flags = elements(rowsOf(reset, [row]));
          const y = nd(new Float32Array(steps * stack.dModel), own.shape);
          let state = await start.gather(Int32Array.of(row));
          let from = 0;
          for (const to of everyStep(steps).filter((t) => t === steps || flags[t] === 1)) {
            if (flags[from] === 1) {
              state.release();
              state = stack.initialState(1);
            }
            const piece = await stack.scan(cut(own, 1, from, to), state);
            state.release();
            state = piece.state;
            write(cut(y, 1, from, to), elements(piece.y));
            from = to;
          }
          expectSame(rowsOfOutcome(together, [row]), await outcome({ y, state }));
        }
      },
      { batch: 3, steps: 5 },
    ));

  test('starts from zeros where no state is given', () =>
    holds(family, async ({ stack, x, reset, batch }) => {
      const zero = stack.initialState(batch);
      const arrays = Object.values(await zero.toArrays());
      expect(arrays.every((view) => elements(view).every((element) => element === 0))).toBe(true);
      expectBits(await scan(stack, x, undefined, { reset }), await scan(stack, x, zero, { reset }));
      zero.release();
    }));

  test('returns the state as it is for no steps', () =>
    holds(family, async ({ stack, x, start, reset, batch }) => {
      const none = { reset: cut(reset, 1, 0, 0) };
      const { y, state } = await stack.scan(cut(x, 1, 0, 0), start, none);
      expect(y.shape).toEqual([batch, 0, stack.dModel]);
      expect(y.data).toHaveLength(0);
      const expected = { y: x, state: await start.toArrays() };
      // It is the caller's, whatever becomes of the other.
      start.release();
      expectBits({ y: x, state: await state.toArrays() }, expected);
      expectBits(await scan(stack, x, state), await scan(stack, x, state));
      state.release();
    }));

  test('takes an empty batch', () =>
    holds(family, async ({ stack, x, start, reset, steps }) => {
      const none = await start.gather(new Int32Array(0));
      const empty = { reset: cut(reset, 0, 0, 0) };
      const { y, state } = await stack.scan(cut(x, 0, 0, 0), none, empty);
      expect(y.shape).toEqual([0, steps, stack.dModel]);
      const joined = await SsmState.concat([none, start, state]);
      expectBits({ y: x, state: await joined.toArrays() }, { y: x, state: await start.toArrays() });
      for (const each of [none, state, joined]) each.release();
      expect((await stack.step(nd(new Float32Array(0), [0, stack.dModel]))).state.batch).toBe(0);
    }));

  test('lets NaN and infinity of a row reach no other row, and no earlier step', () =>
    holds(family, async ({ stack, x, start, reset, batch, steps, random }) => {
      const clean = await scan(stack, x, start, { reset });
      const rows = [integer(random, 0, batch - 1)];
      const others = Array.from({ length: batch }, (_, i) => i).filter((i) => !rows.includes(i));
      const t = integer(random, 0, steps - 1);
      const bad = nd(elements(x), x.shape);
      write(cut(bad, 1, t, steps), elements(poisoned(cut(x, 1, t, steps), rows, random)));
      const later = await scan(stack, bad, start, { reset });
      expectBits(rowsOfOutcome(later, others), rowsOfOutcome(clean, others));
      expect(elements(cut(later.y, 1, 0, t))).toBeBitEqual(elements(cut(clean.y, 1, 0, t)));

      const badStart = await poisonedState(stack, start, rows, random);
      const worse = await scan(stack, bad, badStart, { reset });
      badStart.release();
      expectBits(rowsOfOutcome(worse, others), rowsOfOutcome(clean, others));
      // What was poisoned is gone from wherever the stack keeps its intermediate results.
      expectBits(await scan(stack, x, start, { reset }), clean);
    }));

  test('is clean after a reset of a poisoned row, at its first step and inside', () =>
    holds(family, async ({ stack, x, start, batch, steps, random, expectSame }) => {
      const row = integer(random, 0, batch - 1);
      const t = integer(random, 0, steps - 1);
      const bad = nd(elements(x), x.shape);
      if (t > 0) write(cut(bad, 1, 0, t), elements(poisoned(cut(x, 1, 0, t), [row], random)));
      const badStart = await poisonedState(stack, start, [row], random);
      const flags = new Uint8Array(batch * steps);
      flags[row * steps + t] = 1;
      const result = await scan(stack, bad, badStart, { reset: nd(flags, [batch, steps]) });
      badStart.release();
      const fresh = await scan(stack, cut(rowsOf(x, [row]), 1, t, steps));
      const own = rowsOfOutcome(result, [row]);
      expectSame({ ...own, y: cut(own.y, 1, t, steps) }, fresh);
      const all = [fresh.y, ...Object.values(own.state)];
      expect(all.every(finite)).toBe(true);
    }));

  test('gives the same in every form', () =>
    holds(
      family,
      async ({ weights, stack, x, start, reset, form }) => {
        const actual = await scan(stack, x, start, { reset });
        const unreset = await scan(stack, x, start);
        for (const other of forms.filter(({ name }) => name !== form.name)) {
          const there = await tiny(weights, other);
          const state = there.restore(await start.toArrays());
          expectClose(await scan(there, x, state, { reset }), actual);
          expectClose(await scan(there, x, state), unreset);
          state.release();
        }
      },
      { of: [kernelForms[0]] },
    ));

  test('reads strided inputs as packed ones', () =>
    holds(family, async ({ stack, x, start, reset, random }) => {
      const strided = write(scattered(x.shape, random, Number.NaN), elements(x));
      const flags = write(scattered(reset.shape, random, Number.NaN), elements(reset));
      const expected = await scan(stack, x, start, { reset });
      expectBits(await scan(stack, strided, start, { reset: flags }), expected);
    }));
});

describe.each(kernelForms)('in the form $name', (form) => {
  const sizes = [
    [37, 1],
    [17, 16],
    [5, 7],
    [3, 40],
    [2, 259],
    [1, 300],
  ] as const;

  const tried = families.flatMap((family) =>
    tinyStacks[family].slice(0, 3).map((weights) => ({ family, name: weights.name, weights })),
  );

  test.each(tried)(
    'a $family of $name has the same bits at any tile and in any split',
    async (of) => {
      const { weights } = of;
      const random = uniform(7);
      const usual = await tiny(weights, form);
      for (const [batch, steps] of sizes) {
        const x = inputs(batch, steps, weights.dModel, batch);
        const from = startOf(usual, batch, steps);
        const reset = resets(batch, steps, 3);
        for (const flags of [undefined, reset]) {
          const options = flags === undefined ? {} : { reset: flags };
          const expected = await scan(usual, x, from, options);
          for (const tile of [16, 32]) {
            const stack = await tiny(weights, form, tile);
            const start = stack.restore(await from.toArrays());
            expectBits(await scan(stack, x, start, options), expected);
            const ends = [1, 15, 16, 17, 31, 33, 255, 256, 257, steps];
            const some = ends.filter((t) => t === steps || (t < steps && random() < 0.6));
            expectBits(await scanPieces(stack, x, some, start, flags), expected);
            const at = integer(random, 0, batch);
            for (const [first, end] of [
              [0, at],
              [at, batch],
            ]) {
              const rows = Array.from({ length: end - first }, (_, i) => first + i);
              const state = await start.gather(Int32Array.from(rows));
              const own = flags === undefined ? {} : { reset: cut(flags, 0, first, end) };
              const part = await scan(stack, cut(x, 0, first, end), state, own);
              state.release();
              expectBits(part, rowsOfOutcome(expected, rows));
            }
            start.release();
          }
        }
        from.release();
      }
    },
  );
});

describe('bounds of the step size', () => {
  const [weights] = tinyStacks.mamba2.filter(({ config }) => config.dtLimit !== undefined);
  const x = inputs(3, 5, weights.dModel, 1);

  test.each(forms)('of 0 leave the state of the scan to the bit, $name', async ({ options }) => {
    const config = { ...weights.config, ...options, dtLimit: [0, 0] as const };
    await using stack = await loadStack('mamba2', weights.tensors, config);
    const start = startOf(stack, 3, 2);
    const before = await start.toArrays();
    for (const ends of [[5], everyStep(5), [2, 5]]) {
      const { state } = await scanPieces(stack, x, ends, start);
      for (const name of Object.keys(state).filter((key) => key.endsWith('ssm'))) {
        expect(elements(state[name])).toBeBitEqual(elements(before[name]));
      }
    }
    start.release();
  });

  test.each(forms)('bind a step as they do a sequence, $name', async (form) => {
    const bound = await tiny(weights, form);
    const { dtLimit: _, ...unbound } = weights.config;
    await using free = await loadStack('mamba2', weights.tensors, { ...unbound, ...form.options });
    const whole = await scan(bound, x);
    expectClose(await scanPieces(bound, x, everyStep(5)), whole);
    const gap = elements((await scan(free, x)).y).map((y, i) => Math.abs(y - whole.y.data[i]));
    expect(Math.max(...gap)).toBeGreaterThan(0.01);
  });
});

describe.each(families)('a stack of %s in the form auto', (family) => {
  test.each(tinyStacks[family])('carries a state from form to form, $name', async (weights) => {
    const auto = await tiny(weights, autoForm);
    const kernels = await tiny(weights, kernelForms[0]);
    const follow = async (stack: SsmStack): Promise<Outcome[]> => {
      const few = inputs(2, 1, weights.dModel, 1);
      const many = inputs(64, 1, weights.dModel, 2);
      const small = await stack.scan(few);
      const rows = Int32Array.from({ length: 64 }, (_, i) => i % 2);
      const spread = await small.state.gather(rows);
      const large = await stack.scan(many, spread);
      const back = await large.state.gather(Int32Array.of(63, 0));
      const again = await stack.scan(few, back);
      spread.release();
      back.release();
      return Promise.all([small, large, again].map(outcome));
    };
    const expected = await follow(kernels);
    for (const [i, actual] of (await follow(auto)).entries()) expectClose(actual, expected[i]);
  });
});

describe.each(families)('scans of a stack of %s that are started together', (family) => {
  test.each(forms)('give what they give one after another, $name', async (form) => {
    const stacks = await Promise.all(tinyStacks[family].map((weights) => tiny(weights, form, 16)));
    const jobs = Array.from({ length: 40 }, (_, i) => {
      const stack = stacks[i % 3];
      const [batch, steps] = [1 + (i % 7), 1 + (i % 5)];
      const x = inputs(batch, steps, stack.dModel, i);
      return { stack, x, start: startOf(stack, batch, i), reset: resets(batch, steps, i) };
    });
    const expected: Outcome[] = [];
    for (const { stack, x, start, reset } of jobs) {
      expected.push(await scan(stack, x, start, { reset }));
    }
    const together = jobs.map(({ stack, x, start, reset }) => scan(stack, x, start, { reset }));
    for (const [i, actual] of (await Promise.all(together)).entries()) {
      expectBits(actual, expected[i]);
      jobs[i].start.release();
    }
  });
});
