// The HTTP server: one process, one port. Everything is refused that was not declared; answers carry headers that keep
// browsers from doing anything clever with them.
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { answersTo, knownHosts } from '@stellwerk/contract/hosts.ts';
import { isNestedTooDeep, jsonText } from '@stellwerk/contract/json-shape.ts';
import { openapi } from '@stellwerk/contract/openapi.ts';
import { limits } from '@stellwerk/contract/values.ts';
import fastify, { type FastifyInstance } from 'fastify';
import type { Registry } from '../registry/registry.ts';
import { type Binding, bindVerbs } from './bind.ts';
import { answerError, answerUnreadable } from './errors.ts';
import { apiPage, type Page, signInPage, welcomePage } from './pages.ts';
import { bindRegistry } from './registry-routes.ts';
import { noSuchRoute, type Route, routesOf } from './routes.ts';

export interface HttpSettings {
  listen: string;
  port: number;
  publicUrl?: string;
  tls?: { certificate: string; key: string };
  /** How often it is asked whether the caller of an open stream still may. */
  recheckMs?: number;
  /** How long a stop waits for requests in flight. */
  graceMs?: number;
  slow?: Partial<SlowLimits>;
}

/** How long a request may take to arrive; who takes longer is cut off. */
export interface SlowLimits {
  headersMs: number;
  /** For all of it; big contents come in parts. */
  requestMs: number;
  /** How often it is looked. */
  lookEveryMs: number;
}

export interface HttpNeeds extends Omit<Binding, 'stopping' | 'recheckMs'> {
  settings: HttpSettings;
  registry: Registry;
  /** The Python package that matches this server. */
  wheel: string | undefined;
}

const usualSlowLimits: SlowLimits = { headersMs: 30_000, requestMs: 600_000, lookEveryMs: 5_000 };
const longestParameter = 4_096;
/** The longest path of a file, in a query where each of its bytes takes three characters, and then some. */
const headerBytes = 64 * 1024;
const connectionsAtOnce = 10_000;
const usualRecheckMs = 15_000;
const usualGraceMs = 15_000;

export class HttpServer {
  readonly #app: FastifyInstance;
  readonly #stopping: AbortController;
  readonly #graceMs: number;
  /** All that it answers. */
  readonly routes: readonly Route[];

  private constructor(app: FastifyInstance, routes: readonly Route[], stopping: AbortController, graceMs: number) {
    this.#app = app;
    this.routes = routes;
    this.#stopping = stopping;
    this.#graceMs = graceMs;
  }

  static async start(needs: HttpNeeds): Promise<HttpServer> {
    const { settings } = needs;
    const { tls } = settings;
    const slow = { ...usualSlowLimits, ...settings.slow };
    const listening = { maxHeaderSize: headerBytes, connectionsCheckingInterval: slow.lookEveryMs };
    const protocol = tls
      ? { https: { ...listening, cert: await readFile(tls.certificate), key: await readFile(tls.key) } }
      : { http: listening };
    const app = fastify({
      ...(protocol as object),
      bodyLimit: limits.jsonBodyBytes,
      routerOptions: { maxParamLength: longestParameter },
      forceCloseConnections: 'idle',
      requestTimeout: slow.requestMs,
      return503OnClosing: false,
      exposeHeadRoutes: false,
      logger: false,
      clientErrorHandler: answerUnreadable,
      frameworkErrors: (error, request, reply) => {
        reply.headers(safeHeaders(settings)); // no hook runs for an address that cannot be read
        answerError(needs.incident)(error, request, reply);
      },
    });
    app.server.headersTimeout = slow.headersMs;
    app.server.maxConnections = connectionsAtOnce;
    const routes = routesOf(app);
    const stopping = new AbortController();
    guard(app, settings, routes);
    app.removeAllContentTypeParsers();
    const parse = app.getDefaultJsonParser('error', 'error');
    app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) =>
      isNestedTooDeep(body) ? done(tooDeep()) : parse(request, body, done),
    );
    app.setReplySerializer((answer) => jsonText(answer));
    app.setErrorHandler(answerError(needs.incident));
    bindVerbs(app, { ...needs, stopping: stopping.signal, recheckMs: settings.recheckMs ?? usualRecheckMs });
    bindRegistry(app, { registry: needs.registry, publicUrl: settings.publicUrl, stopping: stopping.signal });
    servePages(app, needs.wheel);
    await app.listen({ host: settings.listen, port: settings.port });
    return new HttpServer(app, routes, stopping, settings.graceMs ?? usualGraceMs);
  }

  get port(): number {
    return (this.#app.server.address() as AddressInfo).port;
  }

  /** Ends open streams, finishes the requests in flight, and takes no more. Whoever is slower than the grace is cut off. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error('The server is stopping.'));
    const late = setTimeout(() => this.#app.server.closeAllConnections(), this.#graceMs);
    await this.#app.close();
    clearTimeout(late);
  }
}

function tooDeep(): ServiceError {
  const message = `The request is not valid: it is nested more than ${limits.jsonDepth} levels deep.`;
  return new ServiceError('invalid-argument', 'request.invalid', message);
}

function safeHeaders(settings: HttpSettings): Record<string, string> {
  return {
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin',
    'cache-control': 'no-store',
    ...(settings.tls && { 'strict-transport-security': 'max-age=31536000' }),
  };
}

function guard(app: FastifyInstance, settings: HttpSettings, routes: readonly Route[]): void {
  const known = knownHosts(settings.listen, settings.publicUrl, hostname());
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(safeHeaders(settings));
    if (!answersTo(known, request.headers.host)) {
      throw new ServiceError(
        'permission-denied',
        'request.host',
        `This server does not answer to the host ${JSON.stringify(request.headers.host ?? '').slice(0, 200)}.`,
      );
    }
    if (request.is404) throw noSuchRoute(request, reply, routes); // before anything of its body is looked at
  });
}

function servePages(app: FastifyInstance, wheel: string | undefined): void {
  const show = (url: string, { html, policy }: Page) => {
    app.get(url, (_request, reply) =>
      reply.type('text/html; charset=utf-8').header('content-security-policy', policy).send(html),
    );
  };
  show('/', welcomePage);
  show('/sign-in', signInPage);
  show('/docs', apiPage());
  const document = JSON.stringify(openapi());
  app.get('/openapi.json', (_request, reply) => reply.type('application/json; charset=utf-8').send(document));
  app.get('/healthz', (_request, reply) => reply.type('application/json').send('{"status":"ok"}'));
  if (wheel === undefined) return;
  app.get(`/wheels/${basename(wheel)}`, async (_request, reply) =>
    reply
      .type('application/octet-stream')
      .header('content-length', String((await stat(wheel)).size))
      .send(createReadStream(wheel)),
  );
}
