/** What must hold between the fields of an ensemble's manifest, and between it and its graphs. */

import { ModelContractError } from '../runtime/errors.js';
import type { TensorInfo } from '../runtime/graph.js';
import type { EnsembleManifest } from '../runtime/manifest.js';
import { checkAction, expectLength } from '../runtime/manifest-checks.js';
import type { Network } from '../runtime/network.js';

/** Number of outputs a row, `D`: the observation and, where it is predicted, the reward. */
export function outputSize({ obsSize, rewardIndex }: EnsembleManifest): number {
  return obsSize + (rewardIndex === null ? 0 : 1);
}

/**
 * Checks a manifest's fields against each other.
 *
 * @throws {@link ModelContractError} naming the field, what must hold and what came
 */
export function checkEnsembleManifest(manifest: EnsembleManifest): void {
  const { action, actionSize, elites, ensembleSize, file, golden, inputs, logVar, members } =
    manifest;
  const D = outputSize(manifest);
  checkAction(fail, action, actionSize);
  const stranger = elites.find((e) => e >= ensembleSize);
  if (stranger !== undefined) {
    fail('elites', `must be member numbers below ensembleSize ${ensembleSize}, got ${stranger}`);
  }
  if (new Set(elites).size !== elites.length) fail('elites', `must differ, got ${elites}`);
  if (manifest.rewardIndex !== null && manifest.rewardIndex >= D) {
    fail('rewardIndex', `must lie in 0..${D - 1}, got ${manifest.rewardIndex}`);
  }
  if (logVar?.form === 'raw') {
    expectLength(fail, 'logVar.min', logVar.min, D, 'the number of outputs');
    expectLength(fail, 'logVar.max', logVar.max, D, 'the number of outputs');
  }
  if ((logVar === null) !== (manifest.outputs.logVar === undefined)) {
    fail('outputs.logVar', `must be named exactly when logVar is not null`);
  }
  const beyond = manifest.noDelta?.find((d) => d >= manifest.obsSize);
  if (beyond !== undefined) {
    fail('noDelta', `must be observation dimensions below ${manifest.obsSize}, got ${beyond}`);
  }
  if (manifest.inputNormalizer !== undefined) {
    const width = manifest.obsSize + actionSize;
    expectLength(
      fail,
      'inputNormalizer.mean',
      manifest.inputNormalizer.mean,
      width,
      'the input width',
    );
    expectLength(
      fail,
      'inputNormalizer.std',
      manifest.inputNormalizer.std,
      width,
      'the input width',
    );
  }
  if (manifest.obsNames) {
    expectLength(fail, 'obsNames', manifest.obsNames, manifest.obsSize, 'obsSize');
  }
  if (manifest.actionNames) {
    expectLength(fail, 'actionNames', manifest.actionNames, actionSize, 'actionSize');
  }
  const oneFileEach = Array.isArray(file);
  if (oneFileEach) {
    if (members !== 'separate') fail('file', `may be a list only for members 'separate'`);
    expectLength(fail, 'file', file, ensembleSize, 'ensembleSize');
  }
  if (golden !== undefined && Array.isArray(golden) !== oneFileEach) {
    fail('golden', 'must be a list exactly when file is one');
  }
  if (oneFileEach && Array.isArray(golden)) {
    expectLength(fail, 'golden', golden, ensembleSize, 'ensembleSize');
  }
  const perMember = members === 'separate' && !oneFileEach;
  for (const [field, names] of Object.entries({
    inputs,
    'outputs.mean': manifest.outputs.mean,
    'outputs.logVar': manifest.outputs.logVar,
  })) {
    if (names === undefined) continue;
    if (Array.isArray(names) !== perMember) {
      fail(field, `must be ${perMember ? 'a list of one name a member' : 'one name'}`);
    }
    if (Array.isArray(names)) expectLength(fail, field, names, ensembleSize, 'ensembleSize');
  }
}

/**
 * Checks that the graphs have the tensors that the manifest names, of the widths it implies.
 *
 * @throws {@link ModelContractError} naming the tensor, what must hold and what came
 */
export function checkEnsembleGraphs(
  manifest: EnsembleManifest,
  networks: readonly Network[],
): void {
  const { ensembleSize, members, obsSize, actionSize } = manifest;
  const D = outputSize(manifest);
  const width = obsSize + actionSize;
  const input = members === 'stacked' ? [ensembleSize, null, width] : [null, width];
  const output = members === 'separate' ? [null, D] : [ensembleSize, null, D];
  for (const network of networks) {
    const named = listOf(manifest.inputs);
    for (const name of named) expectTensor('input', network.inputs, name, input);
    const extra = network.inputs.find(({ name }) => !named.includes(name));
    if (extra !== undefined) {
      fail('inputs', `must name every input of the graph, got none for '${extra.name}'`);
    }
    const outputs = [...listOf(manifest.outputs.mean), ...listOf(manifest.outputs.logVar ?? [])];
    for (const name of outputs) expectTensor('output', network.outputs, name, output);
  }
}

function expectTensor(
  side: 'input' | 'output',
  tensors: readonly TensorInfo[],
  name: string,
  shape: readonly (number | null)[],
): void {
  const tensor = tensors.find((candidate) => candidate.name === name);
  if (tensor === undefined) {
    fail(`${side}s`, `must be among ${tensors.map((t) => t.name).join(', ')}, got '${name}'`);
  }
  if (tensor.dtype !== 'float32' && tensor.dtype !== 'float16') {
    fail(`${side} '${name}'`, `must be float32 or float16 in the graph, got ${tensor.dtype}`);
  }
  const got = tensor.shape;
  // An exporter may leave the shape of an output open; what is stated must agree.
  const fits =
    got === null ||
    (got.length === shape.length &&
      shape.every((length, axis) => {
        const stated = got[axis];
        return length === null || typeof stated === 'string' || stated === length;
      }));
  if (!fits) {
    const wanted = shape.map((length) => length ?? 'batch').join(', ');
    fail(`${side} '${name}'`, `must have shape [${wanted}] in the graph, got [${got}]`);
  }
  // A length fixed at export would refuse every other batch at run time.
  const fixed = got?.find((length, axis) => shape[axis] === null && typeof length === 'number');
  if (side === 'input' && fixed !== undefined) {
    fail(`input '${name}'`, `must have a dynamic batch axis, got [${got}]; export it with one`);
  }
}

function listOf(names: string | readonly string[]): readonly string[] {
  return typeof names === 'string' ? [names] : names;
}

function fail(field: string, problem: string): never {
  throw new ModelContractError(`ensemble manifest: ${field} ${problem}`);
}
