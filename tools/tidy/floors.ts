// Floors and front doors: a room of the server imports from lower rooms only, and through their doors.
import { posix } from 'node:path';
import { type Finding, isServer, isTest, isTypeScript, type Source } from './sources.ts';

/** From the ground up. */
const floors = [
  ['db', 'exec'],
  ['access'],
  ['vault'],
  ['activity', 'telemetry'],
  ['workspace'],
  ['trash'],
  ['blob'],
  ['datastore'],
  ['oci'],
  ['registry'],
  ['environment'],
  ['snapshot'],
  ['compute'],
  ['experiment'],
  ['run'],
  ['model'],
  ['image'],
  ['deployment'],
  ['backup'],
  ['collection'],
  ['http'],
];
const floorOf = new Map(floors.flatMap((rooms, floor) => rooms.map((room) => [room, floor] as const)));

/** Beside the file that is named like the room in the plural, where a room has more than one thing to offer. */
const doors: Record<string, string[]> = {
  access: ['access', 'authenticator', 'callers'],
  activity: ['activities', 'worker'],
  blob: ['blobs', 'bytes', 'archive', 'download', 'files', 'uploads'],
  compute: ['computes', 'driver', 'services', 'kinds'],
  datastore: ['datastores', 'driver'],
  db: [
    'copy',
    'database',
    'disk-full',
    'expected-schema',
    'migrations',
    'paging',
    'schema',
    'scratch-database',
    'transactions',
    'worker',
  ],
  deployment: ['web-service/web-services', 'web-service/host'],
  environment: ['environments'],
  exec: [
    'programs',
    'connected',
    'processes',
    'sandbox',
    'image-root',
    'test-root',
    'unused',
    'ssh/connection',
    'ssh/connections',
    'relay/relay',
    'relay/relay',
  ],
  gateway: ['gateways', 'last-words'],
  http: ['server', 'service'],
  image: ['images', 'driver', 'kinds'],
  oci: [
    'oci-images',
    'layer-entry',
    'tar-header',
    'tar-read',
    'tar-write',
    'digest',
    'export-image',
    'import-image',
    'image-roots',
    'manifest',
  ],
  snapshot: ['snapshots', 'listing'],
  telemetry: ['telemetry', 'journals', 'logs', 'metrics'],
  workspace: ['workspaces'],
};

/** `gateway` is a process of its own: it knows the contract and itself; only its starter (`gateways.ts`) may use exec. */
const workspaces: Record<string, RegExp> = {
  contract: /^zod$/,
  client: /^@stellwerk\/contract\//,
  cli: /^@stellwerk\/(contract|client)\/|^@stellwerk\/server\/(main|exec\/programs)\.ts$/,
};

export function checkFloors(sources: Source[]): Finding[] {
  return sources.filter(isTypeScript).flatMap((source) => [...flawsOf(source)]);
}

function* flawsOf(source: Source): Generator<Finding> {
  const [workspace] = source.path.split('/');
  for (const target of source.imports) {
    const flaw = isServer(source) ? serverFlaw(source, target) : workspaceFlaw(source, workspace!, target);
    if (flaw) yield { rule: 'floors', path: source.path, what: `imports ${target}: ${flaw}` };
  }
}

function workspaceFlaw(source: Source, workspace: string, target: string): string | undefined {
  const allowed = workspaces[workspace];
  if (!allowed || isTest(source)) return undefined;
  if (target.startsWith('.') && posix.join(posix.dirname(source.path), target).startsWith(`${workspace}/`))
    return undefined;
  if (target.startsWith('@stellwerk/') || target.startsWith('.'))
    return allowed.test(target) ? undefined : `${workspace} may not know it`;
  if (workspace === 'contract' && !allowed.test(target)) return 'the contract runs anywhere and needs zod only';
  return undefined;
}

function serverFlaw(source: Source, target: string): string | undefined {
  if (/^@stellwerk\/(client|cli)\//.test(target)) return 'the server does not know its clients';
  if (!target.startsWith('.')) return undefined;
  const from = roomOf(source.path);
  const path = posix.join(posix.dirname(source.path), target);
  const to = roomOf(path);
  if (from === undefined || from === to || isTest(source)) return undefined;
  if (to === undefined) return 'only main knows everybody, and nobody knows main';
  if (from === 'gateway' && !(to === 'exec' && source.path.endsWith('/gateways.ts')))
    return 'the gateway imports the contract only';
  const [own, other] = [floorOf.get(from), floorOf.get(to)];
  if (from !== 'gateway' && to !== 'gateway') {
    if (own === undefined || other === undefined) return 'a room without a floor: name it in tools/tidy/floors.ts';
    if (other > own) return `${to} lies above ${from}`;
  }
  return isDoor(to, path) ? undefined : `not a front door of ${to}`;
}

function roomOf(path: string): string | undefined {
  const parts = path.split('/');
  return parts.length > 3 ? parts[2] : undefined;
}

function isDoor(room: string, path: string): boolean {
  const file = path.replace(`server/src/${room}/`, '').replace(/\.ts$/, '');
  return (doors[room] ?? [room, `${room}s`]).includes(file);
}
