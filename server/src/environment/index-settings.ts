// Where packages come from, in the form that uv takes. A user name and password travel beside the address they are for,
// never in it: addresses get into messages, credentials only into variables and private files.
import type { IndexAccess, IndexCredential, IndexSettings } from '@stellwerk/contract/environment.ts';

export interface Address {
  url: string;
  credential?: IndexCredential;
}

/** Takes user name and password out of an address. What is no address with a host is returned as it is. */
export function withoutCredential(text: string): Address {
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? URL.parse(text) : null; // URL.canParse says yes to a host that is too long
  if (!url) return { url: text };
  if (url.username === '' && url.password === '') return { url: text };
  const [username, password] = [decoded(url.username), decoded(url.password)];
  url.username = '';
  url.password = '';
  return { url: url.href, credential: { url: url.href, username, password } };
}

/** A per-cent sign may stand for itself. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The second one's single values win; lists are joined, the second one's first. */
export function mergeSettings(under: IndexSettings, over: IndexSettings | undefined): IndexSettings {
  if (!over) return under;
  const joined = <T>(a: readonly T[] | undefined, b: readonly T[] | undefined) => {
    const all = [...(b ?? []), ...(a ?? [])];
    return all.filter((item, at) => all.findIndex((other) => JSON.stringify(other) === JSON.stringify(item)) === at);
  };
  const lists = {
    extraIndexUrls: joined(under.extraIndexUrls, over.extraIndexUrls),
    findLinks: joined(under.findLinks, over.findLinks),
    trustedHosts: joined(under.trustedHosts, over.trustedHosts),
    credentials: joined(under.credentials, over.credentials),
  };
  const filled = Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));
  return { ...under, ...over, ...filled };
}

export function withoutCredentials(settings: IndexSettings): Omit<IndexSettings, 'credentials'> {
  const { credentials: _secret, ...open } = settings;
  return open;
}

/** The settings as uv's variables and files. */
export function accessOf(settings: IndexSettings): IndexAccess {
  const environment: Record<string, string> = {};
  const named = (url: string, number: number) => {
    const credential = settings.credentials?.find((one) => sameAddress(one.url, url));
    if (credential) {
      environment[`UV_INDEX_STELLWERK${number}_USERNAME`] = credential.username;
      environment[`UV_INDEX_STELLWERK${number}_PASSWORD`] = credential.password;
    }
    return `stellwerk${number}=${url}`;
  };
  if (settings.indexUrl) environment.UV_DEFAULT_INDEX = named(settings.indexUrl, 0);
  if (settings.extraIndexUrls?.length)
    environment.UV_INDEX = settings.extraIndexUrls.map((url, at) => named(url, at + 1)).join(' ');
  if (settings.findLinks?.length) environment.UV_FIND_LINKS = settings.findLinks.join(',');
  if (settings.noIndex) environment.UV_NO_INDEX = '1';
  if (settings.strategy) environment.UV_INDEX_STRATEGY = settings.strategy;
  if (settings.trustedHosts?.length) environment.UV_INSECURE_HOST = settings.trustedHosts.join(' ');
  if (settings.preReleases) environment.UV_PRERELEASE = 'allow';
  if (settings.timeoutSeconds) environment.UV_HTTP_TIMEOUT = String(settings.timeoutSeconds);
  // In both spellings: programs differ in which of them wins, and what is set wins over what a process was started with.
  const { httpProxy, httpsProxy, noProxy } = settings;
  for (const [name, value] of Object.entries({ HTTP_PROXY: httpProxy, HTTPS_PROXY: httpsProxy, NO_PROXY: noProxy }))
    if (value) Object.assign(environment, { [name]: value, [name.toLowerCase()]: value });
  const netrc = netrcOf(settings.credentials ?? []);
  return { environment, ...(netrc && { netrc }), ...(settings.caBundle && { caBundle: settings.caBundle }) };
}

function sameAddress(a: string, b: string): boolean {
  return a.replace(/\/+$/, '') === b.replace(/\/+$/, '');
}

/** For what is no index: pages of links and single files. A host has one entry there, the first. */
function netrcOf(credentials: readonly IndexCredential[]): string | undefined {
  const byHost = new Map<string, string>();
  for (const { url, username, password } of credentials) {
    const host = URL.parse(url)?.hostname ?? '';
    const writable = [username, password].every((value) => /^[^\s"\\#]+$/.test(value));
    if (host && writable && !byHost.has(host))
      byHost.set(host, `machine ${host} login ${username} password ${password}\n`);
  }
  return byHost.size > 0 ? [...byHost.values()].join('') : undefined;
}

/** What no log and no message may show, longest first. */
export function secretsOf(settings: IndexSettings, environment: Readonly<Record<string, string>>): string[] {
  const found = (settings.credentials ?? []).flatMap(({ password }) => [
    password,
    encodeURIComponent(password.toWellFormed()),
  ]);
  for (const [name, value] of Object.entries(environment)) {
    if (/PASSWORD|TOKEN/.test(name)) found.push(value);
    for (const match of value.matchAll(/:\/\/[^\s/@:]*:([^\s/@]+)@/g)) found.push(match[1]!, decoded(match[1]!));
  }
  return [...new Set(found)].filter((secret) => secret.length > 0).sort((a, b) => b.length - a.length);
}

export function masked(text: string, secrets: readonly string[]): string {
  let shown = text.replace(/(:\/\/)[^\s/@]+@/g, '$1****@');
  for (const secret of secrets) shown = shown.replaceAll(secret, '****');
  return shown;
}
