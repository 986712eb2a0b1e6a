// The environments of runs and images: a specification (a conda file, requirements or a lock) becomes a plan with a lock, which is plain
// data that a runner installs from, and a layer of an image.
// Invariants: no credential is in a plan, a layer or a log; the same question gives the same lock for ever, unless a fresh one is asked for;
// the same lock gives the same layer, bit for bit; what several want at once is made once; what is half made is never seen.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { arch, platform } from 'node:process';
import { condaAddress } from '@stellwerk/contract/conda-lock.ts';
import type {
  BuiltPlan,
  BuiltSpecification,
  EnvironmentPlan,
  EnvironmentPlatform,
  EnvironmentSpecification,
  EnvironmentTarget,
  IndexAccess,
  IndexSettings,
} from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type Removed, removeUnused, type Unused } from '../exec/unused.ts';
import type { BuildBox } from './build-box.ts';
import { accessOf, mergeSettings, withoutCredentials } from './index-settings.ts';
import { type EnvironmentLayer, type LayerPlace, layerKey, layerRecord, makeLayer } from './layer.ts';
import { canonicalLock, sha256 } from './lock-file.ts';
import { type NetworkAccess, networkAccess } from './network-access.ts';
import { Once, type Watch } from './once.ts';
import { checkOrigins } from './origins.ts';
import { pipConfiguration } from './pip-configuration.ts';
import { hasConda, type Python } from './pythons.ts';
import { resolve } from './resolve.ts';
import { choosePython, readSpecification, type Wanted } from './specification.ts';
import { Uv } from './uv.ts';

export type { EnvironmentLayer, LayerPlace } from './layer.ts';
export { type NetworkAccess, networkAccess, type Proxies } from './network-access.ts';
export { PackageIndexes } from './package-indexes.ts';
export { type ReadFile, specificationOf } from './source.ts';

export interface EnvironmentsNeeds {
  /** Locks, uv and its downloads, layers: all that can be made again. */
  cacheDir: string;
  /** The environment this service was started in, from `config.ts`: PIP_*, UV_*, proxies, certificates, HOME. */
  inherited: Readonly<Record<string, string>>;
  /** The server's index settings as they are now. */
  indexes: () => IndexSettings | Promise<IndexSettings>;
  /**
   * Given where those who write specifications do not own this machine anyway: source distributions are built in this box only, and
   * nothing is fetched from an address that the index settings do not name.
   */
  box?: BuildBox | undefined;
}

export interface Asked extends Watch {
  /** The machine that installs; this one unless given. */
  target?: EnvironmentTarget;
  /** On top of the server's: credentials of indexes that a specification names, say. */
  indexes?: IndexSettings;
  /** Resolve anew, for newer versions. */
  fresh?: boolean;
}

/** Part of every key in the cache; raised when what is made of the same input changes. */
const format = 1;

export class Environments {
  readonly #needs: EnvironmentsNeeds;
  readonly #uv: Uv;
  readonly #locks = new Once<string>();
  readonly #layers = new Once<EnvironmentLayer>();

