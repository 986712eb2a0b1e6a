// Waits until replicas are ready, which the gateway sees, and says what a replica printed that will not become ready.
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Work } from '../../activity/activities.ts';
import type { GatewayStatus } from '../../gateway/gateways.ts';
import type { RolloutNeeds } from './rollout.ts';
import { type ReplicaRow, type WebServiceRow, webServiceTransactions } from './store.ts';

const pollMs = 50;
/** For `init()` to load the models. */
const readyWithinMs = 10 * 60_000;
const logLinesShown = 15;

export class Readiness {
  readonly #needs: RolloutNeeds;

  constructor(needs: RolloutNeeds) {
    this.#needs = needs;
  }

  async of(service: WebServiceRow, rows: readonly ReplicaRow[], work: Work): Promise<void> {
    const deadline = this.#needs.now() + readyWithinMs;
    let waiting = [...rows];
    for (;;) {
      work.signal.throwIfAborted();
      const status = await this.#needs.replicas.gatewayStatus();
      const ready = waiting.filter(({ id }) => isReady(status, service, id));
      for (const row of ready) await this.#noteReady(row, work);
      waiting = waiting.filter((row) => !ready.includes(row));
      if (waiting.length === 0) return;
      for (const row of waiting) await this.#throwIfEnded(service, row);
      if (this.#needs.now() > deadline) await this.#giveUp(service, waiting[0]!);
      await pause(pollMs, undefined, { signal: work.signal });
    }
  }

  async #noteReady({ id, state }: ReplicaRow, work: Work): Promise<void> {
    if (state === 'ready') return;
    await this.#needs.db.transact(webServiceTransactions.setReplica, { id, set: { state: 'ready', reason: null } });
    work.log(`The replica ${id} is ready.`);
  }

  async #throwIfEnded(service: WebServiceRow, row: ReplicaRow): Promise<void> {
    const looked = await this.#needs.replicas.look(service, row);
    if (looked?.state !== 'ended') return;
    const how = looked.exitCode === null ? 'a signal' : `exit code ${looked.exitCode}`;
    throw unusable(`The replica ${row.id} ended with ${how} before it was ready`, await this.#said(service, row));
  }

  async #giveUp(service: WebServiceRow, row: ReplicaRow): Promise<never> {
    const minutes = readyWithinMs / 60_000;
    throw unusable(`The replica ${row.id} was not ready within ${minutes} minutes`, await this.#said(service, row));
  }

  #said(service: WebServiceRow, row: ReplicaRow): Promise<string> {
    return this.#needs.replicas.log(service, { replica: row.id, lines: logLinesShown });
  }
}

function isReady(status: GatewayStatus | undefined, service: WebServiceRow, id: string): boolean {
  const served = status?.services.find((one) => one.workspace === service.workspace && one.service === service.name);
  return served?.replicas.some((replica) => replica.id === id && replica.ready) ?? false;
}

function unusable(what: string, said: string): ServiceError {
  const text = said.trim() || '(nothing)';
  return new ServiceError('failed-precondition', 'web-service.not-ready', `${what}. It printed last:\n${text}`);
}
