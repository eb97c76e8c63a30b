/**
 * A binary tree over non-negative weights: each inner node holds the sum of its two children, so that a
 * point of the cumulated weights is found in O(log n).
 *
 * Leaves are padded to a power of two, which makes the tree complete and every leaf lie at one depth.
 * Sums are float64 and made anew from the children at every change, never by adding differences: the
 * tree is a function of its leaves alone and cannot drift, however long it is used.
 */
export class SumTree {
  /** Number of weights. */
  readonly size: number;
  readonly #leaves: number;
  readonly #depth: number;
  /** Node `k` has children `2k` and `2k + 1`; the root is 1. */
  readonly #sum: Float64Array;
  /** Smallest positive weight below each node, `Infinity` where there is none. */
  readonly #least: Float64Array;

  /**
   * A tree of zeros.
   *
   * @param size - number of weights, 1 to 2^30
   * @throws RangeError when the size is out of range
   */
  constructor(size: number) {
    if (!Number.isInteger(size) || size < 1 || size > 2 ** 30) {
      throw new RangeError(`SumTree: size must be an integer in 1..2^30, got ${size}`);
    }
    this.size = size;
    this.#depth = 0;
    while (2 ** this.#depth < size) this.#depth++;
    this.#leaves = 2 ** this.#depth;
    this.#sum = new Float64Array(2 * this.#leaves);
    this.#least = new Float64Array(2 * this.#leaves).fill(Infinity);
  }

  /** Sum of all weights. */
  get total(): number {
    return this.#sum[1];
  }

  /** Smallest positive weight, `Infinity` where there is none. */
  get least(): number {
    return this.#least[1];
  }

  /** The largest weight that may be set: the sum of all leaves stays finite. */
  get limit(): number {
    return Number.MAX_VALUE / (2 * this.#leaves);
  }

  /** A weight. */
  get(leaf: number): number {
    return this.#sum[this.#leaves + leaf];
  }

  /**
   * Sets weights; of a leaf that comes more than once, the last one holds.
   *
   * @param leaf - places, `[n]`
   * @param weight - finite and non-negative, `[n]`
   * @throws RangeError when a place or a weight is out of range; the tree is then as before
   */
  set(leaf: Int32Array, weight: Float64Array): void {
    for (let i = 0; i < leaf.length; i++) {
      if (leaf[i] < 0 || leaf[i] >= this.size) {
        throw new RangeError(
          `SumTree.set: leaf must lie in 0..${this.size - 1}, got ${leaf[i]} at ${i}`,
        );
      }
      this.#expectWeight('set', weight[i]);
    }
    let count = leaf.length;
    const nodes = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      nodes[i] = this.#leaves + leaf[i];
      this.#put(nodes[i], weight[i]);
    }
    // Level by level, and a parent once for neighbours that share it.
    for (let level = 0; level < this.#depth; level++) {
      let parents = 0;
      for (let i = 0; i < count; i++) {
        const parent = nodes[i] >>> 1;
        if (parents > 0 && nodes[parents - 1] === parent) continue;
        nodes[parents++] = parent;
        this.#join(parent);
      }
      count = parents;
    }
  }

  /**
   * Gives the leaves `from .. to - 1` one weight, in O(to - from + log size).
   *
   * @throws RangeError when a place or the weight is out of range; the tree is then as before
   */
  fill(from: number, to: number, weight: number): void {
    if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && to <= this.size)) {
      throw new RangeError(`SumTree.fill: leaves must lie in 0..${this.size}, got ${from}..${to}`);
    }
    this.#expectWeight('fill', weight);
    if (from >= to) return;
    let low = this.#leaves + from;
    let high = this.#leaves + to - 1;
    for (let node = low; node <= high; node++) this.#put(node, weight);
    while (low > 1) {
      low >>>= 1;
      high >>>= 1;
      for (let node = low; node <= high; node++) this.#join(node);
    }
  }

  /**
   * The leaves that points of the cumulated weights lie in: leaf `i` owns
   * `[w_0 + ... + w_(i-1), w_0 + ... + w_i)`.
   *
   * A leaf of weight 0 is never returned, whatever the rounding: points are held below the total, and a
   * branch without weight is never entered. All points go down a level together, so that their loads
   * from memory overlap.
   *
   * @param mass - points in `[0, total)`, `[n]`; overwritten
   * @param out - `[n]`, written
   * @throws RangeError when the total is 0
   */
  find(mass: Float64Array, out: Int32Array): void {
    const { total } = this;
    if (!(total > 0)) {
      throw new RangeError(`SumTree.find: the total weight must be positive, got ${total}`);
    }
    const sum = this.#sum;
    const n = out.length;
    const last = total * (1 - 2 ** -53);
    for (let i = 0; i < n; i++) {
      if (!(mass[i] <= last)) mass[i] = last;
      out[i] = 1;
    }
    for (let level = 0; level < this.#depth; level++) {
      for (let i = 0; i < n; i++) {
        const node = 2 * out[i];
        const left = sum[node];
        if (mass[i] < left || sum[node + 1] === 0) {
          out[i] = node;
        } else {
          mass[i] -= left;
          out[i] = node + 1;
        }
      }
    }
    for (let i = 0; i < n; i++) out[i] -= this.#leaves;
  }

  #put(node: number, weight: number): void {
    this.#sum[node] = weight;
    this.#least[node] = weight > 0 ? weight : Infinity;
  }

  #join(node: number): void {
    const left = 2 * node;
    this.#sum[node] = this.#sum[left] + this.#sum[left + 1];
    this.#least[node] = Math.min(this.#least[left], this.#least[left + 1]);
  }

  #expectWeight(name: string, weight: number): void {
    if (!(weight >= 0 && weight <= this.limit)) {
      throw new RangeError(
        `SumTree.${name}: a weight must be a number in 0..${this.limit}, got ${weight}`,
      );
    }
  }
}
