// An exported image, looked into with the tools of the machine: an OCI layout whose every content has the name that it must have.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { execute, type Installation } from './installation.ts';
import { typed } from './typing.ts';
import { workFolder } from './work-folder.ts';

interface Descriptor {
  digest: string;
  size: number;
  mediaType: string;
}
export interface ImageArchive {
  folder: string;
  digest: string;
  layers: Descriptor[];
  /** Of the layers as they are unpacked, in their order. */
  diffIds: string[];
  config: { Env?: string[]; Cmd?: string[]; Entrypoint?: string[] };
}

const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export async function ociArchiveOf(installation: Installation, image: string): Promise<ImageArchive> {
  const folder = await unpacked(installation, image, 'oci');
  const contentOf = ({ digest, size }: Descriptor) => {
    const bytes = readFileSync(join(folder, 'blobs', ...digest.split(':')));
    expect([sha256(bytes), bytes.length]).toEqual([digest, size]);
    return bytes;
  };
  const json = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString());
  expect(json(readFileSync(join(folder, 'oci-layout')))).toEqual({ imageLayoutVersion: '1.0.0' });
  const [described] = json(readFileSync(join(folder, 'index.json'))).manifests as Descriptor[];
  const manifest = json(contentOf(described!)) as { config: Descriptor; layers: Descriptor[] };
  const { rootfs, config } = json(contentOf(manifest.config));
  expect(manifest.layers.map((layer) => sha256(plainOf(contentOf(layer))))).toEqual(rootfs.diff_ids);
  return { folder, digest: described!.digest, layers: manifest.layers, diffIds: rootfs.diff_ids, config };
}

export async function unpacked(installation: Installation, image: string, format: 'oci' | 'docker'): Promise<string> {
  const folder = workFolder(installation.folder, {});
  const archive = join(folder, '..', `${image.replace(':', '-')} ${Math.random()}.tar`);
  await typed(installation, 'image', 'export', image, '--format', format, '--output', archive);
  const { code, stderr } = await execute('tar', ['-xf', archive], { cwd: folder, env: installation.environment });
  expect(code, stderr).toBe(0);
  return folder;
}

/** Layers may lie compressed or as they are. */
export function plainOf(bytes: Uint8Array): Uint8Array {
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes;
}
