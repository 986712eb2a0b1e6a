// Takes an image from a registry: the one that the reference names, or else those that are set for names without a host, in
// their order. A registry that has no such image leads on to the next; one that cannot be reached does not, so that nobody
// puts a namesake in its place.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type Importing, importPinned } from './import-image.ts';
import type { OciImage } from './manifest.ts';
import type { Outbound } from './outbound.ts';
import { type Credentials, RegistryClient } from './registry-client.ts';
import { hasHost, placesOf } from './registry-reference.ts';

export interface Pull {
  reference: string;
  credentials?: Credentials | undefined;
}

export async function pullImage(
  { reference, credentials }: Pull,
  registries: readonly string[],
  outbound: Outbound,
  importing: Importing,
): Promise<OciImage> {
  const places = placesOf(reference, registries);
  if (places.length === 0) throw unavailable(noRegistry(reference));
  const ownWords = hasHost(reference);
  const refusals: string[] = [];
  for (const place of places) {
    const { registry, repository, manifest } = place;
    // Whoever set a registry allowed its host; what it redirects to is another matter.
    const reached = ownWords ? outbound : { ...outbound, allowedHosts: [...outbound.allowedHosts, registry] };
    const known = registry === places[0]!.registry ? credentials : undefined;
    await using client = new RegistryClient(place, reached, known, importing.signal);
    const document = await client.manifest().catch((error: unknown) => {
      if (!(error instanceof ServiceError) || error.code !== 'failed-precondition') throw error;
      refusals.push(error.message);
    });
    if (document === undefined) continue;
    if (!ownWords) importing.log(`Found ${reference} at ${registry}/${repository}.`);
    return await importPinned(client.source(), document, manifest, importing);
  }
  throw unavailable(refusals.join(' '));
}

/** In full sentences, with what to do. */
function noRegistry(reference: string): string {
  return `"${reference}" names no registry, and none is set for such names. Write it with its host (registry.example.org/${reference}), or set one: "stellwerk up --image-registry", STELLWERK_IMAGE_REGISTRY, or unqualified-search-registries in containers/registries.conf.`;
}

function unavailable(message: string): ServiceError {
  return new ServiceError('failed-precondition', 'image.base-unavailable', message);
}
