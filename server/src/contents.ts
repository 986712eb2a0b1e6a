// Contents as rooms are handed them: as text, as a file for a while, as the parts that an image has.
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Bytes, Digest, Stored } from './blob/bytes.ts';
import type { Datastores } from './datastore/datastores.ts';
import type { OciImages } from './oci/oci-images.ts';

export async function textOf(bytes: Bytes, digest: Digest): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of bytes.read(digest)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** What an image consists of, itself included. */
export async function partsOf(oci: OciImages, bytes: Bytes, digest: Digest): Promise<Stored[]> {
  const { manifest, config, layers } = await oci.partsOf(digest);
  const parts = [manifest, config, ...layers];
  return Promise.all(parts.map(async (part) => ({ digest: part, sizeBytes: await bytes.sizeOf(part) })));
}

/** A file of a datastore as a file of this machine, for as long as it is needed. */
export async function fetched(
  datastores: Datastores,
  of: { workspace: string; datastore: string; path: string },
  parent: string,
  signal: AbortSignal,
): Promise<AsyncDisposable & { path: string }> {
  const folder = await mkdtemp(join(parent, 'base-'));
  const path = join(folder, 'image');
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const { stream } = await datastores.getFile(of, { kind: 'stranger' });
    await pipeline(stream, createWriteStream(path, { mode: 0o600 }), { signal });
    return { path, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
