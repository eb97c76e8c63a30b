import { afterAll, beforeAll, describe } from 'vitest';
import { networkTests } from './network-tests.js';
import type { Place } from './place.js';
import { recurrenceTests } from './recurrence-tests.js';
import { identityGraph, type Session } from './session.js';
import { ssmTests } from './ssm-tests.js';

/**
 * The tests that hold on every device, at 1e-4. They run one after another: overlapping runs hang
 * WebGPU on the web.
 */
export function deviceTests(place: Place): void {
  describe(place.name, () => {
    // ONNX Runtime leaves the GPU with its last session, and its compiled shaders go with it: one
    // session that stays saves each test nearly a second for each shader it shares.
    let anchor: Session;
    beforeAll(async () => {
      const options = { executionProviders: [place.device] };
      anchor = await place.ort.InferenceSession.create(identityGraph(['N']), options);
    });
    afterAll(() => anchor.release());

    networkTests(place);
    recurrenceTests(place);
    ssmTests(place);
  });
}
