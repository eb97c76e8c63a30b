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

async function compile(source: string): Promise<Uint8Array> {
  let bytes: Uint8Array | undefined;
  const flags = [
    '-O3',
    '--enable',
    'simd',
    '--runtime',
    'stub',
    '--noAssert',
    '--zeroFilledMemory',
  ];
  const { error, stderr } = await asc.main(
    [`${sources}/${source}`, '--baseDir', root, '--outFile', 'kernel.wasm', ...flags],
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

/** Whether a module was made after its source and this script were last written. */
function isFresh(module: string, source: string): boolean {
  const time = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const made = time(module);
  return made > time(join(root, sources, source)) && made > time(fileURLToPath(import.meta.url));
}

mkdirSync(generated, { recursive: true });
for (const source of readdirSync(join(root, sources)).filter((name) => name.endsWith('.ts'))) {
  const module = join(generated, source.replace('.ts', '-wasm.ts'));
  if (isFresh(module, source)) continue;
  const bytes = await compile(source);
  writeFileSync(
    module,
    `// Made from ../assembly/${source} by scripts/build-kernels.ts: ${bytes.length} bytes.\n` +
      `export const wasm: string = '${Buffer.from(bytes).toString('base64')}';\n`,
  );
  console.log(`${sources}/${source}: ${bytes.length} bytes of WebAssembly`);
}
