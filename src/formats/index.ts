/**
 * Files of other tools: NumPy's `.npz` for handing transitions and trajectories to Python.
 *
 * @module
 */

export { type NpzOptions, writeNpz } from './npz.js';
