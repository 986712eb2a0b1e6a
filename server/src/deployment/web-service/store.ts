// Rows of web services and their replicas. Keys are sealed; a replica's handle is plain JSON and all that is kept of it.

import type { ActivityKind } from '@stellwerk/contract/activity.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type Beginning, beginActivity, changeActivity, hasEnded } from '../../activity/activities.ts';
import type { Migration } from '../../db/migrations.ts';
import { readings, sql, type Transaction, transactions } from '../../db/transactions.ts';
import { releaseImages, useImage } from '../../image/images.ts';
import { objectToDeletion } from '../../workspace/workspaces.ts';
import { isSettled, mayMove, type WebServiceState } from './states.ts';

objectToDeletion((tx, workspace) => {
  const row = tx.first(sql.selectFrom('web_service').select('name').where('workspace', '=', workspace).limit(1));
  return row && `In the workspace ${workspace} there is the web service ${row.name}.`;
});

export interface WebServiceRow {
  workspace: string;
  name: string;
  target: string;
  state: WebServiceState;
  reason: string | null;
  image_name: string;
  image_version: number;
  replicas: number;
  authentication: 'key' | 'none';
  timeout_ms: number;
  description: string | null;
  tags: string;
  /** Both keys, sealed. */
  keys: string;
  isolation: 'namespace' | 'none' | null;
  activity: string;
  /** Of the replicas that are wanted. Each change that needs other ones has a number that no earlier one had, undone ones included. */
  generation: number;
  last_generation: number;
  created_at: string;
  created_by: string;
  updated_at: string;
}

export type ReplicaState = 'starting' | 'ready' | 'unhealthy' | 'draining' | 'stopped';

export interface ReplicaRow {
  id: string;
  workspace: string;
  service: string;
  image_name: string;
  image_version: number;
  generation: number;
  /** JSON of the driver's handle; null until it was started. */
  handle: string | null;
  state: ReplicaState;
  reason: string | null;
  started_at: string;
  /** How often it ended by itself. */
  restarts: number;
}

declare module '../../db/schema.ts' {
  interface Schema {
    web_service: WebServiceRow;
    web_replica: ReplicaRow;
  }
}

export const webServiceMigrations: Migration[] = [
  {
    name: '0011-web-service',
    up: `
      CREATE TABLE web_service (
        workspace TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE, target TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, image_name TEXT NOT NULL,
        image_version INTEGER NOT NULL, replicas INTEGER NOT NULL, authentication TEXT NOT NULL, timeout_ms INTEGER NOT NULL, description TEXT,
        tags TEXT NOT NULL, keys TEXT NOT NULL, isolation TEXT, activity TEXT NOT NULL, generation INTEGER NOT NULL,
        last_generation INTEGER NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY (workspace, name)
      ) STRICT;
      CREATE INDEX web_service_by_image ON web_service (workspace, image_name, image_version);
      CREATE TABLE web_replica (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, service TEXT NOT NULL COLLATE NOCASE, image_name TEXT NOT NULL, image_version INTEGER NOT NULL,
        generation INTEGER NOT NULL, handle TEXT, state TEXT NOT NULL, reason TEXT, started_at TEXT NOT NULL, restarts INTEGER NOT NULL
      ) STRICT;
      CREATE INDEX web_replica_by_service ON web_replica (workspace, service);
    `,
  },
];

export interface Named {
  workspace: string;
  name: string;
}

function found(tx: Transaction, { workspace, name }: Named): WebServiceRow {
  const row = tx.first(
    sql.selectFrom('web_service').selectAll().where('workspace', '=', workspace).where('name', '=', name),
  );
  if (!row)
    throw new ServiceError(
      'not-found',
      'web-service.not-found',
      `There is no web service ${name} in the workspace ${workspace}.`,
    );
  return row;
}

function imageOf({ workspace, image_name, image_version }: WebServiceRow) {
  return { workspace, name: image_name, version: image_version };
}

/** What the image room shows as the user of an image. */
function userName(service: string): string {
  return `the web service ${service}`;
}

function write(tx: Transaction, row: WebServiceRow, set: Partial<WebServiceRow>): WebServiceRow {
  tx.run(sql.updateTable('web_service').set(set).where('workspace', '=', row.workspace).where('name', '=', row.name));
  return { ...row, ...set };
}

function refuseBusy(tx: Transaction, row: WebServiceRow, to: WebServiceState): void {
  const isAgain = row.state === to && to === 'deleting' && hasEnded(tx, row.activity); // the first try failed
  if (isAgain || (mayMove(row.state, to) && (to === 'deleting' || isSettled(row.state)))) return;
  throw new ServiceError(
    'failed-precondition',
    'web-service.busy',
    `The web service ${row.name} is ${row.state}: its activity ${row.activity} has not ended.`,
  );
}

/** What a web service is brought back to when a change fails. */
export type Served = Pick<WebServiceRow, 'image_name' | 'image_version' | 'generation' | 'replicas' | 'timeout_ms'>;

function servedBy({ image_name, image_version, generation, replicas, timeout_ms }: WebServiceRow): Served {
  return { image_name, image_version, generation, replicas, timeout_ms };
}

/** What the activities of a web service are given. */
export interface RolloutInput extends Named {
  /** Absent: nothing served. */
  previous?: Served;
  /** The activity that must have ended first. */
  after?: string;
}

interface Begin {
  service: Named;
  set: Partial<WebServiceRow>;
  renews: boolean;
  activity: Beginning;
}

interface Restart {
  id: string;
  activity: string;
  set: Pick<ReplicaRow, 'restarts' | 'started_at'>;
}

