// A database full of runs, for the figure `search`: made by the product's own migrations, filled without its service, kept from one
// bench to the next. The series' points are left out: no search reads them.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { migrate } from '@stellwerk/server/db/migrations.ts';
import { migrations } from '@stellwerk/server/stores.ts';

import { workspace } from './product.ts';

function labelsOf(key: number): { tags: Record<string, string>; metrics: Record<string, number> } {
  const chance = (salt: number) => chanceOf(key, salt);
  const tags = {
    kind: ['ridge', 'lasso', 'tree', 'net'][Math.floor(chance(6) * 4)]!,
    half: chance(7) < 0.5 ? 'a' : 'b',
    rare: chance(8) < 0.001 ? 'yes' : 'no',
    fold: String(key % 10),
    owner: `owner-${Math.floor(chance(9) * owners)}`,
  };
  const metrics: Record<string, number> = { loss: chance(200) };
  for (let n = 0, count = 1; count < metricsPerRun; n++) {
    const name = metricName(Math.floor(chance(100 + n) * (metricNames - 1)));
    if (name in metrics) continue;
    metrics[name] = chance(200 + count++);
  }
  return { tags, metrics };
}

/** The same runs for another program: JSON lines. */
export function runLines(runs: number): string {
  const line = (key: number) => {
    const parameters = { alpha: alphaOf(key), optimizer: optimizerOf(key) };
    return `${JSON.stringify({ id: idOf(key), at: begun + key * 60_000, parameters, ...labelsOf(key) })}\n`;
  };
  return Array.from({ length: runs }, (_, at) => line(at + 1)).join('');
}

const alphaOf = (key: number) => Math.round(chanceOf(key, 3) * 1_000) / 1_000;
const optimizerOf = (key: number) => (chanceOf(key, 4) < 0.5 ? 'adam' : 'sgd');
const metricNames = 10_000;
const metricsPerRun = 20;
const experiments = 50;
const owners = 200;
const begun = Date.parse('2026-01-01T00:00:00.000Z');

const cacheFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stellwerk', 'bench');

/** A file that is made once of what it depends on. */
export async function cachedFile(
  name: string,
  dependsOn: unknown,
  make: (file: string) => void | Promise<void>,
): Promise<string> {
  const sources = [dependsOn, readFileSync(import.meta.filename, 'utf8')];
  const key = createHash('sha256').update(JSON.stringify(sources)).digest('hex').slice(0, 16);
  const file = join(cacheFolder, `${name}-${key}.db`);
  if (existsSync(file)) return file;
  mkdirSync(cacheFolder, { recursive: true });
  const making = `${file}.making`;
  rmSync(making, { force: true });
  await make(making);
  renameSync(making, file);
  return file;
}

/** The database file with so many runs. */
export function runDatabase(runs: number): Promise<string> {
  return cachedFile(`runs-${runs}`, [migrations, runs], async (file) => {
    await migrate(file, migrations);
    fill(file, runs);
  });
}

