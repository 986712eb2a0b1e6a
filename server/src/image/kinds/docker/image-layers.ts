// The layers of an image that serves models: what is in each, and the key under which a layer made once is found again.
import { createHash } from 'node:crypto';
import type { Bytes, Digest } from '../../../blob/bytes.ts';
import type { LayerDescriptor, LayerEntry } from '../../../oci/oci-images.ts';

/** Where things lie in every image. */
export const imagePaths = { home: 'var/stellwerk', models: 'var/stellwerk/models', app: 'var/stellwerk/app' } as const;

/** Remembers which layer was made of what. Forgetting an entry costs time, nothing else. */
export interface LayerCache {
  get(key: string): Promise<LayerDescriptor | undefined>;
  put(key: string, layer: LayerDescriptor): Promise<void>;
}

/** A layer that is not made yet, or was made before. */
export interface LayerPlan {
  /** For the build log and the image's history. */
  note: string;
  /** Equal keys mean equal bytes. */
  key: string;
  entries: () => Promise<Iterable<LayerEntry>> | Iterable<LayerEntry>;
}

/** A stored content and its place: below the model's folder, or below the application's. */
export interface PlacedFile {
  path: string;
  digest: Digest;
  executable?: boolean | undefined;
}

export interface ImageModel {
  name: string;
  version: number | string;
  files: readonly PlacedFile[];
}

/** Counts up when the same input makes other bytes than before. */
const recipe = 1;

export function keyOf(what: string, parts: unknown): string {
  return `${what}:${createHash('sha256')
    .update(JSON.stringify([recipe, parts]))
    .digest('hex')}`;
}

export function modelLayer(bytes: Bytes, { name, version, files }: ImageModel): LayerPlan {
  const folder = `${imagePaths.models}/${name}/${version}`;
  return placed(bytes, `model ${name}:${version}`, folder, files);
}

export function codeLayer(bytes: Bytes, files: readonly PlacedFile[]): LayerPlan {
  return placed(bytes, 'code', imagePaths.app, files);
}

function placed(bytes: Bytes, note: string, folder: string, files: readonly PlacedFile[]): LayerPlan {
  const contents = files.map(
    ({ path, digest, executable }) => [`${folder}/${path}`, digest, executable === true] as const,
  );
  contents.sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    note,
    key: keyOf('files', contents),
    entries: () =>
      withFolders(
        folder,
        contents.map(([path, digest, executable]) => ({
          path,
          mode: executable ? 0o755 : 0o644,
          source: { file: bytes.path(digest) },
        })),
      ),
  };
}

/** With all the folders from our own home down, so that every engine gives them the same permissions. */
function withFolders(folder: string, entries: LayerEntry[]): LayerEntry[] {
  const folders = new Set<string>();
  for (const path of [`${folder}/`, ...entries.map((entry) => entry.path)]) {
    for (let slash = path.indexOf('/', imagePaths.home.length); slash > 0; slash = path.indexOf('/', slash + 1)) {
      folders.add(path.slice(0, slash));
    }
  }
  const made = [...folders].map((path): LayerEntry => ({ path, mode: 0o755, source: { directory: true } }));
  return [...made, ...entries];
}
