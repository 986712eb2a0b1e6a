// For tests of the HTTP server: a real one on a free port, over a real database for who may what, and a service whose methods
// the test writes; what it does not write answers with what it was given.
import { type IncomingHttpHeaders, type IncomingMessage, request as send } from 'node:http';
import { Readable } from 'node:stream';
import type { Transport } from '@stellwerk/contract/verb.ts';
import { eachVerb } from '@stellwerk/contract/verbs.ts';
import { type AccessRig, accessRig } from '../access/access.fixture.ts';
import type { Caller } from '../access/access.ts';
import type { Registry } from '../registry/registry.ts';
import type { RunReach } from './authorise.ts';
import { registryOf, type StoredImages } from './registry.fixture.ts';
import { HttpServer, type HttpSettings } from './server.ts';
import type { AnyMethod, Service } from './service.ts';

export type Methods = Record<string, (input: never, caller: Caller, more: never) => unknown>;

export interface HttpRig extends AsyncDisposable {
  rig: AccessRig;
  http: HttpServer;
  url: string;
  incidents: unknown[];
  /** The verbs that were called, with what they were given. */
  calls: { verb: string; input: Record<string, unknown>; caller: Caller }[];
  tokens: Record<'administrator' | 'owner' | 'contributor' | 'reader' | 'outsider', string>;
  /** Where its images are stored, and how they are put there. */
  images: StoredImages;
  registry: Registry;
  /** `<run> <attempt>` each. */
  attemptsOn: Set<string>;
  runToken(run: string, attempt?: number): Promise<string>;
}

export const someRuns: RunReach = {
  // r1 has the child r1-1, which has a child itself; others are on their own.
  within: async (workspace, ancestor, run) => workspace === 'w1' && `${run}-`.startsWith(`${ancestor}-`),
  snapshotOf: async (_workspace, run) => (run === 'r1' ? `sha256:${'1'.repeat(64)}` : undefined),
};

export async function httpRig(methods: Methods, settings: Partial<HttpSettings> = {}): Promise<HttpRig> {
  const rig = await accessRig();
  const incidents: unknown[] = [];
  const calls: HttpRig['calls'] = [];
  const service = serviceOf(methods, rig, calls);
  const tokens = await peopleOf(rig);
  const workspaceNamed = async (name: string) => ['w1', 'w2'].find((known) => known === name.toLowerCase());
  const attemptsOn = new Set<string>();
  const { registry, images } = await registryOf(rig, workspaceNamed, async ({ run, attempt }) =>
    attemptsOn.has(`${run} ${attempt}`),
  );
  const http = await HttpServer.start({
    service,
    access: rig.access,
    runs: someRuns,
    registry,
    workspaceNamed,
    settings: { listen: '127.0.0.1', port: 0, ...settings },
    incident: (error) => `i${incidents.push(error)}`,
    wheel: undefined,
  });
  return {
    rig,
    http,
    incidents,
    calls,
    tokens,
    images,
    registry,
    attemptsOn,
    url: `http://127.0.0.1:${http.port}`,
    runToken: (run, attempt = 1) =>
      rig.access.authenticator.createRunToken({ workspace: 'w1', run, attempt, user: 'owner' }, 60_000),
    [Symbol.asyncDispose]: async () => {
      await http.stop();
      await rig[Symbol.asyncDispose]();
    },
  };
}

const usual: Record<Transport, (input: object) => unknown> = {
  json: async (input) => input,
  upload: async (input) => input,
  download: async () => ({ stream: Readable.from(['text'], { objectMode: false }), contentType: 'text/plain' }),
  events: async function* () {},
};

function serviceOf(methods: Methods, rig: AccessRig, calls: HttpRig['calls']): Service {
  const service: Record<string, Record<string, AnyMethod>> = {};
  for (const { name, noun, verb, declaration } of eachVerb()) {
    const method = methods[name] ?? usual[declaration.transport];
    service[noun] ??= {};
    service[noun][verb] = (input, caller, more) => {
      calls.push({ verb: name, input, caller });
      return method(input, caller, more as never);
    };
  }
  return { ...service, signIns: rig.access.signIns, tokens: rig.access.tokens } as unknown as Service;
}

/** One of each kind in the workspace w1, and somebody who has a role in w2 only. */
async function peopleOf({ access, signedIn }: AccessRig): Promise<HttpRig['tokens']> {
  const administrator = await signedIn('administrator', { administrator: true });
  const tokenOf = async (name: string, workspace: string, role: 'owner' | 'contributor' | 'reader') => {
    const caller = await signedIn(name);
    await access.members.set({ workspace, user: name, role });
    return (await access.tokens.create({ name: 'test' }, caller)).token;
  };
  return {
    administrator: (await access.tokens.create({ name: 'test' }, administrator)).token,
    owner: await tokenOf('owner', 'w1', 'owner'),
    contributor: await tokenOf('contributor', 'w1', 'contributor'),
    reader: await tokenOf('reader', 'w1', 'reader'),
    outsider: await tokenOf('outsider', 'w2', 'owner'),
  };
}

export interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A request with headers that `fetch` would not send. */
export function raw(
  url: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<RawAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<RawAnswer>();
  const { method = 'GET', headers = {}, body } = options;
  const asked = send(url, { method, headers, agent: false }, (answer: IncomingMessage) => {
    const chunks: Buffer[] = [];
    answer
      .on('data', (chunk: Buffer) => void chunks.push(chunk))
      .on('end', () =>
        resolve({ status: answer.statusCode!, headers: answer.headers, body: Buffer.concat(chunks).toString() }),
      )
      .on('error', reject);
  });
  asked.on('error', reject).end(body);
  return promise;
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
