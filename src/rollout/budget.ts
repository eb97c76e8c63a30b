/** A time limit for work in laps: whether another lap, as long as the longest so far, would end in time. */
export class Budget {
  readonly #end: number;
  #lap: number = performance.now();
  #longest = 0;

  /**
   * @param what - the planner's name, for messages
   * @param budgetMs - milliseconds from now on; no limit when left out
   * @throws RangeError when it is negative
   */
  constructor(what: string, budgetMs: number = Number.POSITIVE_INFINITY) {
    if (!(budgetMs >= 0)) {
      throw new RangeError(`${what}: budgetMs must not be negative, got ${budgetMs}`);
    }
    this.#end = this.#lap + budgetMs;
  }

  /** Begins a lap anew, so that what was done before counts for none. */
  begin(): void {
    this.#lap = performance.now();
  }

  /** Ends a lap. */
  lap(): void {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#lap);
    this.#lap = now;
  }

  /** Whether there is time for another lap. */
  allowsLap(): boolean {
    return this.#lap + this.#longest <= this.#end;
  }
}
