/** What a rollout tells of itself while it is read. */

/** How far a rollout has come. */
export interface RolloutCount {
  /** Steps done. */
  readonly step: number;
  /** Steps asked for. */
  readonly horizon: number;
  /** Rows that can go on. */
  readonly rows: number;
  /** Transitions recorded so far. */
  readonly transitions: number;
  /** Results that were not finite; each ended its row, unless they are kept. */
  readonly nonFinite: number;
}

/**
 * How a rollout ended:
 *
 * - `done`: after the horizon, or when no row could go on;
 * - `aborted`: by the signal, for its reason;
 * - `stopped`: the reader broke off;
 * - `failed`: something threw.
 *
 * After each there is a carry to go on from, unless a failed one never began.
 */
export type RolloutEnding =
  | {
      /** Nothing is left to do. */
      readonly status: 'done';
    }
  | {
      /** The signal stopped it. */
      readonly status: 'aborted';
      /** The signal's reason. */
      readonly reason: unknown;
    }
  | {
      /** The reader broke off. */
      readonly status: 'stopped';
    }
  | {
      /** Something threw. */
      readonly status: 'failed';
      /** What the reader gets to catch. */
      readonly error: unknown;
    };

/**
 * What `onProgress` is told: `running` after every step, and one {@link RolloutEnding} when nothing
 * follows.
 */
export type RolloutProgress = RolloutCount &
  (
    | {
        /** A step was done. */
        readonly status: 'running';
      }
    | RolloutEnding
  );
