// Writes python/src/stellwerk/client/verbs.py, one Python call per verb of the contract.
// With --check it writes nothing and fails if that file is out of date.
import { readFileSync, writeFileSync } from 'node:fs';
import { hints } from '@stellwerk/contract/errors.ts';
import { pathFields, usesQuery, type Verb } from '@stellwerk/contract/verb.ts';
import { eachVerb, verbs } from '@stellwerk/contract/verbs.ts';
import * as z from 'zod';

const target = new URL('../python/src/stellwerk/client/verbs.py', import.meta.url);
const width = 118;

interface Schema {
  type?: string;
  $ref?: string;
  id?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  $defs?: Record<string, Schema>;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll('-', '_');
}

const pascal = (noun: string): string => noun.charAt(0).toUpperCase() + noun.slice(1);

function resolved(schema: Schema, root: Schema): Schema {
  const name = schema.$ref?.replace('#/$defs/', '');
  const found = name === undefined ? undefined : root.$defs?.[name];
  return found ? { ...found, id: found.id ?? name!, ...schema } : schema;
}

function pythonType(given: Schema, root: Schema): string {
  const schema = resolved(given, root);
  if (schema.anyOf ?? schema.oneOf) {
    const types = [...new Set((schema.anyOf ?? schema.oneOf)!.map((one) => pythonType(one, root)))];
    if (types.includes('Any')) return 'Any';
    const named = types.filter((one) => one !== 'None');
    const joined = named.length === 1 ? named[0]! : `Union[${named.join(', ')}]`;
    return types.includes('None') ? `Optional[${joined}]` : joined;
  }
  switch (schema.type) {
    case 'string':
      return 'str';
    case 'integer':
      return 'int';
    case 'number':
      return 'float';
    case 'boolean':
      return 'bool';
    case 'null':
      return 'None';
    case 'array':
      return `Sequence[${pythonType(schema.items ?? {}, root)}]`;
    case 'object':
      return `Mapping[str, ${typeof schema.additionalProperties === 'object' ? pythonType(schema.additionalProperties, root) : 'Any'}]`;
    default:
      return 'Any';
  }
}

/** What a caller must know of a field beyond its type: meaning, choices, limits, default. */
function meaning(given: Schema, root: Schema): string {
  const schema = resolved(given, root);
  const element = schema.items ? resolved(schema.items, root) : undefined;
  const parts = [schema.description, element?.description].filter((part): part is string => part !== undefined);
  if (schema.id && schema.properties) parts.push(`The contract's \`${schema.id}\`: ${fieldsOf(schema)}.`);
  if (element?.properties) parts.push(`Each with ${fieldsOf(element)}.`);
  const choices = schema.enum ?? element?.enum;
  if (choices) parts.push(`One of ${choices.map((choice) => `\`${choice}\``).join(', ')}.`);
  const limits = limitsOf(schema);
  if (limits && !/\d/.test(schema.description ?? '')) parts.push(limits);
  if (schema.default !== undefined && !isEmpty(schema.default))
    parts.push(`${JSON.stringify(schema.default)} unless given.`);
  return parts.map((part) => (/[.!?…]$/.test(part) ? part : `${part}.`)).join(' ');
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

const fieldsOf = (schema: Schema): string =>
  Object.keys(schema.properties ?? {})
    .map((name) => `\`${name}\`${schema.required?.includes(name) ? '' : '?'}`)
    .join(', ');

function limitsOf(schema: Schema): string {
  const most = (value: number | undefined): value is number => value !== undefined && value < Number.MAX_SAFE_INTEGER;
  const least = (value: number | undefined): value is number => value !== undefined && value > Number.MIN_SAFE_INTEGER;
  if (most(schema.maxLength)) return `Up to ${schema.maxLength} characters.`;
  if (most(schema.maxItems)) return `Up to ${schema.maxItems} entries.`;
  if (least(schema.minimum) && most(schema.maximum)) return `From ${schema.minimum} to ${schema.maximum}.`;
  if (least(schema.minimum)) return `At least ${schema.minimum}.`;
  return '';
}

function wrapped(text: string, first: string, rest: string): string[] {
  const lines: string[] = [];
  let line = first;
  for (const word of text.split(/\s+/)) {
    const next = line.trim() === '' || line === first ? `${line}${word}` : `${line} ${word}`;
    if (next.length > width && line !== first) {
      lines.push(line);
      line = `${rest}${word}`;
    } else line = next;
  }
  return [...lines, line];
}

