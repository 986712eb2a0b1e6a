// One request to the server: signed in, tried again where that is harmless, its refusal turned into an error.
import { connectionCode, errorFrom, Unreachable } from './failures.ts';

export type Fetch = (url: string, init: RequestInit & { duplex?: 'half' }) => Promise<Response>;

export interface ConnectionOptions {
  url: string;
  /** A token, or what gives the current one. */
  token?: string | (() => string | undefined) | undefined;
  fetch?: Fetch | undefined;
  /** Certificates (PEM) to trust for the server beside those of the system; Node only. */
  caBundle?: string | undefined;
  /** How often a call that may be repeated is tried again; 4 unless given. */
  retries?: number | undefined;
}

export interface Request {
  method: string;
  target: string;
  headers?: Record<string, string>;
  body?: RequestInit['body'] | undefined;
  signal?: AbortSignal | undefined;
  /** Whether sending it twice does no more than once. */
  repeatable: boolean;
}

export class Connection {
  readonly url: string;
  private readonly options: ConnectionOptions;
  private fetching: Promise<Fetch> | undefined;

  constructor(options: ConnectionOptions) {
    this.url = options.url.replace(/\/+$/, '');
    this.options = options;
  }

  /** Sends until an answer below 400 comes, and gives it; anything else is thrown. */
  async send(request: Request): Promise<Response> {
    this.fetching ??= fetchOf(this.options);
    const send = await this.fetching;
    for (let attempt = 0; ; attempt++) {
      const last = attempt >= (this.options.retries ?? 4);
      const outcome = await this.attempt(send, request);
      // Not every answer is of the global class: a fetch of its own brings another.
      const answer = outcome instanceof Unreachable ? undefined : outcome;
      if (answer?.ok) return answer;
      const delayMs = last ? undefined : retryDelayMs(outcome, request.repeatable, attempt);
      if (delayMs === undefined) throw answer ? await errorFrom(answer) : outcome;
      await answer?.body?.cancel();
      await pause(delayMs, request.signal);
    }
  }

  private async attempt(send: Fetch, request: Request): Promise<Response | Unreachable> {
    const streams = request.body instanceof ReadableStream;
    try {
      return await send(this.url + request.target, {
        method: request.method,
        headers: { ...this.authorization(), ...request.headers },
        redirect: 'error', // a token never follows a redirect
        ...(request.body === undefined ? {} : { body: request.body }),
        ...(request.signal ? { signal: request.signal } : {}),
        ...(streams ? { duplex: 'half' as const } : {}),
      });
    } catch (error) {
      request.signal?.throwIfAborted();
      return new Unreachable(this.url, error);
    }
  }

  private authorization(): Record<string, string> {
    const { token } = this.options;
    const current = typeof token === 'function' ? token() : token;
    return current ? { authorization: `Bearer ${current}` } : {};
  }
}

/** How long to wait before trying again, or undefined if that would be wrong. */
function retryDelayMs(outcome: Response | Unreachable, repeatable: boolean, attempt: number): number | undefined {
  const delayMs = Math.min(250 * 2 ** attempt, 5_000);
  if (outcome instanceof Unreachable) {
    const code = connectionCode(outcome);
    const mayPass = code === undefined ? isOfBrowser(outcome.cause) : passing.has(code);
    return mayPass && (repeatable || code === 'ECONNREFUSED') ? delayMs : undefined;
  }
  if (outcome.status !== 429 && !(outcome.status === 503 && repeatable)) return undefined;
  const wanted = Number(outcome.headers.get('retry-after')) * 1_000;
  if (!(wanted > 0)) return outcome.status === 503 ? delayMs : undefined;
  return wanted <= 10_000 ? wanted : undefined;
}

/** What can be over in a moment; a wrong name or certificate is not. */
const passing = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
]);

/** Browsers tell no cause. */
const isOfBrowser = (error: unknown) => error instanceof TypeError && error.cause === undefined;

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = () => {
    clearTimeout(timer);
    reject(signal?.reason);
  };
  const timer = setTimeout(() => {
    signal?.removeEventListener('abort', onAbort);
    resolve();
  }, ms);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  return promise;
}

/** A CA bundle needs a fetch of its own: the global one takes no certificates. */
export async function fetchOf(options: Pick<ConnectionOptions, 'fetch' | 'caBundle'>): Promise<Fetch> {
  if (options.fetch) return options.fetch;
  if (!options.caBundle) return (url, init) => fetch(url, init);
  const [{ default: undici }, { getCACertificates }] = await Promise.all([import('undici'), import('node:tls')]);
  const { Agent, fetch: withAgent } = undici;
  const dispatcher = new Agent({ connect: { ca: [...getCACertificates('default'), options.caBundle] } });
  return (url, init) =>
    withAgent(url, { ...init, dispatcher } as Parameters<typeof withAgent>[1]) as unknown as Promise<Response>;
}
