import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AccessRig, accessRig, expectRefusal } from '../access/access.fixture.ts';
import type { UserCaller } from '../access/access.ts';
import { Workspaces } from './workspaces.ts';

let rig: AccessRig;
let root: UserCaller;
let ada: UserCaller;
let workspaces: Workspaces;
const done: string[] = [];
let furnishing: (workspace: string) => Promise<void>;

beforeAll(async () => {
  rig = await accessRig();
  workspaces = new Workspaces({
    db: rig.scratch.db,
    now: rig.now,
    newId: randomUUID,
    furnish: (workspace) => furnishing(workspace),
    clear: async (workspace) => void done.push(`clear ${workspace}`),
  });
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(async () => {
  rig.scratch.clear();
  done.length = 0;
  furnishing = async (workspace) => void done.push(`furnish ${workspace}`);
  root = await rig.signedIn('root', { administrator: true });
  ada = await rig.signedIn('ada');
});

const raw = (...statements: string[]) => rig.scratch.write(...statements);
const names = async (caller: UserCaller) => (await workspaces.list({}, caller)).items.map(({ name }) => name);

describe('a new workspace', () => {
  it('has its Owner and what belongs to it', async () => {
    const labels = { subscription_id: 's' };
    const made = await workspaces.create({ name: 'Team-1', description: 'Ours.', tags: { a: 'b' }, labels }, root);
    expect(made).toMatchObject({
      name: 'Team-1',
      description: 'Ours.',
      tags: { a: 'b' },
      labels,
      createdBy: 'root',
      defaultDatastore: 'workspacestore',
      resources: { containerRegistry: 'embedded', keyVault: 'embedded' },
    });
    expect(done).toEqual(['furnish Team-1']);
    expect((await rig.access.members.list({ workspace: 'team-1' })).items).toMatchObject([
      { user: 'root', role: 'owner' },
    ]);
    expect(await workspaces.get({ workspace: 'TEAM-1' })).toEqual(made);
    expect(await workspaces.nameOf('team-1')).toBe('Team-1');
    expect(await workspaces.nameOf('team-2')).toBeUndefined();
  });

  it('has a name that no other has in any case, unless the other is welcome', async () => {
    const made = await workspaces.create({ name: 'w1' }, root);
    await expectRefusal(workspaces.create({ name: 'W1' }, root), 'workspace.name-taken');
    const same = await workspaces.create({ name: 'W1', description: 'Not this.', existOk: true }, ada);
    expect(same).toEqual(made);
    expect((await rig.access.members.list({ workspace: 'w1' })).items).toHaveLength(1);
  });

  it('whose datastore cannot be made is not there, and can be made again', async () => {
    furnishing = async () => {
      throw new Error('The disk is full.');
    };
    await expect(workspaces.create({ name: 'w1' }, root)).rejects.toThrow('The disk is full.');
    await expectRefusal(workspaces.get({ workspace: 'w1' }), 'workspace.not-found');
    furnishing = async () => {};
    await workspaces.create({ name: 'w1' }, root);
    await expect(
      (async () => {
        furnishing = async () => {
          throw new Error('The disk is full.');
        };
        await workspaces.create({ name: 'w1', existOk: true }, root);
      })(),
    ).rejects.toThrow('The disk is full.');
    await workspaces.get({ workspace: 'w1' }); // one that was there before stays
  });
});

describe('the list', () => {
  it('shows those in which one has a role; to administrators all; to a limited token its own', async () => {
    for (const name of ['w1', 'w2', 'w3']) await workspaces.create({ name }, root);
    await rig.access.members.set({ workspace: 'W2', user: 'ada', role: 'reader' });
    expect(await names(ada)).toEqual(['w2']);
    expect(await names(root)).toEqual(['w1', 'w2', 'w3']);
    expect(await names({ ...root, roleLimit: 'reader' })).toEqual(['w1', 'w2', 'w3']);
    expect(await names({ ...root, workspace: 'w3' })).toEqual(['w3']);
    expect(await names({ ...ada, workspace: 'w3' })).toEqual([]);
    const first = await workspaces.list({ pageSize: 2 }, root);
    const rest = await workspaces.list({ pageSize: 2, page: first.nextPage }, root);
    expect([...first.items, ...rest.items].map(({ name }) => name)).toEqual(['w1', 'w2', 'w3']);
  });
});

it('a change leaves what was not named', async () => {
  await workspaces.create({ name: 'w1', description: 'Old.', tags: { a: 'b' } }, root);
  expect(await workspaces.update({ workspace: 'w1', displayName: 'One' })).toMatchObject({
    displayName: 'One',
    description: 'Old.',
    tags: { a: 'b' },
  });
  expect(await workspaces.update({ workspace: 'w1', tags: {} })).toMatchObject({ displayName: 'One', tags: {} });
});

describe('deleting', () => {
  const at = '2026-11-23T12:00:00.000Z';
  const activity = (state: string, ended: string) =>
    `INSERT INTO activity VALUES ('a-${state}', 'w1', 'run', 'run 7', '${state}', '', NULL, 0, NULL, 'null', '${at}', 'ada', NULL, ${ended}, NULL, 0, 0, NULL)`;

  it('is refused while something runs in it, and names that', async () => {
    await workspaces.create({ name: 'w1' }, root);
    raw(activity('running', 'NULL'));
    const error = await expectRefusal(workspaces.delete({ workspace: 'W1' }), 'workspace.in-use');
    expect(error.message).toBe('In the workspace w1, run 7 has not ended.');
    expect(done).toEqual(['furnish w1']);
    raw(`UPDATE activity SET ended_at = '${at}'`);
    await workspaces.delete({ workspace: 'W1' });
  });

  it('is refused while it has a web service, since that serves', async () => {
    await workspaces.create({ name: 'w1' }, root);
    raw(
      `INSERT INTO web_service VALUES ('w1', 'scorer', 'host', 'healthy', NULL, 'i', 1, 1, 'key', 1000, NULL, '{}', '', NULL, 'a', 1, 1, '${at}', 'ada', '${at}')`,
    );
    const error = await expectRefusal(workspaces.delete({ workspace: 'w1' }), 'workspace.in-use');
    expect(error.message).toContain('the web service scorer');
  });

  it('is refused while somebody logs interactively to a run in it', async () => {
    await workspaces.create({ name: 'w1' }, root);
    raw(
      `INSERT INTO run (workspace, id, experiment, number, root_key, root, child_count, state, attempt, interactive, placed, user, created_at,
        cancel_requested, attendant_key, leased, content_hash)
       VALUES ('w1', 'notebook', 'e', 1, 1, 'notebook', 0, 'running', 1, 1, 0, 'ada', '${at}', 0, 1, 1, '')`,
    );
    const error = await expectRefusal(workspaces.delete({ workspace: 'w1' }), 'workspace.in-use');
    expect(error.message).toContain('the run notebook has not ended');
    raw(`UPDATE run SET ended_at = '${at}'`);
    await workspaces.delete({ workspace: 'w1' });
  });

  it('takes the rows of all rooms with it, and nothing of others; the audit log stays', async () => {
    for (const name of ['w1', 'w2']) {
      await workspaces.create({ name }, root);
      await rig.access.members.set({ workspace: name, user: 'ada', role: 'reader' });
      await rig.access.tokens.create({ name: 't', workspace: name }, ada);
      await rig.access.authenticator.createRunToken({ workspace: name, run: 'r', attempt: 1, user: 'ada' }, 1_000);
      await rig.access.audit.record({ caller: root, verb: 'workspaces.create', workspace: name, outcome: 'done' });
      raw(
        `INSERT INTO datastore VALUES ('${name}', 'workspacestore', 'local', '{}', 1, '${at}')`,
        `INSERT INTO image_name VALUES ('${name}', 'i', 1)`,
        `INSERT INTO model (workspace, name, version, is_folder, file_count, size_bytes, created_at, created_by) VALUES ('${name}', 'm', 1, 0, 1, 1, '${at}', 'ada')`,
        "INSERT INTO model_files SELECT max(key), '[]' FROM model",
        "INSERT INTO model_property SELECT max(key), 'k', 'v' FROM model",
      );
    }
    await workspaces.delete({ workspace: 'w1' });
    expect(done.at(-1)).toBe('clear w1');
    await expectRefusal(workspaces.get({ workspace: 'w1' }), 'workspace.not-found');
    const counts = countRows();
    expect(
      Object.entries(counts)
        .filter(([, { w1 }]) => w1 > 0)
        .map(([table]) => table),
    ).toEqual(['audit']);
    for (const table of ['workspace', 'member', 'token', 'run_token', 'datastore', 'image_name', 'model'])
      expect(`${table} ${counts[table]?.w2}`).not.toBe(`${table} 0`);
    // Rows that hang on others by a reference went with them.
    expect([counts.model_files?.all, counts.model_property?.all]).toEqual([1, 1]);
    expect(await names(ada)).toEqual(['w2']);
    await workspaces.create({ name: 'w1' }, root);
    expect(await rig.access.members.rolesOf('ada')).toEqual({ w2: 'reader' });
  });

  /** Of every table: rows of w1, of w2, and all. */
  function countRows(): Record<string, { w1: number; w2: number; all: number }> {
    const file = new DatabaseSync(join(rig.scratch.folder, 'stellwerk.db'), { readOnly: true });
    const tables = file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
    const counts = tables.map(({ name }) => {
      const columns = file.prepare(`SELECT name FROM pragma_table_info('${String(name)}')`).all();
      const by = String(name) === 'workspace' ? 'name' : 'workspace';
      const count = (where: string) =>
        Number(file.prepare(`SELECT count(*) AS n FROM "${String(name)}" WHERE ${where}`).get()!.n);
      const isBy = columns.some((column) => column.name === by);
      const of = (workspace: string) => (isBy ? count(`${by} = '${workspace}'`) : 0);
      return [String(name), { w1: of('w1'), w2: of('w2'), all: count('true') }] as const;
    });
    file.close();
    return Object.fromEntries(counts);
  }
});
