import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { UserCaller } from '../access/access.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { sql } from '../db/transactions.ts';
import { migrations } from '../stores.ts';
import { type MasterKeySource, Secrets, Vault } from './vault.ts';

const ada: UserCaller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
const workspace = 'demo';
let folder: string;
let file: string;
let scratch: ScratchDatabase;
let vault: Vault;
let uses: string[];
const open = (source: MasterKeySource = { from: 'file', file }) => Vault.open({ db: scratch.db, source });
const secretsOf = (of: Vault) =>
  new Secrets({
    db: scratch.db,
    vault: of,
    now: Date.now,
    audit: { record: async ({ caller, subject }) => void uses.push(`${caller}: ${subject}`) },
  });
const set = (name: string, value: string, of = vault) => secretsOf(of).set({ workspace, name, value }, ada);
const valueIn = async (name: string, of = vault) => (await secretsOf(of).get({ workspace, name })).value;

beforeEach(async () => {
  scratch = await scratchDatabase(migrations);
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-vault-'));
  file = join(folder, 'master.key');
  uses = [];
  vault = await open();
});
afterEach(async () => {
  await scratch[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const refused = 'cannot be opened';

describe('a sealed secret', () => {
  it('opens for its place, whatever characters it has, and gives nothing away', () => {
    for (const secret of ['', 'geheim', 'zwei\nZeilen', '🔑 ключ \0']) {
      const sealed = vault.seal(secret, 'run/w1/r7');
      expect(vault.unseal(sealed, 'run/w1/r7')).toBe(secret);
      if (secret) expect(Buffer.from(sealed, 'base64').toString('latin1')).not.toContain(secret);
    }
  });

  it('looks different each time it is sealed', () => {
    expect(vault.seal('geheim', 'p')).not.toBe(vault.seal('geheim', 'p'));
  });

  it('does not open for another place', () => {
    const sealed = vault.seal('geheim', 'run/w1/r7');
    for (const place of ['run/w1/r8', 'run/w1/r7 ', '']) expect(() => vault.unseal(sealed, place)).toThrow(refused);
  });

  it('does not open when a bit of it was changed, or some of it is missing', () => {
    const sealed = Buffer.from(vault.seal('geheim', 'p'), 'base64');
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at]! ^= 1;
      expect(() => vault.unseal(changed.toString('base64'), 'p')).toThrow(refused);
      expect(() => vault.unseal(sealed.subarray(0, at).toString('base64'), 'p')).toThrow(refused);
    }
  });

  it('does not open with another key, and the error names the place but no secret', async () => {
    await using other = await scratchDatabase(migrations);
    const foreign = await Vault.open({ db: other.db, source: { from: 'file', file: join(folder, 'other.key') } });
    const sealed = vault.seal('geheim', 'package-indexes');
    expect(() => foreign.unseal(sealed, 'package-indexes')).toThrow(/package-indexes(?!.*geheim)/);
  });
});

describe('the master key', () => {
  it('is made once, for its owner alone, and is good after a restart', async () => {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['master.key']);
    const before = readFileSync(file);
    const sealed = vault.seal('geheim', 'p');
    expect((await open()).unseal(sealed, 'p')).toBe('geheim');
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it('cut short is refused instead of replaced', async () => {
    writeFileSync(file, 'short', { mode: 0o600 });
    await expect(open()).rejects.toThrow('must hold 32 bytes; restore it from a backup');
    expect(readFileSync(file, 'utf8')).toBe('short');
  });

  it('is made although a crash left half of one', async () => {
    await using fresh = await scratchDatabase(migrations);
    writeFileSync(join(folder, 'new.key.new'), 'half');
    const next = await Vault.open({ db: fresh.db, source: { from: 'file', file: join(folder, 'new.key') } });
    expect(next.unseal(next.seal('geheim', 'p'), 'p')).toBe('geheim');
    expect(readdirSync(folder)).toEqual(['master.key', 'new.key']);
  });

  it('of an installation from before there were data keys goes on opening what it sealed, also once it was changed', async () => {
    const { sealWith } = await import('./seal.ts');
    scratch.write('DELETE FROM vault_key');
    const old = sealWith(readFileSync(file), 'geheim', 'p');
    const upgraded = await open();
    expect(upgraded.unseal(old, 'p')).toBe('geheim');
    await upgraded.rotateMasterKey();
    expect(upgraded.unseal(old, 'p')).toBe('geheim');
    expect((await open()).unseal(old, 'p')).toBe('geheim');
  });

  it('is changed while everything goes on: all opens before, meanwhile and afterwards, and the old key opens nothing', async () => {
    await set('key', 'eins');
    const sealed = vault.seal('zwei', 'p');
    const before = readFileSync(file);
    const asking = Array.from({ length: 20 }, () => valueIn('key'));
    const [{ keys: changed }] = await Promise.all([vault.rotateMasterKey(), set('other', 'drei'), ...asking]);
    expect(changed).toBeGreaterThanOrEqual(2);
    expect(await Promise.all(asking)).toEqual(Array(20).fill('eins'));
    const after = readFileSync(file);
    expect(after.equals(before)).toBe(false);
    expect(readdirSync(folder)).toEqual(['master.key']);
    const next = await open();
    expect([await valueIn('key', next), await valueIn('other', next), next.unseal(sealed, 'p')]).toEqual([
      'eins',
      'drei',
      'zwei',
    ]);
    writeFileSync(file, before);
    await expect(open()).rejects.toThrow(refused);
  });

  it('is changed by several at once, one after another, and no workspace that gets its data key meanwhile loses it', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `room-${index}`);
    const sealing = names.map(async (name) => ({ name, sealed: await vault.sealIn(name, name, 'p') }));
    const rotating = Array.from({ length: 5 }, () => vault.rotateMasterKey());
    const later = names.map(async (name) => ({
      name: `${name}b`,
      sealed: await vault.sealIn(`${name}b`, `${name}b`, 'p'),
    }));
    await Promise.all(rotating);
    const all = await Promise.all([...sealing, ...later]);
    for (const of of [vault, await open()])
      expect(await Promise.all(all.map(({ name, sealed }) => of.unsealIn(name, sealed, 'p')))).toEqual(
        all.map(({ name }) => name),
      );
    expect(readdirSync(folder)).toEqual(['master.key']);
  });

  it.each(['before', 'after'])(
    'whose change was interrupted %s the data keys were sealed anew is right at the next start',
    async (when) => {
      await set('key', 'eins');
      const old = readFileSync(file);
      if (when === 'after') {
        await vault.rotateMasterKey();
        const current = readFileSync(file);
        writeFileSync(file, old);
        writeFileSync(`${file}.next`, current);
      } else writeFileSync(`${file}.next`, randomBytes(32));
      const next = await open();
      expect(await valueIn('key', next)).toBe('eins');
      expect(readdirSync(folder)).toEqual(['master.key']);
      expect(await valueIn('key', await open())).toBe('eins');
    },
  );

  it('comes from the environment, and is changed by a start with both', async () => {
    await using fresh = await scratchDatabase(migrations);
    const [one, two] = [randomBytes(32).toString('base64'), randomBytes(32).toString('base64')];
    const start = (key: string, previous?: string) =>
      Vault.open({ db: fresh.db, source: { from: 'environment', key, ...(previous !== undefined && { previous }) } });
    const sealed = (await start(one)).seal('geheim', 'p');
    await expect(start(two)).rejects.toThrow(refused);
    await expect((await start(one)).rotateMasterKey()).rejects.toMatchObject({ reason: 'server.master-key' });
    expect((await start(two, one)).unseal(sealed, 'p')).toBe('geheim');
    expect((await start(two)).unseal(sealed, 'p')).toBe('geheim');
    await expect(start(one)).rejects.toThrow(refused);
    await expect(start('short')).rejects.toThrow('STELLWERK_MASTER_KEY must be 32 bytes in base64');
  });

  it('comes from a command, which is asked again when it is changed; what it printed is never told', async () => {
    await using fresh = await scratchDatabase(migrations);
    const printed = join(folder, 'printed');
    writeFileSync(printed, randomBytes(32).toString('base64'));
    const source = { from: 'command' as const, command: `cat '${printed}'` };
    const first = await Vault.open({ db: fresh.db, source });
    const sealed = first.seal('geheim', 'p');
    writeFileSync(printed, randomBytes(32).toString('base64'));
    await first.rotateMasterKey();
    expect((await Vault.open({ db: fresh.db, source })).unseal(sealed, 'p')).toBe('geheim');
    writeFileSync(printed, 'no key of ours');
    await expect(Vault.open({ db: fresh.db, source })).rejects.toThrow(/^(?!.*no key of ours)/);
    const failing = { from: 'command' as const, command: 'echo no key of ours; exit 3' };
    await expect(Vault.open({ db: fresh.db, source: failing })).rejects.toThrow(/^(?!.*no key of ours).*failed/);
  });
});

