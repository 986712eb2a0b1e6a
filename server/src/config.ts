// How this server was started: the only file that reads the environment, and the one that knows all defaults.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { inheritEnvironment } from './exec/programs.ts';
import { authorityFiles } from './http/authority-files.ts';
import { isRegistry } from './oci/oci-images.ts';
import type { MasterKeySource } from './vault/vault.ts';

/** As `stellwerk up` is called. */
export interface StartOptions {
  data: string;
  listen?: string;
  port?: number;
  /** Where the gateway serves web services; the next port unless given. */
  servicesPort?: number;
  /** The address that users reach the server at, where it is not what it listens on. */
  publicUrl?: string;
  tlsCertificate?: string;
  tlsKey?: string;
  /** Instead: certificates of an authority of this installation's own, made as needed. */
  ownAuthority?: boolean;
  /** Hosts of private networks (`host` or `host:port`; `http://…` for plain HTTP) that base images may be fetched from. */
  allowHost?: readonly string[];
  /** Where an image whose name has no host comes from: `host` or `host/path`. */
  imageRegistry?: string;
  /** A program and its arguments, for a shell, that print the master key in base64; a file in the data folder unless given. */
  masterKeyCommand?: string;
  /** How long deleted runs, experiments and models lie in the trash; 7 unless given, 0 for not at all. */
  trashDays?: number;
}

export interface Config {
  data: string;
  cache: string;
  listen: string;
  port: number;
  servicesPort: number;
  publicUrl?: string;
  /** `authority`: of its own; it makes the other two. */
  tls?: { certificate: string; key: string; authority?: string };
  /** Whether only this machine reaches the server: then whoever reaches it owns the machine anyway. */
  isLoopback: boolean;
  /** What uv, pip and conda are to see: their own variables, proxies and certificates. */
  packageEnvironment: Record<string, string>;
  allowedHosts: readonly string[];
  imageRegistry?: string;
  /** Where the machine's container programs are told such a registry, a user's own file first. */
  registriesFiles: readonly string[];
  /** Where runs under other Unix users lie: they cannot enter the data folder. */
  isolatedRuns: string;
  leases: { activityMs: number; runSeconds: number };
  masterKey: MasterKeySource;
  trashMs: number;
  /** How often garbage is collected by itself. */
  collectEveryMs: number;
}

export const defaultPort = 8470;
const loopback = new Set(['127.0.0.1', 'localhost', '::1']);
const forPackages =
  /^(PIP_|UV_|CONDA_|MAMBA_|SSL_CERT_|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|https?_proxy$|no_proxy$|all_proxy$|NETRC$|HOME$|PATH$|LANG$|LC_ALL$|TZ$|TMPDIR$|XDG_)/i;
const forAnyProgram = new Set(['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR']);

export class StartRefused extends Error {}

export function configOf(options: StartOptions, environment: NodeJS.ProcessEnv = process.env): Config {
  const listen = options.listen ?? '127.0.0.1';
  const port = options.port ?? defaultPort;
  if ((options.tlsCertificate === undefined) !== (options.tlsKey === undefined))
    throw new StartRefused('TLS needs both files: give --tls-certificate and --tls-key.');
  if (options.ownAuthority && options.tlsCertificate)
    throw new StartRefused('Give either --own-authority or --tls-certificate and --tls-key, not both.');
  const isLoopback = loopback.has(listen);
  const publicUrl = options.publicUrl && publicUrlOf(options.publicUrl);
  const imageRegistry = options.imageRegistry ?? environment.STELLWERK_IMAGE_REGISTRY;
  if (imageRegistry && !isRegistry(imageRegistry))
    throw new StartRefused(
      `--image-registry must be a host, such as registry.example.org:5000 or registry.example.org/mirror, not ${imageRegistry}.`,
    );
  const set = Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const inherited = Object.fromEntries(set.filter(([name]) => forAnyProgram.has(name)));
  inheritEnvironment({ ...inherited, PATH: withSystemFolders(environment.PATH) });
  return {
    data: resolve(options.data),
    cache: join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stellwerk'),
    listen,
    port,
    servicesPort: options.servicesPort ?? (port === 0 ? 0 : port + 1),
    ...(publicUrl && { publicUrl }),
    ...(options.tlsCertificate &&
      options.tlsKey && { tls: { certificate: resolve(options.tlsCertificate), key: resolve(options.tlsKey) } }),
    ...(options.ownAuthority && { tls: authorityFiles(resolve(options.data)) }),
    isLoopback: isLoopback && !publicUrl,
    packageEnvironment: Object.fromEntries(set.filter(([name]) => forPackages.test(name))),
    allowedHosts: options.allowHost ?? [],
    ...(imageRegistry && { imageRegistry }),
    registriesFiles: [environment.XDG_CONFIG_HOME || join(homedir(), '.config'), '/etc'].map((folder) =>
      join(folder, 'containers', 'registries.conf'),
    ),
    isolatedRuns: `${resolve(options.data)}-runs`,
    leases: {
      activityMs: milliseconds(environment.STELLWERK_ACTIVITY_LEASE_MS, 30_000),
      runSeconds: milliseconds(environment.STELLWERK_RUN_LEASE_MS, 30_000) / 1_000,
    },
    masterKey: masterKeyOf(options, environment),
    trashMs: daysOf(options.trashDays ?? 7) * 86_400_000,
    collectEveryMs: 6 * 3_600_000,
  };
}

/** What makes boxes lies in folders that are not on the path of everybody: of cron, or of `su`. */
function withSystemFolders(path = '/usr/local/bin:/usr/bin:/bin'): string {
  const folders = path.split(':');
  return [...folders, ...['/usr/sbin', '/sbin'].filter((folder) => !folders.includes(folder))].join(':');
}

function publicUrlOf(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new StartRefused(`--public-url must be an address such as https://stellwerk.example.org, not ${text}.`);
  return text.replace(/\/+$/, '');
}

function masterKeyOf(options: StartOptions, environment: NodeJS.ProcessEnv): MasterKeySource {
  const { STELLWERK_MASTER_KEY: key, STELLWERK_MASTER_KEY_PREVIOUS: previous } = environment;
  if (options.masterKeyCommand !== undefined && key !== undefined)
    throw new StartRefused('Give the master key by --master-key-command or by STELLWERK_MASTER_KEY, not by both.');
  if (options.masterKeyCommand !== undefined) return { from: 'command', command: options.masterKeyCommand };
  if (key !== undefined) return { from: 'environment', key, ...(previous !== undefined && { previous }) };
  return { from: 'file', file: join(resolve(options.data), 'master.key') };
}

function daysOf(days: number): number {
  if (days >= 0 && days <= 3_650) return days;
  throw new StartRefused(`--trash-days takes a number from 0 to 3650, not ${days}.`);
}

function milliseconds(text: string | undefined, usual: number): number {
  if (text === undefined) return usual;
  const value = Number(text);
  if (!Number.isFinite(value) || value < 100)
    throw new StartRefused(`A lease must be a number of milliseconds, 100 or more, not ${text}.`);
  return value;
}
