/**
 * Who draws: the fourth word of the noise counter, so that a model, its choice of members and a
 * policy never see each other's numbers.
 *
 * The list only grows and no number is ever reused, for a stored seed must give the same dream in
 * every later version. Numbers from 65536 up are free for your own code.
 */
export const Stream = {
  /** Noise on the model's predictions. */
  model: 0,
  /** Which ensemble member predicts a row. */
  member: 1,
  /** Noise on the policy's actions. */
  policy: 2,
  /** Rows of a uniform replay batch. */
  replay: 3,
  /** Starts of replay windows. */
  sequence: 4,
  /** Rows of a prioritized replay batch. */
  priority: 5,
  /** Bootstrap index sets of ensemble members. */
  bootstrap: 6,
  /** Which source a mixed batch comes from. */
  mixture: 7,
  /** Starts drawn by how often they were used. */
  frequency: 8,
  /** Permutations, and choices that are the first part of one. */
  permutation: 9,
  /** Gumbel noise on the logits of a choice without replacement. */
  choice: 10,
  /** Goals of hindsight relabelling. */
  hindsight: 11,
  /** Keys derived from keys. */
  fold: 12,
  /** Draws of an uncertainty score. */
  score: 13,
  /** What a model's injected termination function draws. */
  termination: 14,
  /** Candidate transitions of a filter, and the choice among them. */
  candidate: 15,
  /** Random reductions of critic ensembles. */
  critic: 16,
  /** What a model's injected reward function draws. */
  reward: 17,
  /** Whether a model's own head ends an episode. */
  head: 18,
  /** What a rollout's termination function draws. */
  end: 19,
  /** Action sequences that a planner tries. */
  plan: 20,
  /** Which of its good sequences a planner takes, and noise on its choice. */
  choose: 21,
  /** Where episodes of an environment start. */
  reset: 22,
} as const;
