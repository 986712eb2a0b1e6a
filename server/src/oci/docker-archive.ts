// `manifest.json` of a docker-save archive: which image it holds, and in which files its parts are.
import { parseJson } from '@stellwerk/contract/json-shape.ts';
import * as z from 'zod';
import { checkPath } from './layer-entry.ts';
import { invalidImage } from './manifest.ts';

const shape = z
  .array(
    z.object({ Config: z.string(), RepoTags: z.array(z.string()).nullish(), Layers: z.array(z.string()).max(500) }),
  )
  .min(1)
  .max(1_000);

export interface DockerEntry {
  config: string;
  layers: string[];
}

/** The image of that name; without a name, the only one. */
export function parseDockerManifest(document: Uint8Array, name: string | undefined): DockerEntry {
  const parsed = shape.safeParse(contentOf(document));
  if (!parsed.success) throw invalidImage("The docker-save archive's manifest.json is not as docker writes it.");
  const fits = parsed.data.filter((entry) => name === undefined || entry.RepoTags?.includes(name));
  if (fits.length !== 1) {
    const names = parsed.data.flatMap((entry) => entry.RepoTags ?? []);
    throw invalidImage(
      `The archive has ${fits.length} images ${name ? `named "${name}"` : 'and none was named'}: ${names.join(', ')}.`,
    );
  }
  const { Config, Layers } = fits[0]!;
  for (const path of [Config, ...Layers]) checkPath(path);
  return { config: Config, layers: Layers };
}

function contentOf(document: Uint8Array): unknown {
  try {
    return parseJson(Buffer.from(document).toString('utf8'));
  } catch {
    return undefined;
  }
}
