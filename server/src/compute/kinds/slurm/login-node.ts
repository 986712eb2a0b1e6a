// The login node of a cluster, made ready for our jobs: a folder of this installation's own on the disk that the cluster shares, our Python package in
// it, and a small relay by which compute nodes reach this server. The relay lives as long as the connection does; nothing else of ours stays there.
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
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

export interface LoginNode extends Connected {
  /** This installation's own folder, the same on all nodes. */
  folder: string;
  /** Where our Python package is. */
  bundle: string;
  /** The file with the address of the relay. */
  relay: string;
  /** What environments are resolved for. */
  platform: EnvironmentTarget;
  /** Whether Slurm has a plugin by which Open MPI's ranks find each other. */
  hasPmix: boolean;
}

export type Asked = 'place' | 'look' | 'recover' | 'clean';

/** How the folder of a job stands. */
export interface FolderState {
  there: boolean;
  job: string | null;
  tail: string[];
}

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
    const own = signedInAs(target, user);
    return this.#connections.get(JSON.stringify(own), () => this.#make(own));
  }

  async #make(target: Target<'slurm'>): Promise<LoginNode> {
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

/** Asks about the folder of a job. */
export async function askAbout(
  { connection, bundle }: LoginNode,
  target: Target<'slurm'>,
  what: Asked,
  folder: string,
  input?: string,
): Promise<FolderState> {
  const ended: RemoteEnded = await connection.run({
    ...aboutFolder(target, bundle, what, folder),
    ...(input !== undefined && { input }),
    timeoutMs: what === 'recover' ? recoversWithinMs : answersWithinMs,
  });
  if (ended.code !== 0) throw failureOf(target, ended);
  return JSON.parse(ended.stdout) as FolderState;
}

/** The program over there that is asked about the folder of a job. */
export function aboutFolder(
  target: Target<'slurm'>,
  bundle: string,
  what: Asked | 'beside',
  folder: string,
  words: readonly string[] = [],
): RemoteProgram {
  return programOf(target, bundle, ['-m', 'stellwerk.runner.login_node', what, folder, ...words]);
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