export const webServiceReadings = readings('web-service', {
  hasEnded: (tx: Transaction, { activity }: { activity: string }): boolean => hasEnded(tx, activity),
});

export const webServiceTransactions = transactions('web-service', {
  insert(tx: Transaction, { row, activity }: { row: WebServiceRow; activity: Beginning }): WebServiceRow {
    const there = tx.first(
      sql.selectFrom('web_service').select('name').where('workspace', '=', row.workspace).where('name', '=', row.name),
    );
    if (there)
      throw new ServiceError(
        'conflict',
        'web-service.name-taken',
        `There is a web service ${there.name} in the workspace ${row.workspace} already.`,
      );
    useImage(tx, imageOf(row), userName(row.name));
    tx.run(sql.insertInto('web_service').values(row));
    beginActivity(tx, activity);
    return row;
  },

  /** Begins an activity that changes the web service's replicas; with `renews`, all of them are replaced. */
  begin(tx: Transaction, { service, set, renews, activity }: Begin): WebServiceRow {
    const row = found(tx, service);
    const kind: ActivityKind = activity.kind;
    const to: WebServiceState = kind === 'web-service.delete' ? 'deleting' : 'updating';
    refuseBusy(tx, row, to);
    const generation = renews ? row.last_generation + 1 : row.generation;
    const next = { ...set, generation, last_generation: Math.max(generation, row.last_generation) };
    if (to !== 'deleting') useImage(tx, imageOf({ ...row, ...next }), userName(row.name));
    else if (!hasEnded(tx, row.activity))
      changeActivity(tx, row.activity, { cancelRequested: true, dueAt: activity.dueAt, at: activity.at });
    const input: RolloutInput = {
      workspace: row.workspace,
      name: row.name,
      after: row.activity,
      ...(to === 'updating' && row.state !== 'failed' && { previous: servedBy(row) }),
    };
    beginActivity(tx, { ...activity, input });
    return write(tx, row, { ...next, state: to, reason: null, activity: activity.id, updated_at: activity.at });
  },

  /** Keys are sealed outside: they are replaced only if nobody replaced them meanwhile. */
  replaceKeys(tx: Transaction, { service, from, to }: { service: Named; from: string; to: string }): boolean {
    const row = found(tx, service);
    if (row.keys !== from) return false;
    write(tx, row, { keys: to });
    return true;
  },

  /** Settles what an activity left unsettled when it ended by a fault. */
  settleAbandoned(tx: Transaction): void {
    const open = sql.selectFrom('web_service').selectAll().where('state', 'in', ['deploying', 'updating']);
    for (const row of tx.all(open)) {
      if (!hasEnded(tx, row.activity)) continue;
      const state = row.state === 'deploying' ? 'failed' : 'unhealthy';
      write(tx, row, { state, reason: 'The activity that changed it ended before it was done.' });
    }
  },

  /** Changes what needs no other replicas. */
  change(tx: Transaction, { service, set }: { service: Named; set: Partial<WebServiceRow> }): WebServiceRow {
    return write(tx, found(tx, service), set);
  },

  /** Moves the web service, unless another activity has taken over. */
  move(
    tx: Transaction,
    {
      service,
      activity,
      to,
      set,
    }: { service: Named; activity: string; to: WebServiceState; set: Partial<WebServiceRow> },
  ): boolean {
    const row = found(tx, service);
    if (row.activity !== activity || !(row.state === to || mayMove(row.state, to))) return false;
    const after = write(tx, row, { ...set, state: to });
    const replicas = tx.all(
      sql
        .selectFrom('web_replica')
        .select(['image_name as name', 'image_version as version'])
        .where('workspace', '=', row.workspace)
        .where('service', '=', row.name),
    );
    releaseImages(tx, row.workspace, userName(row.name), [imageOf(after), ...replicas]);
    return true;
  },

  /** Makes a replica's row, or returns the one that is there. */
  addReplica(tx: Transaction, row: ReplicaRow): ReplicaRow {
    tx.run(
      sql
        .insertInto('web_replica')
        .values(row)
        .onConflict((conflict) => conflict.column('id').doNothing()),
    );
    return tx.first(sql.selectFrom('web_replica').selectAll().where('id', '=', row.id))!;
  },

  /** Whether it is there. */
  setReplica(tx: Transaction, { id, set }: { id: string; set: Partial<ReplicaRow> }): boolean {
    return tx.run(sql.updateTable('web_replica').set(set).where('id', '=', id)) > 0;
  },

  /** Before a replica that ended by itself is started again: unless an activity has begun to change the web service. */
  restartReplica(tx: Transaction, { id, activity, set }: Restart): ReplicaRow | undefined {
    const row = tx.first(sql.selectFrom('web_replica').selectAll().where('id', '=', id));
    const service = row && found(tx, { workspace: row.workspace, name: row.service });
    if (!row || row.state === 'draining' || service?.activity !== activity || !isSettled(service.state))
      return undefined;
    tx.run(sql.updateTable('web_replica').set(set).where('id', '=', id));
    return { ...row, ...set };
  },

  removeReplica(tx: Transaction, { id }: { id: string }): void {
    tx.run(sql.deleteFrom('web_replica').where('id', '=', id));
  },

  remove(tx: Transaction, { workspace, name }: Named): void {
    releaseImages(tx, workspace, userName(name));
    tx.run(sql.deleteFrom('web_replica').where('workspace', '=', workspace).where('service', '=', name));
    tx.run(sql.deleteFrom('web_service').where('workspace', '=', workspace).where('name', '=', name));
  },
});
