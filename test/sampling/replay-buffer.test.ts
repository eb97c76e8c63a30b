import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { writeNpz } from '../../src/formats/npz.js';
import { type NdView, nd, ShapeError } from '../../src/nd.js';
import { ReplayBuffer } from '../../src/sampling/replay-buffer.js';
import { SequenceSampler } from '../../src/sampling/sequence-sampler.js';
import { UniformSampler } from '../../src/sampling/uniform-sampler.js';

const RUNS = { numRuns: 1000, seed: 23 };

/** Rows that know their number and their episode. */
const schema = {
  number: 'int32',
  episode: 'float64',
  pair: { dtype: 'float32', shape: [2] },
  terminated: 'uint8',
  truncated: 'uint8',
} as const;

type Numbered = ReplayBuffer<typeof schema>;

type Action =
  | { kind: 'add'; end: number }
  | { kind: 'batch'; ends: number[]; alone: boolean }
  | { kind: 'trajectory'; lengths: number[] }
  | { kind: 'end' };

const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), end: fc.nat(4) }),
  fc.record({
    kind: fc.constant('batch' as const),
    ends: fc.array(fc.nat(4), { maxLength: 30 }),
    alone: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('trajectory' as const),
    lengths: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant('end' as const) }),
);
const actions = fc.array(action, { maxLength: 12 });
const capacities = fc.integer({ min: 1, max: 24 });

/** What a buffer must hold: all rows ever added, in order, with the number of their episode. */
class Model {
  episodes: number[] = [];
  ends: number[] = [];
  #episode = 0;
  #open = false;

