// Which headers pass between caller and replica. Framing is never passed on: each side's connection has its own. The service's key
// and the browser's cookies stay here, because cookies are shared by all ports of a host, and the portal may be on another one.
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';

const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

const notToReplica = new Set([
  ...hopByHop,
  'authorization',
  'cookie',
  'expect',
  'forwarded',
  'host',
  'http2-settings',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-request-id',
]);

/** What would hold for the whole host, make browsers report elsewhere or ask for a password in our name. */
const notToCaller = new Set([
  ...hopByHop,
  'accept-ch',
  'alt-svc',
  'clear-site-data',
  'content-security-policy',
  'content-security-policy-report-only',
  'nel',
  'origin-agent-cluster',
  'public-key-pins',
  'report-to',
  'reporting-endpoints',
  'server',
  'service-worker-allowed',
  'set-cookie',
  'set-cookie2',
  'strict-transport-security',
  'www-authenticate',
  'x-content-type-options',
  'x-frame-options',
  'x-request-id',
]);

/** On every answer: what a model returns is never a page with rights of its own, whatever type it claims. */
export const protection = {
  'content-security-policy': 'sandbox',
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
} as const;

export function toReplica(headers: IncomingHttpHeaders, requestId: string): Record<string, string | string[]> {
  return { ...passed(headers, notToReplica), 'x-request-id': requestId };
}

export function toCaller(headers: IncomingHttpHeaders, requestId: string): OutgoingHttpHeaders {
  return { ...passed(headers, notToCaller), ...protection, 'x-request-id': requestId };
}

function passed(headers: IncomingHttpHeaders, without: ReadonlySet<string>): Record<string, string | string[]> {
  const named = new Set(
    String(headers.connection ?? '')
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined && !without.has(name) && !named.has(name)) kept[name] = value;
  }
  return kept;
}
