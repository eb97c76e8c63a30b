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

test('the guide to state spaces shows a world model that runs, as it is in examples', async () => {
  const guide = readFileSync(inRepository('docs/ssm.md'), 'utf8');
  const [, path, text] = /<!-- (examples\/\S+) -->\n```ts\n(.*?)```/s.exec(guide) ?? [];
  expect(path).toBe('examples/quickstart/mamba-dream.ts');
  expect(text).toBe(readFileSync(inRepository(path), 'utf8'));
  const print = vi.spyOn(console, 'log').mockImplementation(() => {});
  await import('../examples/quickstart/mamba-dream.js');
  const [[printed]] = print.mock.calls;
  print.mockRestore();
  expect(printed).toBe(/console\.log\(.*\/\/ -> (.*)/.exec(text)?.[1]);
});
