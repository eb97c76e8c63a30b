// Compiles each kernel of src/kernels/assembly to WebAssembly and writes its bytes as a TypeScript
// module, so that no bundler, test runner or browser has to know how to load a .wasm file.
// Usage: npm run build:kernels; the scripts that need the modules run it first. There is no prepare
// script, for npm would warn whoever installs the package of it.
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = 'src/kernels/assembly';
const generated = join(root, 'src/kernels/generated');

const FLAGS = ['-O3', '--enable', 'simd', '--runtime', 'stub', '--noAssert', '--zeroFilledMemory'];

/** Every module to make: from which source, with what flags beside the common ones. */
const MODULES: Readonly<Record<string, { source: string; flags: readonly string[] }>> = {
  'row-noise-wasm': { source: 'row-noise.ts', flags: [] },
  'variance-wasm': { source: 'variance.ts', flags: [] },
  'ssm-wasm': { source: 'ssm.ts', flags: ['--importMemory'] },
  'ssm-relaxed-wasm': { source: 'ssm.ts', flags: ['--importMemory', '--enable', 'relaxed-simd'] },
};

async function compile(source: string, flags: readonly string[]): Promise<Uint8Array> {
  let bytes: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [`${sources}/${source}`, '--baseDir', root, '--outFile', 'kernel.wasm', ...FLAGS, ...flags],
    {
      writeFile(_name, contents) {
        if (typeof contents !== 'string') bytes = contents;
      },
    },
  );
  if (error !== null) throw new Error(`build-kernels: ${source}: ${error.message}\n${stderr}`);
  if (bytes === undefined) throw new Error(`build-kernels: ${source} gave no bytes`);
  return bytes;
}

/** When a file was last written; a missing one never was. */
function written(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

// A source may import any other, so the newest of them and this script decide.
const inputs = readdirSync(join(root, sources), { recursive: true, encoding: 'utf8' });
const changed = Math.max(
  written(fileURLToPath(import.meta.url)),
  ...inputs.map((name) => written(join(root, sources, name))),
);

mkdirSync(generated, { recursive: true });
for (const [name, { source, flags }] of Object.entries(MODULES)) {
  const module = join(generated, `${name}.ts`);
  if (written(module) > changed) continue;
  const bytes = await compile(source, flags);
  writeFileSync(
    module,
    `// Made from ../assembly/${source} by scripts/build-kernels.ts: ${bytes.length} bytes.\n` +
      `export const wasm: string = '${Buffer.from(bytes).toString('base64')}';\n`,
  );
  console.log(`${sources}/${source} ${flags.join(' ')}: ${bytes.length} bytes of WebAssembly`);
}
