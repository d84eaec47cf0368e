// Generates src/protocol/types.ts from the JSON Schema of the protocol. Run by `npm run generate`; the test
// `types.test.ts` fails where the checked-in file is not what this prints.

import { readFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { compile } from 'json-schema-to-typescript';

const SCHEMA = new URL('../../protocol/schema/halloo.v1.schema.json', import.meta.url);
export const TYPES = new URL('../src/protocol/types.ts', import.meta.url);

const BANNER = `// Generated from protocol/schema/halloo.v1.schema.json by \`npm run generate\`. Do not edit.
`;

/** Rewrites what the generator misreads: a \`$ref\` with siblings loses either the reference or the siblings. */
function normalized(node) {
  if (Array.isArray(node)) return node.map(normalized);
  if (node === null || typeof node !== 'object') return node;
  const mapped = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, normalized(value)]));
  if ('$ref' in mapped && Object.keys(mapped).length > 1) {
    const { $ref, description, ...siblings } = mapped;
    // A bare reference keeps its own description; one with properties is an intersection.
    if (Object.keys(siblings).length === 0) return { $ref };
    return { description, allOf: [{ $ref }, { type: 'object', additionalProperties: false, ...siblings }] };
  }
  return mapped;
}

/** The text of types.ts. */
export async function generate() {
  const schema = normalized(JSON.parse(await readFile(SCHEMA, 'utf8')));
  for (const [name, definition] of Object.entries(schema.$defs)) definition.title = name;
  const text = await compile(schema, 'HallooProtocolV1', {
    additionalProperties: false,
    bannerComment: BANNER,
    unreachableDefinitions: true,
    style: { singleQuote: true, printWidth: 120 },
  });
  return text.replace(/ \*\n \* This interface was referenced by [^\n]*\n[^\n]*\n/g, '');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await writeFile(TYPES, await generate());
