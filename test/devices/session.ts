/** Sessions of ONNX Runtime itself, for what the library does not show. */

import { GraphBuilder } from 'umwelt/onnx';
import { onTestFinished } from 'vitest';
import type { OrtModule, Place } from './place.js';

/** A loaded graph. */
export type Session = Awaited<ReturnType<OrtModule['InferenceSession']['create']>>;

/** A tensor, wherever it lies. */
export type OrtTensor = InstanceType<OrtModule['Tensor']>;

/** Where a session leaves its outputs: all of them, or each by name. */
export type OutputLocation = 'cpu' | 'gpu-buffer' | Readonly<Record<string, 'cpu' | 'gpu-buffer'>>;

/** Loads a graph on the place's device until the test ends. */
export async function openSession(
  place: Place,
  model: Uint8Array,
  preferredOutputLocation: OutputLocation = 'cpu',
): Promise<Session> {
  const session = await place.ort.InferenceSession.create(model, {
    executionProviders: [place.device],
    preferredOutputLocation,
  });
  onTestFinished(() => session.release());
  return session;
}

/** A graph that gives what it is fed. */
export function identityGraph(shape: readonly (number | string)[]): Uint8Array {
  const g = new GraphBuilder();
  g.op('Identity', [g.input('x', shape)], {}, { output: 'y' });
  g.output('y', shape);
  return g.build();
}

/** Copies a float32 tensor off the device by a graph: in Node `getData()` aborts the process. */
export async function readBack(place: Place, tensor: OrtTensor): Promise<Float32Array> {
  const session = await openSession(place, identityGraph(tensor.dims));
  const { y } = await session.run({ x: tensor });
  return y.data as Float32Array;
}
