// Sends one request to a replica and its answer back, both as streams.
// Invariants: a request goes to a second replica only if the first one's connection could not be made, so none is ever processed twice; every
// request that was counted in is counted out; after the time limit the caller has an answer.
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Dispatcher } from 'undici';
import { refuse } from './answers.ts';
import { toCaller, toReplica } from './headers.ts';
import type { Replica } from './replica.ts';
import type { Service, ServiceTable } from './service-table.ts';

export interface Call {
  request: IncomingMessage;
  response: ServerResponse;
  requestId: string;
  service: Service;
  /** Below the service: `/score`, with the query. */
  path: string;
}

/** Bodies up to this size are read before a replica is chosen: a slow caller then occupies none. */
const readFirstBytes = 64 * 1024;

export async function forward(call: Call, table: ServiceTable): Promise<void> {
  const { request, service } = call;
  const length = request.headers['content-length'];
  if (length !== undefined && Number(length) > service.route.limits.bodyBytes)
    return refuse(request, call.response, tooLarge(service), call.requestId);
  const hasBody = length !== undefined ? Number(length) > 0 : request.headers['transfer-encoding'] !== undefined;
  const isSmall = length !== undefined && Number(length) <= readFirstBytes;
  const whole = isSmall ? await readWhole(request) : undefined;
  const body = () => (!hasBody ? null : (whole ?? streamed(request, service)));
  if (!call.response.destroyed) new Forwarding(call, table, body).start();
}

async function readWhole(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/**
 * The request's body as it arrives; one without a length tells its size only so. Not the request itself: what reads it must not destroy
 * it, because the answer goes out by the same socket.
 */
async function* streamed(request: IncomingMessage, service: Service): AsyncGenerator<Buffer> {
  let sizeBytes = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    sizeBytes += (chunk as Buffer).length;
    if (sizeBytes > service.route.limits.bodyBytes) throw tooLarge(service);
    yield chunk as Buffer;
  }
}

type Body = () => Buffer | AsyncGenerator<Buffer> | null;

class Forwarding {
  readonly #call: Call;
  readonly #table: ServiceTable;
  /** Made anew for each replica; nothing of it was read as long as no connection was made. */
  readonly #body: Body;
  readonly #headers: Record<string, string | string[]>;
  readonly #tried = new Set<Replica>();
  #controller: Dispatcher.DispatchController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(call: Call, table: ServiceTable, body: Body) {
    this.#call = call;
    this.#table = table;
    this.#body = body;
    this.#headers = toReplica(call.request.headers, call.requestId);
  }

  start(): void {
    const { response, service } = this.#call;
    const { timeoutMs } = service.route.limits;
    this.#timer = setTimeout(() => this.#fail(timedOut(service)), timeoutMs);
    response.once('close', () => this.#stop(new Error('The caller is gone.')));
    response.on('drain', () => this.#controller?.resume());
    this.#attempt();
  }

  #attempt(): void {
    const { service } = this.#call;
    const replica = this.#table.take(service, this.#tried);
    if (replica) this.#send(replica);
    else this.#fail(this.#tried.size > 0 ? unreachable(service) : noReplica(service));
  }

  #send(replica: Replica): void {
    const { request, response, path } = this.#call;
    this.#tried.add(replica);
    const release = once(() => this.#table.giveBack(replica));
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: (controller) => {
        this.#controller = controller;
        if (this.#over) controller.abort(new Error('It is over already.'));
      },
      onResponseStart: (_, status, headers) => this.#answer(status, headers),
      onResponseData: (controller, chunk) => {
        if (!this.#over && !response.write(chunk)) controller.pause();
      },
      onResponseEnd: () => {
        release();
        this.#over = true;
        response.end();
      },
      onResponseError: (_, error) => {
        release();
        if (!this.#over) this.#broken(replica, error);
      },
    };
    const method = request.method as Dispatcher.HttpMethod;
    try {
      // The types forget that iterables are bodies too.
      const body = this.#body() as Readable | Buffer | null;
      replica.pool.dispatch({ path, method, headers: this.#headers, body }, handler);
    } catch (error) {
      release();
      this.#broken(replica, error as Error);
    }
  }

  #answer(status: number, headers: IncomingHttpHeaders): void {
    if (status < 200 || this.#over) return;
    try {
      this.#call.response.writeHead(status, toCaller(headers, this.#call.requestId));
    } catch {
      this.#fail(broken(this.#call.service)); // a header that no HTTP answer may have
    }
  }

  #broken(replica: Replica, error: Error): void {
    if (neverConnected(error)) {
      replica.refused(error.message);
      this.#attempt();
    } else this.#fail(error instanceof ServiceError ? error : broken(this.#call.service));
  }

  #fail(error: ServiceError): void {
    if (this.#over) return;
    this.#stop(error);
    refuse(this.#call.request, this.#call.response, error, this.#call.requestId);
  }

  #stop(reason: Error): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    this.#over = true;
    this.#controller?.abort(reason);
  }
}

/** The connection could not be made, so nothing of the request can have been processed. */
function neverConnected(error: Error): boolean {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code === 'UND_ERR_CONNECT_TIMEOUT' || syscall === 'connect' || (syscall === 'open' && code === 'ENOENT');
}

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (!done) act();
    done = true;
  };
}

const nameOf = ({ route }: Service) => `The web service ${route.service} in the workspace ${route.workspace}`;

function tooLarge(service: Service): ServiceError {
  const message = `${nameOf(service)} takes bodies of up to ${service.route.limits.bodyBytes} bytes; this one is larger.`;
  return new ServiceError('too-large', 'web-service.body-too-large', message);
}

function noReplica(service: Service): ServiceError {
  return new ServiceError('unavailable', 'web-service.no-replica', `${nameOf(service)} has no replica that is ready.`);
}

function unreachable(service: Service): ServiceError {
  return new ServiceError(
    'unavailable',
    'web-service.no-replica',
    `No replica of the service could be reached: ${nameOf(service).toLowerCase()} is restarting.`,
  );
}

function broken(service: Service): ServiceError {
  return new ServiceError(
    'bad-gateway',
    'web-service.replica-lost',
    `${nameOf(service)} lost its replica while answering.`,
  );
}

function timedOut(service: Service): ServiceError {
  const message = `${nameOf(service)} did not answer within ${service.route.limits.timeoutMs} ms.`;
  return new ServiceError('deadline-exceeded', 'web-service.timeout', message);
}
