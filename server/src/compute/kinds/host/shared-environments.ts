// Environments that are shared by runs of different Unix ids. One further id of the same user, the builder, makes them before
// a runner is started; runs read and execute them.
// Invariants: no run can change what another uses, and nothing that packages bring or specifications name is executed by the builder; an environment is built once,
// however many want it; the credentials of package indexes lie in a folder of the builder's until it is done, and reach no run.
import { chmod, chown, copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Job } from '@stellwerk/contract/run.ts';
import { run } from '../../../exec/programs.ts';
import type { JobOrder, StartWatch } from '../../driver.ts';
import type { HostNeeds } from './host.ts';
import { killAll, makeOwn, makePassage, nameOf, programIn, writeOwn } from './place.ts';

type Needs = Pick<HostNeeds, 'isolatedFolder' | 'inherited' | 'pythonPackage' | 'uv'>;

/** What the runner's preparation ends with if a package would have to be built. */
const needsBuilding = 3;

export class SharedEnvironments {
  readonly #needs: Needs;
  readonly #folder: string;
  #copying: Promise<unknown> = Promise.resolve();

  constructor(needs: Needs) {
    this.#needs = needs;
    this.#folder = join(needs.isolatedFolder, 'environments');
  }

  /** The ids that have built here. */
  async builders(): Promise<number[]> {
    return (await readdir(this.#folder).catch(() => [])).map(Number).filter(Number.isSafeInteger);
  }

  /** The job as its runner finds it: with the place of an environment that is there, or one of its own for what cannot be shared. */
  async prepare({ id, job }: JobOrder, builder: number, watch: StartWatch): Promise<Job> {
    const { environment } = job;
    if (environment.kind !== 'built') return job;
    // While it installs packages, conda executes what they bring.
    const reason = environment.conda ? 'has packages of conda' : await this.#made(id, job, builder, watch);
    if (reason === undefined) return { ...job, indexes: { environment: {} }, cacheFolder: this.#cacheOf(builder) };
    watch.log?.(`The environment ${reason}, so that it is not shared: the run makes it for itself.`);
    return job;
  }

  /** Why it cannot be, if it cannot. */
  async #made(id: string, job: Job, builder: number, watch: StartWatch): Promise<string | undefined> {
    const { log, signal } = watch;
    const place = { folder: preparationOf(this.#needs.isolatedFolder, id), uid: builder };
    const cacheFolder = this.#cacheOf(builder);
    await remove(place.folder); // of an earlier life of the server
    try {
      await makePassage(this.#folder);
      const uv = await this.#uv(watch);
      await mkdir(cacheFolder, { recursive: true });
      await chown(cacheFolder, builder, builder);
      await makeOwn(place);
      const { environment, indexes } = job;
      await writeOwn(join(place.folder, 'job.json'), JSON.stringify({ environment, indexes, cacheFolder }), place);
      const program = await programIn(place, ['-m', 'stellwerk.runner', '--prepare', place.folder], this.#needs);
      const env = { ...program.env, STELLWERK_UV: uv };
      const ended = await run({ ...program, env, ...(log && { onLine: log }), ...(signal && { signal }) });
      if (ended.code === 0) return undefined;
      if (ended.code === needsBuilding) return 'has a package that would have to be built from its source';
      const reason = ended.stderr.trim() || `the preparation ended with ${ended.signal ?? `exit code ${ended.code}`}.`;
      throw new TargetError('never', `The run could not be prepared: ${reason}`);
    } finally {
      await remove(place.folder);
    }
  }

  /** A copy that the builder can execute and not change; made anew when the server has another. */
  async #uv(watch: StartWatch): Promise<string> {
    const program = await this.#needs.uv(watch);
    const copy = join(this.#folder, 'uv');
    const copied = this.#copying.then(() => copyProgram(program, copy));
    this.#copying = copied.catch(() => {});
    await copied;
    return copy;
  }

  #cacheOf(builder: number): string {
    return join(this.#folder, String(builder));
  }
}

async function copyProgram(program: string, copy: string): Promise<void> {
  const [wanted, there] = [await stat(program), await stat(copy).catch(() => undefined)];
  if (there?.size === wanted.size && there.mtimeMs >= wanted.mtimeMs) return;
  await copyFile(program, `${copy}.new`);
  await chmod(`${copy}.new`, 0o755);
  await rename(`${copy}.new`, copy);
}

/** Where the environment of a job is prepared. */
export function preparationOf(isolatedFolder: string, id: string): string {
  return join(isolatedFolder, `${nameOf(id)}-preparation`);
}

/** Its processes by their mark: others of the same id are at work for other runs. */
async function remove(folder: string): Promise<void> {
  await killAll({ folder });
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
}
