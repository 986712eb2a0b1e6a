// The key vault over HTTP, by the command line and by Python: who sets, gets and lists secrets, what a run gets of them, and that the master
// key is changed while all that goes on.
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Installation, repository } from './installation.ts';
import { submit } from './submission.ts';
import { asked, typed } from './typing.ts';
import { until, untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const value = 'a value with ümlauts\nand a second line';

test('a secret is set, read by version, used by a run that names it, and every use is written down', async () => {
  await using installation = await Installation.start();
  const { client, workspace, folder } = installation;
  const file = join(workFolder(folder, { value }), 'value');
  await typed(installation, 'secret', 'set', 'db-password', '--file', file);
  await client.secrets.set({ workspace, name: 'db-password', value: `${value}!` });
  await client.secrets.set({ workspace, name: 'other', value: 'not for the run' });
  expect(await asked(installation, 'secret', 'get', 'db-password', '--version', '1')).toMatchObject({ value });
  expect(await client.secrets.get({ workspace, name: 'DB-Password' })).toMatchObject({
    version: 2,
    value: `${value}!`,
  });
  expect(JSON.stringify(await client.secrets.list({ workspace }))).not.toContain('second line');

  const python = `
from stellwerk.core import Workspace
vault = Workspace.get(${JSON.stringify(workspace)}, url=${JSON.stringify(installation.url)}).get_default_keyvault()
vault.set_secret("from-python", "gesetzt")
print(vault.get_secret("db-password", version=1) == ${JSON.stringify(value)}, sorted(one["name"] for one in vault.list_secrets()))
`;
  const env = { ...process.env, PYTHONPATH: join(repository, 'python', 'src'), STELLWERK_TOKEN: installation.token };
  expect(execFileSync('python3', ['-c', python], { encoding: 'utf8', env })).toBe(
    "True ['db-password', 'from-python', 'other']\n",
  );

  const code = `
import os
from stellwerk.core import Run
folder = os.environ["STELLWERK_SECRETS"]
print(sorted(os.listdir(folder)), oct(os.stat(os.path.join(folder, "db-password")).st_mode & 0o777))
print("read", open(os.path.join(folder, "db-password")).read() == Run.get_context().get_secret("db-password"))
print(open(os.path.join(folder, "db-password")).read())
print([name for name, text in os.environ.items() if "second line" in text])
`;
  const environment = { userManaged: true };
  const run = await submit(installation, { code, environment, vaultSecrets: ['db-password'] });
  expect(await untilEnded({ client, workspace, run: run.id })).toMatchObject({ state: 'completed' });
  const printed = await (await client.logs.get({ workspace, run: run.id })).text();
  expect(printed).toMatch(/^\['db-password'\] 0o600\nread True\n/);
  expect(printed).not.toContain('second line');
  expect(printed).toMatch(/\[\]\n$/);

  const uses = (await client.audit.listWorkspace({ workspace, verb: 'secrets.get' })).items.map(
    ({ subject }) => subject,
  );
  expect(uses.filter((subject) => subject?.startsWith('db-password')).length).toBeGreaterThanOrEqual(3);
  expect(uses).toContain(`db-password for the run ${run.id}`);

  await typed(installation, 'secret', 'delete', 'db-password');
  await expect(submit(installation, { code, environment, vaultSecrets: ['db-password'] })).rejects.toThrow(
    'has no secret db-password',
  );
});

test('a Reader sees names and no values, and nobody from elsewhere sees anything', async () => {
  await using installation = await Installation.start();
  const { client, workspace } = installation;
  await client.secrets.set({ workspace, name: 'one', value: 'hidden' });
  const signedIn = async (name: string) => {
    const { signIn } = await client.users.create({ name });
    return installation.clientWith((await client.signIns.redeem({ code: signIn!.code })).token);
  };
  const [reader, stranger] = [await signedIn('leser'), await signedIn('fremd')];
  await client.members.set({ workspace, user: 'leser', role: 'reader' });
  expect((await reader.secrets.list({ workspace })).items).toMatchObject([{ name: 'one', version: 1 }]);
  await expect(reader.secrets.get({ workspace, name: 'one' })).rejects.toMatchObject({ reason: 'access.denied' });
  await expect(reader.secrets.set({ workspace, name: 'one', value: 'x' })).rejects.toMatchObject({
    reason: 'access.denied',
  });
  for (const act of [stranger.secrets.list({ workspace }), stranger.secrets.get({ workspace, name: 'one' })])
    await expect(act).rejects.toMatchObject({ reason: 'workspace.not-found' });
});

test('the master key is changed while secrets are set and read, and none is lost, not by a restart either', async () => {
  await using installation = await Installation.start();
  const { client, workspace, folder } = installation;
  const keyFile = join(folder, 'data', 'master.key');
  const before = readFileSync(keyFile);
  let on = true;
  const names: string[] = [];
  const busy = (async () => {
    for (let at = 0; on; at++) {
      const name = `secret-${at}`;
      await client.secrets.set({ workspace, name, value: `value ${at}` });
      names.push(name);
      expect((await client.secrets.get({ workspace, name })).value).toBe(`value ${at}`);
    }
  })();
  for (let times = 0; times < 3; times++) {
    const known = names.length;
    await typed(installation, 'server', 'rotate-master-key');
    await until('it goes on', () => names.length > known);
  }
  on = false;
  await busy;
  expect(readFileSync(keyFile).equals(before)).toBe(false);
  expect(statSync(keyFile).mode & 0o777).toBe(0o600);
  await installation.restart('SIGTERM');
  for (const [at, name] of names.entries())
    expect((await installation.client.secrets.get({ workspace, name })).value).toBe(`value ${at}`);
});
