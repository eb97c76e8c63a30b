/**
 * Files of other tools: NumPy's `.npz` and safetensors, both ways, for exchanging transitions,
 * trajectories and weights with Python. HDF5 datasets are in `umwelt/formats/hdf5`.
 *
 * @module
 */

export { type FileFormat, FormatError } from './format-error.js';
export { type NpzOptions, writeNpz } from './npz.js';
export { type ReadNpzOptions, readNpz } from './read-npz.js';
export {
  type ReadSafetensorsOptions,
  readSafetensors,
  type Safetensors,
  type WriteSafetensorsOptions,
  writeSafetensors,
} from './safetensors.js';
