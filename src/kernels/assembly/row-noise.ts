/**
 * The bulk path of the row noise in WASM SIMD: the same bits as `../row-noise-scalar.ts`, which
 * says what the numbers are and why the arithmetic is as it is.
 *
 * Four Philox blocks go side by side: lane `i` of vector `w` holds word `w` of block `i`. Every
 * float operation stands in the scalar's order.
 *
 * Rules for the kernels of this folder. The first two show in no test, only in a benchmark:
 *
 * 1. Innermost loops are `do { } while`. V8 may move the work before a top-tested loop into it,
 *    which made one kernel twice as slow.
 * 2. Constants of hot code are loaded from linear memory (`splat` below): newer V8 builds a vector
 *    literal anew in every iteration.
 * 3. No relaxed SIMD where bits are promised: it may round differently on another machine.
 */

/** Rows a call takes at most; a caller with more comes in pieces. */
export const rowCapacity: i32 = 1 << 14;
/** Numbers a call gives at most, a multiple of 4. */
export const capacity: i32 = 1 << 16;

/** Where the caller puts trajectory ids, uint32 `[rows]`. */
export const ids: usize = memory.data(rowCapacity << 2, 16);
/** Where results come, float32 `[rows, columns]`, with room for what the last four blocks spill. */
export const out: usize = memory.data((capacity + 16) << 2, 16);

/**
 * Where the caller puts the bounds and shares of a truncated distribution, float32 `[6]`: low, high,
 * below, above, start, mass.
 */
export const truncation: usize = memory.data(24, 16);

const UNIFORM: i32 = 0;
const NORMAL: i32 = 1;
const GUMBEL: i32 = 2;
const TRUNCATED_NORMAL: i32 = 3;

/** Each round's two key words, every word in all four lanes. */
const KEYS: usize = memory.data(10 * 32, 16);
const KEYS_END: usize = KEYS + 10 * 32;

const LANE: usize = memory.data<u32>([0, 1, 2, 3], 16);

const MULTIPLIER_0: usize = memory.data<u32>([0xd2511f53]);
const MULTIPLIER_1: usize = memory.data<u32>([0xcd9e8d57]);
const SIGN: usize = memory.data<u32>([0x80000000]);
const ANGLE_BITS: usize = memory.data<u32>([0x3fffffff]);
const ANGLE_MIDDLE: usize = memory.data<u32>([0x20000000]);
const SQRT_HALF_BITS: usize = memory.data<u32>([0x3f3504f3]);

const TWO_POW_MINUS_24: usize = memory.data<f32>([5.960464477539063e-8]);
const TWO_POW_MINUS_32: usize = memory.data<f32>([2.3283064365386963e-10]);
const TWO_POW_MINUS_33: usize = memory.data<f32>([1.1641532182693481e-10]);
const QUARTER_TURN_PER_WORD: usize = memory.data<f32>([1.4629180792671596e-9]);
const LN2: usize = memory.data<f32>([0.6931471805599453]);
const HALF: usize = memory.data<f32>([0.5]);
const ONE: usize = memory.data<f32>([1]);
const TWO: usize = memory.data<f32>([2]);
const MINUS_TWO: usize = memory.data<f32>([-2]);
const L3: usize = memory.data<f32>([0.6666666666666666]);
const L5: usize = memory.data<f32>([0.4]);
const L7: usize = memory.data<f32>([0.2857142857142857]);
const L9: usize = memory.data<f32>([0.2222222222222222]);
const S3: usize = memory.data<f32>([-0.16666666666666666]);
const S5: usize = memory.data<f32>([0.008333333333333333]);
const S7: usize = memory.data<f32>([-0.0001984126984126984]);
const S9: usize = memory.data<f32>([0.0000027557319223985893]);
const QUARTER: usize = memory.data<f32>([0.25]);
const TWO_AND_A_HALF: usize = memory.data<f32>([2.5]);
const FIVE: usize = memory.data<f32>([5]);
const C4: usize = memory.data<f32>([0.041666666666666664]);
const C6: usize = memory.data<f32>([-0.001388888888888889]);
const C8: usize = memory.data<f32>([0.0000248015873015873]);
const C10: usize = memory.data<f32>([-2.755731922398589e-7]);

/** Coefficients of the normal quantile, the highest power first. */
const CENTRE: usize = memory.data<f32>([
  3.98672633e-8, 4.85199052e-7, -0.00000498566351, -0.00000620957417, 0.000309135736, -0.00177303178,
  -0.00590815861, 0.348802686, 2.12331367,
]);
const TAIL: usize = memory.data<f32>([
  2854.68848, -1212.19812, -100.423241, 58.9441071, 10.3889494, -0.883416116, 0.791296721,
  0.114257365, -0.280269295, 1.3575685,
]);

