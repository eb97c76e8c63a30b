/**
 * Offline datasets in HDF5, read and written: the layouts of Minari and D4RL. Needs the package h5wasm,
 * an optional peer, which is loaded on first use: `npm install h5wasm`.
 *
 * @module
 */

export {
  type D4rlTransitions,
  type ReadD4rlOptions,
  readD4rl,
  type WriteD4rlOptions,
  writeD4rl,
} from './d4rl.js';
export type { DatasetOptions, DatasetProgress, Fields, TransitionChunk } from './dataset.js';
export { type FileFormat, FormatError } from './format-error.js';
export type { Hdf5Source, RandomAccess } from './hdf5-file.js';
export {
  type MinariEpisode,
  type MinariEpisodeInput,
  type MinariFiles,
  type ReadMinariOptions,
  readMinari,
  readMinariTransitions,
  type WriteMinariOptions,
  writeMinari,
} from './minari.js';
