// A target that is made: a partition of its own on an attached cluster, with nodes of the features that were asked for. Nodes that are always on come
// first; the others are switched on and off by Slurm's power saving as they are needed, and by us where Slurm itself cannot be told how many are to
// stay on, and for how long an idle one is. The user of the attached cluster must be an administrator of it.
// Invariants: the partition's name is made from those of workspace and target, so that making it again finds it; what is removed was made here.
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { ProvisioningOf } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { RemoteEnded, SshConnection } from '../../../exec/ssh/connection.ts';
import type { IsProvisioned, StartWatch, Target } from '../../driver.ts';
import type { LoginNodes } from './login-node.ts';
import { standingOf } from './nodes.ts';
import { nodesOf } from './scheduler.ts';

type Place = Pick<Target, 'workspace' | 'name'>;
type Wanted = ProvisioningOf<'slurm'>;

/** A node, once for each of its partitions in what Slurm lists. */
interface Node {
  name: string;
  features: string[];
  partitions: string[];
  isAlwaysOn: boolean;
  standing: ReturnType<typeof standingOf>;
}

/** Of all that was made by any installation. */
const ours = 'stellwerk-';
const switchedOnWithinPolls = 60;
const pollMs = 1_000;

export class Partitions implements IsProvisioned<'slurm'> {
  readonly on = 'slurm';
  readonly #nodes: LoginNodes;
  readonly #installation: string;

  constructor(nodes: LoginNodes, installation: string) {
    this.#nodes = nodes;
    this.#installation = installation;
  }

  async provide(place: Place, wanted: Wanted, on: Target, watch: StartWatch = {}): Promise<SettingsOf<'slurm'>> {
    const base = on as Target<'slurm'>;
    const { connection } = await this.#nodes.of(base);
    const partition = this.#nameOf(place);
    const nodes = chosen(await listed(connection), partition, wanted);
    const isThere = (await run(connection, ['scontrol', 'show', 'partition', partition])).code === 0;
    const names = nodes.map(({ name }) => name).join(',');
    await done(connection, [
      'scontrol',
      isThere ? 'update' : 'create',
      `PartitionName=${partition}`,
      `Nodes=${names}`,
      'State=UP',
    ]);
    watch.log?.(`The partition ${partition} has the nodes ${names}.`);
    await kept(connection, nodes.slice(0, wanted.minNodes), watch);
    return { ...base.settings, partition };
  }

  async remove(place: Place, _: Wanted, on: Target): Promise<void> {
    const { connection } = await this.#nodes.of(on as Target<'slurm'>);
    const partition = this.#nameOf(place);
    if ((await run(connection, ['scontrol', 'show', 'partition', partition])).code !== 0) return;
    await done(connection, ['scontrol', 'delete', `PartitionName=${partition}`]);
  }

  /** Those of the least number that are off are switched on, others that were idle for long enough are switched off. */
  async tend(place: Place, { minNodes, idleSecondsBeforeScaleDown }: Wanted, on: Target): Promise<void> {
    const { connection } = await this.#nodes.of(on as Target<'slurm'>);
    const partition = this.#nameOf(place);
    const own = alwaysOnFirst((await listed(connection)).filter(({ partitions }) => partitions.includes(partition)));
    const [least, others] = [own.slice(0, minNodes), own.slice(minNodes)];
    await switched(connection, namesOf(least, 'off'), 'POWER_UP');
    const idle = namesOf(others, 'idle');
    const longest = idle.length > 0 ? await idleFor(connection, idle, idleSecondsBeforeScaleDown) : [];
    await switched(connection, longest, 'POWER_DOWN');
  }

