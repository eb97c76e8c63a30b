/** The committed models and fixtures, as tests use them. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type NdView, nd } from 'umwelt';
import { recordedObservations } from '../../examples/hopper/starts.js';

/** Path of a file in the repository. */
export function inRepository(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(inRepository(path), 'utf8')) as T;
}

export const HOPPER_ENSEMBLE: string = inRepository('examples/models/hopper-ensemble');
export const HOPPER_POLICY: string = inRepository('examples/models/hopper-policy');

/** A toy ensemble of three members; every form holds the same weights. */
export function toyEnsemble(form: string): string {
  return inRepository(`test/fixtures/ensembles/${form}`);
}

/** Observations of the recorded start states, `[256, 11]`. */
export function hopperStarts(): NdView {
  return nd(recordedObservations());
}

/** The ids `first .. first + length - 1`. */
export function ids(length: number, first = 0): Uint32Array {
  return Uint32Array.from({ length }, (_, i) => first + i);
}
