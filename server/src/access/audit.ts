// The audit log: who did, or tried, what, when and from where. Reading is not recorded, being refused is.
import type { AuditEntry } from '@stellwerk/contract/access.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { AccessNeeds } from './access.ts';
import type { Caller } from './callers.ts';
import { accessTransactions } from './store.ts';

export interface Deed {
  /** `server`: what it does by itself. */
  caller: Caller | 'server';
  verb: string;
  workspace?: string | undefined;
  subject?: string | undefined;
  outcome: AuditEntry['outcome'];
  reason?: string | undefined;
  address?: string | undefined;
}

export class Audit {
  readonly #needs: AccessNeeds;

  constructor(needs: AccessNeeds) {
    this.#needs = needs;
  }

  async record({ caller, verb, workspace, subject, outcome, reason, address }: Deed): Promise<void> {
    await this.#needs.db.transact(accessTransactions.audit, {
      at: new Date(this.#needs.now()).toISOString(),
      actor: actorOf(caller),
      token: caller !== 'server' && caller.kind === 'user' ? caller.tokenId : null,
      verb,
      workspace: workspace ?? null,
      subject: subject ?? null,
      outcome,
      reason: reason ?? null,
      address: address ?? null,
    });
  }

  list(input: CheckedOf<'audit', 'list'>): Promise<OutputOf<'audit', 'list'>> {
    return this.#page(input);
  }

  listWorkspace(input: CheckedOf<'audit', 'listWorkspace'>): Promise<OutputOf<'audit', 'listWorkspace'>> {
    return this.#page(input);
  }

  async #page(input: CheckedOf<'audit', 'list'> & { workspace?: string }): Promise<OutputOf<'audit', 'list'>> {
    const before = keyOf(input, 1);
    let query = sql.selectFrom('audit').selectAll().orderBy('id', 'desc').limit(rowsFor(input));
    if (before) query = query.where('id', '<', Number(before[0]));
    if (input.workspace !== undefined) query = query.where('workspace', '=', input.workspace);
    if (input.actor !== undefined) query = query.where('actor', '=', input.actor);
    if (input.verb !== undefined) query = query.where('verb', '=', input.verb);
    const entryOf = (row: object) =>
      Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) as AuditEntry;
    return pageFrom(await this.#needs.db.all(query), input, entryOf, (row) => [row.id]);
  }
}

function actorOf(caller: Deed['caller']): string {
  if (caller === 'server') return 'the server';
  return caller.kind === 'run' ? `run ${caller.run}` : caller.kind === 'user' ? caller.user : 'nobody';
}
