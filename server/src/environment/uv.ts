// uv, which resolves and installs: the one on the path, else one that is put into the cache folder once.
// It is started with nothing but what is given here: our cache, the index settings as variables and private files. No credential
// is ever an argument, and none is in what it prints by the time anybody sees that.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { identify, isAlive } from '../exec/processes.ts';
import { type Ended, output, ProgramFailed, run } from '../exec/programs.ts';
import { type BuildBox, boxedPython } from './build-box.ts';
import { accessOf, masked, secretsOf } from './index-settings.ts';
import { Once, type Watch } from './once.ts';
import { findPythons, type Python } from './pythons.ts';

type Environment = Readonly<Record<string, string>>;

export interface UvNeeds {
  cacheDir: string;
  /** The environment this service was started in: proxies, certificates, uv's and pip's own variables. */
  inherited: Environment;
  /** Where uv itself comes from: the server's own settings, never what a specification names. */
  serverSettings: () => Promise<IndexSettings>;
  /** What source distributions are built in; undefined where those who name them own this machine anyway. */
  box: BuildBox | undefined;
}

export interface UvCall extends Watch {
  args: readonly string[];
  cwd: string;
  settings: IndexSettings;
}

/** Of uv's own variables, those that say where packages come from. */
const ownVariables =
  /^UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INDEX_STRATEGY|INDEX_\w+_(USERNAME|PASSWORD)|INSECURE_HOST|HTTP_TIMEOUT|KEYRING_PROVIDER|SYSTEM_CERTS|NATIVE_TLS|OFFLINE|PYTHON_DOWNLOADS)$/;
const network = /^(SSL_CERT_FILE|SSL_CERT_DIR|NETRC|(all|https?|no)_proxy)$/i;
/** What it tells that is worth a line in a log; the lock itself goes to a file. */
const telling = /^\s*(Resolved|Downloading|Downloaded|Building|Built|Prepared|Installed|warning:|error:|cause:|hint:)/;

/** This process, as part of a name. */
function mine(): string {
  const { pid, startTicks, bootId } = identify(process.pid)!;
  return `${pid}_${startTicks}_${bootId}`;
}

function isOwned(name: string): boolean {
  const [, pid, startTicks, bootId] = /^(\d+)_(\d+)_([^.]+)\./.exec(name) ?? [];
  return bootId !== undefined && isAlive({ pid: Number(pid), startTicks: Number(startTicks), bootId });
}

export class Uv {
  readonly #needs: UvNeeds;
  readonly #path = new Once<string>();
  #found: string | undefined;
  #pythons: Promise<Python[]> | undefined;

  constructor(needs: UvNeeds) {
    this.#needs = needs;
  }

  /** The Pythons of this machine; looked for again when asked for fresh ones. */
  pythons(fresh = false): Promise<Python[]> {
    if (fresh || !this.#pythons) this.#pythons = findPythons(this.#needs.inherited);
    return this.#pythons;
  }

  /** Runs uv to its end, whatever its exit code. What it printed comes back without secrets. */
  async run(call: UvCall): Promise<Ended> {
    const command = await this.path(call);
    return this.#privately(async (folder) => {
      const env = { ...systemCertificates(), ...this.#environment(), ...(await this.#access(call.settings, folder)) };
      const secrets = secretsOf(call.settings, env);
      const onLine = (line: string) => telling.test(line) && call.log?.(masked(line, secrets).trim());
      const { args, cwd, signal } = call;
      const ended = await run({ command, args, cwd, env, onLine, ...(signal && { signal }) }).catch((error) => {
        signal?.throwIfAborted();
        throw error;
      });
      return { ...ended, stdout: masked(ended.stdout, secrets), stderr: masked(ended.stderr, secrets) };
    });
  }

  /** What uv is to build source distributions with, in a new folder of its own inside the one given; undefined if that cannot be done safely. */
  async builder(python: string, folder: string, signal?: AbortSignal): Promise<string | undefined> {
    const { box } = this.#needs;
    return box ? boxedPython(python, folder, await this.folder('uv'), box, signal) : python;
  }

