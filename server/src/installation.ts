// What marks this installation on machines that others use too, how it reaches itself, and how its web services are reached.
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { Config } from './config.ts';

/** A word that no other installation has, made once. */
function installationIn(data: string): string {
  const file = join(data, 'installation');
  const made = `${file}.${randomBytes(6).toString('hex')}`;
  writeFileSync(made, `${randomBytes(6).toString('hex')}\n`);
  try {
    linkSync(made, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(made);
  }
  return readFileSync(file, 'utf8').trim();
}

/** A connection to this server itself; where it speaks TLS, to whoever has its own certificate. */
export function connectTo(url: string, certificate?: string): Socket {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  if (protocol === 'http:') return connect({ host, port: Number(port || 80) });
  const own = certificate === undefined ? {} : { ca: readFileSync(certificate), allowPartialTrustChain: true };
  return connectTls({ host, port: Number(port || 443), ...own, checkServerIdentity: () => undefined });
}

/** What this server is trusted by, where that is its own certificate or authority. */
export const ownCertificate = ({ tls }: Config) => tls && readFileSync(tls.authority ?? tls.certificate, 'utf8');

/** For kinds of compute target that carry what their runs say to this server. */
export function ownPlace({ data, tls }: Config, url: () => string) {
  return { installation: installationIn(data), connectHere: () => connectTo(url(), tls?.certificate) };
}

export function servicesUrl({ tls, publicUrl }: Config, url: string, port: number): string {
  const { protocol, hostname } = new URL(url);
  return `${tls ? 'https:' : publicUrl ? protocol : 'http:'}//${hostname}:${port}`;
}
