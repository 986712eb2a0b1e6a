// Runs: the record of one execution of a script, or of what a notebook logs; with parameters, metrics, logs, files and children.
// Invariants: submitting or starting the same again gives the same run; a run that has begun is heard of within its lease or is
// lost, and comes back; an end is for good; an attempt that a newer one has superseded writes nothing more; secrets enter no record.
import type { Activity } from '@stellwerk/contract/activity.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import { readOf } from '@stellwerk/contract/resources.ts';
import type { Run, RunFile } from '@stellwerk/contract/run.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { TrashEntry } from '@stellwerk/contract/trash.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { asUser, type Caller, nameOf, type RunCaller } from '../access/access.ts';
import type { Bytes } from '../blob/bytes.ts';
import { type Asked, type Download, downloadContent } from '../blob/download.ts';
import type { UsableTarget } from '../compute/computes.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { defaultDatastore } from '../workspace/workspaces.ts';
import type { RunDisposal } from './disposal.ts';
import { fileOf, runReadings } from './files.ts';
import { type JobOrders, placeOf, tokenGoodForMs } from './job-orders.ts';
import type { Leases } from './leases.ts';
import { type Heard, runTransactions } from './lifecycle.ts';
import type { Moment } from './moves.ts';
import { parametersOf } from './parameters.ts';
import { queryReadings } from './query/query.ts';
import { resubmissionOf } from './resubmission.ts';
import type { RunSelections } from './selections.ts';
import { isEnd } from './states.ts';
import { type RunRow, runTopic } from './store.ts';
import { checkSubmission, contentHash, type SubmissionNeeds } from './submission.ts';
import { runTrash, trashedRuns } from './trash.ts';

export { RunDisposal } from './disposal.ts';
export { type ExecuteNeeds, runExecutor } from './execute.ts';
export { type Environments as RunEnvironments, type JobNeeds, JobOrders } from './job-orders.ts';
export { type LeaseNeeds, Leases } from './leases.ts';
export type { Moment } from './moves.ts';
export { RunSelections } from './selections.ts';
export { Sessions } from './sessions.ts';
export { TargetUse } from './target-use.ts';

export interface RunNeeds {
  db: Database;
  moment(): Moment;
  stores: { bytes: Bytes; disposal: Pick<RunDisposal, 'discardRun'>; selections: Pick<RunSelections, 'begin'> };
  intake: SubmissionNeeds & { newId(): string; seal(secret: string, place: string): string };
  orders: JobOrders;
  leases: Leases;
}

export class Runs {
  readonly #needs: RunNeeds;

  constructor(needs: RunNeeds) {
    this.#needs = needs;
  }

  async submit(input: CheckedOf<'runs', 'submit'>, caller: Caller): Promise<Run> {
    const { id = this.#needs.intake.newId(), secrets, ...content } = input;
    // Not the values of secrets: nothing of them is kept that could be tried out.
    return this.#submit({ ...input, id }, { ...content, secrets: Object.keys(secrets ?? {}).sort() }, caller);
  }

  async resubmit(input: CheckedOf<'runs', 'resubmit'>, caller: Caller): Promise<Run> {
    const { id = this.#needs.intake.newId(), secrets, ...content } = input;
    const { workspace, run, experiment, displayName, tags } = input;
    const origin = await this.#needs.db.transact(runReadings.origin, { workspace, run });
    const { record, plan } = origin;
    const again = resubmissionOf(origin, input, asUser(caller).user);
    const submission = {
      id,
      workspace,
      experiment: experiment ?? record.experiment,
      displayName: displayName ?? record.displayName,
      description: record.description,
      tags: { ...record.tags, ...tags },
      git: record.git,
      configuration: again.configuration,
      snapshot: again.snapshot,
      secrets,
    };
    return this.#submit(submission, { resubmit: content, secrets: Object.keys(secrets ?? {}).sort() }, caller, {
      row: {
        resubmitted_from: record.id,
        differences: JSON.stringify(again.differences),
        environment: record.environment ? JSON.stringify(record.environment) : null,
      },
      ...(plan && { plan: JSON.stringify(plan) }),
    });
  }

