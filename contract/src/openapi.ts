// The API's description, OpenAPI 3.1, from the table of verbs: served as /openapi.json and kept at the repository's root.
// Requests are described as a caller gives them, answers as the server gives them; records with an id are components.
import * as z from 'zod';
import { errorBody, statusOf } from './errors.ts';
import { type Permission, pathFields, usesQuery, type Verb } from './verb.ts';
import { apiPrefix, eachVerb } from './verbs.ts';

type Json = Record<string, unknown>;

export interface OpenApiOptions {
  version?: string;
  /** Where the server is reached. */
  url?: string;
}

const permissions: Record<Permission, string> = {
  public: 'Anyone may call it, signed in or not.',
  'signed-in': 'Any user who is signed in may call it.',
  administrator: 'Server administrators may call it.',
  read: 'Readers, Contributors and Owners of the workspace may call it.',
  contribute: 'Contributors and Owners of the workspace may call it.',
  own: 'Owners of the workspace may call it.',
};

export function openapi({ version = '0.1.0', url = '/' }: OpenApiOptions = {}): Json {
  const components = new Components();
  const paths: Record<string, Json> = {};
  for (const { name, noun, declaration } of eachVerb()) {
    const path = apiPrefix + declaration.path;
    paths[path] = {
      ...paths[path],
      [declaration.method.toLowerCase()]: operation(name, noun, declaration, components),
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Stellwerk',
      version,
      description: 'An open, self-hosted machine-learning service. Every verb of it, and nothing beside.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url }],
    security: [{ token: [] }],
    tags: [...new Set(eachVerb().map(({ noun }) => noun))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'A sign-in, a token, or the token of a run.' },
      },
      responses: { Error: errorAnswer(components) },
      schemas: components.schemas,
    },
  };
}

function operation(name: string, noun: string, verb: Verb, components: Components): Json {
  const inPath = new Set(pathFields(verb.path));
  const input = components.inlined(verb.input, 'input');
  const fields = Object.entries((input.properties ?? {}) as Record<string, Json>);
  const required = new Set(input.required as string[] | undefined);
  const inQuery = usesQuery(verb) || verb.transport !== 'json';
  const parameters = fields
    .filter(([field]) => inPath.has(field) || inQuery)
    .map(([field, schema]) => parameter(field, schema, inPath.has(field), required.has(field)));
  if (verb.transport === 'events') parameters.push(lastEventId);
  const body = fields.filter(([field]) => !inPath.has(field));
  return {
    operationId: name,
    tags: [noun],
    summary: verb.summary,
    description: described(verb),
    'x-permission': verb.permission,
    ...(verb.runToken ? { 'x-run-token': verb.runToken } : {}),
    ...(verb.permission === 'public' ? { security: [] } : {}),
    parameters,
    ...(verb.transport === 'upload' ? { requestBody: rawBody } : {}),
    ...(!inQuery ? { requestBody: jsonBody(body, required) } : {}),
    responses: {
      200: answer(verb, components),
      ...partialAnswer(verb),
      default: { $ref: '#/components/responses/Error' },
    },
  };
}

function described(verb: Verb): string {
  const byRun = verb.runToken ? ' So may the token of a run, within its reach.' : '';
  return `${permissions[verb.permission]}${byRun}`;
}

function parameter(field: string, { description, ...schema }: Json, isInPath: boolean, isRequired: boolean): Json {
  return {
    name: field,
    in: isInPath ? 'path' : 'query',
    required: isInPath || isRequired,
    ...(description ? { description } : {}),
    ...(schema.type === 'array' ? { style: 'form', explode: true } : {}),
    schema,
  };
}

const lastEventId: Json = {
  name: 'Last-Event-ID',
  in: 'header',
  required: false,
  description: 'The id of the last event seen: the stream goes on after it.',
  schema: { type: 'string' },
};

const rawBody: Json = {
  required: false,
  description: 'The bytes as they are; there may be none.',
  content: { 'application/octet-stream': { schema: {} } },
};

function jsonBody(fields: [string, Json][], required: ReadonlySet<string>): Json {
  const names = fields.map(([field]) => field).filter((field) => required.has(field));
  const schema = {
    type: 'object',
    properties: Object.fromEntries(fields),
    ...(names.length > 0 ? { required: names } : {}),
    additionalProperties: false,
  };
  return { required: names.length > 0, content: { 'application/json': { schema } } };
}

function answer(verb: Verb, components: Components): Json {
  if (verb.transport === 'download') return { description: 'The bytes as they are.', content: anyBytes };
  const schema = components.reference(verb.output);
  if (verb.transport !== 'events') return { description: 'Done.', content: { 'application/json': { schema } } };
  const description = 'Server-sent events; `data` of each is the JSON described here.';
  return { description, content: { 'text/event-stream': { schema } } };
}

/** A file, an archive, a log: each has its type. */
const anyBytes: Json = { '*/*': { schema: {} } };

function partialAnswer(verb: Verb): Json {
  if (verb.transport !== 'download') return {};
  return {
    206: { description: 'The bytes that `Range` asked for.', content: anyBytes },
  };
}

function errorAnswer(components: Components): Json {
  const codes = Object.entries(statusOf).map(([code, status]) => `${status} \`${code}\``);
  return {
    description: `Refused. ${codes.join(', ')}. docs/errors.md lists every reason.`,
    content: { 'application/json': { schema: components.reference(errorBody) } },
  };
}

/** Schemas with an id are named once; one that differs between requests and answers has a second name for requests. */
class Components {
  readonly schemas: Record<string, Json> = {};

  reference(schema: z.ZodType): Json {
    const { $schema: _, $defs, ...own } = this.converted(schema, 'output');
    this.add($defs as Record<string, Json> | undefined, 'output');
    const id = schema.meta()?.id;
    if (id === undefined) return this.relinked(own, 'output');
    this.put(id, this.relinked(own, 'output'));
    return { $ref: `#/components/schemas/${id}` };
  }

  inlined(schema: z.ZodType, io: 'input' | 'output'): Json {
    const { $schema: _, $defs, ...own } = this.converted(schema, io);
    this.add($defs as Record<string, Json> | undefined, io);
    return this.relinked(own, io);
  }

  private converted(schema: z.ZodType, io: 'input' | 'output'): Json {
    return z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as Json;
  }

  private add(definitions: Record<string, Json> | undefined, io: 'input' | 'output'): void {
    for (const [id, schema] of Object.entries(definitions ?? {}))
      this.put(this.named(id, io), this.relinked(schema, io));
  }

  private put(name: string, { id: _, ...schema }: Json): void {
    this.schemas[name] = schema;
  }

  private named(id: string, io: 'input' | 'output'): string {
    return io === 'input' ? `${id}Input` : id;
  }

  private relinked(schema: Json, io: 'input' | 'output'): Json {
    const text = JSON.stringify(schema).replace(
      /"\$ref":"#\/\$defs\/([^"]+)"/g,
      (_, id: string) => `"$ref":"#/components/schemas/${this.named(id, io)}"`,
    );
    const { $defs: _, id: __, ...own } = JSON.parse(text) as Json;
    return own;
  }
}
