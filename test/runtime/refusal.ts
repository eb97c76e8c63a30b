/** How tests state that something is refused: the exact class, and what its message must say. */

import { expect } from 'vitest';

// Error classes differ in their constructors' arguments.
// biome-ignore lint/suspicious/noExplicitAny: any constructor will do
type ErrorClass = new (...args: any[]) => Error;

/** Awaits a failure of exactly this class whose message contains each of the parts. */
export async function expectRefusal(
  attempt: Promise<unknown>,
  errorClass: ErrorClass,
  ...parts: string[]
): Promise<void> {
  const [outcome] = await Promise.allSettled([attempt]);
  expect(outcome.status, 'nothing was refused').toBe('rejected');
  const { reason } = outcome as PromiseRejectedResult;
  expect(reason).toBeInstanceOf(Error);
  expect(reason.constructor, String(reason)).toBe(errorClass);
  for (const part of parts) expect(reason.message).toContain(part);
}

/** The same for a function that throws at once. */
export function expectThrow(act: () => unknown, errorClass: ErrorClass, ...parts: string[]): void {
  let thrown: unknown;
  try {
    act();
  } catch (error) {
    thrown = error;
  }
  expect(thrown, 'nothing was thrown').toBeInstanceOf(Error);
  const error = thrown as Error;
  expect(error.constructor).toBe(errorClass);
  for (const part of parts) expect(error.message).toContain(part);
}
