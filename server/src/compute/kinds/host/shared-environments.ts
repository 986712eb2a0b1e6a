// Environments that are shared by runs of different Unix ids. They are made before a runner is started; runs read and execute them.
// One further id of the same user, the builder, makes those of wheels. It executes nothing that packages bring; what has no wheel is built in a box.
// Those with packages of conda, which executes what they bring, are made under the id of the run that wants them first, each in a folder of its own;
// once that id has no process any more, the environment belongs to root.
// Invariants: no run can change what another uses; an environment is built once, however many want it; the credentials of package indexes lie in
// a folder of whoever builds until it is done, and reach no run that uses what is there.
import { chmod, chown, copyFile, lstat, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import { output, run } from '../../../exec/programs.ts';
import type { JobOrder, StartWatch } from '../../driver.ts';
import type { HostNeeds } from './host.ts';
import { killAll, makeOwn, makePassage, nameOf, programIn, writeOwn } from './place.ts';

type Needs = Pick<HostNeeds, 'folder' | 'isolatedFolder' | 'inherited' | 'pythonPackage' | 'uv'>;

/** With where its environment lies. */
type Placed = Job & { cacheFolder: string };

export interface SharingIds {
  /** The run's own. */
  uid: number;
  builder: number;
}

/** What the runner's preparation ends with if a package would have to be built and there is no box to build it in. */
const needsBuilding = 3;

export class SharedEnvironments {
  readonly #needs: Needs;
  readonly #folder: string;
  #copying: Promise<unknown> = Promise.resolve();
  /** Being made, by the name of the environment. */
  readonly #making = new Map<string, Promise<void>>();

  constructor(needs: Needs) {
    this.#needs = needs;
    this.#folder = join(needs.isolatedFolder, 'environments');
  }

  /** The ids that have built here. */
  async builders(): Promise<number[]> {
    const ids = (await readdir(this.#folder).catch(() => [])).map(Number);
    return ids.filter((id) => Number.isSafeInteger(id));
  }

  /** The job as its runner finds it: with the place of an environment that is there, or one of its own for what cannot be shared. */
  async prepare({ id, job }: JobOrder, { uid, builder }: SharingIds, watch: StartWatch): Promise<Job> {
    const { environment } = job;
    if (environment.kind !== 'built') return job;
    await makePassage(this.#folder);
    const cacheFolder = join(this.#folder, environment.conda ? `conda-${environment.key}` : String(builder));
    const shared = { ...job, cacheFolder };
    const isMade = environment.conda
      ? await this.#madeOnce(id, shared, uid, watch)
      : await this.#made(id, shared, builder, watch);
    if (isMade) return { ...shared, indexes: { environment: {} } };
    watch.log?.(
      'The environment has a package that would have to be built from its source, and this machine refuses the namespaces to do that apart from all others, so that it is not shared: the run makes it for itself.',
    );
    return job;
  }

  /** Under the run's own id, by whoever comes first; the others wait for that one, and make it themselves should it fail or be canceled. */
  async #madeOnce(id: string, job: Placed, uid: number, watch: StartWatch): Promise<boolean> {
    const { cacheFolder } = job;
    for (;;) {
      const other = this.#making.get(cacheFolder);
      if (!other) break;
      watch.log?.('Another run is building this environment; waiting for it.');
      await other;
      watch.signal?.throwIfAborted();
    }
    if (await isRoots(cacheFolder)) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#making.set(cacheFolder, promise);
    try {
      await rm(cacheFolder, { recursive: true, force: true, maxRetries: 3 });
      if (!(await this.#made(id, job, uid, watch))) return false;
      await this.#handOver(cacheFolder, uid);
      return true;
    } finally {
      this.#making.delete(cacheFolder);
      resolve();
    }
  }

  /** From the id that made it to root; downloads and all else that it left are removed. */
  async #handOver(cacheFolder: string, uid: number): Promise<void> {
    await killAll({ folder: cacheFolder, uid });
    for (const name of await readdir(cacheFolder))
      if (name !== 'environments') await rm(join(cacheFolder, name), { recursive: true, force: true });
    await output({ command: 'chmod', args: ['-R', 'go-w,ug-s', join(cacheFolder, 'environments')] });
    await output({ command: 'chown', args: ['-R', '-h', '-P', '0:0', join(cacheFolder, 'environments')] });
    await chmod(cacheFolder, 0o711);
    await chown(cacheFolder, 0, 0); // last: so it is known to be whole
  }

  /** False if a package would have to be built where that cannot be done apart. */
  async #made(id: string, job: Placed, uid: number, watch: StartWatch): Promise<boolean> {
    const { log, signal } = watch;
    const { environment, indexes, cacheFolder } = job;
    const place = { folder: preparationOf(this.#needs.isolatedFolder, id), uid };
    await remove(place.folder); // of an earlier life of the server
    try {
      const uv = await this.#uv(watch);
      await mkdir(cacheFolder, { recursive: true });
      await chown(cacheFolder, uid, uid);
      await makeOwn(place);
      await writeOwn(join(place.folder, 'job.json'), JSON.stringify({ environment, indexes, cacheFolder }), place);
      const program = await programIn(place, ['-m', 'stellwerk.runner', '--prepare', place.folder], this.#needs);
      const env = { ...program.env, STELLWERK_UV: uv };
      const ended = await run({ ...program, env, ...(log && { onLine: log }), ...(signal && { signal }) });
      if (ended.code === 0) return true;
      if (ended.code === needsBuilding) return false;
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
}

async function isRoots(folder: string): Promise<boolean> {
  const there = await lstat(folder).catch(() => undefined);
  return there?.uid === 0;
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
