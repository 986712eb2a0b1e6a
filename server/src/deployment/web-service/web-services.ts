// Web services: an image as a load-balanced HTTP endpoint on a compute target.
// Invariants: a change is an activity, one at a time; what was wanted is in the database before anything happens, so that a
// restart goes on from there; replicas and the gateway outlive the server; keys are sealed and known to the gateway as hashes only.
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { ActivityKind } from '@stellwerk/contract/activity.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { WebService } from '@stellwerk/contract/web-service.ts';
import { type Caller, nameOf } from '../../access/access.ts';
import type { Beginning } from '../../activity/activities.ts';
import type { Download } from '../../blob/download.ts';
import type { Database } from '../../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../../db/paging.ts';
import { sql } from '../../db/transactions.ts';
import type { GatewayStatus } from '../../gateway/gateways.ts';
import type { Images } from '../../image/images.ts';
import type { Vault } from '../../vault/vault.ts';
import type { Replicas } from './replicas.ts';
import { type RolloutInput, type WebServiceRow, webServiceTransactions } from './store.ts';

export { Replicas, type ReplicasNeeds } from './replicas.ts';
export { Rollout } from './rollout.ts';
export { Supervisor } from './supervisor.ts';

export interface WebServiceNeeds {
  db: Database;
  images: Images;
  replicas: Replicas;
  vault: Vault;
  now(): number;
  newId(): string;
}

export interface Keys {
  primary: string;
  secondary: string;
}

const logLines = 1_000;

export class WebServices {
  readonly #needs: WebServiceNeeds;

  constructor(needs: WebServiceNeeds) {
    this.#needs = needs;
  }

  async deploy(input: CheckedOf<'services', 'deploy'>, caller: Caller): Promise<WebService> {
    await this.#needs.replicas.hostOf(input.workspace, input.target, true);
    const image = await this.#needs.images.resolve(input.workspace, input.image);
    const activity = this.#beginning('web-service.deploy', input.workspace, input.name, caller);
    const row: WebServiceRow = {
      workspace: input.workspace,
      name: input.name,
      target: input.target,
      state: 'deploying',
      reason: null,
      image_name: image.name,
      image_version: image.version,
      replicas: input.replicas,
      authentication: input.authentication,
      timeout_ms: Math.round(input.timeoutSeconds * 1_000),
      description: input.description ?? null,
      tags: JSON.stringify(input.tags ?? {}),
      keys: this.#seal(input.workspace, input.name, { primary: this.#newKey(), secondary: this.#newKey() }),
      isolation: null,
      activity: activity.id,
      generation: 1,
      last_generation: 1,
      created_at: activity.at,
      created_by: nameOf(caller),
      updated_at: activity.at,
    };
    return this.#shown(await this.#needs.db.transact(webServiceTransactions.insert, { row, activity }));
  }