const permissions: Record<Verb['permission'], string> = {
  public: 'Anyone may call it.',
  'signed-in': 'Any user may call it.',
  administrator: 'Server administrators may call it.',
  read: 'Readers of the workspace may call it.',
  contribute: 'Contributors of the workspace may call it.',
  own: 'Owners of the workspace may call it.',
};

/** Whether the answer is a list, with or without further pages, and nothing else. */
function isPage(schema: Schema): boolean {
  const fields = Object.keys(schema.properties ?? {});
  return fields.includes('items') && fields.every((field) => field === 'items' || field === 'nextPage');
}

/** How a cut download goes on: by Range, by an offset among the fields, or not at all. */
function resumption(verb: Verb, fields: string[]): 'range' | 'offset' | undefined {
  if (verb.transport !== 'download') return undefined;
  return fields.includes('offset') ? 'offset' : verb.summary.includes('Range') ? 'range' : undefined;
}

interface Answer {
  type: string;
  call: string;
  text: string;
  /** For records that can do more than be read. */
  record?: string;
}

function answer(verb: Verb, output: Schema): Answer {
  if (verb.transport === 'download')
    return { type: 'Download', call: 'download', text: 'The bytes: read it like a file, or `save` it.' };
  const root = resolved(output, output);
  const id = root.id;
  if (verb.transport === 'events')
    return {
      type: 'Iterator[Record]',
      call: 'events',
      text: `\`${id}\` records, as they happen; a cut stream goes on.`,
    };
  if (isPage(root)) {
    const item = resolved(root.properties!.items!.items ?? {}, output).id;
    const record = item === 'Activity' ? ', record=Activity' : '';
    const text = `A list of \`${item ?? id}\` records; its \`all()\` goes on to later pages.`;
    return { type: 'Page', call: 'page', text, record };
  }
  const fields = Object.keys(root.properties ?? {});
  if (fields.length === 0) return { type: 'None', call: 'nothing', text: '' };
  const text = `\`${id}\`: ${fieldsOf(root)}.`;
  if (id === 'Activity') return { type: 'Activity', call: 'json', text, record: ', record=Activity' };
  return { type: 'Record', call: verb.transport === 'upload' ? 'upload' : 'json', text };
}

function method(name: string, verb: Verb): string[] {
  const input = z.toJSONSchema(verb.input, { io: 'input', unrepresentable: 'any' }) as Schema;
  const output = z.toJSONSchema(verb.output, { io: 'output', unrepresentable: 'any' }) as Schema;
  const inPath = pathFields(verb.path);
  const fields = Object.entries(input.properties ?? {});
  const required = fields.filter(([field]) => input.required?.includes(field));
  const optional = fields.filter(([field]) => !input.required?.includes(field));
  const positional = [
    ...required.filter(([field]) => inPath.includes(field)).sort(([a], [b]) => inPath.indexOf(a) - inPath.indexOf(b)),
    ...required.filter(([field]) => !inPath.includes(field)),
  ];
  const resume = resumption(
    verb,
    fields.map(([field]) => field),
  );
  const parameters = [
    'self',
    ...positional.map(([field, schema]) => `${snake(field)}: ${pythonType(schema, input)}`),
    ...(verb.transport === 'upload' ? ['body: Body'] : []),
    ...(optional.length > 0 || resume === 'range' ? ['*'] : []),
    ...optional.map(([field, schema]) => `${snake(field)}: Optional[${pythonType(schema, input)}] = None`),
    ...(resume === 'range' ? ['start: int = 0'] : []),
  ];
  const result = answer(verb, output);
  const lines = [`    def ${snake(name)}(`, ...parameters.map((parameter) => `        ${parameter},`)];
  lines.push(`    ) -> ${result.type}:`);
  lines.push(...wrapped(verb.summary, '        """', '        '), '');
  const told = [
    ...[...positional, ...optional].map(([field, schema]) => `${snake(field)}: ${meaning(schema, input)}`),
    ...(verb.transport === 'upload'
      ? ['body: Bytes, an open binary file, a path (`pathlib.Path`) or an iterable of bytes.']
      : []),
    ...(resume === 'range' ? ['start: Where to begin, in bytes.'] : []),
  ].filter((text) => !/: $/.test(text));
  if (told.length > 0)
    lines.push('        Args:', ...told.flatMap((text) => wrapped(text, '            ', '                ')));
  if (result.text) lines.push('        Returns:', ...wrapped(result.text, '            ', '                '));
  lines.push(`        ${permissions[verb.permission]}`, '        """');
  const sent = [...positional, ...optional].map(([field]) => `            "${field}": ${snake(field)},`);
  const how = verb.transport === 'json' && !usesQuery(verb) ? 'body' : 'query';
  const extra =
    verb.transport === 'upload' ? ', body' : resume === 'range' ? ', "range", start' : resume ? `, "${resume}"` : '';
  const asked = how === 'query' ? 'True' : 'False';
  const query = ['json', 'page', 'nothing'].includes(result.call) ? `, query=${asked}${result.record ?? ''}` : '';
  const prefix = result.call === 'nothing' ? '' : 'return ';
  const open = `        ${prefix}self._calls.${result.call}("${verb.method}", "${verb.path}", {`;
  if (sent.length === 0) lines.push(`${open}}${extra}${query})`);
  else lines.push(open, ...sent, `        }${extra}${query})`);
  return [...lines, ''];
}

