// Writes dist/manifest.schema.json, the JSON Schema of manifest.json, from the schema that checks it.
import { writeFileSync } from 'node:fs';
import { toJsonSchema } from '@valibot/to-json-schema';
import { manifestSchema } from '../src/runtime/manifest.js';

const { $schema, ...schema } = toJsonSchema(manifestSchema, {
  // What an author writes, before defaults are filled in.
  typeMode: 'input',
  errorMode: 'throw',
  // JSON has no way to write NaN or an infinity, so its schema has none to exclude them.
  ignoreActions: ['finite'],
});
const document = { $schema, title: 'umwelt model manifest', ...schema };
writeFileSync(
  new URL('../dist/manifest.schema.json', import.meta.url),
  `${JSON.stringify(document, null, 2)}\n`,
);
