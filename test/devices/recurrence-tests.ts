import { expect, test } from 'vitest';
import type { Place } from './place.js';
import {
  emptyMemory,
  numbers,
  type RecurrenceInputs,
  recurrence,
  recurrenceModel,
  shapes,
} from './recurrence.js';
import { type OrtTensor, openSession, readBack, type Session } from './session.js';

const sizes = { H: 3, P: 4, N: 8 };
const B = 2;
const close = { rtol: 1e-4, atol: 1e-4 };

/** Inputs of `T` steps that start from memory that is not empty. */
function inputsOf(T: number): RecurrenceInputs {
  const { x, decay, window, state } = shapes(sizes, B, T);
  const size = (shape: number[]) => shape.reduce((product, length) => product * length, 1);
  return {
    x: numbers(size(x), 1),
    decay: numbers(size(decay), 2).map((value) => -1 - value),
    window: numbers(size(window), 5),
    state: numbers(size(state), 6),
  };
}

/** Step `t` of a `[B, T, width]` array. */
function stepOf(sequence: Float32Array, t: number, T: number): Float32Array {
  const width = sequence.length / (B * T);
  return Float32Array.from({ length: B * width }, (_, i) => {
    const b = Math.floor(i / width);
    return sequence[(b * T + t) * width + (i % width)];
  });
}

/** The operators and the device-resident tensors that state-space models are built on. */
export function recurrenceTests(place: Place): void {
  const tensor = (data: Float32Array, dims: readonly number[]): OrtTensor =>
    new place.ort.Tensor('float32', data, dims);
  const run = async (session: Session, inputs: RecurrenceInputs, T: number) => {
    const dims = shapes(sizes, B, T);
    const { y, nextWindow, nextState } = await session.run({
      x: tensor(inputs.x, dims.x),
      decay: tensor(inputs.decay, dims.decay),
      window: tensor(inputs.window, dims.window),
      state: tensor(inputs.state, dims.state),
    });
    return { y: y.data, window: nextWindow.data, state: nextState.data };
  };

  test.each([1, 7])(
    'CausalConvWithState and LinearAttention are a recurrence, T = %i',
    async (T) => {
      const session = await openSession(place, recurrenceModel(sizes));
      const inputs = inputsOf(T);
      const result = await run(session, inputs, T);
      const expected = recurrence(sizes, inputs, B);
      expect(result.y).toBeAllclose(expected.y, close);
      expect(result.window).toBeAllclose(expected.window, close);
      expect(result.state).toBeAllclose(expected.state, close);
    },
  );

  test('a state that stays on the device is carried from step to step', async () => {
    const T = 5;
    const here = place.device === 'webgpu' ? 'gpu-buffer' : 'cpu';
    const session = await openSession(place, recurrenceModel(sizes), {
      y: 'cpu',
      nextWindow: here,
      nextState: here,
    });
    const inputs = { ...inputsOf(T), ...emptyMemory(sizes, B) };
    const dims = shapes(sizes, B, 1);
    let window = tensor(inputs.window, dims.window);
    let state = tensor(inputs.state, dims.state);
    const steps: Float32Array[] = [];
    for (let t = 0; t < T; t++) {
      const next = await session.run({
        x: tensor(stepOf(inputs.x, t, T), dims.x),
        decay: tensor(stepOf(inputs.decay, t, T), dims.decay),
        window,
        state,
      });
      expect([next.nextWindow.location, next.nextState.location]).toEqual([here, here]);
      window.dispose();
      state.dispose();
      window = next.nextWindow;
      state = next.nextState;
      steps.push(next.y.data as Float32Array);
    }
    const expected = recurrence(sizes, inputs, B);
    for (let t = 0; t < T; t++) expect(steps[t]).toBeAllclose(stepOf(expected.y, t, T), close);
    expect(await readBack(place, window)).toBeAllclose(expected.window, close);
    expect(await readBack(place, state)).toBeAllclose(expected.state, close);
    window.dispose();
    state.dispose();
  });
}