describe('a secret of a workspace', () => {
  it('has versions; the newest counts, and older ones are there by their number', async () => {
    expect(await set('db-password', 'eins')).toMatchObject({ name: 'db-password', version: 1, createdBy: 'ada' });
    expect(await set('DB-Password', 'zwei')).toMatchObject({ version: 2 });
    expect(await valueIn('db-password')).toBe('zwei');
    const secrets = secretsOf(vault);
    expect((await secrets.get({ workspace, name: 'db-password', version: 1 })).value).toBe('eins');
    const { items } = await secrets.list({ workspace });
    expect(items).toMatchObject([{ version: 2 }]);
    expect(JSON.stringify(items)).not.toMatch(/eins|zwei/);
  });

  it('set by many at once keeps every value, each with a version of its own', async () => {
    const made = await Promise.all(Array.from({ length: 8 }, (_, at) => set('one', `v${at}`)));
    expect(made.map(({ version }) => version).sort()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('keeps its newest ten versions', async () => {
    for (let at = 0; at < 12; at++) await set('one', `v${at}`);
    const secrets = secretsOf(vault);
    expect((await secrets.get({ workspace, name: 'one', version: 3 })).value).toBe('v2');
    await expect(secrets.get({ workspace, name: 'one', version: 2 })).rejects.toMatchObject({
      reason: 'secret.not-found',
    });
  });

  it('is deleted with all versions, and is not there any more', async () => {
    await set('one', 'x');
    await secretsOf(vault).delete({ workspace, name: 'one' });
    await expect(valueIn('one')).rejects.toMatchObject({ code: 'not-found', reason: 'secret.not-found' });
    await expect(secretsOf(vault).delete({ workspace, name: 'one' })).rejects.toMatchObject({ code: 'not-found' });
  });

  it('belongs to its workspace: its data key opens none of another, wherever a row is put', async () => {
    await set('one', 'x');
    await secretsOf(vault).set({ workspace: 'other', name: 'one', value: 'y' }, ada);
    const rows = await scratch.db.all(sql.selectFrom('vault_key').selectAll());
    expect(rows.map((row) => row.workspace).sort()).toEqual(['', 'demo', 'other']);
    scratch.write(
      "UPDATE secret SET workspace = 'third' WHERE workspace = 'demo'",
      "UPDATE secret SET workspace = 'demo' WHERE workspace = 'other'",
    );
    await expect(valueIn('one')).rejects.toThrow(refused);
  });

  it('opened by the server is written down with what for', async () => {
    await set('one', 'x');
    expect(await secretsOf(vault).open(workspace, 'one', 'the compute target box')).toBe('x');
    expect(uses).toEqual(['server: one for the compute target box']);
  });

  it('and its value stands nowhere in the database', async () => {
    await set('one', 'a value that is searched for');
    await scratch.db.close();
    for (const name of readdirSync(scratch.folder).filter((one) => one.startsWith('stellwerk.db')))
      expect(readFileSync(join(scratch.folder, name)).includes('searched for')).toBe(false);
  });
});
