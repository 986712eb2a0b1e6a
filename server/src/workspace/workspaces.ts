// The top-level resource: compute targets, experiments and runs, models, images, deployments and datastores belong to one.
// Invariants: names differ by more than case; whoever creates a workspace is its Owner; a workspace is created together
// with its associated resources, and deleted only when nothing in it is running.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Workspace } from '@stellwerk/contract/workspace.ts';
import { asUser, type Caller, seesEveryWorkspace, type UserCaller } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import { type WorkspaceRow, workspaceTransactions } from './store.ts';

export { objectToDeletion } from './store.ts';

export const defaultDatastore = 'workspacestore';

export interface WorkspaceNeeds {
  db: Database;
  now(): number;
  newId(): string;
  /** What higher rooms set up for a new workspace: its default datastore. Safe to repeat. */
  furnish(workspace: string): Promise<void>;
  /** What higher rooms keep outside the database, to be removed with the workspace. */
  clear(workspace: string): Promise<void>;
}

export class Workspaces {
  readonly #needs: WorkspaceNeeds;

  constructor(needs: WorkspaceNeeds) {
    this.#needs = needs;
  }

  async create(input: CheckedOf<'workspaces', 'create'>, caller: Caller): Promise<Workspace> {
    const row: WorkspaceRow = {
      name: input.name,
      id: this.#needs.newId(),
      display_name: input.displayName ?? null,
      description: input.description ?? null,
      tags: JSON.stringify(input.tags ?? {}),
      labels: JSON.stringify(input.labels ?? {}),
      created_at: new Date(this.#needs.now()).toISOString(),
      created_by: asUser(caller).user,
    };
    const existOk = input.existOk ?? false;
    const { row: there, created } = await this.#needs.db.transact(workspaceTransactions.insert, { row, existOk });
    try {
      await this.#needs.furnish(there.name);
    } catch (error) {
      if (created) await this.#needs.db.transact(workspaceTransactions.delete, { name: there.name });
      throw error;
    }
    return workspaceOf(there);
  }

  async get({ workspace }: CheckedOf<'workspaces', 'get'>): Promise<Workspace> {
    const row = await this.#needs.db.first(sql.selectFrom('workspace').selectAll().where('name', '=', workspace));
    if (!row) throw new ServiceError('not-found', 'workspace.not-found', `There is no workspace ${workspace}.`);
    return workspaceOf(row);
  }

  async list(input: CheckedOf<'workspaces', 'list'>, caller: Caller): Promise<OutputOf<'workspaces', 'list'>> {
    const after = keyOf(input, 1);
    const rows = await this.#seenBy(asUser(caller), after && String(after[0]), rowsFor(input));
    return pageFrom(rows, input, workspaceOf, (row) => [row.name]);
  }

  /** The names of those that the caller has a role in, in their order. */
  async namesSeenBy(caller: UserCaller, after: string | undefined, limit: number): Promise<string[]> {
    return (await this.#seenBy(caller, after, limit)).map(({ name }) => name);
  }

  async #seenBy(caller: UserCaller, after: string | undefined, limit: number): Promise<WorkspaceRow[]> {
    let query = sql.selectFrom('workspace').selectAll().orderBy('name').limit(limit);
    if (after !== undefined) query = query.where('name', '>', after);
    if (caller.workspace !== undefined) query = query.where('name', '=', caller.workspace);
    if (!seesEveryWorkspace(caller))
      query = query.where('name', 'in', sql.selectFrom('member').select('workspace').where('user', '=', caller.user));
    return this.#needs.db.all(query);
  }

  async update(input: CheckedOf<'workspaces', 'update'>): Promise<Workspace> {
    const set: Partial<WorkspaceRow> = {
      ...(input.displayName !== undefined && { display_name: input.displayName }),
      ...(input.description !== undefined && { description: input.description }),
      ...(input.tags !== undefined && { tags: JSON.stringify(input.tags) }),
      ...(input.labels !== undefined && { labels: JSON.stringify(input.labels) }),
    };
    return workspaceOf(await this.#needs.db.transact(workspaceTransactions.update, { name: input.workspace, set }));
  }

  async delete({ workspace }: CheckedOf<'workspaces', 'delete'>): Promise<Record<string, never>> {
    const { name } = await this.get({ workspace });
    await this.#needs.db.transact(workspaceTransactions.delete, { name });
    await this.#needs.clear(name);
    return {};
  }

  /** The name as it was created, whatever the case of the letters a caller wrote it in; undefined if there is none. */
  async nameOf(workspace: string): Promise<string | undefined> {
    return (await this.#needs.db.first(sql.selectFrom('workspace').select('name').where('name', '=', workspace)))?.name;
  }
}

function workspaceOf(row: WorkspaceRow): Workspace {
  return {
    name: row.name,
    id: row.id,
    ...(row.display_name !== null && { displayName: row.display_name }),
    ...(row.description !== null && { description: row.description }),
    tags: JSON.parse(row.tags),
    labels: JSON.parse(row.labels),
    createdAt: row.created_at,
    createdBy: row.created_by,
    resources: {
      containerRegistry: 'embedded',
      storageAccount: 'embedded',
      applicationInsights: 'embedded',
      keyVault: 'embedded',
    },
    defaultDatastore,
  };
}