  /** A new folder for work in passing, on the cache's file system. Servers share a cache: its name says whose it is. */
  async workFolder(): Promise<string> {
    return mkdtemp(join(await this.folder('working'), `${mine()}.`));
  }

  /** With a folder that nobody else reads, gone when the work is done. */
  async #privately<T>(work: (folder: string) => Promise<T>): Promise<T> {
    const folder = await this.workFolder();
    try {
      return await work(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async path(watch: Watch = {}): Promise<string> {
    this.#found ??= await this.#path.get('uv', watch, (shared) => this.#find(shared));
    return this.#found;
  }

  /** Its program as a file that may be copied: the one on the path may be a script that only leads to it. */
  async program(watch: Watch = {}): Promise<string> {
    const path = await this.path(watch);
    if (path !== 'uv') return path;
    const found = await realpath((await output({ command: 'sh', args: ['-c', 'command -v uv'] })).trim());
    if (await isProgram(found)) return found;
    return this.#path.get('program', watch, (shared) => this.#own(shared));
  }

  /** A folder of our own in the cache folder, readable by nobody else. */
  async folder(name: string): Promise<string> {
    const folder = join(this.#needs.cacheDir, name);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  /** What a killed server left half made. What a living one, or this one, works in stays. */
  async sweep(): Promise<void> {
    const working = await this.folder('working');
    for (const name of await readdir(working))
      if (!isOwned(name)) await rm(join(working, name), { recursive: true, force: true });
  }

  #environment(): Record<string, string> {
    const kept = Object.entries(this.#needs.inherited).filter(
      ([name]) => ownVariables.test(name) || network.test(name),
    );
    return {
      UV_PYTHON_DOWNLOADS: 'never',
      ...Object.fromEntries(kept),
      UV_CACHE_DIR: join(this.#needs.cacheDir, 'uv'),
      UV_NO_PROGRESS: '1',
      // What a build is given must not be the very files that other builds are given too.
      UV_LINK_MODE: 'copy',
      UV_NO_SOURCES: '1',
      NO_COLOR: '1',
      // What a source distribution is built to must not depend on the day, the place or chance.
      SOURCE_DATE_EPOCH: '315532800',
      PYTHONHASHSEED: '0',
      CFLAGS: '-g0',
      CXXFLAGS: '-g0',
    };
  }

  async #access(settings: IndexSettings, folder: string): Promise<Record<string, string>> {
    const { environment, netrc, caBundle } = accessOf(settings);
    const files: Record<string, string> = {};
    if (netrc) {
      files.NETRC = join(folder, 'netrc');
      await writeFile(files.NETRC, netrc + (await this.#usersNetrc()), { mode: 0o600 });
    }
    if (caBundle) {
      files.SSL_CERT_FILE = join(folder, 'certificates.pem');
      await writeFile(files.SSL_CERT_FILE, `${await this.#trustedAlready()}\n${caBundle}`, { mode: 0o600 });
    }
    return { ...environment, ...files };
  }

  /** A bundle adds to what the machine trusts: the public index must stay within reach. */
  async #trustedAlready(): Promise<string> {
    const file = this.#needs.inherited.SSL_CERT_FILE ?? systemBundle();
    return file === undefined ? '' : await readFile(file, 'utf8').catch(() => '');
  }

  #usersNetrc(): Promise<string> {
    const { NETRC, HOME } = this.#needs.inherited;
    return readFile(NETRC ?? join(HOME ?? '/', '.netrc'), 'utf8').catch(() => '');
  }

  async #find(watch: Required<Watch>): Promise<string> {
    return (await answers('uv')) ? 'uv' : this.#own(watch);
  }

  async #own(watch: Required<Watch>): Promise<string> {
    const own = join(this.#needs.cacheDir, 'tools', 'uv', 'bin', 'uv');
    if (await answers(own)) return own;
    watch.log('Installing uv, which resolves and installs packages.');
    const making = await this.workFolder();
    try {
      await this.#make(making, watch.signal);
      await rename(making, join(await this.folder('tools'), 'uv')).catch(async (error) => {
        if (!(await answers(own))) throw error; // another process was first
      });
    } finally {
      await rm(making, { recursive: true, force: true });
    }
    return own;
  }

  async #make(folder: string, signal: AbortSignal): Promise<void> {
    const pythons = await this.pythons(true);
    if (pythons.length === 0) throw missing('no Python 3.8 or newer was found on the path');
    let flaw = '';
    for (const { path } of pythons) {
      const made = await run({ command: path, args: ['-m', 'venv', '--clear', folder], timeoutMs: 120_000, signal });
      flaw = made.code === 0 ? '' : `${path} cannot make a virtual environment (${lastLine(made)})`;
      if (!flaw) break;
    }
    if (flaw) throw missing(flaw);
    const settings = await this.#needs.serverSettings();
    await this.#privately(async (files) => {
      const env = { ...this.#pipEnvironment(), ...(await this.#pipAccess(settings, files)) };
      const args = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-input', 'uv'];
      const installed = await run({ command: join(folder, 'bin', 'python'), args, env, timeoutMs: 600_000, signal });
      const flaw = () => masked(lastLine(installed), secretsOf(settings, env));
      if (installed.code !== 0) throw missing(`pip could not install it (${flaw()})`);
    });
  }