  #nameOf({ workspace, name }: Place): string {
    const hash = createHash('sha256')
      .update(JSON.stringify([this.#installation, workspace, name]))
      .digest('hex');
    return `${ours}${name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .slice(0, 24)}-${hash.slice(0, 8)}`;
  }
}

/** Those that are always on first, and none that another made partition has. */
function chosen(all: readonly Node[], partition: string, { vmSize, maxNodes }: Wanted): Node[] {
  const has = ({ features }: Node) =>
    (vmSize ?? '').split('|').some((any) => any.split(/[&,]/).every((one) => one === '' || features.includes(one)));
  const fitting = all.filter(has);
  if (fitting.length === 0) {
    const known = [...new Set(all.flatMap(({ features }) => features))].sort();
    throw new TargetError(
      'never',
      `The cluster has no nodes with the features ${vmSize}; it has ${known.join(', ') || 'none at all'}.`,
    );
  }
  const free = fitting.filter(
    ({ partitions }) => !partitions.some((name) => name.startsWith(ours) && name !== partition),
  );
  if (free.length < maxNodes)
    throw new TargetError(
      'never',
      `The cluster has ${free.length} such nodes that no other target was made of, not ${maxNodes}.`,
    );
  return alwaysOnFirst(free).slice(0, maxNodes);
}

function alwaysOnFirst(nodes: Node[]): Node[] {
  return nodes.sort((one, other) => Number(other.isAlwaysOn) - Number(one.isAlwaysOn));
}

/** Those that can be switched at all. */
const namesOf = (nodes: readonly Node[], standing: Node['standing']) =>
  nodes.filter((node) => !node.isAlwaysOn && node.standing === standing).map(({ name }) => name);

/** A node that gets a job in the same moment is switched off after it only. */
async function switched(connection: SshConnection, names: string[], state: 'POWER_UP' | 'POWER_DOWN'): Promise<void> {
  if (names.length > 0) await done(connection, ['scontrol', 'update', `NodeName=${names.join(',')}`, `State=${state}`]);
}

/** By the clock of the cluster. */
const askBusy = 'date +%s; SLURM_TIME_FORMAT=%s exec scontrol show node -o "$1"';

async function idleFor(connection: SshConnection, names: string[], seconds: number): Promise<string[]> {
  const [now, ...lines] = (await done(connection, ['sh', '-c', askBusy, 'sh', names.join(',')])).split('\n');
  return lines.flatMap((line) => {
    const [, name] = /^NodeName=(\S+)/.exec(line) ?? [];
    const [, busy] = / LastBusyTime=(\d+)/.exec(line) ?? [];
    return name !== undefined && busy !== undefined && Number(now) - Number(busy) >= seconds ? [name] : [];
  });
}

/** So many are on at any time: Slurm is told not to switch them off, or, where it cannot be told while it runs, they are only switched on now. */
async function kept(connection: SshConnection, nodes: readonly Node[], { log, signal }: StartWatch): Promise<void> {
  const names = nodes.filter(({ isAlwaysOn }) => !isAlwaysOn).map(({ name }) => name);
  if (names.length === 0) return;
  const told = await run(connection, ['scontrol', 'update', `SuspendExcNodes+=${names.join(',')}`]);
  if (told.code !== 0)
    log?.(
      `This version of Slurm cannot be told to keep ${names.join(', ')} on: have its administrator name them in SuspendExcNodes, or they are switched off when they are idle, and on again a moment later.`,
    );
  for (let polls = 0; polls < switchedOnWithinPolls && !signal?.aborted; polls++) {
    const those = (await listed(connection)).filter(({ name }) => names.includes(name));
    const off = those.filter(({ standing }) => standing === 'off').map(({ name }) => name);
    if (those.every(({ standing }) => standing === 'idle' || standing === 'running')) return;
    // One that is just being switched off does not take it; it is told again.
    if (off.length > 0) await run(connection, ['scontrol', 'update', `NodeName=${off.join(',')}`, 'State=POWER_UP']);
    await pause(pollMs);
  }
  log?.(`Not all of ${names.join(', ')} are on yet; Slurm goes on starting them.`);
}

async function listed(connection: SshConnection): Promise<Node[]> {
  const [nodes, configuration] = await Promise.all([
    done(connection, ['sinfo', '-a', '-h', '-N', '-o', '%N|%f|%P|%T']),
    done(connection, ['scontrol', 'show', 'config']),
  ]);
  const alwaysOn = new Set(
    nodesOf(/^SuspendExcNodes\s*=\s*(.*)$/m.exec(configuration)?.[1]?.trim().replace(/:\d+/g, '') ?? ''),
  );
  const savesPower =
    /^SuspendProgram\s*=\s*\//m.test(configuration) && !/^SuspendTime\s*=\s*(INFINITE|NONE)/m.test(configuration);
  const found = new Map<string, Node>();
  for (const [name, features, partition, state] of nodes
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split('|') as [string, string, string, string])) {
    const known = found.get(name);
    const partitions = [...(known?.partitions ?? []), partition.replace(/\*$/, '')];
    const isAlwaysOn = !savesPower || alwaysOn.has(name);
    found.set(name, {
      name,
      features: features === '(null)' ? [] : features.split(','),
      partitions,
      isAlwaysOn,
      standing: standingOf(state),
    });
  }
  return [...found.values()];
}

const run = (connection: SshConnection, words: string[]): Promise<RemoteEnded> =>
  connection.run({ words, timeoutMs: 60_000 });

async function done(connection: SshConnection, words: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(connection, words);
  if (code === 0) return stdout;
  const said = (stderr || stdout).trim().split('\n').at(-1)!;
  const hint = /denied|Invalid user|permission/i.test(said)
    ? ' Its user must be an administrator of the cluster: sacctmgr modify user … set adminlevel=admin.'
    : '';
  throw new TargetError(
    /Unable to contact|timed out/i.test(said) ? 'later' : 'never',
    `Slurm: ${said.replace(/[.\s]+$/, '')}.${hint}`,
  );
}
