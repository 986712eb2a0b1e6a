// A kubeconfig from the vault, read. It was written by whoever may attach a target, and is read by this server: so it may name neither files nor
// programs of this machine, nor a proxy, only hold what it takes to sign in.
import type { SecureContextOptions } from 'node:tls';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { parse } from 'yaml';
import * as z from 'zod';

export interface Access {
  /** As the cluster is called in sentences. */
  name: string;
  url: URL;
  tls: SecureContextOptions & { servername?: string };
  headers: Record<string, string>;
}

const name = z.string();
const facts = z.record(z.string(), z.unknown());
const context = z.object({ cluster: name, user: name });
const kubeconfig = z.object({
  clusters: z.array(z.object({ name, cluster: facts })).default([]),
  users: z.array(z.object({ name, user: facts.nullable() })).default([]),
  contexts: z.array(z.object({ name, context })).default([]),
  'current-context': name.optional(),
});

const ofCluster = ['server', 'certificate-authority-data', 'tls-server-name', 'extensions', 'disable-compression'];
const ofUser = ['client-certificate-data', 'client-key-data', 'token', 'username', 'password'];
const whole =
  'Give one that holds everything itself: `kubectl config view --flatten --minify`, or with the token of a service account.';

export function readKubeconfig(text: string, wanted?: string): Access {
  const read = kubeconfig.safeParse(parsed(text));
  if (!read.success) throw refused('it is not a kubeconfig');
  const { clusters, users, contexts, 'current-context': current } = read.data;
  const contextName = wanted ?? current ?? contexts[0]?.name;
  const found = contexts.find(({ name }) => name === contextName)?.context;
  if (!found) throw refused(`it has no context ${contextName ?? ''}`.trimEnd(), contextsIn(contexts));
  const cluster = clusters.find(({ name }) => name === found.cluster)?.cluster;
  const user = users.find(({ name }) => name === found.user)?.user;
  if (!cluster || !user) throw refused(`its context ${contextName} names a cluster or a user that it has not`);
  checkOnly(cluster, ofCluster);
  checkOnly(user, ofUser);
  const url = addressOf(cluster.server);
  return {
    name: `${found.cluster} (${url.host})`,
    url,
    tls: tlsOf(cluster, user),
    headers: headersOf(user),
  };
}

function parsed(text: string): unknown {
  try {
    return parse(text, { maxAliasCount: 10 });
  } catch {
    throw refused('it is not YAML');
  }
}

const contextsIn = (contexts: { name: string }[]) =>
  contexts.length > 0 ? `It has: ${contexts.map(({ name }) => name).join(', ')}.` : whole;

function checkOnly(what: Record<string, unknown>, known: readonly string[]): void {
  const other = Object.entries(what).find(
    ([name, value]) => !known.includes(name) && value !== null && value !== false,
  );
  if (other) throw refused(`it says \`${other[0]}\`, which would reach beyond it`);
}

function addressOf(server: unknown): URL {
  const url = typeof server === 'string' ? URL.parse(server) : null;
  if (url?.protocol !== 'https:') throw refused('its `server` is not an https address');
  return url;
}

function tlsOf(cluster: Record<string, unknown>, user: Record<string, unknown>): Access['tls'] {
  const data = (from: Record<string, unknown>, name: string) =>
    typeof from[name] === 'string' ? Buffer.from(from[name], 'base64').toString('utf8') : undefined;
  const ca = data(cluster, 'certificate-authority-data');
  const cert = data(user, 'client-certificate-data');
  const key = data(user, 'client-key-data');
  const servername = cluster['tls-server-name'];
  return {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(typeof servername === 'string' && { servername }),
  };
}

function headersOf({ token, username, password }: Record<string, unknown>): Record<string, string> {
  if (typeof token === 'string') return { authorization: `Bearer ${token}` };
  if (typeof username !== 'string' || typeof password !== 'string') return {};
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` };
}

function refused(why: string, whatToDo = whole): TargetError {
  return new TargetError('never', `The kubeconfig cannot be used: ${why}. ${whatToDo}`);
}
