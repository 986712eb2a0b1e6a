// A verb's input from a request: fields of the path, and the query or the JSON body, checked against the contract.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { flawOfJson } from '@stellwerk/contract/json-shape.ts';
import { pathFields, usesQuery, type Verb } from '@stellwerk/contract/verb.ts';
import * as z from 'zod';
import { invalidInput } from './errors.ts';

export type InputReader = (parts: { params: unknown; query: unknown; body: unknown }) => Record<string, unknown>;

/** How the text of a query field becomes the JSON value that the contract names. */
type Conversion = (text: unknown) => unknown;

export function inputReader(verb: Verb): InputReader {
  const schema = verb.input.strict();
  const conversions = conversionsOf(verb);
  const fromPath = new Set(pathFields(verb.path));
  return ({ params, query, body }) => {
    const rest = usesQuery(verb) ? converted(query, conversions) : jsonOf(body);
    if (typeof rest !== 'object' || rest === null || Array.isArray(rest))
      throw invalidInput(
        new z.ZodError([{ code: 'custom', path: [], message: 'the body must be a JSON object', input: rest }]),
      );
    const twice = Object.keys(rest).filter((field) => fromPath.has(field));
    if (twice.length > 0)
      throw invalidInput(
        new z.ZodError([{ code: 'custom', path: twice, message: 'stands in the path already', input: rest }]),
      );
    const result = schema.safeParse({ ...rest, ...converted(params, conversions) });
    if (!result.success) throw invalidInput(result.error);
    return result.data;
  };
}

function jsonOf(body: unknown): unknown {
  if (body === undefined) return {};
  const flaw = flawOfJson(body);
  if (flaw === undefined) return body;
  throw new ServiceError('invalid-argument', 'request.invalid', `The request is not valid: ${flaw}.`);
}

function converted(given: unknown, conversions: Map<string, Conversion>): Record<string, unknown> {
  const entries = Object.entries((given ?? {}) as Record<string, unknown>);
  return Object.fromEntries(
    entries.map(([field, value]) => [field, (conversions.get(field) ?? ((text) => text))(value)]),
  );
}

function conversionsOf(verb: Verb): Map<string, Conversion> {
  const { properties = {} } = z.toJSONSchema(verb.input, { io: 'input', unrepresentable: 'any' }) as {
    properties?: Record<string, { type?: string; items?: { type?: string } }>;
  };
  return new Map(
    Object.entries(properties).map(([field, { type, items }]) => [
      field,
      type === 'array' ? listOf(conversionTo(items?.type)) : conversionTo(type),
    ]),
  );
}

const listOf =
  (each: Conversion): Conversion =>
  (text) =>
    (Array.isArray(text) ? text : [text]).map(each);

function conversionTo(type: string | undefined): Conversion {
  if (type === 'integer' || type === 'number')
    return (text) => (typeof text === 'string' && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text) ? Number(text) : text);
  if (type === 'boolean') return (text) => (text === 'true' ? true : text === 'false' ? false : text);
  return (text) => text;
}