/**
 * Noise for the columns of some rows: `out` from `ids`.
 *
 * @param distribution - `UNIFORM`, `NORMAL`, `GUMBEL` or `TRUNCATED_NORMAL`
 * @param rows - how many ids, 1..rowCapacity
 * @param columns - numbers a row, at least 1; `rows * columns` is at most `capacity`
 * @param first - counter word 0 of column 0
 */
export function fill(
  distribution: i32,
  rows: i32,
  columns: i32,
  first: u32,
  step: u32,
  stream: u32,
  k0: u32,
  k1: u32,
): void {
  scheduleKeys(k0, k1);
  const c1 = i32x4.splat(step);
  const c3 = i32x4.splat(stream);
  const blocks = (columns + 3) >> 2;
  const rowBytes: usize = columns << 2;
  let id = ids;
  let row = out;

  // Four rows at once, one a lane. A row's last block may spill into the next row, so it is stored
  // before that row's first.
  while (rows >= 4) {
    const c2 = v128.load(id);
    let block = blocks - 1;
    do {
      store(distribution, i32x4.splat(first + block), c1, c2, c3, row + (block << 4), rowBytes);
    } while (--block >= 0);
    id += 16;
    row += rowBytes << 2;
    rows -= 4;
  }

  // The rows left, four of a row's blocks at once.
  const lane = v128.load(LANE);
  while (rows > 0) {
    const c2 = splat(id);
    let block = 0;
    do {
      const c0 = i32x4.add(i32x4.splat(first + block), lane);
      store(distribution, c0, c1, c2, c3, row + (block << 4), 16);
      block += 4;
    } while (block < blocks);
    id += 4;
    row += rowBytes;
    rows--;
  }
}

function scheduleKeys(k0: u32, k1: u32): void {
  let key = KEYS;
  do {
    v128.store(key, i32x4.splat(k0));
    v128.store(key, i32x4.splat(k1), 16);
    k0 += 0x9e3779b9;
    k1 += 0xbb67ae85;
    key += 32;
  } while (key < KEYS_END);
}

/** Draws four blocks and stores the four numbers of block `i` at `at + i * stride`. */
function store(
  distribution: i32,
  c0: v128,
  c1: v128,
  c2: v128,
  c3: v128,
  at: usize,
  stride: usize,
): void {
  if (distribution == NORMAL) storeNormal(c0, c1, c2, c3, at, stride);
  else if (distribution == UNIFORM) storeUniform(c0, c1, c2, c3, at, stride);
  else if (distribution == GUMBEL) storeGumbel(c0, c1, c2, c3, at, stride);
  else storeTruncatedNormal(c0, c1, c2, c3, at, stride);
}

// A function for each distribution: with the branch inside, normal numbers take a tenth longer.

function storeNormal(c0: v128, c1: v128, c2: v128, c3: v128, at: usize, stride: usize): void {
  storeAs(NORMAL, c0, c1, c2, c3, at, stride);
}

function storeUniform(c0: v128, c1: v128, c2: v128, c3: v128, at: usize, stride: usize): void {
  storeAs(UNIFORM, c0, c1, c2, c3, at, stride);
}

function storeGumbel(c0: v128, c1: v128, c2: v128, c3: v128, at: usize, stride: usize): void {
  storeAs(GUMBEL, c0, c1, c2, c3, at, stride);
}

function storeTruncatedNormal(
  c0: v128,
  c1: v128,
  c2: v128,
  c3: v128,
  at: usize,
  stride: usize,
): void {
  storeAs(TRUNCATED_NORMAL, c0, c1, c2, c3, at, stride);
}

