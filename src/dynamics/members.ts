/**
 * The members of an ensemble, however they lie in graphs: every form answers one call, which runs some
 * rows on each member.
 */

import { type NdView, nd, packed, type TypedArray } from '../nd.js';
import { ModelContractError } from '../runtime/errors.js';
import type { EnsembleManifest } from '../runtime/manifest.js';
import type { Network } from '../runtime/network.js';
import { outputSize } from './ensemble-contract.js';

/** Outputs of each member, float32 `[rows of the member, D]`. */
export interface MemberOutputs {
  mean: Float32Array[];
  /** Log-variance as the network gives it; absent for deterministic members. */
  logVar?: Float32Array[];
}

/**
 * Runs `rows[e]` rows of `inputs[e]` on each member `e`; a member may have none.
 *
 * Forms that run all members on the same rows demand equal `rows`; see {@link canBucket}.
 */
export type RunMembers = (
  inputs: readonly Float32Array[],
  rows: readonly number[],
) => Promise<MemberOutputs>;

/** What a member without rows gives. */
const none = new Float32Array(0);

/** Whether members may be given different rows, which saves running each row on every member. */
export function canBucket(manifest: EnsembleManifest): boolean {
  return manifest.members !== 'shared';
}

/** The call for a manifest's form; `networks` holds one graph, or one for each member. */
export function membersOf(manifest: EnsembleManifest, networks: readonly Network[]): RunMembers {
  const width = manifest.obsSize + manifest.actionSize;
  switch (manifest.members) {
    case 'shared':
      return shared(manifest, networks[0], width);
    case 'stacked':
      return stacked(manifest, networks[0], width);
    case 'separate':
      return networks.length === 1
        ? separate(manifest, networks[0], width)
        : files(manifest, networks, width);
  }
}

function shared(manifest: EnsembleManifest, network: Network, width: number): RunMembers {
  return async (inputs, rows) => {
    const feed = nd(inputs[0], [rows[0], width]);
    return split(manifest, await network.run({ [manifest.inputs as string]: feed }), rows[0]);
  };
}

function stacked(manifest: EnsembleManifest, network: Network, width: number): RunMembers {
  const { ensembleSize } = manifest;
  return async (inputs, rows) => {
    // One tensor holds all members, so the shorter ones are filled up with zeros.
    const most = Math.max(...rows);
    const feed = nd(new Float32Array(ensembleSize * most * width), [ensembleSize, most, width]);
    for (let e = 0; e < ensembleSize; e++) feed.data.set(inputs[e], e * most * width);
    return split(manifest, await network.run({ [manifest.inputs as string]: feed }), most);
  };
}

function separate(manifest: EnsembleManifest, network: Network, width: number): RunMembers {
  const names = manifest.inputs as string[];
  const { mean, logVar } = manifest.outputs as { mean: string[]; logVar?: string[] };
  const D = outputSize(manifest);
  return async (inputs, rows) => {
    const feeds: Record<string, NdView> = {};
    for (let e = 0; e < names.length; e++) feeds[names[e]] = nd(inputs[e], [rows[e], width]);
    const busy = (_: unknown, e: number) => rows[e] > 0;
    const wanted = [...mean.filter(busy), ...(logVar?.filter(busy) ?? [])];
    const outputs = await network.run(feeds, wanted);
    const read = (name: string, e: number) =>
      rows[e] > 0 ? elementsOf(outputs, name, [rows[e], D]) : none;
    return { mean: mean.map(read), logVar: logVar?.map(read) };
  };
}

function files(
  manifest: EnsembleManifest,
  networks: readonly Network[],
  width: number,
): RunMembers {
  const { mean, logVar } = manifest.outputs as { mean: string; logVar?: string };
  const D = outputSize(manifest);
  return async (inputs, rows) => {
    const result: Required<MemberOutputs> = { mean: [], logVar: [] };
    for (let e = 0; e < networks.length; e++) {
      if (rows[e] === 0) {
        result.mean.push(none);
        result.logVar.push(none);
        continue;
      }
      const feed = nd(inputs[e], [rows[e], width]);
      const outputs = await networks[e].run({ [manifest.inputs as string]: feed });
      result.mean.push(elementsOf(outputs, mean, [rows[e], D]));
      if (logVar !== undefined) result.logVar.push(elementsOf(outputs, logVar, [rows[e], D]));
    }
    return logVar === undefined ? { mean: result.mean } : result;
  };
}

/** Cuts outputs `[E, rows, D]` into members. */
function split(
  manifest: EnsembleManifest,
  outputs: Record<string, NdView<TypedArray>>,
  rows: number,
): MemberOutputs {
  const { ensembleSize } = manifest;
  const shape = [ensembleSize, rows, outputSize(manifest)];
  const { mean, logVar } = manifest.outputs as { mean: string; logVar?: string };
  const cut = (name: string) => {
    const data = elementsOf(outputs, name, shape);
    const size = data.length / ensembleSize;
    return Array.from({ length: ensembleSize }, (_, e) => data.subarray(e * size, (e + 1) * size));
  };
  return { mean: cut(mean), logVar: logVar === undefined ? undefined : cut(logVar) };
}

/** An output's elements; where the graph left its shape open, only a run shows what it is. */
function elementsOf(
  outputs: Readonly<Record<string, NdView<TypedArray>>>,
  name: string,
  shape: readonly number[],
): Float32Array {
  const output = outputs[name];
  if (String(output.shape) !== String(shape)) {
    throw new ModelContractError(
      `ensemble manifest: output '${name}' must have shape [${shape}], got [${output.shape}]`,
    );
  }
  return packed(output as NdView);
}
