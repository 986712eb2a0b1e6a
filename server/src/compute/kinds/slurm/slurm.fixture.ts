// A cluster for the tests of this kind, and drivers that reach it as those of an installation do.
import { type AddressInfo, connect, createServer } from 'node:net';
import { SlurmCluster } from '../../../../../test/engines/slurm/slurm-cluster.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Tried } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import type { LastCall } from '../../last-call.fixture.ts';
import type { RealServer } from '../../real-server.fixture.ts';
import type { SshNeeds } from '../ssh/machine.ts';
import { Commands } from './commands.ts';
import { SlurmJobs } from './jobs.ts';
import { bySsh, LoginNodes, OnLoginNode, signedInAs } from './login-node.ts';
import type { SlurmNeeds } from './probe.ts';
import { SlurmDriver } from './slurm.ts';

type Settings = Target<'slurm'>['settings'];

export interface OnCluster extends Tried<'slurm'> {
  /** Its jobs reach this server by the address, if one is given. */
  driver(publicUrl?: string): SlurmDriver;
  cluster: SlurmCluster;
  /** That of another installation, which knows the same target. */
  another(): SlurmDriver;
}

export function targetOn(cluster: SlurmCluster, more: Partial<Settings> = {}): Target<'slurm'> {
  const { address, port, hostKey } = cluster;
  const reached = {
    address,
    port,
    hostKey,
    user: 'trainer',
    key: 'trainer-key',
    folder: '.stellwerk',
    python: 'python3',
  };
  const plain = {
    othersMay: true,
    wayBack: 'relay' as const,
    sbatch: [],
    setUp: [],
    partition: 'batch',
  };
  return { workspace: 'suite', name: 'cluster', settings: { kind: 'slurm', ...reached, ...plain, ...more } };
}

/** Every use of a login node that has been made ready is a call; how it is made ready is tried by the kind `ssh`. */
function dyingJobs(needs: SshNeeds, last: LastCall): SlurmJobs {
  const nodes = new LoginNodes(needs);
  const of: LoginNodes['of'] = async (target, user) => {
    const node = await nodes.of(target, user);
    last.atEnd(() => node.connection.close());
    return { ...node, connection: last.of(node.connection, ['run']) };
  };
  return new SlurmJobs({
    async of(target, user) {
      const [node, own] = [await of(target, user), bySsh(signedInAs(target, user))];
      return new OnLoginNode(node, own, new Commands(node.connection, own.settings.user));
    },
  });
}

export async function onCluster(
  server: Pick<RealServer, 'url' | 'publicUrl'>,
  more: (cluster: SlurmCluster) => Partial<Settings> = () => ({}),
  { root }: { root?: string } = {},
): Promise<OnCluster> {
  const cluster = await SlurmCluster.up({ ...(root !== undefined && { root }) });
  const secrets: Record<string, string> = {
    'trainer-key': cluster.key('trainer'),
    'alice-key': cluster.key('alice'),
    'chief-key': cluster.key('chief'),
    'trainer-token': cluster.token('trainer'),
    'alice-token': cluster.token('alice'),
    wrong: 'guessed',
  };
  const pythonPackage = (await wheelPath())!;
  const needsOf = (installation: string): SlurmNeeds => ({
    installation,
    pythonPackage,
    secret: async (_, name) => secrets[name]!,
    connectHere: () => connectTo(server.url),
    publicUrl: () => server.publicUrl,
  });
  return {
    cluster,
    driver: (publicUrl = server.publicUrl) => new SlurmDriver({ ...needsOf('suite'), publicUrl: () => publicUrl }),
    another: () => new SlurmDriver(needsOf('another')),
    dying: (last) => dyingJobs(needsOf('suite'), last),
    target: targetOn(cluster, more(cluster)),
    leftovers: async () => leftoversOn(cluster),
    alive: (pids) => pids.filter((pid) => isAliveOn(cluster, pid)),
    end: () => cluster.down(),
  };
}

/** Nobody signs in to its login node; nodes reach this server by themselves. */
export async function onClusterByRest(server: RealServer, of: { root?: string } = {}): Promise<OnCluster> {
  const alone = { token: 'trainer-token', address: undefined, hostKey: undefined, key: undefined };
  const there = await onCluster(server, ({ restUrl }) => ({ restUrl, ...alone }), of);
  const leading = createServer((near) => {
    const far = connect(Number(new URL(server.url).port), '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => leading.listen(0, there.cluster.near, resolve));
  there.cluster.leadTo((leading.address() as AddressInfo).port);
  const end = async () => {
    leading.close();
    await there.end();
  };
  return { ...there, end };
}

/** Folders of jobs, jobs, and processes but those of the relays that the connections keep. */
export function leftoversOn(cluster: SlurmCluster): string[] {
  const folders = cluster.shell('ls -d /srv/*/.stellwerk/*/jobs/* 2>/dev/null || true').split('\n');
  const jobs = cluster.shell('squeue -h -a -o "%A %j %T"').split('\n');
  const processes = cluster.processes().filter((line) => !line.includes('stellwerk.runner.login_relay'));
  return [...folders, ...jobs, ...processes].filter((line) => line !== '');
}

/** What a script calls its process is so in the processes of its node. */
function isAliveOn(cluster: SlurmCluster, pid: string): boolean {
  const each = `for of in $(pgrep -u trainer); do grep -q '^NSpid:.*[[:space:]]${pid}$' /proc/$of/status && ! grep -q '^State:[[:space:]]*[ZX]' /proc/$of/status && echo $of; done; true`;
  return cluster.shell(each).trim() !== '';
}
