// The login node of a cluster, made ready for our jobs: a folder of this installation's own on the disk that the cluster shares, our Python package in
// it, and a small relay by which compute nodes reach this server. The relay lives as long as the connection does; nothing else of ours stays there.
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { RemoteEnded, RemoteProgram } from '../../../exec/ssh/connection.ts';
import { type Connected, SshConnections } from '../../../exec/ssh/connections.ts';
import type { Target } from '../../driver.ts';
import {
  bundled,
  connect,
  described,
  failureOf,
  furnished,
  hashOf,
  programOf,
  relayed,
  type SshNeeds,
} from '../ssh/machine.ts';
import { type Accounted, accounted } from './accounting.ts';
import { outputIn, scriptOf } from './batch.ts';
import type { Described, FolderState, Ground, Placed } from './ground.ts';
import type { Scheduler } from './scheduler.ts';

export interface LoginNode extends Connected, Described {
  /** This installation's own folder, the same on all nodes. */
  folder: string;
  /** Where our Python package is. */
  bundle: string;
  /** The file with the address of the relay. */
  relay: string;
}

type Asked = 'place' | 'look' | 'recover' | 'clean';

const answersWithinMs = 60_000;
const recoversWithinMs = 110_000;

export class LoginNodes {
  readonly #needs: SshNeeds;
  readonly #connections = new SshConnections<LoginNode>();

  constructor(needs: SshNeeds) {
    this.#needs = needs;
  }

  /** As the user there that a user here signs in as. */
  of(target: Target<'slurm'>, user?: string): Promise<LoginNode> {
    const own = bySsh(signedInAs(target, user));
    return this.#connections.get(JSON.stringify(own), () => this.#make(own));
  }

  async #make(target: BySsh<Target<'slurm'>>): Promise<LoginNode> {
    const { pythonPackage, connectHere, installation } = this.#needs;
    const connection = await connect(target, this.#needs);
    try {
      const place = await furnished(connection, target, installation);
      const { folder } = place;
      const bundle = await bundled(connection, target, place, pythonPackage);
      const own = `${folder}/relay/${hashOf(JSON.stringify([target.workspace, target.name]))}`;
      const socket = await relayed(connection, own, connectHere);
      const relay = `${own}.json`;
      const { relayAddress, wayBack } = target.settings;
      const by = wayBack === 'folder' ? ['--folder'] : relayAddress === undefined ? [] : ['--host', relayAddress];
      const words = ['-m', 'stellwerk.runner.login_relay', relay, socket, ...by];
      const [{ platform }, hasPmix] = await Promise.all([
        described(connection, target, bundle),
        connection.run({ words: ['srun', '--mpi=list'] }).then(({ stdout, stderr }) => /\bpmix/.test(stdout + stderr)),
        connection.keep(programOf(target, bundle, words)),
      ]);
      return { connection, folder, bundle, relay, platform, hasPmix };
    } catch (error) {
      connection.close();
      throw error;
    }
  }
}

type BySsh<T extends Target<'slurm'>> = T & { settings: { address: string } };

/** The target, if its login node is reached. */
export function bySsh<T extends Target<'slurm'>>(target: T): BySsh<T> {
  if (target.settings.address !== undefined) return target as BySsh<T>;
  throw new TargetError(
    'never',
    `That needs a login node of the cluster by SSH, which the compute target ${target.name} does not have.`,
  );
}

/** A cluster by its login node. */
export class OnLoginNode implements Ground {
  readonly scheduler: Scheduler;
  readonly folder: string;
  readonly #node: LoginNode;
  readonly #target: BySsh<Target<'slurm'>>;

  constructor(node: LoginNode, target: BySsh<Target<'slurm'>>, scheduler: Scheduler) {
    this.#node = node;
    this.#target = target;
    this.scheduler = scheduler;
    this.folder = node.folder;
  }

  async described(): Promise<Described> {
    return this.#node;
  }

  async place(folder: string, given: Job): Promise<Placed> {
    const { caBundle: _, ...rest } = given;
    const job = { ...rest, server: `relay:${this.#node.relay}`, cacheFolder: `${this.folder}/cache` };
    const script = scriptOf(folder, this.#node.bundle, this.#target.settings);
    const { job: taken } = await this.#ask('place', folder, JSON.stringify({ job, script }));
    return { job: taken, script, output: outputIn(folder) };
  }

  look(folder: string): Promise<FolderState> {
    return this.#ask('look', folder);
  }

  async recover(folder: string): Promise<void> {
    await this.#ask('recover', folder);
  }

  async clean(folder: string): Promise<void> {
    await this.#ask('clean', folder);
  }

  beside(folder: string, words: readonly string[]): Promise<Duplex> {
    return this.#node.connection.stream(this.#program('beside', folder, words));
  }

  accounted(id: string): Promise<Accounted> {
    return accounted(this.#node.connection, id);
  }

  async #ask(what: Asked, folder: string, input?: string): Promise<FolderState> {
    const ended: RemoteEnded = await this.#node.connection.run({
      ...this.#program(what, folder),
      ...(input !== undefined && { input }),
      takesLong: what === 'recover',
      timeoutMs: what === 'recover' ? recoversWithinMs : answersWithinMs,
    });
    if (ended.code !== 0) throw failureOf(this.#target, ended);
    return JSON.parse(ended.stdout) as FolderState;
  }

  /** The program over there that is asked about the folder of a job. */
  #program(what: Asked | 'beside', folder: string, words: readonly string[] = []): RemoteProgram {
    return programOf(this.#target, this.#node.bundle, ['-m', 'stellwerk.runner.login_node', what, folder, ...words]);
  }
}

/** The target with the sign-in of a user there, who has a folder of his own. */
export function signedInAs<T extends Target<'slurm'>>(target: T, user: string | undefined): T {
  const { settings } = target;
  const own = user === undefined ? undefined : settings.users?.[user];
  if (!own) {
    if (user !== undefined && settings.users && !settings.othersMay)
      throw new TargetError(
        'never',
        `The compute target ${target.name} has no sign-in for ${user}; whoever may change it can add one to its users.`,
      );
    return target;
  }
  const { key: _, passphrase: __, password: ___, token: ____, ...rest } = settings;
  const folder = settings.folder.startsWith('/') ? `${settings.folder}/${own.user}` : settings.folder;
  return { ...target, settings: { ...rest, ...own, folder } };
}
