/**
 * Where episodes begin among rows that are numbered from 0 in the order they were added.
 *
 * An episode reaches from its first row to the first row of the next, or to the newest row.
 */
export class EpisodeLog {
  #begins: number[] = [];
  /** Place of the oldest episode still stored; those before it are dropped now and then. */
  #first = 0;
  /** Whether the next row belongs to the newest episode. */
  open = false;

  /** Number of episodes with stored rows. */
  get count(): number {
    return this.#begins.length - this.#first;
  }

  /** Begins an episode at a row. */
  begin(row: number): void {
    this.#begins.push(row);
    this.open = true;
  }

  /** Drops the episodes that lie wholly before a row. */
  forget(oldest: number): void {
    const begins = this.#begins;
    while (this.#first + 1 < begins.length && begins[this.#first + 1] <= oldest) this.#first++;
    if (this.#first > 1024 && 2 * this.#first > begins.length) {
      this.#begins = begins.slice(this.#first);
      this.#first = 0;
    }
  }

  /** Place, from 0 for the oldest, of the episode that a stored row belongs to. */
  find(row: number): number {
    const begins = this.#begins;
    let low = this.#first;
    let high = begins.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (begins[middle] <= row) low = middle;
      else high = middle;
    }
    return low - this.#first;
  }

  /** First row of an episode, which may be overwritten already. */
  beginOf(place: number): number {
    return this.#begins[this.#first + place];
  }

  /** The row after the last of an episode. */
  endOf(place: number, added: number): number {
    return place + 1 < this.count ? this.#begins[this.#first + place + 1] : added;
  }

  /**
   * The log of the rows from one on, numbered from 0. An episode that began before it begins at -1: its
   * first row is none of these.
   */
  since(oldest: number): EpisodeLog {
    const log = new EpisodeLog();
    const begins = this.#begins;
    for (let i = this.#first; i < begins.length; i++) {
      if (i + 1 < begins.length && begins[i + 1] <= oldest) continue;
      log.#begins.push(Math.max(begins[i] - oldest, -1));
    }
    log.open = this.open;
    return log;
  }

  /** First rows of the stored episodes, oldest first. */
  toArray(): Float64Array {
    return Float64Array.from(this.#begins.slice(this.#first));
  }

  /** The log with the given first rows. */
  static from(begins: Float64Array, open: boolean): EpisodeLog {
    const log = new EpisodeLog();
    log.#begins = [...begins];
    log.open = open;
    return log;
  }
}
