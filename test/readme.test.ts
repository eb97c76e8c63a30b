import { readFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { inRepository } from './support/models.js';

const readme = readFileSync(inRepository('README.md'), 'utf8');
const examples = [...readme.matchAll(/<!-- (examples\/\S+) -->\n```ts\n(.*?)```/gs)];

test('the README shows the quickstart files as they are', () => {
  expect(examples.map(([, path]) => path)).toEqual([
    'examples/quickstart/line.ts',
    'examples/quickstart/hopper.ts',
    'examples/quickstart/plan.ts',
    'examples/quickstart/replay.ts',
    'examples/quickstart/mamba.ts',
  ]);
  for (const [, path, text] of examples) {
    expect(text).toBe(readFileSync(inRepository(path), 'utf8'));
  }
});

test('and they print what their comments say', async () => {
  const print = vi.spyOn(console, 'log').mockImplementation(() => {});
  await import('../examples/quickstart/line.js');
  await import('../examples/quickstart/hopper.js');
  await import('../examples/quickstart/plan.js');
  await import('../examples/quickstart/replay.js');
  await import('../examples/quickstart/mamba.js');
  const printed = print.mock.calls.map((line) => line.map(String).join(' '));
  print.mockRestore();
  const promised = examples.map(([, , text]) => /console\.log\(.*\/\/ -> (.*)/.exec(text)?.[1]);
  expect(printed).toEqual(promised);
});
