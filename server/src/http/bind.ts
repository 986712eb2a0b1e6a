// Binds every verb of the contract to its method: a loop over the table. Who is calling and whether they may is settled
// here, before the method and before a body is read, for every route alike; what was done or refused goes to the audit log.
import type { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Verb } from '@stellwerk/contract/verb.ts';
import { apiPrefix, eachVerb } from '@stellwerk/contract/verbs.ts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Access, Caller } from '../access/access.ts';
import type { Download } from '../blob/download.ts';
import { admit, authoriseRun, type RunReach } from './authorise.ts';
import { bodyOf, type Incident } from './errors.ts';
import { type InputReader, inputReader } from './input.ts';
import { OpenStreams } from './open-streams.ts';
import { recordDone, recordError } from './recording.ts';
import type { AnyMethod, Service } from './service.ts';
import { sendDownload, sendEvents } from './streams.ts';

export interface Binding {
  service: Service;
  access: Access;
  runs: RunReach;
  /** The workspace's name as it was created: names differ by more than case. */
  workspaceNamed(name: string): Promise<string | undefined>;
  incident: Incident;
  /** Aborted when the server stops: ends open streams. */
  stopping: AbortSignal;
  /** How often it is asked whether the caller of an open stream still may. */
  recheckMs: number;
}

interface Bound {
  name: string;
  verb: Verb;
  read: InputReader;
  method: AnyMethod;
}

/** Who is calling, and the workspace of the address by its true name: settled before the body is read. */
interface Admitted {
  caller: Caller;
  workspace: string | undefined;
}
const admitted = new WeakMap<FastifyRequest, Admitted>();

/** Of what strangers send, little is read. */
const publicBodyBytes = 64 * 1024;

type Serving = Binding & { streams: OpenStreams };

export function bindVerbs(app: FastifyInstance, binding: Binding): void {
  const serving: Serving = { ...binding, streams: new OpenStreams() };
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
        ...bodyLimit(one.verb),
        onRequest: async (request) => {
          admitted.set(request, await admission(one, binding, request));
        },
        handler: (request, reply) => handle(one, serving, request, reply),
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

function bodyLimit({ bodyBytes, permission }: Verb): { bodyLimit?: number } {
  if (bodyBytes !== undefined) return { bodyLimit: bodyBytes };
  return permission === 'public' ? { bodyLimit: publicBodyBytes } : {};
}

async function admission({ name, verb }: Bound, binding: Binding, request: FastifyRequest): Promise<Admitted> {
  const given = (request.params as { workspace?: string }).workspace;
  let caller: Caller = { kind: 'stranger' };
  let workspace: string | undefined;
  try {
    caller = await callerOf(request, binding.access);
    workspace = given === undefined ? undefined : await binding.workspaceNamed(given);
    await admit(verb, workspace ?? given, caller, binding.access.authenticator);
    if (given !== undefined && workspace === undefined)
      throw new ServiceError('not-found', 'workspace.not-found', `There is no workspace ${given}.`);
    return { caller, workspace };
  } catch (error) {
    const input = { ...(request.params as object), ...(workspace !== undefined && { workspace }) };
    await recordError(binding.access, { name, verb, request, caller, input }, error);
    throw error;
  }
}

async function handle(bound: Bound, binding: Serving, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { verb, name } = bound;
  const { caller, workspace } = admitted.get(request)!;
  let input: Record<string, unknown> = {};
  try {
    input = bound.read(request);
    // Names differ by more than case: rooms see a workspace's true name, wherever in the input it stands.
    if (workspace !== undefined) input.workspace = workspace;
    else if (typeof input.workspace === 'string')
      input.workspace = (await binding.workspaceNamed(input.workspace)) ?? input.workspace;
    if (caller.kind === 'run') await authoriseRun(verb, input, caller, binding.runs);
    const answer = await call(bound, binding, input, caller, request, reply);
    await recordDone(binding.access, { name, verb, request, caller, input });
    return answer;
  } catch (error) {
    await recordError(binding.access, { name, verb, request, caller, input }, error);
    throw error;
  }
}

async function call(
  { verb, method }: Bound,
  binding: Serving,
  input: object,
  caller: Caller,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const given = input as never;
  if (verb.transport === 'json') return method(given, caller);
  if (verb.transport === 'upload') return method(given, caller, (request.body ?? request.raw) as Readable);
  const open = new AbortController();
  const signal = AbortSignal.any([open.signal, binding.stopping]);
  binding.streams.open(caller, reply.raw);
  recheck(verb, binding, request, reply, open);
  if (verb.transport === 'download') {
    const ask = async (range: string | undefined) =>
      (await method(given, caller, { signal, ...(range !== undefined && { range }) })) as Download;
    return sendDownload(reply, await asked(request, ask));
  }
  const resumed = request.headers['last-event-id'];
  const after =
    typeof resumed === 'string' && /^\d{1,15}$/.test(resumed) ? { ...input, after: Number(resumed) } : input;
  const events = method(after as never, caller, signal) as AsyncIterable<{ id: number }>;
  return sendEvents(reply, events, signal, (error) => bodyOf(error, binding.incident).body);
}

/** A part of a file that has changed since (`If-Range`) would not fit to the parts before: then all of it is sent. */
async function asked(
  { headers }: FastifyRequest,
  ask: (range: string | undefined) => Promise<Download>,
): Promise<Download> {
  const download = await ask(headers.range);
  const condition = headers['if-range'];
  if (condition === undefined || download.range === undefined || condition === `"${download.etag}"`) return download;
  download.stream.destroy();
  return ask(undefined);
}

/** Whose token is revoked, or whose role is taken away, sees no more of what an open stream brings. */
function recheck(
  verb: Verb,
  binding: Binding,
  request: FastifyRequest,
  reply: FastifyReply,
  open: AbortController,
): void {
  const { workspace } = admitted.get(request)!;
  const check = async () => {
    const caller = await callerOf(request, binding.access);
    await admit(verb, workspace, caller, binding.access.authenticator);
  };
  const refuse = () => {
    open.abort();
    if (verb.transport === 'download') reply.raw.destroy(); // half a file must not look like a whole one
  };
  const timer = setInterval(() => void check().catch(refuse), binding.recheckMs);
  reply.raw.on('close', () => {
    clearInterval(timer);
    open.abort();
  });
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
