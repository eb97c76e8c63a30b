import type { NdView } from '../nd.js';

/** What the functions of this room give. */
export interface ScanResult {
  /** The outputs, shaped as the first argument. */
  readonly y: NdView;
  /** The state after the last step. Its strides need not be row-major. */
  readonly lastState: NdView;
}

/**
 * Arrays to write to, in place of new ones: float32, of the shapes of {@link ScanResult}, any strides. `y` may be
 * the first argument itself and `lastState` the initial state; otherwise they overlap nothing of the call.
 */
export interface ScanOut {
  /** Where the outputs go. */
  readonly y?: NdView;
  /** Where the state after the last step goes. */
  readonly lastState?: NdView;
}
