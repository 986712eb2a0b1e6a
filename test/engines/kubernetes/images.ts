// The images that a node is given, since it can pull nothing: a small Debian with Python, what holds a pod's network, and those that a test wants.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { baseArchive } from '../docker/base-archive.ts';
import { pauseImage } from './settings.ts';

export const baseImage = 'registry.local/base:1';

interface Image {
  name: string;
  command: string[];
  variables?: Record<string, string>;
  /** Archives, from the lowest to the highest. */
  layers: string[];
}

/** Those that a node has from the beginning; both are of the same layer. */
export async function writeFirstImages(folder: string, archive: string): Promise<void> {
  const layers = [baseArchive()];
  const first = [
    { name: baseImage, command: ['python3'], layers },
    { name: pauseImage, command: ['sleep', 'infinity'], layers },
  ];
  await writeImages(folder, archive, first);
}

/** Where packages for its Python lie in an image. */
export const packagesFolder = '/usr/lib/python3/dist-packages';

/** Like the base, with these packages for its Python; without any, an image with nothing in it. */
export async function writeImageOf(
  folder: string,
  archive: string,
  name: string,
  packages?: string,
  variables: Record<string, string> = {},
): Promise<void> {
  const layer = join(folder, 'own-layer.tar');
  const [from, to] = packages === undefined ? ['/etc', 'etc'] : [packages, packagesFolder.slice(1)];
  const what = packages === undefined ? 'hostname' : '.';
  execFileSync('tar', ['-cf', layer, '--transform', `s,^\\.\\?/\\?,${to}/,`, '-C', from!, what]);
  const layers = packages === undefined ? [layer] : [baseArchive(), layer];
  await writeImages(folder, archive, [{ name, command: ['python3'], variables, layers }]);
  rmSync(layer);
}

/** What `ctr images import` takes. */
async function writeImages(folder: string, archive: string, images: readonly Image[]): Promise<void> {
  const parts = join(folder, 'images');
  mkdirSync(parts);
  const manifest = [];
  for (const [n, { name, command, variables = {}, layers }] of images.entries()) {
    const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...variables };
    const digests = await Promise.all(layers.map(digestOf));
    for (const [at, layer] of layers.entries())
      if (!existsSync(join(parts, `${digests[at]}.tar`))) symlinkSync(layer, join(parts, `${digests[at]}.tar`));
    const config = {
      architecture: process.arch === 'x64' ? 'amd64' : 'arm64',
      os: 'linux',
      config: { Env: Object.entries(env).map(([key, value]) => `${key}=${value}`), Cmd: command },
      rootfs: { type: 'layers', diff_ids: digests.map((digest) => `sha256:${digest}`) },
    };
    writeFileSync(join(parts, `${n}.json`), JSON.stringify(config));
    manifest.push({ Config: `${n}.json`, RepoTags: [name], Layers: digests.map((digest) => `${digest}.tar`) });
  }
  writeFileSync(join(parts, 'manifest.json'), JSON.stringify(manifest));
  execFileSync('tar', ['-chf', archive, '-C', parts, '.']);
  rmSync(parts, { recursive: true });
}

async function digestOf(file: string): Promise<string> {
  const digest = createHash('sha256');
  await pipeline(createReadStream(file), digest);
  return digest.digest('hex');
}
