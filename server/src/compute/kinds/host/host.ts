// The machine that the server runs on. On a single-user server its runs are processes of the server's own user; otherwise they run
// under other Unix ids, each run under one of its own, so that no run reads the data folder or another run's files or memory.
import { availableParallelism, totalmem } from 'node:os';
import { dirname } from 'node:path';
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Gpu } from '@stellwerk/contract/resources.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { run } from '../../../exec/programs.ts';
import type { Capacity, ComputeDriver, Flaw, RunsJobs, StartWatch, Target, WantedImage } from '../../driver.ts';
import { Contained, usualSocket } from '../docker/contained.ts';
import type { DockerDriver } from '../docker/docker.ts';
import { HostJobs } from './jobs.ts';
import { findUser, type IdFiles, type UnixIds } from './unix-users.ts';

export interface HostNeeds {
  /** Where runs of the server's own user lie. */
  folder: string;
  /** Where runs under other ids lie: outside the data folder, which they cannot enter. */
  isolatedFolder: string;
  dataFolder: string;
  /** Our Python package: a wheel or the folder of its source. */
  pythonPackage: string;
  /** Where environments are shared between runs of the server's own user. */
  cacheFolder: string;
  /** What runners may inherit of the server's environment: proxies, certificates, package indexes. */
  inherited: Readonly<Record<string, string>>;
  /** The program that makes environments. Those that runs share are made by a copy of it, never by one from where a specification says. */
  uv: (watch: StartWatch) => Promise<string>;
  /** The system's own unless given. */
  subordinateIds?: IdFiles;
}

type Finding = Probe['findings'][number];

export class HostDriver implements ComputeDriver<'host'> {
  readonly kind = 'host';
  readonly hostsServices = true;
  readonly containers = true;
  readonly takesImages = true;
  readonly jobs: RunsJobs<'host'>;
  readonly #contained: Contained<'host'>;
  readonly #needs: HostNeeds;
  #gpus: Promise<Gpu[]> | undefined;

  /** `docker`: what executes runs in containers, with the engine of this machine. */
  constructor(needs: HostNeeds, docker: DockerDriver) {
    this.#needs = needs;
    this.#contained = new Contained(docker, engineHere);
    this.jobs = this.#contained.jobs(new HostJobs(needs));
  }

  flaws(target: Target<'host'>, configuration: RunConfiguration): Promise<Flaw[]> {
    return this.#contained.flaws(target, configuration);
  }

  async platform(target: Target<'host'>, image: WantedImage = {}): Promise<EnvironmentTarget | undefined> {
    return image.name === undefined ? undefined : this.#contained.platform(target, image);
  }

  forget(target: Target<'host'>): Promise<void> {
    return this.#contained.forget(target);
  }

  /** One machine, whatever workspaces call it. */
  queue(): string {
    return 'host';
  }

  reach() {
    return 'here' as const;
  }

  async capacity({ settings }: Target<'host'>): Promise<Capacity> {
    this.#gpus ??= gpusHere();
    return { cpus: availableParallelism(), memoryBytes: totalmem(), gpus: settings.gpus ?? (await this.#gpus) };
  }

  async probe({ settings }: Target<'host'>): Promise<Probe> {
    if (settings.user === undefined) return concluded([await python()]);
    const found = await findUser(settings.user, this.#needs.subordinateIds);
    if (!found.ids) return concluded([{ what: 'isolation', ok: false, detail: found.reason, hint: found.hint }]);
    return concluded([await this.#kept(found.ids), await python(found.ids)]);
  }

  /** Tried, not reasoned: another id really cannot list the data folder, and really reaches the place for its runs. */
  async #kept(ids: UnixIds): Promise<Finding> {
    const { dataFolder, isolatedFolder } = this.#needs;
    const above = dirname(isolatedFolder);
    const flaw = !(await mayEnter(ids, above))
      ? `${ids.name} cannot reach ${above}, where its runs would lie; keep the data folder where others can reach what lies beside it, such as /var/lib.`
      : (await mayEnter(ids, dataFolder))
        ? `${ids.name} can enter the data folder ${dataFolder}; close it to others (mode 0700).`
        : undefined;
    const detail = `Each run gets an id of its own from the ${ids.count} that belong to ${ids.name}, and cannot read the data folder.`;
    return { what: 'isolation', ok: flaw === undefined, detail: flaw ?? detail };
  }
}

function engineHere({ settings, ...same }: Target<'host'>): Target<'docker'> {
  const address = `unix://${settings.dockerSocket ?? usualSocket}`;
  return { ...same, settings: { kind: 'docker', address, image: 'none' } };
}

async function mayEnter({ first }: UnixIds, folder: string): Promise<boolean> {
  const ended = await run({
    command: 'ls',
    args: ['-d', '--', `${folder}/.`],
    user: { uid: first, gid: first },
    cwd: '/',
  });
  return ended.code === 0;
}

/** As their driver tells; none where there is no driver. */
async function gpusHere(): Promise<Gpu[]> {
  const args = ['--query-gpu=uuid,name', '--format=csv,noheader'];
  const told = await run({ command: 'nvidia-smi', args, cwd: '/', timeoutMs: 10_000 }).catch(() => undefined);
  if (told?.code !== 0) return [];
  const lines = told.stdout.trim().split('\n');
  return lines.map((line) => ({ uuid: line.split(', ')[0]!, type: line.split(', ').slice(1).join(', ') }));
}

function concluded(findings: Finding[]): Probe {
  return { usable: findings.every(({ ok }) => ok), findings };
}

const question =
  'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 8))';

async function python(ids?: UnixIds): Promise<Finding> {
  const user = ids && { user: { uid: ids.first, gid: ids.first } };
  const ended = await run({ command: 'python3', args: ['-c', question], cwd: '/', ...user }).catch(
    (error: Error) => error,
  );
  if (!(ended instanceof Error) && ended.code === 0)
    return { what: 'python', ok: true, detail: `python3 is Python ${ended.stdout.trim()}, with venv.` };
  const said = ended instanceof Error ? ended.message : ended.stderr.trim().split('\n').at(-1) || ended.stdout.trim();
  return {
    what: 'python',
    ok: false,
    detail: `python3 cannot be used: ${said}`,
    hint: 'Install Python 3.8 or newer with venv (Debian: python3-venv).',
  };
}
