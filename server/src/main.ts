// Starts the server on its data folder, and stops it. `rooms.ts` puts together what it is made of.
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { knownHosts } from '@stellwerk/contract/hosts.ts';
import type { OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Access } from './access/access.ts';
import { assetPath, wheelPath } from './assets.ts';
import { type Manifest, readArchive, restore, type Verification, verify } from './backup/backups.ts';
import { type Config, configOf, type StartOptions, StartRefused } from './config.ts';
import { Database, FolderInUse } from './db/database.ts';
import { SchemaRefused } from './db/migrations.ts';
import { closeConnections } from './exec/ssh/connections.ts';
import { HttpServer } from './http/server.ts';
import { Incidents } from './incidents.ts';
import { buildRooms, type Ground, type Rooms } from './rooms.ts';
import { giveBackStartUpMemory } from './start-up-memory.ts';
import { migrations } from './stores.ts';
import { MasterKeyMissing, Vault } from './vault/vault.ts';

export { ArchiveRefused } from './backup/backups.ts';
export { type StartOptions, StartRefused } from './config.ts';
export { SchemaRefused } from './db/migrations.ts';

type SignInLink = OutputOf<'users', 'createSignIn'>;

export interface RunningServer {
  url: string;
  /** Until the first administrator has signed in. */
  signIn?: SignInLink;
  /** The file that others trust, where it has an authority of its own. */
  authority?: string;
  /** All that its router has. */
  routes: HttpServer['routes'];
  /** Finishes requests in flight, ends open streams; what is under way goes on after the next start. */
  stop(): Promise<void>;
}

export async function startServer(options: StartOptions): Promise<RunningServer> {
  const config = configOf(options);
  const ground = await prepare(config);
  const rooms = buildRooms(ground);
  await rooms.environments.sweep();
  await rooms.leases.start();
  const http = await listen(ground, rooms).catch(async (error: unknown) => {
    await rooms.leases.stop();
    await ground.db.close();
    throw error;
  });
  const users = config.publicUrl ?? `${config.tls ? 'https' : 'http'}://${hostInUrl(config.listen)}:${http.port}`;
  // A certificate is made out to the public name; without one, this machine needs no way round through the network.
  urls.set(ground, { users, here: config.tls ? users : `http://${hostFromHere(config.listen)}:${http.port}` });
  await rooms.worker.start();
  rooms.tending.start();
  rooms.supervisor.start();
  rooms.collections.start();
  const signIn = await firstSignIn(rooms.access);
  giveBackStartUpMemory();
  const authority = config.tls?.authority;
  return {
    url: ground.url(),
    ...(signIn && { signIn }),
    ...(authority && { authority }),
    routes: http.routes,
    stop: () => stop(ground, rooms, http),
  };
}

/** Reads a backup to its end, and checks every byte of it. */
export function checkBackup(archive: string): Promise<Manifest> {
  return readArchive(archive, async ({ chunks }) => {
    for await (const _ of chunks);
  });
}

/** Makes an installation of a backup, in an empty folder. */
export function restoreBackup(options: { archive: string; data: string; key?: string }): Promise<Manifest> {
  return restore(options, migrations);
}

