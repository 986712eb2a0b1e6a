// Flags from the contract: every field of a verb's input is a flag, and what is typed becomes the input again.
// Lists repeat their flag; records take key=value; the fields of an object are dotted; an object as a whole is JSON, or @file in JSON or YAML.
import { readFileSync } from 'node:fs';
import { parseJson } from '@stellwerk/contract/json-shape.ts';
import { Option } from 'commander';
import * as z from 'zod';
import { dataFile, prepareYaml } from './data-file.ts';
import { UsageError } from './failures.ts';
import { kebab } from './names.ts';

export interface Schema {
  type?: string;
  description?: string;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  maxLength?: number;
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export interface Flag {
  /** With the leading hyphens. */
  name: string;
  /** Where the value stands in the input. */
  path: string[];
  option: Option;
  schema: Schema;
}

/** The fields of an input, references resolved. */
export function schemaOf(input: z.ZodObject): Record<string, Schema> {
  const schema = z.toJSONSchema(input, { io: 'input', unrepresentable: 'any' }) as Schema;
  return resolved(schema, schema.$defs ?? {}).properties ?? {};
}

function resolved(schema: Schema, definitions: Record<string, Schema>): Schema {
  if (schema.$ref) {
    const { $ref, ...beside } = schema;
    return { ...resolved(definitions[$ref.replace('#/$defs/', '')] ?? {}, definitions), ...beside };
  }
  const each = (schemas: Schema[]) => schemas.map((one) => resolved(one, definitions));
  return {
    ...schema,
    ...(schema.properties
      ? {
          properties: Object.fromEntries(
            Object.entries(schema.properties).map(([name, one]) => [name, resolved(one, definitions)]),
          ),
        }
      : {}),
    ...(schema.items ? { items: resolved(schema.items, definitions) } : {}),
    ...(typeof schema.additionalProperties === 'object'
      ? { additionalProperties: resolved(schema.additionalProperties, definitions) }
      : {}),
    ...(schema.anyOf ? { anyOf: each(schema.anyOf) } : {}),
    ...(schema.oneOf ? { oneOf: each(schema.oneOf) } : {}),
  };
}

export function flagsOf(fields: Record<string, Schema>, except: ReadonlySet<string> = new Set()): Flag[] {
  return Object.entries(fields)
    .filter(([field]) => !except.has(field))
    .flatMap(([field, schema]) => flagsOfField([field], schema, kebab(field)));
}

function flagsOfField(path: string[], schema: Schema, name: string): Flag[] {
  const inner = innerFields(schema);
  const own = optionsOf(name, schema).map((option) => ({ name: `--${name}`, path, option, schema }));
  if (!inner || path.length > 2) return own;
  // The settings of a kind are what the command is about: `--kind host --user runner`.
  const prefix = isUnionOfKinds(schema) ? '' : `${name}.`;
  const below = Object.entries(inner).flatMap(([field, one]) =>
    flagsOfField([...path, field], one, prefix + kebab(field)),
  );
  return [...own, ...below];
}

const isUnionOfKinds = (schema: Schema) => (schema.oneOf ?? []).some((option) => option.properties?.kind?.const);

/** The fields of an object; of a union of objects, all that any of them has, with the kinds as one choice. */
function innerFields(schema: Schema): Record<string, Schema> | undefined {
  if (schema.properties) return schema.properties;
  const options = (schema.oneOf ?? schema.anyOf ?? []).filter((option) => option.properties);
  if (options.length === 0) return undefined;
  const names = new Set(options.flatMap((option) => Object.keys(option.properties!)));
  return Object.fromEntries(
    [...names].map((name) => [name, merged(options.map((option) => option.properties![name]))]),
  );
}

function merged(found: (Schema | undefined)[]): Schema {
  const schemas = found.filter((schema) => schema !== undefined);
  const constants = schemas.map((schema) => schema.const).filter((value) => value !== undefined);
  return constants.length > 0 ? { type: 'string', enum: constants } : schemas[0]!;
}

const isRecord = (schema: Schema) => !schema.properties && typeof schema.additionalProperties === 'object';
const isObject = (schema: Schema) => innerFields(schema) !== undefined;
/** Text that a file would hold, such as certificates. */
const isFileText = (schema: Schema) => schema.type === 'string' && (schema.maxLength ?? 0) >= 100_000;

function optionsOf(name: string, schema: Schema): Option[] {
  const described = (flags: string, extra = '') => {
    const option = new Option(flags, textOf(schema, extra));
    option.negate = false; // `--no-index` is a field's own name, not the contrary of `--index`
    return option;
  };
  if (schema.type === 'boolean') {
    const yes = described(`--${name}`);
    return name.startsWith('no-') ? [yes] : [yes, new Option(`--no-${name}`).hideHelp()];
  }
  if (isRecord(schema)) return [described(`--${name} <key=value>`, 'Repeatable; or @file.').argParser(collected)];
  if (schema.type === 'array')
    return [described(`--${name} <${wordFor(schema.items)}>`, 'Repeatable.').argParser(collected)];
  if (isObject(schema)) return [described(`--${name} <@file>`, 'JSON, or @file in JSON or YAML.')];
  const option = described(`--${name} <${wordFor(schema)}>`, isFileText(schema) ? 'Or @file.' : '');
  return [schema.enum ? option.choices(schema.enum.map(String)) : option];
}

function wordFor(schema: Schema | undefined): string {
  if (schema?.type === 'integer' || schema?.type === 'number') return 'number';
  return schema && isObject(schema) ? '@file' : 'text';
}

function textOf(schema: Schema, extra: string): string {
  const standard = schema.default;
  const plain = standard === undefined || (typeof standard === 'object' && JSON.stringify(standard).length <= 2);
  return [schema.description, extra, plain ? '' : `(default: ${JSON.stringify(standard)})`].filter(Boolean).join(' ');
}

function collected(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

/** What was typed, by the option's name, as input of the verb: on top of `start`, the whole before its parts. */
export async function inputFrom(
  flags: readonly Flag[],
  typed: Record<string, unknown>,
  start: Record<string, unknown> = {},
): Promise<Record<string, unknown>> {
  await prepareYaml(typed);
  const input = structuredClone(start);
  for (const { name, path, option, schema } of flags) {
    const value = typed[option.attributeName()];
    if (value !== undefined) put(input, path, typedValue(value, schema, name), isRecord(schema));
  }
  return input;
}

/** Entries of a record come beside those that are there; anything else takes the place of what was there. */
function put(input: Record<string, unknown>, [first, ...rest]: readonly string[], value: unknown, adds: boolean): void {
  const before = isPlainObject(input[first!]) ? input[first!] : {};
  if (rest.length > 0) {
    const below = { ...(before as Record<string, unknown>) };
    put(below, rest, value, adds);
    input[first!] = below;
  } else input[first!] = adds ? { ...(before as object), ...(value as object) } : value;
}

const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A typed value as the schema wants it. What does not fit is left as it is: the contract's own check names it. */
export function typedValue(typed: unknown, schema: Schema, flag: string): unknown {
  if (typeof typed === 'boolean') return typed;
  if (isRecord(schema)) return recordFrom(typed as string[], schema, flag);
  if (schema.type === 'array') return (typed as string[]).flatMap((one) => itemsFrom(one, schema.items ?? {}, flag));
  const text = typed as string;
  if (isObject(schema)) return parsed(text, flag);
  if (isFileText(schema) && text.startsWith('@')) return readFileSync(text.slice(1), 'utf8');
  return scalarFrom(text, schema);
}

function itemsFrom(text: string, items: Schema, flag: string): unknown[] {
  if (!isObject(items)) return [scalarFrom(text, items)];
  const value = parsed(text, flag);
  return Array.isArray(value) ? value : [value];
}

function recordFrom(typed: string[], schema: Schema, flag: string): Record<string, unknown> {
  const values = schema.additionalProperties as Schema;
  const record: Record<string, unknown> = Object.create(null);
  for (const text of typed) {
    if (text.startsWith('@') || text.startsWith('{')) {
      Object.assign(record, parsed(text, flag));
      continue;
    }
    const equals = text.indexOf('=');
    if (equals < 0 && !acceptsNull(values))
      throw new UsageError(`${flag} takes key=value, and got ${JSON.stringify(text)}.`);
    const value = text.slice(equals + 1);
    const key = equals < 0 ? text : text.slice(0, equals);
    record[key] = equals < 0 ? null : isObject(values) ? parsed(value, flag) : scalarFrom(value, values);
  }
  return { ...record };
}

const acceptsNull = (schema: Schema): boolean => schema.type === 'null' || (schema.anyOf ?? []).some(acceptsNull);

/** Of a union, the first type that the text reads as: `0.1` is a number, `true` a truth value, anything else text. */
function scalarFrom(text: string, schema: Schema): unknown {
  const types = schema.anyOf ? schema.anyOf.map((option) => option.type) : [schema.type];
  const isNumber = text.trim() !== '' && Number.isFinite(Number(text));
  if (isNumber && (types.includes('number') || types.includes('integer'))) return Number(text);
  if (types.includes('boolean') && (text === 'true' || text === 'false')) return text === 'true';
  if (types.includes('null') && !types.includes('string') && text === 'null') return null;
  return text;
}

function parsed(text: string, flag: string): unknown {
  try {
    if (text.startsWith('@')) return dataFile(text.slice(1));
    return parseJson(text);
  } catch (error) {
    if (error instanceof Error && (error instanceof SyntaxError || error.name === 'YAMLParseError'))
      throw new UsageError(`${flag} takes JSON, or @file in JSON or YAML: ${error.message}.`);
    throw error;
  }
}
