// Binds every verb of the contract to its method: a loop over the table. Who is calling and whether they may is settled
// here, before the method, for every route alike; what was done or refused goes to the audit log.
import type { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Verb } from '@stellwerk/contract/verb.ts';
import { apiPrefix, eachVerb } from '@stellwerk/contract/verbs.ts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Access, Caller } from '../access/access.ts';
import type { Download } from '../blob/download.ts';
import { authorise, type RunReach } from './authorise.ts';
import { type InputReader, inputReader } from './input.ts';
import type { AnyMethod, Service } from './service.ts';
import { sendDownload, sendEvents } from './streams.ts';

export interface Binding {
  service: Service;
  access: Access;
  runs: RunReach;
  /** The workspace's name as it was created: names differ by more than case. */
  workspaceNamed(name: string): Promise<string | undefined>;
  /** Aborted when the server stops: ends open streams. */
  stopping: AbortSignal;
}

interface Bound {
  name: string;
  verb: Verb;
  read: InputReader;
  method: AnyMethod;
}

export function bindVerbs(app: FastifyInstance, binding: Binding): void {
  const bound = eachVerb().map(({ name, noun, verb, declaration }): Bound => {
    const room = binding.service[noun] as unknown as Record<string, AnyMethod>;
    return { name, verb: declaration, read: inputReader(declaration), method: room[verb]!.bind(room) };
  });
  const routes = (instance: FastifyInstance, some: Bound[]) => {
    for (const one of some) {
      const url = apiPrefix + one.verb.path.replaceAll(/\{(\w+)\}/g, ':$1');
      instance.route({
        method: one.verb.method,
        url,
        ...(one.verb.bodyBytes !== undefined && { bodyLimit: one.verb.bodyBytes }),
        handler: (request, reply) => handle(one, binding, request, reply),
      });
    }
  };
  routes(
    app,
    bound.filter(({ verb }) => verb.transport !== 'upload'),
  );
  // Uploads are read as they come, so that a body of any size takes no memory: a context of its own has another parser.
  app.register(async (uploads) => {
    uploads.removeAllContentTypeParsers();
    uploads.addContentTypeParser(
      'application/octet-stream',
      { bodyLimit: Number.MAX_SAFE_INTEGER },
      (_request, payload, done) => done(null, payload),
    );
    routes(
      uploads,
      bound.filter(({ verb }) => verb.transport === 'upload'),
    );
  });
}

async function handle(bound: Bound, binding: Binding, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { verb, name } = bound;
  let caller: Caller = { kind: 'stranger' };
  let input: Record<string, unknown> = {};
  try {
    caller = await callerOf(request, binding.access);
    if (caller.kind === 'stranger' && verb.permission !== 'public')
      throw new ServiceError('unauthenticated', 'access.sign-in-needed', 'This needs a sign-in.');
    input = bound.read(request);
    const workspace = typeof input.workspace === 'string' ? await binding.workspaceNamed(input.workspace) : undefined;
    if (workspace !== undefined) input.workspace = workspace;
    await authorise(verb, input, caller, binding.access.authenticator, binding.runs);
    if (workspace === undefined && verb.path.includes('{workspace}')) {
      throw new ServiceError('not-found', 'workspace.not-found', `There is no workspace ${String(input.workspace)}.`);
    }
    const answer = await call(bound, binding, input, caller, request, reply);
    if (isRecorded(verb))
      await binding.access.audit.record({ ...deed(name, verb, input, request), caller, outcome: 'done' });
    return answer;
  } catch (error) {
    if (isRecorded(verb) || isRefusal(error)) {
      const reason = error instanceof ServiceError ? error.reason : 'server.internal';
      const outcome = isRefusal(error) ? 'refused' : 'failed';
      await binding.access.audit
        .record({ ...deed(name, verb, input, request), caller, outcome, reason })
        .catch(() => {}); // the first error matters more
    }
    throw error;
  }
}

async function call(
  { verb, method }: Bound,
  binding: Binding,
  input: object,
  caller: Caller,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const given = input as never;
  if (verb.transport === 'json') return method(given, caller);
  if (verb.transport === 'upload') return method(given, caller, (request.body ?? request.raw) as Readable);
  const ended = new AbortController();
  reply.raw.on('close', () => ended.abort());
  const signal = AbortSignal.any([ended.signal, binding.stopping]);
  if (verb.transport === 'download') {
    const range = request.headers.range;
    return sendDownload(
      reply,
      (await method(given, caller, { signal, ...(range !== undefined && { range }) })) as Download,
    );
  }
  const resumed = Number(request.headers['last-event-id']);
  const after = Number.isSafeInteger(resumed) && resumed >= 0 ? { ...input, after: resumed } : input;
  return sendEvents(reply, method(after as never, caller, signal) as AsyncIterable<{ id: number }>, signal);
}

async function callerOf(request: FastifyRequest, access: Access): Promise<Caller> {
  const header = request.headers.authorization;
  if (header === undefined) return { kind: 'stranger' };
  const token = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(header)?.[1];
  if (!token)
    throw new ServiceError(
      'unauthenticated',
      'access.token-invalid',
      'The Authorization header must be `Bearer` and a token.',
    );
  return access.authenticator.callerOf(token);
}

/** Changes are recorded, but not what runs report all the time. */
function isRecorded(verb: Verb): boolean {
  if (verb.method === 'GET' || verb.permission === 'read') return false;
  return (
    !(verb.runToken === 'run' || verb.runToken === 'upload' || verb.runToken === 'datastore') ||
    verb.path.endsWith('/cancel')
  );
}

function isRefusal(error: unknown): boolean {
  return (
    error instanceof ServiceError && (error.code === 'permission-denied' || error.reason === 'access.password-wrong')
  );
}

function deed(name: string, verb: Verb, input: Record<string, unknown>, request: FastifyRequest) {
  const subject = Object.entries(input)
    .filter(
      ([field]) => field !== 'workspace' && (verb.path.includes(`{${field}}`) || field === 'name' || field === 'id'),
    )
    .map(([, value]) => String(value))
    .join('/')
    .slice(0, limits.pathLength);
  return {
    verb: name,
    workspace: typeof input.workspace === 'string' ? input.workspace : undefined,
    subject: subject === '' ? undefined : subject,
    address: request.ip,
  };
}
