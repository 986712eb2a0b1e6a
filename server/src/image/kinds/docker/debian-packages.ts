// Fetches Debian packages into a folder of its own, as an ordinary user: the machine's package sources and keys are used,
// its own package state is neither needed nor touched. Signatures and checksums are apt's.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { NetworkAccess } from '../../../environment/environments.ts';
import { output, plainEnvironment, run } from '../../../exec/programs.ts';
import { trustedCertificates } from '../../../oci/oci-images.ts';

export interface Fetching {
  /** Becomes full of apt's lists and state, and of the packages; deleted by the caller. */
  workDir: string;
  network: NetworkAccess;
  log: (line: string) => void;
  signal?: AbortSignal | undefined;
}

const timeoutMs = 300_000;

/** Depended on for the work of installing only, which we do ourselves: apt is told that they are there. */
const taken = ['dpkg', 'tar', 'debconf', 'openssl', 'debianutils', 'install-info', 'perl-base', 'mawk'];

/** Whether this machine can do this at all. */
/** The search path on which they were found: another may lack them. */
let toolsOn: string | undefined;
let architecture: Promise<string> | undefined;

/** Asked until they are there: starting three programs takes longer than all else of a build whose base is made. */
export async function hasDebianTools(): Promise<boolean> {
  const path = plainEnvironment().PATH;
  if (toolsOn !== undefined && toolsOn === path) return true;
  const found = ['apt-get', 'dpkg-deb', 'dpkg'].map((command) =>
    run({ command, args: ['--version'] }).then(ok, () => false),
  );
  const all = (await Promise.all(found)).every(Boolean);
  if (all) toolsOn = path;
  return all;
}

const ok = (ended: { code: number | null }) => ended.code === 0;

/** It stays what it is. */
export function debianArchitecture(): Promise<string> {
  architecture ??= output({ command: 'dpkg', args: ['--print-architecture'] }).then((text) => text.trim());
  architecture.catch(() => {
    architecture = undefined;
  });
  return architecture;
}

/** Downloads the packages and all they depend on; returns the files, sorted by name. */
export async function fetchPackages(packages: readonly string[], fetching: Fetching): Promise<string[]> {
  const debsDir = join(fetching.workDir, 'debs');
  const configuration = await prepare(join(fetching.workDir, 'apt'), debsDir, fetching.network);
  fetching.log("Fetching Debian's package lists and packages.");
  const warnings = await apt(configuration, ['update', '-qq'], fetching);
  await apt(
    configuration,
    ['install', '--download-only', '--no-install-recommends', '-y', '-qq', ...packages],
    fetching,
    warnings,
  );
  const files = (await readdir(debsDir)).filter((name) => name.endsWith('.deb')).sort();
  return files.map((name) => join(debsDir, name));
}

