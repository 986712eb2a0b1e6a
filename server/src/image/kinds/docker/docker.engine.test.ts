import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { assetPath } from '../../../assets.ts';
import { FileBytes } from '../../../blob/files.ts';
import { Environments } from '../../../environment/environments.ts';
import { inheritEnvironment, plainEnvironment, run } from '../../../exec/programs.ts';
import { boxed, isolationHere } from '../../../exec/sandbox.ts';
import { type LayerDescriptor, OciImages } from '../../../oci/oci-images.ts';
import { imageDriverSuite } from '../../driver.suite.ts';
import type { ReplicaTemplate } from '../../driver.ts';
import { dockerDriver } from './docker.ts';

const inherited = Object.fromEntries(
  Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
);
inheritEnvironment({ ...plainEnvironment(), PATH: inherited.PATH!, HOME: inherited.HOME! });

/** No registry: the base is the one that any Debian machine can make, so that the suite needs no more than packages. */
const noRegistries = { outbound: () => ({ allowedHosts: [] }), registries: () => [] };

async function open(folder: string) {
  const cacheDir = join(folder, 'cache');
  const bytes = new FileBytes(join(folder, 'data'));
  const platform = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' };
  const environments = new Environments({
    cacheDir: join(cacheDir, 'environments'),
    inherited,
    indexes: () => ({}),
  });
  const layers = new Map<string, LayerDescriptor>();
  const driver = dockerDriver({
    oci: new OciImages({ bytes, cacheDir: join(cacheDir, 'images'), platform, ...noRegistries }),
    bytes,
    environments,
    layerCache: { get: async (key) => layers.get(key), put: async (key, layer) => void layers.set(key, layer) },
    cacheDir: join(cacheDir, 'bases'),
    scorerDir: assetPath('scorer'),
  });
  const store = async (content: string | Uint8Array) => {
    const source = async function* () {
      yield Buffer.from(content);
    };
    return (await bytes.write(source())).digest;
  };
  return { driver, store };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function score(template: ReplicaTemplate, body: string) {
  const port = await freePort();
  const env = { ...template.env, STELLWERK_HOST: '127.0.0.1', STELLWERK_PORT: String(port) };
  const stop = new AbortController();
  const log: string[] = [];
  const ended = run({
    ...boxed({ ...template, env, network: 'host' }, await isolationHere()),
    signal: stop.signal,
    onLine: (line) => log.push(line),
    timeoutMs: 60_000,
  }).catch(() => {});
  try {
    const response = await answerOf(port, body, ended);
    return { ...response, log: log.join('\n') };
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${log.join('\n')}`);
  } finally {
    stop.abort();
    await ended;
  }
}

async function answerOf(port: number, body: string, ended: Promise<unknown>) {
  let gone = false;
  void ended.then(() => {
    gone = true;
  });
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined);
    if (response?.status === 200) break;
    if (gone) throw new Error('The replica ended.');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const scored = await fetch(`http://127.0.0.1:${port}/score`, { method: 'POST', body });
  return { status: scored.status, answer: (await scored.text()).replaceAll(', ', ',') };
}

imageDriverSuite('docker', { open, score, timeoutMs: 300_000 });
