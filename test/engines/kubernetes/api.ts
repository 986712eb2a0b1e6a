// Asks the cluster as its administrator, beside whatever is tested.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

export interface Answer<T> {
  status: number;
  body: T;
}

export class Administrator {
  readonly #address: string;
  readonly #pki: string;

  constructor(address: string, pki: string) {
    this.#address = address;
    this.#pki = pki;
  }

  async ask<T>(method: string, path: string, body?: object): Promise<Answer<T>> {
    const of = (name: string) => readFileSync(join(this.#pki, name));
    const patch = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const asked = request({
      host: this.#address,
      port: 6443,
      method,
      path,
      ca: of('ca.crt'),
      cert: of('admin.crt'),
      key: of('admin.key'),
      headers: { 'content-type': patch },
      agent: false,
      timeout: 20_000,
    });
    const { promise, resolve, reject } = Promise.withResolvers<Answer<T>>();
    asked.on('timeout', () => asked.destroy(new Error(`${method} ${path} was not answered in time`)));
    asked.on('error', reject);
    asked.on('response', (answer) => {
      text(answer).then((said) => {
        const isJson = answer.headers['content-type']?.includes('json');
        resolve({ status: answer.statusCode!, body: (isJson ? JSON.parse(said) : said) as T });
      }, reject);
    });
    asked.end(body && JSON.stringify(body));
    return promise;
  }

  async get<T>(path: string): Promise<T> {
    const { status, body } = await this.ask<T>('GET', path);
    if (status !== 200) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  async isReady(): Promise<boolean> {
    return this.ask('GET', '/readyz').then(
      ({ status }) => status === 200,
      () => false,
    );
  }
}
