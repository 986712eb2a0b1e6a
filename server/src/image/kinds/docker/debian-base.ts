// The base image for machines that no container registry can be reached from: made of Debian's packages by an ordinary
// user in about 5 seconds, once; afterwards it is taken from the cache folder. Same packages, same digest.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Bytes, Digest } from '../../../blob/bytes.ts';
import type { NetworkAccess } from '../../../environment/environments.ts';
import { type LayerEntry, LayoutBytes, OciImages, type Platform } from '../../../oci/oci-images.ts';
import { debianArchitecture, debianRelease, fetchPackages, hasDebianTools } from './debian-packages.ts';
import { compileStandardLibrary, pythonMinorOf, rootEntries, unpackPackages } from './debian-root.ts';
import { readRecord, writeRecord } from './record-file.ts';

/** With what they depend on about 45, of which most are small libraries. */
const packages = [
  ...['base-files', 'netbase', 'dash', 'libc-bin', 'ca-certificates'],
  ...['python3', 'python3-distutils', 'libstdc++6', 'libgomp1'],
];
/** Counts up when the making itself changes, so that bases of before are not taken for those of now. */
const recipe = 1;

export interface DebianBase {
  digest: Digest;
  pythonMinor: string;
  /** `name_version_architecture` each. */
  packages: string[];
}

export interface DebianNeeds {
  /** Kept between servers and data folders; may be deleted at any time. */
  cacheDir: string;
  network: NetworkAccess;
  /** Make it anew, from today's packages. */
  refresh?: boolean | undefined;
  log: (line: string) => void;
  signal?: AbortSignal | undefined;
}

/** Where the made base is stored, as the blobs of an OCI layout. */
export function debianBytes(cacheDir: string): Bytes {
  return new LayoutBytes(join(cacheDir, 'debian', 'layout'));
}

/** The store of made bases, for writing and for handing out: it has one image for each machine's architecture. */
export function debianOci(cacheDir: string, platform: Platform = { os: 'linux', architecture: '' }): OciImages {
  const passing = join(cacheDir, 'debian', 'passing');
  const noRegistries = { outbound: () => ({ allowedHosts: [] }), registries: () => [] };
  return new OciImages({ bytes: debianBytes(cacheDir), cacheDir: passing, platform, ...noRegistries });
}

/** The base image, from the cache or made now. */
export async function debianBase(needs: DebianNeeds): Promise<DebianBase> {
  if (!(await hasDebianTools())) {
    throw new ServiceError(
      'failed-precondition',
      'image.base-unavailable',
      'No base image can be made here: this machine has no apt-get and dpkg-deb. Give one that can be read: a reference to a registry within reach, an OCI layout, a docker-save archive or a root filesystem tar.',
    );
  }
  const record = join(needs.cacheDir, 'debian', `${await recipeKey()}.json`);
  const made = needs.refresh ? undefined : await readRecord<DebianBase>(record);
  if (made && (await debianBytes(needs.cacheDir).has(made.digest))) return made;
  const base = await make(needs);
  await writeRecord(record, base);
  return base;
}

async function recipeKey(): Promise<string> {
  const facts = [recipe, packages, await debianRelease(), await debianArchitecture()];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 16);
}

async function make({ cacheDir, network, log, signal }: DebianNeeds): Promise<DebianBase> {
  await mkdir(join(cacheDir, 'debian'), { recursive: true });
  const work = await mkdtemp(join(cacheDir, 'debian', '.partial-'));
  try {
    const debs = await fetchPackages(packages, { workDir: work, network, log, signal });
    log(`Unpacking ${debs.length} Debian packages.`);
    const root = join(work, 'root');
    await mkdir(root);
    await unpackPackages(debs, root, signal);
    const pythonMinor = await pythonMinorOf(root);
    const compiled = await compileStandardLibrary(root, pythonMinor, signal);
    if (!compiled) log("Python's library is left uncompiled: the packages' Python does not run on this machine.");
    const digest = await store(cacheDir, await rootEntries(root, compiled), signal);
    return { digest, pythonMinor, packages: debs.map((file) => nameOf(file)) };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function nameOf(deb: string): string {
  return decodeURIComponent(deb.slice(deb.lastIndexOf('/') + 1, -'.deb'.length));
}

async function store(cacheDir: string, entries: LayerEntry[], signal?: AbortSignal): Promise<Digest> {
  const platform = { os: 'linux', architecture: goArchitecture(await debianArchitecture()) };
  const oci = debianOci(cacheDir, platform);
  const layer = { ...(await oci.writeLayer(entries, signal)), note: 'base of Debian packages' };
  const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  const config = { env: { PATH: path, LANG: 'C.UTF-8' }, entrypoint: [], command: ['python3'] };
  const rest = { workingDir: '/', user: '', labels: {}, exposedPorts: [] };
  return (await oci.writeImage({ platform, layers: [layer], config: { ...config, ...rest } })).digest;
}

/** Debian's name of an architecture in Go's words, which OCI uses. */
function goArchitecture(debian: string): string {
  return { i386: '386', armhf: 'arm', armel: 'arm', ppc64el: 'ppc64le' }[debian] ?? debian;
}
