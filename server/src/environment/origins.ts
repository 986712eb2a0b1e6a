// On a server that several people use, what one of them writes must not make the server fetch from addresses of his choosing:
// only what the server's own index settings name is asked.
import type { IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Requirement } from './requirements-file.ts';

export function checkOrigins(
  written: IndexSettings,
  requirements: readonly Requirement[],
  server: IndexSettings,
  usersOwnMachine: boolean,
): void {
  if (usersOwnMachine) return;
  const known = [server.indexUrl, ...(server.extraIndexUrls ?? []), ...(server.findLinks ?? [])].filter(
    (url) => url !== undefined,
  );
  const origins = new Set(known.filter((url) => URL.parse(url)).map(originOf));
  const named = [written.indexUrl, ...(written.extraIndexUrls ?? []), ...(written.findLinks ?? [])].filter(
    (url) => url !== undefined,
  );
  for (const url of named) if (!known.includes(url) && !(isWeb(url) && origins.has(originOf(url)))) throw unknown(url);
  for (const { url } of requirements) if (url && !origins.has(originOf(url))) throw unknown(url);
  for (const host of written.trustedHosts ?? [])
    if (!server.trustedHosts?.includes(host)) throw unknown(`--trusted-host ${host}`);
}

function isWeb(url: string): boolean {
  return /^https?:\/\//.test(url) && URL.parse(url) !== null;
}

/** Of what is no address, one that nobody has. */
function originOf(text: string): string {
  const url = URL.parse(text);
  return url ? `${url.protocol}//${url.host}` : text;
}

function unknown(what: string): ServiceError {
  return new ServiceError(
    'permission-denied',
    'environment.invalid',
    `The specification names ${what}, which is not among this server's index settings. The server fetches only from there; ask its administrator to add it.`,
  );
}
