// The rooms of runs on a real database and real contents, for tests; with a compute target whose jobs are moved by hand.
import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import { jsonText } from '@stellwerk/contract/json-shape.ts';
import type { CheckedOf, InputOf } from '@stellwerk/contract/verbs.ts';
import { verbs } from '@stellwerk/contract/verbs.ts';
import type { Caller, UserCaller } from '../access/access.ts';
import { Activities, ActivityWorker, type Executor } from '../activity/activities.ts';
import { Blobs } from '../blob/blobs.ts';
import { FileBytes } from '../blob/files.ts';
import type { Capacity, ComputeDriver, JobHandle, JobOrder, JobState, RunsJobs } from '../compute/computes.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { migrations } from '../stores.ts';
import { Journals } from '../telemetry/journals.ts';
import { Logs } from '../telemetry/logs.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { type TrashRig, trashRig } from '../trash/trash.fixture.ts';
import { JobOrders, Leases, RunDisposal, RunSelections, Runs, runExecutor, TargetUse } from './runs.ts';

export const workspace = 'w1';
export const ada: UserCaller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
const snapshot = `sha256:${'0'.repeat(64)}`;
export const bob: UserCaller = { kind: 'user', user: 'bob', administrator: false, tokenId: 't2' };

/** Jobs that end when the test says so. */
export class HandMadeJobs implements RunsJobs<'host'> {
  readonly orders = new Map<string, JobOrder>();
  readonly ended = new Set<string>();
  readonly asked: string[] = [];
  readonly recovered: string[] = [];
  /** How often jobs were looked at. */
  looks = 0;
  readonly endedSo = new Map<string, JobState>();
  /** All jobs wait in a queue of the target's own. */
  waiting: JobState | undefined;
  failStart: 'never' | 'later' | ServiceError | undefined;

  async start(_target: unknown, order: JobOrder): Promise<JobHandle> {
    if (this.failStart instanceof ServiceError) throw this.failStart;
    if (this.failStart) throw new TargetError(this.failStart, 'The machine is not in the mood.');
    this.orders.set(order.id, order);
    return { id: order.id };
  }
  async look(_target: unknown, handle: JobHandle): Promise<JobState> {
    this.looks++;
    const id = String(handle.id);
    if (this.ended.has(id) || !this.orders.has(id)) return this.endedSo.get(id) ?? { state: 'ended' };
    return this.waiting ?? { state: 'running' };
  }
  async cancel(_target: unknown, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    this.asked.push(how);
    if (how === 'kill') this.ended.add(String(handle.id));
  }
  async recover(_target: unknown, handle: JobHandle): Promise<void> {
    this.recovered.push(String(handle.id));
  }
  async cleanUp(_target: unknown, handle: JobHandle | { id: string }): Promise<void> {
    this.orders.delete(String(handle.id));
  }
  /** The runs that have a job now. */
  running(): string[] {
    return [...this.orders.values()].map(({ job }) => job.run);
  }
  end(run: string, so?: JobState): void {
    for (const [id, { job }] of this.orders) {
      if (job.run !== run) continue;
      if (so) this.endedSo.set(id, so);
      this.ended.add(id);
    }
  }
}

export interface RunRooms extends AsyncDisposable {
  scratch: ScratchDatabase;
  runs: Runs;
  use: TargetUse;
  bin: TrashRig;
  disposal: RunDisposal;
  journals: Journals;
  metrics: Metrics;
  logs: Logs;
  leases: Leases;
  activities: Activities;
  blobs: Blobs;
  bytes: FileBytes;
  selections: RunSelections;
  jobs: HandMadeJobs;
  worker: ActivityWorker;
  /** As after a restart of the server. */
  newWorker(): ActivityWorker;
  /** What making an environment's lock comes to. */
  onLock(act: (signal?: AbortSignal) => Promise<void>): void;
  /** Advances the steady clock that leases are counted by. */
  pass(ms: number): void;
  upload(content: string): Promise<string>;
  start(input: Omit<InputOf<'runs', 'start'>, 'workspace'>, caller?: Caller): ReturnType<Runs['start']>;
  submit(
    configuration: InputOf<'runs', 'submit'>['configuration'],
    more?: Partial<InputOf<'runs', 'submit'>>,
    caller?: Caller,
  ): ReturnType<Runs['submit']>;
  append(
    run: string,
    lines: readonly unknown[][],
    offset?: number,
    caller?: Caller,
    journal?: string,
  ): Promise<{ offset: number }>;
}

