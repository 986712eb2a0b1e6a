// The images that the node has from the beginning, since nothing can be pulled: a small Debian with Python, and what holds a pod's network.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { baseArchive } from '../docker/base-archive.ts';
import { pauseImage } from './settings.ts';

export const baseImage = 'registry.local/base:1';

/** Writes what `ctr images import` takes; both images are of the same layer. */
export async function writeImages(folder: string, archive: string): Promise<void> {
  const layer = baseArchive();
  const digest = createHash('sha256');
  await pipeline(createReadStream(layer), digest);
  const diffId = `sha256:${digest.digest('hex')}`;
  const parts = join(folder, 'images');
  mkdirSync(parts);
  symlinkSync(layer, join(parts, 'layer.tar'));
  const manifest = [
    { name: baseImage, command: ['python3'] },
    { name: pauseImage, command: ['sleep', 'infinity'] },
  ].map(({ name, command }, n) => {
    const config = {
      architecture: process.arch === 'x64' ? 'amd64' : 'arm64',
      os: 'linux',
      config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: command },
      rootfs: { type: 'layers', diff_ids: [diffId] },
    };
    writeFileSync(join(parts, `${n}.json`), JSON.stringify(config));
    return { Config: `${n}.json`, RepoTags: [name], Layers: ['layer.tar'] };
  });
  writeFileSync(join(parts, 'manifest.json'), JSON.stringify(manifest));
  execFileSync('tar', ['-chf', archive, '-C', parts, '.']);
  rmSync(parts, { recursive: true });
}
