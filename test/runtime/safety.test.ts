import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { describe, expect, test } from 'vitest';
import { inRepository } from '../support/models.js';

describe('a process', () => {
  test('outlives the worst inputs and ends by itself', async () => {
    const script = inRepository('test/runtime/worst-inputs.ts');
    // Rejects unless the exit status is 0.
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', '--unhandled-rejections=strict', script],
      { cwd: inRepository('.'), timeout: 15_000 },
    );
    expect(stdout.trim().split('\n')).toEqual([
      'empty: ModelLoadError',
      'random bytes: ModelLoadError',
      'truncated: ModelLoadError',
      'unknown rank: ModelContractError',
      'nested randomness: ModelContractError',
      'unknown device: ModelLoadError',
      'no CUDA: ModelLoadError',
      'unknown operator: ModelLoadError',
      'missing weights: ModelLoadError',
      'weights outside: ModelLoadError',
      'missing folder: ModelLoadError',
      'huge weight: ModelLoadError',
      'huge allocation: Error',
      'wrong rank: ShapeError',
      'wrong dtype: TypeError',
      'no rows: fine',
      'a GPU tensor: TypeError',
      'run after dispose: DisposedError',
      'dispose during runs: fine',
      'a model nobody disposes: fine',
      expect.stringMatching(/^600 mutants: (ModelContractError, )?ModelLoadError(, fine)?$/),
      'pending run: fine',
    ]);
  });
});

describe('a bundle for the browser', () => {
  test.each(['runtime', 'dynamics', 'rollout'])(
    'of umwelt/%s needs no module of Node',
    async (room) => {
      // A module of Node has no counterpart in browsers, so that importing one fails the build.
      const { metafile } = await build({
        entryPoints: [inRepository(`src/${room}/index.ts`)],
        bundle: true,
        write: false,
        metafile: true,
        platform: 'browser',
        format: 'esm',
        logLevel: 'silent',
      });
      const imports = Object.values(metafile.inputs).flatMap((input) => input.imports);
      expect(imports.length).toBeGreaterThan(0);
      expect(imports.filter(({ external }) => external)).toEqual([]);
    },
  );
});
