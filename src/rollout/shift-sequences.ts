/** What is left of planned sequences once their first actions have been taken. */

/**
 * Sequences `[..., H, A]` without their first steps, filled up at the end.
 *
 * @param data - the sequences, row-major; a carry's `[B, H, A]` or `[B, K, H, A]`
 * @param sequences - how many there are, the product of the axes before `H`
 * @param horizon - steps of a sequence, `H`
 * @param width - numbers of a step, `A`
 * @param steps - how many steps were taken, `0 .. H`
 * @param fill - the numbers of a step that nothing is known of, `[A]`: the middle of a box
 * @returns new memory of the same length
 */
export function shiftSequences(
  data: Float32Array,
  sequences: number,
  horizon: number,
  width: number,
  steps: number,
  fill: ArrayLike<number>,
): Float32Array {
  const size = horizon * width;
  const gone = steps * width;
  const out = new Float32Array(sequences * size);
  for (let s = 0; s < sequences; s++) {
    out.set(data.subarray(s * size + gone, (s + 1) * size), s * size);
    for (let i = size - gone; i < size; i++) out[s * size + i] = fill[i % width];
  }
  return out;
}

/**
 * Checks a number of steps to shift by.
 *
 * @param what - the name used in messages, such as `CemPlanner`
 * @throws RangeError unless it is an integer in `0 .. horizon`
 */
export function expectSteps(what: string, steps: number, horizon: number): void {
  if (!Number.isInteger(steps) || steps < 0 || steps > horizon) {
    throw new RangeError(
      `${what}.shift: steps must be an integer in 0..${horizon}, the actions of the plan, got ${steps}`,
    );
  }
}
