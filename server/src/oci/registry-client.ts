// Pulls from an OCI registry (the distribution API), with credentials that are used for the pull and kept nowhere.
// What a registry answers is never repeated to the user, so that nobody reads other services through it.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { parseJson } from '@stellwerk/contract/json-shape.ts';
import type { Dispatcher } from 'undici';
import type { ImageSource } from './import-image.ts';
import { documentLimitBytes, invalidImage, mediaTypes } from './manifest.ts';
import { checkUrl, dispatcherFor, type Outbound, speaksPlainHttp } from './outbound.ts';
import type { RegistryReference } from './registry-reference.ts';

export interface Credentials {
  user: string;
  password: string;
}

const redirectLimit = 5;
const accept = [mediaTypes.index, mediaTypes.dockerList, mediaTypes.manifest, mediaTypes.dockerManifest].join(', ');

export class RegistryClient implements AsyncDisposable {
  readonly #reference: RegistryReference;
  readonly #outbound: Outbound;
  readonly #credentials: Credentials | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #dispatchers = new Map<string, Dispatcher>();
  #authorization: string | undefined;

  constructor(reference: RegistryReference, outbound: Outbound, credentials?: Credentials, signal?: AbortSignal) {
    this.#reference = reference;
    this.#outbound = outbound;
    this.#credentials = credentials;
    this.#signal = signal;
  }

  /** The manifest or index that the reference names. */
  async manifest(): Promise<Uint8Array> {
    return await this.#document(`manifests/${this.#reference.manifest}`);
  }

  source(): ImageSource {
    return {
      document: (what, { digest }) => this.#document(`${what === 'config' ? 'blobs' : 'manifests'}/${digest}`),
      layer: ({ digest }) => this.#stream(`blobs/${digest}`),
    };
  }

  async #document(path: string): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.#stream(path)) {
      size += chunk.length;
      if (size > documentLimitBytes) throw invalidImage('A document of the image is larger than 4 MiB.');
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  async *#stream(path: string): AsyncGenerator<Uint8Array> {
    const response = await this.#get(path);
    try {
      for await (const chunk of response.body) yield chunk as Buffer;
    } catch (error) {
      throw this.#unreachable(error);
    } finally {
      response.body.destroy();
    }
  }

  /** Asks; where the registry wants to know who asks, signs in and asks again. */
  async #get(path: string): Promise<Dispatcher.ResponseData> {
    const { registry, repository } = this.#reference;
    const scheme = speaksPlainHttp(registry, this.#outbound) ? 'http' : 'https';
    const url = new URL(`${scheme}://${registry}/v2/${repository}/${path}`);
    let response = await this.#follow(url, this.#authorization);
    const challenge = response.headers['www-authenticate'];
    if (response.statusCode === 401 && typeof challenge === 'string') {
      await discard(response);
      this.#authorization = await this.#signIn(challenge);
      response = await this.#follow(url, this.#authorization);
    }
    if (response.statusCode === 200) return response;
    await discard(response);
    throw this.#refusal(response.statusCode);
  }

  /** Follows redirects; only the registry itself gets to see who asks. */
  async #follow(start: URL, authorization: string | undefined): Promise<Dispatcher.ResponseData> {
    let url = start;
    for (let hop = 0; hop <= redirectLimit; hop++) {
      const response = await this.#request(url, url.host === start.host ? authorization : undefined);
      const location = response.headers.location;
      if (response.statusCode < 300 || response.statusCode > 399 || typeof location !== 'string') return response;
      await discard(response);
      url = new URL(location, url);
    }
    throw this.#unreachable(new Error('it redirects without end'));
  }

  async #request(url: URL, authorization?: string): Promise<Dispatcher.ResponseData> {
    checkUrl(url, this.#outbound);
    let dispatcher = this.#dispatchers.get(url.origin);
    if (!dispatcher) {
      dispatcher = await dispatcherFor(url, this.#outbound);
      this.#dispatchers.set(url.origin, dispatcher);
    }
    const headers = { accept, 'user-agent': 'stellwerk', ...(authorization ? { authorization } : {}) };
    try {
      const { request } = (await import('undici')).default;
      return await request(url, { dispatcher, headers, signal: this.#signal ?? null });
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw this.#unreachable(error);
    }
  }

  async #signIn(challenge: string): Promise<string> {
    const basic = this.#credentials
      ? `Basic ${Buffer.from(`${this.#credentials.user}:${this.#credentials.password}`).toString('base64')}`
      : undefined;
    if (/^basic\b/i.test(challenge)) {
      if (basic) return basic;
      throw this.#refusal(401);
    }
    const fields = Object.fromEntries(
      [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]),
    );
    const realm = URL.parse(fields.realm ?? '');
    if (!realm) throw this.#refusal(401);
    if (fields.service) realm.searchParams.set('service', fields.service);
    realm.searchParams.set('scope', `repository:${this.#reference.repository}:pull`);
    const response = await this.#follow(realm, basic);
    if (response.statusCode !== 200) {
      await discard(response);
      throw this.#refusal(response.statusCode);
    }
    return `Bearer ${await tokenOf(response)}`;
  }

  #refusal(status: number): ServiceError {
    const image = `${this.#reference.repository}:${this.#reference.manifest}`;
    const { registry } = this.#reference;
    const message =
      status === 401 || status === 403
        ? `The registry ${registry} does not give out ${image} with these credentials.`
        : status === 404
          ? `The registry ${registry} has no image ${image}.`
          : `The registry ${registry} answered ${status} when it was asked for ${image}.`;
    return new ServiceError(
      status >= 500 || status === 429 ? 'unavailable' : 'failed-precondition',
      'image.base-unavailable',
      message,
    );
  }

  #unreachable(error: unknown): Error {
    if (error instanceof ServiceError) return error;
    const { registry, repository } = this.#reference;
    const message = `The registry ${registry} could not be reached for ${repository}: ${reasonOf(error as Error)}.`;
    return new ServiceError('unavailable', 'image.base-unavailable', message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#dispatchers.values()].map((dispatcher) => dispatcher.destroy()));
  }
}

/** The codes of the machine say enough; those of the library that asks do not. */
function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === undefined || code.startsWith('UND_')) return message;
  if (!/CERT|SIGNATURE/.test(code)) return code;
  return `its certificate is not trusted (${code}); one of an authority of your own becomes so with "stellwerk package-index set --ca-bundle"`;
}

async function discard(response: Dispatcher.ResponseData): Promise<void> {
  response.body.on('error', () => {}); // nobody waits for the rest
  response.body.destroy();
}

async function tokenOf(response: Dispatcher.ResponseData): Promise<string> {
  let text = '';
  for await (const chunk of response.body) {
    text += (chunk as Buffer).toString('latin1');
    if (text.length > 64 * 1024) throw invalidImage("The registry's token is longer than 64 KiB.");
  }
  const token = tokenIn(text);
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw invalidImage("The registry's token is none.");
  return token;
}

function tokenIn(text: string): unknown {
  try {
    const answer = parseJson(text) as { token?: unknown; access_token?: unknown } | null;
    return answer?.token ?? answer?.access_token;
  } catch {
    return undefined;
  }
}