function fill(file: string, runs: number): void {
  const database = new DatabaseSync(file, { enableForeignKeyConstraints: false });
  database.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; BEGIN');
  // Indexes are made at the end, by sorting.
  const filled = new Set([
    'run',
    'run_private',
    'run_parameter',
    'run_tag',
    'run_property',
    'run_arguments',
    'metric',
    'experiment',
  ]);
  const indexes = database
    .prepare("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
    .all()
    .filter(({ tbl_name }) => filled.has(String(tbl_name)));
  for (const { name } of indexes) database.exec(`DROP INDEX ${name}`);
  const insert = inserts(database);
  for (let key = 1; key <= runs; key++) insert(key);
  countExperiments(database);
  for (const { sql } of indexes) database.exec(String(sql));
  database.exec('COMMIT');
  database.close();
}

/** Three levels: a root in ten, below it three runs, and below each of them two. */
function parentOf(key: number): number | null {
  const place = key % 10;
  if (place === 1) return null;
  const root = key - ((place + 9) % 10);
  const nth = key - root;
  return nth <= 3 ? root : root + 1 + Math.floor((nth - 4) / 2);
}

/** The same numbers each time, from 0 to 1. */
function chanceOf(key: number, salt: number): number {
  let mixed = Math.imul(key ^ (salt * 0x9e3779b1), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
}

const idOf = (key: number) => `run-${String(key).padStart(7, '0')}`;
const rootOf = (key: number): number => {
  const parent = parentOf(key);
  return parent === null ? key : rootOf(parent);
};

/** What a submitted run has beside what is searched: a configuration, and the lock of its environment. */
const lock = Array.from(
  { length: 20 },
  (_, at) => `package-${at}==1.${at}.0 --hash=sha256:${createHash('sha256').update(String(at)).digest('hex')}`,
).join('\n');
const environment = JSON.stringify({ lockHash: 'a'.repeat(64), lock, python: '3.11', notices: [] });

function inserts(database: DatabaseSync): (key: number) => void {
  const run = database.prepare(`
    INSERT INTO run (key, workspace, id, experiment, number, display_name, parent_key, root_key, parent, root, child_count, state, attempt, interactive,
      target, placed, configuration, snapshot, environment, user, host, created_at, started_at, ended_at, duration_ms, exit_code, cancel_requested,
      attendant_key, leased, content_hash)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?)`);
  const kept = database.prepare('INSERT INTO run_private (run_key, token_until, cancel_asked) VALUES (?, 0, 0)');
  const tag = database.prepare('INSERT INTO run_tag (run_key, name, value, number) VALUES (?, ?, ?, ?)');
  const parameter = database.prepare(
    'INSERT INTO run_parameter (run_key, name, kind, number, text) VALUES (?, ?, ?, ?, ?)',
  );
  const given = database.prepare('INSERT INTO run_arguments (run_key, text) VALUES (?, ?)');
  const metric = database.prepare(`
    INSERT INTO metric (run_key, name, kind, points, rows, chunks, row_chunks, first, last, min, max, last_step, last_at)
    VALUES (?, ?, 'number', 100, 0, 1, 0, ?, ?, ?, ?, 99, ?)`);
  return (key) => {
    const chance = (salt: number) => chanceOf(key, salt);
    const parent = parentOf(key);
    const root = rootOf(key);
    const at = begun + key * 60_000;
    const durationMs = Math.floor(chance(1) * 3_600_000);
    const state = chance(2) < 0.9 ? 'completed' : 'failed';
    const alpha = alphaOf(key);
    const typed = ['--alpha', alpha, '--optimizer', optimizerOf(key)];
    const configuration = JSON.stringify({
      script: 'train.py',
      arguments: typed,
      target: 'local',
      framework: 'Python',
      resources: { nodes: 1 },
      priority: 'normal',
      environmentVariables: {},
      environment: { condaFile: 'environment.yml' },
      dataReferences: {},
      graceSeconds: 10,
      secrets: [],
    });
    run.run(
      key,
      workspace,
      idOf(key),
      experimentOf(root),
      key,
      key % 3 === 0 ? `try ${key}` : null,
      parent,
      root,
      parent && idOf(parent),
      idOf(root),
      key % 10 === 1 ? 3 : [2, 3, 4].includes(key % 10) ? 2 : 0,
      state,
      'local',
      configuration,
      `sha256:${'0'.repeat(64)}`,
      environment,
      `user-${Math.floor(chance(5) * 20)}`,
      'machine',
      iso(at),
      iso(at + 1_000),
      iso(at + 1_000 + durationMs),
      durationMs,
      state === 'failed' ? 1 : 0,
      key,
      'h',
    );
    kept.run(key);
    const { tags, metrics } = labelsOf(key);
    for (const [name, value] of Object.entries(tags))
      tag.run(key, name, value, /^\d+$/.test(value) ? Number(value) : null);
    parameter.run(key, 'alpha', 'number', alpha, null);
    parameter.run(key, 'optimizer', 'text', null, String(typed[3]));
    given.run(key, typed.join(' '));
    for (const [name, last] of Object.entries(metrics))
      metric.run(key, name, last + 1, last, last / 2, last + 1, at / 1_000);
  };
}

export const metricName = (number: number) => `metric/${number}`;
const experimentOf = (root: number) => `experiment-${Math.floor(chanceOf(root, 10) * experiments)}`;
const iso = (ms: number) => new Date(ms).toISOString();

function countExperiments(database: DatabaseSync): void {
  database.exec(`
    INSERT INTO experiment (workspace, name, tags, created_at, created_by, run_count, last_run_at, used_at)
    SELECT workspace, experiment, '{}', min(created_at), 'bench', count(*), max(created_at), max(created_at) FROM run GROUP BY workspace, experiment`);
}
