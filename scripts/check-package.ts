// Checks the package as a user gets it: packs dist, lints the tarball, weighs each subpath, then
// installs the tarball into an empty project, imports every subpath and compiles against its types.
// Usage: npm run build && npm run check:package
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface PackageJson {
  name: string;
  exports: Record<string, string | { types: string; default: string }>;
  devDependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
}

interface PackReport {
  filename: string;
  size: number;
  unpackedSize: number;
  files: { path: string }[];
}

const root = fileURLToPath(new URL('..', import.meta.url));

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(join(root, path), 'utf8')) as T;
}

function must(holds: boolean, message: string): void {
  if (!holds) throw new Error(`check-package: ${message}`);
}

/** Runs a program with its output on ours; throws when it fails. */
function run(file: string, args: string[], cwd: string = root): void {
  execFileSync(file, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
}

/** Runs npm, the one that runs this script where there is one. */
function npm(args: string[], cwd: string = root): string {
  const cli = process.env.npm_execpath;
  const [file, head] = cli === undefined ? ['npm', []] : [process.execPath, [cli]];
  return execFileSync(file, [...head, ...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

const { name, exports, devDependencies, peerDependencies } = readJson<PackageJson>('package.json');
const codeExports = Object.entries(exports).flatMap(([subpath, target]) =>
  typeof target === 'string' ? [] : [{ specifier: join(name, subpath), ...target }],
);
const specifiers = codeExports.map(({ specifier }) => specifier);

function checkLists(): void {
  const sizes = readJson<{ name: string }[]>('.size-limit.json').map((entry) => entry.name);
  const pages = readJson<{ entryPoints: string[] }>('typedoc.json').entryPoints;
  for (const { specifier, default: file } of codeExports) {
    must(sizes.includes(specifier), `.size-limit.json must have a limit for ${specifier}`);
    const source = file.replace('./dist/', 'src/').replace(/\.js$/, '.ts');
    must(pages.includes(source), `typedoc.json must document ${source}`);
  }
}

function pack(into: string): string {
  must(existsSync(join(root, 'dist')), 'dist must exist; run `npm run build` first');
  // --ignore-scripts: prepack would build a second time.
  const report = JSON.parse(
    npm(['pack', '--ignore-scripts', '--json', '--pack-destination', into]),
  ) as PackReport[];
  const [tarball] = report;
  if (tarball === undefined) throw new Error('check-package: npm pack reported no tarball');
  const stray = tarball.files
    .map(({ path }) => path)
    .filter(
      (path) =>
        !/^(dist\/|docs\/\w+\.md$|examples\/export\/|package\.json$|README\.md$|LICENSE$)/.test(
          path,
        ),
    );
  must(
    stray.length === 0,
    `the tarball must hold dist, guides and the export example only, got ${stray.join(', ')}`,
  );
  const kB = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
  console.log(
    `${tarball.filename}: ${tarball.files.length} files, ${kB(tarball.size)} packed, ` +
      `${kB(tarball.unpackedSize)} unpacked`,
  );
  return join(into, tarball.filename);
}

/** Installs the tarball as a stranger would, then imports and type-checks every subpath. */
function checkConsumer(tarball: string, project: string): void {
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
  npm(['install', ...quiet, tarball], project);
  for (const peer of Object.keys(peerDependencies)) {
    const path = join(project, 'node_modules', peer);
    must(!existsSync(path), `installing ${name} must not install the optional peer ${peer}`);
  }

  // Without peers, and under a content-security policy that forbids code from strings.
  const entry = join(project, 'imports.js');
  const withoutPeers = specifiers.filter((specifier) => specifier !== `${name}/ndarray`);
  const count = '(m) => { if (Object.keys(m).length === 0) throw new Error("no exports"); }';
  writeFileSync(
    entry,
    `${withoutPeers.map((s) => `await import('${s}').then(${count});`).join('\n')}\n` +
      `await import('${name}/manifest.schema.json', { with: { type: 'json' } });\n` +
      `await import('${name}/package.json', { with: { type: 'json' } });\n`,
  );
  run(process.execPath, ['--no-warnings', '--disallow-code-generation-from-strings', entry]);

  const peers = ['ndarray', '@types/ndarray'].map((peer) => `${peer}@${devDependencies[peer]}`);
  npm(['install', ...quiet, ...peers], project);
  writeFileSync(entry, `await import('${name}/ndarray').then(${count});\n`);
  run(process.execPath, [entry]);

  // An older library list and no @types/node: our declarations must bring what they name.
  const lines = specifiers.map((s, i) => `import * as m${i} from '${s}';\nexport { m${i} };`);
  writeFileSync(join(project, 'types.ts'), `${lines.join('\n')}\n`);
  const base = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022,dom'];
  for (const resolution of [
    ['--module', 'nodenext'],
    ['--module', 'es2022', '--moduleResolution', 'bundler'],
  ]) {
    run(bin('tsc'), [...base, ...resolution, 'types.ts'], project);
  }
  console.log(`${specifiers.length} subpaths import and type-check in a project of their own`);
}

const scratch = mkdtempSync(join(tmpdir(), 'umwelt-package-'));
try {
  checkLists();
  const tarball = pack(scratch);
  run(bin('publint'), ['run', '--strict', tarball]);
  // The schema is data: it has no types to be wrong.
  const data = ['--exclude-entrypoints', './manifest.schema.json'];
  run(bin('attw'), [tarball, '--profile', 'esm-only', '--format', 'table-flipped', ...data]);
  run(bin('size-limit'), []);
  checkConsumer(tarball, mkdtempSync(join(scratch, 'consumer-')));
} catch (error) {
  // A program that failed has said why on its own output; its command line is enough here.
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