  async list(input: CheckedOf<'services', 'list'>): Promise<OutputOf<'services', 'list'>> {
    const after = keyOf(input, 1);
    let query = sql
      .selectFrom('web_service')
      .selectAll()
      .where('workspace', '=', input.workspace)
      .orderBy('name')
      .limit(rowsFor(input));
    if (after) query = query.where('name', '>', String(after[0]));
    if (input.image !== undefined) query = query.where('image_name', '=', input.image);
    const page = pageFrom(
      await this.#needs.db.all(query),
      input,
      (row) => row,
      (row) => [row.name],
    );
    const status = await this.#needs.replicas.gatewayStatus();
    return { ...page, items: await Promise.all(page.items.map((row) => this.#shown(row, status))) };
  }

  async get({ workspace, service }: CheckedOf<'services', 'get'>): Promise<WebService> {
    return this.#shown(await this.#row(workspace, service));
  }

  async update(input: CheckedOf<'services', 'update'>, caller: Caller): Promise<WebService> {
    const row = await this.#row(input.workspace, input.service);
    const set: Partial<WebServiceRow> = {
      ...(input.description !== undefined && { description: input.description }),
      ...(input.tags !== undefined && { tags: JSON.stringify(input.tags) }),
      ...(input.authentication !== undefined && { authentication: input.authentication }),
    };
    const image =
      input.image === undefined ? undefined : await this.#needs.images.resolve(input.workspace, input.image);
    const timeoutMs = input.timeoutSeconds && Math.round(input.timeoutSeconds * 1_000);
    const renews = image !== undefined || timeoutMs !== undefined;
    if (renews || input.replicas !== undefined) {
      Object.assign(set, {
        ...(image && { image_name: image.name, image_version: image.version }),
        ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
        ...(input.replicas !== undefined && { replicas: input.replicas }),
      });
      return this.#begin('web-service.update', row, { set, renews }, caller);
    }
    const changed = await this.#needs.db.transact(webServiceTransactions.change, {
      service: row,
      set: { ...set, updated_at: this.#time() },
    });
    await this.#needs.replicas.writeRoutes();
    return this.#shown(changed);
  }

  async scale({ workspace, service, replicas }: CheckedOf<'services', 'scale'>, caller: Caller): Promise<WebService> {
    return this.#begin('web-service.scale', await this.#row(workspace, service), { set: { replicas } }, caller);
  }

  async delete(
    { workspace, service }: CheckedOf<'services', 'delete'>,
    caller: Caller,
  ): Promise<Record<string, never>> {
    await this.#begin('web-service.delete', await this.#row(workspace, service), { set: {} }, caller);
    return {};
  }

  async getKeys({ workspace, service }: CheckedOf<'services', 'getKeys'>): Promise<Keys> {
    return this.#keysOf(await this.#row(workspace, service));
  }

  async regenerateKey({ workspace, service, key }: CheckedOf<'services', 'regenerateKey'>): Promise<Keys> {
    for (;;) {
      const row = await this.#row(workspace, service);
      const keys = { ...this.#keysOf(row), [key]: this.#newKey() };
      const change = { service: row, from: row.keys, to: this.#seal(row.workspace, row.name, keys) };
      if (!(await this.#needs.db.transact(webServiceTransactions.replaceKeys, change))) continue; // the other one was, too
      await this.#needs.replicas.writeRoutes();
      return keys;
    }
  }

  async getLog({ workspace, service, replica, lines }: CheckedOf<'services', 'getLog'>): Promise<Download> {
    const row = await this.#row(workspace, service);
    const text = await this.#needs.replicas.log(row, {
      ...(replica !== undefined && { replica }),
      lines: lines ?? logLines,
    });
    return { stream: Readable.from([text], { objectMode: false }), contentType: 'text/plain; charset=utf-8' };
  }

  async #row(workspace: string, service: string): Promise<WebServiceRow> {
    const row = await this.#needs.db.first(
      sql.selectFrom('web_service').selectAll().where('workspace', '=', workspace).where('name', '=', service),
    );
    if (!row)
      throw new ServiceError(
        'not-found',
        'web-service.not-found',
        `There is no web service ${service} in the workspace ${workspace}.`,
      );
    return row;
  }

  async #begin(
    kind: ActivityKind,
    row: WebServiceRow,
    { set, renews = false }: { set: Partial<WebServiceRow>; renews?: boolean },
    caller: Caller,
  ): Promise<WebService> {
    const activity = this.#beginning(kind, row.workspace, row.name, caller);
    const beginning = { service: row, set, renews, activity };
    return this.#shown(await this.#needs.db.transact(webServiceTransactions.begin, beginning));
  }

  #beginning(kind: ActivityKind, workspace: string, subject: string, caller: Caller): Beginning {
    const input: RolloutInput = { workspace, name: subject };
    return {
      id: this.#needs.newId(),
      workspace,
      kind,
      subject,
      message: 'Waiting to begin.',
      input,
      createdBy: nameOf(caller),
      at: this.#time(),
      dueAt: this.#needs.now(),
    };
  }

  #time(): string {
    return new Date(this.#needs.now()).toISOString();
  }

  #newKey(): string {
    return this.#needs.newId() + this.#needs.newId();
  }

  #seal(workspace: string, service: string, keys: Keys): string {
    return this.#needs.vault.seal(JSON.stringify(keys), `service/${workspace}/${service}`);
  }

  #keysOf(row: WebServiceRow): Keys {
    return JSON.parse(this.#needs.vault.unseal(row.keys, `service/${row.workspace}/${row.name}`));
  }

  /** Whether there is any in any workspace. */
  async any(): Promise<boolean> {
    return (await this.#needs.db.first(sql.selectFrom('web_service').select('name').limit(1))) !== undefined;
  }

  /** What the gateway compares with. */
  keyHashes(row: WebServiceRow): string[] {
    const { primary, secondary } = this.#keysOf(row);
    return [primary, secondary].map((key) => createHash('sha256').update(key).digest('hex'));
  }

  async #shown(row: WebServiceRow, known?: GatewayStatus | undefined): Promise<WebService> {
    const replicas = await this.#needs.db.all(
      sql
        .selectFrom('web_replica')
        .selectAll()
        .where('workspace', '=', row.workspace)
        .where('service', '=', row.name)
        .orderBy('id'),
    );
    const status = known ?? (await this.#needs.replicas.gatewayStatus());
    const counted = status?.services.find(
      ({ workspace, service }) => workspace === row.workspace && service === row.name,
    );
    return {
      name: row.name,
      target: row.target,
      state: row.state,
      ...(row.reason !== null && { reason: row.reason }),
      image: `${row.image_name}:${row.image_version}`,
      models: await this.#needs.images.modelsOf(row.workspace, row.image_name, row.image_version),
      replicas: row.replicas,
      replicaStates: replicas.map((replica) => ({
        id: replica.id,
        image: `${replica.image_name}:${replica.image_version}`,
        state: replica.state,
        startedAt: replica.started_at,
        ...(replica.reason !== null && { reason: replica.reason }),
      })),
      authentication: row.authentication,
      ...(row.isolation !== null && { isolation: row.isolation }),
      scoringUri: this.#needs.replicas.scoringUri(row),
      ...(row.description !== null && { description: row.description }),
      tags: JSON.parse(row.tags),
      ...(counted && {
        requests: {
          total: counted.requests,
          failed: counted.failures,
          ...(counted.p50Ms !== undefined && { p50Ms: counted.p50Ms }),
          ...(counted.p95Ms !== undefined && { p95Ms: counted.p95Ms }),
        },
      }),
      activity: row.activity,
      createdAt: row.created_at,
      createdBy: row.created_by,
      updatedAt: row.updated_at,
    };
  }
}
