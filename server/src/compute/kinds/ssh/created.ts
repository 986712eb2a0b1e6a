// Machines that are made: a container with sshd on an attached Docker Engine, which is from then on used like any machine by SSH. Its keys are made
// here: the one to sign in with goes into the vault, the one that it is known by is told, so that neither is ever taken on trust.
// Invariants: one container and one volume (its home) by workspace and name, however often it is asked for; removing takes both, and the secret.
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { readOf } from '@stellwerk/contract/resources.ts';
import { newKeys, shownHostKey } from '../../../exec/ssh/connection.ts';
import type { LayerEntry } from '../../../oci/layer-entry.ts';
import type { IsProvisioned, StartWatch, Target } from '../../driver.ts';
import { inspected, printedBy, putInto, removeContainer, startContainer } from '../docker/containers.ts';
import type { DockerDriver } from '../docker/docker.ts';
import { type Engine, EngineRefusal } from '../docker/engine.ts';
import { requiredImage } from '../docker/images.ts';
import { labelsOf } from '../docker/places.ts';

type Place = Pick<Target, 'workspace' | 'name'>;
type Wanted = Parameters<IsProvisioned<'ssh'>['provide']>[1];

export interface MachineNeeds {
  installation: string;
  /** The vault's; `keep` makes a secret or a new version of it. */
  secrets: {
    has(workspace: string, name: string): Promise<boolean>;
    keep(workspace: string, name: string, value: string): Promise<void>;
    drop(workspace: string, name: string): Promise<void>;
  };
}

const user = 'trainer';
const home = `/srv/${user}`;
const folder = 'etc/stellwerk-machine';
const portTries = 20;
const answersWithinTries = 100;
const keyLabel = 'org.stellwerk.host-key';
const portLabel = 'org.stellwerk.port';

/** Puts the user and its keys in place, whichever of the usual tools the image has, and becomes sshd. */
const begin = `
set -e
id ${user} >/dev/null 2>&1 || useradd -d ${home} -s /bin/bash ${user} || adduser -D -h ${home} ${user}
usermod -p '*' ${user} 2>/dev/null || true
mkdir -p /run/sshd
chown ${user} ${home}
sshd=$(command -v sshd || echo /usr/sbin/sshd)
[ -x "$sshd" ] || { echo "there is no sshd in it" >&2; exit 1; }
command -v python3 >/dev/null || { echo "there is no python3 in it" >&2; exit 1; }
exec "$sshd" -D -e -f /${folder}/sshd_config
`;

const sshdConfig = `Port 22
HostKey /${folder}/host_key
AuthorizedKeysFile /${folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers ${user}
AllowStreamLocalForwarding yes
Subsystem sftp internal-sftp
`;

export class MadeMachines implements IsProvisioned<'ssh'> {
  readonly on = 'docker';
  readonly #needs: MachineNeeds;
  readonly #docker: DockerDriver;

  constructor(needs: MachineNeeds, docker: DockerDriver) {
    this.#needs = needs;
    this.#docker = docker;
  }

  async provide(place: Place, wanted: Wanted, on: Target, watch: StartWatch = {}): Promise<SettingsOf<'ssh'>> {
    const engineTarget = on as Target<'docker'>;
    const engine = this.#docker.engineOf(engineTarget);
    return refusals(engine, async () => {
      const name = this.#nameOf(place);
      const isSame = await this.#isThere(engine, name, place, wanted, engineTarget);
      if (!isSame) await this.#make(engine, name, place, wanted, engineTarget, watch);
      const { Labels } = (
        await engine.ask<{ Config: { Labels: Record<string, string> } }>({
          path: `/containers/${name}/json`,
        })
      ).Config;
      const address = addressOf(engineTarget);
      const port = Number(Labels[portLabel]);
      await untilAnswers(engine, name, { address, port });
      const plain = { folder: '.stellwerk', python: 'python3', hostKey: Labels[keyLabel]! };
      return { kind: 'ssh', address, port, user, key: secretOf(place), ...plain };
    });
  }

