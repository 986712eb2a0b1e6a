// The API of a cluster, as far as runs need it: a question and its answer. What the cluster refuses is a `Refusal` with its own words; that it
// cannot be reached, a TargetError.
import { Agent, request } from 'node:https';
import { text } from 'node:stream/consumers';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Access } from './kubeconfig.ts';

export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'Refusal';
    this.status = status;
  }
}

export interface Call {
  method?: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  path: string;
  query?: Readonly<Record<string, string | number>>;
  body?: object;
}

const answersWithinMs = 30_000;
const mostConnections = 8;

export class Api {
  readonly access: Access;
  readonly #agent: Agent;
  readonly #onSignInRefused: () => void;

  constructor(access: Access, onSignInRefused: () => void) {
    this.access = access;
    this.#onSignInRefused = onSignInRefused;
    this.#agent = new Agent({ ...access.tls, keepAlive: true, maxSockets: mostConnections });
  }

  get name(): string {
    return this.access.name;
  }

  async ask<T>(call: Call): Promise<T> {
    const { status, said } = await this.#answer(call);
    if (status === 401) this.#onSignInRefused();
    if (status >= 400) throw new Refusal(status, messageIn(said));
    return parsed(said) as T;
  }

  /** Undefined if it is not there. */
  async find<T>(call: Call): Promise<T | undefined> {
    return this.ask<T>(call).catch((error) => {
      if (error instanceof Refusal && error.status === 404) return undefined;
      throw error;
    });
  }

  /** Made, unless there is one of that name. */
  async make<T>(path: string, body: object): Promise<T | undefined> {
    return this.ask<T>({ method: 'POST', path, body }).catch((error) => {
      if (error instanceof Refusal && error.status === 409) return undefined;
      throw error;
    });
  }

  async #answer({ method = 'GET', path, query, body }: Call): Promise<{ status: number; said: string }> {
    const { url, headers } = this.access;
    const search = query
      ? `?${new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]))}`
      : '';
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const asked = request({
      agent: this.#agent,
      host: url.hostname,
      port: url.port || 443,
      method,
      path: `${url.pathname.replace(/\/$/, '')}${path}${search}`,
      headers: { accept: 'application/json', ...headers, ...(body && { 'content-type': type }) },
      signal: AbortSignal.timeout(answersWithinMs),
    });
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; said: string }>();
    asked.on('error', reject);
    asked.on('response', (answer) => {
      text(answer).then((said) => resolve({ status: answer.statusCode!, said }), reject);
    });
    asked.end(body && JSON.stringify(body));
    return promise.catch((error: Error) => {
      throw this.unreachable(error);
    });
  }

  unreachable(error: Error): TargetError {
    const isLate = error.name === 'TimeoutError' || (error as NodeJS.ErrnoException).code === 'ABORT_ERR';
    const why = isLate ? 'it does not answer in time' : error.message;
    return new TargetError('later', `The Kubernetes cluster ${this.name} cannot be reached: ${why}`);
  }
}

function messageIn(said: string): string {
  const status = parsed(said) as { message?: string } | undefined;
  return (status?.message ?? said).trim();
}

function parsed(said: string): unknown {
  try {
    return JSON.parse(said);
  } catch {
    return undefined; // a proxy before it answers in words of its own
  }
}
