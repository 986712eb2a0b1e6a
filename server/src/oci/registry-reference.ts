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

const host = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])(?::\d{1,5})?$/i;
/** Of a name in the Domain Name System (RFC 1035), and a port. */
const longestHost = 253 + ':65535'.length;
const repository = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tag = /^\w[\w.-]{0,127}$/;
/** Where many registries keep what has a name of one part. */
const onePartNames = 'library';

/** Whether this is a host, with a path or without, that a reference without a host can be looked for at. */
export function isRegistry(text: string): boolean {
  const { registry, path } = partsOf(text);
  return isHost(registry) && (path === undefined || repository.test(path));
}

/** What a reference may mean, in the order to ask in: without a host, it is looked for at each of these registries. */
export function placesOf(text: string, registries: readonly string[]): RegistryReference[] {
  const { named, manifest } = readName(text);
  const own = hostIn(named);
  if (own !== undefined) return [place(own, named.slice(own.length + 1), manifest, text)];
  const names = named.includes('/') ? [named] : [named, `${onePartNames}/${named}`];
  place('localhost', names.at(-1)!, manifest, text);
  return registries.flatMap((at) => {
    const { registry, path } = partsOf(at);
    return names.map((name) => place(registry, path === undefined ? name : `${path}/${name}`, manifest, text));
  });
}

export function hasHost(text: string): boolean {
  return hostIn(text) !== undefined;
}

function hostIn(named: string): string | undefined {
  const first = named.slice(0, Math.max(0, named.indexOf('/')));
  return first === 'localhost' || /[.:]/.test(first) ? first : undefined;
}

function readName(text: string): { named: string; manifest: string } {
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) throw noReference(text);
  const full = at < 0 ? text : text.slice(0, at);
  const colon = full.indexOf(':', (hostIn(full)?.length ?? -1) + 1);
  const version = colon < 0 ? 'latest' : full.slice(colon + 1);
  if (!tag.test(version)) throw noReference(text);
  return { named: colon < 0 ? full : full.slice(0, colon), manifest: digest ?? version };
}

function place(registry: string, name: string, manifest: string, text: string): RegistryReference {
  if (!isHost(registry) || !repository.test(name) || name.length > 255) throw noReference(text);
  return { registry, repository: name, manifest };
}

function isHost(text: string): boolean {
  return text.length <= longestHost && host.test(text) && URL.canParse(`https://${text}`);
}

function partsOf(text: string): { registry: string; path?: string } {
  const slash = text.indexOf('/');
  return slash < 0 ? { registry: text } : { registry: text.slice(0, slash), path: text.slice(slash + 1) };
}

function noReference(text: string) {
  return invalidImage(`${JSON.stringify(text.slice(0, 300))} is no reference to an image, such as "python:3.11-slim".`);
}