  async remove(place: Place, _: Wanted, on: Target): Promise<void> {
    const engine = this.#docker.engineOf(on as Target<'docker'>);
    const name = this.#nameOf(place);
    await refusals(engine, async () => {
      await removeContainer(engine, name);
      await engine.tell({ method: 'DELETE', path: `/volumes/${name}`, query: { force: true }, also: [404] });
    });
    if (await this.#needs.secrets.has(place.workspace, secretOf(place)))
      await this.#needs.secrets.drop(place.workspace, secretOf(place));
  }

  /** Running, of the wanted image, with its key in the vault; what it may take is changed as it runs. */
  async #isThere(engine: Engine, name: string, place: Place, wanted: Wanted, on: Target<'docker'>): Promise<boolean> {
    const seen = await inspected(engine, name);
    if (!seen?.State.Running || !(await this.#needs.secrets.has(place.workspace, secretOf(place)))) return false;
    const { id } = await requiredImage(engine, wanted.image ?? on.settings.image);
    if (seen.Image !== id) return false;
    const { NanoCpus = 0, Memory = 0, MemorySwap = 0 } = takenBy(wanted);
    await engine.tell({ method: 'POST', path: `/containers/${name}/update`, body: { NanoCpus, Memory, MemorySwap } });
    return true;
  }

  async #make(engine: Engine, name: string, place: Place, wanted: Wanted, on: Target<'docker'>, watch: StartWatch) {
    const image = await requiredImage(engine, wanted.image ?? on.settings.image, undefined, watch);
    const [own, host] = await Promise.all([newKeys(), newKeys()]);
    await this.#needs.secrets.keep(place.workspace, secretOf(place), own.private);
    const labels = { ...labelsOf(this.#needs.installation, 'machine'), [keyLabel]: host.public };
    for (let tried = 0; ; tried++) {
      const port = portOf(name, tried);
      await removeContainer(engine, name);
      await engine.tell({
        method: 'POST',
        path: '/containers/create',
        query: { name },
        body: {
          Image: image.id,
          Entrypoint: [],
          Cmd: ['/bin/sh', '-c', begin],
          Labels: { ...labels, [portLabel]: String(port) },
          User: '0:0',
          Hostname: place.name.toLowerCase(),
          ExposedPorts: { '22/tcp': {} },
          HostConfig: {
            ...takenBy(wanted),
            Mounts: [{ Type: 'volume', Source: name, Target: `${home}` }],
            PortBindings: { '22/tcp': [{ HostPort: String(port) }] },
            RestartPolicy: { Name: 'unless-stopped' },
            Init: true,
          },
        },
      });
      await putInto(engine, name, filesOf(own.public, host.private));
      try {
        await startContainer(engine, name);
        watch.log?.(`The container ${name} has been started.`);
        return;
      } catch (error) {
        const isTaken =
          error instanceof EngineRefusal && /port is already allocated|address already in use/.test(error.message);
        if (!isTaken || tried === portTries) throw error;
      }
    }
  }

  #nameOf({ workspace, name }: Place): string {
    return `stellwerk-${this.#needs.installation}-machine-${hash(JSON.stringify([workspace, name.toLowerCase()]))}`;
  }
}

function filesOf(authorized: string, hostKey: string): LayerEntry[] {
  const file = (name: string, text: string, mode: number): LayerEntry => ({
    path: `${folder}/${name}`,
    mode,
    source: { bytes: Buffer.from(text) },
  });
  return [
    file('authorized_keys', `${authorized}\n`, 0o644),
    file('host_key', hostKey, 0o600),
    file('sshd_config', sshdConfig, 0o644),
  ];
}

function takenBy({ cpus, memory }: Wanted): { NanoCpus?: number; Memory?: number; MemorySwap?: number } {
  const { memoryBytes } = readOf({ nodes: 1, ...(memory !== undefined && { memory }) });
  return {
    ...(cpus !== undefined && { NanoCpus: cpus * 1e9 }),
    ...(memoryBytes !== undefined && { Memory: memoryBytes, MemorySwap: memoryBytes }),
  };
}

/** sshd shows its host key, or the container has ended and says why. */
async function untilAnswers(engine: Engine, name: string, at: { address: string; port: number }): Promise<void> {
  for (let tries = 0; tries < answersWithinTries; tries++) {
    const seen = await inspected(engine, name);
    if (!seen?.State.Running || (seen as unknown as { RestartCount: number }).RestartCount > 0) {
      const { stderr, stdout } = await printedBy(engine, name);
      const said = (stderr || stdout).trim().split('\n').at(-1);
      throw new TargetError(
        'never',
        `The image cannot be a machine: ${said}. Name one with sshd and Python 3.8 or newer.`,
      );
    }
    if (
      await shownHostKey({ ...at, user }).then(
        () => true,
        () => false,
      )
    )
      return;
    await pause(100);
  }
  throw new TargetError(
    'never',
    `The machine was made, and ${at.address}:${at.port} cannot be reached from here. Let this server reach the ports that the engine publishes.`,
  );
}

/** Where the ports are that an engine publishes. */
function addressOf({ settings }: Target<'docker'>): string {
  if (settings.address.startsWith('unix:')) return '127.0.0.1';
  return new URL(settings.address.replace(/^\w+:/, 'https:')).hostname.replace(/^\[|\]$/g, '');
}

const secretOf = ({ name }: Place) => `${name}-machine-key`;
const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 24);
/** The same after a restart of the engine, which gives ports that nobody chose anew. */
const portOf = (name: string, tried: number) =>
  20_000 + ((createHash('sha256').update(name).digest().readUInt32BE() + tried) % 10_000);

async function refusals<T>(engine: Engine, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof EngineRefusal)) throw error;
    throw new TargetError('never', `The Docker Engine at ${engine.name} refuses: ${error.message}`);
  }
}
