// How an engine is reached: by a socket of this machine, by TCP with TLS, or by a socket of a machine that is signed in to by SSH.
import { connect as connectSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { SshConnection } from '../../../exec/ssh/connection.ts';
import { type Connected, SshConnections } from '../../../exec/ssh/connections.ts';
import type { Target } from '../../driver.ts';
import { usualSocket } from './contained.ts';

/** Opens a secret that the settings of a target name. */
export type SecretOf = (target: Pick<Target, 'workspace' | 'name'>, secret: string) => Promise<string>;

export interface Way {
  /** A connection to the engine, of which it is not yet known whether anybody answers. */
  connect(): Promise<Duplex>;
}

interface Identity {
  ca: string;
  cert: string;
  key: string;
}

const identityForMs = 600_000;
const keepAliveMs = 15_000;

export class Ways {
  readonly #secret: SecretOf;
  readonly #connections = new SshConnections<Connected>();
  readonly #identities = new Map<string, Promise<Identity>>();

  constructor(secret: SecretOf) {
    this.#secret = secret;
  }

  of(target: Target<'docker'>): Way {
    const { address } = target.settings;
    if (address.startsWith('unix://')) return { connect: async () => connectSocket(address.slice('unix://'.length)) };
    if (address.startsWith('tcp://')) return { connect: () => this.#byTls(target) };
    return { connect: () => this.#bySsh(target) };
  }

  async #byTls(target: Target<'docker'>): Promise<Duplex> {
    const { address } = target.settings;
    const name = nameOf(target);
    const identity = await this.#identity(target);
    const { hostname, port } = new URL(address.replace('tcp:', 'https:'));
    try {
      const socket = connectTls({ host: hostname, port: Number(port || 443), ...identity });
      socket.setKeepAlive(true, keepAliveMs);
      socket.once('error', () => this.#identities.delete(name)); // it may have been changed in the vault
      return socket;
    } catch (error) {
      this.#identities.delete(name);
      throw new TargetError('never', `The certificates for ${address} cannot be used: ${(error as Error).message}`);
    }
  }

  /** Opened once for many connections: each use of a secret is written down. */
  #identity(target: Target<'docker'>): Promise<Identity> {
    const name = nameOf(target);
    const known = this.#identities.get(name);
    if (known) return known;
    const { ca, certificate, key } = target.settings;
    const opened = Promise.all([ca, certificate, key].map((secret) => this.#secret(target, secret!)));
    const identity = opened.then(([authority, cert, own]) => ({ ca: authority!, cert: cert!, key: own! }));
    this.#identities.set(name, identity);
    const forget = () => this.#identities.delete(name);
    setTimeout(forget, identityForMs).unref();
    identity.catch(forget);
    return identity;
  }

  async #bySsh(target: Target<'docker'>): Promise<Duplex> {
    const { pathname } = new URL(target.settings.address);
    const { connection } = await this.#connections.get(nameOf(target), async () => ({
      connection: await this.#signedIn(target),
    }));
    return connection.connectTo(pathname.length > 1 ? pathname : usualSocket);
  }

  async #signedIn(target: Target<'docker'>): Promise<SshConnection> {
    const { address, hostKey, ...names } = target.settings;
    const { hostname, port, username } = new URL(address);
    if (hostKey === undefined) throw new TargetError('never', `The host key of ${hostname} is not known yet.`);
    const where = { address: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 22), user: username, hostKey };
    const opened: Record<string, string> = {};
    for (const what of ['key', 'passphrase', 'password'] as const)
      if (names[what] !== undefined) opened[what] = await this.#secret(target, names[what]);
    return SshConnection.open(where, opened);
  }
}

function nameOf({ workspace, name, settings }: Target<'docker'>): string {
  return JSON.stringify([workspace, name, settings]);
}