  constructor(needs: EnvironmentsNeeds) {
    this.#needs = needs;
    this.#uv = new Uv({
      cacheDir: needs.cacheDir,
      inherited: needs.inherited,
      serverSettings: () => this.#settings(),
      box: needs.box,
    });
  }

  /** What this machine has. */
  async target(): Promise<EnvironmentTarget> {
    return this.#target(await this.#uv.pythons(true));
  }

  async #target(pythons: readonly Python[]): Promise<EnvironmentTarget> {
    const conda = await hasConda();
    return {
      platform: thisPlatform(),
      pythons: [...new Set(pythons.map(({ minor }) => minor))],
      ...(conda && { conda }),
    };
  }

  /** Reads a specification without resolving it: refuses what cannot be, and tells the index settings (secret) in it. */
  read(specification: BuiltSpecification, mayHaveConda = false): { indexes: IndexSettings; python?: string } {
    const { indexes, python } = readSpecification(specification, mayHaveConda);
    return { indexes, ...(python && { python }) };
  }

  async lock(specification: EnvironmentSpecification, asked: Asked = {}): Promise<EnvironmentPlan> {
    if (specification.userManaged)
      return {
        kind: 'user-managed',
        notices: [],
        ...(specification.interpreterPath && { interpreterPath: specification.interpreterPath }),
      };
    const target = asked.target ?? (await this.#target(await this.#uv.pythons()));
    const wanted = readSpecification(specification, target.conda);
    const { minor, notice } = await this.#choose(wanted, specification.pythonFallback ?? false, target, asked);
    const notices = [...wanted.notices, ...(notice ? [notice] : [])];
    for (const line of notices) asked.log?.(line);
    const lockText = await this.#lockText(wanted, minor, target.platform, asked);
    const lockHash = sha256(lockText);
    const installFlags = ['--require-hashes', '--no-deps', ...wanted.options.flatMap((option) => option.split(' '))];
    const conda = wanted.conda && withPython(wanted.conda, minor);
    const open = withoutCredentials(wanted.indexes);
    asked.log?.(
      `Environment lock ${lockHash.slice(0, 12)}: ${lockText === '' ? 'nothing to install' : `${lockText.trimEnd().split('\n').length} packages`} for Python ${minor}.`,
    );
    return {
      kind: 'built',
      key: sha256(JSON.stringify([format, lockHash, minor, target.platform, conda ?? null, installFlags])),
      lockHash,
      lockText,
      pythonMinor: minor,
      ...(wanted.python && { requestedPython: wanted.python }),
      pythonFallback: specification.pythonFallback ?? false,
      platform: target.platform,
      ...(conda && { conda }),
      needsStellwerk: wanted.needsStellwerk,
      installFlags,
      ...(Object.keys(open).length > 0 && { indexes: open }),
      notices,
    };
  }

  /** The program that makes environments, as a file to copy for those who cannot reach it. Comes from where the server's own settings say. */
  uv(asked: Watch = {}): Promise<string> {
    return this.#uv.program(asked);
  }

  /** Removes what a server that was killed left half made, private files among it. Before anything else is asked. */
  async sweep(): Promise<void> {
    await this.#uv.sweep();
  }

  /** Frees the layers of images that were not used for long: they are kept elsewhere, or can be made again. */
  async removeUnused(unused: Unused): Promise<Removed> {
    return removeUnused(await this.#uv.folder('layers'), layerRecord, unused);
  }

  /** The index settings for whoever installs the plan. Secret. */
  async access(plan?: BuiltPlan, indexes?: IndexSettings): Promise<IndexAccess> {
    return accessOf(await this.#settings(plan?.indexes, indexes));
  }

  /** How what images are based on is reached, by the same settings. Secret: proxies may have passwords. */
  async network(): Promise<NetworkAccess> {
    return networkAccess(await this.#settings(), this.#needs.inherited);
  }

  /** The key that `layer` has for it: where a layer is kept elsewhere, it need not be made again. */
  async layerKey(plan: BuiltPlan, place: LayerPlace): Promise<string> {
    return layerKey(plan, place, await this.#uv.pythons());
  }

  /** The environment as it lies in an image below `place.prefix`. */
  async layer(
    plan: BuiltPlan,
    place: LayerPlace,
    asked: Omit<Asked, 'target' | 'fresh'> = {},
  ): Promise<EnvironmentLayer> {
    const settings = await this.#settings(plan.indexes, asked.indexes);
    checkOrigins(plan.indexes ?? {}, [], await this.#settings(), this.#needs.box === undefined);
    const key = await this.layerKey(plan, place);
    const folder = join(await this.#uv.folder('layers'), key);
    return this.#layers.get(key, asked, (shared) =>
      makeLayer({ plan, place, folder, key, settings, platform: thisPlatform() }, this.#uv, shared),
    );
  }

  /** conda brings its own Python. One of this machine that is missed may have been installed since. */
  async #choose(
    wanted: Wanted,
    fallback: boolean,
    target: EnvironmentTarget,
    asked: Asked,
  ): Promise<{ minor: string; notice?: string }> {
    if (wanted.conda) return { minor: wanted.python ?? target.pythons[0] ?? '3.11' };
    const stale = !asked.target && !target.pythons.includes(wanted.python ?? target.pythons[0] ?? '');
    return choosePython(wanted.python, fallback, stale ? (await this.target()).pythons : target.pythons);
  }

  async #lockText(wanted: Wanted, minor: string, platform: EnvironmentPlatform, asked: Asked): Promise<string> {
    checkOrigins(wanted.indexes, wanted.requirements, await this.#settings(), this.#needs.box === undefined);
    if (wanted.isLock) return canonicalLock(wanted.requirements);
    const settings = await this.#settings(wanted.indexes, asked.indexes);
    const requirements = wanted.requirements.map(({ text, hashes }) => [text, ...hashes]);
    const key = sha256(JSON.stringify([format, requirements, wanted.options, minor, platform, sourcesOf(settings)]));
    const file = join(this.#needs.cacheDir, 'locks', `${key}.txt`);
    return this.#locks.get(`${key} ${asked.fresh}`, asked, async (shared) => {
      const kept = asked.fresh ? undefined : await readFile(file, 'utf8').catch(() => undefined);
      if (kept !== undefined) return kept;
      shared.log(`Resolving ${wanted.requirements.length} requirements for Python ${minor}.`);
      const text = await resolve({ wanted, minor, platform, settings }, this.#uv, shared);
      await keep(file, text);
      return text;
    });
  }

  /** pip's configuration, over it the server's settings, over it what is given for this one call. */
  async #settings(...over: (IndexSettings | undefined)[]): Promise<IndexSettings> {
    const layers = [await this.#needs.indexes(), ...over];
    return layers.reduce<IndexSettings>(mergeSettings, await pipConfiguration(this.#needs.inherited));
  }
}

/** Of the settings, what decides which packages there are; proxies and certificates do not. */
function sourcesOf({ indexUrl, extraIndexUrls, noIndex, findLinks, strategy, preReleases }: IndexSettings): unknown[] {
  return [indexUrl, extraIndexUrls, noIndex, findLinks, strategy, preReleases];
}

function withPython(
  conda: { channels: string[]; packages: string[] },
  minor: string,
): { channels: string[]; packages: string[] } {
  const named = conda.packages.some((text) => condaAddress.test(text) || /^(\S+::)?python\b(?![\w-])/.test(text));
  return named ? conda : { ...conda, packages: [`python=${minor}`, ...conda.packages] };
}

export function thisPlatform(): EnvironmentPlatform {
  const name = `${{ linux: 'linux', darwin: 'macos', win32: 'windows' }[platform as string]}-${arch}`;
  if (
    name === 'linux-x64' ||
    name === 'linux-arm64' ||
    name === 'macos-x64' ||
    name === 'macos-arm64' ||
    name === 'windows-x64'
  )
    return name;
  throw new ServiceError(
    'failed-precondition',
    'environment.tool-missing',
    `Environments cannot be built on ${platform} with a processor of the kind ${arch}.`,
  );
}

/** Whole or not at all. */
async function keep(file: string, text: string): Promise<void> {
  await mkdir(join(file, '..'), { recursive: true, mode: 0o700 });
  const making = `${file}.${crypto.randomUUID()}`;
  await writeFile(making, text);
  await rename(making, file);
}
