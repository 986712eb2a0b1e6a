// A machine that is reached by SSH, made ready for our jobs: a folder of this installation's own, our Python package in it once per content, and a
// socket that leads back to this server for as long as the connection lives. Another installation with the same target has another folder.
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Duplex } from 'node:stream';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { type RemoteEnded, type RemoteProgram, SshConnection, type SshSignIn } from '../../../exec/ssh/connection.ts';
import { type Connected, SshConnections } from '../../../exec/ssh/connections.ts';
import type { Capacity, Target } from '../../driver.ts';

/** Kinds whose runs are executed by a machine that is reached by SSH. */
type SshKind = 'ssh' | 'spark';
export type SshTarget = { [K in SshKind]: Target<K> }[SshKind];

export interface SshNeeds {
  /** A word that no other installation has. */
  installation: string;
  /** Our Python package, a wheel. */
  pythonPackage: string;
  /** Opens a secret that the settings of a target name. */
  secret(target: Pick<Target, 'workspace' | 'name'>, secret: string): Promise<string>;
  /** A connection to this server, for what a job over there says to it. */
  connectHere(): Duplex;
}

/** A target of any kind whose machine is reached by SSH. */
export interface BySsh {
  workspace: string;
  name: string;
  settings: Pick<
    Target<'ssh'>['settings'],
    'address' | 'port' | 'user' | 'hostKey' | 'key' | 'passphrase' | 'password' | 'folder' | 'python'
  >;
}

export interface Machine extends Connected {
  /** This installation's own folder over there. */
  folder: string;
  /** Where our Python package is. */
  bundle: string;
  /** The socket that leads here. */
  relay: string;
  capacity: Capacity;
  /** What environments are resolved for. */
  platform: EnvironmentTarget;
}

/** Linux does not take a longer path for a socket. */
const longestSocketPath = 107;
const leastFreeKilobytes = 32 * 1024;
const forgetsWithinMs = 60_000;

/** Prints where the folder really is, and how much room there is; makes what is not there. Others may pass through it where they have to. */
const furnish = `
umask "$2"
mkdir -p -- "$1/bundles" "$1/jobs" "$1/relay" && cd -- "$1" && chmod 700 bundles jobs relay && chmod "$3" . && pwd -P || exit 1
df -Pk . | awk 'END { print $4 }'
ls bundles
`;

/** Unpacks a wheel, whole or not at all. */
const unpack = `
import compileall, os, shutil, sys, zipfile
wheel, place, making = sys.argv[1:]
try:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(making)
    compileall.compile_dir(making, quiet=2)
    try:
        os.rename(making, place)
    except OSError:
        if not os.path.isdir(place): raise
finally:
    shutil.rmtree(making, ignore_errors=True)
    os.unlink(wheel)
`;

/** Of an earlier connection to the same target; sshd leaves them. */
const removeOthers = 'for file in "$1"-*; do [ "$file" = "$2" ] || rm -f -- "$file"; done';

interface MachinesMore {
  /** In place of our own. */
  signIn?: typeof connect;
  /** Other users of the machine may reach environments in the folder; jobs they may not. */
  othersPass?: boolean;
}

export class Machines {
  readonly #needs: SshNeeds;
  readonly #more: MachinesMore;
  readonly #connections = new SshConnections<Machine>();

  constructor(needs: SshNeeds, more: MachinesMore = {}) {
    this.#needs = needs;
    this.#more = more;
  }

  of(target: SshTarget): Promise<Machine> {
    return this.#connections.get(nameOf(target), () => this.#make(target));
  }

  /** This installation's folder over there, unless somebody else uses it. What of it is needed again is made again. */
  async forget(target: SshTarget): Promise<void> {
    const { connection, bundle, folder, relay } = await this.of(target);
    const words = ['-m', 'stellwerk.runner.bundles', 'forget', folder, '--relay', relay];
    const done = await connection.run({ ...programOf(target, bundle, words), timeoutMs: forgetsWithinMs });
    connection.close();
    if (done.code !== 0) throw failureOf(target, done);
  }