  add(end: number): void {
    if (!this.#open) this.#episode++;
    this.#open = end > 1;
    this.episodes.push(this.#episode);
    this.ends.push(end);
  }

  close(): void {
    this.#open = false;
  }
}

function rowsOf(model: Model, from: number) {
  const numbers = model.ends.slice(from).map((_, i) => from + i);
  const n = numbers.length;
  const flags = (kind: number) => Uint8Array.from(numbers, (i) => (model.ends[i] === kind ? 1 : 0));
  return {
    number: Int32Array.from(numbers),
    episode: Float64Array.from(numbers, (i) => model.episodes[i]),
    pair: nd(Float32Array.from(numbers.flatMap((i) => [i, -i])), [n, 2]),
    terminated: flags(0),
    truncated: flags(1),
  };
}

function apply(buffer: Numbered, model: Model, list: readonly Action[]): void {
  for (const step of list) {
    const from = model.ends.length;
    if (step.kind === 'end') {
      model.close();
      buffer.endEpisode();
    } else if (step.kind === 'add') {
      model.add(step.end);
      const { number, episode, pair, terminated, truncated } = rowsOf(model, from);
      buffer.add({
        number: number[0],
        episode: episode[0],
        pair: pair.data,
        terminated: terminated[0],
        truncated: truncated[0],
      });
    } else if (step.kind === 'batch') {
      for (const end of step.ends) {
        if (step.alone) model.close();
        model.add(end);
        if (step.alone) model.close();
      }
      buffer.addBatch(rowsOf(model, from), { consecutive: !step.alone });
    } else {
      model.close();
      const startIndex: number[] = [];
      const stepIndex: number[] = [];
      for (const [start, length] of step.lengths.entries()) {
        for (let t = 0; t < length; t++) {
          model.add(9);
          startIndex.push(start);
          stepIndex.push(t);
        }
        model.close();
      }
      buffer.addTrajectory({
        ...rowsOf(model, from),
        startIndex: Int32Array.from(startIndex),
        stepIndex: Int32Array.from(stepIndex),
      });
    }
  }
}

const slotsOf = ({ size }: Numbered) => Int32Array.from({ length: size }, (_, slot) => slot);

describe('ReplayBuffer', () => {
  test('holds the newest rows, however they were added', () => {
    fc.assert(
      fc.property(capacities, actions, (capacity, list) => {
        const buffer = new ReplayBuffer({ capacity, schema });
        const model = new Model();
        apply(buffer, model, list);
        const total = model.ends.length;
        expect(buffer.added).toBe(total);
        expect(buffer.size).toBe(Math.min(total, capacity));
        const rows = buffer.get(slotsOf(buffer));
        for (let row = total - buffer.size; row < total; row++) {
          const slot = row % capacity;
          expect(rows.number[slot]).toBe(row);
          expect(rows.episode[slot]).toBe(model.episodes[row]);
          expect(rows.pair.data[2 * slot]).toBe(row);
          expect(rows.pair.data[2 * slot + 1]).toBe(-row);
          expect(rows.terminated[slot]).toBe(model.ends[row] === 0 ? 1 : 0);
        }
      }),
      RUNS,
    );
  });

  test('knows where each stored episode begins and ends', () => {
    fc.assert(
      fc.property(capacities, actions, (capacity, list) => {
        const buffer = new ReplayBuffer({ capacity, schema });
        const model = new Model();
        apply(buffer, model, list);
        const total = model.ends.length;
        const stored = model.episodes.slice(total - buffer.size);
        const { start, length } = buffer.episodes();
        const seen: number[] = [];
        for (const [k, slot] of start.entries()) {
          const span = buffer.span(slot);
          expect(span).toEqual({ before: 0, from: length[k] });
          for (let t = 0; t < length[k]; t++) {
            const at = (slot + t) % capacity;
            seen.push(buffer.columns.episode[at]);
            expect(buffer.span(at)).toEqual({ before: t, from: length[k] - t });
          }
        }
        expect(seen).toEqual(stored);
        expect(start.length).toBe(new Set(stored).size);
        const first = buffer.isFirst(slotsOf(buffer));
        for (let row = total - buffer.size; row < total; row++) {
          const begins = row === 0 || model.episodes[row - 1] !== model.episodes[row];
          expect(first[row % capacity]).toBe(begins ? 1 : 0);
        }
      }),
      RUNS,
    );
  });

  test('restores a snapshot to a buffer that behaves the same ever after', () => {
    fc.assert(
      fc.property(capacities, actions, actions, fc.nat(1000), (capacity, list, more, seed) => {
        const buffer = new ReplayBuffer({ capacity, schema });
        const model = new Model();
        apply(buffer, model, list);
        const snapshot = structuredClone(buffer.snapshot());
        const twin = ReplayBuffer.restore(snapshot, schema);
        expect(twin.snapshot()).toEqual(buffer.snapshot());
        const length = Math.min(3, capacity);
        const sampler = new SequenceSampler(buffer, { length });
        const twinSampler = new SequenceSampler(twin, { length });
        // The same history gives the twin a model of its own.
        const replay = new Model();
        apply(new ReplayBuffer({ capacity, schema }), replay, list);
        apply(buffer, model, more);
        apply(twin, replay, more);
        expect(twin.snapshot()).toEqual(buffer.snapshot());
        expect(twin.episodes()).toEqual(buffer.episodes());
        expect(twinSampler.size).toBe(sampler.size);
        if (sampler.size > 0) {
          expect(twinSampler.sample(5, seed)).toEqual(sampler.sample(5, seed));
        }
      }),
      RUNS,
    );
  });

  test('reads windows that are consecutive rows of one episode', () => {
    fc.assert(
      fc.property(capacities, actions, fc.integer({ min: 1, max: 6 }), (capacity, list, length) => {
        fc.pre(length <= capacity);
        const buffer = new ReplayBuffer({ capacity, schema });
        const model = new Model();
        apply(buffer, model, list);
        for (const slot of slotsOf(buffer)) {
          const { from } = buffer.span(slot);
          const start = Int32Array.of(slot, slot);
          if (from < length) {
            expect(() => buffer.windows(start, length)).toThrow(
              `ReplayBuffer.windows: a window must end within its episode, got ${from} rows`,
            );
            continue;
          }
          const { number, episode, pair } = buffer.windows(start, length);
          expect(number.shape).toEqual([2, length]);
          expect(pair.shape).toEqual([2, length, 2]);
          for (let i = 0; i < 2 * length; i++) {
            const row = buffer.columns.number[slot] + (i % length);
            expect(number.data[i]).toBe(row);
            expect(episode.data[i]).toBe(episode.data[0]);
            expect([...pair.data.subarray(2 * i, 2 * i + 2)]).toEqual([row, -row]);
          }
        }
      }),
      RUNS,
    );
  });

  test('lets windows span episodes, and the head of a full ring, only when asked', () => {
    const buffer = new ReplayBuffer({ capacity: 4, schema: { x: 'int8', terminated: 'uint8' } });
    buffer.addBatch({ x: Int8Array.of(0, 1, 2), terminated: Uint8Array.of(0, 1, 0) });
    const start = Int32Array.of(1);
    expect(() => buffer.windows(start, 2)).toThrow(RangeError);
    expect([...buffer.windows(start, 2, { cross: 'episodes' }).x.data]).toEqual([1, 2]);
    // Not full: beyond the newest row nothing was ever written.
    for (const cross of ['episodes', 'head'] as const) {
      expect(() => buffer.windows(start, 3, { cross })).toThrow(
        'a window must end within the newest row, got 2 rows from slot 1 for length 3',
      );
    }
    buffer.addBatch({ x: Int8Array.of(3, 4, 5), terminated: new Uint8Array(3) });
    expect([...buffer.columns.x]).toEqual([4, 5, 2, 3]);
    expect([...buffer.windows(Int32Array.of(2), 4).x.data]).toEqual([2, 3, 4, 5]);
    expect(() => buffer.windows(start, 2, { cross: 'episodes' })).toThrow(RangeError);
    expect([...buffer.windows(start, 4, { cross: 'head' }).x.data]).toEqual([5, 2, 3, 4]);
    expect(() => buffer.windows(start, 2, { cross: 'all' as 'head' })).toThrow(
      "cross must be 'none', 'episodes' or 'head', got all",
    );
    expect(() => buffer.windows(start, 5)).toThrow('length must be an integer in 1..4, got 5');
  });

  test('keeps the last rows of a batch larger than its capacity', () => {
    const buffer = new ReplayBuffer({ capacity: 3, schema: { x: 'float32' } });
    buffer.add({ x: -1 });
    buffer.addBatch({ x: Float32Array.from({ length: 10 }, (_, i) => i) });
    expect(buffer.added).toBe(11);
    expect(buffer.size).toBe(3);
    // Rows 8, 9 and 10 lie in slots 2, 0 and 1.
    expect([...buffer.columns.x]).toEqual([8, 9, 7]);
  });

  test('goes on after a batch that exactly fills it', () => {
    const buffer = new ReplayBuffer({ capacity: 3, schema: { x: 'float32' } });
    buffer.addBatch({ x: Float32Array.of(1, 2, 3) });
    buffer.add({ x: 4 });
    expect([...buffer.columns.x]).toEqual([4, 2, 3]);
  });

  test('writes again into memory it is given, from a row on', () => {
    const buffer = new ReplayBuffer({ capacity: 4, schema });
    apply(buffer, new Model(), [{ kind: 'batch', ends: [3, 3, 3], alone: false }]);
    const out = buffer.get(Int32Array.of(0, 0, 0));
    const { data } = out.pair;
    expect(buffer.get(Int32Array.of(2, 1), { out, at: 1 })).toBe(out);
    expect([...out.number]).toEqual([0, 2, 1]);
    expect(out.pair.data).toBe(data);
    expect([...data]).toEqual([0, -0, 2, -2, 1, -1]);
    const windows = buffer.windows(Int32Array.of(0), 2);
    expect(buffer.windows(Int32Array.of(1), 2, { out: windows })).toBe(windows);
    expect([...windows.number.data]).toEqual([1, 2]);
    expect(() => buffer.get(Int32Array.of(0, 1), { out, at: 2 })).toThrow(ShapeError);
    expect(() =>
      buffer.get(Int32Array.of(0), { out: { ...out, number: out.pair.data as never } }),
    ).toThrow(TypeError);
    expect(() => buffer.windows(Int32Array.of(0), 1, { out: windows })).toThrow(ShapeError);
  });

  test('copies every dtype and width bit for bit, rows of any alignment among them', () => {
    const dtypes = [
      'float32',
      'float64',
      'int8',
      'int16',
      'int32',
      'uint8',
      'uint16',
      'uint32',
    ] as const;
    for (const dtype of dtypes) {
      for (const width of [1, 2, 3, 5, 17, 64, 300]) {
        const field = { dtype, shape: [width] } as const;
        const buffer = new ReplayBuffer({ capacity: 7, schema: { x: field } });
        const column = buffer.columns.x as NdView<Float32Array>;
        const bytes = new Uint8Array(column.data.buffer);
        // Any bits, signalling NaN among them.
        const noise = Uint8Array.from(bytes, (_, i) => (i * 151 + 77) & 255);
        const Elements = column.data.constructor as typeof Float32Array;
        buffer.addBatch({ x: nd(new Elements(noise.buffer), [7, width]) as never });
        expect(bytes).toEqual(noise);
        const index = Int32Array.of(6, 0, 3, 3);
        const got = buffer.get(index).x as NdView;
        const rowBytes = bytes.length / 7;
        for (const [i, slot] of index.entries()) {
          const from = i * rowBytes;
          expect(new Uint8Array(got.data.buffer, from, rowBytes)).toEqual(
            noise.subarray(slot * rowBytes, (slot + 1) * rowBytes),
          );
        }
      }
    }
  });

  test('takes strided views and copies what it takes', () => {
    const buffer = new ReplayBuffer({
      capacity: 4,
      schema: { x: { dtype: 'float32', shape: [2] } },
    });
    const data = Float32Array.of(1, 2, 3, 4);
    buffer.addBatch({ x: { data, shape: [2, 2], stride: [1, 2], offset: 0 } });
    buffer.add({ x: nd(data.subarray(0, 2)) });
    data.fill(0);
    expect([...buffer.columns.x.data]).toEqual([1, 3, 2, 4, 1, 2, 0, 0]);
  });

  test('has the types of its schema', () => {
    const buffer = new ReplayBuffer({
      capacity: 1,
      schema: { obs: { dtype: 'uint8', shape: [2, 2] }, reward: 'float32', k: { dtype: 'int32' } },
    });
    const rows = () => buffer.get(new Int32Array(0));
    expectTypeOf(rows).returns.toEqualTypeOf<{
      readonly obs: NdView<Uint8Array>;
      readonly reward: Float32Array;
      readonly k: Int32Array;
    }>();
    expectTypeOf(buffer.windows).returns.toHaveProperty('reward').toEqualTypeOf<NdView>();
    // @ts-expect-error a field is missing
    expect(() => buffer.add({ obs: new Uint8Array(4), reward: 1 })).toThrow(TypeError);
  });

  test('takes the rows of a trajectory as they are', () => {
    const buffer = new ReplayBuffer({
      capacity: 8,
      schema: { reward: 'float32', truncated: 'uint8' },
    });
    buffer.add({ reward: -1, truncated: 0 });
    buffer.addTrajectory({
      reward: Float32Array.of(0, 1, 2, 3),
      truncated: Uint8Array.of(0, 1, 0, 0),
      startIndex: Int32Array.of(0, 0, 1, 2),
      stepIndex: Int32Array.of(0, 1, 0, 0),
      ...{ member: new Int32Array(4) },
    });
    buffer.add({ reward: 4, truncated: 0 });
    expect([...buffer.episodes().length]).toEqual([1, 2, 1, 1, 1]);
  });

  test('is written as npz and restored from its arrays without a schema', () => {
    const buffer = new ReplayBuffer({ capacity: 4, schema });
    apply(buffer, new Model(), [{ kind: 'batch', ends: [3, 0, 3, 3, 1, 3], alone: false }]);
    const snapshot = buffer.snapshot();
    expect(writeNpz(snapshot).length).toBeGreaterThan(0);
    expect(ReplayBuffer.restore(snapshot).snapshot()).toEqual(snapshot);
    // A file gives rank 1 as a view.
    const views = Object.fromEntries(
      Object.entries(snapshot).map(([name, x]) => [name, ArrayBuffer.isView(x) ? nd(x) : x]),
    );
    expect(ReplayBuffer.restore(views, schema).snapshot()).toEqual(snapshot);
  });

  test('shares no memory with its snapshots', () => {
    const buffer = new ReplayBuffer({ capacity: 2, schema: { x: 'float32' } });
    buffer.add({ x: 1 });
    const snapshot = buffer.snapshot();
    const twin = ReplayBuffer.restore(snapshot, { x: 'float32' });
    buffer.columns.x[0] = 2;
    (snapshot.x as Float32Array)[0] = 3;
    expect(twin.columns.x[0]).toBe(1);
  });
});

describe('ReplayBuffer, given bad input', () => {
  const filled = () => {
    const buffer = new ReplayBuffer({ capacity: 4, schema });
    apply(buffer, new Model(), [{ kind: 'batch', ends: [3, 0, 3], alone: false }]);
    return buffer;
  };
  const row = { number: 0, episode: 0, pair: new Float32Array(2), terminated: 0, truncated: 0 };
  const rows = () => {
    const model = new Model();
    model.add(3);
    model.add(3);
    return rowsOf(model, 0);
  };

  test.each<[string, object, new () => Error, string]>([
    [
      'a missing field',
      { episode: undefined },
      TypeError,
      'episode must be a number, got undefined',
    ],
    ['text', { episode: '1' }, TypeError, 'episode must be a number, got string'],
    [
      'a fraction',
      { number: 0.5 },
      RangeError,
      'number must be an integer in -2147483648..2147483647 (int32), got 0.5',
    ],
    [
      'a flag of 256',
      { terminated: 256 },
      RangeError,
      'terminated must be an integer in 0..255 (uint8), got 256',
    ],
    [
      'NaN as integer',
      { number: Number.NaN },
      RangeError,
      'number must be an integer in -2147483648..2147483647 (int32), got NaN',
    ],
    [
      'another dtype',
      { pair: new Float64Array(2) },
      TypeError,
      'pair must be float32 [2] (Float32Array), got a Float64Array',
    ],
    [
      'a list',
      { pair: [1, 2] },
      TypeError,
      'pair must be float32 [2] (Float32Array), got an array',
    ],
    [
      'another length',
      { pair: new Float32Array(3) },
      ShapeError as never,
      'pair must have 2 elements for shape [2], got 3',
    ],
    [
      'another shape',
      { pair: nd([[1, 2]]) },
      ShapeError as never,
      'pair must have shape [2], got [1,2]',
    ],
  ])('add refuses %s and is as before', (_, change, type, message) => {
    const buffer = filled();
    const before = buffer.snapshot();
    const attempt = () => buffer.add({ ...row, ...change } as typeof row);
    expect(attempt).toThrow(type);
    expect(attempt).toThrow(`ReplayBuffer.add: ${message}`);
    expect(buffer.snapshot()).toEqual(before);
  });

  test.each<[string, object, new () => Error, string]>([
    ['a missing field', { pair: undefined }, TypeError, 'pair must be given, got undefined'],
    [
      'another dtype',
      { number: new Float32Array(2) },
      TypeError,
      'number must be int32 [n] (Int32Array), got a Float32Array',
    ],
    [
      'a bare array for shaped rows',
      { pair: new Float32Array(4) },
      TypeError,
      'pair must be a view [2, 2], got a Float32Array; make one with nd()',
    ],
    [
      'another number of rows',
      { truncated: new Uint8Array(3) },
      ShapeError as never,
      'truncated must have shape [2], got [3]',
    ],
    [
      'another shape',
      { pair: nd(new Float32Array(6), [2, 3]) },
      ShapeError as never,
      'pair must have shape [2, 2], got [2,3]',
    ],
    [
      'a view beyond its data',
      { pair: { data: new Float32Array(3), shape: [2, 2], stride: [2, 1], offset: 0 } },
      ShapeError as never,
      'pair must be a view within its 3 elements',
    ],
  ])('addBatch refuses %s and is as before', (_, change, type, message) => {
    const buffer = filled();
    const before = buffer.snapshot();
    const attempt = () => buffer.addBatch({ ...rows(), ...change } as ReturnType<typeof rows>);
    expect(attempt).toThrow(type);
    expect(attempt).toThrow(`ReplayBuffer.addBatch: ${message}`);
    expect(buffer.snapshot()).toEqual(before);
  });

  test('addTrajectory refuses rows without starts and steps', () => {
    const buffer = filled();
    const before = buffer.snapshot();
    const startIndex = Int32Array.of(0, 0);
    expect(() => buffer.addTrajectory({ ...rows(), startIndex } as never)).toThrow(
      'ReplayBuffer.addTrajectory: stepIndex must be an Int32Array, got undefined',
    );
    expect(() =>
      buffer.addTrajectory({ ...rows(), startIndex, stepIndex: new Int32Array(3) }),
    ).toThrow(ShapeError);
    expect(buffer.snapshot()).toEqual(before);
  });

  test('get refuses slots without a row', () => {
    const buffer = filled();
    expect(() => buffer.get(Int32Array.of(0, 3))).toThrow(
      'ReplayBuffer.get: index must lie in the 3 slots that hold rows, got 3 at 1',
    );
    expect(() => buffer.get(Int32Array.of(-1))).toThrow(RangeError);
    expect(() => buffer.get([0] as never)).toThrow(TypeError);
    expect(() => buffer.span(3)).toThrow(RangeError);
    expect(() => buffer.isFirst(Int32Array.of(3))).toThrow(RangeError);
    expect(() =>
      new UniformSampler(new ReplayBuffer({ capacity: 1, schema })).sample(1, 0),
    ).toThrow('UniformSampler.sample: there must be at least 1 candidate, got 0; add rows first');
  });

  test.each<[object, new () => Error, string]>([
    [{ capacity: 0, schema }, RangeError, 'capacity must be an integer in 1..2^30, got 0'],
    [{ capacity: 1.5, schema }, RangeError, 'capacity must be'],
    [{ capacity: 1, schema: {} }, TypeError, 'schema must have at least one field, got none'],
    [{ capacity: 1, schema: null }, TypeError, 'schema must be an object of fields, got null'],
    [
      { capacity: 1, schema: { x: 'float16' } },
      TypeError,
      'the dtype of x must be one of float32, float64',
    ],
    [
      { capacity: 1, schema: { x: { dtype: 'int8', shape: 3 } } },
      TypeError,
      'the shape of x must be an array',
    ],
    [
      { capacity: 1, schema: { x: { dtype: 'int8', shape: [0] } } },
      RangeError,
      'the shape of x must consist of positive integers, got [0]',
    ],
    [
      { capacity: 1, schema: { terminated: 'float32' } },
      TypeError,
      "terminated ends episodes and must be a flag, 'uint8', got float32",
    ],
    [
      { capacity: 1, schema: { replayState: 'int8' } },
      TypeError,
      'replayState and replayEpisodes are names that snapshots use',
    ],
    [
      { capacity: 2 ** 30, schema: { x: { dtype: 'float64', shape: [2 ** 20] } } },
      RangeError,
      'field x must fit in memory as one array',
    ],
  ])('the constructor refuses %o', (options, type, message) => {
    expect(() => new ReplayBuffer(options as never)).toThrow(type);
    expect(() => new ReplayBuffer(options as never)).toThrow(message);
  });

  test.each<[string, object, new () => Error]>([
    ['no state', { replayState: undefined }, TypeError],
    ['another version', { replayState: Float64Array.of(2, 4, 3, 1) }, RangeError],
    ['a false capacity', { replayState: Float64Array.of(1, 2 ** 40, 3, 1) }, RangeError],
    ['a false number of rows', { replayState: Float64Array.of(1, 4, 9, 1) }, RangeError],
    ['episodes that do not rise', { replayEpisodes: Float64Array.of(0, 2, 1) }, RangeError],
    ['episodes that begin too late', { replayEpisodes: Float64Array.of(1) }, RangeError],
    ['no episodes', { replayEpisodes: new Float64Array(0) }, RangeError],
    ['a column too short', { number: new Int32Array(2) }, ShapeError as never],
    ['a column of another dtype', { number: new Float32Array(3) }, TypeError],
    ['a column more', { extra: new Int32Array(3) }, RangeError],
  ])('restore refuses %s', (_, change, type) => {
    expect(() => ReplayBuffer.restore({ ...filled().snapshot(), ...change }, schema)).toThrow(type);
  });
});
