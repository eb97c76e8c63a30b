import { readFileSync } from 'node:fs';
import { parseManifest } from 'umwelt/runtime';
import { expect, test, vi } from 'vitest';
import { inRepository } from './support/models.js';

const models = readFileSync(inRepository('docs/models.md'), 'utf8');
const blockOf = (language: string) =>
  new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(models)?.[1] ?? '';

test('the guide’s manifest is a valid one', () => {
  expect(parseManifest(JSON.parse(blockOf('json')))).toMatchObject({ kind: 'ensemble' });
});

test('the guide’s export is the file in examples', () => {
  const file = readFileSync(inRepository('examples/export/ensemble.py'), 'utf8');
  expect(file).toContain(blockOf('python'));
  expect(blockOf('python')).toContain('torch.onnx.export');
});

test.each([
  ['docs/ssm.md', 'examples/quickstart/mamba-dream.ts', '../examples/quickstart/mamba-dream.js'],
  ['docs/dynamics.md', 'examples/quickstart/sindy.ts', '../examples/quickstart/sindy.js'],
  ['docs/rollouts.md', 'examples/quickstart/returns.ts', '../examples/quickstart/returns.js'],
  ['docs/planning.md', 'examples/quickstart/plan.ts', '../examples/quickstart/plan.js'],
  ['docs/evaluation.md', 'examples/quickstart/trust.ts', '../examples/quickstart/trust.js'],
])('%s shows an example that runs, as it is in %s', async (document, file, module) => {
  const guide = readFileSync(inRepository(document), 'utf8');
  const [, path, text] = /<!-- (examples\/\S+) -->\n```ts\n(.*?)```/s.exec(guide) ?? [];
  expect(path).toBe(file);
  expect(text).toBe(readFileSync(inRepository(path), 'utf8'));
  const print = vi.spyOn(console, 'log').mockImplementation(() => {});
  await import(module);
  const printed = print.mock.calls.map((line) => line.map(String).join(' '));
  print.mockRestore();
  expect(printed).toEqual([/console\.log\(.*\/\/ -> (.*)/.exec(text)?.[1]]);
});

const MODULES: Readonly<Record<string, () => Promise<object>>> = {
  umwelt: () => import('umwelt'),
  'umwelt/dynamics': () => import('umwelt/dynamics'),
  'umwelt/dynamics/sindy': () => import('umwelt/dynamics/sindy'),
  'umwelt/rollout': () => import('umwelt/rollout'),
  'umwelt/evaluation': () => import('umwelt/evaluation'),
  'umwelt/sampling': () => import('umwelt/sampling'),
  'umwelt/formats': () => import('umwelt/formats'),
  'umwelt/formats/hdf5': () => import('umwelt/formats/hdf5'),
};

/** Names that a guide writes as it does exports, and that are fields, options or types. */
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  dynamics: [
    'nextObs',
    'minScore',
    'logProb',
    'lu2022EnsembleStd',
    'lu2022EnsembleVariance',
    'lu2022LeaveOneOutKl',
    'lu2022LogLikelihoodVariance',
    'offlinerlkitStd',
    'offlinerlkitPairwise',
  ],
  rollouts: ['onProgress', 'actionRepeat'],
  planning: ['actionRepeat', 'budgetMs', 'eliteRatio', 'keepFraction', 'minStd', 'maxStd'],
  evaluation: [],
};

test.each(Object.entries(OTHERS))(
  'the guide to %s names only what is exported',
  async (name, others) => {
    const guide = readFileSync(inRepository(`docs/${name}.md`), 'utf8');
    const modules = await Promise.all(Object.values(MODULES).map((load) => load()));
    const exported = new Set(modules.flatMap(Object.keys));
    const named = [...guide.matchAll(/`([a-z]\w*|[A-Z]\w*)(?:\(|`)/g)].map(([, own]) => own);
    const ours = named.filter((own) => /[a-z][A-Z]/.test(own) || /^[A-Z][a-z]/.test(own));
    expect(ours.filter((own) => !exported.has(own) && !others.includes(own))).toEqual([]);
    expect(ours.length).toBeGreaterThan(10);
    // What its code imports is where it says it is.
    for (const [, names, module] of guide.matchAll(/^import \{(.*?)\} from '(umwelt[^']*)';/gms)) {
      const there = Object.keys(await MODULES[module]());
      const values = names.split(',').map((own) => own.trim());
      const missing = values.filter(
        (own) => own && !own.startsWith('type ') && !there.includes(own),
      );
      expect(missing).toEqual([]);
    }
  },
);