/** The reasons of errors that belong to a noun, by their first word. */
function reasonsOf(noun: string): string[] {
  const singular: Record<string, string> = {
    signIns: 'access',
    me: 'access',
    users: 'access',
    tokens: 'access',
    members: 'access',
    audit: 'access',
    packageIndexes: 'settings',
    activities: 'activity',
    journals: 'run.journal',
    metrics: 'query',
    logs: 'run.log',
    services: 'web-service',
    compute: 'compute',
    server: 'server',
  };
  const word = singular[noun] ?? noun.replace(/s$/, '');
  return Object.keys(hints).filter((reason) => reason.startsWith(`${word}.`) || reason.startsWith(`${word}-`));
}

function nounClass(noun: string, table: [string, Verb][]): string[] {
  const reasons = reasonsOf(noun);
  const title = `The verbs of \`${snake(noun)}\`.`;
  const told =
    reasons.length > 0
      ? [
          '',
          ...wrapped(`Reasons of their errors: ${reasons.map((one) => `\`${one}\``).join(', ')}.`, '    ', '    '),
          '    """',
        ]
      : [];
  return [
    '',
    `class ${pascal(noun)}:`,
    told.length > 0 ? `    """${title}` : `    """${title}"""`,
    ...told,
    '',
    '    def __init__(self, calls: Calls) -> None:',
    '        self._calls = calls',
    '',
    ...table.flatMap(([name, verb]) => method(name, verb)),
  ];
}

function pythonClient(): string {
  const nouns = Object.keys(verbs);
  const all = eachVerb();
  const classes = nouns.flatMap((noun) =>
    nounClass(
      noun,
      all.filter((one) => one.noun === noun).map((one) => [one.verb, one.declaration]),
    ),
  );
  return [
    '"""One call per verb of the contract. Generated by tools/python-client.ts; do not edit.',
    '',
    'Parameters are in snake_case; records keep the names that they have on the wire. Every call raises ServiceError, with a stable',
    '`reason`, a sentence and a hint, where the server refuses, and Unreachable where no server answers.',
    '"""',
    'from __future__ import annotations',
    '',
    'from typing import Any, Iterator, Mapping, Optional, Sequence, Union',
    '',
    'from .calls import Activity, Body, Calls, Download, Page, Record',
    '',
    ...classes,
    '',
    'class Nouns:',
    '    """The nouns of the contract, each with its verbs."""',
    '',
    '    def __init__(self, calls: Calls) -> None:',
    ...nouns.map((noun) => `        self.${snake(noun)} = ${pascal(noun)}(calls)`),
    '',
  ].join('\n');
}

function main(): void {
  const wanted = pythonClient();
  if (!process.argv.includes('--check')) {
    writeFileSync(target, wanted);
    return;
  }
  if (readFileSync(target, 'utf8') === wanted) return;
  process.stderr.write(
    'python/src/stellwerk/client/verbs.py is out of date: run `node tools/launch.mjs tools/python-client.ts`.\n',
  );
  process.exitCode = 1;
}

main();
