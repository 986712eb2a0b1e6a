// For tests: a registry behind TLS with an authority that nobody trusts yet, and the proxy that alone knows where it is.
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { output } from '../exec/programs.ts';

export interface RegistryContent {
  /** By digest. */
  blobs: ReadonlyMap<string, Uint8Array>;
  /** The digests of manifests, by `repository:tag`. */
  names: Readonly<Record<string, string>>;
}

export interface SecureRegistry extends AsyncDisposable {
  port: number;
  /** Of its authority (PEM). */
  authority: string;
  /** The paths that it was asked for. */
  asked: string[];
}

/** Its certificate is made out to that name. */
export async function serveRegistry(hostname: string, { blobs, names }: RegistryContent): Promise<SecureRegistry> {
  const asked: string[] = [];
  const { key, cert, authority } = await certificateFor(hostname);
  const server = createTlsServer({ key, cert }, (request, response) => {
    asked.push(request.url!);
    const [, repository, what, name] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(request.url!) ?? [];
    const digest = what === 'manifests' ? (names[`${repository}:${name}`] ?? name) : name;
    const content = blobs.get(digest!);
    response.writeHead(content ? 200 : 404).end(content);
  });
  server.on('tlsClientError', () => {}); // whoever does not trust us
  return { port: await listening(server), authority, asked, [Symbol.asyncDispose]: () => closed(server) };
}

async function certificateFor(hostname: string): Promise<{ key: string; cert: string; authority: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'registry-'));
  const openssl = (line: string) => output({ command: 'openssl', args: line.split(' '), cwd: folder });
  await writeFile(join(folder, 'extensions'), `subjectAltName=DNS:${hostname}\nbasicConstraints=CA:FALSE\n`);
  await openssl('req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca-key.pem -out ca.pem -subj /CN=our-authority');
  await openssl('req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=registry');
  const signing = '-req -in request.pem -CA ca.pem -CAkey ca-key.pem -set_serial 7 -days 2 -out cert.pem';
  await openssl(`x509 ${signing} -extfile extensions`);
  const read = (name: string) => readFile(join(folder, name), 'utf8');
  const made = { key: await read('key.pem'), cert: await read('cert.pem'), authority: await read('ca.pem') };
  await rm(folder, { recursive: true });
  return made;
}

export interface LocalProxy extends AsyncDisposable {
  url: string;
  /** What it was asked to reach: `host:port` of tunnels, whole addresses otherwise. */
  asked: string[];
}

/** Knows the ports that names stand for on this machine; all others it looks up as everybody does. */
export async function serveProxy(ports: Readonly<Record<string, number>>, password?: string): Promise<LocalProxy> {
  const asked: string[] = [];
  const wanted = password && `Basic ${Buffer.from(`proxy:${password}`).toString('base64')}`;
  const placeOf = (host: string, port: number) =>
    (host in ports ? ['127.0.0.1', ports[host]!] : [host, port]) as [string, number];
  const sockets = new Set<Duplex>();
  const server = createHttpServer((request, response) => {
    asked.push(request.url!);
    const { hostname, port, pathname, search } = new URL(request.url!);
    const [host, at] = placeOf(hostname, Number(port || 80));
    const onward = httpRequest({
      host,
      port: at,
      method: request.method!,
      headers: request.headers,
      path: pathname + search,
    });
    onward.on('response', (answer) => answer.pipe(response.writeHead(answer.statusCode!, answer.headers)));
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.on('connect', (request, socket) => {
    asked.push(request.url!);
    if (wanted && request.headers['proxy-authorization'] !== wanted)
      return void socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    const { hostname, port } = new URL(`tunnel://${request.url}`);
    const [host, at] = placeOf(hostname, Number(port));
    const inner = connect(at, host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.pipe(inner).pipe(socket);
    });
    for (const end of [socket, inner]) {
      sockets.add(end);
      end.on('error', () => {
        socket.destroy();
        inner.destroy();
      });
    }
  });
  const port = await listening(server);
  return {
    url: `http://${password ? `proxy:${password}@` : ''}127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await closed(server);
    },
  };
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function closed(server: Server & { closeAllConnections(): void }): Promise<void> {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
}
