// How what images are based on is reached: by the proxies and certificates that packages are fetched with. What is set once
// wins over the environment that this service was started in.
import type { IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';

export interface Proxies {
  httpProxy?: string;
  httpsProxy?: string;
  noProxy?: string;
}

export interface NetworkAccess {
  proxies: Proxies;
  /** Of these, what was set here: it also wins over a program's own configuration. */
  setProxies: Proxies;
  /** Certificates (PEM) to trust, beside the machine's. */
  caBundle?: string;
}

export function networkAccess(settings: IndexSettings, inherited: Readonly<Record<string, string>>): NetworkAccess {
  const { caBundle } = settings;
  const setProxies = addressed(settings);
  const from = (name: string) => inherited[name] || inherited[name.toUpperCase()] || undefined;
  const given = { httpProxy: from('http_proxy'), httpsProxy: from('https_proxy'), noProxy: from('no_proxy') };
  return { proxies: { ...addressed(given), ...setProxies }, setProxies, ...(caBundle && { caBundle }) };
}

function addressed({ httpProxy, httpsProxy, noProxy }: { [K in keyof Proxies]: string | undefined }): Proxies {
  return {
    ...(httpProxy && { httpProxy: address(httpProxy) }),
    ...(httpsProxy && { httpsProxy: address(httpsProxy) }),
    ...(noProxy && { noProxy }),
  };
}

/** `proxy:3128` is what many write. */
function address(proxy: string): string {
  const full = /^\w+:\/\//.test(proxy) ? proxy : `http://${proxy}`;
  if (URL.parse(full)) return full;
  const message = 'A proxy that is set is no address such as http://proxy.example.org:3128.';
  throw new ServiceError('failed-precondition', 'image.base-unavailable', message);
}
