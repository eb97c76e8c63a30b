/** Checks between a manifest's fields that several kinds of models share. */

import type { ActionSpace } from './manifest.js';

/** Refuses a manifest: which field, and what must hold and what came. */
export type FailManifest = (field: string, problem: string) => never;

/** Checks that a list has one entry for each of something. */
export function expectLength(
  fail: FailManifest,
  field: string,
  values: readonly unknown[],
  length: number,
  meaning: string,
): void {
  if (values.length !== length) {
    fail(field, `must have ${meaning} = ${length} entries, got ${values.length}`);
  }
}

/** Checks that an action space has `actionSize` dimensions and that its bounds are apart. */
export function checkAction(fail: FailManifest, action: ActionSpace, actionSize: number): void {
  if (action.type === 'discrete') {
    if (action.n !== actionSize) {
      fail('action.n', `must be actionSize ${actionSize} (one-hot), got ${action.n}`);
    }
    return;
  }
  expectLength(fail, 'action.low', action.low, actionSize, 'actionSize');
  expectLength(fail, 'action.high', action.high, actionSize, 'actionSize');
  const flat = action.low.findIndex((low, i) => !(low < action.high[i]));
  if (flat >= 0) fail('action.low', `must be below high, got ${action.low[flat]} at ${flat}`);
}
