// What many runs and models come to: their files, and the bytes that nothing else refers to. Read in pieces, beside who writes.
// Invariant: a content is counted as freed exactly if each of its references is one of theirs, and each snapshot that lists it is had by
// none but them.
import type { SelectionReport } from '@stellwerk/contract/run-selection.ts';
import type { ContentUse } from '../blob/blobs.ts';
import type { Database } from '../db/database.ts';
import { readings, type Transaction } from '../db/transactions.ts';
import type { LogName } from '../telemetry/logs.ts';

export interface MeasureNeeds {
  db: Database;
  usesOf(digests: readonly string[]): Promise<ContentUse[]>;
  /** The contents that a snapshot lists. */
  contentsOf(snapshot: string): Promise<string[]>;
  sizeOfLogs(all: readonly LogName[]): Promise<number>;
}

interface Parts {
  files: number;
  sizeBytes: number;
  points: number;
  /** How many of the runs have a content among their files. */
  contents: { digest: string; runs: number }[];
  snapshots: { workspace: string; snapshot: string; runs: number }[];
  logs: LogName[];
}

const inKeys = 'run_key IN (SELECT value FROM json_each(?))';
const ofKeys = 'key IN (SELECT value FROM json_each(?))';
const atOnce = 500;

const measureReadings = readings('run-measure', {
  parts(tx: Transaction, { keys }: { keys: number[] }): Parts {
    const list = JSON.stringify(keys);
    const files = tx
      .statement<{ count: number; bytes: number }>(
        `SELECT count(*) AS count, coalesce(sum(size_bytes), 0) AS bytes FROM run_file WHERE ${inKeys}`,
      )
      .get(list)!;
    return {
      files: files.count,
      sizeBytes: files.bytes,
      points: tx
        .statement<{ points: number }>(`SELECT coalesce(sum(points + rows), 0) AS points FROM metric WHERE ${inKeys}`)
        .get(list)!.points,
      contents: tx
        .statement<Parts['contents'][number]>(
          `SELECT digest, count(DISTINCT run_key) AS runs FROM run_file WHERE ${inKeys} GROUP BY digest`,
        )
        .all(list),
      snapshots: tx
        .statement<Parts['snapshots'][number]>(
          `SELECT workspace, snapshot, count(*) AS runs FROM run WHERE ${ofKeys} AND snapshot IS NOT NULL GROUP BY workspace, snapshot`,
        )
        .all(list),
      logs: tx
        .statement<LogName>(
          `SELECT r.workspace, r.id AS run, l.name FROM run r JOIN run_log l ON l.run_key = r.key WHERE r.${ofKeys}`,
        )
        .all(list),
    };
  },

  /** How many runs have a snapshot, those in the trash too. */
  having(tx: Transaction, { workspace, snapshot }: { workspace: string; snapshot: string }): number {
    const count = 'SELECT count(*) AS count FROM run WHERE workspace = ? AND snapshot = ?';
    return tx.statement<{ count: number }>(count).get(workspace, snapshot)!.count;
  },
});

export class Measure {
  readonly #needs: MeasureNeeds;
  readonly #references = new Map<string, number>();
  readonly #snapshots = new Map<string, Parts['snapshots'][number]>();
  #runs = 0;
  #models = 0;
  #files = 0;
  #sizeBytes = 0;
  #points = 0;
  #logBytes = 0;

  constructor(needs: MeasureNeeds) {
    this.#needs = needs;
  }

  async addRuns(keys: readonly number[]): Promise<void> {
    for (let at = 0; at < keys.length; at += atOnce) {
      const some = keys.slice(at, at + atOnce);
      const parts = await this.#needs.db.transact(measureReadings.parts, { keys: some });
      const logBytes = await this.#needs.sizeOfLogs(parts.logs);
      this.#runs += some.length;
      this.#files += parts.files;
      this.#points += parts.points;
      this.#logBytes += logBytes;
      this.#sizeBytes += parts.sizeBytes + logBytes;
      for (const { digest, runs } of parts.contents) this.#refer(digest, runs);
      for (const part of parts.snapshots) {
        const name = `${part.workspace} ${part.snapshot}`;
        this.#snapshots.set(name, { ...part, runs: part.runs + (this.#snapshots.get(name)?.runs ?? 0) });
      }
    }
  }

  addModel(files: readonly { digest: string; sizeBytes: number }[]): void {
    this.#models++;
    this.#files += files.length;
    for (const { sizeBytes } of files) this.#sizeBytes += sizeBytes;
    for (const digest of new Set(files.map((file) => file.digest))) this.#refer(digest, 1);
  }

  #refer(digest: string, more: number): void {
    this.#references.set(digest, (this.#references.get(digest) ?? 0) + more);
  }

  async report(skipped?: number): Promise<SelectionReport> {
    const listed = await this.#listed();
    const digests = [...new Set([...this.#references.keys(), ...listed.keys()])];
    let freedBytes = this.#logBytes;
    for (let at = 0; at < digests.length; at += atOnce) {
      const some = digests.slice(at, at + atOnce);
      for (const [i, use] of (await this.#needs.usesOf(some)).entries()) {
        const isOurs =
          use.references === (this.#references.get(some[i]!) ?? 0) && use.snapshots === (listed.get(some[i]!) ?? 0);
        if (isOurs) freedBytes += use.sizeBytes;
      }
    }
    return {
      runs: this.#runs,
      ...(skipped !== undefined && { skipped }),
      ...(this.#models > 0 && { models: this.#models }),
      files: this.#files,
      sizeBytes: this.#sizeBytes,
      freedBytes,
      points: this.#points,
    };
  }

  /** How many of the snapshots that go with the runs list a content. The listings themselves are contents too. */
  async #listed(): Promise<Map<string, number>> {
    const listed = new Map<string, number>();
    for (const { workspace, snapshot, runs } of this.#snapshots.values()) {
      const all = await this.#needs.db.transact(measureReadings.having, { workspace, snapshot });
      if (all !== runs) continue;
      this.#refer(snapshot, 1);
      for (const digest of await this.#needs.contentsOf(snapshot)) listed.set(digest, (listed.get(digest) ?? 0) + 1);
    }
    return listed;
  }
}
