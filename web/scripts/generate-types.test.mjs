import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { generate, TYPES } from './generate-types.mjs';

it('the checked-in types are what the schema says (npm run generate)', async () => {
  expect(await readFile(TYPES, 'utf8')).toBe(await generate());
});
