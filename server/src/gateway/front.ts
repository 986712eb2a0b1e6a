// What callers of web services talk to: http(s)://<host>:<port>/services/<workspace>/<service>/<path>.
// Invariants: without one of a service's keys nothing reaches its replicas, unless it asks for none; a request whose framing is in doubt
// is refused; what one service is asked does not take another one's place.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { answersTo, type KnownHosts } from '@stellwerk/contract/hosts.ts';
import { invalid, notFound, refuse } from './answers.ts';
import { forward } from './forward.ts';
import { holdsKey } from './keys.ts';
import { sayLastWords } from './last-words.ts';
import type { GatewaySettings } from './routes.ts';
import type { Service, ServiceTable } from './service-table.ts';

export interface FrontNeeds {
  table: ServiceTable;
  /** Milliseconds that only go up. */
  now: () => number;
  makeId: () => string;
  /** Certificate and key in PEM, to answer https. */
  tls?: { cert: Buffer; key: Buffer };
  hosts?: KnownHosts;
  slow?: GatewaySettings['slow'];
  onAnswered?: (answered: Answered) => void;
}

export interface Answered {
  requestId: string;
  method: string;
  path: string;
  status: number;
  durationMs: number;
  remoteAddress: string | undefined;
}

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
const limits = { maxHeaderSize: 16 * 1024, keepAliveTimeout: 65_000 };
const usualSlowLimits = { headersMs: 15_000, requestMs: 300_000, lookEveryMs: 5_000 };
const maxConnections = 10_000;

export function createFront(needs: FrontNeeds): Server {
  const { headersMs, requestMs, lookEveryMs } = needs.slow ?? usualSlowLimits;
  const options = {
    ...limits,
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: lookEveryMs,
    insecureHTTPParser: false,
    requireHostHeader: true,
  };
  const handle = (request: IncomingMessage, response: ServerResponse, goOn?: () => void) => {
    response.shouldKeepAlive &&= server.listening; // a caller is told to come back by another connection once we are stopping
    void answer(request, response, needs, goOn);
  };
  const server: Server = needs.tls ? createTlsServer({ ...options, ...needs.tls }) : createServer(options);
  server.on('request', (request, response) => handle(request, response));
  server.on('checkContinue', (request, response) => handle(request, response, () => response.writeContinue()));
  server.on('clientError', refuseUnreadable);
  server.maxConnections = maxConnections;
  return server;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  needs: FrontNeeds,
  goOn?: () => void,
): Promise<void> {
  const { table, now, makeId } = needs;
  const startedAt = now();
  const requestId = makeId();
  const { remoteAddress } = request.socket;
  request.on('error', () => {}); // a caller who leaves is seen as the response's end
  try {
    const { service, path } = admit(request, needs);
    service.inFlight++;
    response.once('close', () => {
      service.inFlight--;
      table.ended(service, response.statusCode, startedAt);
      needs.onAnswered?.({
        requestId,
        method: request.method!,
        path: pathOnly(request),
        status: response.statusCode,
        durationMs: now() - startedAt,
        remoteAddress,
      });
    });
    if (service.inFlight > service.route.limits.inFlight) throw overloaded(service);
    goOn?.();
    await forward({ request, response, requestId, service, path }, table);
  } catch (error) {
    if (error instanceof ServiceError) return refuse(request, response, error, requestId);
    // A caller who left in the middle of a body is no fault; anything else is one of ours, and costs this request only.
    if (!request.errored) process.stderr.write(`${requestId}: ${(error as Error).stack}\n`);
    response.destroy();
  }
}

/** The service that is asked for, if the caller may ask it. */
function admit(
  request: IncomingMessage,
  { table, hosts }: Pick<FrontNeeds, 'table' | 'hosts'>,
): { service: Service; path: string } {
  if (hosts && !answersTo(hosts, request.headers.host))
    throw new ServiceError(
      'permission-denied',
      'request.host',
      `The web services do not answer to the host ${JSON.stringify(request.headers.host ?? '').slice(0, 200)}.`,
    );
  const encoding = request.headers['transfer-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked')
    throw invalid(`The transfer encoding ${encoding} is not supported; send chunked or Content-Length.`);
  if (!methods.includes(request.method!))
    throw new ServiceError(
      'method-not-allowed',
      'request.unknown-route',
      `${request.method} is not a method that web services answer.`,
    );
  const target = request.url!;
  const path = pathOnly(request);
  const [, prefix, workspace, service, ...rest] = path.split('/');
  if (
    !path.startsWith('/') ||
    /[\\\s]|\/\.{1,2}(\/|$)/.test(path.replace(/%2e/gi, '.').replace(/%5c/gi, '\\').replace(/%2f/gi, '/'))
  ) {
    throw invalid('The path of a request may hold no backslash and no part "." or "..".');
  }
  if (prefix !== 'services' || !workspace || !service)
    throw notFound('A web service is addressed as /services/<workspace>/<service>/score.');
  const found = table.find(workspace, service);
  if (!found) throw notFound(`There is no web service ${service} in the workspace ${workspace}.`);
  if (found.route.authentication === 'key' && !holdsKey(request.headers.authorization, found.keyHashes)) {
    throw new ServiceError(
      'unauthenticated',
      'web-service.key-needed',
      `The web service ${service} answers only callers that send one of its keys.`,
    );
  }
  return { service: found, path: `/${rest.join('/')}${target.slice(path.length)}` };
}

function pathOnly(request: IncomingMessage): string {
  return request.url!.split('?', 1)[0]!;
}

function overloaded({ route }: Service): ServiceError {
  const message = `The web service ${route.service} already has ${route.limits.inFlight} requests under way.`;
  return new ServiceError('unavailable', 'web-service.overloaded', message);
}

/** What is not HTTP, or too slow, or framed in two ways. */
function refuseUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy();
  const status =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request';
  sayLastWords(socket, `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