  #pipEnvironment(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.#needs.inherited).filter(([name]) => name.startsWith('PIP_') || network.test(name)),
    );
  }

  async #pipAccess(settings: IndexSettings, folder: string): Promise<Record<string, string>> {
    const { NETRC, SSL_CERT_FILE, ...access } = await this.#access(settings, folder);
    const proxies = Object.fromEntries(Object.entries(access).filter(([name]) => network.test(name)));
    const given = {
      PIP_INDEX_URL: settings.indexUrl,
      PIP_EXTRA_INDEX_URL: settings.extraIndexUrls?.join(' '),
      PIP_FIND_LINKS: settings.findLinks?.join(' '),
      PIP_TRUSTED_HOST: settings.trustedHosts?.join(' '),
      PIP_NO_INDEX: settings.noIndex ? '1' : undefined,
      PIP_CERT: SSL_CERT_FILE,
      ...{ NETRC, ...proxies },
    };
    return Object.fromEntries(Object.entries(given).filter((pair): pair is [string, string] => pair[1] !== undefined));
  }
}

/** As pip does, the certificates that this machine trusts count, not only those that uv brings. */
function systemCertificates(): Record<string, string> {
  return systemBundle() === undefined ? {} : { UV_SYSTEM_CERTS: '1', UV_NATIVE_TLS: '1' };
}

function systemBundle(): string | undefined {
  return ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt', '/etc/ssl/cert.pem'].find((file) =>
    existsSync(file),
  );
}

async function isProgram(path: string): Promise<boolean> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return buffer.toString('latin1') === '\x7fELF';
}

async function answers(command: string): Promise<boolean> {
  try {
    const [, major, minor] =
      /^uv (\d+)\.(\d+)/.exec(await output({ command, args: ['--version'], timeoutMs: 30_000 })) ?? [];
    return Number(major) > 0 || Number(minor) >= 5;
  } catch (error) {
    if (error instanceof ProgramFailed) return false;
    throw error;
  }
}

function lastLine({ stderr, stdout }: Ended): string {
  return `${stdout}\n${stderr}`.trim().split('\n').at(-1)?.trim() || 'it printed nothing';
}

function missing(why: string): ServiceError {
  return new ServiceError(
    'failed-precondition',
    'environment.tool-missing',
    `Environments are built with uv, which is not on this machine and could not be installed: ${why}. Install uv, or Python 3.8 or newer with venv and pip (Debian: python3 and python3-venv).`,
  );
}