  /** `content` is what makes it the same run if it comes again. */
  async #submit(
    input: CheckedOf<'runs', 'submit'> & { id: string },
    content: object,
    caller: Caller,
    taken: { row?: Partial<RunRow>; plan?: string } = {},
  ): Promise<Run> {
    const { user } = asUser(caller);
    const { db, intake, moment } = this.#needs;
    const { id, workspace, secrets = {} } = input;
    const usable = await checkSubmission(intake, input);
    const at = moment();
    const activity = `run-${contentHash([workspace, id]).slice(0, 32)}`;
    const { record } = await db.transact(runTransactions.insert, {
      run: {
        ...describedRow(input, id, user, content),
        ...targetRow(usable),
        ...taken.row,
        configuration: JSON.stringify(input.configuration),
        priority: priorities.indexOf(input.configuration.priority),
        asked: JSON.stringify(readOf(input.configuration.resources)),
        snapshot: input.snapshot,
        activity,
      },
      parent: input.parent,
      parameters: { ...parametersOf(input.configuration.arguments), ...input.parameters },
      tags: input.tags ?? {},
      properties: input.properties ?? {},
      arguments: input.configuration.arguments,
      secrets:
        Object.keys(secrets).length > 0 ? intake.seal(JSON.stringify(secrets), placeOf({ workspace, id })) : null,
      plan: taken.plan,
      activity: {
        id: activity,
        workspace,
        kind: 'run',
        subject: id,
        message: usable.driver.jobs
          ? 'Waiting for a place on the compute target.'
          : 'Waiting to be taken up by its submitter.',
        createdBy: user,
        at: at.at,
        dueAt: usable.driver.jobs ? at.now : null,
      },
      moment: at,
    });
    return record;
  }

  async start(input: CheckedOf<'runs', 'start'>, caller: Caller): Promise<Run> {
    const { db, intake, moment, leases } = this.#needs;
    const { id = intake.newId(), ...content } = input;
    const at = moment();
    if (caller.kind === 'run') await this.fence({ workspace: caller.workspace, run: caller.run }, caller);
    const { record, key, created } = await db.transact(runTransactions.insert, {
      run: {
        ...describedRow(input, id, nameOf(caller), content),
        state: 'running',
        interactive: 1,
        attempt: 1,
        host: input.host ?? null,
        started_at: input.startedAt ?? at.at,
      },
      parent: input.parent,
      parameters: input.parameters ?? {},
      tags: input.tags ?? {},
      properties: input.properties ?? {},
      arguments: null,
      secrets: null,
      activity: null,
      moment: at,
    });
    if (created) leases.renew(key);
    return record;
  }

  async getJob({ workspace, run, machine }: CheckedOf<'runs', 'getJob'>, caller: Caller): Promise<Job> {
    const { db, orders, leases, moment } = this.#needs;
    const { user } = asUser(caller);
    const row = await db.transact(runTransactions.takeUp, { workspace, run, user, moment: moment() });
    leases.end(row.key); // making the environment may take longer than a lease
    try {
      const job = await orders.make(row, 'elsewhere', { target: machine });
      leases.renew(row.key);
      return job;
    } catch (error) {
      const reason =
        error instanceof ServiceError ? error.message : 'An internal fault happened before the script was started.';
      await db.transact(runTransactions.move, { key: row.key, move: { to: 'failed', reason }, moment: moment() });
      throw error;
    }
  }

  async report(input: CheckedOf<'runs', 'report'>, caller: Caller): Promise<OutputOf<'runs', 'report'>> {
    const { workspace, run, ...report } = input;
    const { db, leases, moment } = this.#needs;
    const heard = await db.transact(runTransactions.report, { workspace, run, report, caller, moment: moment() });
    if (heard.leased) leases.renew(heard.key);
    else leases.end(heard.key);
    const token = await this.#renewed(heard, input, caller);
    const { state, cancelRequested } = heard;
    return { state, cancelRequested, leaseSeconds: leases.leaseSeconds, ...(token !== undefined && { token }) };
  }

  /** When half of its time is gone; and before the end, so that all of it remains for what is still to be delivered. */
  async #renewed(heard: Heard, input: CheckedOf<'runs', 'report'>, caller: Caller): Promise<string | undefined> {
    if (caller.kind !== 'run' || caller.run !== input.run || !heard.leased) return undefined;
    const left = heard.tokenUntil - this.#needs.moment().now;
    const mayBeShort = input.state === 'finalizing' && left < tokenGoodForMs * 0.9;
    if (left > tokenGoodForMs / 2 && !mayBeShort) return undefined;
    return this.#needs.orders.token({ ...heard, workspace: input.workspace, id: input.run, attempt: caller.attempt });
  }

  async get({ workspace, run }: CheckedOf<'runs', 'get'>): Promise<Run> {
    return this.#needs.db.transact(runReadings.record, { workspace, run });
  }

  async query(input: CheckedOf<'runs', 'query'>): Promise<OutputOf<'runs', 'query'>> {
    return this.#needs.db.transact(queryReadings.page, { ...input, now: this.#needs.moment().now });
  }

  async list(input: CheckedOf<'runs', 'list'>): Promise<OutputOf<'runs', 'list'>> {
    return this.query(input);
  }

  async update(input: CheckedOf<'runs', 'update'>, caller: Caller): Promise<Run> {
    return this.#needs.db.transact(runTransactions.update, { ...input, caller });
  }

  async cancel({ workspace, run }: CheckedOf<'runs', 'cancel'>, caller: Caller): Promise<Run> {
    return this.cancelFor(workspace, run, caller.kind === 'run' ? `the run ${caller.run}` : nameOf(caller));
  }

  /** Cancelling the activity of a run is the same. */
  async cancelFor(workspace: string, run: string, by: string): Promise<Run> {
    return this.#needs.db.transact(runTransactions.cancel, { workspace, run, by, moment: this.#needs.moment() });
  }

  async archive(input: CheckedOf<'runs', 'archive'>): Promise<Run> {
    return this.#archive(input, this.#needs.moment().at);
  }

  async reactivate(input: CheckedOf<'runs', 'reactivate'>): Promise<Run> {
    return this.#archive(input, null);
  }

  async #archive({ workspace, run }: { workspace: string; run: string }, at: string | null): Promise<Run> {
    await this.#needs.db.transact(runTrash.archive, { workspace, run, at });
    return this.get({ workspace, run });
  }

  archiveMany(input: CheckedOf<'runs', 'archiveMany'>, caller: Caller): Promise<Activity> {
    return this.#needs.stores.selections.begin('runs.archive', input, nameOf(caller));
  }

  delete({ workspace, run }: CheckedOf<'runs', 'delete'>, caller: Caller): Promise<TrashEntry> {
    return this.#needs.stores.disposal.discardRun(workspace, run, nameOf(caller));
  }

  deleteMany(input: CheckedOf<'runs', 'deleteMany'>, caller: Caller): Promise<Activity> {
    return this.#needs.stores.selections.begin('runs.delete', input, nameOf(caller));
  }

  async listFiles(input: CheckedOf<'runs', 'listFiles'>): Promise<OutputOf<'runs', 'listFiles'>> {
    const { workspace, run, prefix } = input;
    const after = keyOf(input, 1)?.[0] as string | undefined;
    const rows = await this.#needs.db.transact(runReadings.files, {
      workspace,
      run,
      prefix,
      after,
      limit: rowsFor(input),
    });
    return pageFrom(rows, input, fileOf, (row) => [row.path]);
  }

  async putFile(input: CheckedOf<'runs', 'putFile'>, caller: Caller): Promise<RunFile> {
    return this.#needs.db.transact(runTransactions.putFile, { ...input, caller, at: this.#needs.moment().at });
  }

  async getFile(
    { workspace, run, path }: CheckedOf<'runs', 'getFile'>,
    _caller: Caller,
    asked?: Asked,
  ): Promise<Download> {
    const [file] = await this.#needs.db.transact(runReadings.files, { workspace, run, prefix: path, limit: 1 });
    if (file?.path !== path)
      throw new ServiceError('not-found', 'run.file-not-found', `The run ${run} has no file ${JSON.stringify(path)}.`);
    return downloadContent(this.#needs.stores.bytes, { digest: file.digest, sizeBytes: file.size_bytes, path }, asked);
  }

  // What other rooms ask.

  async appendJournal(
    { workspace, run, journal, offset, attempt }: CheckedOf<'journals', 'append'>,
    caller: Caller,
    body: Uint8Array<ArrayBuffer>,
  ): Promise<number> {
    const moment = this.#needs.moment();
    return this.#needs.db.transact(
      runTransactions.appendJournal,
      { workspace, run, journal, offset, attempt, caller, body, moment },
      [body.buffer],
    );
  }

  /** Refuses what an attempt writes that another has superseded. */
  async fence(of: { workspace: string; run: string; attempt?: number | undefined }, caller: Caller): Promise<void> {
    await this.#needs.db.transact(runReadings.fence, {
      workspace: of.workspace,
      run: of.run,
      attempt: of.attempt,
      caller,
    });
  }

  async placeOf(workspace: string, run: string): Promise<{ key: number; ended: boolean }> {
    return this.#needs.db.transact(runReadings.place, { workspace, run });
  }

  /** Whether this attempt is on: it has not ended, and no other has followed it. */
  async isOn({ workspace, run, attempt }: Pick<RunCaller, 'workspace' | 'run' | 'attempt'>): Promise<boolean> {
    const row = await this.#row(workspace, run);
    return row?.attempt === attempt && !isEnd(row.state);
  }

  async below(workspace: string, run: string): Promise<{ key: number; id: string }[]> {
    return this.#needs.db.transact(runReadings.below, { workspace, run });
  }

  onChange(runKey: number, listener: () => void): () => void {
    return this.#needs.db.listen(runTopic(runKey), listener);
  }

  /** Whether `run` is `ancestor` or a descendant of it. */
  async within(workspace: string, ancestor: string, run: string): Promise<boolean> {
    return this.#needs.db.transact(runReadings.within, { workspace, ancestor, run });
  }

  async snapshotOf(workspace: string, run: string): Promise<string | undefined> {
    return (await this.#row(workspace, run))?.snapshot ?? undefined;
  }

  /** The files at or below a path of a run, and its experiment; without a path, no files. Undefined if there is no such run. */
  async filesOf(
    workspace: string,
    run: string,
    path?: string,
  ): Promise<{ files: RunFile[]; experiment: string } | undefined> {
    const row = await this.#row(workspace, run);
    if (!row) return undefined;
    const { experiment } = row;
    if (path === undefined) return { files: [], experiment };
    const rows = await this.#needs.db.transact(runReadings.files, { workspace, run, prefix: path });
    return { files: rows.map(fileOf), experiment };
  }

  /** Whether the data references of the caller's run name the path: those that download for reading, those that upload for writing. */
  async mayUseDatastore(caller: RunCaller, datastore: string, path: string, way: 'read' | 'write'): Promise<boolean> {
    const row = await this.#row(caller.workspace, caller.run);
    if (!row?.configuration) return false;
    const { dataReferences } = JSON.parse(row.configuration) as RunConfiguration;
    return Object.values(dataReferences).some((reference) => {
      const named = (reference.datastore ?? defaultDatastore).toLowerCase() === datastore.toLowerCase();
      const above = reference.path?.replace(/\/+$/, '');
      const covers = above === undefined || path === above || path.startsWith(`${above}/`);
      return named && covers && (reference.mode === 'download' ? 'read' : 'write') === way;
    });
  }

  /** Of the runs in an entry of the trash. */
  keysInTrash(entry: number): Promise<number[]> {
    return this.#needs.db.transact(trashedRuns.keys, { entry });
  }

  async #row(workspace: string, run: string): Promise<RunRow | undefined> {
    return this.#needs.db.transact(runReadings.row, { workspace, run });
  }
}

function describedRow(
  input: Pick<CheckedOf<'runs', 'start'>, 'workspace' | 'experiment' | 'displayName' | 'description' | 'git'>,
  id: string,
  user: string,
  content: object,
) {
  return {
    workspace: input.workspace,
    id,
    experiment: input.experiment,
    user,
    display_name: input.displayName ?? null,
    description: input.description ?? null,
    git: input.git ? JSON.stringify(input.git) : null,
    content_hash: contentHash([user.toLowerCase(), content]),
  };
}

/** As they stand in line, the last first. */
const priorities = ['low', 'normal', 'high'] as const;

function targetRow({ target, driver, queue }: UsableTarget) {
  return { target: target.name, queue: driver.jobs ? queue : null };
}
