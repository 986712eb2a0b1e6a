// A machine with sshd for the tests of this kind, and drivers that reach it as those of an installation do.
import { readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { SshHost, type SshHostOptions } from '../../../../../test/engines/ssh/ssh-host.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Tried } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import type { LastCall } from '../../last-call.fixture.ts';
import type { RealServer } from '../../real-server.fixture.ts';
import { DockerDriver } from '../docker/docker.ts';
import { SshJobs } from './jobs.ts';
import { connect, Machines } from './machine.ts';
import { SshDriver } from './ssh.ts';

export interface OnHost extends Tried<'ssh'> {
  driver(): SshDriver;
  host: SshHost;
  /** That of another installation, which knows the same target. */
  another(): SshDriver;
  /** After an update: it has another package. */
  updated(): Promise<SshDriver>;
}

export function targetOn(host: SshHost, more: Partial<Target<'ssh'>['settings']> = {}): Target<'ssh'> {
  const { address, port, user, hostKey } = host;
  const plain = { folder: '.stellwerk', python: 'python3' };
  return {
    workspace: 'suite',
    name: 'vm',
    settings: { kind: 'ssh', address, port, user, hostKey, key: 'key', ...plain, ...more },
  };
}

/** Connections whose every use over there is a call. */
function dyingConnect(last: LastCall): typeof connect {
  return async (target, needs) => {
    const connection = await connect(target, needs);
    last.atEnd(() => connection.close());
    return last.of(connection, ['run', 'put', 'relay']);
  };
}

export async function onHost(server: Pick<RealServer, 'url'>, options: SshHostOptions = {}): Promise<OnHost> {
  const host = await SshHost.up(options);
  const secrets: Record<string, string> = { key: host.key(), password: host.password, wrong: 'guessed' };
  const pythonPackage = (await wheelPath())!;
  const needsOf = (installation: string, own = pythonPackage) => ({
    installation,
    pythonPackage: own,
    secret: async (_: unknown, name: string) => secrets[name]!,
    connectHere: () => connectTo(server.url),
    secrets: { has: async (_: string, name: string) => name in secrets, keep: async () => {}, drop: async () => {} },
  });
  const driverOf = (installation: string, own?: string) => {
    const needs = needsOf(installation, own);
    return new SshDriver(needs, new DockerDriver(needs));
  };
  const jobs = () => host.shell(`ls ${host.home}/.stellwerk/*/jobs`);
  return {
    host,
    driver: () => driverOf('suite'),
    another: () => driverOf('another'),
    async updated() {
      const other = join(host.folder, basename(pythonPackage));
      await writeFile(other, Buffer.concat([await readFile(pythonPackage), Buffer.from('\n')]));
      return driverOf('suite', other);
    },
    dying: (last) => new SshJobs(new Machines(needsOf('suite'), { signIn: dyingConnect(last) })),
    target: targetOn(host),
    leftovers: async () => [
      ...jobs()
        .split('\n')
        .filter((line) => /^[0-9a-f]{32}$/.test(line)),
      ...host.processes(),
    ],
    alive: (pids) => pids.filter((pid) => /State:\s+[^ZX\s]/.test(host.shell(`cat /proc/${pid}/status 2>&1 || true`))),
    end: () => host.down(),
  };
}