// @ts-ignore: decorator
@inline
function storeAs(
  distribution: i32,
  c0: v128,
  c1: v128,
  c2: v128,
  c3: v128,
  at: usize,
  stride: usize,
): void {
  const m0 = splat(MULTIPLIER_0);
  const m1 = splat(MULTIPLIER_1);
  let key = KEYS;
  do {
    const low0 = i64x2.extmul_low_i32x4_u(c0, m0);
    const high0 = i64x2.extmul_high_i32x4_u(c0, m0);
    const low1 = i64x2.extmul_low_i32x4_u(c2, m1);
    const high1 = i64x2.extmul_high_i32x4_u(c2, m1);
    c0 = v128.xor(v128.xor(v128.shuffle<i32>(low1, high1, 1, 3, 5, 7), c1), v128.load(key));
    c2 = v128.xor(v128.xor(v128.shuffle<i32>(low0, high0, 1, 3, 5, 7), c3), v128.load(key, 16));
    c1 = v128.shuffle<i32>(low1, high1, 0, 2, 4, 6);
    c3 = v128.shuffle<i32>(low0, high0, 0, 2, 4, 6);
    key += 32;
  } while (key < KEYS_END);

  let x0: v128, y0: v128, x1: v128, y1: v128;
  if (distribution == NORMAL) {
    const radius0 = radius(c0);
    const angle0 = angle(c1);
    const sine0 = sine(angle0);
    const cosine0 = cosine(angle0);
    x0 = f32x4.mul(radius0, turnedX(c1, sine0, cosine0));
    y0 = f32x4.mul(radius0, turnedY(c1, sine0, cosine0));
    const radius1 = radius(c2);
    const angle1 = angle(c3);
    const sine1 = sine(angle1);
    const cosine1 = cosine(angle1);
    x1 = f32x4.mul(radius1, turnedX(c3, sine1, cosine1));
    y1 = f32x4.mul(radius1, turnedY(c3, sine1, cosine1));
  } else if (distribution == GUMBEL) {
    x0 = gumbel(c0);
    y0 = gumbel(c1);
    x1 = gumbel(c2);
    y1 = gumbel(c3);
  } else if (distribution == TRUNCATED_NORMAL) {
    x0 = truncatedNormal(c0);
    y0 = truncatedNormal(c1);
    x1 = truncatedNormal(c2);
    y1 = truncatedNormal(c3);
  } else {
    x0 = upper24(c0);
    y0 = upper24(c1);
    x1 = upper24(c2);
    y1 = upper24(c3);
  }

  // Four vectors of one word each become four blocks.
  const head01 = v128.shuffle<i32>(x0, y0, 0, 4, 1, 5);
  const head23 = v128.shuffle<i32>(x0, y0, 2, 6, 3, 7);
  const tail01 = v128.shuffle<i32>(x1, y1, 0, 4, 1, 5);
  const tail23 = v128.shuffle<i32>(x1, y1, 2, 6, 3, 7);
  v128.store(at, v128.shuffle<i64>(head01, tail01, 0, 2));
  v128.store(at + stride, v128.shuffle<i64>(head01, tail01, 1, 3));
  v128.store(at + 2 * stride, v128.shuffle<i64>(head23, tail23, 0, 2));
  v128.store(at + 3 * stride, v128.shuffle<i64>(head23, tail23, 1, 3));
}

// @ts-ignore: decorator
@inline
function splat(constant: usize): v128 {
  return v128.load32_splat(constant);
}

/** `c + z * series`, each operation rounded. */
// @ts-ignore: decorator
@inline
function horner(c: usize, z: v128, series: v128): v128 {
  return f32x4.add(splat(c), f32x4.mul(z, series));
}

// @ts-ignore: decorator
@inline
function upper24(word: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_u(word, 8)), splat(TWO_POW_MINUS_24));
}

/** The distance of u from the nearer end of (0, 1); `upper` has all bits of the words above 2^31. */
// @ts-ignore: decorator
@inline
function nearestEnd(word: v128, upper: v128): v128 {
  const count = f32x4.convert_i32x4_s(v128.xor(word, upper));
  return f32x4.mul(f32x4.add(count, splat(HALF)), splat(TWO_POW_MINUS_32));
}

// @ts-ignore: decorator
@inline
function gumbel(word: v128): v128 {
  const upper = i32x4.shr_s(word, 31);
  const nearest = nearestEnd(word, upper);
  const one = splat(ONE);
  const u = v128.bitselect(f32x4.sub(one, nearest), nearest, upper);
  const exponent = i32x4.shr_s(i32x4.sub(u, splat(SQRT_HALF_BITS)), 23);
  const m = i32x4.sub(u, i32x4.shl(exponent, 23));
  const whole = i32x4.eq(exponent, i32x4.splat(0));
  const less = v128.bitselect(f32x4.neg(nearest), f32x4.sub(m, one), whole);
  return f32x4.neg(log(f32x4.neg(logOfParts(exponent, m, less))));
}

// @ts-ignore: decorator
@inline
function truncatedNormal(word: v128): v128 {
  const upper = i32x4.shr_s(word, 31);
  const nearest = nearestEnd(word, upper);
  const rest = f32x4.sub(splat(ONE), nearest);
  const mass = splat(truncation + 20);
  const before = f32x4.mul(mass, v128.bitselect(rest, nearest, upper));
  const after = f32x4.mul(mass, v128.bitselect(nearest, rest, upper));
  const left = f32x4.add(splat(truncation + 8), before);
  const right = f32x4.add(splat(truncation + 12), after);
  const x = f32x4.add(splat(truncation + 16), before);
  const z = quantile(x, f32x4.neg(log(f32x4.mul(left, right))));
  return f32x4.pmin(f32x4.pmax(z, splat(truncation)), splat(truncation + 4));
}

