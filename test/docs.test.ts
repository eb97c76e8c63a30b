import { readFileSync } from 'node:fs';
import { parseManifest } from 'umwelt/runtime';
import { expect, test } from 'vitest';
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
