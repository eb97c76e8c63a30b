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
} as const;
