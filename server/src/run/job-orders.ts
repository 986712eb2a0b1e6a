// Makes what a runner needs for one attempt of a run: its environment's plan, a token of its own, its secrets.
// Invariants: the plan is made once per run and kept, so that every attempt gets the same packages; the token is of this attempt.
import type {
  BuiltPlan,
  BuiltSpecification,
  EnvironmentPlan,
  EnvironmentSpecification,
  EnvironmentTarget,
  IndexAccess,
  IndexSettings,
} from '@stellwerk/contract/environment.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import { readOf } from '@stellwerk/contract/resources.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import { specificationOf, thisPlatform } from '../environment/environments.ts';
import { defaultDatastore } from '../workspace/workspaces.ts';
import { runTransactions } from './lifecycle.ts';
import type { Moment } from './moves.ts';
import type { RunRow } from './store.ts';
import type { SubmissionNeeds } from './submission.ts';

export interface Environments {
  lock(
    specification: EnvironmentSpecification,
    asked?: { log?: (line: string) => void; signal?: AbortSignal; target?: EnvironmentTarget; indexes?: IndexSettings },
  ): Promise<EnvironmentPlan>;
  read: (
    specification: Exclude<EnvironmentSpecification, { userManaged: true }>,
    mayHaveConda: boolean,
  ) => { indexes: IndexSettings };
  access(plan?: BuiltPlan, indexes?: IndexSettings): Promise<IndexAccess>;
}

export interface JobNeeds {
  db: Database;
  moment(): Moment;
  environments: Environments;
  snapshots: Pick<SubmissionNeeds['snapshots'], 'readFile'>;
  createToken(
    of: { workspace: string; run: string; attempt: number; user: string },
    goodForMs: number,
  ): Promise<string>;
  settings: {
    leaseSeconds: number;
    /** How runners reach this server, from here and from other machines. */
    serverUrl: Record<'here' | 'elsewhere', () => string>;
    caBundle?: string;
    unseal(sealed: string, place: string): string;
    /** Opens a secret of a workspace; it is written down what for. */
    openSecret(workspace: string, name: string, use: string): Promise<string>;
  };
}

/** A run's token outlives its run by this, so that what is still to be delivered can be. */
export const tokenGoodForMs = 14 * 86_400_000;

interface Watch {
  log?: (line: string) => void;
  signal?: AbortSignal;
  target?: EnvironmentTarget | undefined;
}

export class JobOrders {
  readonly #needs: JobNeeds;

  constructor(needs: JobNeeds) {
    this.#needs = needs;
  }

  async make(row: RunRow, where: 'here' | 'elsewhere', watch: Watch = {}): Promise<Job> {
    const configuration = JSON.parse(row.configuration!) as RunConfiguration;
    const { settings } = this.#needs;
    const [{ plan, indexes }, token, kept] = await Promise.all([
      this.#plan(row, configuration, watch),
      this.token(row),
      this.#needs.db.first(sql.selectFrom('run_private').selectAll().where('run_key', '=', row.key)),
    ]);
    return {
      server: settings.serverUrl[where](),
      ...(settings.caBundle !== undefined && { caBundle: settings.caBundle }),
      token,
      workspace: row.workspace,
      experiment: row.experiment,
      run: row.id,
      attempt: row.attempt,
      ...(row.snapshot !== null && { snapshot: row.snapshot }),
      configuration,
      resources: readOf(configuration.resources),
      ...(row.gpus !== null && { gpus: JSON.parse(row.gpus) as string[] }),
      environment: plan,
      dataReferences: Object.fromEntries(
        Object.entries(configuration.dataReferences).map(([name, reference]) => [
          name,
          { ...reference, datastore: reference.datastore ?? defaultDatastore },
        ]),
      ),
      secrets: kept?.secrets ? JSON.parse(settings.unseal(kept.secrets, placeOf(row))) : {},
      vaultSecrets: await this.#vaultSecrets(row, configuration),
      indexes: await this.#needs.environments.access(plan.kind === 'built' ? plan : undefined, indexes),
      leaseSeconds: settings.leaseSeconds,
    };
  }

