// A proxy on loopback between a client and the server: it tells what went through, and can cut a connection in the middle of an upload.
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Passed {
  method: string;
  path: string;
  /** Of the request's body, as far as it came. */
  sentBytes: number;
  cut: boolean;
}

export class CuttingProxy implements AsyncDisposable {
  readonly passed: Passed[] = [];
  /** The next upload of more than this is cut after it, once. */
  cutAfterBytes = Number.POSITIVE_INFINITY;
  readonly #server = createServer((incoming, answer) => this.#pass(incoming, answer));
  readonly #target: URL;

  private constructor(target: string) {
    this.#target = new URL(target);
  }

  static async before(target: string): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target);
    await new Promise<void>((listening) => proxy.#server.listen(0, '127.0.0.1', listening));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #pass(incoming: IncomingMessage, answer: ServerResponse): void {
    const { method = 'GET', url: path = '/', headers } = incoming;
    const one: Passed = { method, path, sentBytes: 0, cut: false };
    this.passed.push(one);
    const { hostname, port, host } = this.#target;
    const outgoing = request({ hostname, port, method, path, headers: { ...headers, host } }, (response) => {
      answer.writeHead(response.statusCode!, response.headers);
      response.pipe(answer);
    });
    outgoing.on('error', () => answer.destroy());
    incoming.on('data', (chunk: Buffer) => {
      one.sentBytes += chunk.length;
      if (one.sentBytes <= this.cutAfterBytes) return;
      this.cutAfterBytes = Number.POSITIVE_INFINITY;
      one.cut = true;
      incoming.destroy();
      outgoing.destroy();
    });
    incoming.pipe(outgoing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }
}