/** Gives what apt complained of though it went on: that a list could not be fetched comes out only later. */
async function apt(configuration: string, args: string[], fetching: Fetching, before = ''): Promise<string> {
  const { network, signal } = fetching;
  const env = { ...proxyVariables(network), DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  const options = { env, timeoutMs, ...(signal ? { signal } : {}) };
  const ended = await run({ command: 'apt-get', args: ['-c', configuration, ...args], ...options });
  if (ended.code === 0) return ended.stderr;
  const earlier = before.trim() === '' ? '' : ` Before that: ${lastLines(before)}`;
  throw unavailable(`apt-get ${args[0]} failed: ${lastLines(ended.stderr)}${earlier}`);
}

function proxyVariables({ proxies }: NetworkAccess): Record<string, string> {
  const { httpProxy, httpsProxy, noProxy } = proxies;
  return {
    ...(httpProxy && { http_proxy: httpProxy }),
    ...(httpsProxy && { https_proxy: httpsProxy }),
    ...(noProxy && { no_proxy: noProxy }),
  };
}

/** Writes apt's configuration: read after the machine's own, of which only the sources and how to reach them stay. */
async function prepare(aptDir: string, debsDir: string, network: NetworkAccess): Promise<string> {
  for (const dir of [join(aptDir, 'lists', 'partial'), join(aptDir, 'cache'), join(debsDir, 'partial')]) {
    await mkdir(dir, { recursive: true });
  }
  const architecture = await debianArchitecture();
  const statusFile = join(aptDir, 'status');
  await writeFile(statusFile, taken.map((name) => takenPackage(name, architecture)).join('\n'));
  const settings = {
    'Dir::State': aptDir,
    'Dir::State::status': statusFile,
    'Dir::State::lists': join(aptDir, 'lists'),
    'Dir::Cache': join(aptDir, 'cache'),
    'Dir::Cache::archives': debsDir,
    'Dir::Cache::pkgcache': 'packages.bin',
    'Dir::Cache::srcpkgcache': '',
    'Dir::Log': aptDir,
    'APT::Sandbox::User': 'root', // we are whoever we are: nobody to switch to
    'APT::Keep-Downloaded-Packages': 'true',
    'Acquire::Languages': 'none',
    'Debug::NoLocking': 'true',
  };
  const reaching = await reachingSettings(aptDir, network);
  const all = Object.entries({ ...settings, ...reaching });
  const lines = [
    ...[...cleared, ...Object.keys(reaching)].map((name) => `#clear ${name};`),
    ...all.map(([name, value]) => `${name} "${quotable(value)}";`),
  ];
  const file = join(aptDir, 'apt.conf');
  await writeFile(file, `${lines.join('\n')}\n`, { mode: 0o600 }); // proxies may have passwords
  return file;
}

/** What is set here wins over the proxies of apt's own configuration; apt's hosts without a proxy are in a variable. */
async function reachingSettings(aptDir: string, network: NetworkAccess): Promise<Record<string, string>> {
  const { httpProxy, httpsProxy } = network.setProxies;
  const certificates = join(aptDir, 'certificates.pem');
  if (network.caBundle) await writeFile(certificates, trustedCertificates(network.caBundle).join('\n'));
  return {
    ...(httpProxy && { 'Acquire::http::Proxy': httpProxy }),
    ...(httpsProxy && { 'Acquire::https::Proxy': httpsProxy }),
    ...(network.caBundle && { 'Acquire::https::CAInfo': certificates }),
  };
}

/** Hooks of the machine's own package state, and lists that only desktops read. */
const cleared = [
  'APT::Update::Pre-Invoke',
  'APT::Update::Post-Invoke',
  'APT::Update::Post-Invoke-Success',
  'DPkg::Pre-Invoke',
  'DPkg::Post-Invoke',
  'DPkg::Pre-Install-Pkgs',
  ...['', '-icons', '-icons-small', '-icons-large', '-icons-hidpi'].map(
    (what) => `Acquire::IndexTargets::deb::DEP-11${what}`,
  ),
];

function takenPackage(name: string, architecture: string): string {
  const provides = name === 'mawk' ? 'Provides: awk\n' : name === 'debconf' ? 'Provides: debconf-2.0\n' : '';
  return `Package: ${name}\nStatus: install ok installed\nVersion: 9999\nArchitecture: ${architecture}\nMulti-Arch: foreign\n${provides}Maintainer: none\nDescription: taken as given\n`;
}

function quotable(path: string): string {
  if (/["\n]/.test(path))
    throw unavailable(`apt cannot work in the folder ${JSON.stringify(path)}; choose one without quotes.`);
  return path;
}

function unavailable(message: string): ServiceError {
  return new ServiceError('failed-precondition', 'image.base-unavailable', message);
}

function lastLines(text: string): string {
  const lines = text.trim().split('\n').slice(-3).join(' ');
  return lines.replace(/(:\/\/)[^\s/@]+@/g, '$1****@') || 'it printed nothing.';
}

/** What tells this machine's Debian from another: part of the key that a made base image is kept under. */
export async function debianRelease(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return /^VERSION_CODENAME=(.+)$/m.exec(text)?.[1] ?? 'unknown';
}