  async #vaultSecrets(
    { workspace, id }: RunRow,
    { vaultSecrets = [] }: RunConfiguration,
  ): Promise<Record<string, string>> {
    const { openSecret } = this.#needs.settings;
    const opened = vaultSecrets.map(
      async (name) => [name, await openSecret(workspace, name, `the run ${id}`)] as const,
    );
    return Object.fromEntries(await Promise.all(opened));
  }

  /** For the registry of the image that the run configuration names. */
  async imageSignIn({ workspace, id, configuration }: RunRow): Promise<{ user: string; password: string } | undefined> {
    const { container } = JSON.parse(configuration!) as RunConfiguration;
    if (container?.user === undefined || container.password === undefined) return undefined;
    const open = (name: string) => this.#needs.settings.openSecret(workspace, name, `the image of the run ${id}`);
    const [user, password] = await Promise.all([open(container.user), open(container.password)]);
    return { user, password };
  }

  async token(row: Pick<RunRow, 'key' | 'workspace' | 'id' | 'attempt' | 'user'>): Promise<string> {
    const { workspace, id, attempt, user, key } = row;
    const until = this.#needs.moment().now + tokenGoodForMs;
    const [token] = await Promise.all([
      this.#needs.createToken({ workspace, run: id, attempt, user }, tokenGoodForMs),
      this.#needs.db.transact(runTransactions.keep, { key, kept: { token_until: until } }),
    ]);
    return token;
  }

  async #plan(
    row: RunRow,
    configuration: RunConfiguration,
    watch: Watch,
  ): Promise<{ plan: EnvironmentPlan; indexes?: IndexSettings }> {
    const { db, environments, snapshots } = this.#needs;
    const specification = await specificationOf(configuration.environment, (path) =>
      snapshots.readFile(row.workspace, row.snapshot!, path),
    );
    const indexes = specification.userManaged ? undefined : environments.read(specification, true).indexes;
    const kept = await db.first(sql.selectFrom('run_private').select('plan').where('run_key', '=', row.key));
    const { target, ...watched } = watch;
    const before = kept?.plan ? (JSON.parse(kept.plan) as EnvironmentPlan) : undefined;
    const again = before && row.resubmitted_from !== null ? relockOf(row, before, target) : undefined;
    if (before && !again) return { plan: before, ...(indexes && { indexes }) };
    const made = await environments.lock(again ?? specification, {
      ...watched,
      ...(target && { target }),
      ...(indexes && { indexes }),
    });
    const plan = before && again ? carriedOver(before, made) : made;
    const environment =
      plan.kind === 'built'
        ? { lockHash: plan.lockHash, lock: plan.lockText, python: plan.pythonMinor, notices: plan.notices }
        : { notices: plan.notices };
    await db.transact(runTransactions.keep, {
      key: row.key,
      row: { environment: JSON.stringify(environment) },
      kept: { plan: JSON.stringify(plan) },
    });
    return { plan, ...(indexes && { indexes }) };
  }
}

/**
 * A run that does another again has that one's lock. Where it was made for another platform, or for a Python that is not there, and where
 * conda would choose anew, it is made ready for this machine from the lock, never from what was once asked for.
 */
function relockOf(
  row: RunRow,
  plan: EnvironmentPlan,
  target: EnvironmentTarget | undefined,
): BuiltSpecification | undefined {
  if (plan.kind === 'user-managed') return undefined;
  const isHere = plan.platform === (target?.platform ?? thisPlatform());
  const hasPython = !target || target.pythons.includes(plan.pythonMinor);
  if (isHere && hasPython && !plan.conda) return undefined;
  const { lock = plan.lockText } = JSON.parse(row.environment ?? '{}') as NonNullable<Run['environment']>;
  return { lock, python: plan.pythonMinor, pythonFallback: plan.pythonFallback };
}

/** Of the first plan, what a lock does not say. */
function carriedOver(before: EnvironmentPlan, made: EnvironmentPlan): EnvironmentPlan {
  if (before.kind === 'user-managed' || made.kind === 'user-managed') return made;
  return { ...made, needsStellwerk: before.needsStellwerk, ...(before.indexes && { indexes: before.indexes }) };
}

/** Where a run's secrets are sealed for. */
export function placeOf({ workspace, id }: Pick<RunRow, 'workspace' | 'id'>): string {
  return `run/${workspace}/${id}`;
}
