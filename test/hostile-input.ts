// Makes requests for a verb from its schema: mostly of the right shape, so that they come past the first check, with values that
// nobody would give: names that are paths, keys that reach into objects, numbers beyond every limit.
import { randomInt } from 'node:crypto';
import { pathFields, usesQuery, type Verb } from '@stellwerk/contract/verb.ts';
import { apiPrefix } from '@stellwerk/contract/verbs.ts';
import { z } from 'zod';

interface Schema {
  type?: string;
  enum?: unknown[];
  const?: unknown;
  pattern?: string;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export const texts = [
  'a',
  'w1',
  'story',
  'host',
  'local',
  'workspacestore',
  'latest',
  '1',
  'x:1',
  'admin',
  '../../etc/passwd',
  '..',
  '.',
  '/etc/passwd',
  '%2e%2e%2f',
  'a/../b',
  'a\\b',
  'C:\\x',
  'a\u0000b',
  '\ud800',
  'ﾊﾟ/ﾞ',
  '<script>',
  "'; DROP TABLE run; --",
  '"',
  '%',
  '_',
  '__proto__',
  'constructor',
  '',
  ' ',
  '\r\nX: y',
  '#{x}',
  '$(id)',
  '`id`',
  '-rf',
  '--upload-pack=x',
  'http://169.254.169.254/',
  'file:///etc/passwd',
  'datastore:workspacestore/../x',
  'é'.repeat(300),
  'x'.repeat(20_000),
  `sha256:${'a'.repeat(64)}`,
  'metrics.`a` > 1',
  'state = "running"',
  '2026-11-23T12:00:00.000Z',
  'true',
  'null',
  '{}',
  '[]',
  'eyJhIjoxfQ',
  Buffer.from('["a"]').toString('base64url'),
  Buffer.from('[1]').toString('base64url'),
  Buffer.from('["a","b"]').toString('base64url'),
  Buffer.from('[null,1,"x"]').toString('base64url'),
  'requirements.txt',
  'numpy\n',
  'name: x\ndependencies: [*a]',
  '&a [*a]',
  '(a+)+$',
];
const numbers = [0, 1, -1, 2, 0.5, 64, 1e9, 2 ** 53, -(2 ** 53), 1e308, 4_294_967_296];
const odd: unknown[] = [null, true, 0, '', [], {}, [[[[]]]], { a: { b: { c: 1 } } }];
const pick = <T>(from: readonly T[]): T => from[randomInt(from.length)]!;

/** Mostly something of the right shape, so that it comes past the first check. */
function anyOf(schema: Schema, root: Schema, depth = 0): unknown {
  if (randomInt(40) === 0) return pick(odd);
  if (schema.$ref) return anyOf(root.$defs?.[schema.$ref.split('/').at(-1)!] ?? {}, root, depth);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return anyOf(pick(choices), root, depth);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return pick(schema.enum);
  switch (schema.type) {
    case 'string':
      return fitting(schema);
    case 'integer':
    case 'number':
      return pick(numbers);
    case 'boolean':
      return pick([true, false]);
    case 'array':
      return Array.from({ length: randomInt(3) }, () => anyOf(schema.items ?? {}, root, depth + 1));
    case 'object':
      return objectOf(schema, root, depth);
    default:
      return pick([...odd, pick(texts)]);
  }
}

function fitting({ pattern }: Schema): string {
  if (!pattern || randomInt(10) === 0) return pick(texts);
  const rule = new RegExp(pattern, 'u');
  const fits = texts.filter((text) => rule.test(text));
  return pick(fits.length > 0 ? fits : texts);
}

function objectOf(schema: Schema, root: Schema, depth: number): Record<string, unknown> {
  const fields = Object.entries(schema.properties ?? {})
    .filter(([field]) => schema.required?.includes(field) || randomInt(3) === 0)
    .map(([field, of]) => [field, anyOf(of, root, depth + 1)] as const);
  const more =
    typeof schema.additionalProperties === 'object' && depth < 4
      ? Array.from(
          { length: randomInt(3) },
          () => [pick(texts), anyOf(schema.additionalProperties as Schema, root, depth + 1)] as const,
        )
      : [];
  return Object.fromEntries([...fields, ...more]);
}

/** What a journal holds and what it does not. */
const lines = [
  '["m","a",1,0,1]',
  '["m","a",null,0,1]',
  '["m","a","NaN",0,1]',
  '["m","a",1e999,-1,1e99]',
  '["l","a",[1,2],0,1]',
  '["r","a",{"x":1},0,1]',
  '["t","a",{"x":[1,2]},0,1]',
  '["o","a","image",{"path":"a"},0,1]',
  '["tag","a","b"]',
  '["prop","a","b"]',
  '["param","a",1]',
  '["name","x"]',
  '["m","__proto__",1,0,1]',
  '["r","a",{"__proto__":1},0,1]',
  '[]',
  '{}',
  'null',
  '["x"]',
  '["m"',
  '[[[[',
  '',
];

/** What leads to something that is there, by the names of fields in addresses. */
export const known: Record<string, string> = {
  workspace: 'story',
  datastore: 'workspacestore',
  target: 'host',
  version: 'latest',
  run: 'a',
  experiment: 'a',
  name: 'a',
  metric: 'a',
  journal: 'main',
};

export function requestOf(verb: Verb, url: string): { address: string; init: RequestInit } {
  const schema = z.toJSONSchema(verb.input, { io: 'input', unrepresentable: 'any' }) as Schema;
  const input = anyOf(schema, schema);
  const fields = (typeof input === 'object' && input !== null && !Array.isArray(input) ? input : {}) as Record<
    string,
    unknown
  >;
  const inPath = new Set(pathFields(verb.path));
  const textOf = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value ?? 'x')).toWellFormed();
  const path = verb.path.replaceAll(/\{(\w+)\}/g, (_, field: string) =>
    encodeURIComponent(textOf(randomInt(4) ? (known[field] ?? fields[field]) : fields[field]).slice(0, 400)),
  );
  const rest = Object.entries(fields).filter(([field]) => !inPath.has(field));
  const init: RequestInit = { method: verb.method };
  if (usesQuery(verb) || verb.transport !== 'json') {
    const query = new URLSearchParams();
    for (const [field, value] of rest)
      for (const one of Array.isArray(value) ? value : [value]) query.append(field, textOf(one).slice(0, 2_000));
    if (verb.transport === 'upload')
      Object.assign(init, {
        body: pick([pick(texts), `${pick(lines)}\n`, `${pick(lines)}\n${pick(lines)}\n`]),
        headers: { 'content-type': 'application/octet-stream' },
      });
    return { address: `${url}${apiPrefix}${path}?${query}`, init };
  }
  const body = randomInt(30) ? JSON.stringify(Object.fromEntries(rest)) : pick(texts);
  return {
    address: `${url}${apiPrefix}${path}`,
    init: { ...init, body, headers: { 'content-type': 'application/json' } },
  };
}
