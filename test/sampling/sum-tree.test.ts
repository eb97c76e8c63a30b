import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SumTree } from '../../src/sampling/sum-tree.js';

const RUNS = { numRuns: 1000, seed: 21 };

function treeOf(weights: readonly number[]): SumTree {
  const tree = new SumTree(weights.length);
  tree.set(
    Int32Array.from(weights, (_, i) => i),
    Float64Array.from(weights),
  );
  return tree;
}

function find(tree: SumTree, mass: readonly number[]): number[] {
  const out = new Int32Array(mass.length);
  tree.find(Float64Array.from(mass), out);
  return [...out];
}

const weights = fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e6, noNaN: true })), {
  minLength: 1,
  maxLength: 40,
});

describe('SumTree', () => {
  test('finds the leaf whose interval a point lies in, for any number of leaves', () => {
    // Integers have exact sums: the borders themselves must come out right.
    const integers = fc.array(fc.nat(9), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(integers, (list) => {
        const total = list.reduce((sum, w) => sum + w, 0);
        fc.pre(total > 0);
        const owners = list.flatMap((w, i) => new Array<number>(w).fill(i));
        expect(
          find(
            treeOf(list),
            owners.map((_, mass) => mass),
          ),
        ).toEqual(owners);
        expect(
          find(
            treeOf(list),
            owners.map((_, mass) => mass + 0.5),
          ),
        ).toEqual(owners);
      }),
      RUNS,
    );
  });

  test('gives a border to the leaf after it: goes left only where mass < left', () => {
    expect(find(treeOf([1, 1]), [0, 1 - 2 ** -53, 1])).toEqual([0, 0, 1]);
  });

  test('keeps leaves in order where their number is no power of two', () => {
    // An unpadded heap of five leaves would give them two depths and another order.
    const mass = [0.5, 1.5, 2.5, 3.5, 4.5];
    expect(find(treeOf([1, 1, 1, 1, 1]), mass)).toEqual([0, 1, 2, 3, 4]);
  });

  test('never returns a leaf of weight 0, whatever the point', () => {
    const points = fc.array(fc.double({ min: 0, max: 2, noNaN: true }), { minLength: 1 });
    fc.assert(
      fc.property(weights, points, (list, shares) => {
        const tree = treeOf(list);
        fc.pre(tree.total > 0);
        for (const leaf of find(
          tree,
          shares.map((share) => share * tree.total),
        )) {
          expect(list[leaf]).toBeGreaterThan(0);
        }
      }),
      RUNS,
    );
  });

  test('does not leave for a leaf of 0 where the total is too small to stay below', () => {
    // 5e-324 has no smaller positive neighbour: the point is the total itself.
    expect(find(treeOf([5e-324, 0]), [5e-324])).toEqual([0]);
  });

  test('holds points at and above the total, and NaN, below it', () => {
    const tree = treeOf([0.1, 0.2, 0.3, 0, 0]);
    expect(find(tree, [tree.total, 2 * tree.total, Infinity, Number.NaN])).toEqual([2, 2, 2, 2]);
  });

  test('does not drift: after many changes it equals a tree made anew', () => {
    const tree = new SumTree(100);
    const list = new Array<number>(100).fill(0);
    // Weights of very different size are what running differences lose digits on.
    for (let round = 0; round < 20_000; round++) {
      const leaf = (round * 37) % 100;
      list[leaf] = round % 3 === 0 ? 0 : 10 ** ((round % 33) - 16);
      tree.set(Int32Array.of(leaf), Float64Array.of(list[leaf]));
    }
    expect(tree.total).toBe(treeOf(list).total);
    tree.fill(0, 100, 0);
    expect(tree.total).toBe(0);
  });

  test('fills a range as it sets leaves, and knows the smallest positive weight', () => {
    fc.assert(
      fc.property(weights, fc.nat(40), fc.nat(40), fc.nat(5), (list, a, b, weight) => {
        const from = Math.min(a, b, list.length);
        const to = Math.min(Math.max(a, b), list.length);
        const tree = treeOf(list);
        tree.fill(from, to, weight);
        const expected = list.map((w, i) => (i >= from && i < to ? weight : w));
        expect(tree.total).toBe(treeOf(expected).total);
        expect(tree.least).toBe(Math.min(...expected.filter((w) => w > 0)));
        expect(expected.map((_, i) => tree.get(i))).toEqual(expected);
      }),
      RUNS,
    );
  });

  test('takes the last weight of a leaf that is set twice', () => {
    const tree = treeOf([1, 1]);
    tree.set(Int32Array.of(0, 0), Float64Array.of(5, 2));
    expect([tree.get(0), tree.total]).toEqual([2, 3]);
  });

  test('refuses weights that are none and is then as before', () => {
    const tree = treeOf([1, 2]);
    for (const weight of [Number.NaN, -1, Infinity, 1e308]) {
      const both = Float64Array.of(7, weight);
      expect(() => tree.set(Int32Array.of(0, 1), both)).toThrow(RangeError);
      expect(() => tree.fill(0, 1, weight)).toThrow(RangeError);
    }
    expect(() => tree.set(Int32Array.of(2), Float64Array.of(1))).toThrow(
      'SumTree.set: leaf must lie in 0..1, got 2 at 0',
    );
    expect(() => tree.fill(0, 3, 1)).toThrow(RangeError);
    expect([tree.get(0), tree.get(1), tree.total]).toEqual([1, 2, 3]);
    expect(() => find(new SumTree(3), [0])).toThrow('the total weight must be positive, got 0');
    expect(() => new SumTree(0)).toThrow(RangeError);
  });
});