export const snapshotFiles: Record<string, string> = {
  'train.py': 'print(1)\n',
  'requirements.txt': 'numpy\n',
  'bad.txt': '-e .\n',
};

export async function runRooms(
  options: { leaseSeconds?: number; places?: number; keepDays?: number; capacity?: Capacity } = {},
): Promise<RunRooms> {
  const scratch = await scratchDatabase(migrations);
  const { db, folder } = scratch;
  scratch.write(
    `INSERT INTO snapshot (workspace, digest, file_count, size_bytes, complete, created_at, used_at) VALUES ('${workspace}', '${snapshot}', 3, 0, 1, '', '')`,
  );
  let steady = 0;
  const moment = () => {
    const now = Date.now();
    return { now, at: new Date(now).toISOString() };
  };
  const incident = (error: unknown) => {
    throw error;
  };
  const bytes = new FileBytes(join(folder, 'blobs'));
  const blobs = new Blobs({ db, bytes, folder: join(folder, 'uploads'), now: Date.now });
  const jobs = new HandMadeJobs();
  const drivers: Record<string, ComputeDriver<'local'> | ComputeDriver<'host'>> = {
    local: {
      kind: 'local',
      hostsServices: false,
      probe: async () => ({ usable: true, findings: [] }),
      queue: () => 'local',
      reach: () => 'elsewhere',
    },
    host: {
      kind: 'host',
      hostsServices: false,
      probe: async () => ({ usable: true, findings: [] }),
      queue: () => 'host',
      reach: () => 'here',
      jobs,
    },
  };
  const machine = {
    cpus: 8,
    memoryBytes: 64e9,
    gpus: [
      { uuid: 'GPU-a', type: 'A100' },
      { uuid: 'GPU-b', type: 'T4' },
    ],
  };
  const usable = async (_: string, name: string) => {
    const driver = drivers[name]!;
    const target = { workspace, name, settings: { kind: driver.kind } as never };
    return {
      target,
      driver: driver as never,
      queue: driver.queue(target),
      maxConcurrentRuns: options.places ?? 1,
      capacity: options.capacity ?? machine,
    };
  };
  const computes = { require: usable, find: usable };
  const readFile = async (_: string, __: string, path: string) => snapshotFiles[path];
  const leaseSeconds = options.leaseSeconds ?? 30;
  let locking: ((signal?: AbortSignal) => Promise<void>) | undefined;
  const orders = new JobOrders({
    db,
    moment,
    environments: {
      async lock(spec, asked) {
        await locking?.(asked?.signal);
        return { kind: 'user-managed', notices: [`made from ${Object.keys(spec).join()}`] };
      },
      read: () => ({ indexes: {} }),
      access: async () => ({ environment: {} }),
    },
    snapshots: { readFile },
    createToken: async ({ run, attempt }) => `swr_${run}_${attempt}_${randomUUID()}`,
    settings: {
      leaseSeconds,
      serverUrl: { here: () => 'http://here', elsewhere: () => 'http://elsewhere' },
      unseal: (sealed) => atob(sealed),
      openSecret: async (_workspace, name, use) => `value of ${name} for ${use}`,
    },
  });
  const leases = new Leases({ db, moment, steadyMs: () => steady, leaseSeconds, incident });
  const images = async () => {
    throw new Error('No image is made here.');
  };
  const intake = {
    computes,
    snapshots: { readFile, fileOf: readFile },
    environments: { read: () => ({ indexes: {} }) },
    hasSecret: async (_: string, name: string) => name.startsWith('known'),
    requireDatastore: async () => {},
    newId: randomUUID,
    seal: (secret: string) => btoa(secret),
  };
  const logsOf = () => rooms.logs;
  const bin = trashRig(db, { run: () => disposal.runs, experiment: () => disposal.experiments }, options.keepDays);
  const { trash } = bin;
  const disposal = new RunDisposal({ db, trash, removeLogs: (all) => logsOf().remove(all) });
  const selections = new RunSelections({
    db,
    moment,
    newId: randomUUID,
    trash,
    usesOf: (digests) => blobs.usesOf(digests),
    contentsOf: async () => [],
    sizeOfLogs: (all) => logsOf().sizeOf(all),
  });
  const runs = new Runs({ db, moment, stores: { bytes, disposal, selections }, intake, orders, leases });
  const activities = new Activities({ db, now: Date.now, folder: join(folder, 'activities') });
  activities.cancelWith({
    run: async ({ workspace: of, subject }) => {
      await runs.cancelFor(of, subject, 'ada');
    },
  });
  const idle: Executor = async () => ({ leave: true });
  const newWorker = () =>
    new ActivityWorker({
      db,
      activities,
      executors: {
        run: runExecutor({
          db,
          moment,
          steadyMs: () => performance.now(),
          computes,
          orders,
          leases,
          images: { base: images, pullOf: () => undefined },
        }),
        'compute.attach': idle,
        'compute.create': idle,
        'compute.update': idle,
        'compute.detach': idle,
        'compute.delete': idle,
        'image.build': idle,
        'web-service.deploy': idle,
        'web-service.update': idle,
        'web-service.scale': idle,
        'web-service.delete': idle,
        'runs.archive': (work) => selections.act(work),
        'runs.delete': (work) => selections.act(work),
        'trash.empty': idle,
        'server.collect': idle,
      },
      now: Date.now,
      leaseMs: 30_000,
      incident: (error) => String(error),
    });
  const worker = newWorker();
  const placeOf = (of: string, run: string) => runs.placeOf(of, run);
  const journals = new Journals({
    db,
    placeOf,
    append: (input, caller, body) => runs.appendJournal(input, caller, body),
  });
  const start: RunRooms['start'] = (input, caller = ada) =>
    runs.start(checked('start', { workspace, ...input }) as CheckedOf<'runs', 'start'>, caller);
  const rooms: RunRooms = {
    scratch,
    runs,
    use: new TargetUse({ db, moment }),
    bin,
    disposal,
    journals,
    metrics: new Metrics({ db, placeOf, below: (of, run) => runs.below(of, run) }),
    logs: new Logs({
      db,
      placeOf,
      folder: join(folder, 'logs'),
      fence: (of, caller) => runs.fence(of, caller),
      onChange: (key, listener) => runs.onChange(key, listener),
    }),
    leases,
    activities,
    blobs,
    bytes,
    selections,
    jobs,
    worker,
    newWorker,
    onLock: (act) => {
      locking = act;
    },
    pass: (ms) => {
      steady += ms;
    },
    async upload(content) {
      const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
      const body = Readable.from([Buffer.from(content)], { objectMode: false });
      await blobs.append({ workspace, digest, offset: 0, sizeBytes: Buffer.byteLength(content) }, ada, body);
      return digest;
    },
    start,
    submit: (configuration, more = {}, caller = ada) =>
      runs.submit(
        checked('submit', {
          workspace,
          experiment: 'e',
          snapshot,
          configuration,
          ...more,
        }) as CheckedOf<'runs', 'submit'>,
        caller,
      ),
    append: (run, lines, offset = 0, caller = ada, journal = 'main') => {
      const text = lines.map((line) => `${jsonText(line)}\n`).join('');
      return journals.append(
        { workspace, run, journal, offset },
        caller,
        Readable.from([Buffer.from(text)], { objectMode: false }),
      );
    },
    async [Symbol.asyncDispose]() {
      await worker.stop();
      await leases.stop();
      await scratch[Symbol.asyncDispose]();
    },
  };
  return rooms;
}

function checked(verb: 'start' | 'submit', input: object): unknown {
  return verbs.runs[verb].input.parse(input);
}