/** Whether all is there and right in a data folder, also while a server runs on it. */
export function verifyData(
  data: string,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<Verification> {
  return verify({ data, onProgress }, migrations);
}

const urls = new WeakMap<Ground, { users: string; here: string }>();

async function prepare(config: Config): Promise<Ground> {
  const wheel = await wheelPath();
  if (wheel === undefined)
    throw new StartRefused('The Python package is missing beside the server: install Stellwerk again.');
  mkdirSync(config.data, { recursive: true, mode: 0o700 });
  closeToOthers(config.data);
  if (config.tls?.authority) await makeCertificates(config);
  // Whoever keeps it among their sources must not submit it, keys and all, nor commit it.
  writeFileSync(join(config.data, '.gitignore'), '*\n');
  const incidents = new Incidents(join(config.data, 'server.log'), randomUUID);
  const broken = (error: Error) => {
    process.stderr.write(`The database cannot go on: ${error.message} (incident ${incidents.record(error)}).\n`);
    process.exit(70);
  };
  const db = await Database.open(config.data, assetPath('database-worker'), migrations, broken).catch(
    (error: unknown) => {
      throw error instanceof FolderInUse || error instanceof SchemaRefused ? new StartRefused(error.message) : error;
    },
  );
  const ground: Ground = {
    config,
    db,
    incidents,
    wheel,
    vault: await Vault.open({ db, source: config.masterKey }).catch(async (error: unknown) => {
      await db.close();
      throw error instanceof MasterKeyMissing ? new StartRefused(error.message) : error;
    }),
    now: Date.now,
    newId: randomUUID,
    url: () => urls.get(ground)?.users ?? '',
    urlHere: () => urls.get(ground)?.here ?? '',
  };
  return ground;
}

/** For every name that it answers to, since whoever reaches it by one of them must find it in the certificate. */
async function makeCertificates({ data, listen, publicUrl }: Config): Promise<void> {
  const { names, everyAddress } = knownHosts(listen, publicUrl, hostname());
  const own = everyAddress ? Object.values(networkInterfaces()).flatMap((all) => all ?? []) : [];
  const bare = [...names, ...own.map(({ address }) => address)].map((name) => name.replace(/^\[(.*)\]$/, '$1'));
  const { certify } = await import('./http/certificates.ts'); // who needs none does not load what makes them
  await certify({
    data,
    names: [...new Set(bare)].filter((name) => name !== '0.0.0.0' && name !== '::'),
    now: Date.now(),
  });
}

/** A folder that was made beforehand may be open to every user of the machine. */
function closeToOthers(folder: string): void {
  if ((statSync(folder).mode & 0o007) === 0) return;
  try {
    chmodSync(folder, 0o700);
  } catch (error) {
    throw new StartRefused(
      `Every user of this machine can enter the data folder ${folder}, and it cannot be closed to them: ${(error as Error).message}.`,
    );
  }
}

function listen(
  { config, incidents, wheel }: Ground,
  { service, access, runs, workspaces, registry }: Rooms,
): Promise<HttpServer> {
  const { listen: host, port, publicUrl, tls } = config;
  return HttpServer.start({
    service,
    access,
    runs,
    registry,
    workspaceNamed: (name) => workspaces.nameOf(name),
    settings: { listen: host, port, ...(publicUrl && { publicUrl }), ...(tls && { tls }) },
    incident: (error) => incidents.record(error),
    wheel,
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EADDRINUSE')
      throw new StartRefused(`Another program listens on ${host}:${port}. Choose another --port.`);
    if (error.code === 'EADDRNOTAVAIL') throw new StartRefused(`This machine has no address ${host} to listen on.`);
    throw error;
  });
}

/** Nobody has an account yet: the first administrator gets a link, anew at each start until it was used. */
async function firstSignIn({ users }: Access): Promise<SignInLink | undefined> {
  if (await users.isEmpty()) return (await users.create({ name: 'admin', kind: 'user', administrator: true })).signIn;
  const { items } = await users.list({ pageSize: 2 });
  if (items.length !== 1 || items[0]!.lastSignInAt !== undefined) return undefined;
  return users.createSignIn({ user: items[0]!.name });
}

async function stop(
  { db }: Ground,
  { worker, leases, tending, supervisor, gateway, services, collections }: Rooms,
  http: HttpServer,
): Promise<void> {
  await http.stop();
  collections.stop();
  await Promise.all([worker.stop(), leases.stop(), tending.stop(), supervisor.stop()]);
  closeConnections();
  // The gateway outlives the server for the sake of its services; without any it has nothing to do.
  if (!(await services.any())) await gateway.stop();
  await db.close();
}

function hostFromHere(listenOn: string): string {
  if (listenOn === '0.0.0.0') return '127.0.0.1';
  return listenOn === '::' ? '[::1]' : hostInUrl(listenOn);
}

/** Listening everywhere is not an address: the machine's first own one is. */
function hostInUrl(listenOn: string): string {
  if (listenOn === '0.0.0.0' || listenOn === '::') {
    const own = Object.values(networkInterfaces())
      .flat()
      .find((address) => address && !address.internal && address.family === 'IPv4');
    return own?.address ?? '127.0.0.1';
  }
  return listenOn.includes(':') ? `[${listenOn}]` : listenOn;
}
