// For tests of pulling images: a real registry over a real store, and images in it that were made by hand.
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { AccessRig } from '../access/access.fixture.ts';
import { Blobs } from '../blob/blobs.ts';
import { FileBytes } from '../blob/files.ts';
import { imageShelf } from '../image/images.ts';
import { type ImageParts, plainConfig, readParts, writeImage } from '../oci/manifest.ts';
import { Registry, type RegistryNeeds } from '../registry/registry.ts';
import { Vault } from '../vault/vault.ts';

export interface StoredImages {
  /** Stores an image of one layer as a version of `name`; gives its parts. */
  put(workspace: string, name: string, version: number, layer: string): Promise<ImageParts>;
}

export async function registryOf(
  { scratch: { db, folder, write }, access, now }: AccessRig,
  named: (name: string) => Promise<string | undefined>,
  isRunOn: RegistryNeeds['access']['isRunOn'],
): Promise<{ registry: Registry; images: StoredImages }> {
  const bytes = new FileBytes(join(folder, 'blobs'));
  const own = new Blobs({ db, bytes, folder: join(folder, 'uploads'), now }).own();
  const platform = { os: 'linux', architecture: 'amd64' };
  const registry = new Registry({
    images: { bytes: own, shelf: imageShelf(db), partsOf: (digest) => readParts(own, digest, platform) },
    access: { authenticator: access.authenticator, isRunOn },
    workspaces: {
      nameOf: named,
      namesSeenBy: async (caller, after = '') => {
        const roles = await access.members.rolesOf(caller.user);
        return Object.keys(roles).filter((workspace) => workspace > after);
      },
    },
    sealing: await Vault.open({ db, source: { from: 'file', file: join(folder, 'master.key') } }),
    now,
    url: () => 'https://stellwerk.test',
  });
  return {
    registry,
    images: {
      async put(workspace, name, version, content) {
        const layer = await own.write(Readable.from([Buffer.from(content)]));
        const { digest } = await writeImage(own, {
          platform,
          layers: [{ ...layer, note: 'code' }],
          config: plainConfig,
        });
        const parts = await readParts(own, digest, platform);
        const refs = [parts.manifest, parts.config, ...parts.layers].map(
          (part) => `('${workspace}', '${part}', 'image', '${name}:${version}')`,
        );
        write(
          `INSERT INTO image VALUES ('${workspace}', '${name}', ${version}, 'docker', 'succeeded', NULL, '{}', '{}', 'score.py', NULL, NULL,
             '${digest}', 1, '{}', 'a1', '2026-11-23T12:00:00.000Z', 'owner')`,
          `INSERT INTO blob_ref (workspace, digest, owner_kind, owner_id) VALUES ${refs.join()}`,
        );
        return parts;
      },
    },
  };
}
