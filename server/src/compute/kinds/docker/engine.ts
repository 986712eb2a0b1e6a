// The API of a Docker Engine, as far as runs need it: a question and its answer, bytes both ways, and a stream to a program in a container.
// Each call has a connection of its own. What the engine refuses is an `EngineRefusal`; that it cannot be reached, a TargetError.
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { type Duplex, Readable } from 'node:stream';
import { buffer, json, text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Way } from './way.ts';

export class EngineRefusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'EngineRefusal';
    this.status = status;
  }
}

export interface Call {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD';
  path: string;
  query?: Readonly<Record<string, string | number | boolean>>;
  /** What is not bytes is sent as JSON. */
  body?: object | AsyncIterable<Uint8Array>;
  headers?: Readonly<Record<string, string>>;
  /** Statuses that are answers, too: what is asked for is so already, or is not there. */
  also?: readonly number[];
  timeoutMs?: number;
  signal?: AbortSignal;
}

const answersWithinMs = 60_000;

export class Engine {
  /** As it is called in sentences. */
  readonly name: string;
  readonly #way: Way;

  constructor(name: string, way: Way) {
    this.name = name;
    this.#way = way;
  }

  async ask<T>(call: Call): Promise<T> {
    return (await this.#read(await this.#answer(call), json)) as T;
  }

  /** The status, where nothing else counts. */
  async tell(call: Call): Promise<number> {
    const answer = await this.#answer(call);
    await this.#read(answer, buffer);
    return answer.statusCode!;
  }

  async bytes(call: Call): Promise<Buffer> {
    return this.#read(await this.#answer(call), buffer);
  }

  /** Each document of an answer that goes on, as it comes. */
  async *documents(call: Call): AsyncGenerator<Record<string, unknown>> {
    const answer = await this.#answer(call);
    let rest = '';
    try {
      for await (const chunk of answer.setEncoding('utf8')) {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop()!;
        for (const line of lines) if (line.trim() !== '') yield JSON.parse(line);
      }
    } catch (error) {
      throw this.#unreachable(error as Error);
    }
    if (rest.trim() !== '') yield JSON.parse(rest);
  }

  /** A stream to a program in a container, once the engine has handed it over. */
  async hijacked(path: string, body: object): Promise<Duplex> {
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    const asked = await this.#request({
      method: 'POST',
      path,
      body,
      headers: { connection: 'Upgrade', upgrade: 'tcp' },
    });
    asked.on('upgrade', (_answer, stream, head) => {
      if (head.length > 0) stream.unshift(head);
      resolve(stream);
    });
    asked.on('response', (answer) => {
      this.#refusal(answer).then(reject, reject);
    });
    asked.on('error', (error) => reject(this.#unreachable(error)));
    return promise;
  }

  async #answer(call: Call): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const asked = await this.#request(call);
    asked.on('response', resolve);
    asked.on('error', (error) => reject(this.#unreachable(error)));
    const answer = await promise;
    const status = answer.statusCode!;
    if (status >= 400 && !call.also?.includes(status)) throw await this.#refusal(answer);
    return answer;
  }

  async #request({ method = 'GET', path, query, body, headers, ...more }: Call): Promise<ClientRequest> {
    const { timeoutMs = answersWithinMs, signal } = more;
    const search = query
      ? `?${new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]))}`
      : '';
    const stream = await this.#way.connect().catch((error: Error) => {
      throw this.#unreachable(error);
    });
    const isBytes = body !== undefined && Symbol.asyncIterator in body;
    const limit = AbortSignal.timeout(timeoutMs);
    const asked = request({
      createConnection: () => stream,
      method,
      path: path + search,
      host: 'docker',
      headers: { ...(body && { 'content-type': isBytes ? 'application/x-tar' : 'application/json' }), ...headers },
      ...(headers?.upgrade === undefined && { signal: signal ? AbortSignal.any([signal, limit]) : limit }),
    });
    if (isBytes)
      pipeline(Readable.from(body as AsyncIterable<Uint8Array>), asked).catch((error) => asked.destroy(error));
    else asked.end(body && JSON.stringify(body));
    return asked;
  }

  async #read<T>(answer: IncomingMessage, reader: (stream: Readable) => Promise<T>): Promise<T> {
    return reader(answer).catch((error: Error) => {
      throw this.#unreachable(error);
    });
  }

  async #refusal(answer: IncomingMessage): Promise<EngineRefusal> {
    const said = await this.#read(answer, text);
    let message = said.trim();
    try {
      message = (JSON.parse(said) as { message: string }).message;
    } catch {} // a proxy before it answers in words of its own
    return new EngineRefusal(answer.statusCode!, message);
  }

  #unreachable(error: Error): TargetError {
    if (error instanceof TargetError) return error;
    const code = (error as NodeJS.ErrnoException).code;
    const why = error.name === 'TimeoutError' || code === 'ABORT_ERR' ? 'it does not answer in time' : error.message;
    return new TargetError('later', `The Docker Engine at ${this.name} cannot be reached: ${why}`);
  }
}
