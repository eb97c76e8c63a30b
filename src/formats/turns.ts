/** Milliseconds of uninterrupted work, after which others get their turn. */
const TURN = 16;

/**
 * Gives a function that lets other tasks run when it was long since it last did: timers, such as those that
 * abort a signal, what draws a page, what answers a server's callers. Promises alone let none of them run.
 */
export function turns(): () => Promise<void> | undefined {
  let last = performance.now();
  return () => {
    if (performance.now() - last < TURN) return undefined;
    return othersFirst().then(() => {
      last = performance.now();
    });
  };
}

function othersFirst(): Promise<void> {
  // Node's own is a hundred times as quick as a timer; browsers have none.
  const { setImmediate } = globalThis as { setImmediate?: (callback: () => void) => unknown };
  return new Promise((resolve) => {
    if (setImmediate === undefined) setTimeout(resolve, 0);
    else setImmediate(resolve);
  });
}