// @ts-ignore: decorator
@inline
function quantile(x: v128, w: v128): v128 {
  const d = f32x4.sub(w, splat(TWO_AND_A_HALF));
  let series = horner(CENTRE + 4, d, splat(CENTRE));
  series = horner(CENTRE + 8, d, series);
  series = horner(CENTRE + 12, d, series);
  series = horner(CENTRE + 16, d, series);
  series = horner(CENTRE + 20, d, series);
  series = horner(CENTRE + 24, d, series);
  series = horner(CENTRE + 28, d, series);
  series = horner(CENTRE + 32, d, series);
  const z = f32x4.mul(x, series);
  const far = f32x4.ge(w, splat(FIVE));
  // Seldom, and never with the bounds that are usual.
  if (v128.any_true(far)) return v128.bitselect(tailQuantile(x, w), z, far);
  return z;
}

/** The quantile where w is 5 or more. */
function tailQuantile(x: v128, w: v128): v128 {
  const root = f32x4.sqrt(w);
  const d = f32x4.sub(f32x4.div(splat(ONE), root), splat(QUARTER));
  let series = splat(TAIL);
  let coefficient = TAIL + 4;
  do {
    series = horner(coefficient, d, series);
    coefficient += 4;
  } while (coefficient < TAIL + 40);
  return f32x4.mul(x, f32x4.mul(root, series));
}

// @ts-ignore: decorator
@inline
function radius(word: v128): v128 {
  const u = f32x4.mul(f32x4.convert_i32x4_u(word), splat(TWO_POW_MINUS_32));
  // pmax is one instruction; it differs from max in NaN and -0 alone, which do not come here.
  return f32x4.sqrt(f32x4.mul(splat(MINUS_TWO), log(f32x4.pmax(u, splat(TWO_POW_MINUS_33)))));
}

// @ts-ignore: decorator
@inline
function log(x: v128): v128 {
  const exponent = i32x4.shr_s(i32x4.sub(x, splat(SQRT_HALF_BITS)), 23);
  const m = i32x4.sub(x, i32x4.shl(exponent, 23));
  return logOfParts(exponent, m, f32x4.sub(m, splat(ONE)));
}

/** ln(2^exponent m), given m - 1. */
// @ts-ignore: decorator
@inline
function logOfParts(exponent: v128, m: v128, less: v128): v128 {
  const s = f32x4.div(less, f32x4.add(m, splat(ONE)));
  const z = f32x4.mul(s, s);
  const series = horner(TWO, z, horner(L3, z, horner(L5, z, horner(L7, z, splat(L9)))));
  const scaled = f32x4.mul(f32x4.convert_i32x4_s(exponent), splat(LN2));
  return f32x4.add(scaled, f32x4.mul(s, series));
}

// @ts-ignore: decorator
@inline
function angle(word: v128): v128 {
  const offset = i32x4.sub(v128.and(word, splat(ANGLE_BITS)), splat(ANGLE_MIDDLE));
  return f32x4.mul(f32x4.convert_i32x4_s(offset), splat(QUARTER_TURN_PER_WORD));
}

// @ts-ignore: decorator
@inline
function sine(x: v128): v128 {
  const z = f32x4.mul(x, x);
  const series = horner(S3, z, horner(S5, z, horner(S7, z, splat(S9))));
  return f32x4.add(x, f32x4.mul(x, f32x4.mul(z, series)));
}

// @ts-ignore: decorator
@inline
function cosine(x: v128): v128 {
  const z = f32x4.mul(x, x);
  const series = horner(C4, z, horner(C6, z, horner(C8, z, splat(C10))));
  const start = f32x4.sub(splat(ONE), f32x4.mul(splat(HALF), z));
  return f32x4.add(start, f32x4.mul(f32x4.mul(z, z), series));
}

/** The cosine after the quarter turns that the word's upper two bits say. */
// @ts-ignore: decorator
@inline
function turnedX(word: v128, sine: v128, cosine: v128): v128 {
  const up = i32x4.shl(word, 1);
  const sign = v128.and(v128.xor(word, up), splat(SIGN));
  return v128.xor(v128.bitselect(sine, cosine, i32x4.shr_s(up, 31)), sign);
}

/** The sine after them. */
// @ts-ignore: decorator
@inline
function turnedY(word: v128, sine: v128, cosine: v128): v128 {
  const swapped = i32x4.shr_s(i32x4.shl(word, 1), 31);
  return v128.xor(v128.bitselect(cosine, sine, swapped), v128.and(word, splat(SIGN)));
}