  async #make(target: SshTarget): Promise<Machine> {
    const { signIn = connect, othersPass } = this.#more;
    const connection = await signIn(target, this.#needs);
    try {
      const place = await furnished(connection, target, this.#needs.installation, othersPass);
      const { folder } = place;
      const bundle = await bundled(connection, target, place, this.#needs.pythonPackage);
      const [relay, { platform, ...capacity }] = await Promise.all([
        relayed(connection, `${folder}/relay/${hashOf(nameOf(target))}`, this.#needs.connectHere),
        described(connection, target, bundle),
      ]);
      return {
        connection,
        folder,
        bundle,
        relay,
        platform,
        capacity,
      };
    } catch (error) {
      connection.close();
      throw error;
    }
  }
}

/** Our Python package, unpacked over there; others of it that no job uses any more are removed. */
export async function bundled(
  connection: SshConnection,
  target: BySsh,
  place: Furnished,
  pythonPackage: string,
): Promise<string> {
  const { folder, bundles } = place;
  const content = await readFile(pythonPackage);
  const digest = createHash('sha256').update(content).digest('hex').slice(0, 24);
  const bundle = `${folder}/bundles/${digest}`;
  if (!bundles.includes(digest)) await unpacked(connection, target, place, content, bundle, pythonPackage);
  if (bundles.some((name) => name !== digest))
    await connection.run(programOf(target, bundle, ['-m', 'stellwerk.runner.bundles', 'prune', folder]));
  return bundle;
}

async function unpacked(
  connection: SshConnection,
  target: BySsh,
  { folder, freeKilobytes }: Furnished,
  content: Uint8Array,
  bundle: string,
  name: string,
): Promise<void> {
  if (freeKilobytes < leastFreeKilobytes)
    throw new TargetError(
      'never',
      `The disk of ${target.settings.address} is full: ${folder} has ${Math.round(freeKilobytes / 1024)} MB left.`,
    );
  const making = `${bundle}.${randomBytes(6).toString('hex')}`;
  const wheel = `${making}-${basename(name)}`;
  await connection.put(content, wheel);
  const done = await connection.run({
    words: [target.settings.python, '-I', '-S', '-c', unpack, wheel, bundle, making],
  });
  if (done.code !== 0) throw failureOf(target, done);
}

/** A socket over there that leads here, in the place of those that earlier connections to the same target left. */
export async function relayed(connection: SshConnection, own: string, connectHere: () => Duplex): Promise<string> {
  const path = `${own}-${randomBytes(4).toString('hex')}`;
  if (path.length > longestSocketPath)
    throw new TargetError('never', `The path ${path} is too long for a socket; choose a shorter folder.`);
  await connection.relay(path, connectHere);
  await connection.run({ words: ['sh', '-c', removeOthers, 'sh', own, path] });
  return path;
}

export async function connect(target: BySsh, needs: Pick<SshNeeds, 'secret'>): Promise<SshConnection> {
  const { address, port, user, hostKey } = target.settings;
  if (hostKey === undefined) throw new TargetError('never', `The host key of ${address} is not known yet.`);
  return SshConnection.open({ address, port, user, hostKey }, await signInOf(target, needs));
}

async function signInOf(target: BySsh, needs: Pick<SshNeeds, 'secret'>): Promise<SshSignIn> {
  const { key, passphrase, password } = target.settings;
  const secret = (name: string) => needs.secret(target, name);
  return {
    ...(key !== undefined && { key: await secret(key) }),
    ...(passphrase !== undefined && { passphrase: await secret(passphrase) }),
    ...(password !== undefined && { password: await secret(password) }),
  };
}

export interface Furnished {
  folder: string;
  bundles: string[];
  freeKilobytes: number;
}

/** The folder of an installation over there. */
export async function furnished(
  connection: SshConnection,
  { settings }: BySsh,
  installation: string,
  othersPass = false,
): Promise<Furnished> {
  const wanted = `${settings.folder.replace(/^~\//, '').replace(/\/+$/, '')}/${installation}`;
  const done = await connection.run({
    words: ['sh', '-c', furnish, 'sh', wanted, ...(othersPass ? ['066', '711'] : ['077', '700'])],
  });
  const [folder, free, ...bundles] = done.stdout.trim().split('\n');
  if (done.code !== 0 || !folder?.startsWith('/'))
    throw new TargetError('never', `The folder ${wanted} on ${settings.address} cannot be used: ${done.stderr.trim()}`);
  return { folder, bundles, freeKilobytes: Number(free) };
}

/** What the machine has. */
export async function described(connection: SshConnection, target: BySsh, bundle: string) {
  const done = await connection.run(programOf(target, bundle, ['-m', 'stellwerk.runner.remote', 'describe']));
  if (done.code !== 0) throw failureOf(target, done);
  return JSON.parse(done.stdout) as Capacity & { platform: EnvironmentTarget };
}

/** Our Python package with these arguments. -S: what is installed beside that machine's Python has no say in a runner, and does not delay it. */
export function programOf({ settings }: Pick<BySsh, 'settings'>, bundle: string, args: string[]): RemoteProgram {
  return { words: [settings.python, '-S', ...args], env: { PYTHONPATH: bundle, PYTHONDONTWRITEBYTECODE: '1' } };
}

/** What a program of ours over there says when it cannot do its work; a machine that lacks something will not have it by itself. */
export function failureOf(
  { settings }: Pick<BySsh, 'settings'>,
  { code, signal, stdout, stderr }: RemoteEnded,
): TargetError {
  const { address, python } = settings;
  if (code === 127 || code === 126)
    return new TargetError(
      'never',
      `${python} cannot be started on ${address}: install Python 3.8 or newer with venv there, or name where it is.`,
    );
  const said = (stderr || stdout).trim().split('\n').at(-1) || `it ended with ${signal ?? `exit code ${code}`}`;
  if (/No space left on device|Disk quota exceeded/.test(stderr))
    return new TargetError('never', `The disk of ${address} is full: ${said}`);
  return new TargetError('later', `On ${address}: ${said}`);
}

function nameOf({ workspace, name, settings }: SshTarget): string {
  return JSON.stringify([workspace, name, settings]);
}

export const hashOf = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 8);
