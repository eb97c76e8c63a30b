/**
 * Times tasks in turns, so that a busy moment of the machine falls on all of them: trust the ratios.
 * A turn is a quarter of a second and its first run is not counted, for it finds the caches as another
 * task left them.
 */

const TURN_MS = 250;

/** Quantiles of a task's times, in milliseconds. */
export interface Timing {
  name: string;
  runs: number;
  p25: number;
  median: number;
  p75: number;
}

/**
 * Runs each task once to warm up and then all of them in rotating turns.
 *
 * @param seconds - how long to go on, at least five rounds
 */
export async function interleaved(
  tasks: Readonly<Record<string, () => Promise<unknown>>>,
  seconds: number,
): Promise<Timing[]> {
  const names = Object.keys(tasks);
  const times = new Map<string, number[]>(names.map((name) => [name, []]));
  for (const name of names) await tasks[name]();
  const end = performance.now() + 1000 * seconds;
  for (let round = 0; round < 5 || performance.now() < end; round++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length];
      await tasks[name]();
      const turnEnd = performance.now() + TURN_MS;
      do {
        const began = performance.now();
        await tasks[name]();
        times.get(name)?.push(performance.now() - began);
      } while (performance.now() < turnEnd);
    }
  }
  return [...times].map(([name, list]) => {
    const sorted = list.sort((a, b) => a - b);
    const quantile = (q: number) => sorted[Math.round(q * (sorted.length - 1))];
    return {
      name,
      runs: list.length,
      p25: quantile(0.25),
      median: quantile(0.5),
      p75: quantile(0.75),
    };
  });
}
