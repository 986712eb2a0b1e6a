// For tests: a package index on loopback, or where it is wanted (PEP 503), that asks for a user name and password, wheels and source distributions to put on it.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { ZipFile } from 'yazl';
import { writeTar } from '../oci/tar-write.ts';

/** A wheel or a source distribution. */
export interface Wheel {
  file: string;
  content: Buffer;
}

/** A wheel of a package with the given files, and what its metadata must have. */
export async function makeWheel(
  name: string,
  version: string,
  files: Readonly<Record<string, string>>,
  requires: readonly string[] = [],
): Promise<Wheel> {
  const info = `${name}-${version}.dist-info`;
  const requirements = requires.map((line) => `Requires-Dist: ${line}\n`).join('');
  const all: Record<string, string> = {
    ...files,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${requirements}`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
  };
  const hash = (text: string) => createHash('sha256').update(text).digest('base64url');
  const record = Object.entries(all).map(([path, text]) => `${path},sha256=${hash(text)},${Buffer.byteLength(text)}\n`);
  const zip = new ZipFile();
  for (const [path, text] of Object.entries({ ...all, [`${info}/RECORD`]: `${record.join('')}${info}/RECORD,,\n` }))
    zip.addBuffer(Buffer.from(text), path);
  zip.end();
  return { file: `${name}-${version}-py3-none-any.whl`, content: await buffer(zip.outputStream) };
}

/** A source distribution that its own `backend.py` builds, a module with PEP 517's hooks. */
export async function makeSourceDistribution(
  name: string,
  version: string,
  backend: string,
  requires: readonly string[] = [],
): Promise<Wheel> {
  const files = {
    'PKG-INFO': `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`,
    'backend.py': backend,
    'pyproject.toml': `[build-system]\nrequires = ${JSON.stringify(requires)}\nbuild-backend = "backend"\nbackend-path = ["."]\n`,
  };
  const entries = Object.entries(files).map(([file, text]) => ({
    path: `${name}-${version}/${file}`,
    mode: 0o644,
    source: { bytes: Buffer.from(text) },
  }));
  return { file: `${name}-${version}.tar.gz`, content: gzipSync(await buffer(writeTar(entries))) };
}

export interface PackageIndex extends AsyncDisposable {
  url: string;
  port: number;
  /** Paths that were asked for with the right user name and password. */
  asked: string[];
}

export async function servePackages(
  wheels: readonly Wheel[],
  user: { name: string; password: string },
  onRequest: () => void = () => {},
  address = '127.0.0.1',
): Promise<PackageIndex> {
  const asked: string[] = [];
  const expected = `Basic ${Buffer.from(`${user.name}:${user.password}`).toString('base64')}`;
  const server = createServer((request, response) => {
    onRequest();
    if (request.headers.authorization !== expected)
      return void response.writeHead(401, { 'www-authenticate': 'Basic realm="packages"' }).end();
    const path = request.url ?? '';
    asked.push(path);
    const project = /^\/simple\/([^/]+)\/$/.exec(path)?.[1];
    const listed = wheels.filter(({ file }) => file.split('-')[0]!.replaceAll('_', '-') === project);
    const wheel = wheels.find(({ file }) => path === `/files/${file}`);
    if (wheel) return void response.end(wheel.content);
    if (listed.length === 0) return void response.writeHead(404).end();
    const links = listed.map(
      ({ file, content }) =>
        `<a href="/files/${file}#sha256=${createHash('sha256').update(content).digest('hex')}">${file}</a>`,
    );
    response
      .writeHead(200, { 'content-type': 'text/html' })
      .end(`<!DOCTYPE html><html><body>${links.join('\n')}</body></html>`);
  });
  await new Promise<void>((listening) => server.listen(0, address, listening));
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  };
  return { url: `http://${address}:${port}/simple`, port, asked, [Symbol.asyncDispose]: close };
}
