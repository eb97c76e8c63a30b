/** Linear systems with quadratic costs, whose optimal cost is known: `x' = A x + B u`, cost `x'Qx + u'Ru`. */

import type { NdView } from 'umwelt';
import { ClosedFormDynamics } from 'umwelt/dynamics';
import type { ActionSpace, ValueFunction } from 'umwelt/rollout';
import { RowNoise } from 'umwelt/sampling';

type Matrix = readonly (readonly number[])[];

export interface Lqr {
  /** Its reward is minus the cost of a step. */
  readonly model: ClosedFormDynamics;
  /** A box so wide that no optimal action from the starts of the tests meets its bounds. */
  readonly actionSpace: ActionSpace & { type: 'box' };
  /** Minus the optimal cost from a state on. */
  readonly value: ValueFunction;
  /** The optimal cost from a state on, without end. */
  optimalCost(x: ArrayLike<number>): number;
  /** The cost of given actions `[H, A]` in float64, and of acting optimally after them. */
  cost(x: ArrayLike<number>, actions: ArrayLike<number>): number;
  /** The next state, in float64. */
  next(x: ArrayLike<number>, u: ArrayLike<number>): number[];
}

/** A mass pushed along a line: `[position, velocity]`. */
export function doubleIntegrator(): Lqr {
  const dt = 0.1;
  return lqr({
    A: [
      [1, dt],
      [0, 1],
    ],
    B: [[dt ** 2 / 2], [dt]],
    Q: diagonal([1, 0.1]),
    R: diagonal([0.1]),
    bound: 6,
  });
}

/** Four states and two actions with entries drawn once; every row of A adds up to less than 1. */
export function fourStates(): Lqr {
  return lqr({
    A: [
      [0.52, -0.21, 0.08, 0.14],
      [0.17, 0.61, -0.12, -0.05],
      [-0.24, 0.09, 0.44, 0.2],
      [0.06, -0.3, 0.11, 0.49],
    ],
    B: [
      [0.7, -0.2],
      [0.1, 0.5],
      [-0.4, 0.3],
      [0.2, 0.6],
    ],
    Q: diagonal([1, 0.5, 2, 1]),
    R: diagonal([0.3, 0.6]),
    bound: 1.2,
  });
}

/** States to start from, whose numbers have a root mean square of 1. */
export function lqrStarts({ model }: Lqr, count: number): number[][] {
  const rows = Uint32Array.from({ length: count }, (_, b) => b);
  const normal = new RowNoise(3, OWN_STREAM, 0, rows).normal(model.obsSize);
  return Array.from(rows, (b) => {
    const x = Array.from(rowOf(normal, b));
    const size = Math.sqrt(dot(x, x) / x.length);
    return x.map((value) => value / size);
  });
}

/** A number that is free for own code. */
const OWN_STREAM = 65_536;

interface System {
  A: Matrix;
  B: Matrix;
  Q: Matrix;
  R: Matrix;
  bound: number;
}

function lqr({ A, B, Q, R, bound }: System): Lqr {
  const P = riccati(A, B, Q, R);
  const [S, U] = [A.length, R.length];
  const next = (x: ArrayLike<number>, u: ArrayLike<number>): number[] =>
    A.map((row, i) => dot(row, x) + dot(B[i], u));
  return {
    model: new ClosedFormDynamics({
      obsSize: S,
      actionSize: U,
      next: ({ obs, action, nextObs }) => {
        for (let row = 0; row < obs.shape[0]; row++) {
          nextObs.data.set(next(rowOf(obs, row), rowOf(action, row)), row * S);
        }
      },
      reward: ({ obs, action }) =>
        Float32Array.from(
          { length: obs.shape[0] },
          (_, row) => -quadratic(Q, rowOf(obs, row)) - quadratic(R, rowOf(action, row)),
        ),
    }),
    actionSpace: {
      type: 'box',
      low: new Array(U).fill(-bound),
      high: new Array(U).fill(bound),
    },
    value: (obs) =>
      Float32Array.from({ length: obs.shape[0] }, (_, row) => -quadratic(P, rowOf(obs, row))),
    optimalCost: (x) => quadratic(P, x),
    cost(x, actions) {
      let state = Array.from(x);
      let total = 0;
      for (let t = 0; t < actions.length; t += U) {
        const u = Array.from({ length: U }, (_, d) => actions[t + d]);
        total += quadratic(Q, state) + quadratic(R, u);
        state = next(state, u);
      }
      return total + quadratic(P, state);
    },
    next,
  };
}

/** `P = Q + A'PA - A'PB (R + B'PB)^-1 B'PA`, iterated until it stands still. */
function riccati(A: Matrix, B: Matrix, Q: Matrix, R: Matrix): Matrix {
  const [At, Bt] = [transpose(A), transpose(B)];
  let P = Q;
  for (let i = 0; i < 10_000; i++) {
    const PA = times(P, A);
    const gain = times(inverse(plus(R, times(Bt, times(P, B)))), times(Bt, PA));
    const better = plus(Q, times(At, plus(PA, times(P, times(B, gain)), -1)));
    const change = Math.max(
      ...better.flatMap((row, i) => row.map((v, j) => Math.abs(v - P[i][j]))),
    );
    P = better;
    if (change < 1e-13) return P;
  }
  throw new Error('riccati: no fixed point');
}

function diagonal(values: readonly number[]): Matrix {
  return values.map((value, i) => values.map((_, j) => (i === j ? value : 0)));
}

function transpose(M: Matrix): Matrix {
  return M[0].map((_, j) => M.map((row) => row[j]));
}

function times(M: Matrix, N: Matrix): Matrix {
  const columns = transpose(N);
  return M.map((row) => columns.map((column) => dot(row, column)));
}

function plus(M: Matrix, N: Matrix, factor = 1): Matrix {
  return M.map((row, i) => row.map((value, j) => value + factor * N[i][j]));
}

/** Of one or two rows. */
function inverse(M: Matrix): Matrix {
  if (M.length === 1) return [[1 / M[0][0]]];
  const [[a, b], [c, d]] = M;
  const det = a * d - b * c;
  return [
    [d / det, -b / det],
    [-c / det, a / det],
  ];
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function quadratic(M: Matrix, x: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < M.length; i++) sum += x[i] * dot(M[i], x);
  return sum;
}

function rowOf(view: NdView, row: number): Float32Array {
  const width = view.shape[1];
  return view.data.subarray(row * width, (row + 1) * width);
}
