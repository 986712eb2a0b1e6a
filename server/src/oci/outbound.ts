// Requests to addresses that a user named. The server's own network is not theirs to reach: unless the administrator
// allowed the host, an address that is not public is refused at the moment of connecting, whatever name led there.
// A proxy is the administrator's, and trusted: it resolves the name and connects, so which addresses it reaches is its own
// rule. What we know beforehand is refused all the same, for each hop of a redirect and each sign-in: addresses that are
// written out, and names that mean no public address here (`localhost` would be the proxy's own machine).
import { lookup as resolveName } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { createSecureContext, getCACertificates } from 'node:tls';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Dispatcher } from 'undici';

export interface Outbound {
  /** `host` or `host:port` each may lie in a private network; `http://host:port` may also speak plain HTTP. */
  allowedHosts: readonly string[];
  proxies?: { httpProxy?: string; httpsProxy?: string; noProxy?: string } | undefined;
  /** Certificates (PEM) to trust, beside the machine's. */
  caBundle?: string | undefined;
}

const closed = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const) {
  closed.addSubnet(network, bits, 'ipv4');
}
for (const [network, bits] of [
  ['::', 96], // with an IPv4 address in its end, as some still write it
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2001::', 32],
  ['2002::', 16], // relays to the IPv4 address in it
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
] as const) {
  closed.addSubnet(network, bits, 'ipv6');
}

export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && !closed.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function closedAddress(host: string): ServiceError {
  const message = `The server does not connect to "${host}": its address is not public, and the administrator has not allowed this host.`;
  return new ServiceError('failed-precondition', 'image.base-unavailable', message);
}

/** Refuses addresses that are written out; names are looked at when they are resolved. */
export function checkUrl(url: URL, outbound: Outbound): void {
  const allowed = isAllowed(url, outbound);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && speaksPlainHttp(url.host, outbound))) {
    const message = `The server speaks only HTTPS with "${url.host}"; the administrator can allow plain HTTP for a host.`;
    throw new ServiceError('failed-precondition', 'image.base-unavailable', message);
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (!allowed && isIP(host) !== 0 && !isPublicAddress(host)) throw closedAddress(url.host);
}

function isAllowed(url: URL, { allowedHosts }: Outbound): boolean {
  return [url.host, url.hostname, url.origin].some((name) => allowedHosts.includes(name));
}

export function speaksPlainHttp(host: string, { allowedHosts }: Outbound): boolean {
  return allowedHosts.includes(`http://${host}`);
}

/** Connections for one URL's host; to be closed after use. */
export async function dispatcherFor(url: URL, outbound: Outbound): Promise<Dispatcher> {
  const allowed = isAllowed(url, outbound);
  const limits = { headersTimeout: 60_000, bodyTimeout: 60_000, maxHeaderSize: 64 * 1024 };
  const tls = { secureContext: createSecureContext({ ca: trustedCertificates(outbound.caBundle) }) };
  const { Agent, EnvHttpProxyAgent } = (await import('undici')).default; // of much memory, and often never needed
  const timeout = 8_000;
  const connect = { ...tls, timeout, ...(allowed ? {} : { lookup: publicOnly }) };
  const { httpProxy, httpsProxy, noProxy = '' } = outbound.proxies ?? {};
  const proxy = url.protocol === 'https:' ? httpsProxy : httpProxy;
  if (!proxy) return new Agent({ ...limits, connect });
  if (!allowed) await checkName(url.hostname);
  const through = { httpProxy: proxy, httpsProxy: proxy, noProxy, connectTimeout: timeout };
  return new EnvHttpProxyAgent({ ...through, ...limits, connect, proxyTls: tls, requestTls: tls });
}

/** Those that the machine trusts, and these. */
export function trustedCertificates(caBundle: string | undefined): string[] {
  const machines = [...getCACertificates('default'), ...getCACertificates('system')];
  return [...new Set(machines), ...(caBundle ? [caBundle] : [])];
}

/** A name that is not known here is left to the proxy, but for those that mean the machine they are looked up on. */
async function checkName(host: string): Promise<void> {
  if (/(^|\.)localhost\.?$/.test(host)) throw closedAddress(host);
  const found = await lookup(host, { all: true }).catch(() => []);
  if (found.length > 0 && !found.some(({ address }) => isPublicAddress(address))) throw closedAddress(host);
}

const publicOnly: LookupFunction = (hostname, options, callback) => {
  resolveName(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return callback(error, '', 0);
    const found = addresses.filter(({ address }) => isPublicAddress(address));
    if (found.length === 0) return callback(closedAddress(hostname), '', 0);
    if (options.all) return (callback as unknown as (error: null, all: typeof found) => void)(null, found);
    callback(null, found[0]!.address, found[0]!.family);
  });
};
