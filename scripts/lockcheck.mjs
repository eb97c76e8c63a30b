// Is package-lock.json complete and free of registry addresses?
//
// A registry that lacks some platforms' binaries makes npm write a lockfile without those optional
// packages. Such a file installs here, but newer npm refuses it, and other platforms miss binaries.
// Usage: node scripts/lockcheck.mjs [lockfile]; exit status 1 when something is wrong.
import { readFileSync } from 'node:fs';

const path = process.argv[2] ?? 'package-lock.json';
const { packages } = JSON.parse(readFileSync(path, 'utf8'));

/** Does the lockfile hold `name` where the package installed at `from` would find it? */
function resolves(from, name) {
  // Node looks in the package's own node_modules, then in that of each package around it.
  const around = from === '' ? [] : from.split('/node_modules/');
  for (let depth = around.length; depth > 0; depth--) {
    const owner = around.slice(0, depth).join('/node_modules/');
    if (`${owner}/node_modules/${name}` in packages) return true;
  }
  return `node_modules/${name}` in packages;
}

const problems = [];
for (const [location, entry] of Object.entries(packages)) {
  const title = location === '' ? 'the root package' : `${location}@${entry.version}`;
  for (const field of ['dependencies', 'optionalDependencies']) {
    for (const name of Object.keys(entry[field] ?? {})) {
      if (!resolves(location, name)) problems.push(`${title} lacks ${name} (${field})`);
    }
  }
  // Links and the root have neither; everything else must be pinned by its content.
  if (location !== '' && !entry.link && !entry.integrity)
    problems.push(`${title} has no integrity`);
  if (entry.resolved?.startsWith('http')) problems.push(`${title} names a registry in "resolved"`);
}

for (const problem of problems) console.error(problem);
const count = Object.keys(packages).length;
if (problems.length > 0) {
  console.error(`lockcheck: ${path} has ${problems.length} problems in ${count} entries`);
  process.exitCode = 1;
} else {
  console.log(`lockcheck: ${path} is complete, ${count} entries`);
}
