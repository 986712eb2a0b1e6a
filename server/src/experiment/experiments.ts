// Experiments group runs by a name. Submitting or starting a run under a name that does not exist yet makes the experiment.
// Invariants: names are unique in a workspace; creating one that exists returns it; the last used one is listed first; an archived
// one is left out of lists and takes no new runs; one in the trash keeps its name until it is gone.
import type { Experiment } from '@stellwerk/contract/experiment.ts';
import type { TrashEntry } from '@stellwerk/contract/trash.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, nameOf } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import { type ExperimentRow, experimentTransactions, inTrash, noExperiment } from './store.ts';

export {
  countRun,
  type ExperimentRow,
  experimentNamed,
  recountRuns,
  requireExperiment,
  setExperiment,
} from './store.ts';

export interface ExperimentNeeds {
  db: Database;
  now(): number;
  /** Puts it into the trash with its runs, which are of a higher room. */
  discard(workspace: string, experiment: string, by: string): Promise<TrashEntry>;
}

export class Experiments {
  readonly #needs: ExperimentNeeds;

  constructor(needs: ExperimentNeeds) {
    this.#needs = needs;
  }

  async create(input: CheckedOf<'experiments', 'create'>, caller: Caller): Promise<Experiment> {
    const row = await this.#needs.db.transact(experimentTransactions.create, {
      workspace: input.workspace,
      name: input.name,
      at: new Date(this.#needs.now()).toISOString(),
      by: nameOf(caller),
      description: input.description,
      tags: input.tags,
    });
    return experimentOf(row);
  }

  async get({ workspace, experiment }: CheckedOf<'experiments', 'get'>): Promise<Experiment> {
    return experimentOf(await this.#row(workspace, experiment));
  }

  async list(input: CheckedOf<'experiments', 'list'>): Promise<OutputOf<'experiments', 'list'>> {
    const before = keyOf(input, 2);
    let query = sql
      .selectFrom('experiment')
      .selectAll()
      .where('workspace', '=', input.workspace)
      .where('trash', 'is', null)
      .orderBy('used_at', 'desc')
      .orderBy('key', 'desc')
      .limit(rowsFor(input));
    if (input.archived === 'only') query = query.where('archived_at', 'is not', null);
    if ((input.archived ?? 'without') === 'without') query = query.where('archived_at', 'is', null);
    if (before) {
      const [at, key] = [String(before[0]), Number(before[1])];
      query = query.where((e) => e.or([e('used_at', '<', at), e.and([e('used_at', '=', at), e('key', '<', key)])]));
    }
    return pageFrom(await this.#needs.db.all(query), input, experimentOf, (row) => [row.used_at, row.key]);
  }

  async update(input: CheckedOf<'experiments', 'update'>): Promise<Experiment> {
    const set: Partial<ExperimentRow> = {
      ...(input.description !== undefined && { description: input.description }),
      ...(input.tags !== undefined && { tags: JSON.stringify(input.tags) }),
    };
    return this.#update(input, set);
  }

  async archive(input: CheckedOf<'experiments', 'archive'>): Promise<Experiment> {
    return this.#update(input, { archived_at: new Date(this.#needs.now()).toISOString() });
  }

  async reactivate(input: CheckedOf<'experiments', 'reactivate'>): Promise<Experiment> {
    return this.#update(input, { archived_at: null });
  }

  delete({ workspace, experiment }: CheckedOf<'experiments', 'delete'>, caller: Caller): Promise<TrashEntry> {
    return this.#needs.discard(workspace, experiment, nameOf(caller));
  }

  async #update(of: { workspace: string; experiment: string }, set: Partial<ExperimentRow>): Promise<Experiment> {
    const { workspace, experiment: name } = of;
    return experimentOf(await this.#needs.db.transact(experimentTransactions.update, { workspace, name, set }));
  }

  async #row(workspace: string, name: string): Promise<ExperimentRow> {
    const row = await this.#needs.db.first(
      sql.selectFrom('experiment').selectAll().where('workspace', '=', workspace).where('name', '=', name),
    );
    if (!row) throw noExperiment(workspace, name);
    if (row.trash !== null) throw inTrash(row);
    return row;
  }
}

function experimentOf(row: ExperimentRow): Experiment {
  return {
    name: row.name,
    ...(row.description !== null && { description: row.description }),
    tags: JSON.parse(row.tags),
    createdAt: row.created_at,
    createdBy: row.created_by,
    runCount: row.run_count,
    ...(row.last_run_at !== null && { lastRunAt: row.last_run_at }),
    ...(row.archived_at !== null && { archivedAt: row.archived_at }),
  };
}
