// `python:3.11-slim` and its longer forms: which registry, which repository, which manifest.
import { isDigest } from './digest.ts';
import { invalidImage } from './manifest.ts';

export interface RegistryReference {
  /** Host, and the port if one was given. */
  registry: string;
  repository: string;
  /** A tag or a digest. */
  manifest: string;
}

/** What a reference without a registry means to everyone. */
const defaultRegistry = { registry: 'registry-1.docker.io', names: ['docker.io', 'index.docker.io'] };

const host = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])(?::\d{1,5})?$/i;
const repository = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tag = /^\w[\w.-]{0,127}$/;

export function parseReference(text: string): RegistryReference {
  const wrong = () =>
    invalidImage(`${JSON.stringify(text.slice(0, 300))} is no reference to an image, such as "python:3.11-slim".`);
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  const named = at < 0 ? text : text.slice(0, at);
  const slash = named.indexOf('/');
  const first = named.slice(0, Math.max(0, slash));
  const hasHost = first === 'localhost' || /[.:]/.test(first);
  const rest = hasHost ? named.slice(slash + 1) : named;
  const colon = rest.indexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const version = colon < 0 ? 'latest' : rest.slice(colon + 1);
  const known = hasHost && !defaultRegistry.names.includes(first);
  const registry = known ? first : defaultRegistry.registry;
  const full = known || path.includes('/') ? path : `library/${path}`;
  if (!host.test(registry) || !repository.test(full) || full.length > 255 || !tag.test(version)) throw wrong();
  if (!URL.canParse(`https://${registry}`)) throw wrong();
  if (digest !== undefined && !isDigest(digest)) throw wrong();
  return { registry, repository: full, manifest: digest ?? version };
}
